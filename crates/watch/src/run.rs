//! A watchdog's `main`: read fleet.toml, make the check, and run the loop until a signal ends it.

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use sanctum_config::logging::{self, Destination};
use sanctum_config::{FileLock, Label, RecordError, atomic, terminal_json};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::alert::{Outbox, undelivered};
use crate::args::Args;
use crate::check::{Check, Round};
use crate::config::WatchdogConfig;
use crate::error::MainError;
use crate::first_cause::FirstCause;
use crate::heartbeat_url::HeartbeatUrl;
use crate::policy::Policy;
use crate::schedule::{BadSchedule, Schedule};
use crate::section::check_section;
use crate::server_log::ServerLog;
use crate::state::WatchdogState;
use crate::verdict::VerdictKind;
use crate::watchdog::{Watchdog, check_within_limit};

/// Runs a watchdog. `own` is the name of its check; `make` makes the check, or returns what is wrong in its section.
pub fn main<C: Check>(
    args: &Args,
    own: &str,
    make: impl FnOnce(&WatchdogConfig) -> Result<C, String>,
) -> ExitCode {
    logged(args, own, || run(args, own, make))
}

/// Runs another command of a watchdog's program; `args.once` must be set. An error of `work` is logged, with exit code 1.
pub fn run_once(
    args: &Args,
    own: &str,
    work: impl AsyncFnOnce(&WatchdogConfig) -> Result<(), String>,
) -> ExitCode {
    logged(args, own, || {
        let own = own.parse().expect("a check's name is a label");
        let config = WatchdogConfig::read(args, &own)?;
        let done = runtime()?.block_on(work(&config));
        done.map(|()| ExitCode::SUCCESS).map_err(MainError::Work)
    })
}

fn logged(args: &Args, own: &str, run: impl FnOnce() -> Result<ExitCode, MainError>) -> ExitCode {
    let destination = Destination::of(args.log_file.as_deref(), Some(&args.config));
    let format = args.log_format.map(Into::into);
    if let Err(error) = logging::start(destination, format, args.log.as_deref()) {
        eprintln!("sanctum-{own}: {error}");
        return ExitCode::from(2);
    }
    let code = run().unwrap_or_else(|error| {
        tracing::error!("{error}");
        error.exit_code()
    });
    logging::finish();
    code
}

/// One thread: a watchdog waits most of the time, and should be small.
fn runtime() -> Result<Runtime, MainError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MainError::System)
}

