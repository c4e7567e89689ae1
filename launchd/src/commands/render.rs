//! `sanctum-launchd render`: the property lists, for reading or for another tool.

use sanctum_config::{atomic, did_you_mean, files};
use serde_json::json;

use super::open;
use crate::Failure;
use crate::args::{RenderArgs, SiteArgs};
use crate::plist::{AgentPlist, render};
use crate::report::Report;

/// Runs it.
pub fn run(args: &SiteArgs, wanted: &RenderArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let mut plists = render(&site.fleet, &site.home, &site.host)?;
    if let Some(name) = &wanted.agent {
        let near = did_you_mean(
            name.as_str(),
            plists.iter().map(|plist| plist.agent.as_str()),
        );
        plists.retain(|plist| plist.agent == *name);
        if plists.is_empty() {
            return Err(Failure::Refused(format!(
                "{} has no agent `{name}`{near}",
                site.host
            )));
        }
    }
    let Some(folder) = &wanted.out else {
        return print(&plists, report);
    };
    let mut written = 0;
    for plist in &plists {
        let path = folder.join(format!("{}.plist", plist.label));
        if files::read(&path, 1 << 20).is_ok_and(|bytes| bytes == plist.bytes) {
            continue;
        }
        report.step("write", &format!("write {}", path.display()))?;
        written += 1;
        if !report.dry_run {
            atomic::write(&path, &plist.bytes, 0o644)
                .map_err(|error| Failure::write(&path, error))?;
        }
    }
    let line = match written {
        0 => "nothing to do: all property lists are there and the same".to_owned(),
        _ => format!("{written} of {} property lists differ", plists.len()),
    };
    Ok(report.end(&line, json!({ "host": site.host, "written": written }))?)
}

fn print(plists: &[AgentPlist], report: &mut Report) -> Result<(), Failure> {
    if report.is_json() {
        let all: Vec<_> = (plists.iter())
            .map(|plist| {
                json!({
                    "agent": plist.agent,
                    "label": plist.label,
                    "path": plist.path,
                    "arguments": plist.arguments,
                    "plist": String::from_utf8_lossy(&plist.bytes),
                })
            })
            .collect();
        return Ok(report.end("", json!({ "agents": all }))?);
    }
    for plist in plists {
        report.raw().write_all(&plist.bytes)?;
    }
    Ok(())
}
