//! The life of a server: listen, load, serve, drain, end.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use sanctum_config::{ListenAddress, ModelId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::api::body::BodyLimit;
use crate::api::{AppState, ResponseStore, router};
use crate::banner::{banner, console_url};
use crate::failure::CommandFailure;
use crate::front::Fronts;
use crate::gate::Gate;
use crate::listen::{BoundAddress, HttpServer, Listeners, Transport};
use crate::loading::load_all;
use crate::metrics::Metrics;
use crate::models::{AdapterSwaps, Models};
use crate::offload::file_work;
use crate::power;
use crate::prepare::PreparationQueue;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::signals::stop_on_signals;
use crate::tls::TlsServer;

/// How long clients may take to read the end of their responses, once their requests are cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Serves until a signal stops it, or an engine dies.
///
/// # Errors
/// If the server cannot start, or an engine dies.
pub(crate) async fn serve(
    settings: Settings,
    gate: Gate,
    tls: Option<Arc<TlsServer>>,
    metrics: Arc<Metrics>,
) -> Result<(), CommandFailure> {
    if let Some(wired) = settings.options.memory.wired {
        tracing::warn!(
            wired_mib = wired >> 20,
            "a limit on wired memory is set. Public reports tie kernel panics of Macs (`completeMemory() prepare count \
             underflow @IOGPUMemory.cpp`) to such limits with concurrent requests. Unless you need it, remove \
             --metal-wired-limit-mb, or `wired_limit_mb` from fleet.toml"
        );
    }
    let shutdown = Shutdown::new();
    stop_on_signals(shutdown.clone(), settings.drain)?;
    let mut hangup = signal(SignalKind::hangup())?;

    let named = settings.models.iter();
    let named = named.map(|model| (model.id.clone(), model.aliases.clone()));
    let elsewhere = settings.fronts.iter().filter(|front| !front.is_local);
    let models = Models::new(named.clone(), settings.any_model);
    let models = Arc::new(models.beside(elsewhere.map(|front| front.id.clone())));
    let fronts = Fronts::new(settings.fronts.clone(), named, settings.any_model);
    fronts.start();
    let swaps = AdapterSwaps::new(
        models.clone(),
        &settings.models,
        settings.options.clone(),
        settings.adapters.clone(),
        shutdown.clone(),
    );
    let app = Arc::new(AppState {
        models,
        fronts,
        swaps,
        sharing: settings.sharing,
        bodies: BodyLimit::default(),
        responses: ResponseStore::default(),
        threads: ResponseStore::default(),
        preparing: PreparationQueue::start()?,
        metrics,
        shutdown: shutdown.clone(),
        gate: Arc::new(gate),
        strict_fields: settings.strict_fields,
    });
    let counting = app.metrics.clone();
    tokio::spawn(async move { counting.upkeep().await });
    tokio::spawn(app.responses.clone().upkeep());
    tokio::spawn(app.threads.clone().upkeep());
    let gate = app.gate.clone();
    if settings.keep_awake {
        tokio::spawn(power::keep_awake(gate.running_requests()));
    }
    tokio::spawn(async move { gate.watch().await });
    if let Some(tls) = tls.clone() {
        tokio::spawn(async move { tls.follow().await });
    }
    let server = HttpServer::new(
        router(app.clone()),
        shutdown.clone(),
        app.metrics.clone(),
        app.gate.refusals().clone(),
        settings.max_connections,
    );

    let addresses = addresses(&settings, tls.as_ref());
    let gate = app.gate.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (gate, tls) = (gate.clone(), tls.clone());
            let work = move || reload(&gate, tls.as_deref());
            file_work("the token and TLS files", work).await;
        }
    });
    // The sockets come first: a port that is in use should be reported before minutes are spent on loading. While the
    // models load, /health reports it and requests for those that are not loaded yet get a 503. Where a manifest must match
    // the weights, nothing listens before it is verified.
    let verify_first = settings
        .models
        .iter()
        .any(|model| model.source.is_verified());
    let mut open = None;
    if !verify_first {
        open = Some(listen(addresses.clone(), &server).await?);
    }
    let loading = load_all(
        app.models.clone(),
        settings.models.clone(),
        settings.options.clone(),
    );
    let mut death = std::pin::pin!(death(&app));
    // Models that are loaded are served while others still load.
    tokio::select! {
        loaded = loading => loaded?,
        () = shutdown.draining() => {
            if let Some((_, connections)) = &mut open {
                drain(&app, connections, settings.drain).await;
            }
            return Ok(());
        }
        failure = &mut death => {
            shutdown.cancel();
            if let Some((_, connections)) = &mut open {
                finish(connections, CANCEL_LIMIT).await;
            }
            return Err(failure);
        }
    }
    let (endpoints, mut connections) = match open {
        Some(open) => open,
        None => listen(addresses, &server).await?,
    };
    announce(&endpoints, &app, settings.rules.token_of_loopback())?;

    let stopping = async {
        shutdown.draining().await;
        drain(&app, &mut connections, settings.drain).await;
    };
    tokio::select! {
        () = stopping => Ok(()),
        failure = &mut death => {
            shutdown.cancel();
            finish(&mut connections, CANCEL_LIMIT).await;
            Err(failure)
        }
    }
}

