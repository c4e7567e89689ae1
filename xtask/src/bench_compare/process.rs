//! Processes whose output is read.

use std::process::{Command, Stdio};

use super::error::CompareError;
use crate::command_line::command_line;
use crate::error::StepError;

/// The lines of an error that are shown.
const SHOWN_LINES: usize = 8;

/// What a command prints to standard output.
///
/// # Errors
/// If it does not start, or fails; the error has the last lines of its standard error.
pub(super) fn stdout_of(command: &mut Command) -> Result<String, CompareError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(|e| StepError::start(command, e))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(CompareError::Failed {
            command: command_line(command),
            status: output.status.to_string(),
            lines: last_lines(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

/// The first line that a command prints; nothing if it does not start, fails or prints none.
pub(super) fn first_line(command: &mut Command) -> Option<String> {
    let printed = stdout_of(command).ok()?;
    let line = printed.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines.len().saturating_sub(SHOWN_LINES);
    lines[first..].join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn failed_command_is_shown_with_its_last_lines() {
        let script = "echo lost; seq 20 >&2; exit 3";
        let error = stdout_of(&mut shell(script)).unwrap_err().to_string();
        assert!(error.contains("sh -c "), "{error}");
        assert!(error.contains("  13\n"), "{error}");
        assert!(!error.contains("  12\n"), "{error}");
        assert!(error.contains("status: 3"), "{error}");
        let missing = stdout_of(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/program"));
    }

    #[test]
    fn first_line_of_a_failure_is_nothing() {
        assert_eq!(
            first_line(&mut shell("echo ' one'; echo two")).as_deref(),
            Some("one")
        );
        assert_eq!(first_line(&mut shell("true")), None);
        assert_eq!(first_line(&mut shell("echo one; false")), None);
    }
}
