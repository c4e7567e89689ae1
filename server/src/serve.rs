//! The life of a server: listen, load, serve, drain, end.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sanctum_config::{ListenAddress, ModelId, logging};
use sanctum_engine::launch::{LaunchError, LaunchOptions, Launched, launch};
use sanctum_engine::load::LoadError;
use sanctum_manifest::Verified;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::api::body::BodyLimit;
use crate::api::{AppState, router};
use crate::banner::banner;
use crate::failure::CommandFailure;
use crate::gate::Gate;
use crate::listen::{Endpoint, HttpServer, Listeners, Transport};
use crate::metrics::Metrics;
use crate::models::{AdapterSwaps, ModelSpec, Models, Ready};
use crate::offload::file_work;
use crate::power;
use crate::prepare::PreparationQueue;
use crate::progress::loading_bar;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::thread_priority;
use crate::tls::TlsServer;

/// How long clients may take to read the end of their responses, once their requests are cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// How long after the drain limit a server that was stopped by a signal may still run: longer than all that it waits for
/// then, and shorter than launchd waits (`ExitTimeOut`, 15 s after the limit).
const EXIT_LIMIT: Duration = Duration::from_secs(12);

/// How often the log shows the progress of loading.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

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

    let ids = settings.models.iter().map(|model| model.id.clone());
    let models = Arc::new(Models::new(ids));
    let swaps = AdapterSwaps::new(
        models.clone(),
        &settings.models,
        settings.options.clone(),
        settings.adapters.clone(),
        shutdown.clone(),
    );
    let app = Arc::new(AppState {
        models,
        swaps,
        bodies: BodyLimit::default(),
        preparing: PreparationQueue::start()?,
        metrics,
        shutdown: shutdown.clone(),
        gate: Arc::new(gate),
    });
    let counting = app.metrics.clone();
    tokio::spawn(async move { counting.upkeep().await });
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
) -> Result<(Vec<Endpoint>, JoinSet<()>), CommandFailure> {
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

/// Loads one model after the other, on a thread of its own: reading weights blocks, and a process that is stopped
/// does not wait for it. When all are loaded, verified files are checked for changes again.
async fn load_all(
    models: Arc<Models>,
    specs: Vec<ModelSpec>,
    options: LaunchOptions,
) -> Result<(), CommandFailure> {
    let (done, loaded) = oneshot::channel();
    let load = move || {
        thread_priority::lower();
        let load = |spec| load_one(&models, spec, &options);
        let verified: Result<Vec<_>, _> = specs.iter().map(load).collect();
        let _ = done.send(verified.and_then(unchanged));
    };
    std::thread::Builder::new()
        .name("load".into())
        .spawn(load)?;
    loaded.await.unwrap_or(Err(CommandFailure::LoaderDied))
}

fn load_one(
    models: &Models,
    spec: &ModelSpec,
    options: &LaunchOptions,
) -> Result<Option<(ModelId, Verified)>, CommandFailure> {
    let ModelSpec {
        id,
        source,
        adapter,
    } = spec;
    let failed = |source: LaunchError| CommandFailure::Load {
        id: id.clone(),
        source: Box::new(source),
    };
    let began = Instant::now();
    let mut reported = began;
    let Some(served) = models.iter().find(|served| served.id() == id) else {
        return Ok(None);
    };
    tracing::info!(model = %id, from = %source, "loading");
    let heartbeat = served.heartbeat().clone();
    let bar = loading_bar(id.as_str());
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        if bar.is_hidden() && reported.elapsed() >= PROGRESS_EVERY {
            reported = Instant::now();
            let percent = done * 100 / total.max(1);
            tracing::info!(model = %id, percent, "loading");
        }
    };
    let launched = launch(source, adapter.as_ref(), options, heartbeat, progress);
    bar.finish_and_clear();
    let mut launched = launched.map_err(failed)?;
    let verified = launched.verified.take();
    if let Some(verified) = &verified {
        tracing::info!(
            model = %id,
            manifest = %verified.manifest_path().display(),
            files = verified.manifest().files().len(),
            bytes = verified.bytes(),
            signed_by = verified.signed_by().map(ToString::to_string),
            "verified"
        );
    }
    let Launched {
        engine,
        fingerprint,
        ..
    } = &launched;
    let limits = engine.limits();
    tracing::info!(
        model = %id,
        seconds = began.elapsed().as_secs_f64(),
        context = limits.context,
        slots = limits.slots,
        kv_cache = %engine.admission().cost.kv_cache,
        fingerprint,
        "loaded"
    );
    served.loaded(Ready::new(launched));
    Ok(verified.map(|verified| (id.clone(), verified)))
}

/// The last check before the sockets are opened: no verified file may have changed since it was opened.
fn unchanged(verified: Vec<Option<(ModelId, Verified)>>) -> Result<(), CommandFailure> {
    verified
        .into_iter()
        .flatten()
        .try_for_each(|(id, verified)| {
            verified.unchanged().map_err(|error| CommandFailure::Load {
                id,
                source: Box::new(LoadError::from(error).into()),
            })
        })
}

/// Reports that the server is ready: a log line for programs, a banner for people.
fn announce(endpoints: &[Endpoint], app: &AppState, token: Option<&str>) -> io::Result<()> {
    let models: Vec<&ModelId> = app.models.iter().map(|served| served.id()).collect();
    for address in endpoints {
        tracing::info!(%address, "ready");
    }
    let mut out = io::stdout();
    if out.is_terminal() {
        out.write_all(banner(endpoints, &models, token).as_bytes())?;
        out.flush()?;
    }
    Ok(())
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

/// The first SIGTERM or SIGINT drains, the second ends the process at once. They are handled on a thread and a runtime
/// of their own, so that they take effect whatever the threads that serve are doing. A server that has not ended some time
/// after its drain limit is ended too.
fn stop_on_signals(shutdown: Shutdown, drain: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    drop(inside);
    let handle = async move {
        let mut code = tokio::select! {
            _ = term.recv() => 143,
            _ = int.recv() => 130,
        };
        shutdown.drain();
        tokio::select! {
            _ = term.recv() => code = 143,
            _ = int.recv() => code = 130,
            () = tokio::time::sleep(drain + EXIT_LIMIT) => {
                tracing::error!("the server has not ended although its drain limit has passed: stopped at once");
                logging::finish();
                std::process::exit(code);
            }
        }
        tracing::warn!("stopped at once by a second signal");
        logging::finish();
        std::process::exit(code);
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(handle))?;
    Ok(())
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
