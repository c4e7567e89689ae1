//! Another host, checked from outside: its system's tools hash its files over ssh, and the digests are compared with this
//! host's copy of its receipt. The fleet's own programs on that host are not asked: an attacker who has replaced one of them
//! controls its answers.
//!
//! This check trusts the other host's sshd and its tools ([`remote_files`]).

use std::path::Path;
use std::time::Duration;

use sanctum_config::record::RecordError;
use sanctum_config::{Fleet, Home, Label};

use crate::remote_files::{self, RemoteFile, RemoteFilesError};
use crate::ssh::quoted_file;
use crate::verify::{forbidden_key, keys_of_signers};
use crate::{Artefact, ArtefactKind, Finding, FindingKind, Receipt, TypedCommands};

/// Why another host could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum OffboxError {
    /// ssh could not connect: the host or the network is down.
    #[error("{host} cannot be reached by ssh: {reason}")]
    Unreachable {
        /// The host.
        host: Label,
        /// ssh's message.
        reason: String,
    },
    /// The host has another key than before, or no longer accepts this host's key. A host that is down does neither.
    #[error(
        "{host} answers and refuses the connection, or it is another machine than before: {reason}; try it by hand: ssh \
         {destination} true"
    )]
    Refused {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// ssh's message.
        reason: String,
    },
    /// fleet.toml does not say how to reach it.
    #[error(
        "[hosts.{0}] has no `ssh`, so it cannot be checked from here; write `ssh = \"DESTINATION\"`"
    )]
    NoDestination(Label),
    /// The output of its tools does not parse.
    #[error(
        "stat and shasum on {host} printed something unexpected: {reason}; try it by hand: ssh {destination} true"
    )]
    BadOutput {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// The beginning of its output.
        reason: String,
    },
    /// This host's copy of its receipt cannot be read.
    #[error(transparent)]
    Copy(#[from] RecordError),
}

/// The differences between `host` and this host's copy of its receipt, in a fixed order; empty if there is none. `commands` are
/// those of this host.
///
/// # Errors
/// If it cannot be checked.
pub fn offbox(
    fleet: &Fleet,
    home: &Home,
    host: &Label,
    commands: &TypedCommands,
    limit: Duration,
) -> Result<Vec<Finding>, OffboxError> {
    let destination = (fleet.hosts.get(host))
        .and_then(|host| host.ssh.as_deref())
        .ok_or_else(|| OffboxError::NoDestination(host.clone()))?;
    let copy = home.receipt_of(host);
    let Some(receipt) = Receipt::read(&copy)? else {
        let problem = format!("this host has no copy of {host}'s receipt to compare with");
        let fix = copy_again(commands, host);
        return Ok(vec![Finding::new(
            FindingKind::NoReceipt,
            copy.display(),
            problem,
            fix,
        )]);
    };
    let serves = fleet.servers.values().any(|server| server.host == *host);
    let keys = match home_there(&receipt) {
        Some(there) if serves => keys_of_signers(&there).to_vec(),
        _ => Vec::new(),
    };
    let paths: Vec<&Path> = (receipt.artefacts.iter())
        .map(|artefact| artefact.path.as_path())
        .chain(keys.iter().map(|(path, _)| path.as_path()))
        .collect();
    let seen = inspect(host, destination, &paths, limit)?;
    let (artefacts, forbidden_keys) = seen.split_at(receipt.artefacts.len());
    let mut findings = Vec::new();
    for (artefact, seen) in receipt.artefacts.iter().zip(artefacts) {
        findings.extend(compare(host, artefact, seen, commands));
    }
    for ((path, purpose), seen) in keys.iter().zip(forbidden_keys) {
        if !seen.absent {
            findings.push(forbidden_key(&there(host, path), purpose, path));
        }
    }
    findings.sort();
    Ok(findings)
}

/// The fleet's home on the host that a receipt is about; none if the receipt has no fleet.toml.
fn home_there(receipt: &Receipt) -> Option<Home> {
    let fleet = (receipt.artefacts.iter()).find(|file| file.kind == ArtefactKind::Fleet)?;
    let root = fleet.path.parent()?;
    // ~/Library/LaunchAgents/LABEL.plist
    let user = receipt
        .agents
        .first()
        .and_then(|agent| agent.plist.ancestors().nth(3));
    Some(Home::new(root.to_owned(), user.unwrap_or(root).to_owned()))
}

fn there(host: &Label, path: &Path) -> String {
    format!("{host}:{}", path.display())
}

fn inspect(
    host: &Label,
    destination: &str,
    paths: &[&Path],
    limit: Duration,
) -> Result<Vec<RemoteFile>, OffboxError> {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let host = host.clone();
    let destination_there = destination.to_owned();
    remote_files::inspect(destination, &paths, limit).map_err(|error| match error {
        RemoteFilesError::Unreachable(reason) => OffboxError::Unreachable { host, reason },
        RemoteFilesError::Refused(reason) => OffboxError::Refused {
            host,
            destination: destination_there,
            reason,
        },
        RemoteFilesError::BadOutput(reason) => OffboxError::BadOutput {
            host,
            destination: destination_there,
            reason,
        },
    })
}

/// The command that copies a host's receipt again.
fn copy_again(commands: &TypedCommands, host: &Label) -> String {
    commands.typed(&format!("receipt --host {host} --release FOLDER"))
}

fn compare(
    host: &Label,
    artefact: &Artefact,
    seen: &RemoteFile,
    commands: &TypedCommands,
) -> Vec<Finding> {
    let subject = there(host, &artefact.path);
    let fix = format!(
        "on {host}: sanctum-launchd install (puts it back); here, if {host} was changed on purpose: {}",
        copy_again(commands, host)
    );
    let found = |kind, problem: String, fix: &str| Finding::new(kind, &subject, problem, fix);
    if seen.absent {
        return vec![found(
            FindingKind::Missing,
            "it is missing".to_owned(),
            &fix,
        )];
    }
    let mut findings = Vec::new();
    match seen.sha256 {
        Some(sha256) if sha256 == artefact.sha256 => {}
        Some(sha256) => findings.push(found(
            FindingKind::Changed,
            format!(
                "its contents are not the installed ones (SHA-256 {sha256}, installed {})",
                artefact.sha256
            ),
            &fix,
        )),
        None => findings.push(found(
            FindingKind::Changed,
            "it cannot be read there, or there is neither shasum nor sha256sum".to_owned(),
            &fix,
        )),
    }
    if seen.mode != Some(artefact.mode) {
        let mode = seen
            .mode
            .map_or("unknown".to_owned(), |mode| format!("{mode:04o}"));
        findings.push(found(
            FindingKind::Mode,
            format!("its mode is {mode}, installed {:04o}", artefact.mode),
            &format!(
                "on {host}: chmod {:o} {}",
                artefact.mode,
                quoted_file(&artefact.path)
            ),
        ));
    }
    findings
}
