//! Before an upgrade: what can be known of the new release without stopping anything.
//!
//! An instance of the same models elsewhere (the shadow) must answer right if it answers at all; the new program must find
//! the models whole; and where memory admits it, the new program is started once on a free port and asked.

use std::path::Path;
use std::time::Duration;

use sanctum_config::fleet::Server;
use sanctum_config::{Label, Role};
use sanctum_host::command;

use crate::Failure;
use crate::ask::Door;
use crate::question::{NotRight, question};
use crate::report::Report;
use crate::site::Site;
use crate::wait::Wait;
use crate::{memory, trial};

/// Asks and tries everything for each server of this host. `programs` is the new release's folder; each wait lasts
/// `patience` at most.
///
/// # Errors
/// If something speaks against it; nothing has been changed.
pub fn before(
    site: &Site,
    programs: &Path,
    trial: Trial,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    for (name, role) in site.fleet.agents_of(&site.host) {
        let Role::Server(server) = role else {
            continue;
        };
        let against = |why: String| {
            Failure::Refused(format!(
                "the upgrade was not begun, and nothing has been changed: {why}"
            ))
        };
        ask_shadow(site, name, server, patience, report).map_err(|f| against(f.to_string()))?;
        let program = programs.join("sanctum-server");
        check_models(site, name, server, &program, patience, report)
            .map_err(|f| against(f.to_string()))?;
        if trial == Trial::Never {
            continue;
        }
        match room_for(site, server) {
            Ok(()) => {
                trial::run(site, name, server, &program, patience, report).map_err(against)?;
            }
            Err(why) if trial == Trial::Always => return Err(against(why)),
            Err(why) => report.note(&format!("no second instance of `{name}` is tried: {why}"))?,
        }
    }
    Ok(())
}

/// Whether a second instance is started before an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// Where free memory admits it
    #[default]
    Auto,
    /// Always: the upgrade is not begun without
    Always,
    /// Never
    Never,
}

/// Another server of the same models must answer right. One that cannot be reached says nothing: it may be asleep.
fn ask_shadow(
    site: &Site,
    name: &Label,
    server: &Server,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let models = |server: &Server| {
        let mut ids: Vec<String> = server
            .models
            .iter()
            .map(|model| model.id.to_string())
            .collect();
        ids.sort();
        ids
    };
    let shadow = site
        .fleet
        .servers
        .iter()
        .find(|(other, shadow)| *other != name && models(shadow) == models(server));
    let Some((shadow, _)) = shadow else {
        return Ok(report.note(&format!(
            "no other server has the models of `{name}`: no shadow is asked"
        ))?);
    };
    let wait = Wait::new(patience);
    wait.show(&format!("asking the shadow `{shadow}`"));
    let asked = match Door::to(&site.fleet, &site.file, &site.home, &site.host, shadow) {
        Ok(door) => question(&site.fleet, name).ask(&door, wait.left()),
        Err(why) => Err(NotRight::Silent(why)),
    };
    drop(wait);
    match asked {
        Ok(took) => Ok(report.note(&format!(
            "the shadow `{shadow}` answered correctly in {:.1} s",
            took.as_secs_f64()
        ))?),
        Err(NotRight::Silent(why)) => {
            Ok(report.note(&format!("the shadow `{shadow}` says nothing: {why}"))?)
        }
        Err(wrong) => Err(Failure::Refused(format!("the shadow `{shadow}`: {wrong}"))),
    }
}

/// The new program must find the models whole, and their manifests right.
fn check_models(
    site: &Site,
    name: &Label,
    server: &Server,
    program: &Path,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    /// It prints a line; macOS may check a new program's signature first.
    const VERSION: Duration = Duration::from_secs(60);
    let wait = Wait::new(patience);
    wait.show("the new program says its version");
    let limit = VERSION.min(wait.left());
    match command::run(&program.to_string_lossy(), &["--version"], limit) {
        Ok(said) if said.succeeded() => report.note(&format!(
            "the new program runs here: {}",
            said.stdout.trim()
        ))?,
        Ok(said) => {
            let why = format!(
                "`{} --version` failed: {}",
                program.display(),
                said.reason()
            );
            return Err(Failure::Refused(why));
        }
        Err(error) => return Err(Failure::Refused(format!("{error} (--patience)"))),
    }
    if server.models.is_empty() {
        return Ok(report.note(&format!(
            "`{name}` serves the model that is built in: there is none to check"
        ))?);
    }
    let config = site.file.to_string_lossy().into_owned();
    let arguments = [
        "check-model",
        "--config",
        &config,
        "--server",
        name.as_str(),
    ];
    wait.show(&format!("the new program reads the models of `{name}`"));
    let said = command::run(&program.to_string_lossy(), &arguments, wait.left())
        .map_err(|error| Failure::Refused(format!("{error} (--patience)")))?;
    drop(wait);
    match said.succeeded() {
        true => {
            for line in said.stdout.lines() {
                report.note(line)?;
            }
            Ok(())
        }
        false => Err(Failure::Refused(said.reason())),
    }
}

/// Whether a second instance fits into the memory that is free now.
fn room_for(site: &Site, server: &Server) -> Result<(), String> {
    /// Caches and the program itself.
    const BESIDES: u64 = 1 << 30;
    let mut need = BESIDES;
    for model in &server.models {
        let folder = model.path.beside(&site.file);
        let folder = folder.map_err(|error| error.to_string())?;
        need += memory::size_of(&folder) * 5 / 4;
    }
    let free =
        sanctum_watch::memory::free().ok_or("the system does not say how much memory is free")?;
    match free >= need {
        true => Ok(()),
        false => Err(format!(
            "{} MiB of memory are free, and it may need {} MiB",
            free >> 20,
            need >> 20
        )),
    }
}
