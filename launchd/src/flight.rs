//! What is asked before and after an upgrade: does the new release do?
//!
//! Before: an instance of the same models elsewhere (the shadow) must answer right if it answers at all; the new
//! program must find the models whole; and where memory admits it, the new program is started once on a free port and
//! asked. After: the servers must become ready, however long they load, and answer right.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::fleet::Server;
use sanctum_config::{Fleet, InstalledAgent, Label, Role};
use sanctum_watch::command;
use sanctum_watch::launchctl::LastExit;

use crate::Failure;
use crate::ask::{Door, Health};
use crate::journal::boundary;
use crate::memory;
use crate::report::Report;
use crate::site::Site;
use crate::target::Target;

/// How long a server may take to be ready. A 27B model with its manifest takes half a minute from an SSD, and several
/// from a network volume.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long `check-model` may take: it reads every byte of the models.
const CHECKING: Duration = Duration::from_secs(30 * 60);
/// How often somebody who waits is told that we wait.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A question and what its answer must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// What the answer must contain.
    pub expect: String,
}

/// The question of the canary that watches this server, else the usual one.
pub fn question(fleet: &Fleet, server: &Label) -> Question {
    let canary = fleet.watch.iter().find(|(name, watch)| {
        watch.check(name).as_str() == "canary" && watch.target.as_ref() == Some(server)
    });
    let of = |pick: fn(&sanctum_config::fleet::Watch) -> &Option<String>| {
        canary.and_then(|(_, watch)| pick(watch).clone())
    };
    match (of(|watch| &watch.question), of(|watch| &watch.expect)) {
        (Some(text), Some(expect)) => Question { text, expect },
        _ => Question {
            text: "What is 2+2? Respond with only the number.".to_owned(),
            expect: "4".to_owned(),
        },
    }
}

impl Question {
    /// Asks it.
    ///
    /// # Errors
    /// If there is no answer, or it does not contain what it must.
    pub fn ask(&self, door: &Door) -> Result<Duration, NotRight> {
        let begun = Instant::now();
        let answer = door
            .chat(&self.text)
            .map_err(|error| NotRight::Silent(error.to_string()))?;
        if answer.contains(&self.expect) {
            return Ok(begun.elapsed());
        }
        let short: String = answer.chars().take(120).collect();
        Err(NotRight::Wrong {
            asked: self.text.clone(),
            answer: short.trim().to_owned(),
            expected: self.expect.clone(),
        })
    }

    /// Asks it again where there was no answer: right after a start a server may be busy with those who waited for it.
    fn ask_patiently(&self, door: &Door) -> Result<Duration, NotRight> {
        const TIMES: usize = 3;
        for _ in 1..TIMES {
            match self.ask(door) {
                Err(NotRight::Silent(_)) => sleep(Duration::from_secs(2)),
                other => return other,
            }
        }
        self.ask(door)
    }
}

/// Why an answer is not right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRight {
    /// There is none.
    #[error("{0}")]
    Silent(String),
    /// It does not contain what it must.
    #[error("asked \"{asked}\" it answered \"{answer}\", and \"{expected}\" was expected")]
    Wrong {
        /// The question.
        asked: String,
        /// The beginning of the answer.
        answer: String,
        /// What it must contain.
        expected: String,
    },
}

/// After the start of new servers: waits until each that should run is ready, and asks it.
///
/// # Errors
/// If one does not become ready in `patience`, exits, or answers wrong.
pub fn after(
    site: &Site,
    to: &Target,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    for agent in to.receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(server) = served_by(&to.fleet, &agent.name) else {
            continue;
        };
        let refused = |why: String| Failure::Refused(format!("`{}`: {why}", agent.name));
        let file = site.home.fleet_toml();
        let door = Door::to(&to.fleet, &file, &site.home, &site.host, server).map_err(refused)?;
        report.note(&format!("waiting until `{}` is ready", agent.name))?;
        let waited = ready(site, agent, &door, patience, report)?;
        let asked = question(&to.fleet, server).ask_patiently(&door);
        let took = asked.map_err(|wrong| refused(wrong.to_string()))?;
        report.note(&format!(
            "`{}` was ready after {:.1} s and answered right in {:.1} s",
            agent.name,
            waited.as_secs_f64(),
            took.as_secs_f64()
        ))?;
    }
    boundary("asked");
    Ok(())
}

