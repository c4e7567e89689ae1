//! `sanctum-launchd install`: make this host what fleet.toml says.

use std::time::Duration;

use sanctum_host::Active;
use serde_json::json;

use super::{installed, open};
use crate::Failure;
use crate::args::{InstallArgs, SiteArgs};
use crate::deploy::{After, Deployment, Resume};
use crate::firewall::{self, Ruling};
use crate::release::Release;
use crate::report::Report;
use crate::site::Site;
use crate::target::Target;

/// Runs it.
pub fn run(args: &SiteArgs, install: &InstallArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let mut work = Deployment::begin(&site, report, "install")?;
    work.resume(Resume::AsItWas, Duration::from_secs(install.patience))?;
    let from = installed(&site)?;
    let release = release(&site, install, from.as_ref(), work.report().dry_run)?;
    let previous = from.as_ref().and_then(|from| from.receipt.previous.clone());
    let to = Target::desired(
        &site,
        &release,
        previous,
        &Active::read(&site.home.active())?,
    )?;
    let changed = work.turn(from.as_ref(), &to, After::Leave)?;
    drop(work);
    firewall_notes(&site, report)?;
    let host = &site.host;
    let line = match (changed, report.dry_run) {
        (false, _) => format!(
            "nothing to do: {host} is as fleet.toml and release {} say",
            release.version
        ),
        (true, true) => format!("{host} would be changed as said; nothing has been done"),
        (true, false) => format!(
            "{host} is as fleet.toml and release {} say; a server may still be loading: sanctum-launchd status",
            release.version
        ),
    };
    let result = json!({ "host": host, "release": release.version, "changed": changed });
    Ok(report.end(&line, result)?)
}

/// The release to install: the one named, else the one that is installed.
fn release(
    site: &Site,
    install: &InstallArgs,
    from: Option<&Target>,
    dry_run: bool,
) -> Result<Release, Failure> {
    let installed = from.map(|from| from.receipt.release.as_str());
    match (&install.release, installed) {
        (None, Some(installed)) => Release::read(&site.home.release(installed)),
        (None, None) => Err(Failure::Refused(
            "nothing is installed here yet, so say which release: --release FOLDER".to_owned(),
        )),
        (Some(folder), _) => {
            let release = Release::read(folder)?;
            if let Some(installed) = installed
                && installed != release.version.as_str()
            {
                return Err(Failure::Refused(format!(
                    "release {installed} is installed; to change to {} type: sanctum-launchd upgrade --release {}",
                    release.version,
                    folder.display()
                )));
            }
            match dry_run {
                true => release.check(folder)?,
                false => drop(release.take_in(folder, &site.home)?),
            }
            Ok(release)
        }
    }
}

/// What a person has to do so that others can reach the server; nothing where that is done, or there is no firewall.
fn firewall_notes(site: &Site, report: &mut Report) -> Result<(), Failure> {
    let program = site.home.bin().join("sanctum-server");
    if !firewall::concerns(&site.fleet, &site.host) {
        return Ok(());
    }
    let lines = match firewall::ruling(&program) {
        Some(Ruling::Blocked | Ruling::Unknown) => firewall::allow(&program),
        Some(Ruling::AllBlocked) => vec![firewall::block_some()],
        _ => return Ok(()),
    };
    report.note("the firewall does not let others reach the server yet; type this, then: sanctum-launchd verify")?;
    for line in lines {
        report.note(&format!("    {line}"))?;
    }
    Ok(())
}
