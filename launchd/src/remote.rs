//! Other hosts over ssh: their own `sanctum-launchd` asked for its word, or plain commands of their system.
//!
//! ssh must come in without a question (`BatchMode`). `$SANCTUM_SSH` names a program to use in its place.

use std::time::Duration;

use sanctum_config::Fleet;
use sanctum_host::command::{self, CommandError, Output};
use serde_json::Value;

use crate::report::made_safe;

/// How long another host may take to answer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a line in the shell of another host.
///
/// # Errors
/// If ssh cannot be started or takes too long. Its exit code is 255 where the host cannot be reached.
pub fn ssh(destination: &str, line: &str, limit: Duration) -> Result<Output, CommandError> {
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

/// A word as every shell takes it; bare where it may be, for people read these lines too.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The command with which a person tries the same.
pub fn by_hand(destination: &str, line: &str) -> String {
    format!("ssh {destination} {}", quoted(line))
}

/// A path of fleet.toml as the other host's shell takes it. A `~` must stay bare to mean that host's home.
pub fn quoted_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("~/{}", quoted(rest)),
        None => quoted(path),
    }
}

/// Runs `sanctum-launchd COMMAND --json` on another host; what it said.
///
/// # Errors
/// If the host cannot be reached, or what it says is no JSON: the reason, with what to do.
pub fn ask(fleet: &Fleet, destination: &str, command: &str) -> Result<Value, String> {
    let line = line(fleet, command);
    let said = ssh(destination, &line, LIMIT).map_err(|error| error.to_string())?;
    let answer = serde_json::from_str(&said.stdout).map(made_safe);
    answer.map_err(|_| {
        format!(
            "`ssh {destination}` gave no answer ({}); try it by hand: {}",
            said.reason(),
            by_hand(destination, &line)
        )
    })
}

/// What the other host's shell is given.
fn line(fleet: &Fleet, command: &str) -> String {
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
    fn the_other_host_s_own_home_is_meant() {
        let fleet = |home: &str| {
            let text = format!("[fleet]\nhome = \"{home}\"\n");
            Fleet::parse(&text, Path::new("fleet.toml")).unwrap()
        };
        assert_eq!(
            line(&fleet("~/.sanctum"), "verify"),
            "~/.sanctum/bin/sanctum-launchd verify --json --config ~/.sanctum/fleet.toml"
        );
        // This shell's own `~` is not meant.
        assert_eq!(by_hand("mini", "ls ~/.sanctum"), "ssh mini 'ls ~/.sanctum'");
        assert_eq!(quoted_path("~/my fleet"), "~/'my fleet'");
        assert!(line(&fleet("/srv/it's"), "x").starts_with(r"'/srv/it'\''s/bin/"));
    }
}
