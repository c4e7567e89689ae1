//! An agent's property list, made from its section of fleet.toml. The keys are those of launchd.plist(5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::{Dictionary, Value};
use sanctum_config::fleet::{Agent, Server, Watch};
use sanctum_config::{Fleet, Home, Label, Role, nearest};
use sanctum_watch::check_section;

use crate::Error;

/// The checks that a `[watch.NAME]` can run. `sanctum-CHECK` is the program for each.
const CHECKS: [&str; 4] = ["guardian", "canary", "drift", "parity"];

/// How long a server may drain after SIGTERM by default: `sanctum-server`'s own default.
const DRAIN: Duration = Duration::from_secs(30);
/// launchd sends SIGKILL after ExitTimeOut. A server that drains to the limit must still close its connections.
const BEYOND_DRAIN: Duration = Duration::from_secs(15);
/// For programs that do not drain: the former default of launchd.plist(5). It is written into every property list, because
/// newer systems have a shorter default.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds between two starts of a program that exits again and again.
pub(crate) const THROTTLE: u64 = 30;
/// Open files: launchd's default of 256 is too low for a server with a thousand clients.
const OPEN_FILES: u64 = 8192;

/// An agent's property list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AgentPlist {
    /// The agent's name in fleet.toml.
    pub(crate) agent: Label,
    /// launchd's label.
    pub(crate) label: String,
    /// Its file in `~/Library/LaunchAgents`.
    pub(crate) path: PathBuf,
    /// The program and its arguments.
    pub(crate) arguments: Vec<String>,
    /// The program's file in the release; none for programs of others.
    pub(crate) binary: Option<String>,
    /// The file's contents, XML; the same bytes for the same fleet.toml.
    pub(crate) bytes: Vec<u8>,
}

/// The property lists of a host's agents, in the order of [`Fleet::agents_of`].
///
/// # Errors
/// If a path is not UTF-8, or a watchdog's check is unknown.
pub(crate) fn render(fleet: &Fleet, home: &Home, host: &Label) -> Result<Vec<AgentPlist>, Error> {
    fleet
        .agents_of(host)
        .into_iter()
        .map(|(name, role)| render_one(fleet, home, name, role))
        .collect()
}

/// Checks that the watchdogs of a host start with their sections of `file`, which `fleet` was read from.
///
/// # Errors
/// The first problem, with its section, its key and its fix.
pub(crate) fn check_watchdogs(fleet: &Fleet, file: &Path, host: &Label) -> Result<(), Error> {
    for (name, role) in fleet.agents_of(host) {
        if matches!(role, Role::Watch(_)) {
            check_section(fleet, file, name).map_err(|why| {
                let section = format!("[watch.{name}]");
                // Some messages name the section themselves.
                match why.starts_with(&section) {
                    true => Error::refused(why),
                    false => Error::refused(format!("{section}: {why}")),
                }
            })?;
        }
    }
    Ok(())
}

