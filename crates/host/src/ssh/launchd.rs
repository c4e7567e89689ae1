//! Requests to the `sanctum-launchd` of another host.

use std::time::Duration;

use sanctum_config::{Fleet, escape_json};
use serde_json::Value;

use super::quote::{by_hand, quoted_path};
use super::session::{LIMIT, SHORT_LIMIT, run};
use crate::command::{CommandError, Output};

/// Checks that another host runs commands at all, before it is asked for something that may take longer.
///
/// # Errors
/// If it cannot be reached, or does not answer within [`SHORT_LIMIT`]: the reason, with what to do.
pub fn check_answers(destination: &str) -> Result<(), String> {
    const LINE: &str = "true";
    let output = run_in_time(destination, LINE)?;
    match output.succeeded() {
        true => Ok(()),
        false => Err(failure(destination, LINE, &output.reason())),
    }
}

/// Runs a command line that takes moments in the shell of another host, whatever its exit code.
///
/// # Errors
/// If ssh cannot be started, or does not end within [`SHORT_LIMIT`]: the reason, with what to do.
pub fn run_in_time(destination: &str, line: &str) -> Result<Output, String> {
    run(destination, line, SHORT_LIMIT)
        .map_err(|error| failure(destination, line, &in_short(&error)))
}

/// Runs `sanctum-launchd COMMAND --json` on another host and returns its output, with all texts escaped.
///
/// # Errors
/// If the host cannot be reached, or its output is not JSON: the reason, with what to do.
pub fn ask_launchd(fleet: &Fleet, destination: &str, command: &str) -> Result<Value, String> {
    ask_launchd_within(fleet, destination, command, LIMIT)
}

/// As [`ask_launchd`], with another time limit.
///
/// # Errors
/// As [`ask_launchd`].
pub fn ask_launchd_within(
    fleet: &Fleet,
    destination: &str,
    command: &str,
    limit: Duration,
) -> Result<Value, String> {
    let [answer] = ask_launchd_for(fleet, destination, [command], limit)?;
    Ok(answer)
}

/// As [`ask_launchd_within`], for several commands in one ssh session, one after the other.
///
/// # Errors
/// As [`ask_launchd`]; also if one of them has printed no JSON.
pub fn ask_launchd_for<const N: usize>(
    fleet: &Fleet,
    destination: &str,
    commands: [&str; N],
    limit: Duration,
) -> Result<[Value; N], String> {
    let line = commands
        .map(|command| launchd_line(fleet, command))
        .join("; ");
    let output = run(destination, &line, limit)
        .map_err(|error| failure(destination, &line, &in_short(&error)))?;
    answers(&output.stdout).ok_or_else(|| {
        let why = with_shell_code(output.code, output.reason());
        failure(destination, &line, &why)
    })
}

/// Why a line failed, with what the exit code of the shell there says about its sanctum-launchd.
pub fn with_shell_code(code: Option<i32>, why: String) -> String {
    match code {
        Some(127) => format!(
            "{why}; its sanctum-launchd is missing: send a release with `sanctum-launchd push HOST --release FOLDER`, and \
             install it there"
        ),
        Some(126) => {
            format!("{why}; its sanctum-launchd cannot be executed: install it again there")
        }
        _ => why,
    }
}

/// That a line failed on another host, with the command that does the same.
pub fn failure(destination: &str, line: &str, why: &str) -> String {
    format!(
        "`ssh {destination}` failed ({why}); try it by hand: {}",
        by_hand(destination, line)
    )
}

/// Why ssh has no output, without its command line.
fn in_short(error: &CommandError) -> String {
    match error {
        CommandError::Start { source, .. } => format!("it cannot be started: {source}"),
        CommandError::Timeout { limit, .. } => {
            format!("it did not answer within {} s", limit.as_secs())
        }
    }
}

/// The JSON values of a text, one after the other, with all texts escaped; none if it has anything else.
fn answers<const N: usize>(text: &str) -> Option<[Value; N]> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|value| value.map(escape_json))
        .collect();
    values.ok()?.try_into().ok()
}

fn launchd_line(fleet: &Fleet, command: &str) -> String {
    launchd(fleet, &format!("{command} --json"))
}

/// The line that runs the sanctum-launchd of another host. `command` is quoted for the shell already.
pub fn launchd(fleet: &Fleet, command: &str) -> String {
    let home = fleet.fleet.home.as_str();
    let program = quoted_path(&format!("{home}/bin/sanctum-launchd"));
    let config = quoted_path(&format!("{home}/fleet.toml"));
    format!("{program} {command} --config {config}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::command;
    use crate::ssh::session::FAILED;

    #[test]
    fn host_that_does_not_answer_is_a_short_reason() {
        let hangs = command::run("sleep", &["1000"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(in_short(&hangs), "it did not answer within 0 s");
        let missing = command::run("/no/such/ssh", &["x"], LIMIT).unwrap_err();
        let why = in_short(&missing);
        assert!(why.starts_with("it cannot be started: No such"), "{why}");
    }

    #[test]
    fn exit_codes_of_a_shell_have_their_fix() {
        let why = |code| with_shell_code(Some(code), "sh: not found".to_owned());
        assert!(why(127).contains("sh: not found; its sanctum-launchd is missing: send a release"));
        assert!(why(126).contains("install it again"));
        assert_eq!(why(FAILED), "sh: not found");
    }

    #[test]
    fn answers_are_as_many_values_as_commands() {
        let two = answers::<2>("{\"a\":\"\\u001b\"}\n\n[1]\n").unwrap();
        assert_eq!(two[0]["a"], r"\u{1b}");
        for text in ["", "{}", "{}{}{}", "welcome\n{}{}", "{}{"] {
            assert_eq!(answers::<2>(text), None, "{text}");
        }
    }

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
        assert!(launchd_line(&fleet("/srv/it's"), "x").starts_with(r"'/srv/it'\''s/bin/"));
    }
}
