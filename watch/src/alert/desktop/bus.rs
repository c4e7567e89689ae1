//! Notifications of the Desktop Notifications Specification (freedesktop.org), version 1.2.

use std::time::Duration;

use notify_rust::{Notification, Timeout, Urgency};

use crate::alert::{Alert, Severity};

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// Shows an alert; it counts as delivered when the service has accepted it, within `limit`.
///
/// # Errors
/// In one line: what the bus or the service said.
pub(in crate::alert) async fn show(
    alert: &Alert,
    sound: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    // A future that is dropped closes its connection: a service that hangs holds nothing of ours.
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
            // Low is grey, and on some desktops not shown at all.
            Severity::Info | Severity::Warning => Urgency::Normal,
            Severity::Critical => Urgency::Critical,
        })
        // It stays on the screen until a person has seen it, its end as well: an outage must not be seen alone.
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

/// Whether the service reads markup in a body. (notify-rust can ask only from a thread of its own.)
async fn has_markup() -> Result<bool, zbus::Error> {
    let bus = zbus::Connection::session().await?;
    let answer = bus
        .call_method(Some(NAME), PATH, Some(NAME), "GetCapabilities", &())
        .await?;
    let capabilities: Vec<String> = answer.body().deserialize()?;
    Ok(capabilities.iter().any(|word| word == "body-markup"))
}

/// A text in which nothing is markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
