//! A watchdog's `main`: fleet.toml is read, the check is made, and the loop runs until a signal ends it.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::Utc;
use sanctum_client::ReferenceAddress;
use sanctum_config::fleet::Watch;
use sanctum_config::logging::{self, Destination};
use sanctum_config::{
    FileLock, Fleet, FleetError, Home, HomeError, Label, atomic, did_you_mean, terminal_json,
};
use sanctum_host::this_host;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::alert::{BadChannel, Channel, Outbox, undelivered};
use crate::args::Args;
use crate::first_cause::FirstCause;
use crate::policy::Policy;
use crate::schedule::{BadSchedule, Schedule};
use crate::state::{State, StateError};
use crate::verdict::{Check, Kind, Round};
use crate::watchdog::{WatchError, Watchdog, look};

/// What fleet.toml says of a watchdog.
#[derive(Clone, Debug)]
pub struct Setting {
    /// All of it.
    pub fleet: Fleet,
    /// The file.
    pub config: PathBuf,
    /// Where this host keeps what belongs to the fleet.
    pub home: Home,
    /// The watchdog's name.
    pub name: Label,
    /// Its section.
    pub watch: Watch,
    /// The host that it runs on.
    pub host: Label,
}

/// Why a watchdog does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("{} has no [watch.{name}]{near}; add one, or say which it is with --name", config.display())]
    NoSection {
        config: PathBuf,
        name: Label,
        near: String,
    },
    #[error(
        "[watch.{name}] runs the check `{check}`, and this is sanctum-{own}; start sanctum-{check}"
    )]
    OtherCheck {
        name: Label,
        check: Label,
        own: Label,
    },
    #[error("[watch.{name}]: {why}")]
    Section { name: Label, why: String },
    #[error("[watch.{0}] is in no host's `agents`, so it is not known where it runs; add it there")]
    NoHost(Label),
    #[error(
        "[watch.{name}] watches from the host {host}, and this is {here}: what is seen from here is not what it sees; \
         run it on {host}{instead}"
    )]
    Elsewhere {
        name: Label,
        host: Label,
        here: Label,
        instead: String,
    },
    #[error("another process watches as `{name}` (it holds {}); stop it first, or take another --name", path.display())]
    Twice { name: Label, path: PathBuf },
    #[error("cannot lock {}: {source}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("the system gives no signals or no runtime: {0}")]
    System(io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("{0}")]
    ByHand(String),
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Watch(error.into())
    }
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock { .. } | Self::System(_) | Self::Watch(_) => ExitCode::from(3),
            Self::ByHand(_) => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        }
    }
}

/// Runs a watchdog. `own` is the name of its check; `make` makes the check, or says what is missing.
pub fn main<C: Check>(
    args: &Args,
    own: &str,
    make: impl FnOnce(&Setting) -> Result<C, String>,
) -> ExitCode {
    logged(args, own, || run(args, own, make))
}

/// Runs something else that a watchdog's program can do once, for whoever types it; `args.once` must be set. What `work`
/// fails with is told, and the exit code is 1.
pub fn by_hand(
    args: &Args,
    own: &str,
    work: impl AsyncFnOnce(&Setting) -> Result<(), String>,
) -> ExitCode {
    logged(args, own, || {
        let setting = Setting::read(args, &own.parse().expect("a check's name is a label"))?;
        let done = runtime()?.block_on(work(&setting));
        done.map(|()| ExitCode::SUCCESS).map_err(Failure::ByHand)
    })
}

fn logged(args: &Args, own: &str, run: impl FnOnce() -> Result<ExitCode, Failure>) -> ExitCode {
    let destination = Destination::of(args.log_file.as_deref(), Some(&args.config));
    let format = args.log_format.map(Into::into);
    if let Err(error) = logging::start(destination, format, args.log.as_deref()) {
        eprintln!("sanctum-{own}: {error}");
        return ExitCode::from(2);
    }
    let code = run().unwrap_or_else(|failure| {
        tracing::error!("{failure}");
        failure.exit_code()
    });
    logging::finish();
    code
}

/// One thread: a watchdog waits most of the time, and is to be small.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::System)
}

