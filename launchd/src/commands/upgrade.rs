//! `sanctum-launchd upgrade`: change to another release, and take it back if it does not do.

use sanctum_host::Active;
use serde_json::json;

use super::{installed, must_be_installed, open};
use crate::Failure;
use crate::args::{SiteArgs, UpgradeArgs};
use crate::deploy::{After, Deployment, Resume};
use crate::preflight;
use crate::release::Release;
use crate::report::Report;
use crate::target::Target;

/// Runs it.
pub fn run(args: &SiteArgs, upgrade: &UpgradeArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let mut work = Deployment::begin(&site, report, "upgrade")?;
    work.resume(Resume::AsItWas, upgrade.patience())?;
    let before = must_be_installed(&site)?.release;
    let release = Release::read(&upgrade.release)?;
    release.check(&upgrade.release)?;
    let version = release.version.to_string();
    if version == before {
        let line = format!(
            "release {version} is installed already; to repair it type: sanctum-launchd install"
        );
        drop(work);
        let result = json!({ "host": site.host, "release": version, "changed": false });
        return Ok(report.end(&line, result)?);
    }
    let from = installed(&site)?;
    let active = Active::read(&site.home.active())?;
    let to = Target::desired(&site, &release, Some(before.clone()), &active)?;
    if !work.report().dry_run {
        let patience = upgrade.patience();
        preflight::before(
            &site,
            &upgrade.release,
            upgrade.trial,
            patience,
            work.report(),
        )?;
        release.take_in(&upgrade.release, &site.home)?;
    }
    work.turn(from.as_ref(), &to, After::Prove(upgrade.patience()))?;
    drop(work);
    let line = match report.dry_run {
        true => format!(
            "{} would change from release {before} to {version}; nothing has been done",
            site.host
        ),
        false => format!(
            "{} has changed from release {before} to {version}; back again: sanctum-launchd rollback",
            site.host
        ),
    };
    let result =
        json!({ "host": site.host, "release": version, "previous": before, "changed": true });
    Ok(report.end(&line, result)?)
}
