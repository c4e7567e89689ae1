//! Notifications of macOS through `osascript`, which every Mac has. macOS shows them as Script Editor's, and asks once
//! whether Script Editor may show them; see docs/watching.md.

use std::sync::LazyLock;
use std::time::Duration;

use sanctum_host::command::{self, CommandError};

use crate::alert::Alert;
use crate::blocking::{BlockingError, BlockingTask};

/// One `osascript` runs at a time, in the whole process.
static OSASCRIPT: LazyLock<BlockingTask> = LazyLock::new(|| BlockingTask::new("osascript"));

/// osascript decodes its arguments by the locale, which launchd sets for no agent. Every Mac has this one.
const LOCALE: &str = "en_US.UTF-8";

/// Shows an alert. It is delivered when `osascript` exits with 0 within `limit`.
///
/// # Errors
/// The message of osascript, in one line.
#[cfg(target_os = "macos")]
pub(in crate::alert) async fn show(
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    run("osascript", alert, sound, limit).await
}

async fn run(
    program: &str,
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    /// The command is killed at `limit`; beyond this margin the kernel does not end it.
    const MARGIN: Duration = Duration::from_secs(5);
    let (program, arguments) = (program.to_owned(), arguments(alert, sound));
    let work = move || command::run_in_locale(LOCALE, &program, &arguments, limit);
    match OSASCRIPT.run(limit + MARGIN, work).await {
        Ok(Ok(output)) if output.succeeded() => Ok(()),
        Ok(Ok(output)) => Err(format!("osascript: {}", output.reason())),
        // The command line has the whole alert in it.
        Ok(Err(CommandError::Start { source, .. })) => Err(format!("osascript: {source}")),
        Ok(Err(CommandError::Timeout { .. })) => {
            let seconds = limit.as_secs();
            Err(format!("osascript did not finish within {seconds} seconds"))
        }
        Err(BlockingError::StillRunning { .. }) => {
            Err("osascript has not finished since the last notification".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The texts are arguments of the script, so they are never interpreted as AppleScript.
fn arguments(alert: &Alert, sound: Option<&str>) -> Vec<String> {
    let show = match sound {
        Some(_) => {
            "display notification (item 2 of argv) with title (item 1 of argv) sound name (item 3 of argv)"
        }
        None => "display notification (item 2 of argv) with title (item 1 of argv)",
    };
    let script = ["-e", "on run argv", "-e", show, "-e", "end run", "--"];
    let texts = [alert.title.as_str(), alert.body.as_str()];
    let all = script.into_iter().chain(texts).chain(sound);
    all.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::alert::Severity;

    const SOON: Duration = Duration::from_secs(10);

    fn osascript(folder: &Path, script: &str) -> String {
        let program = folder.join("osascript");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program.to_str().unwrap().to_owned()
    }

    /// One test, since only one `osascript` runs at a time.
    #[tokio::test]
    async fn osascript_gets_texts_as_arguments_and_its_exit_decides() {
        let folder = tempfile::tempdir().unwrap();
        let alert = Alert {
            id: "x".into(),
            condition: "canary/misses".into(),
            severity: Severity::Critical,
            source: "canary-offbox".into(),
            host: "laptop".into(),
            title: "-é: \" & do shell script \"true".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        };
        let keeps = osascript(
            folder.path(),
            "(for a; do printf '%s\\n' \"$a\"; done; echo \"$LC_ALL\") > \"$(dirname \"$0\")/argv\"",
        );
        run(&keeps, &alert, Some("Submarine"), SOON).await.unwrap();
        let argv = std::fs::read_to_string(folder.path().join("argv")).unwrap();
        let argv: Vec<&str> = argv.lines().collect();
        let script = [
            "-e",
            "on run argv",
            "-e",
            "display notification (item 2 of argv) with title (item 1 of argv) sound name (item 3 of argv)",
            "-e",
            "end run",
            "--",
        ];
        assert_eq!(argv[..7], script);
        assert_eq!(
            argv[7..],
            [alert.title.as_str(), "body", "Submarine", LOCALE]
        );

        let refuses = osascript(folder.path(), "echo 'execution error' >&2; exit 1");
        let error = run(&refuses, &alert, None, SOON).await.unwrap_err();
        assert_eq!(error, "osascript: execution error");

        let error = run("/no/osascript", &alert, None, SOON).await.unwrap_err();
        assert!(error.starts_with("osascript: "), "{error}");

        // It hangs, and is killed at its limit. A delivery that was abandoned meanwhile does not start a second one.
        let hangs = osascript(folder.path(), "exec sleep 60");
        let begun = Instant::now();
        let limit = Duration::from_millis(500);
        let abandoned = run(&hangs, &alert, None, limit);
        let abandoned = tokio::time::timeout(Duration::from_millis(20), abandoned).await;
        assert!(abandoned.is_err());
        let error = run(&hangs, &alert, None, limit).await.unwrap_err();
        assert!(error.contains("since the last notification"), "{error}");
        OSASCRIPT.finished().await;
        let error = run(&hangs, &alert, None, limit).await.unwrap_err();
        assert!(error.contains("did not finish"), "{error}");
        assert!(begun.elapsed() < SOON);
    }
}
