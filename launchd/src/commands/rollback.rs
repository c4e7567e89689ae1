//! `sanctum-launchd rollback`: to the release before, or to the standby agent and back.

use std::path::Path;

use sanctum_config::{Label, files};
use serde_json::json;

use super::{installed, must_be_installed, open};
use crate::Failure;
use crate::args::{RollbackArgs, SiteArgs};
use crate::deploy::{After, Deployment, Resume};
use crate::flight;
use crate::journal::now;
use crate::plist::arguments_in;
use crate::report::Report;
use crate::site::Site;
use crate::store::Store;
use crate::target::Target;

/// Runs it. After a command that was interrupted, taking that back is all that it does.
pub fn run(args: &SiteArgs, rollback: &RollbackArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let mut work = Deployment::begin(&site, report, "rollback")?;
    let resumed = work.resume(Resume::Back, rollback.patience())?;
    let asks_for_more = rollback.agent.is_some() || rollback.to.is_some();
    if resumed && !asks_for_more {
        drop(work);
        let verb = if report.dry_run { "would be" } else { "was" };
        let line = format!("the interrupted command {verb} taken back");
        let result = json!({ "host": site.host, "release": site.receipt()?.map(|r| r.release), "changed": true });
        return Ok(report.end(&line, result)?);
    }
    must_be_installed(&site)?;
    let from = installed(&site)?;
    let to = match (&from, &rollback.agent) {
        (Some(from), Some(agent)) => {
            let to = from.clone().flipped_to(agent)?;
            can_serve(&to, agent)?;
            to
        }
        _ => earlier(&site, rollback)?,
    };
    let changed = work.turn(from.as_ref(), &to, After::Leave)?;
    let logs = work.log_ends().clone();
    drop(work);
    if changed && !report.dry_run && !rollback.no_wait {
        // Whatever it answers, going forward again is no answer: a person decides.
        let patience = rollback.patience();
        // The watchdogs check again by now: there is no lease to renew.
        let after = flight::after(&site, &to, patience, &logs, report, || Ok(()));
        after.map_err(|failure| {
            let mend = match &rollback.agent {
                Some(agent) => format!(
                    "; see {}, or hand the place to another: sanctum-launchd rollback --agent NAME",
                    site.home.log(agent).display()
                ),
                None => String::new(),
            };
            Failure::Refused(format!("rolled back, but {failure}{mend}"))
        })?;
    }
    let line = match (&rollback.agent, changed, report.dry_run) {
        (_, false, _) => "nothing to do: that is how it is already".to_owned(),
        (Some(agent), true, false) => format!("`{agent}` serves now"),
        (Some(agent), true, true) => {
            format!("`{agent}` would serve; nothing has been changed")
        }
        (None, true, false) => format!("release {} is in place", to.receipt.release),
        (None, true, true) => format!(
            "release {} would be in place; nothing has been changed",
            to.receipt.release
        ),
    };
    let result = json!({
        "host": site.host,
        "release": to.receipt.release,
        "active": to.active,
        "changed": changed,
    });
    Ok(report.end(&line, result)?)
}

/// A server that works must not be stopped for a program that is not there.
fn can_serve(to: &Target, agent: &Label) -> Result<(), Failure> {
    let plist = to.receipt.agent(agent).map(|agent| agent.plist.clone());
    let arguments = plist
        .and_then(|plist| files::read(&plist, 1 << 20).ok())
        .and_then(|bytes| arguments_in(&bytes))
        .unwrap_or_default();
    let program = arguments.first().map(Path::new);
    match program.filter(|program| program.is_absolute() && !program.exists()) {
        Some(program) => Err(Failure::Refused(format!(
            "`{agent}` runs {}, which is not there; nothing was changed: install that program, or mend `program` in \
             [agents.{agent}] and type: sanctum-launchd install",
            program.display()
        ))),
        None => Ok(()),
    }
}

/// What an earlier release was deployed as: programs, property lists, fleet.toml and who served, together.
fn earlier(site: &Site, rollback: &RollbackArgs) -> Result<Target, Failure> {
    let store = Store(&site.home);
    let now_here = must_be_installed(site)?;
    let version = match (&rollback.to, now_here.previous) {
        (Some(version), _) => version.to_string(),
        (None, Some(previous)) => previous,
        (None, None) => {
            let others = store.releases()?.into_iter().map(|kept| kept.release);
            let others: Vec<String> = others.filter(|kept| *kept != now_here.release).collect();
            let why = match others.first() {
                None => "so there is none to go back to".to_owned(),
                Some(latest) => format!(
                    "so none came before it; kept here: {}; to change to one of them type: sanctum-launchd rollback --to \
                     {latest}",
                    others.join(", ")
                ),
            };
            return Err(Failure::Refused(format!(
                "release {} is the first here, {why}",
                now_here.release
            )));
        }
    };
    let Some(mut receipt) = store.recall(&version)? else {
        let kept: Vec<String> = store
            .releases()?
            .into_iter()
            .map(|receipt| receipt.release)
            .collect();
        return Err(Failure::Refused(format!(
            "release {version} is not kept here; there is {}",
            kept.join(", ")
        )));
    };
    receipt.installed = now();
    Target::recall(&store, receipt)
}
