//! The macOS application firewall. Its rules belong to a program's path, so they also hold for a new build at the same path.
//! It silently blocks other hosts' connections to a program that it does not know.
//!
//! Only an administrator can change a rule, so these commands are printed, and their effect is checked afterwards.

use std::path::Path;
use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};

use crate::CommandLine;

/// Apple's program, which is not in PATH.
const TOOL: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";

/// What the firewall does with connections to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallRule {
    /// It permits them.
    Permitted,
    /// It blocks them.
    Blocked,
    /// It blocks connections to all programs except the system's own.
    AllBlocked,
    /// It has no rule: the effect depends on the program's signature.
    Unknown,
    /// The firewall is off.
    Off,
}

/// The tool: `$SANCTUM_SOCKETFILTERFW`, else Apple's.
fn tool() -> String {
    std::env::var("SANCTUM_SOCKETFILTERFW").unwrap_or_else(|_| TOOL.to_owned())
}

/// Whether a server on that host listens for other hosts.
pub fn is_needed(fleet: &Fleet, host: &Label) -> bool {
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

/// The commands that permit connections to a program. They need an administrator.
pub fn allow(program: &Path) -> Vec<CommandLine> {
    let (tool, program) = (tool(), program.to_string_lossy());
    vec![
        CommandLine::for_root(
            &[&tool, "--add", &program],
            "the firewall knows the program",
        ),
        CommandLine::for_root(
            &[&tool, "--unblockapp", &program],
            "the firewall permits connections to it",
        ),
    ]
}

/// The command that turns "block all connections" off, so that the rules for programs apply again.
pub fn unblock_all() -> CommandLine {
    CommandLine::for_root(
        &[&tool(), "--setblockall", "off"],
        "the firewall's rules for programs apply again",
    )
}

/// What the firewall does with connections to a program; none if there is no such firewall, or its output does not parse.
pub fn rule_for(program: &Path) -> Option<FirewallRule> {
    let (tool, limit) = (tool(), Duration::from_secs(10));
    let state = CommandLine::new(&[&tool, "--getglobalstate"], "whether it is on")
        .run(limit)
        .ok()?;
    if state.stdout.contains("State = 0") || state.stdout.contains("disabled") {
        return Some(FirewallRule::Off);
    }
    let ask = |words: &[&str]| CommandLine::new(words, "its rules").run(limit).ok();
    let all = ask(&[&tool, "--getblockall"]).unwrap_or_default();
    if state.stdout.contains("State = 2") || blocks_all(&all.stdout) {
        return Some(FirewallRule::AllBlocked);
    }
    let program = program.to_string_lossy();
    let answer = ask(&[&tool, "--getappblocked", &program])?;
    match parse_rule(&answer.stdout) {
        // Its list of programs decides if this answer has no rule.
        None | Some(FirewallRule::Unknown) => {
            let list = ask(&[&tool, "--listapps"]).unwrap_or_default();
            listed(&list.stdout, &program).or_else(|| parse_rule(&answer.stdout))
        }
        rule => rule,
    }
}

/// `Firewall has block all state set to enabled.`, or `Block all INCOMING connections ENABLED!` before macOS 13.
fn blocks_all(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("block all") && text.contains("enabled") && !text.contains("disabled")
}

/// `--listapps` has two lines for a program: `3 : /path`, then `( Allow incoming connections )` or `( Block … )`.
fn listed(text: &str, program: &str) -> Option<FirewallRule> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let place = line.split_once(" : ").map(|(_, place)| place.trim());
        place == Some(program)
    })?;
    parse_rule(lines.find(|line| !line.is_empty())?)
}

/// The output of macOS 12 to 15.
fn parse_rule(text: &str) -> Option<FirewallRule> {
    let text = text.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if says(&[
        "not part of the firewall",
        "is not in the list",
        "not found",
    ]) {
        Some(FirewallRule::Unknown)
    } else if says(&[
        "are permitted",
        "is permitted",
        "is allowed",
        "allow incoming",
    ]) {
        Some(FirewallRule::Permitted)
    } else if says(&["are blocked", "is blocked", "block incoming"]) {
        Some(FirewallRule::Blocked)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_of_a_program_is_parsed() {
        let cases = [
            (
                "The application is not part of the firewall\n",
                Some(FirewallRule::Unknown),
            ),
            (
                "Incoming connection to the application /u/ada/.sanctum/bin/sanctum-server is permitted\n",
                Some(FirewallRule::Permitted),
            ),
            (
                "Incoming connections to the application are blocked\n",
                Some(FirewallRule::Blocked),
            ),
            ("Something new\n", None),
        ];
        for (text, rule) in cases {
            assert_eq!(parse_rule(text), rule, "{text}");
        }
    }

    #[test]
    fn list_of_programs_is_parsed() {
        let text = "Total number of apps = 2 \n\n1 : /u/ada/bin/other \n             (Allow incoming connections) \n\n\
                    2 : /u/ada/bin/sanctum-server \n             (Block incoming connections) \n\n";
        assert_eq!(
            listed(text, "/u/ada/bin/sanctum-server"),
            Some(FirewallRule::Blocked)
        );
        assert_eq!(
            listed(text, "/u/ada/bin/other"),
            Some(FirewallRule::Permitted)
        );
        assert_eq!(listed(text, "/u/ada/bin/sanctum"), None);
        assert!(blocks_all("Firewall has block all state set to enabled.\n"));
        assert!(!blocks_all(
            "Firewall has block all state set to disabled.\n"
        ));
    }

    #[test]
    fn commands_that_need_an_administrator_use_sudo() {
        let lines = allow(Path::new("/u/ada/.sanctum/bin/sanctum-server"));
        assert!(lines.iter().all(|line| line.sudo));
        assert!(
            lines[1]
                .to_string()
                .ends_with("--unblockapp /u/ada/.sanctum/bin/sanctum-server")
        );
    }
}
