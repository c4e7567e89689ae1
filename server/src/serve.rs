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

use crate::api::{self, App};
use crate::banner::banner;
use crate::failure::Failure;
use crate::gate::Gate;
use crate::listen::{Door, Endpoint, Listeners, Site};
use crate::metrics::Metrics;
use crate::models::{Models, Ready};
use crate::offload::file_work;
use crate::power;
use crate::prepare::Preparing;
use crate::progress::loading_bar;
use crate::settings::{ModelSettings, Settings};
use crate::shutdown::Shutdown;
use crate::swaps::Swaps;
use crate::tls::Tls;

/// How long clients may take to read what was sent to them last, once their requests are cancelled.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long after the drain limit a server that was asked to stop may still run: longer than all that it waits for
/// then, and shorter than launchd waits (`ExitTimeOut`, 15 s after the limit).
const BEYOND_DRAIN: Duration = Duration::from_secs(12);

/// How often loading says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Serves until a signal asks it to stop, or the engine dies.
pub async fn serve(
    settings: Settings,
    gate: Gate,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
) -> Result<(), Failure> {
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
    let app = Arc::new(App {
        models: Models::new(ids),
        swaps: Swaps::new(&settings),
        preparing: Preparing::start()?,
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
    let site = Site::new(
        api::router(app.clone()),
        shutdown.clone(),
        app.metrics.clone(),
        settings.max_connections,
    );

    let doors = doors(&settings, tls.as_ref());
    let gate = app.gate.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (gate, tls) = (gate.clone(), tls.clone());
            let work = move || reload(&gate, tls.as_deref());
            file_work("what SIGHUP reads again", work).await;
        }
    });
    // The sockets come first: a port that is taken should be known before minutes are spent on loading. While the
    // models load, /health says so and requests for those that are not loaded yet get a 503. Where a manifest says
    // what the weights must be, nothing listens before the verdict.
    let verdict_first = settings
        .models
        .iter()
        .any(|model| model.source.is_verified());
    let mut open = None;
    if !verdict_first {
        open = Some(listen(doors.clone(), &site).await?);
    }
    let loading = load_all(
        app.clone(),
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
                finish(connections, GOODBYE).await;
            }
            return Err(failure);
        }
    }
    let (endpoints, mut connections) = match open {
        Some(open) => open,
        None => listen(doors, &site).await?,
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
            finish(&mut connections, GOODBYE).await;
            Err(failure)
        }
    }
}

/// Opens the sockets and serves on them. Returns where they listen, and the connections.
async fn listen(
    doors: Vec<(ListenAddress, Door)>,
    site: &Site,
) -> Result<(Vec<Endpoint>, JoinSet<()>), Failure> {
    let listeners = Listeners::open(doors).await?;
    let endpoints = listeners.endpoints()?;
    Ok((endpoints, listeners.serve(site)))
}

/// SIGHUP: reads again what is read from files while the server runs, whether the files seem to have changed or not.
fn reload(gate: &Gate, tls: Option<&Tls>) {
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

/// What SIGHUP reports where files could not be used.
fn reload_failure(failed: &[&str]) -> Option<String> {
    (!failed.is_empty()).then(|| {
        format!(
            "SIGHUP: cannot use {}: what was read before stays in force; see the errors above, fix the files and send \
             SIGHUP again",
            failed.join(" and ")
        )
    })
}

/// Where one enters, and how: plain listeners first.
fn doors(settings: &Settings, tls: Option<&Arc<Tls>>) -> Vec<(ListenAddress, Door)> {
    let plain = settings
        .listen
        .iter()
        .map(|address| (address.clone(), Door::Plain));
    let mut doors: Vec<_> = plain.collect();
    if let (Some(settings), Some(tls)) = (&settings.tls, tls) {
        let secure = |address: &ListenAddress| (address.clone(), Door::Tls(tls.clone()));
        doors.extend(settings.listen.iter().map(secure));
    }
    doors
}

/// Loads one model after the other, on a thread of its own: reading weights blocks, and a process that is asked to
/// stop does not wait for it. When all are loaded, those that were verified are looked at once more.
async fn load_all(
    app: Arc<App>,
    models: Vec<ModelSettings>,
    options: LaunchOptions,
) -> Result<(), Failure> {
    let (done, loaded) = oneshot::channel();
    let load = move || {
        yield_to_http();
        let load = |model| load_one(&app, model, &options);
        let verified: Result<Vec<_>, _> = models.iter().map(load).collect();
        let _ = done.send(verified.and_then(unchanged));
    };
    std::thread::Builder::new()
        .name("load".into())
        .spawn(load)?;
    loaded.await.unwrap_or(Err(Failure::LoaderDied))
}

/// Lets the threads that answer HTTP go before those that compute, which inherit the priority of this one. All cores
/// compute all the time, and without this an answer of microseconds waits for a time slice of milliseconds (measured
/// on two saturated cores: /health p99 from 4.5 ms to 0.3 ms).
#[cfg(target_os = "linux")]
pub fn yield_to_http() {
    // On Linux niceness belongs to a thread, not to the process.
    if let Err(error) = rustix::process::nice(5) {
        tracing::debug!(%error, "the engine keeps the priority of the rest");
    }
}

/// Elsewhere niceness belongs to the process, and the schedulers favour threads that mostly wait.
#[cfg(not(target_os = "linux"))]
pub fn yield_to_http() {}

fn load_one(
    app: &App,
    model: &ModelSettings,
    options: &LaunchOptions,
) -> Result<Option<(ModelId, Verified)>, Failure> {
    let ModelSettings {
        id,
        source,
        adapter,
    } = model;
    let failed = |source: LaunchError| Failure::Load {
        id: id.clone(),
        source: Box::new(source),
    };
    let began = Instant::now();
    let mut said = began;
    let Some(served) = app.models.iter().find(|served| served.id() == id) else {
        return Ok(None);
    };
    tracing::info!(model = %id, from = %source, "loading");
    let heartbeat = served.heartbeat().clone();
    let bar = loading_bar(id.as_str());
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        if bar.is_hidden() && said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let percent = done * 100 / total.max(1);
            tracing::info!(model = %id, percent, "loading");
        }
    };
    let launched = launch(source, adapter.as_ref(), options, heartbeat, progress);
    bar.finish_and_clear();
    let Launched {
        engine,
        fingerprint,
        adapter,
        memory,
        verified,
    } = launched.map_err(failed)?;
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
    served.loaded(Ready {
        engine,
        fingerprint,
        created: api::now(),
        adapter,
        memory,
    });
    Ok(verified.map(|verified| (id.clone(), verified)))
}

