//! A network namespace that acts as another machine, with one virtual cable to this one.
//!
//! Its address is not local; 127.0.0.2 and this machine's other addresses are. Creating it needs root and `ip`; without
//! them the tests that need one are [`skipped`](crate::skipped).

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The network namespace; dropping this removes it.
pub struct Outside {
    name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Outside {
    /// Creates one, or skips the test with the reason.
    pub fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // A network of four addresses out of 198.18.0.0/15, which RFC 2544 keeps for tests: a different one for each process
        // and each call.
        let network = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (process * 8 + number) % 0x8000 * 4;
        let outside = Self {
            name: format!("sg{process:x}-{number:x}"),
            here: Ipv4Addr::from(network + 1),
            there: Ipv4Addr::from(network + 2),
        };
        match outside.build() {
            Ok(()) => Some(outside),
            Err(error) => crate::skipped(&format!(
                "a network namespace, which needs root and Debian's iproute2: {error}"
            )),
        }
    }

    fn build(&self) -> Result<(), String> {
        let (name, cable, end) = (&self.name, self.cable(), self.end());
        for line in [
            format!("netns add {name}"),
            format!("link add {cable} type veth peer name {end} netns {name}"),
            format!("addr add {}/30 dev {cable}", self.here),
            format!("link set {cable} up"),
            format!("-n {name} addr add {}/30 dev {end}", self.there),
            format!("-n {name} link set {end} up"),
        ] {
            ip(&line)?;
        }
        Ok(())
    }

    fn cable(&self) -> String {
        format!("{}a", self.name)
    }

    fn end(&self) -> String {
        format!("{}b", self.name)
    }

    /// The address at which the namespace reaches this machine.
    pub fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// The address of the namespace, as this machine sees it.
    pub fn there(&self) -> Ipv4Addr {
        self.there
    }

    /// A program that runs in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Connects from the namespace.
    ///
    /// # Panics
    /// If nothing listens at the address.
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let name = self.name.clone();
        let connect = move || -> io::Result<TcpStream> {
            let namespace = File::open(format!("/var/run/netns/{name}"))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpStream::connect_timeout(&to, Duration::from_secs(10))
        };
        // A namespace belongs to a thread; a socket stays in the one where it was made.
        let thread = std::thread::spawn(connect);
        let stream = thread.join().expect("connecting does not panic");
        stream.unwrap_or_else(|error| panic!("cannot connect from outside to {to}: {error}"))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Removing the namespace removes its end of the cable.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("link del {}", self.cable()));
    }
}

/// Runs `ip` with these arguments.
///
/// # Errors
/// Its error message.
pub fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(line.split(' '))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {line}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