fn render_one(fleet: &Fleet, home: &Home, name: &Label, role: Role) -> Result<AgentPlist, Error> {
    let label = fleet.launchd_label(name);
    let (binary, arguments) = match role {
        Role::Server(_) => ours(
            home,
            "sanctum-server",
            &[],
            &["--server", name.as_str()],
            name,
        )?,
        Role::Watch(watch) => {
            let program = watchdog(name, watch)?;
            ours(home, &program, &[], &["--name", name.as_str()], name)?
        }
        Role::Page(_) => {
            let section = ["--serve", "--page", name.as_str()];
            ours(home, "sanctum-launchd", &["status"], &section, name)?
        }
        Role::Agent(agent) => (None, theirs(home, agent)?),
    };
    let saved = text(&match role {
        Role::Server(_) | Role::Watch(_) | Role::Page(_) => home.launchd_log(name),
        Role::Agent(_) => home.log(name),
    })?;
    let mut keys = Dictionary::new();
    keys.insert("Label".into(), label.clone().into());
    let list = arguments.iter().cloned().map(Value::String).collect();
    keys.insert("ProgramArguments".into(), Value::Array(list));
    if let Role::Agent(Agent { environment, .. }) = role
        && !environment.is_empty()
    {
        let variables: Dictionary = environment
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect();
        keys.insert("EnvironmentVariables".into(), Value::Dictionary(variables));
    }
    keys.insert("WorkingDirectory".into(), text(home.path())?.into());
    keys.insert("RunAtLoad".into(), true.into());
    keys.insert("KeepAlive".into(), true.into());
    keys.insert("ThrottleInterval".into(), THROTTLE.into());
    keys.insert("ExitTimeOut".into(), exit_timeout(role).as_secs().into());
    // Metal and the desktop's notifications need the graphical session.
    keys.insert("LimitLoadToSessionType".into(), "Aqua".into());
    // launchd throttles any other type: a server would be slow, and a watchdog would measure its own throttling.
    keys.insert("ProcessType".into(), "Interactive".into());
    keys.insert("StandardOutPath".into(), saved.clone().into());
    keys.insert("StandardErrorPath".into(), saved.into());
    // launchd.plist(5): an integer, so 0o077 in decimal.
    keys.insert("Umask".into(), 0o077_u64.into());
    let limits = |key: &str| {
        let files = [("NumberOfFiles".to_owned(), Value::from(OPEN_FILES))];
        (
            key.to_owned(),
            Value::Dictionary(files.into_iter().collect()),
        )
    };
    keys.extend([limits("SoftResourceLimits"), limits("HardResourceLimits")]);
    let mut bytes = Vec::new();
    Value::Dictionary(keys)
        .to_writer_xml(&mut bytes)
        .map_err(|error| Error::refused(format!("cannot write a property list: {error}")))?;
    bytes.push(b'\n');
    Ok(AgentPlist {
        agent: name.clone(),
        path: home.plist(&label),
        label,
        arguments,
        binary,
        bytes,
    })
}

/// Longer than the program may take to exit by itself.
fn exit_timeout(role: Role) -> Duration {
    match role {
        Role::Server(Server { drain, .. }) => drain.unwrap_or(DRAIN) + BEYOND_DRAIN,
        Role::Agent(_) | Role::Watch(_) | Role::Page(_) => EXIT_TIMEOUT,
    }
}

/// One of our programs: its arguments name the deployed fleet.toml, its section there, and its log, which it writes and
/// rotates itself.
fn ours(
    home: &Home,
    binary: &str,
    command: &[&str],
    section: &[&str],
    name: &Label,
) -> Result<(Option<String>, Vec<String>), Error> {
    let mut arguments = vec![text(&home.bin().join(binary))?];
    arguments.extend(command.iter().map(ToString::to_string));
    arguments.extend(["--config".to_owned(), text(&home.fleet_toml())?]);
    arguments.extend(section.iter().map(ToString::to_string));
    arguments.extend(["--log-file".to_owned(), text(&home.log(name))?]);
    Ok((Some(binary.to_owned()), arguments))
}

/// A program of others. launchd does not expand `~`.
fn theirs(home: &Home, agent: &Agent) -> Result<Vec<String>, Error> {
    let user = text(home.user())?;
    Ok(agent
        .program
        .iter()
        .map(|argument| match argument.strip_prefix("~/") {
            Some(rest) => format!("{user}/{rest}"),
            None => argument.clone(),
        })
        .collect())
}

fn watchdog(name: &Label, watch: &Watch) -> Result<String, Error> {
    let check = watch.check(name).as_str();
    if CHECKS.contains(&check) {
        return Ok(format!("sanctum-{check}"));
    }
    let meant = nearest(check, CHECKS)
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    Err(Error::refused(format!(
        "[watch.{name}] runs the unknown check `{check}`; {meant}write `check = ` and one of {}",
        CHECKS.join(", ")
    )))
}

fn text(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::refused(format!(
            "the path {} is not UTF-8, and a property list contains only UTF-8",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests;
