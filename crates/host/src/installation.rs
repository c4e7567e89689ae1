//! An installation: the fleet.toml, the home and the host that a command works on.

use std::path::{Path, PathBuf};

use sanctum_config::{Fleet, FleetError, Home, Label, did_you_mean_or_names, files};

use crate::finding::REINSTALL;
use crate::machine::{self, machine_name};
use crate::ssh::quoted_file;
use crate::{Error, INSTALL_RELEASE, Launchctl, Receipt};

/// A larger file is not a fleet.toml.
pub const MAX_FLEET_BYTES: u64 = 4 << 20;

/// The file that a command reads without `--config` if the working folder has it.
const IN_FOLDER: &str = "fleet.toml";

/// A fleet's installation on a host: the fleet, the host in it, and launchd.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The fleet.toml that was read, as an absolute path.
    pub file: PathBuf,
    /// Its bytes, which are deployed unchanged.
    pub text: Vec<u8>,
    /// Its contents, parsed.
    pub fleet: Fleet,
    /// The fleet's home on this host.
    pub home: Home,
    /// The host that the command works on.
    pub host: Label,
    /// launchd on this machine.
    pub launchctl: Launchctl,
}

impl Installation {
    /// Reads `config`, else `fleet.toml` in this folder, else the fleet.toml that was deployed with this program, else the one
    /// in the default home. The host is `host`, else this machine.
    ///
    /// # Errors
    /// If the file cannot be used, or it is unknown which host this machine is.
    pub fn open(config: Option<&Path>, host: Option<&Label>) -> Result<Self, Error> {
        let (file, text, fleet) = read(config)?;
        let home = Home::for_deployment(&fleet)?;
        let host = match host {
            Some(name) => named(&fleet, name)?,
            None => require_this_host(&fleet, &home)?,
        };
        Ok(Self {
            file,
            text,
            fleet,
            home,
            host,
            launchctl: Launchctl::here(),
        })
    }

    /// What was installed here.
    ///
    /// # Errors
    /// If the receipt cannot be read.
    pub fn receipt(&self) -> Result<Option<Receipt>, Error> {
        Ok(Receipt::read(&self.home.receipt())?)
    }

    /// The command that moves a damaged record of this host away, and the one that writes it again.
    pub(crate) fn moving_away(&self, record: &Path) -> String {
        let shown = quoted_file(record);
        format!("mv {shown} {shown}.damaged && {}", self.typed(REINSTALL))
    }

    /// A command of sanctum-launchd as an operator types it for this installation: with `--config`, unless the command finds
    /// this fleet's home without it, in this working folder and in one without a fleet.toml.
    pub fn typed(&self, words: &str) -> String {
        TypedCommands::of(&self.fleet, &self.home, &self.file).typed(words)
    }

    /// As [`Installation::typed`], for a command that deploys a fleet.toml: it reads the file that this one has read.
    pub fn typed_to_deploy(&self, words: &str) -> String {
        let real = |file: &Path| std::fs::canonicalize(file).ok();
        let found = found_file(program_on_path().as_deref());
        let found = found.ok().and_then(|file| real(&file));
        let is_found = found.is_some() && found == real(&self.file);
        typed_line(words, (!is_found).then_some(self.file.as_path()))
    }

    /// As [`Installation::open`], for a command about what is installed on this machine.
    ///
    /// # Errors
    /// As [`Installation::open`]. If `host` is none, and it is unknown which host this is because nothing is installed, the
    /// error says that.
    pub fn open_installed(config: Option<&Path>, host: Option<&Label>) -> Result<Self, Error> {
        if host.is_none() {
            let (_, _, fleet) = read(config)?;
            let home = Home::of(&fleet)?;
            if let Some(nothing) = not_installed(&fleet, &home, config)? {
                return Err(nothing);
            }
        }
        Self::open(config, host)
    }
}

/// Commands of sanctum-launchd as an operator types them for one fleet, also for a program that has no [`Installation`], such
/// as a watchdog. By default they have no `--config`.
#[derive(Clone, Debug, Default)]
pub struct TypedCommands {
    /// The file that `--config` names; none if the fleet is found without it.
    config: Option<PathBuf>,
}

impl TypedCommands {
    /// For the fleet that was read from `file` and has its home on this host at `home`.
    pub fn of(fleet: &Fleet, home: &Home, file: &Path) -> Self {
        let program = program_on_path();
        if finds(program.as_deref(), fleet, home, Path::new(IN_FOLDER)) {
            return Self::default();
        }
        let deployed = home.fleet_toml();
        Self {
            config: Some(match deployed.exists() {
                true => deployed,
                false => file.to_owned(),
            }),
        }
    }