/// The last look before the sockets are opened: no verified file may have changed since it was opened.
fn unchanged(verified: Vec<Option<(ModelId, Verified)>>) -> Result<(), Failure> {
    verified
        .into_iter()
        .flatten()
        .try_for_each(|(id, verified)| {
            verified.unchanged().map_err(|error| Failure::Load {
                id,
                source: Box::new(LoadError::from(error).into()),
            })
        })
}

/// Says that the server is ready: a log line for programs, a banner for people.
fn announce(endpoints: &[Endpoint], app: &App, token: Option<&str>) -> io::Result<()> {
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

/// Waits until the first engine dies, of those that run already and of those that will.
async fn death(app: &Arc<App>) -> Failure {
    let mut lives = JoinSet::new();
    for index in 0..app.models.iter().count() {
        let app = app.clone();
        lives.spawn(async move {
            let Some(served) = app.models.iter().nth(index) else {
                return std::future::pending().await;
            };
            let reason = served.death().await;
            let id = served.id().clone();
            Failure::EngineDied { id, reason }
        });
    }
    match lives.join_next().await {
        Some(Ok(failure)) => failure,
        // Without an engine that can die there is nothing to wait for.
        _ => std::future::pending().await,
    }
}

/// Lets running requests finish until `limit`, then ends them.
async fn drain(app: &App, connections: &mut JoinSet<()>, limit: Duration) {
    app.models.engines().for_each(|engine| engine.drain());
    tracing::info!(
        seconds = limit.as_secs(),
        "stopping: running requests may finish"
    );
    if finish(connections, limit).await {
        replaced(app).await;
        tracing::info!("stopped");
        return;
    }
    tracing::warn!("the drain limit has passed: running requests are cancelled");
    app.shutdown.cancel();
    finish(connections, GOODBYE).await;
    replaced(app).await;
    tracing::info!("stopped");
}

/// Waits for a swap that is under way and for replaced engines that are idle, so that the process does not exit while they
/// load a model or free memory. It exits anyway if they take longer than [`GOODBYE`].
async fn replaced(app: &App) {
    let gone = async {
        app.swaps.over().await;
        for served in app.models.iter() {
            served.settled().await;
        }
    };
    let _ = tokio::time::timeout(GOODBYE, gone).await;
}

/// Waits for the last connection to close, for so long; whether it did.
async fn finish(connections: &mut JoinSet<()>, limit: Duration) -> bool {
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(limit, all).await.is_ok()
}

/// The first SIGTERM or SIGINT drains, the second ends the process at once. They are handled on a thread and a runtime
/// of their own, so that they are obeyed whatever the threads that serve are doing; a server that has not ended well
/// after its drain limit is ended too.
fn stop_on_signals(shutdown: Shutdown, drain: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    drop(inside);
    let obey = async move {
        let mut code = tokio::select! {
            _ = term.recv() => 143,
            _ = int.recv() => 130,
        };
        shutdown.drain();
        tokio::select! {
            _ = term.recv() => code = 143,
            _ = int.recv() => code = 130,
            () = tokio::time::sleep(drain + BEYOND_DRAIN) => {
                tracing::error!("the server does not end although its drain limit has passed: stopped at once");
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
        .spawn(move || runtime.block_on(obey))?;
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