/// The server that an agent is, or in whose place it serves.
fn served_by<'a>(fleet: &'a Fleet, agent: &'a Label) -> Option<&'a Label> {
    match fleet.role(agent)? {
        Role::Server(_) => Some(agent),
        Role::Agent(standby) => standby.standby_for.as_ref(),
        Role::Watch(_) => None,
    }
}

/// Waits until a server is ready; how long that took. A model that loads for a minute is waited for; a process that
/// has exited is not.
fn ready(
    site: &Site,
    agent: &InstalledAgent,
    door: &Door,
    patience: Duration,
    report: &mut Report,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        let refused = |why: String| Err(Failure::Refused(format!("`{}` {why}", agent.name)));
        let Some(service) = site.launchctl.print(&agent.label)? else {
            return refused("is no longer loaded: somebody booted it out meanwhile".to_owned());
        };
        let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
        if let (None, Some(exit)) = (service.pid, exit) {
            let log = last_line(&site.home.log(&agent.name));
            return refused(format!("ended at its start ({exit}){log}"));
        }
        // Whoever answers while it has no process is somebody else.
        let health = door.health();
        if health == Health::Ready && service.is_running() {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() >= patience {
            return refused(format!(
                "was not ready after {} s: {health}{}",
                patience.as_secs(),
                last_line(&site.home.log(&agent.name))
            ));
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            report.note(&format!("`{}`: {health}, {seconds} s", agent.name))?;
        }
        sleep(Duration::from_millis(250));
    }
}

