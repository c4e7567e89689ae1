//! Notifications of the Desktop Notifications Specification (freedesktop.org), version 1.2.

use std::time::Duration;

use notify_rust::{Notification, Timeout, Urgency};

use crate::alert::{Alert, Severity};

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// Shows an alert. It is delivered when the service has accepted it, within `limit`.
///
/// # Errors
/// The message of the bus or the service, in one line.
pub(in crate::alert) async fn show(
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    // A future that is dropped closes its connection.
    let shown = tokio::time::timeout(limit, notify(alert, sound)).await;
    let why = match shown {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => format!("no answer for {} seconds", limit.as_secs()),
    };
    Err(format!("no notification could be shown over D-Bus: {why}"))
}

async fn notify(alert: &Alert, sound: Option<&str>) -> Result<(), String> {
    let mut notification = Notification::new();
    notification
        .appname("Sanctum")
        .summary(&alert.title)
        .urgency(match alert.severity {
            // Some desktops do not show low urgency.
            Severity::Info | Severity::Warning => Urgency::Normal,
            Severity::Critical => Urgency::Critical,
        })
        // It stays until it is dismissed. So does its "recovered": an outage must not be shown without its end.
        .timeout(Timeout::Never);
    if let Some(sound) = sound {
        notification.sound_name(sound);
    }
    let has_markup = has_markup().await.map_err(|error| error.to_string())?;
    match has_markup {
        true => notification.body(&escaped(&alert.body)),
        false => notification.body(&alert.body),
    };
    let shown = notification.show_async().await;
    shown.map(drop).map_err(|error| error.to_string())
}

/// Whether the service interprets markup in a body. (notify-rust asks only from its own thread.)
async fn has_markup() -> Result<bool, zbus::Error> {
    let bus = zbus::Connection::session().await?;
    let answer = bus
        .call_method(Some(NAME), PATH, Some(NAME), "GetCapabilities", &())
        .await?;
    let capabilities: Vec<String> = answer.body().deserialize()?;
    Ok(capabilities.iter().any(|word| word == "body-markup"))
}

/// The text with its markup escaped.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    /// A bus whose daemon hangs: it accepts connections and never answers.
    #[test]
    fn hung_bus_is_an_error_at_the_limit_without_a_thread() {
        const NAME: &str = "hung_bus_is_an_error_at_the_limit_without_a_thread";
        const SOCKET: &str = "SANCTUM_HUNG_BUS";
        // The bus's address is global to a process, so the test runs in a child process.
        if std::env::var_os(SOCKET).is_none() {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("bus");
            let _silent = UnixListener::bind(&socket).unwrap();
            let output = Command::new(std::env::current_exe().unwrap())
                .arg(NAME)
                .env(SOCKET, &socket)
                .env(
                    "DBUS_SESSION_BUS_ADDRESS",
                    format!("unix:path={}", socket.display()),
                )
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}"
            );
            return;
        }
        let alert = Alert {
            id: "x".into(),
            condition: "canary/misses".into(),
            severity: Severity::Critical,
            source: "canary-offbox".into(),
            host: "laptop".into(),
            title: "title".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        };
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let before = threads();
        let begun = Instant::now();
        for _ in 0..3 {
            let limit = Duration::from_millis(100);
            let error = runtime.block_on(show(&alert, None, limit)).unwrap_err();
            assert!(error.contains("no answer"), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(threads(), before);
    }
}
