//! The receipt: what was installed on a host. Every deployment writes it last; `verify` and drift compare the host with it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use sanctum_config::record::{self, RecordError};
use sanctum_config::{Digest, Label};

/// What was installed on a host, and is therefore expected there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Receipt {
    /// The host, as in `[hosts.NAME]`.
    pub host: Label,
    /// The release's version, which is its folder's name under `releases/`.
    pub release: String,
    /// The release before this one: the target of a rollback.
    #[serde(default)]
    pub previous: Option<String>,
    /// When it was installed, in UTC as RFC 3339 has it.
    pub installed: String,
    /// The digest of the deployed fleet.toml.
    pub fleet_sha256: Digest,
    /// Every file that was put in place, fleet.toml included.
    pub artefacts: Vec<Artefact>,
    /// Every agent that launchd knows or should know.
    pub agents: Vec<InstalledAgent>,
}

/// A file that was put in place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Artefact {
    /// Its path on that host.
    pub path: PathBuf,
    /// The digest of its contents.
    pub sha256: Digest,
    /// Its permission bits, such as 0o755; a decimal number in JSON.
    pub mode: u32,
    /// What it is.
    pub kind: ArtefactKind,
}

/// What an artefact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtefactKind {
    /// A program.
    Binary,
    /// MLX's compiled kernels, beside the program that uses them.
    Metallib,
    /// An agent's property list.
    Plist,
    /// The deployed fleet.toml.
    Fleet,
    /// A file that fleet.toml names by a relative path: a parity spec, a model's manifest or its signature.
    Spec,
}

impl ArtefactKind {
    /// The permission bits with which a file of this kind is installed, such as 0o755.
    pub fn mode(self) -> u32 {
        match self {
            Self::Binary => 0o755,
            // It may contain the addresses of alert channels, which can be secrets.
            Self::Fleet => 0o600,
            Self::Metallib | Self::Plist | Self::Spec => 0o644,
        }
    }
}

/// An agent as launchd should have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InstalledAgent {
    /// Its section's name in fleet.toml.
    pub name: Label,
    /// launchd's label: `com.<fleet>.<agent>`.
    pub label: String,
    /// Its property list.
    pub plist: PathBuf,
    /// Whether it should run. A standby agent is disabled and not loaded.
    pub enabled: bool,
}

impl Receipt {
    /// Reads it; none if nothing has been installed.
    ///
    /// # Errors
    /// If it cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        record::read(path)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// The artefact at a path.
    pub fn artefact(&self, path: &Path) -> Option<&Artefact> {
        self.artefacts.iter().find(|artefact| artefact.path == path)
    }

    /// The agent of that name.
    pub fn agent(&self, name: &Label) -> Option<&InstalledAgent> {
        self.agents.iter().find(|agent| agent.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/receipt.json");
        assert_eq!(Receipt::read(&path).unwrap(), None);
        let name = |text: &str| text.parse::<Label>().unwrap();
        let receipt = Receipt {
            host: name("mini"),
            release: "0.2.0".into(),
            previous: None,
            installed: "2026-04-18T03:00:00Z".into(),
            fleet_sha256: Digest::of(b"fleet"),
            artefacts: vec![Artefact {
                path: "/home/ada/.sanctum/bin/sanctum-server".into(),
                sha256: Digest::of(b"server"),
                mode: 0o755,
                kind: ArtefactKind::Binary,
            }],
            agents: vec![InstalledAgent {
                name: name("server"),
                label: "com.sanctum.server".into(),
                plist: "/home/ada/Library/LaunchAgents/com.sanctum.server.plist".into(),
                enabled: true,
            }],
        };
        receipt.write(&path).unwrap();
        assert_eq!(Receipt::read(&path).unwrap(), Some(receipt.clone()));
        assert!(receipt.agent(&name("server")).is_some());
        assert!(receipt.artefact(Path::new("/elsewhere")).is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"kind\": \"binary\""), "{text}");
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = Receipt::read(&path).unwrap_err().to_string();
        assert!(error.contains("receipt.json is damaged"), "{error}");
    }
}
