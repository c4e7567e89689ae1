//! `sanctum-launchd receipt`: another host's receipt, checked and kept here.
//!
//! The other host may be the one that lies. So what can be made here is made here: fleet.toml, the property lists and the
//! files that go with them follow from our own fleet.toml, the programs from a release's folder. Only where that folder is
//! not named, the other host's word about its programs is taken, once, and that is said.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use sanctum_config::Home;
use sanctum_host::launchctl::Launchctl;
use sanctum_host::{Active, Artefact, ArtefactKind, Receipt};
use serde_json::json;

use super::open;
use crate::args::{ReceiptArgs, SiteArgs};
use crate::release::{Release, ReleaseFile};
use crate::report::Report;
use crate::site::{Site, this_host};
use crate::target::Target;
use crate::{Failure, remote};

/// Runs it.
pub fn run(args: &SiteArgs, receipt: &ReceiptArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let host = site.host.clone();
    if this_host(&site.fleet, &site.home).is_ok_and(|here| here == host) {
        return Err(Failure::Refused(format!(
            "{host} is this host, which has its receipt already; name another one with --host"
        )));
    }
    let (home, theirs) = fetch(&site)?;
    let ours = made_here(site, home, &theirs, receipt, report)?;
    let site = open(args)?;
    let path = site.home.receipt_of(&host);
    let before = Receipt::read(&path)?;
    let result = |changed: bool| json!({ "host": host, "release": ours.release, "path": path, "changed": changed });
    if before.as_ref() == Some(&ours) {
        let line = format!("nothing to do: {} is {host}'s receipt", path.display());
        return Ok(report.end(&line, result(false))?);
    }
    if let Some(before) = &before {
        for line in changes(before, &ours) {
            report.note(&line)?;
        }
        if !report.dry_run {
            agreed(receipt.yes)?;
        }
    }
    report.step("receipt", &format!("write {}", path.display()))?;
    if !report.dry_run {
        ours.write(&path)?;
    }
    let line = format!(
        "{host} is compared with release {} of {} from here; look now: sanctum-launchd verify --host {host}",
        ours.release, ours.installed
    );
    Ok(report.end(&line, result(true))?)
}

/// The receipt that lies on the other host, and the fleet's home there. A receipt's own paths are not believed: they could
/// lead to a copy of what was installed, beside what runs.
fn fetch(site: &Site) -> Result<(Home, Receipt), Failure> {
    let host = &site.host;
    let refused = |why: String| Failure::Refused(why);
    let Some(destination) = site.fleet.hosts[host].ssh.as_deref() else {
        return Err(refused(format!(
            "[hosts.{host}] has no `ssh`, so its receipt cannot be fetched; write `ssh = \"DESTINATION\"`"
        )));
    };
    let place = format!("{}/state/receipt.json", site.fleet.fleet.home.as_str());
    let line = format!("echo $HOME; cat {}", remote::quoted_path(&place));
    let said =
        remote::ssh(destination, &line, remote::LIMIT).map_err(|e| refused(e.to_string()))?;
    if !said.succeeded() {
        return Err(refused(format!(
            "`{}` failed: {}",
            remote::by_hand(destination, &line),
            said.reason()
        )));
    }
    // A login shell may have said something before.
    let split = said.stdout.split_once("\n{").and_then(|(before, rest)| {
        let user = before.lines().last().map(PathBuf::from)?;
        user.is_absolute().then(|| (user, format!("{{{rest}")))
    });
    let (user, text) = split.ok_or_else(|| {
        refused(format!(
            "what {host} has at {place} is no receipt, or it has no HOME there"
        ))
    })?;
    let receipt: Receipt = serde_json::from_str(&text)
        .map_err(|error| refused(format!("what {host} has at {place} is no receipt: {error}")))?;
    let home = Home::new(site.fleet.fleet.home.under(&user), user);
    match receipt.host == *host {
        true => Ok((home, receipt)),
        false => Err(refused(format!(
            "`ssh {destination}` leads to a host that was installed as `{}`, not as `{host}`",
            receipt.host
        ))),
    }
}

/// The same receipt with every digest that can be made here made here.
///
/// # Errors
/// If the other host's differs, or something to make it from is missing.
fn made_here(
    site: Site,
    home: Home,
    theirs: &Receipt,
    args: &ReceiptArgs,
    report: &mut Report,
) -> Result<Receipt, Failure> {
    let host = site.host.clone();
    let refused = |why: String| Failure::Refused(why);
    let release = match &args.release {
        Some(folder) => {
            let release = Release::read(folder)?;
            release.check(folder)?;
            release
        }
        None => {
            report.note(&format!(
                "{host}'s own word is taken for its programs; name the release's folder with --release to compare them with it"
            ))?;
            claimed(theirs).map_err(refused)?
        }
    };
    if release.version.as_str() != theirs.release {
        return Err(refused(format!(
            "{host} says that release {} is installed there, and the folder is release {}",
            theirs.release, release.version
        )));
    }
    let there = Site {
        home,
        launchctl: Launchctl::here(),
        ..site
    };
    let made = Target::desired(
        &there,
        &release,
        theirs.previous.clone(),
        &Active::default(),
    )?
    .receipt;
    let differences = changes(&made, theirs);
    if !differences.is_empty() || made.fleet_sha256 != theirs.fleet_sha256 {
        return Err(refused(format!(
            "{host} was installed from something else than {} and this release: {}; bring them together (sanctum-launchd \
             install, there, with this fleet.toml), or find out who changed it",
            there.file.display(),
            differences.join("; ")
        )));
    }
    Ok(Receipt {
        installed: theirs.installed.clone(),
        agents: theirs.agents.clone(),
        ..made
    })
}

/// The release that the other host says it has.
fn claimed(receipt: &Receipt) -> Result<Release, String> {
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

/// What differs from one receipt to another, a line for each file.
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
    let gone = from.keys().filter(|path| !to.contains_key(*path));
    lines.extend(gone.map(|path| format!("{} is gone", path.display())));
    lines
}

fn agreed(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
    if !std::io::stdin().is_terminal() {
        return refused(
            "nothing was written: nobody can be asked here; look at the difference, then add --yes",
        );
    }
    let mut out = std::io::stderr();
    write!(out, "Was that changed on purpose? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => refused("nothing was written"),
    }
}