/// The last line of a log, as the end of a sentence.
fn last_line(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    if let Ok(mut file) = std::fs::File::open(log) {
        let size = file.metadata().map_or(0, |about| about.len());
        let read = file
            .seek(SeekFrom::Start(size.saturating_sub(4096)))
            .and_then(|_| file.read_to_end(&mut text));
        if read.is_err() {
            return String::new();
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(String::new, |line| {
        let short: String = line.chars().take(300).collect();
        format!("; its log ends: {short}")
    })
}

/// Before an upgrade: what can be known of the new release without stopping anything. `programs` is its folder.
///
/// # Errors
/// If something speaks against it; nothing has been changed.
pub fn before(
    site: &Site,
    programs: &Path,
    trial: Trial,
    report: &mut Report,
) -> Result<(), Failure> {
    for (name, role) in site.fleet.agents_of(&site.host) {
        let Role::Server(server) = role else {
            continue;
        };
        let against = |why: String| {
            Failure::Refused(format!(
                "the upgrade was not begun, and nothing has been changed: {why}"
            ))
        };
        ask_shadow(site, name, server, report).map_err(|failure| against(failure.to_string()))?;
        let program = programs.join("sanctum-server");
        check_models(site, name, server, &program, report).map_err(|f| against(f.to_string()))?;
        if trial == Trial::Never {
            continue;
        }
        match room_for(site, server) {
            Ok(()) => try_out(site, name, server, &program, report).map_err(against)?,
            Err(why) if trial == Trial::Always => return Err(against(why)),
            Err(why) => report.note(&format!("no second instance of `{name}` is tried: {why}"))?,
        }
    }
    Ok(())
}

/// Whether a second instance is started before an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// Where free memory admits it
    #[default]
    Auto,
    /// Always: the upgrade is not begun without
    Always,
    /// Never
    Never,
}

/// Another server of the same models must answer right. One that cannot be reached says nothing: it may be asleep.
fn ask_shadow(
    site: &Site,
    name: &Label,
    server: &Server,
    report: &mut Report,
) -> Result<(), Failure> {
    let models = |server: &Server| {
        let mut ids: Vec<String> = server
            .models
            .iter()
            .map(|model| model.id.to_string())
            .collect();
        ids.sort();
        ids
    };
    let shadow = site
        .fleet
        .servers
        .iter()
        .find(|(other, shadow)| *other != name && models(shadow) == models(server));
    let Some((shadow, _)) = shadow else {
        return Ok(report.note(&format!(
            "no other server has the models of `{name}`: no shadow is asked"
        ))?);
    };
    let asked = match Door::to(&site.fleet, &site.file, &site.home, &site.host, shadow) {
        Ok(door) => question(&site.fleet, name).ask(&door),
        Err(why) => Err(NotRight::Silent(why)),
    };
    match asked {
        Ok(took) => Ok(report.note(&format!(
            "the shadow `{shadow}` answered right in {:.1} s",
            took.as_secs_f64()
        ))?),
        Err(NotRight::Silent(why)) => {
            Ok(report.note(&format!("the shadow `{shadow}` says nothing: {why}"))?)
        }
        Err(wrong) => Err(Failure::Refused(format!("the shadow `{shadow}`: {wrong}"))),
    }
}

/// The new program must find the models whole, and their manifests right.
fn check_models(
    site: &Site,
    name: &Label,
    server: &Server,
    program: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let version = command::run(
        &program.to_string_lossy(),
        &["--version"],
        Duration::from_secs(60),
    );
    match version {
        Ok(said) if said.succeeded() => {
            report.note(&format!("the new program runs here: {}", said.out.trim()))?
        }
        Ok(said) => {
            let why = format!(
                "`{} --version` failed: {}",
                program.display(),
                said.complaint()
            );
            return Err(Failure::Refused(why));
        }
        Err(error) => return Err(Failure::Refused(error.to_string())),
    }
    if server.models.is_empty() {
        return Ok(report.note(&format!(
            "`{name}` serves the model that is built in: there is none to check"
        ))?);
    }
    let config = site.file.to_string_lossy().into_owned();
    let arguments = [
        "check-model",
        "--config",
        &config,
        "--server",
        name.as_str(),
    ];
    let said = command::run(&program.to_string_lossy(), &arguments, CHECKING)
        .map_err(|error| Failure::Refused(error.to_string()))?;
    match said.succeeded() {
        true => {
            for line in said.out.lines() {
                report.note(line)?;
            }
            Ok(())
        }
        false => Err(Failure::Refused(said.complaint())),
    }
}

/// Whether a second instance fits into the memory that is free now.
fn room_for(site: &Site, server: &Server) -> Result<(), String> {
    /// Caches and the program itself.
    const BESIDES: u64 = 1 << 30;
    let mut need = BESIDES;
    for model in &server.models {
        let folder = model.path.beside(&site.file);
        let folder = folder.map_err(|error| error.to_string())?;
        need += memory::size_of(&folder) * 5 / 4;
    }
    let free = memory::free().ok_or("the system does not say how much memory is free")?;
    match free >= need {
        true => Ok(()),
        false => Err(format!(
            "{} MiB of memory are free, and it may need {} MiB",
            free >> 20,
            need >> 20
        )),
    }
}

/// Starts the new program beside the old one, on loopback and a free port, and asks it.
fn try_out(
    site: &Site,
    name: &Label,
    server: &Server,
    program: &Path,
    report: &mut Report,
) -> Result<(), String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(|error| format!("there is no free port: {error}"))?
        .port();
    let mut trial = Command::new(program);
    trial.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    for model in &server.models {
        let folder = model
            .path
            .beside(&site.file)
            .map_err(|error| error.to_string())?;
        trial
            .arg("--model")
            .arg(format!("{}={}", model.id, folder.display()));
    }
    let path = site.home.logs().join("trial.log");
    let log =
        File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let child = trial
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let mut child = Stopped(child);
    let door = Door::at(
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        name,
        &site.host,
    );
    let begun = Instant::now();
    while door.health() != Health::Ready {
        match child.0.try_wait() {
            Ok(None) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(250)),
            Ok(None) => {
                return Err(format!(
                    "a second instance was not ready after {} s",
                    PATIENCE.as_secs()
                ));
            }
            Ok(Some(status)) => {
                return Err(format!(
                    "a second instance ended at its start ({status}){}",
                    last_line(&path)
                ));
            }
            Err(error) => return Err(format!("a second instance cannot be waited for: {error}")),
        }
    }
    let asked = question(&site.fleet, name).ask_patiently(&door);
    let took = asked.map_err(|wrong| format!("a second instance: {wrong}"))?;
    report
        .note(&format!(
            "a second instance of `{name}` answered right in {:.1} s",
            took.as_secs_f64()
        ))
        .map_err(|error| error.to_string())
}

/// A process that ends with its owner.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
