//! `sanctum-launchd receipt`: check another host's receipt and keep a copy of it here.
//!
//! An attacker may control the other host. So this host computes every digest that it can: those of fleet.toml, the
//! property lists and the files beside them from its own fleet.toml, those of the programs from a release's folder. Without
//! that folder, it trusts the other host's digests of its programs once, and reports that.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use sanctum_config::Home;
use sanctum_host::{
    Active, Artefact, ArtefactKind, Installation, Launchctl, Receipt, Release, ReleaseFile, ssh,
    this_host,
};
use serde_json::json;

use super::open;
use crate::Error;
use crate::args::{GlobalArgs, ReceiptArgs};
use crate::console::Console;
use crate::desired::desired;
use crate::release_folder::check;

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    receipt: &ReceiptArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open(args)?;
    let host = installation.host.clone();
    let here = this_host(&installation.fleet, &installation.home);
    if here.is_ok_and(|here| here.as_ref() == Some(&host)) {
        return Err(Error::refused(format!(
            "{host} is this host, which has its receipt already; name another host with --host"
        )));
    }
    let path = installation.home.receipt_of(&host);
    let (home, theirs) = fetch(&installation)?;
    let verify = installation.typed(&format!("verify --host {host}"));
    let computed = compute(installation, home, &theirs, receipt, console)?;
    let before = Receipt::read(&path)?;
    let result = |changed: bool| json!({ "host": host, "release": computed.release, "path": path, "changed": changed });
    if before.as_ref() == Some(&computed) {
        let line = format!("nothing to do: {} is {host}'s receipt", path.display());
        return Ok(console.end(&line, result(false))?);
    }
    if let Some(before) = &before {
        for line in changes(before, &computed) {
            console.note(&line)?;
        }
        if !console.dry_run {
            confirm(receipt.yes)?;
        }
    }
    console.step("receipt", &format!("write {}", path.display()))?;
    if !console.dry_run {
        computed.write(&path)?;
    }
    let line = format!(
        "this host compares {host} with release {} of {}; to check now, run: {verify}",
        computed.release, computed.installed
    );
    Ok(console.end(&line, result(true))?)
}

/// The other host's receipt, and the fleet's home there. The paths in a receipt are not trusted: they could lead to a copy
/// of what was installed, beside the files that run.
fn fetch(installation: &Installation) -> Result<(Home, Receipt), Error> {
    let (host, fleet) = (&installation.host, &installation.fleet);
    let Some(destination) = fleet.hosts[host].ssh.as_deref() else {
        return Err(Error::refused(format!(
            "[hosts.{host}] has no `ssh`, so its receipt cannot be fetched; write `ssh = \"DESTINATION\"`"
        )));
    };
    let place = format!("{}/state/receipt.json", fleet.fleet.home.as_str());
    let line = format!("echo $HOME; cat {}", ssh::quoted_path(&place));
    let output = ssh::run_in_time(destination, &line)
        .map_err(|why| Error::refused(format!("the receipt of {host} cannot be fetched: {why}")))?;
    if !output.succeeded() {
        return Err(Error::refused(format!(
            "`{}` failed: {}",
            ssh::by_hand(destination, &line),
            output.reason()
        )));
    }
    // A login shell may have printed something before.
    let split = output.stdout.split_once("\n{").and_then(|(before, rest)| {
        let user = before.lines().last().map(PathBuf::from)?;
        user.is_absolute().then(|| (user, format!("{{{rest}")))
    });
    let (user, text) = split.ok_or_else(|| {
        Error::refused(format!(
            "{place} on {host} is not a receipt, or HOME is not set there"
        ))
    })?;
    let receipt: Receipt = serde_json::from_str(&text)
        .map_err(|error| Error::refused(format!("{place} on {host} is not a receipt: {error}")))?;
    let home = Home::new(fleet.fleet.home.under(&user), user);
    match receipt.host == *host {
        true => Ok((home, receipt)),
        false => Err(Error::refused(format!(
            "`ssh {destination}` connects to a host that was installed as `{}`, not as `{host}`",
            receipt.host
        ))),
    }
}

/// The same receipt with every digest that can be computed here computed here.
///
/// # Errors
/// If the other host's receipt differs, or something that is needed for it is missing.
fn compute(
    installation: Installation,
    home: Home,
    theirs: &Receipt,
    args: &ReceiptArgs,
    console: &mut Console,
) -> Result<Receipt, Error> {
    let host = installation.host.clone();
    let release = match &args.release {
        Some(folder) => {
            let release = Release::read(folder)?;
            check(&release, folder)?;
            release
        }
        None => {
            console.note(&format!(
                "the digests of {host}'s programs are {host}'s own; add --release FOLDER to compute them here"
            ))?;
            reported_release(theirs).map_err(Error::refused)?
        }
    };
    if release.version.as_str() != theirs.release {
        return Err(Error::refused(format!(
            "{host} reports that release {} is installed there, and the folder is release {}",
            theirs.release, release.version
        )));
    }
    let there = Installation {
        home,
        launchctl: Launchctl::here(),
        ..installation
    };
    let previous = theirs.previous.clone();
    let computed = desired(&there, &release, previous, &Active::default())?.receipt;
    let differences = changes(&computed, theirs);
    if !differences.is_empty() || computed.fleet_sha256 != theirs.fleet_sha256 {
        return Err(Error::refused(format!(
            "{host} was not installed from {} and this release: {}; run there, with this fleet.toml: sanctum-launchd \
             install; or find out who changed that host",
            there.file.display(),
            differences.join("; ")
        )));
    }
    Ok(Receipt {
        installed: theirs.installed.clone(),
        agents: theirs.agents.clone(),
        ..computed
    })
}

/// The release that the other host reports.
fn reported_release(receipt: &Receipt) -> Result<Release, String> {
    let programs = (receipt.artefacts.iter())
        .filter(|file| matches!(file.kind, ArtefactKind::Binary | ArtefactKind::Metallib));
    let files = programs.map(|file| {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(ReleaseFile {
            name: name.into_owned().try_into()?,
            sha256: file.sha256,
            kind: file.kind,
        })
    });
    Ok(Release {
        version: receipt.release.clone().try_into()?,
        files: files.collect::<Result<_, String>>()?,
    })
}

/// The differences between two receipts, a line for each file.
fn changes(from: &Receipt, to: &Receipt) -> Vec<String> {
    let by_path = |receipt: &Receipt| -> BTreeMap<PathBuf, Artefact> {
        let files = receipt.artefacts.iter();
        files
            .map(|file| (file.path.clone(), file.clone()))
            .collect()
    };
    let (from, to) = (by_path(from), by_path(to));
    let mut lines = Vec::new();
    for (path, file) in &to {
        match from.get(path) {
            None => lines.push(format!("{} is new", path.display())),
            Some(before) if before != file => lines.push(format!("{} differs", path.display())),
            Some(_) => {}
        }
    }
    let removed = from.keys().filter(|path| !to.contains_key(*path));
    lines.extend(removed.map(|path| format!("{} is removed", path.display())));
    lines
}

/// Asks the operator on the terminal, unless `--yes` has answered already.
fn confirm(yes: bool) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::refused(
            "nothing was written: standard input is not a terminal, so there is no confirmation; check the differences, \
             then add --yes",
        ));
    }
    let mut out = std::io::stderr();
    write!(out, "Are these changes intended? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::refused("nothing was written")),
    }
}
