//! Observing hosts in the background, each in its own thread, and recording the history.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use sanctum_config::Label;
use sanctum_host::{Installation, ssh};

use super::history::FleetHistory;
use super::settings::OBSERVATION_LIMIT;
use super::view::{FleetView, HostObservation};
use crate::host_alerts::HostAlerts;
use crate::status::{self, HostStatus, ssh_destination};

/// The past alerts of each host that the page shows.
const RECENT: usize = 100;

/// Starts a thread that observes `host` at once and then after each `every`, until the process ends. A host that fleet.toml
/// gives no way to ask is noted as such.
pub(super) fn observe(
    view: &Arc<FleetView>,
    installation: &Arc<Installation>,
    host: &Label,
    is_here: bool,
    every: Duration,
) -> std::io::Result<()> {
    if let (false, Err(reason)) = (is_here, ssh_destination(&installation.fleet, host)) {
        view.not_asked(host, reason);
        return Ok(());
    }
    let (view, installation, host) = (Arc::clone(view), Arc::clone(installation), host.clone());
    let thread = std::thread::Builder::new().name(format!("observe {host}"));
    thread.spawn(move || {
        loop {
            let result = match is_here {
                true => this_host(&installation),
                false => another_host(&installation, &host),
            };
            view.observed(&host, Utc::now(), result);
            std::thread::sleep(every);
        }
    })?;
    Ok(())
}

fn this_host(installation: &Installation) -> Result<HostObservation, String> {
    let now = Utc::now();
    let status = status::this_host(installation, now).map_err(|error| error.to_string())?;
    let mut alerts = HostAlerts::read(installation, now);
    alerts.recent.truncate(RECENT);
    Ok(HostObservation {
        status: status.escaped(),
        alerts: alerts.escaped(),
    })
}

fn another_host(installation: &Installation, host: &Label) -> Result<HostObservation, String> {
    let destination = ssh_destination(&installation.fleet, host)?;
    let recent = format!("alert list --recent {RECENT}");
    let commands = ["status --local", recent.as_str()];
    let fleet = &installation.fleet;
    let [status, alerts] = ssh::ask_launchd_for(fleet, destination, commands, OBSERVATION_LIMIT)?;
    let alerts = serde_json::from_value(alerts)
        .map_err(|error| format!("its sanctum-launchd is of another version: {error}"))?;
    Ok(HostObservation {
        status: HostStatus::from_answer(&status)?,
        alerts,
    })
}

/// Starts the thread that records the history: what the view shows after each `every`.
pub(super) fn record(
    view: &Arc<FleetView>,
    mut history: FleetHistory,
    every: Duration,
) -> std::io::Result<()> {
    let view = Arc::clone(view);
    let thread = std::thread::Builder::new().name("history".to_owned());
    thread.spawn(move || {
        loop {
            std::thread::sleep(every);
            let now = Utc::now();
            let samples = view.samples(now);
            history.record(now, &samples, |history| {
                view.show_history(history, &samples, now)
            });
        }
    })?;
    Ok(())
}
