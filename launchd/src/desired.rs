//! The desired state of a host: what fleet.toml and a release ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, files};
use sanctum_host::journal::timestamp;
use sanctum_host::{
    Active, Artefact, ArtefactKind, Installation, InstalledAgent, Receipt, Release,
};

use crate::Error;
use crate::host_state::{HostState, active_of, is_enabled, signature_of};
use crate::plist;

/// What fleet.toml and `release` ask for. `active` says which agents serve; `previous` is the release that a rollback
/// returns to.
///
/// # Errors
/// If the release lacks a program, or a file that fleet.toml names is missing.
pub(crate) fn desired(
    installation: &Installation,
    release: &Release,
    previous: Option<String>,
    active: &Active,
) -> Result<HostState, Error> {
    let (fleet, home) = (&installation.fleet, &installation.home);
    let mut files = DesiredFiles::default();
    for file in &release.files {
        files.artefacts.push(Artefact {
            path: home.bin().join(file.name.as_str()),
            sha256: file.sha256,
            mode: file.kind.mode(),
            kind: file.kind,
        });
    }
    files.add(
        home.fleet_toml(),
        installation.text.clone(),
        ArtefactKind::Fleet,
    );
    add_companions(installation, &mut files)?;
    let mut agents = Vec::new();
    let mut arguments = BTreeMap::new();
    for plist in plist::render(fleet, home, &installation.host)? {
        if let Some(binary) = &plist.binary
            && release.file(binary).is_none()
        {
            return Err(Error::refused(format!(
                "release {} has no {binary}, the program of the agent `{}`; add it to the release, or remove the agent from \
                 [hosts.{}]",
                release.version, plist.agent, installation.host
            )));
        }
        arguments.insert(plist.label.clone(), plist.arguments);
        agents.push(InstalledAgent {
            enabled: is_enabled(fleet, active, &plist.agent),
            name: plist.agent,
            label: plist.label,
            plist: plist.path.clone(),
        });
        files.add(plist.path, plist.bytes, ArtefactKind::Plist);
    }
    let receipt = Receipt {
        host: installation.host.clone(),
        release: release.version.to_string(),
        previous,
        installed: timestamp(),
        fleet_sha256: Digest::of(&installation.text),
        artefacts: files.artefacts,
        agents,
    };
    Ok(HostState {
        active: active_of(fleet, &receipt),
        receipt,
        fleet: fleet.clone(),
        arguments,
        contents: files.contents,
    })
}

/// DesiredFiles with their contents.
#[derive(Default)]
struct DesiredFiles {
    artefacts: Vec<Artefact>,
    contents: BTreeMap<Digest, Vec<u8>>,
}

impl DesiredFiles {
    fn add(&mut self, path: PathBuf, bytes: Vec<u8>, kind: ArtefactKind) {
        let sha256 = Digest::of(&bytes);
        self.artefacts.push(Artefact {
            path,
            sha256,
            mode: kind.mode(),
            kind,
        });
        self.contents.insert(sha256, bytes);
    }
}

/// The files that fleet.toml names by relative paths: each is deployed to the same path relative to the deployed
/// fleet.toml, together with its signature if it has one.
fn add_companions(installation: &Installation, deployed: &mut DesiredFiles) -> Result<(), Error> {
    /// The manifest of a model with many files has a few hundred KiB.
    const MAX_BYTES: u64 = 64 << 20;
    let source = installation.file.parent().unwrap_or(Path::new("."));
    let home = installation.home.path();
    for path in installation.fleet.companions(&installation.host) {
        let from = source.join(&path);
        let bytes = files::read(&from, MAX_BYTES).map_err(|error| {
            Error::refused(format!(
                "cannot read {}, which fleet.toml names as `{}`: {error}; put the file there, or write a path that begins \
                 with / or ~/",
                from.display(),
                path.display()
            ))
        })?;
        deployed.add(home.join(&path), bytes, ArtefactKind::Spec);
        let signature = signature_of(&path);
        if let Ok(bytes) = files::read(&source.join(&signature), MAX_BYTES) {
            deployed.add(home.join(signature), bytes, ArtefactKind::Spec);
        }
    }
    Ok(())
}