    /// The command line for `words`, such as `verify --host mini`.
    pub fn typed(&self, words: &str) -> String {
        typed_line(words, self.config.as_deref())
    }
}

/// Whether `program`, a sanctum-launchd, finds this fleet's home without `--config`. A watchdog has another working folder
/// than the operator who reads its alert, so that `here`, the working folder's fleet.toml, is not enough.
fn finds(program: Option<&Path>, fleet: &Fleet, home: &Home, here: &Path) -> bool {
    let is_ours = |file: &Path| {
        let found = read(Some(file)).ok().map(|(_, _, found)| found);
        found.is_some_and(|found| {
            found.fleet.name == fleet.fleet.name && Home::of(&found).is_ok_and(|its| its == *home)
        })
    };
    (!here.exists() || is_ours(here)) && deployed_file(program).is_ok_and(|file| is_ours(&file))
}

/// The fleet and the path of its file, for a command that needs no host.
///
/// # Errors
/// If the file cannot be used.
pub fn read_fleet(config: Option<&Path>) -> Result<(PathBuf, Fleet), Error> {
    read(config).map(|(file, _, fleet)| (file, fleet))
}

fn read(config: Option<&Path>) -> Result<(PathBuf, Vec<u8>, Fleet), Error> {
    let file = match config {
        Some(file) => file.to_owned(),
        None => default_file()?,
    };
    let file = std::path::absolute(&file).map_err(|error| Error::read(&file, error))?;
    let unread = |source| FleetError::Read {
        path: file.clone(),
        source,
    };
    let text = files::read_text(&file, MAX_FLEET_BYTES).map_err(unread)?;
    let fleet = Fleet::parse(&text, &file)?;
    Ok((file, text.into_bytes(), fleet))
}

/// The error for a machine that could be any of several hosts because nothing is installed on it; none otherwise.
fn not_installed(
    fleet: &Fleet,
    home: &Home,
    config: Option<&Path>,
) -> Result<Option<Error>, Error> {
    if fleet.hosts.is_empty() || machine::this_host(fleet, home)?.is_some() {
        return Ok(None);
    }
    let path = home.receipt();
    Ok(Receipt::read(&path)?.is_none().then(|| {
        let names: Vec<&str> = fleet.hosts.keys().map(Label::as_str).collect();
        Error::Refused(format!(
            "nothing is installed here ({} is missing); to install, run: sanctum-launchd {INSTALL_RELEASE} --host NAME{}, with one \
             of {}; to ask another host, add --host",
            path.display(),
            config.map_or_else(String::new, |file| format!(" --config {}", quoted_file(file))),
            names.join(", ")
        ))
    }))
}

/// The file that is read without `--config`: the one in this folder, else the one that was deployed with this program, else the
/// one in the default home.
fn default_file() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().ok();
    let real = program.map(|program| std::fs::canonicalize(&program).unwrap_or(program));
    found_file(real.as_deref())
}

/// The file that `program`, a sanctum-launchd, reads in this folder without `--config`.
fn found_file(program: Option<&Path>) -> Result<PathBuf, Error> {
    let here = PathBuf::from(IN_FOLDER);
    match here.exists() {
        true => Ok(here),
        false => deployed_file(program),
    }
}

/// The file that `program` reads in a folder without a fleet.toml.
fn deployed_file(program: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(deployed) = program.and_then(deployed_with) {
        return Ok(deployed);
    }
    // In the default home. Only fleet.toml names another one.
    let deployed = Home::of(&Fleet::default())?.fleet_toml();
    if deployed.exists() {
        return Ok(deployed);
    }
    Err(Error::Refused(format!(
        "fleet.toml is neither in this folder nor at {}; name it with --config, or write a first one: sanctum-launchd init",
        deployed.display()
    )))
}

/// The `sanctum-launchd` that a shell runs by this name; none if `PATH` has none.
fn program_on_path() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&folders).map(|folder| folder.join("sanctum-launchd"));
    let program = programs.find(|program| program.is_file())?;
    std::fs::canonicalize(program).ok()
}

fn typed_line(words: &str, config: Option<&Path>) -> String {
    match config {
        None => format!("sanctum-launchd {words}"),
        Some(file) => format!("sanctum-launchd {words} --config {}", quoted_file(file)),
    }
}

/// The fleet.toml of the home whose `bin/` has this program; none if there is none.
fn deployed_with(program: &Path) -> Option<PathBuf> {
    let bin = program.parent().filter(|folder| folder.ends_with("bin"))?;
    let file = bin.parent()?.join("fleet.toml");
    file.exists().then_some(file)
}