/// Opens the sockets and serves on them. Returns their endpoints and the tasks of the listeners.
async fn listen(
    addresses: Vec<(ListenAddress, Transport)>,
    server: &HttpServer,
) -> Result<(Vec<BoundAddress>, JoinSet<()>), CommandFailure> {
    let listeners = Listeners::open(addresses).await?;
    let endpoints = listeners.endpoints()?;
    Ok((endpoints, listeners.serve(server)))
}

/// SIGHUP: reads the token and TLS files again, whether they seem to have changed or not.
fn reload(gate: &Gate, tls: Option<&TlsServer>) {
    let mut failed = Vec::new();
    if !gate.reload() {
        failed.push("the token file");
    }
    if tls.is_some_and(|tls| !tls.reload()) {
        failed.push("the TLS files");
    }
    match reload_failure(&failed) {
        None => tracing::info!(
            "SIGHUP: token and TLS files were read again; fleet.toml and flags need a restart"
        ),
        Some(failure) => tracing::error!("{failure}"),
    }
}

/// The error of SIGHUP where files cannot be used.
fn reload_failure(failed: &[&str]) -> Option<String> {
    (!failed.is_empty()).then(|| {
        format!(
            "SIGHUP: cannot use {}: what was read before stays in force; see the errors above, fix the files and send \
             SIGHUP again",
            failed.join(" and ")
        )
    })
}

/// The addresses to listen on: plain ones first.
fn addresses(settings: &Settings, tls: Option<&Arc<TlsServer>>) -> Vec<(ListenAddress, Transport)> {
    let plain = settings
        .listen
        .iter()
        .map(|address| (address.clone(), Transport::Plain));
    let mut addresses: Vec<_> = plain.collect();
    if let (Some(settings), Some(tls)) = (&settings.tls, tls) {
        let secure = |address: &ListenAddress| (address.clone(), Transport::Tls(tls.clone()));
        addresses.extend(settings.listen.iter().map(secure));
    }
    addresses
}

/// Reports that the server is ready: a log line for programs, a banner for people.
fn announce(endpoints: &[BoundAddress], app: &AppState, token: Option<&str>) -> io::Result<()> {
    let local = app.models.iter().map(|served| served.id());
    let elsewhere = app.fronts.iter().filter(|model| !model.is_local);
    let models: Vec<&ModelId> = local.chain(elsewhere.map(|model| &model.id)).collect();
    warn_of_loops(endpoints, app);
    for address in endpoints {
        tracing::info!(%address, console = %console_url(address), "ready");
    }
    let mut out = io::stdout();
    if out.is_terminal() {
        out.write_all(banner(endpoints, &models, token).as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Warns of upstreams that are this server itself. Longer loops are noticed by the requests that come back.
fn warn_of_loops(endpoints: &[BoundAddress], app: &AppState) {
    for model in app.fronts.iter() {
        for upstream in &model.upstreams {
            let spec = &upstream.spec;
            if endpoints.iter().any(|bound| spec.is_at(bound.address)) {
                tracing::warn!(
                    model = %model.id,
                    upstream = %spec.name,
                    url = %spec.base,
                    "an upstream is this server itself, and answers no request of this model; remove it from its `upstreams`"
                );
            }
        }
    }
}

/// Waits until the first engine dies, of those that run and of those that will.
async fn death(app: &Arc<AppState>) -> CommandFailure {
    let mut lives = JoinSet::new();
    for index in 0..app.models.iter().count() {
        let app = app.clone();
        lives.spawn(async move {
            let Some(served) = app.models.iter().nth(index) else {
                return std::future::pending().await;
            };
            let reason = served.death().await;
            let id = served.id().clone();
            CommandFailure::EngineDied { id, reason }
        });
    }
    match lives.join_next().await {
        Some(Ok(failure)) => failure,
        // Without an engine that can die there is nothing to wait for.
        _ => std::future::pending().await,
    }
}

/// Lets running requests finish until `limit`, then cancels them.
async fn drain(app: &AppState, connections: &mut JoinSet<()>, limit: Duration) {
    app.models.engines().for_each(|engine| engine.drain());
    tracing::info!(
        seconds = limit.as_secs(),
        "stopping: running requests may finish"
    );
    if finish(connections, limit).await {
        wait_for_replaced(app).await;
        tracing::info!("stopped");
        return;
    }
    tracing::warn!("the drain limit has passed: running requests are cancelled");
    app.shutdown.cancel();
    finish(connections, CANCEL_LIMIT).await;
    wait_for_replaced(app).await;
    tracing::info!("stopped");
}

/// Waits for a running swap and for replaced engines that are idle, so that the process does not exit while they load a
/// model or free memory. It exits anyway if they take longer than [`CANCEL_LIMIT`].
async fn wait_for_replaced(app: &AppState) {
    let gone = async {
        app.swaps.settled().await;
        for served in app.models.iter() {
            served.settled().await;
        }
    };
    let _ = tokio::time::timeout(CANCEL_LIMIT, gone).await;
}

/// Waits until the last connection is closed, at most for `limit`. Returns whether it is.
async fn finish(connections: &mut JoinSet<()>, limit: Duration) -> bool {
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(limit, all).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_names_the_files_that_cannot_be_used() {
        assert_eq!(reload_failure(&[]), None);
        let failure = reload_failure(&["the token file", "the TLS files"]).unwrap();
        assert!(failure.contains("cannot use the token file and the TLS files"));
    }
}
