//! Where a command works: which fleet.toml, which home, and which of its hosts this is.

use std::path::{Path, PathBuf};

use sanctum_config::{Fleet, FleetError, Home, Label, did_you_mean, files};
use sanctum_host::Receipt;
use sanctum_host::launchctl::Launchctl;

use crate::Failure;

/// Larger than any fleet.toml.
pub(crate) const LARGEST_FLEET: u64 = 4 << 20;

/// The fleet, this host in it, and launchd.
pub struct Site {
    /// The fleet.toml that was read, whole path.
    pub file: PathBuf,
    /// Its bytes: they are what is deployed.
    pub text: Vec<u8>,
    /// What they mean.
    pub fleet: Fleet,
    /// The fleet's home on this host.
    pub home: Home,
    /// The host that the command is about.
    pub host: Label,
    /// launchd on this host.
    pub launchctl: Launchctl,
}

impl Site {
    /// Reads fleet.toml: the one named, else `fleet.toml` in this folder, else the deployed one. The host is the one
    /// named, else [`this_host`].
    ///
    /// # Errors
    /// If the file cannot be used, or the host cannot be told.
    pub fn open(config: Option<&Path>, host: Option<&Label>) -> Result<Self, Failure> {
        let (file, text, fleet) = read(config)?;
        let home = Home::of(&fleet)?;
        let host = match host {
            Some(name) => named(&fleet, name)?,
            None => this_host(&fleet, &home)?,
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
    pub fn receipt(&self) -> Result<Option<Receipt>, Failure> {
        Ok(Receipt::read(&self.home.receipt())?)
    }
}

/// The fleet alone, where no host is asked for.
///
/// # Errors
/// If the file cannot be used.
pub fn fleet_of(config: Option<&Path>) -> Result<(PathBuf, Fleet), Failure> {
    read(config).map(|(file, _, fleet)| (file, fleet))
}

fn read(config: Option<&Path>) -> Result<(PathBuf, Vec<u8>, Fleet), Failure> {
    let file = match config {
        Some(file) => file.to_owned(),
        None => usual_file()?,
    };
    let file = std::path::absolute(&file).map_err(|error| Failure::read(&file, error))?;
    let unread = |source| FleetError::Read {
        path: file.clone(),
        source,
    };
    let text = files::read_text(&file, LARGEST_FLEET).map_err(unread)?;
    let fleet = Fleet::parse(&text, &file)?;
    Ok((file, text.into_bytes(), fleet))
}

fn usual_file() -> Result<PathBuf, Failure> {
    let here = PathBuf::from("fleet.toml");
    if here.exists() {
        return Ok(here);
    }
    // The usual home: another one must be named, since only fleet.toml knows it.
    let deployed = Home::of(&Fleet::default())?.fleet_toml();
    if deployed.exists() {
        return Ok(deployed);
    }
    Err(Failure::Refused(format!(
        "there is no fleet.toml in this folder and none at {}; name the fleet's file with --config",
        deployed.display()
    )))
}

fn named(fleet: &Fleet, name: &Label) -> Result<Label, Failure> {
    if fleet.hosts.contains_key(name) {
        return Ok(name.clone());
    }
    let near = did_you_mean(name.as_str(), fleet.hosts.keys().map(Label::as_str));
    Err(Failure::Refused(format!(
        "fleet.toml has no [hosts.{name}]{near}"
    )))
}

/// Which of the fleet's hosts this machine is: the one that the receipt says was installed here, else the only one,
/// else the one whose name, address or ssh destination is this machine's name.
///
/// # Errors
/// If it cannot be told.
pub fn this_host(fleet: &Fleet, home: &Home) -> Result<Label, Failure> {
    sanctum_host::this_host(fleet, home)?.ok_or_else(|| {
        let machine = sanctum_host::machine_name();
        let names: Vec<&str> = fleet.hosts.keys().map(Label::as_str).collect();
        Failure::Refused(match names.is_empty() {
            true => "fleet.toml has no [hosts.NAME]; add one for this machine".to_owned(),
            false => format!(
                "cannot tell which host this machine (`{machine}`) is; say --host and one of {}",
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
    fn the_host_is_the_only_one_or_must_be_said() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        let one = fleet("[hosts.mini]\naddress = \"a\"\n");
        assert_eq!(this_host(&one, &home).unwrap().as_str(), "mini");
        let two = fleet("[hosts.zig-1]\naddress = \"a\"\n[hosts.zig-2]\naddress = \"b\"\n");
        let error = this_host(&two, &home).unwrap_err().to_string();
        assert!(
            error.ends_with("say --host and one of zig-1, zig-2"),
            "{error}"
        );
        let error = named(&two, &"zig-3".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean"), "{error}");
        assert!(this_host(&fleet(""), &home).is_err());
    }
}
