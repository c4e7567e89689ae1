//! `idle`: memory and processor time of watchdogs while nothing happens.
//!
//! It installs a server and every watchdog on one host, with the schedules of docs/fleet.toml, under the simulated launchd;
//! waits until each has completed one check; and reads from /proc what each of them used in the minute that follows,
//! its child processes included. Exit code 1: a watchdog exceeded a limit.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use sanctum_sim_launchd::Launchd;
use sanctum_sim_launchd::wire::Status;
use sanctum_tests::{find_program, program};
use serde_json::Value;
use tempfile::TempDir;

/// What Linux counts processor time in for programs: hundredths of a second, whatever its own clock does (time(7), USER_HZ).
const TICKS: f64 = 100.0;
/// The time limit of the first check.
const PATIENCE: Duration = Duration::from_secs(120);

/// The watchdogs and their schedules.
const WATCHDOGS: [(&str, &str); 4] = [
    ("guardian", "target = \"server\"\nevery = \"60s\""),
    ("canary", "target = \"server\"\nevery = \"10m\""),
    ("drift", "every = \"1h\""),
    (
        "parity",
        "target = \"server\"\nat = \"0 3 * * *\"\nspec = \"parity-smoke.json\"",
    ),
];

/// Measures what idle watchdogs use.
#[derive(Debug, Parser)]
#[command(name = "idle")]
struct Args {
    /// How long to measure
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Limit of a watchdog's resident memory, in MB
    #[arg(long, default_value_t = 15.0, value_name = "MB")]
    memory: f64,
    /// Limit of a watchdog's processor time, in percent of a core
    #[arg(long, default_value_t = 0.1, value_name = "PERCENT")]
    cpu: f64,
}

/// What a process has used since its start.
struct Used {
    /// Resident memory, in MB.
    resident: f64,
    /// Peak resident memory, in MB.
    peak: f64,
    /// Its processor time, with that of the children that it waited for.
    cpu: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("idle: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all watchdogs kept within the limits.
fn measure(args: &Args) -> io::Result<bool> {
    let watchdogs: Vec<_> = WATCHDOGS
        .into_iter()
        .filter(|(name, _)| find_program(&format!("sanctum-{name}")).is_some())
        .collect();
    let folder = TempDir::new()?;
    let launchd = installed(folder.path(), &watchdogs)?;
    let begun = Instant::now();
    let has_checked = |name: &str| {
        let state = format!(".sanctum/state/watch/{name}.json");
        let state = fs::read(folder.path().join(state)).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        // Parity waits for the night and records when it is due.
        state["last"].is_object() || name == "parity" && state["due"].is_string()
    };
    while let Some((name, _)) = watchdogs.iter().find(|(name, _)| !has_checked(name)) {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{name} has completed no check")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }

    let processes = processes(&launchd, &watchdogs)?;
    let used = || processes.iter().map(|(_, pid)| used(*pid));
    let before = used().collect::<io::Result<Vec<_>>>()?;
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(args.seconds));
    let (after, lasted) = (used().collect::<io::Result<Vec<_>>>()?, begun.elapsed());
    println!("watchdog    resident MB    at most MB    % of a core");
    let mut within = true;
    for (((name, _), before), after) in processes.iter().zip(before).zip(after) {
        let cpu = (after.cpu - before.cpu).as_secs_f64() / lasted.as_secs_f64() * 100.0;
        let Used { resident, peak, .. } = after;
        println!("{name:<11} {resident:>11.1} {peak:>13.1} {cpu:>14.3}");
        within &= resident < args.memory && cpu < args.cpu;
    }
    Ok(within)
}

/// A host with a server and these watchdogs, all built in this profile.
fn installed(home: &Path, watchdogs: &[(&str, &str)]) -> io::Result<Launchd> {
    let launchd = Launchd::start(&home.join("launchd"), &program("launchctl"), home, 1.0)?;
    for (name, value) in launchd.environment() {
        launchd.run(&["setenv", name, &value.display().to_string()])?;
    }
    let release = home.join("release");
    fs::create_dir(&release)?;
    let ours = watchdogs.iter().map(|(name, _)| *name);
    for name in ours.clone().chain(["server", "launchd"]) {
        let name = format!("sanctum-{name}");
        let (real, place) = (program(&name), release.join(&name));
        fs::hard_link(&real, &place).or_else(|_| fs::copy(&real, &place).map(drop))?;
    }
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parity-smoke.json");
    if spec.exists() {
        fs::copy(spec, home.join("parity-smoke.json"))?;
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let agents: Vec<&str> = ["server"].into_iter().chain(ours).collect();
    let mut fleet = format!(
        "[hosts.here]\naddress = \"127.0.0.1\"\nagents = {agents:?}\n\
         [servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:{port}\"]\n[alerts.log]\n"
    );
    for (name, section) in watchdogs {
        fleet += &format!("[watch.{name}]\n{section}\nalert = [\"log\"]\n");
    }
    fs::write(home.join("fleet.toml"), fleet)?;
    let commands: [&[&str]; 2] = [
        &["pack", "release", "--release", "1"],
        &["install", "--host", "here", "--release", "release"],
    ];
    for arguments in commands {
        let done = Command::new(program("sanctum-launchd"))
            .args(arguments)
            .current_dir(home)
            .env("HOME", home)
            .envs(launchd.environment())
            .output()?;
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(io::Error::other(format!("{arguments:?}: {errors}")));
        }
    }
    Ok(launchd)
}

/// The watchdogs' names and process ids.
fn processes(
    launchd: &Launchd,
    watchdogs: &[(&'static str, &str)],
) -> io::Result<Vec<(&'static str, i32)>> {
    let find = |all: &[Status], name: &str| {
        let label = format!("com.sanctum.{name}");
        all.iter().find(|s| s.label == label).and_then(|s| s.pid)
    };
    let names = || watchdogs.iter().map(|(name, _)| *name);
    let all = launchd.wait(PATIENCE, |all| {
        names().all(|name| find(all, name).is_some())
    })?;
    let pid = |name| find(&all, name).map(|pid| (name, pid));
    Ok(names().filter_map(pid).collect())
}

/// Reads /proc: proc_pid_status(5) and proc_pid_stat(5).
fn used(pid: i32) -> io::Result<Used> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mb = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything; utime, stime, cutime and cstime are the 12th to 15th field after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let times = after.split_whitespace().skip(11).take(4);
    let ticks: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    Ok(Used {
        resident: mb("VmRSS:"),
        peak: mb("VmHWM:"),
        cpu: Duration::from_secs_f64(ticks as f64 / TICKS),
    })
}
