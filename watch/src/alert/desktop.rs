//! Notifications on this host's own screen: through the desktop's service, or else through `osascript`, which is on
//! every Mac and shows notifications for programs that have no bundle of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(not(target_os = "macos"))]
use notify_rust::Urgency;
use notify_rust::{Notification, Timeout};
use tokio::sync::oneshot;

use super::{Alert, Severity};
use crate::command;

/// A notification service that hangs holds one thread for ever; it must not get a second one.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Shows an alert, for `limit` at most.
///
/// # Errors
/// In one line: what each of the two ways said.
pub(super) async fn show(
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    let half = limit / 2;
    let Err(service) = notify(alert, sound, half).await else {
        return Ok(());
    };
    osascript("osascript", alert, sound, half)
        .map_err(|script| format!("no notification could be shown: {service}; {script}"))
}

async fn notify(alert: &Alert, sound: Option<&str>, limit: Duration) -> Result<(), String> {
    if HANGS.swap(true, Ordering::AcqRel) {
        return Err("the notification service has not answered the last one yet".to_owned());
    }
    let mut notification = Notification::new();
    notification
        .appname("Sanctum")
        .summary(&alert.title)
        .body(&alert.body);
    if let Some(sound) = sound {
        notification.sound_name(sound);
    }
    // It waits on the screen until somebody has seen it, its end as well: whoever comes back must not find the outage alone.
    // (How long is the system's to say on a Mac.)
    notification.timeout(Timeout::Never);
    let (severity, body) = (alert.severity, alert.body.clone());
    let (done, shown) = oneshot::channel();
    // The call blocks, and may do so for as long as the service likes.
    std::thread::Builder::new()
        .name("notification".to_owned())
        .spawn(move || {
            of_freedesktop(&mut notification, severity, &body);
            let result = notification.show();
            HANGS.store(false, Ordering::Release);
            // Nobody may be waiting any more.
            let _ = done.send(result.map(drop).map_err(|error| error.to_string()));
        })
        .map_err(|error| {
            HANGS.store(false, Ordering::Release);
            error.to_string()
        })?;
    match tokio::time::timeout(limit, shown).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            HANGS.store(false, Ordering::Release);
            Err("the notification service's client failed".to_owned())
        }
        Err(_) => Err(format!(
            "the notification service gave no answer for {} seconds",
            limit.as_secs()
        )),
    }
}

/// What only desktops of the freedesktop specification have. How bad it is decides whether it is shown while somebody is
/// not to be disturbed; and where a service reads marks in a text, what a server has said must show none. (notify-rust
/// has neither on a Mac.)
#[cfg(not(target_os = "macos"))]
fn of_freedesktop(notification: &mut Notification, severity: Severity, body: &str) {
    notification.urgency(match severity {
        // Low is grey, and on some desktops not shown at all.
        Severity::Info | Severity::Warning => Urgency::Normal,
        Severity::Critical => Urgency::Critical,
    });
    let capabilities = notify_rust::get_capabilities().unwrap_or_default();
    if capabilities.iter().any(|word| word == "body-markup") {
        notification.body(&unmarked(body));
    }
}

#[cfg(target_os = "macos")]
fn of_freedesktop(_: &mut Notification, _: Severity, _: &str) {}

/// A text in which nothing is a mark.
#[cfg(not(target_os = "macos"))]
fn unmarked(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The texts travel as arguments: whatever they hold, they are never read as AppleScript.
fn osascript(
    program: &str,
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    let show = match sound {
        Some(_) => {
            "display notification (item 2 of argv) with title (item 1 of argv) sound name (item 3 of argv)"
        }
        None => "display notification (item 2 of argv) with title (item 1 of argv)",
    };
    let mut arguments = vec!["-e", "on run argv", "-e", show, "-e", "end run", "--"];
    arguments.extend([alert.title.as_str(), alert.body.as_str()]);
    arguments.extend(sound);
    match command::run(program, &arguments, limit) {
        Ok(said) if said.succeeded() => Ok(()),
        Ok(said) => Err(format!("osascript: {}", said.complaint())),
        // The command line has the whole alert in it.
        Err(command::CommandError::Start { source, .. }) => Err(format!("osascript: {source}")),
        Err(command::CommandError::Late { .. }) => Err("osascript gave no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_fallback_passes_its_texts_as_data() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("osascript");
        std::fs::write(
            &program,
            "#!/bin/sh\nfor a; do printf '%s\\n' \"$a\"; done > \"$(dirname \"$0\")/argv\"\n",
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let alert = Alert {
            id: "x".into(),
            severity: Severity::Critical,
            source: "canary-offbox".into(),
            host: "laptop".into(),
            title: "server on mini: \" & do shell script \"true".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        };
        let limit = Duration::from_secs(10);
        osascript(program.to_str().unwrap(), &alert, Some("Submarine"), limit).unwrap();
        let argv = std::fs::read_to_string(folder.path().join("argv")).unwrap();
        let argv: Vec<&str> = argv.lines().collect();
        assert_eq!(argv[7..], [alert.title.as_str(), "body", "Submarine"]);
        let error = osascript("/no/osascript", &alert, None, limit).unwrap_err();
        assert!(error.starts_with("osascript: "), "{error}");
    }
}
