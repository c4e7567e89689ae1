//! `slow_clients`: the latency of `/health` while slow clients occupy connections.
//!
//! It starts `sanctum-server` and many clients: a thousand send a request at a byte a second, others begin a TLS handshake
//! and never finish it; each reconnects when the server disconnects it. Meanwhile `/health` is requested over a kept
//! connection and over a new one each time. Exit code 1: a response took too long.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustix::process::{Resource, getrlimit, setrlimit};
use sanctum_tests::{Hostile, Server, Signal};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The limit of the 99th percentile of `/health`.
const LIMIT: Duration = Duration::from_millis(20);

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// The first bytes of a TLS record of 512 bytes.
const HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Measures /health while slow clients crowd the server.
#[derive(Debug, Parser)]
#[command(name = "slow_clients")]
struct Args {
    /// Clients that send a byte a second
    #[arg(long, default_value_t = 1000)]
    slow: usize,
    /// Clients that leave their TLS handshake half open
    #[arg(long, default_value_t = 500)]
    half_open: usize,
    /// Milliseconds after which a disconnected client reconnects; a small number makes it a flood
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    back_after: u64,
    /// How long to measure
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Measure once more with a hostile client beside the crowd: 12 bodies of 2 MB at once, and 4 that are sent slowly
    #[arg(long)]
    hostile: bool,
}

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("a soft limit may be raised to the hard limit");

    let certificates = certificates();
    let mut flags = vec!["--tls-host".to_owned(), "127.0.0.1:0".to_owned()];
    for (flag, file) in [
        ("--tls-cert", "crt"),
        ("--tls-key", "key"),
        ("--tls-ca", "crt"),
    ] {
        let path = certificates.path().join(file);
        flags.extend([flag.to_owned(), path.display().to_string()]);
    }
    let server = Server::start(flags).await;
    let plain = address(server.http().base());
    let secure = server.tls_address().await;

    let window = Duration::from_secs(args.seconds);
    println!(
        "{:<34} {:>8} {:>8} {:>8}",
        "/health, ms", "p50", "p99", "max"
    );
    let quiet = measure(&server, plain, Duration::from_secs(3), "alone").await;
    let crowding = Crowding {
        back_after: Duration::from_millis(args.back_after),
        disconnected: Arc::default(),
    };
    let mut crowd = JoinSet::new();
    for n in 0..args.slow {
        crowd.spawn(dribble(plain, n, crowding.clone()));
    }
    for _ in 0..args.half_open {
        crowd.spawn(leave_half_open(secure, crowding.clone()));
    }
    // Until all of them have connected.
    sleep(Duration::from_secs(2)).await;
    let what = format!("{} slow, {} half open", args.slow, args.half_open);
    let crowded = measure(&server, plain, window, &what).await;
    println!(
        "{} disconnections of slow clients",
        crowding.disconnected.load(Relaxed)
    );
    let mut worst = quiet.max(crowded);
    if args.hostile {
        let hostile = Hostile::beside(&server);
        let beside = measure(&server, plain, window, "those and a hostile client").await;
        println!("{} hostile requests were answered", hostile.answered());
        hostile.leave().await;
        worst = worst.max(beside);
    }
    crowd.shutdown().await;
    server.signal(Signal::TERM);
    server.ended().await;
    match worst < LIMIT {
        true => ExitCode::SUCCESS,
        false => {
            println!("missed: the p99 must be less than {LIMIT:?}");
            ExitCode::FAILURE
        }
    }
}

/// Requests `/health` repeatedly; prints the percentiles and returns the worse p99.
async fn measure(server: &Server, address: SocketAddr, window: Duration, what: &str) -> Duration {
    let until = Instant::now() + window;
    let (mut kept, mut fresh) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        let answer = server.http().get("/health").await;
        kept.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text);

        let began = Instant::now();
        ask(address).await.expect("a new client is answered");
        fresh.push(began.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    let kept = print(&format!("{what}: kept connection"), kept);
    let fresh = print(&format!("{what}: new connection"), fresh);
    kept.max(fresh)
}

fn print(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    println!(
        "{what:<34} {:>8.2} {:>8.2} {:>8.2}",
        ms(half),
        ms(most),
        ms(all)
    );
    most
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(REQUEST).await?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    Ok(())
}

/// What slow clients do after a disconnection.
#[derive(Clone)]
struct Crowding {
    back_after: Duration,
    /// The number of disconnections.
    disconnected: Arc<AtomicUsize>,
}

impl Crowding {
    async fn disconnected(&self) {
        self.disconnected.fetch_add(1, Relaxed);
        sleep(self.back_after).await;
    }
}

/// Sends a byte a second for ever, reconnecting as needed.
async fn dribble(address: SocketAddr, n: usize, crowding: Crowding) {
    // Not all at the same moment.
    sleep(Duration::from_millis(n as u64 % 1000)).await;
    loop {
        if let Ok(mut socket) = TcpStream::connect(address).await {
            for &byte in REQUEST.iter().cycle() {
                let mut nothing = [0];
                tokio::select! {
                    _ = socket.read(&mut nothing) => break,
                    () = sleep(Duration::from_secs(1)) => {}
                }
                if socket.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        }
        crowding.disconnected().await;
    }
}

/// Sends the start of a TLS handshake and nothing more, for ever.
async fn leave_half_open(address: SocketAddr, crowding: Crowding) {
    loop {
        if let Ok(mut socket) = TcpStream::connect(address).await {
            let _ = socket.write_all(HELLO).await;
            let _ = socket.read(&mut [0]).await;
        }
        crowding.disconnected().await;
    }
}

fn address(url: &str) -> SocketAddr {
    let (_, address) = url.split_once("://").expect("it is a URL");
    address.parse().expect("it ends with an address")
}

/// A certificate that is its own CA: no handshake gets as far as using it here.
fn certificates() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let key = KeyPair::generate().expect("P-256 keys can be made");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "slow_clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("it can be signed");
    let key_pem = key.serialize_pem();
    for (name, text) in [("crt", certificate.pem()), ("key", key_pem)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, own).expect("it is ours");
    }
    folder
}
