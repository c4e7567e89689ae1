//! Two hosts and a router, each with its own network namespace: what one of them loses, the others keep, and the network of
//! this machine is unchanged.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sanctum_tests::ip;

/// The Mini's address, in 198.18.0.0/15, which RFC 2544 reserves for tests.
pub(crate) const MINI: &str = "198.18.77.2";
/// The laptop's.
pub(crate) const LAPTOP: &str = "198.18.78.2";
/// The router's: it refuses every connection, which is an answer.
pub(crate) const REFERENCE: &str = "198.18.79.1";

/// The router's addresses on its two cables.
const TO_MINI: &str = "198.18.77.1";
const TO_LAPTOP: &str = "198.18.78.1";

/// A router with a cable to each host; dropping it removes all of it.
pub(crate) struct Network {
    name: String,
}

impl Network {
    /// Creates the namespaces.
    ///
    /// # Errors
    /// Why they cannot be created here.
    pub(crate) fn new() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("sgo{:x}-{number:x}", std::process::id()),
        };
        network.build()?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let [router, mini, laptop] = ["router", "mini", "laptop"].map(|end| self.of(end));
        for end in [&router, &mini, &laptop] {
            ip(&format!("netns add {end}"))?;
            ip(&format!("-n {end} link set lo up"))?;
        }
        ip(&format!("-n {router} addr add {REFERENCE}/32 dev lo"))?;
        for (host, name, here, there) in [
            (&mini, "mini", TO_MINI, MINI),
            (&laptop, "laptop", TO_LAPTOP, LAPTOP),
        ] {
            for line in [
                format!("-n {router} link add {name} type veth peer name cable netns {host}"),
                format!("-n {router} addr add {here}/30 dev {name}"),
                format!("-n {router} link set {name} up"),
                format!("-n {host} addr add {there}/30 dev cable"),
                format!("-n {host} link set cable up"),
                format!("-n {host} route add default via {here}"),
            ] {
                ip(&line)?;
            }
        }
        let forward = Command::new("ip")
            .args(["netns", "exec", &router, "sh", "-c"])
            .arg("echo 1 > /proc/sys/net/ipv4/ip_forward")
            .status();
        match forward.is_ok_and(|status| status.success()) {
            true => Ok(()),
            false => Err("the namespace's ip_forward cannot be set".to_owned()),
        }
    }

    /// The namespace `mini`, `laptop` or `router`.
    fn of(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// A program that runs on `mini` or `laptop`; the process is the program itself.
    pub(crate) fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.of(host), program]);
        command
    }

    /// Makes the router drop packets to the Mini silently, or forward them again.
    pub(crate) fn drop_packets_to_mini(&self, drop: bool) {
        let verb = if drop { "add" } else { "del" };
        let router = self.of("router");
        ip(&format!("-n {router} route {verb} blackhole {MINI}/32")).unwrap();
    }

    /// Disconnects the laptop from the network, or connects it again.
    pub(crate) fn set_laptop_offline(&self, offline: bool) {
        let laptop = self.of("laptop");
        match offline {
            true => ip(&format!("-n {laptop} link set cable down")).unwrap(),
            false => {
                ip(&format!("-n {laptop} link set cable up")).unwrap();
                ip(&format!("-n {laptop} route add default via {TO_LAPTOP}")).unwrap();
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for end in ["mini", "laptop", "router"] {
            let _ = ip(&format!("netns del {}", self.of(end)));
        }
    }
}
