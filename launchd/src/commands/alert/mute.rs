//! `alert mute` and `alert unmute`.

use chrono::{TimeDelta, Utc};
use sanctum_config::{UntrustedText, did_you_mean};
use sanctum_host::Installation;
use sanctum_watch::alert::{Mute, Mutes};
use serde_json::json;

use super::place::{operator, reason};
use crate::Error;
use crate::args::{AlertId, MuteArgs};
use crate::console::Console;
use crate::host_alerts::{HostAlerts, watchdogs};

/// Mutes a condition.
pub(super) fn mute(
    installation: &Installation,
    options: &MuteArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let now = Utc::now();
    let condition = condition(installation, &options.alert.id)?;
    let time = TimeDelta::from_std(options.duration).unwrap_or(TimeDelta::MAX);
    let mute = Mute {
        condition: condition.clone(),
        since: now,
        until: now + time,
        by: operator(),
        why: reason(options.why.as_deref()),
    };
    let until = mute.until.format("%Y-%m-%d %H:%M UTC");
    let line = format!(
        "{condition} is muted until {until}: its alerts are logged and listed, and no channel receives them; to end that: {}",
        installation.typed(&format!("alert unmute {condition}"))
    );
    let page = json!({ "mute": mute });
    if console.dry_run {
        return Ok(console.end(&format!("{condition} would be muted until {until}"), page)?);
    }
    Mutes::add(&installation.home.mutes(), mute)
        .map_err(|error| Error::refused(error.to_string()))?;
    Ok(console.end(&line, page)?)
}

/// Ends a mute.
pub(super) fn unmute(
    installation: &Installation,
    options: &AlertId,
    console: &mut Console,
) -> Result<(), Error> {
    let path = installation.home.mutes();
    let mutes = Mutes::read(&path)?;
    let now = Utc::now();
    // The alert may be older than what the list of past alerts keeps.
    let condition = match mutes.of(&options.id, now) {
        Some(mute) => mute.condition.clone(),
        None => condition(installation, &options.id)?,
    };
    let is_muted = mutes.of(&condition, now).is_some();
    if is_muted && !console.dry_run {
        Mutes::remove(&path, &condition).map_err(|error| Error::refused(error.to_string()))?;
    }
    let line = match (is_muted, console.dry_run) {
        (false, _) => format!("{condition} is not muted"),
        (true, true) => format!("the mute of {condition} would end"),
        (true, false) => format!("{condition} is no longer muted: its next alert is delivered"),
    };
    Ok(console.end(
        &line,
        json!({ "condition": condition, "was_muted": is_muted }),
    )?)
}

/// The condition of an alert, or one that is named itself.
fn condition(installation: &Installation, id: &str) -> Result<String, Error> {
    let alerts = HostAlerts::read(installation, Utc::now());
    if let Some(alert) = alerts.find(id) {
        return Ok(alert.condition.clone());
    }
    // A condition that has not alerted yet, before work that will cause it.
    let known = known_conditions(installation);
    if known.iter().any(|condition| condition == id) {
        return Ok(id.to_owned());
    }
    if !id.contains('/') {
        return Err(unknown(installation, &alerts, id));
    }
    Err(Error::refused(format!(
        "no watchdog of {} has the condition `{}`{}; the conditions are {}",
        alerts.host,
        UntrustedText::bounded(id, 100),
        did_you_mean(id, known.iter().map(String::as_str)),
        known.join(", ")
    )))
}

/// The conditions that the watchdogs of the host can alert about.
fn known_conditions(installation: &Installation) -> Vec<String> {
    let mut known = Vec::new();
    for name in watchdogs(installation) {
        let check = installation.fleet.watch[name].check(name);
        let keys = sanctum_watch::conditions(check.as_str());
        known.extend(keys.map(|key| format!("{name}/{key}")));
    }
    known
}

/// The error for an id that no alert has.
pub(super) fn unknown(installation: &Installation, alerts: &HostAlerts, id: &str) -> Error {
    Error::refused(format!(
        "no alert of {} has the id `{}`{}; to see all: {}",
        alerts.host,
        UntrustedText::bounded(id, 100),
        did_you_mean(id, alerts.ids()),
        installation.typed("alert list")
    ))
}
