//! `sanctum-launchd uninstall`: no agent and no program stays; what cannot be made again does.

use serde_json::json;

use super::{installed, open};
use crate::Failure;
use crate::args::SiteArgs;
use crate::deploy::{After, Deployment, Resume};
use crate::flight;
use crate::report::Report;
use crate::target::Target;

/// Runs it.
pub fn run(args: &SiteArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let mut work = Deployment::begin(&site, report, "uninstall")?;
    work.resume(Resume::AsItWas, flight::PATIENCE)?;
    let from = installed(&site)?;
    let changed = match &from {
        Some(from) => work.turn(Some(from), &Target::nothing(&site.host), After::Leave)?,
        None => false,
    };
    drop(work);
    let home = site.home.path().display();
    let line = match (changed, report.dry_run) {
        (false, _) => "nothing to do: nothing is installed here".to_owned(),
        (true, true) => "nothing has been done".to_owned(),
        (true, false) => {
            format!(
                "uninstalled; certificates, secrets, logs, state and kept releases are still in {home}"
            )
        }
    };
    Ok(report.end(&line, json!({ "host": site.host, "changed": changed }))?)
}
