//! The macOS application firewall: its rules are bound to a program's path and hold for a rebuild at the same path. A
//! program that it has never seen is cut off from everybody but its own host, silently.
//!
//! Changing a rule takes the administrator, so these commands are printed; whether they worked is asked afterwards.

use std::path::Path;
use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};

use crate::tools::Line;

/// Apple's tool; not in anybody's PATH.
const TOOL: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";

/// What the firewall does about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Connections are let in.
    Permitted,
    /// They are cut off.
    Blocked,
    /// They are cut off whatever the program: the firewall lets in what the system itself needs.
    AllBlocked,
    /// It has no rule for it: what happens depends on how the program is signed.
    Unknown,
    /// It is off.
    Off,
}

/// The tool: `$SANCTUM_SOCKETFILTERFW`, else Apple's.
fn tool() -> String {
    std::env::var("SANCTUM_SOCKETFILTERFW").unwrap_or_else(|_| TOOL.to_owned())
}

/// Whether others are meant to reach a server on that host.
pub fn concerns(fleet: &Fleet, host: &Label) -> bool {
    fleet
        .agents_of(host)
        .into_iter()
        .any(|(_, role)| match role {
            Role::Server(server) => {
                let mut listens = server.listen.iter().chain(&server.tls_listen);
                listens.any(|address| !address.ip().is_loopback())
            }
            _ => false,
        })
}

/// The commands that let others reach a program; they take the administrator.
pub fn allow(program: &Path) -> Vec<Line> {
    let (tool, program) = (tool(), program.to_string_lossy());
    vec![
        Line::for_root(
            &[&tool, "--add", &program],
            "the firewall knows the program",
        ),
        Line::for_root(
            &[&tool, "--unblockapp", &program],
            "the firewall lets others reach it",
        ),
    ]
}

/// The command that has the firewall look at its list of programs again.
pub fn block_some() -> Line {
    Line::for_root(
        &[&tool(), "--setblockall", "off"],
        "the firewall's rules for programs hold again",
    )
}

/// What the firewall does about a program; none where there is no such firewall, or its words are not understood.
pub fn ruling(program: &Path) -> Option<Ruling> {
    let (tool, limit) = (tool(), Duration::from_secs(10));
    let state = Line::new(&[&tool, "--getglobalstate"], "whether it is on")
        .run(limit)
        .ok()?;
    if state.stdout.contains("State = 0") || state.stdout.contains("disabled") {
        return Some(Ruling::Off);
    }
    let ask = |words: &[&str]| Line::new(words, "its rules").run(limit).ok();
    let all = ask(&[&tool, "--getblockall"]).unwrap_or_default();
    if state.stdout.contains("State = 2") || blocks_all(&all.stdout) {
        return Some(Ruling::AllBlocked);
    }
    let program = program.to_string_lossy();
    let said = ask(&[&tool, "--getappblocked", &program])?;
    match understood(&said.stdout) {
        // Its list has the last word where it does not find, or not understand, its own rule.
        None | Some(Ruling::Unknown) => {
            let list = ask(&[&tool, "--listapps"]).unwrap_or_default();
            listed(&list.stdout, &program).or_else(|| understood(&said.stdout))
        }
        ruling => ruling,
    }
}

/// `Firewall has block all state set to enabled.`, or `Block all INCOMING connections ENABLED!` before macOS 13.
fn blocks_all(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("block all") && text.contains("enabled") && !text.contains("disabled")
}

/// `--listapps` has two lines for a program: `3 : /path`, then `( Allow incoming connections )` or `( Block … )`.
fn listed(text: &str, program: &str) -> Option<Ruling> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let place = line.split_once(" : ").map(|(_, place)| place.trim());
        place == Some(program)
    })?;
    understood(lines.find(|line| !line.is_empty())?)
}

/// The tool's words, as macOS 12 to 15 have them.
fn understood(text: &str) -> Option<Ruling> {
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&[
        "not part of the firewall",
        "is not in the list",
        "not found",
    ]) {
        Some(Ruling::Unknown)
    } else if says(&[
        "are permitted",
        "is permitted",
        "is allowed",
        "allow incoming",
    ]) {
        Some(Ruling::Permitted)
    } else if says(&["are blocked", "is blocked", "block incoming"]) {
        Some(Ruling::Blocked)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_understood() {
        let cases = [
            (
                "The application is not part of the firewall\n",
                Some(Ruling::Unknown),
            ),
            (
                "Incoming connection to the application /u/ada/.sanctum/bin/sanctum-server is permitted\n",
                Some(Ruling::Permitted),
            ),
            (
                "Incoming connections to the application are blocked\n",
                Some(Ruling::Blocked),
            ),
            ("Something new\n", None),
        ];
        for (text, ruling) in cases {
            assert_eq!(understood(text), ruling, "{text}");
        }
    }

    #[test]
    fn its_list_is_understood() {
        let text = "Total number of apps = 2 \n\n1 : /u/ada/bin/other \n             (Allow incoming connections) \n\n\
                    2 : /u/ada/bin/sanctum-server \n             (Block incoming connections) \n\n";
        assert_eq!(
            listed(text, "/u/ada/bin/sanctum-server"),
            Some(Ruling::Blocked)
        );
        assert_eq!(listed(text, "/u/ada/bin/other"), Some(Ruling::Permitted));
        assert_eq!(listed(text, "/u/ada/bin/sanctum"), None);
        assert!(blocks_all("Firewall has block all state set to enabled.\n"));
        assert!(!blocks_all(
            "Firewall has block all state set to disabled.\n"
        ));
    }

    #[test]
    fn what_takes_the_administrator_is_a_line_to_type() {
        let lines = allow(Path::new("/u/ada/.sanctum/bin/sanctum-server"));
        assert!(lines.iter().all(|line| line.sudo));
        assert!(
            lines[1]
                .to_string()
                .ends_with("--unblockapp /u/ada/.sanctum/bin/sanctum-server")
        );
    }
}
