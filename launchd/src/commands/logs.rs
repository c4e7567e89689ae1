//! `sanctum-launchd logs`: the last lines of an agent's log, and those that follow.

use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sanctum_config::Role;
use sanctum_host::{Installation, ssh};

use super::open_installed;
use crate::agent_control::agent_of_host;
use crate::args::{GlobalArgs, LogsArgs};
use crate::console::Console;
use crate::log_lines::{LogLines, json_line, text};
use crate::{Error, remote};

/// Between two reads of a log that is followed.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Runs it.
pub(crate) fn run(args: &GlobalArgs, logs: &LogsArgs, console: &mut Console) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let paths = paths(&installation, logs)?;
    if let Some(destination) = remote::destination(&installation)? {
        let count = logs.lines.to_string();
        let mut words = vec!["logs", logs.agent.as_str(), "-n", &count];
        words.extend(logs.follow.then_some("-f"));
        let idle = (!logs.follow).then_some(ssh::SHORT_LIMIT);
        return remote::run(&installation, destination, &words, idle, console);
    }
    let count = logs.lines as usize;
    let (mut opened, mut unread) = (Vec::new(), Vec::new());
    for path in &paths {
        match LogLines::open(path, count) {
            Ok((log, last)) => opened.push((path, log, last)),
            Err(error) => unread.push(Error::read(path, error)),
        }
    }
    let filled = opened.iter().filter(|(_, _, last)| !last.lines.is_empty());
    let filled = filled.count();
    let mut printer = Printer {
        console,
        several: filled > 1,
        shown: None,
    };
    let mut followed = Vec::new();
    for (path, log, last) in opened {
        if last.is_cut {
            eprintln!(
                "sanctum-launchd: there are older lines: only the last {} MiB of {} were searched",
                LogLines::SEARCHED >> 20,
                path.display()
            );
        }
        printer.print(path, &last.lines)?;
        if let Some((older, error)) = last.unread {
            unread.push(Error::read(&older, error));
        }
        followed.push((path, log));
    }
    all_read(unread)?;
    if !logs.follow {
        return match filled > 0 || count == 0 {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "{} has logged nothing yet ({} is missing or empty); is it running? {}",
                logs.agent,
                paths[0].display(),
                installation.typed("status --local")
            ))),
        };
    }
    printer.several = paths.len() > 1;
    while is_output_open()? {
        for (path, log) in &mut followed {
            let lines = log.added().map_err(|error| Error::read(path, error))?;
            printer.print(path, &lines)?;
        }
    }
    Ok(())
}

/// That every log was read. If not, the last of these errors is the command's, and the others are printed.
fn all_read(mut unread: Vec<Error>) -> Result<(), Error> {
    let Some(last) = unread.pop() else {
        return Ok(());
    };
    for error in unread {
        eprintln!("sanctum-launchd: {error}");
    }
    Err(last)
}

/// The log that the agent writes, and what launchd saves of its output. For a program of another origin, both are one file.
fn paths(installation: &Installation, logs: &LogsArgs) -> Result<Vec<PathBuf>, Error> {
    let home = &installation.home;
    let (name, role) = agent_of_host(installation, &logs.agent)?;
    Ok(match role {
        Role::Agent(_) => vec![home.log(name)],
        Role::Server(_) | Role::Watch(_) | Role::Page(_) => {
            vec![home.log(name), home.launchd_log(name)]
        }
    })
}

/// Prints lines, and between those of two logs the name of the log, as `tail` does.
struct Printer<'c, 'o> {
    console: &'c mut Console<'o>,
    several: bool,
    /// The log whose lines were printed last.
    shown: Option<PathBuf>,
}

impl Printer<'_, '_> {
    fn print(&mut self, path: &PathBuf, lines: &[Vec<u8>]) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        let is_json = self.console.is_json();
        let out = self.console.raw();
        if self.several && !is_json && self.shown.as_ref() != Some(path) {
            writeln!(out, "==> {} <==", path.display())?;
        }
        self.shown = Some(path.clone());
        for line in lines {
            match is_json {
                true => writeln!(out, "{}", json_line(line))?,
                false => writeln!(out, "{}", text(line))?,
            }
        }
        Ok(out.flush()?)
    }
}

/// Waits a moment. Returns whether standard output has a reader: an ssh session that ends closes it, and nothing else ends a
/// command that has nothing to write.
fn is_output_open() -> Result<bool, Error> {
    let stdout = std::io::stdout();
    let mut output = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut output, Some(&PAUSE)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::Output(error.into())),
    }
    let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(!output[0].revents().intersects(closed))
}
