//! Why a host cannot be reached at all (EHOSTUNREACH), and what to do about it.
//!
//! macOS 15 and later return this error to a LaunchAgent whose program is not allowed on the local network, although `ssh`
//! and `curl` in a terminal reach the same host (Apple TN3179). The permission belongs to a program's code identity: a
//! program that is signed ad hoc loses it with every build.

/// The most likely cause, as the end of a sentence.
pub(crate) fn cause() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|program| program.file_name());
    let name = name.map_or("this program".into(), |name| name.to_string_lossy());
    cause_on(cfg!(target_os = "macos"), &name)
}

fn cause_on(macos: bool, program: &str) -> String {
    match macos {
        true => format!(
            "; if ssh and curl reach the host from a terminal, macOS blocks {program} on the local network: turn it on in System \
             Settings > Privacy & Security > Local Network, and restart the agent with launchctl kickstart -k; otherwise \
             the host is off, or there is no route to it"
        ),
        false => {
            "; the host is off, or there is no route to it: run `ip route get ADDRESS`".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_without_route_names_local_network_privacy_on_macos_and_routing_elsewhere() {
        let macos = cause_on(true, "sanctum-canary");
        let setting = "System Settings > Privacy & Security > Local Network";
        assert!(
            macos.contains(setting) && macos.contains("sanctum-canary"),
            "{macos}"
        );
        let linux = cause_on(false, "sanctum-canary");
        assert!(
            !linux.contains("Privacy") && linux.contains("ip route"),
            "{linux}"
        );
    }
}
