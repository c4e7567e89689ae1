//! Notifications of macOS through `osascript`, which every Mac has. macOS shows them as Script Editor's, and asks once
//! whether Script Editor may show any; see docs/watching.md.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sanctum_host::command::{self, CommandError};

use crate::alert::Alert;
use crate::background::aside;

/// Whether an `osascript` runs. A process that cannot even be killed holds its thread; there is no second one.
static IN_FLIGHT: AtomicBool = AtomicBool::new(false);

/// osascript decodes its arguments by the locale, which launchd sets for no agent. Every Mac has this one.
const LOCALE: &str = "en_US.UTF-8";

/// Shows an alert; it counts as delivered when `osascript` exits with 0 within `limit`.
///
/// # Errors
/// In one line: what osascript said.
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
    let Some(slot) = Slot::take() else {
        return Err("osascript has not ended since the last notification".to_owned());
    };
    let (program, arguments) = (program.to_owned(), arguments(alert, sound));
    let done = aside(move || {
        let _slot = slot;
        command::run_in_locale(LOCALE, &program, &arguments, limit)
    });
    match done.await {
        Some(Ok(output)) if output.succeeded() => Ok(()),
        Some(Ok(output)) => Err(format!("osascript: {}", output.reason())),
        // The command line has the whole alert in it.
        Some(Err(CommandError::Start { source, .. })) => Err(format!("osascript: {source}")),
        Some(Err(CommandError::Timeout { .. })) => {
            let seconds = limit.as_secs();
            Err(format!("osascript gave no answer for {seconds} seconds"))
        }
        None => Err("osascript could not be run".to_owned()),
    }
}

/// The texts are arguments of the script: they are never read as AppleScript.
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

/// The right to run the one `osascript`.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let taken = IN_FLIGHT.swap(true, Ordering::AcqRel);
        (!taken).then_some(Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        IN_FLIGHT.store(false, Ordering::Release);
    }
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

        // It hangs, and is killed at its limit; a delivery that was given up meanwhile does not start a second one.
        let hangs = osascript(folder.path(), "exec sleep 60");
        let begun = Instant::now();
        let limit = Duration::from_millis(500);
        let given_up = run(&hangs, &alert, None, limit);
        let given_up = tokio::time::timeout(Duration::from_millis(20), given_up).await;
        assert!(given_up.is_err());
        let error = run(&hangs, &alert, None, limit).await.unwrap_err();
        assert!(error.contains("since the last notification"), "{error}");
        while IN_FLIGHT.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = run(&hangs, &alert, None, limit).await.unwrap_err();
        assert!(error.contains("gave no answer"), "{error}");
        assert!(begun.elapsed() < SOON);
    }
}