fn named(fleet: &Fleet, name: &Label) -> Result<Label, Error> {
    if fleet.hosts.contains_key(name) {
        return Ok(name.clone());
    }
    let near = did_you_mean_or_names(name.as_str(), fleet.hosts.keys().map(Label::as_str));
    Err(Error::Refused(format!(
        "fleet.toml has no [hosts.{name}]{near}"
    )))
}

/// Which of the fleet's hosts this machine is; see [`machine::this_host`].
///
/// # Errors
/// If that is unknown.
pub fn require_this_host(fleet: &Fleet, home: &Home) -> Result<Label, Error> {
    machine::this_host(fleet, home)?.ok_or_else(|| {
        let machine = machine_name();
        let names: Vec<&str> = fleet.hosts.keys().map(Label::as_str).collect();
        Error::Refused(match names.is_empty() {
            true => "fleet.toml has no [hosts.NAME]; add one for this machine".to_owned(),
            false => format!(
                "cannot tell which host this machine (`{machine}`) is; add --host with one of {}",
                names.join(", ")
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(text: &str) -> Fleet {
        Fleet::parse(text, Path::new("fleet.toml")).unwrap()
    }

    #[test]
    fn command_for_a_fleet_that_is_not_the_default_names_its_file() {
        let installation = Installation {
            file: "/x/my fleet.toml".into(),
            text: Vec::new(),
            fleet: fleet("[fleet]\nname = \"other\"\nhome = \"/no/such/home\"\n"),
            home: Home::new("/no/such/home".into(), "/no/such".into()),
            host: "mini".parse().unwrap(),
            launchctl: Launchctl::here(),
        };
        assert_eq!(
            installation.typed("verify --host mini"),
            "sanctum-launchd verify --host mini --config '/x/my fleet.toml'"
        );
    }

    #[test]
    fn command_is_short_if_the_program_that_a_shell_runs_finds_the_fleet() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for name in ["one", "two"] {
            std::fs::create_dir_all(at(name).join("bin")).unwrap();
            let text = format!("[fleet]\nname = \"{name}\"\nhome = {:?}\n", at(name));
            std::fs::write(at(name).join("fleet.toml"), text).unwrap();
        }
        let file = at("one/fleet.toml");
        let (_, text, fleet) = read(Some(&file)).unwrap();
        let installation = Installation {
            home: Home::of(&fleet).unwrap(),
            file,
            text,
            fleet,
            host: "mini".parse().unwrap(),
            launchctl: Launchctl::here(),
        };
        let [ours, theirs] = ["one", "two"].map(|name| at(name).join("bin/sanctum-launchd"));
        for (here, program, is_found) in [
            ("none/fleet.toml", Some(&ours), true),
            ("one/fleet.toml", Some(&ours), true),
            // The working folder has another fleet.
            ("two/fleet.toml", Some(&ours), false),
            // The shell runs another fleet's program, or one that finds the default home.
            ("none/fleet.toml", Some(&theirs), false),
            ("one/fleet.toml", Some(&theirs), false),
            ("one/fleet.toml", None, false),
        ] {
            let Installation { fleet, home, .. } = &installation;
            let found = finds(program.map(PathBuf::as_path), fleet, home, &at(here));
            assert_eq!(found, is_found, "{here} {program:?}");
        }
    }

    #[test]
    fn program_in_the_bin_of_a_home_finds_its_fleet() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/sanctum-launchd");
        assert_eq!(deployed_with(&program), None);
        let file = folder.path().join("fleet.toml");
        std::fs::write(&file, "").unwrap();
        assert_eq!(deployed_with(&program), Some(file));
        let unpacked = folder.path().join("sanctum-0.2.0/sanctum-launchd");
        assert_eq!(deployed_with(&unpacked), None);
    }

    #[test]
    fn host_is_the_only_one_or_must_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        let one = fleet("[hosts.mini]\naddress = \"a\"\n");
        assert_eq!(require_this_host(&one, &home).unwrap().as_str(), "mini");
        let two = fleet("[hosts.zig-1]\naddress = \"a\"\n[hosts.zig-2]\naddress = \"b\"\n");
        let error = require_this_host(&two, &home).unwrap_err().to_string();
        assert!(
            error.ends_with("add --host with one of zig-1, zig-2"),
            "{error}"
        );
        let error = named(&two, &"zig-3".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean"), "{error}");
        let error = named(&two, &"mini".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("the names are zig-1, zig-2"), "{error}");
        assert!(require_this_host(&fleet(""), &home).is_err());
    }
}