fn run<C: Check>(
    args: &Args,
    own: &str,
    make: impl FnOnce(&Setting) -> Result<C, String>,
) -> Result<ExitCode, Failure> {
    let own: Label = own.parse().expect("a check's name is a label");
    let setting = Setting::read(args, &own)?;
    let section = |why: String| Failure::Section {
        name: setting.name.clone(),
        why,
    };
    let runtime = runtime()?;
    if args.once {
        let mut check = make(&setting).map_err(section)?;
        return Ok(runtime.block_on(once(&mut check, &setting, args.json)));
    }
    let schedule =
        Schedule::of(&setting.watch).map_err(|error: BadSchedule| section(error.to_string()))?;
    let channels = setting
        .channels()
        .map_err(|error| section(error.to_string()))?;
    let check = make(&setting).map_err(section)?;
    let _alone = alone(&setting)?;
    sweep(&setting);
    let state_file = setting.home.watch_state(&setting.name);
    let state = match State::read(&state_file) {
        Ok(state) => state,
        // What it remembers is worth less than that it watches.
        Err(StateError::Form { path, why }) => {
            tracing::error!(
                "{} is damaged ({why}); watching begins anew",
                path.display()
            );
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut watchdog = Watchdog {
        check,
        host: setting.host.clone(),
        policy: Policy::of(&setting.watch),
        schedule,
        state: state.unwrap_or_else(|| State::new(setting.name.clone(), Utc::now())),
        state_file,
        lease_file: setting.home.lease(),
        first_cause: FirstCause::of(&setting),
        outbox: Outbox::new(setting.home.spool(&setting.name), channels),
    };
    runtime.block_on(async {
        let stop = stop().map_err(Failure::System)?;
        tracing::info!(
            agent = %setting.name,
            subject = watchdog.check.subject(),
            state = %watchdog.state_file.display(),
            "watching"
        );
        watchdog.run(stop).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

impl Setting {
    fn read(args: &Args, own: &Label) -> Result<Self, Failure> {
        let config = std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone());
        let fleet = Fleet::read(&config)?;
        let home = Home::of(&fleet)?;
        let name = args.name.clone().unwrap_or_else(|| own.clone());
        let Some(watch) = fleet.watch.get(&name).cloned() else {
            let known = fleet.watch.keys().map(Label::as_str);
            let near = did_you_mean(name.as_str(), known);
            return Err(Failure::NoSection { config, name, near });
        };
        if watch.check(&name) != own {
            return Err(Failure::OtherCheck {
                check: watch.check(&name).clone(),
                name,
                own: own.clone(),
            });
        }
        let host = fleet.host_of(&name).cloned();
        if args.once
            && let Some(host) = &host
            && let Ok(Some(here)) = this_host(&fleet, &home)
            && here != *host
        {
            let same = fleet.hosts[&here].agents.iter().find(|agent| {
                let other = fleet.watch.get(*agent);
                other.is_some_and(|other| *other.check(agent) == *own)
            });
            let instead = same.map(|other| format!(", or run --name {other} here"));
            return Err(Failure::Elsewhere {
                name,
                host: host.clone(),
                here,
                instead: instead.unwrap_or_default(),
            });
        }
        // To try a check out it need not be installed anywhere.
        let host = host.or_else(|| {
            let target = watch.target.as_ref().filter(|_| args.once)?;
            Some(fleet.servers.get(target)?.host.clone())
        });
        let host = match host {
            Some(host) => host,
            None if args.once => own.clone(),
            None => return Err(Failure::NoHost(name)),
        };
        Ok(Self {
            fleet,
            config,
            home,
            name,
            watch,
            host,
        })
    }

    /// What `reference` names.
    ///
    /// # Errors
    /// If it is no address.
    pub fn reference(&self) -> Result<Option<ReferenceAddress>, String> {
        let reference = self.watch.reference.as_deref().map(ReferenceAddress::parse);
        reference.transpose().map_err(|error| error.to_string())
    }

    fn channels(&self) -> Result<Vec<(Label, Channel)>, BadChannel> {
        let channel = |name: &Label| Ok((name.clone(), Channel::of(&self.fleet, name)?));
        self.watch.alert.iter().map(channel).collect()
    }
}

async fn once<C: Check>(check: &mut C, setting: &Setting, json: bool) -> ExitCode {
    let state = State::read(&setting.home.watch_state(&setting.name)).unwrap_or_default();
    let mut round = Round {
        now: Utc::now(),
        memory: state.map(|state| state.memory).unwrap_or_default(),
    };
    let report = look(check, &mut round).await;
    let verdict = report.verdict;
    // What the watchdog of this name has raised and no channel has accepted.
    let (waiting, unread) = match undelivered(&setting.home.spool(&setting.name)) {
        Ok(waiting) => (waiting, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if json {
        let mut page = json!(verdict);
        for (name, value) in report.details.fields.as_object().into_iter().flatten() {
            page[name] = value.clone();
        }
        page["agent"] = json!(setting.name);
        page["host"] = json!(setting.host);
        page["subject"] = json!(check.subject());
        page["undelivered"] = json!(waiting);
        if let Some(error) = unread {
            page["spool_error"] = json!(error);
        }
        println!("{}", terminal_json(&page.to_string()));
    } else {
        println!("{}: {}: {}", check.subject(), verdict.kind, verdict.said);
        for line in &report.details.lines {
            println!("{line}");
        }
        if !verdict.next.is_empty() {
            println!("next: {}", verdict.next);
        }
        for one in &waiting {
            println!("undelivered: {}", one.line(round.now));
        }
        if let Some(error) = unread {
            println!("undelivered: unknown: {error}");
        }
    }
    ExitCode::from(u8::from(verdict.kind == Kind::Miss))
}

/// Holds a lock for as long as this process lives: two loops under one name would count each miss twice.
fn alone(setting: &Setting) -> Result<FileLock, Failure> {
    let path = setting
        .home
        .watch_state(&setting.name)
        .with_extension("lock");
    let failed = |source| Failure::Lock {
        path: path.clone(),
        source,
    };
    let lock = FileLock::take(&path, Duration::ZERO).map_err(failed)?;
    lock.ok_or_else(|| Failure::Twice {
        name: setting.name.clone(),
        path: path.clone(),
    })
}

/// Removes what a watchdog that was killed had written half.
fn sweep(setting: &Setting) {
    let state = setting.home.watch_state(&setting.name);
    let spool = setting.home.spool(&setting.name);
    let lease = setting.home.lease();
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

/// Done with the first SIGTERM or SIGINT. SIGHUP and SIGUSR1, which would end the process by default, do not: whatever
/// can be reloaded is read for every check, and the handler of SIGUSR1 stays.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let _ = signal(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => return,
                _ = int.recv() => return,
                _ = hangup.recv() => tracing::info!(
                    "SIGHUP: tokens and certificates are read for every check; fleet.toml needs a restart"
                ),
            }
        }
    })
}
