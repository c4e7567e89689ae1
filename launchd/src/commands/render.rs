//! `sanctum-launchd render`: print the property lists, or write them for another tool.

use sanctum_config::{atomic, did_you_mean_or_names, files};
use serde_json::json;

use super::open;
use crate::Error;
use crate::args::{GlobalArgs, RenderArgs};
use crate::console::Console;
use crate::plist::{AgentPlist, render};

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    wanted: &RenderArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open(args)?;
    let mut plists = render(&installation.fleet, &installation.home, &installation.host)?;
    if let Some(name) = &wanted.agent {
        let names = plists.iter().map(|plist| plist.agent.as_str());
        let near = did_you_mean_or_names(name.as_str(), names);
        plists.retain(|plist| plist.agent == *name);
        if plists.is_empty() {
            return Err(Error::refused(format!(
                "{} has no agent `{name}`{near}",
                installation.host
            )));
        }
    }
    let Some(folder) = &wanted.out else {
        return print(&plists, console);
    };
    let mut written = 0;
    for plist in &plists {
        let path = folder.join(format!("{}.plist", plist.label));
        if files::read(&path, 1 << 20).is_ok_and(|bytes| bytes == plist.bytes) {
            continue;
        }
        console.step("write", &format!("write {}", path.display()))?;
        written += 1;
        if !console.dry_run {
            atomic::write(&path, &plist.bytes, 0o644)
                .map_err(|error| Error::write(&path, error))?;
        }
    }
    let line = match written {
        0 => "nothing to do: all property lists are up to date".to_owned(),
        _ => format!("{written} of {} property lists differ", plists.len()),
    };
    Ok(console.end(
        &line,
        json!({ "host": installation.host, "written": written }),
    )?)
}

fn print(plists: &[AgentPlist], console: &mut Console) -> Result<(), Error> {
    if console.is_json() {
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
        return Ok(console.end("", json!({ "agents": all }))?);
    }
    for plist in plists {
        console.raw().write_all(&plist.bytes)?;
    }
    Ok(())
}
