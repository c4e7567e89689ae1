//! An agent's property list, made from its section of fleet.toml. The keys are those of launchd.plist(5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::{Dictionary, Value};
use sanctum_config::fleet::{Agent, Server, Watch};
use sanctum_config::{Fleet, Home, Label, Role, nearest};

use crate::Failure;

/// The checks that a `[watch.NAME]` can run, and with them the programs that run them.
pub const CHECKS: [&str; 4] = ["guardian", "canary", "drift", "parity"];

/// How long a server may take to finish after SIGTERM where fleet.toml does not say: `sanctum-server`'s own default.
const DRAIN: Duration = Duration::from_secs(30);
/// launchd sends SIGKILL after ExitTimeOut. A server that drains to the limit must still say goodbye to its clients.
const BEYOND_DRAIN: Duration = Duration::from_secs(15);
/// For programs that do not drain: what launchd.plist(5) gave as launchd's own default. It is written into every property
/// list, for newer systems have a shorter one.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds between two starts of a program that keeps exiting.
pub(crate) const THROTTLE: u64 = 30;
/// Open files: launchd gives 256, which a server with a thousand clients exhausts.
const OPEN_FILES: u64 = 8192;

/// A property list and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentPlist {
    /// The agent's name in fleet.toml.
    pub agent: Label,
    /// launchd's label.
    pub label: String,
    /// Its file in `~/Library/LaunchAgents`.
    pub path: PathBuf,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The file of the release that the program is; none for programs of others.
    pub binary: Option<String>,
    /// XML; the same bytes for the same fleet.toml.
    pub bytes: Vec<u8>,
}

/// The property lists of a host's agents, in the order of [`Fleet::agents_of`].
///
/// # Errors
/// If a path is not UTF-8, or a watchdog runs a check that there is not.
pub fn render(fleet: &Fleet, home: &Home, host: &Label) -> Result<Vec<AgentPlist>, Failure> {
    fleet
        .agents_of(host)
        .into_iter()
        .map(|(name, role)| render_one(fleet, home, name, role))
        .collect()
}

fn render_one(fleet: &Fleet, home: &Home, name: &Label, role: Role) -> Result<AgentPlist, Failure> {
    let label = fleet.launchd_label(name);
    let (binary, arguments) = match role {
        Role::Server(_) => ours(home, "sanctum-server", "--server", name)?,
        Role::Watch(watch) => ours(home, &watchdog(name, watch)?, "--name", name)?,
        Role::Agent(agent) => (None, theirs(home, agent)?),
    };
    let saved = text(&match role {
        Role::Server(_) | Role::Watch(_) => home.launchd_log(name),
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
    // Anything less is throttled: a server would be slow, and a watchdog would measure its own throttling.
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
        .map_err(|error| Failure::Refused(format!("cannot write a property list: {error}")))?;
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

/// Longer than the program may take to end by itself.
fn exit_timeout(role: Role) -> Duration {
    match role {
        Role::Server(Server { drain, .. }) => drain.unwrap_or(DRAIN) + BEYOND_DRAIN,
        Role::Agent(_) | Role::Watch(_) => EXIT_TIMEOUT,
    }
}

/// One of our programs: its arguments name the deployed fleet.toml, its section there, and its log, which it writes and
/// rotates itself.
fn ours(
    home: &Home,
    binary: &str,
    flag: &str,
    name: &Label,
) -> Result<(Option<String>, Vec<String>), Failure> {
    let arguments = vec![
        text(&home.bin().join(binary))?,
        "--config".to_owned(),
        text(&home.fleet_toml())?,
        flag.to_owned(),
        name.to_string(),
        "--log-file".to_owned(),
        text(&home.log(name))?,
    ];
    Ok((Some(binary.to_owned()), arguments))
}

/// Somebody else's program: launchd knows no `~`.
fn theirs(home: &Home, agent: &Agent) -> Result<Vec<String>, Failure> {
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

fn watchdog(name: &Label, watch: &Watch) -> Result<String, Failure> {
    let check = watch.check(name).as_str();
    if CHECKS.contains(&check) {
        return Ok(format!("sanctum-{check}"));
    }
    let meant = nearest(check, CHECKS)
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    Err(Failure::Refused(format!(
        "[watch.{name}] runs the check `{check}`, which there is not; {meant}write `check = ` and one of {}",
        CHECKS.join(", ")
    )))
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::Refused(format!(
            "the path {} is not UTF-8, and a property list holds nothing else",
            path.display()
        ))
    })
}

/// The program and its arguments as a property list on disk has them; none if it cannot be read as one.
pub fn arguments_in(bytes: &[u8]) -> Option<Vec<String>> {
    let value = Value::from_reader(std::io::Cursor::new(bytes)).ok()?;
    value
        .as_dictionary()?
        .get("ProgramArguments")?
        .as_array()?
        .iter()
        .map(|argument| argument.as_string().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests;
