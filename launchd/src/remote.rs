//! Other hosts: the same program, asked over ssh.

use std::time::Duration;

use sanctum_config::Fleet;
use sanctum_watch::command;
use serde_json::Value;

/// How long another host may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `sanctum-launchd COMMAND --json` on another host; what it said.
///
/// # Errors
/// If the host cannot be reached, or what it says is no JSON: the reason, with what to do.
pub fn ask(fleet: &Fleet, destination: &str, command: &str) -> Result<Value, String> {
    let line = line(fleet, command);
    let arguments = [
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        "--",
        destination,
        &line,
    ];
    let said = command::run("ssh", &arguments, LIMIT).map_err(|error| error.to_string())?;
    serde_json::from_str(&said.out).map_err(|_| {
        format!(
            "`ssh {destination}` gave no answer ({}); try it by hand: ssh {destination} {line}",
            said.complaint()
        )
    })
}

/// What the other host's shell is given. A `~` must stay bare to mean that host's home.
fn line(fleet: &Fleet, command: &str) -> String {
    let home = fleet.fleet.home.as_str();
    let quote = |path: &str| match path.strip_prefix("~/") {
        Some(rest) => format!("~/'{}'", rest.replace('\'', r"'\''")),
        None => format!("'{}'", path.replace('\'', r"'\''")),
    };
    let program = quote(&format!("{home}/bin/sanctum-launchd"));
    let config = quote(&format!("{home}/fleet.toml"));
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
            "~/'.sanctum/bin/sanctum-launchd' verify --json --config ~/'.sanctum/fleet.toml'"
        );
        assert!(line(&fleet("/srv/it's"), "x").starts_with(r"'/srv/it'\''s/bin/"));
    }
}
