//! Other hosts over ssh: a request to their own `sanctum-launchd`, or commands of their system.
//!
//! ssh must connect without a prompt (`BatchMode`). `$SANCTUM_SSH` names a program to use instead of ssh.

use std::time::Duration;

use sanctum_config::{Fleet, escape_json};
use serde_json::Value;

use crate::command::{self, CommandError, Output};

/// How long another host may take to answer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command line in the shell of another host.
///
/// # Errors
/// If ssh cannot be started or does not finish within `limit`. Its exit code is 255 if the host cannot be reached.
pub fn run(destination: &str, line: &str, limit: Duration) -> Result<Output, CommandError> {
    let arguments = [
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        "--",
        destination,
        line,
    ];
    command::run("ssh", &arguments, limit)
}

/// A word quoted for any shell; without quotes where it needs none.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The command that an operator can type to do the same as [`run`].
pub fn by_hand(destination: &str, line: &str) -> String {
    format!("ssh {destination} {}", quoted(line))
}

/// A path of fleet.toml, quoted for the other host's shell. A `~` stays unquoted: it means that host's home folder.
pub fn quoted_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("~/{}", quoted(rest)),
        None => quoted(path),
    }
}

/// Runs `sanctum-launchd COMMAND --json` on another host and returns its output, with all texts escaped.
///
/// # Errors
/// If the host cannot be reached, or its output is not JSON: the reason, with what to do.
pub fn ask_launchd(fleet: &Fleet, destination: &str, command: &str) -> Result<Value, String> {
    let line = launchd_line(fleet, command);
    let output = run(destination, &line, LIMIT).map_err(|error| error.to_string())?;
    let answer = serde_json::from_str(&output.stdout).map(escape_json);
    answer.map_err(|_| {
        format!(
            "`ssh {destination}` failed ({}); try it by hand: {}",
            output.reason(),
            by_hand(destination, &line)
        )
    })
}

fn launchd_line(fleet: &Fleet, command: &str) -> String {
    let home = fleet.fleet.home.as_str();
    let program = quoted_path(&format!("{home}/bin/sanctum-launchd"));
    let config = quoted_path(&format!("{home}/fleet.toml"));
    format!("{program} {command} --json --config {config}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn line_for_another_host_names_that_hosts_home() {
        let fleet = |home: &str| {
            let text = format!("[fleet]\nhome = \"{home}\"\n");
            Fleet::parse(&text, Path::new("fleet.toml")).unwrap()
        };
        assert_eq!(
            launchd_line(&fleet("~/.sanctum"), "verify"),
            "~/.sanctum/bin/sanctum-launchd verify --json --config ~/.sanctum/fleet.toml"
        );
        // The local shell must not expand `~`.
        assert_eq!(by_hand("mini", "ls ~/.sanctum"), "ssh mini 'ls ~/.sanctum'");
        assert_eq!(quoted_path("~/my fleet"), "~/'my fleet'");
        assert!(launchd_line(&fleet("/srv/it's"), "x").starts_with(r"'/srv/it'\''s/bin/"));
    }
}
