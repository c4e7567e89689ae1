//! One command at a time: the command's lock, the maintenance lease that pauses the watchdogs, and what must be in order
//! before a command changes anything.

use std::fs;
use std::io;
use std::time::Duration;

use sanctum_config::{FileLock, Home, atomic};
use sanctum_host::journal::command_lock;
use sanctum_host::lease::{self, Lease, LeaseGuard};
use sanctum_host::{Installation, TrialRecord};

use crate::Error;
use crate::console::Console;
use crate::fault::fault_point;

/// The lease of a command that has been killed expires after this time. A command that runs renews it.
const LEASE: Duration = Duration::from_secs(5 * 60);
/// How long to wait for a command that only asks whether another one is at work.
const LOCK: Duration = Duration::from_millis(500);

/// The right to change this host. Dropping it releases lease and lock.
pub(crate) struct Maintenance<'a> {
    installation: &'a Installation,
    command: &'static str,
    // Before the lock, so that it is released first.
    lease: Option<LeaseGuard>,
    _lock: FileLock,
}

impl<'a> Maintenance<'a> {
    /// Takes the lock, creates the home's folders, removes half-written files, and ends a trial server that was left
    /// running. The lease is taken later, when there is something to do; a lease that was left by a killed command is taken
    /// now, so that it is released with this command.
    ///
    /// # Errors
    /// If another command is at work, or a file cannot be used.
    pub(crate) fn begin(
        installation: &'a Installation,
        command: &'static str,
        console: &mut Console,
    ) -> Result<Self, Error> {
        let home = &installation.home;
        create_folders(home)?;
        let path = command_lock(home);
        let lock = FileLock::take(&path, LOCK).map_err(|error| Error::write(&path, error))?;
        let lock = lock.ok_or_else(|| {
            Error::refused(format!(
                "another sanctum-launchd is at work here ({} is locked); wait until it has finished",
                path.display()
            ))
        })?;
        let mut maintenance = Self {
            installation,
            command,
            lease: None,
            _lock: lock,
        };
        remove_half_written(home)?;
        end_trial(home, console)?;
        if !matches!(Lease::read(&home.lease()), Ok(None)) {
            maintenance.pause_watchdogs(console)?;
        }
        Ok(maintenance)
    }

    /// Takes the maintenance lease. From here on the command runs to its end, even if its terminal is closed.
    ///
    /// # Errors
    /// If another process holds the lease.
    pub(crate) fn pause_watchdogs(&mut self, console: &mut Console) -> Result<(), Error> {
        if self.lease.is_none() {
            let owner = format!("sanctum-launchd {}", self.command);
            let what = match self.command {
                "stop" | "start" | "restart" => "stopped or started",
                _ => "replaced",
            };
            let reason = format!("agents of {} are being {what}", self.installation.host);
            let path = self.installation.home.lease();
            let (guard, _) = lease::take(&path, &owner, &reason, LEASE)?;
            self.lease = Some(guard);
        }
        console.ignore_closed_output();
        ignore_hangup()?;
        fault_point("lease");
        Ok(())
    }

    /// Extends the lease before a step that may take `limit`.
    ///
    /// # Errors
    /// If another command has taken the lease.
    pub(crate) fn renew(&mut self, limit: Duration) -> Result<(), Error> {
        match &mut self.lease {
            Some(lease) => Ok(lease.renew(limit + LEASE)?),
            None => Ok(()),
        }
    }
}

/// A laptop that is closed ends its ssh session. The deployment must not end with it, between stop and start.
fn ignore_hangup() -> Result<(), Error> {
    let failed = |error: io::Error| Error::refused(format!("cannot handle SIGHUP: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    let _inside = runtime.enter();
    // Registering a handler replaces the default action for as long as the process lives.
    let handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    handler.map(drop).map_err(failed)
}

fn create_folders(home: &Home) -> Result<(), Error> {
    let folders = [
        home.path().to_owned(),
        home.bin(),
        home.releases(),
        home.state(),
        home.logs(),
        home.certs(),
        home.secrets(),
        home.launch_agents(),
    ];
    folders.iter().try_for_each(|folder| {
        atomic::folder_for_owner(folder).map_err(|error| Error::write(folder, error))
    })
}

/// Removes files that killed commands and watchdogs have not finished writing, in the home and among the property lists.
fn remove_half_written(home: &Home) -> Result<(), Error> {
    let mut folders = vec![home.launch_agents(), home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        // This user has written nothing in a folder that it cannot enter.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        atomic::sweep(&folder).map_err(|error| Error::write(&folder, error))?;
        if !folder.starts_with(home.path()) {
            continue;
        }
        let inner = entries.flatten().filter(|entry| {
            // Links are not followed: they may lead out of the home.
            entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        folders.extend(inner.map(|entry| entry.path()));
    }
    Ok(())
}

/// Ends the trial server of an upgrade that was killed: it uses the memory that the server needs.
fn end_trial(home: &Home, console: &mut Console) -> Result<(), Error> {
    if let Some(TrialRecord { server, process }) = TrialRecord::read(home)? {
        let pid = process.pid;
        if !process.kill()? {
            return Err(Error::refused(format!(
                "an interrupted upgrade left a trial of `{server}` running (process {pid}), and SIGKILL did not end it; \
                 check with `ps -p {pid}`, or restart the machine"
            )));
        }
        console.note(&format!(
            "ended the trial of `{server}` that an interrupted upgrade left running (process {pid})"
        ))?;
    }
    Ok(TrialRecord::remove(home)?)
}
