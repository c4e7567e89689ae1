//! The checks before an upgrade: what can be found out about the new release without stopping anything.
//!
//! Another server of the same models (the shadow) must give a right answer if it answers at all. The new program must find
//! the models complete. If there is enough free memory, the new program is started once on a free port and asked.

use std::path::Path;
use std::time::Duration;

use sanctum_config::fleet::Server;
use sanctum_config::{Label, Role};
use sanctum_host::command::{self, Output};
use sanctum_host::{Error as HostError, Installation};

use crate::console::Console;
use crate::server_probe::ServerProbe;
use crate::test_question::{AnswerError, test_question};
use crate::wait::Wait;
use crate::{Error, trial};

/// The checks that an upgrade asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preflight {
    /// Whether a second instance is started.
    pub(crate) trial: TrialMode,
    /// How long each wait may take.
    pub(crate) patience: Duration,
}

/// Whether a second instance is started before an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TrialMode {
    /// If there is enough free memory
    #[default]
    Auto,
    /// Always: without enough free memory, the upgrade is refused
    Always,
    /// Never
    Never,
}

/// Runs the checks for each server of this host. `programs` is the folder of the new release's programs.
///
/// # Errors
/// If a check fails. Nothing has been changed.
pub(crate) fn run(
    installation: &Installation,
    programs: &Path,
    preflight: &Preflight,
    console: &mut Console,
) -> Result<(), Error> {
    for (name, role) in installation.fleet.agents_of(&installation.host) {
        if let Role::Server(server) = role {
            let check = ServerCheck {
                installation,
                name,
                server,
                patience: preflight.patience,
            };
            let program = programs.join("sanctum-server");
            check
                .run(&program, preflight.trial, console)
                .map_err(|error| {
                    Error::refused(format!(
                        "the upgrade was not started, and nothing has been changed: {error}"
                    ))
                })?;
        }
    }
    Ok(())
}

/// One server that is to be upgraded.
struct ServerCheck<'a> {
    installation: &'a Installation,
    name: &'a Label,
    server: &'a Server,
    patience: Duration,
}

impl ServerCheck<'_> {
    fn run(&self, program: &Path, trial: TrialMode, console: &mut Console) -> Result<(), Error> {
        self.ask_shadow(console)?;
        self.check_models(program, console)?;
        if trial == TrialMode::Never {
            return Ok(());
        }
        let Self {
            installation,
            name,
            server,
            patience,
        } = *self;
        match self.check_memory() {
            Ok(()) => trial::run(installation, name, server, program, patience, console),
            Err(error) if trial == TrialMode::Always => Err(error),
            Err(error) => Ok(console.note(&format!(
                "a second instance of `{name}` is not tried: {error}"
            ))?),
        }
    }

    /// Another server of the same models must give a right answer. One that cannot be reached may be asleep.
    fn ask_shadow(&self, console: &mut Console) -> Result<(), Error> {
        let Self {
            installation, name, ..
        } = self;
        let models = |server: &Server| {
            let ids = server.models.iter().map(|model| model.id.to_string());
            let mut ids: Vec<String> = ids.collect();
            ids.sort();
            ids
        };
        let mut servers = installation.fleet.servers.iter();
        let shadow =
            servers.find(|(other, shadow)| other != name && models(shadow) == models(self.server));
        let Some((shadow, _)) = shadow else {
            return Ok(console.note(&format!(
                "no other server has the models of `{name}`: no shadow is asked"
            ))?);
        };
        let wait = Wait::new(self.patience);
        wait.show(&format!("asking the shadow `{shadow}`"));
        let Installation {
            fleet,
            file,
            home,
            host,
            ..
        } = installation;
        let asked = match ServerProbe::from_host(fleet, file, home, host, shadow) {
            Ok(probe) => test_question(fleet, name).ask(&probe, wait.left()),
            Err(reason) => Err(AnswerError::NoAnswer(reason)),
        };
        drop(wait);
        match asked {
            Ok(took) => Ok(console.note(&format!(
                "the shadow `{shadow}` answered correctly in {:.1} s",
                took.as_secs_f64()
            ))?),
            Err(AnswerError::NoAnswer(reason)) => {
                Ok(console.note(&format!("the shadow `{shadow}` does not answer: {reason}"))?)
            }
            Err(wrong) => Err(Error::refused(format!("the shadow `{shadow}`: {wrong}"))),
        }
    }

    /// The new program must find the models complete, and their manifests right.
    fn check_models(&self, program: &Path, console: &mut Console) -> Result<(), Error> {
        /// It prints a line; macOS may check a new program's signature first.
        const VERSION: Duration = Duration::from_secs(60);
        let name = self.name;
        let wait = Wait::new(self.patience);
        wait.show("asking the new program for its version");
        let version = run_program(program, &["--version"], VERSION.min(wait.left()))?;
        if !version.succeeded() {
            return Err(Error::refused(format!(
                "`{} --version` failed: {}",
                program.display(),
                version.reason()
            )));
        }
        console.note(&format!(
            "the new program runs here: {}",
            version.stdout.trim()
        ))?;
        if self.server.models.is_empty() {
            return Ok(console.note(&format!(
                "`{name}` serves the built-in model, which needs no check"
            ))?);
        }
        let config = self.installation.file.to_string_lossy().into_owned();
        let arguments = [
            "check-model",
            "--config",
            &config,
            "--server",
            name.as_str(),
        ];
        wait.show(&format!("the new program checks the models of `{name}`"));
        let output = run_program(program, &arguments, wait.left())?;
        drop(wait);
        if !output.succeeded() {
            return Err(Error::refused(output.reason()));
        }
        for line in output.stdout.lines() {
            console.note(line)?;
        }
        Ok(())
    }

    /// Whether a second instance fits into the free memory.
    fn check_memory(&self) -> Result<(), Error> {
        /// Caches, and the program itself.
        const OVERHEAD: u64 = 1 << 30;
        let mut needed = OVERHEAD;
        for (_, path) in self.server.local_models() {
            let folder = path.beside(&self.installation.file)?;
            needed += folder_size(&folder) * 5 / 4;
        }
        let free = sanctum_watch::memory::free()
            .ok_or_else(|| Error::refused("the system does not say how much memory is free"))?;
        match free >= needed {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "{} MiB of memory are free, and it may need {} MiB",
                free >> 20,
                needed >> 20
            ))),
        }
    }
}

/// A timeout names the option that extends it.
fn run_program(program: &Path, arguments: &[&str], limit: Duration) -> Result<Output, Error> {
    command::run(&program.to_string_lossy(), arguments, limit)
        .map_err(|error| HostError::Refused(format!("{error} (--patience)")).into())
}

/// The size of the files in a folder, in bytes; files that cannot be examined are not counted.
fn folder_size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    let files = files.filter(|about| about.is_file());
    files.map(|about| about.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_size_is_the_sum_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        assert_eq!(folder_size(folder.path()), 100);
        assert_eq!(folder_size(&folder.path().join("none")), 0);
    }
}