fn run<C: Check>(
    args: &Args,
    own: &str,
    make: impl FnOnce(&WatchdogConfig) -> Result<C, String>,
) -> Result<ExitCode, MainError> {
    let own: Label = own.parse().expect("a check's name is a label");
    let config = WatchdogConfig::read(args, &own)?;
    let section = |why: String| MainError::Section {
        name: config.name.clone(),
        why,
    };
    check_section(&config.fleet, &config.config, &config.name).map_err(section)?;
    let runtime = runtime()?;
    if args.once {
        let mut check = make(&config).map_err(section)?;
        let code = runtime.block_on(once(&mut check, &config, args.json));
        runtime.shutdown_background();
        return Ok(code);
    }
    let schedule =
        Schedule::of(&config.watch).map_err(|error: BadSchedule| section(error.to_string()))?;
    let channels = config
        .channels()
        .map_err(|error| section(error.to_string()))?;
    let heartbeat_url = HeartbeatUrl::of(&config).map_err(section)?;
    let check = make(&config).map_err(section)?;
    let _lock = lock(&config)?;
    sweep(&config);
    let state_file = config.home.watch_state(&config.name);
    let state = match WatchdogState::read(&state_file) {
        Ok(state) => state,
        // Watching matters more than what was remembered.
        Err(error @ RecordError::Form { .. }) => {
            tracing::error!("{error}; this watchdog starts with an empty state");
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut watchdog = Watchdog {
        check,
        host: config.host.clone(),
        policy: Policy::of(&config.watch),
        schedule,
        state: state.unwrap_or_else(|| WatchdogState::new(config.name.clone(), Utc::now())),
        state_file,
        lease_file: config.home.lease(),
        window_file: config.home.window(),
        quiet_until: None,
        first_cause: FirstCause::of(&config),
        outbox: Outbox::new(config.home.spool(&config.name), channels)
            .recorded_in(&config.home, &config.name),
        resolve_folder: config.home.resolve_requests(),
        server_log: ServerLog::of(&config),
        heartbeat_url,
        commands: config.commands(),
        wake: Arc::default(),
    };
    let done = runtime.block_on(async {
        let wake = Arc::clone(&watchdog.wake);
        let stop = stop_signal(wake).map_err(MainError::System)?;
        tracing::info!(
            agent = %config.name,
            subject = watchdog.check.subject(),
            state = %watchdog.state_file.display(),
            "watching"
        );
        watchdog.run(stop).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    });
    // A name lookup that hangs does not delay the exit.
    runtime.shutdown_background();
    done
}

async fn once<C: Check>(check: &mut C, config: &WatchdogConfig, json: bool) -> ExitCode {
    let state = WatchdogState::read(&config.home.watch_state(&config.name)).unwrap_or_default();
    let (memory, misses) = state.map_or((Value::Null, 0), |state| (state.memory, state.misses));
    let now = Utc::now();
    let round = Round {
        now,
        memory: &memory,
        misses,
    };
    let report = check_within_limit(check, &round).await;
    let verdict = report.verdict;
    // The alerts of the installed watchdog of this name.
    let (waiting, unread) = match undelivered(&config.home.spool(&config.name)) {
        Ok(waiting) => (waiting, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if json {
        let mut page = json!(verdict);
        for (name, value) in report.details.fields.as_object().into_iter().flatten() {
            page[name] = value.clone();
        }
        page["agent"] = json!(config.name);
        page["host"] = json!(config.host);
        page["subject"] = json!(check.subject());
        page["undelivered"] = json!(waiting);
        if let Some(error) = unread {
            page["spool_error"] = json!(error);
        }
        println!("{}", terminal_json(&page.to_string()));
    } else {
        println!("{}: {}: {}", check.subject(), verdict.kind, verdict.message);
        for line in &report.details.lines {
            println!("{line}");
        }
        if !verdict.next.is_empty() {
            println!("next: {}", verdict.next);
        }
        for one in &waiting {
            println!("undelivered: {}", one.line(now));
        }
        if let Some(error) = unread {
            println!("undelivered: unknown: {error}");
        }
    }
    ExitCode::from(u8::from(verdict.kind == VerdictKind::Miss))
}

/// Locks the watchdog's name until this process ends: two loops under one name would count each miss twice.
fn lock(config: &WatchdogConfig) -> Result<FileLock, MainError> {
    let path = config.home.watch_state(&config.name).with_extension("lock");
    let failed = |source| MainError::Lock {
        path: path.clone(),
        source,
    };
    let lock = FileLock::take(&path, Duration::ZERO).map_err(failed)?;
    lock.ok_or_else(|| MainError::AlreadyRunning {
        name: config.name.clone(),
        path: path.clone(),
    })
}

/// Removes the half-written files of a watchdog that was killed.
fn sweep(config: &WatchdogConfig) {
    let state = config.home.watch_state(&config.name);
    let spool = config.home.spool(&config.name);
    let lease = config.home.lease();
    let folders = [state.parent(), Some(spool.as_path()), lease.parent()];
    for folder in folders.into_iter().flatten() {
        match atomic::sweep(folder) {
            Ok(0) => {}
            Ok(swept) => {
                tracing::info!("removed {swept} half-written files in {}", folder.display())
            }
            Err(error) => tracing::warn!("cannot sweep {}: {error}", folder.display()),
        }
    }
}

/// Done with the first SIGTERM or SIGINT. SIGHUP, which ends a process by default, is handled: what can be reloaded is read
/// for every check. SIGUSR1 wakes the watchdog, to handle the requests of operators.
fn stop_signal(wake: Arc<Notify>) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = user.recv() => wake.notify_one(),
                _ = hangup.recv() => tracing::info!(
                    "SIGHUP: tokens and certificates are read for every check; fleet.toml needs a restart"
                ),
            }
        }
    })
}
