//! Runs the page until a signal ends it.

use std::sync::Arc;

use sanctum_config::logging::{self, Destination};
use sanctum_config::{Label, atomic};
use sanctum_host::Installation;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::history::FleetHistory;
use super::view::FleetView;
use super::{PageSettings, http, observer};
use crate::Error;
use crate::console::Console;
use crate::status::shown_hosts;

/// Serves the page of these hosts (`only` one, else all) until SIGTERM or SIGINT.
///
/// # Errors
/// If the address cannot be listened on, or the system has no thread.
pub(crate) fn serve(
    installation: Installation,
    here: Option<Label>,
    only: Option<&Label>,
    settings: PageSettings,
    console: &mut Console,
) -> Result<(), Error> {
    let destination = Destination::of(settings.log_file.as_deref(), Some(&installation.file));
    logging::start(destination, None, None).map_err(|error| Error::refused(error.to_string()))?;
    let served = run(installation, here, only, &settings, console);
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    logging::finish();
    served
}

fn run(
    installation: Installation,
    here: Option<Label>,
    only: Option<&Label>,
    settings: &PageSettings,
    console: &mut Console,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| system(&error))?;
    let done = runtime.block_on(async {
        let listener = TcpListener::bind(settings.address)
            .await
            .map_err(|error| not_bound(settings, &error))?;
        let address = listener.local_addr().map_err(|error| system(&error))?;
        let view = start(installation, here, only, settings)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| system(&error))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| system(&error))?;
        tracing::info!(address = %format!("http://{address}"), "serving the fleet page");
        if settings.log_file.is_none() {
            let line = format!("the fleet page is at http://{address}; Ctrl-C ends it");
            console.end(&line, json!({ "url": format!("http://{address}") }))?;
            console.raw().flush()?;
        }
        tokio::select! {
            never = http::accept(listener, view) => match never {},
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopped");
        Ok(())
    });
    runtime.shutdown_background();
    done
}

/// Starts the threads that observe the hosts and record the history.
fn start(
    installation: Installation,
    here: Option<Label>,
    only: Option<&Label>,
    settings: &PageSettings,
) -> Result<Arc<FleetView>, Error> {
    let path = installation.home.page_history();
    if let Some(folder) = path.parent()
        && let Err(error) = atomic::sweep(folder)
    {
        tracing::warn!("cannot sweep {}: {error}", folder.display());
    }
    let now = chrono::Utc::now();
    let history = FleetHistory::open(&path, now);
    let fleet = installation.fleet.clone();
    let hosts = shown_hosts(&fleet, only);
    let view = FleetView::new(
        fleet.clone(),
        here.clone(),
        settings.every,
        hosts.iter().copied(),
    );
    let view = Arc::new(view);
    view.show_history(&history, &Default::default(), now);
    let mut installation = installation;
    if let Some(here) = &here {
        // The command line may name another host, to show that one only.
        installation.host = here.clone();
    }
    let installation = Arc::new(installation);
    for host in hosts {
        let is_here = here.as_ref() == Some(host);
        observer::observe(&view, &installation, host, is_here, settings.every)
            .map_err(|error| system(&error))?;
    }
    observer::record(&view, history, settings.every).map_err(|error| system(&error))?;
    Ok(view)
}

fn not_bound(settings: &PageSettings, error: &std::io::Error) -> Error {
    let address = settings.address;
    Error::refused(match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: another program does, perhaps another fleet page (open http://{address}); for any free \
             port: sanctum-launchd status --serve 127.0.0.1:0"
        ),
        _ => format!(
            "cannot listen on {address}: {error}; write another loopback address after --serve"
        ),
    })
}

fn system(error: &std::io::Error) -> Error {
    Error::refused(format!(
        "the system refuses what a fleet page needs: {error}"
    ))
}
