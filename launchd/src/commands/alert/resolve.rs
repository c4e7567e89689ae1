//! `alert resolve`: asks a watchdog to close one of its conditions.

use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use sanctum_host::Installation;
use sanctum_watch::WatchdogState;
use sanctum_watch::alert::ResolveRequest;
use serde_json::json;

use super::mute::unknown;
use super::place::{operator, reason};
use crate::Error;
use crate::args::ResolveArgs;
use crate::console::Console;
use crate::host_alerts::HostAlerts;

/// How long to wait for the watchdog.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it.
pub(super) fn run(
    installation: &Installation,
    options: &ResolveArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let alerts = HostAlerts::read(installation, Utc::now());
    let id = &options.id;
    let Some(alert) = alerts.find(id) else {
        return Err(unknown(installation, &alerts, id));
    };
    if !alert.is_open {
        return Err(Error::refused(format!(
            "the alert `{}` is not open: there is nothing to close",
            alert.id
        )));
    }
    let request = ResolveRequest {
        agent: alert.watchdog.clone(),
        id: alert.id.clone(),
        by: operator(),
        why: reason(options.why.as_deref()),
        at: Utc::now(),
    };
    let page = json!({ "request": request });
    if console.dry_run {
        let line = format!("{} would be asked to close {}", alert.watchdog, alert.id);
        return Ok(console.end(&line, page)?);
    }
    let folder = installation.home.resolve_requests();
    request.write(&folder)?;
    // It looks for requests in every round, and at once when it gets this signal.
    let label = installation.fleet.launchd_label(&alert.watchdog);
    let woken = installation.launchctl.signal(&label, "SIGUSR1");
    let closed = woken.is_ok() && wait(&request, installation);
    let line = match (closed, &woken) {
        (true, _) => format!(
            "{} has closed {}; it alerts again if it recurs",
            alert.watchdog, alert.id
        ),
        (false, Ok(())) => format!(
            "the request is recorded; {} closes {} when its present check has finished",
            alert.watchdog, alert.id
        ),
        (false, Err(error)) => format!(
            "the request is recorded, and {} does not run ({error}): it closes {} when it is started",
            alert.watchdog, alert.id
        ),
    };
    let mut page = page;
    page["closed"] = closed.into();
    Ok(console.end(&line, page)?)
}

/// Waits until the watchdog has handled the request and the condition is closed.
fn wait(request: &ResolveRequest, installation: &Installation) -> bool {
    let begun = Instant::now();
    let state = installation.home.watch_state(&request.agent);
    while request.is_pending(&installation.home.resolve_requests()) {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let state = WatchdogState::read(&state).ok().flatten();
    state.is_none_or(|state| state.open.values().all(|open| open.id != request.id))
}
