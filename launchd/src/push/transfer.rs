//! Sending files to another host: compare, send what differs, compare again, rename.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sanctum_config::{DigestReader, files};
use sanctum_host::remote_files::{self, RemoteFile, RemoteFilesError};
use sanctum_host::ssh;

use super::archive;
use super::files::{PUSHED, PushFile};
use crate::Error;
use crate::fault::fault_point;

/// How long the other host may take to hash the files.
const HASHES: Duration = Duration::from_secs(5 * 60);

/// How long the other host may take without reading or writing.
const IDLE: Duration = Duration::from_secs(120);

/// Unpacks an archive into `$1`, which belongs to this user only; what an interrupted push has left is removed.
const UNPACK: &str =
    r#"umask 077; rm -rf "$1" && mkdir -p "$1" && chmod 700 "$1" && tar -xpf - -C "$1""#;

/// Renames files from `$1` to `$2`: for each its path and its mode. Nothing is renamed if a folder is in a file's place, into
/// which `mv` would move the file. `mv` within a volume is one rename.
const RENAME: &str = r#"umask 077; from=$1; to=$2; shift 2; check() { while [ $# -gt 0 ]; do if [ -d "$to/$1" ]; then echo "$to/$1 is a folder there, and a file goes to its place; move it away" >&2; exit 1; fi; shift 2; done; }; check "$@"; while [ $# -gt 0 ]; do case $1 in */*) mkdir -p "$to/${1%/*}" || exit 1;; esac; chmod "$2" "$from/$1" && mv -f "$from/$1" "$to/$1" || exit 1; shift 2; done; rm -rf "$from""#;

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The files that were sent; in a dry run, that would be sent.
    pub(crate) sent: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The files that were there already.
    pub(crate) same: usize,
    /// Whether a release is installed on that host.
    pub(crate) is_installed: bool,
}

/// Sends the files that differ there into `home`, the fleet's home on that host. `each` is called for each of them before.
///
/// # Errors
/// If ssh fails, a digest differs after the transfer, or a file cannot be put in place. The files there are unchanged then,
/// unless the last step was interrupted: each of them is the old one or the new one.
pub(crate) fn push(
    destination: &str,
    home: &str,
    all: &[PushFile],
    dry_run: bool,
    mut each: impl FnMut(&PushFile) -> Result<(), Error>,
) -> Result<Pushed, Error> {
    let mut paths: Vec<String> = all
        .iter()
        .map(|file| format!("{home}/{}", file.to))
        .collect();
    paths.push(format!("{home}/state/receipt.json"));
    let there = inspect(destination, &paths)?;
    let differs = |(file, there): &(&PushFile, &RemoteFile)| !is_same(file, there);
    let wanted: Vec<&PushFile> = all
        .iter()
        .zip(&there)
        .filter(differs)
        .map(|(file, _)| file)
        .collect();
    let pushed = Pushed {
        sent: wanted.len(),
        bytes: wanted.iter().map(|file| file.size).sum(),
        same: all.len() - wanted.len(),
        is_installed: there.last().is_some_and(|receipt| !receipt.absent),
    };
    wanted.iter().try_for_each(|file| each(file))?;
    if wanted.is_empty() || dry_run {
        return Ok(pushed);
    }
    let incoming = format!("{home}/{PUSHED}/.incoming");
    send(destination, &incoming, &wanted, pushed.bytes)?;
    fault_point("sent");
    let paths: Vec<String> = wanted
        .iter()
        .map(|file| format!("{incoming}/{}", file.to))
        .collect();
    for (file, there) in wanted.iter().zip(inspect(destination, &paths)?) {
        if there.sha256 != Some(file.sha256) {
            return Err(Error::refused(format!(
                "{} arrived with another SHA-256 than it has here ({}); nothing was replaced there, run the command again",
                file.from.display(),
                file.sha256
            )));
        }
    }
    fault_point("compared");
    let mut line = script(RENAME, &[&incoming, home]);
    for file in &wanted {
        line.push_str(&format!(" {} {:o}", ssh::quoted(&file.to), file.mode));
    }
    run(destination, &line, |_| Ok(()))?;
    let paths: Vec<String> = wanted
        .iter()
        .map(|file| format!("{home}/{}", file.to))
        .collect();
    for (file, there) in wanted.iter().zip(inspect(destination, &paths)?) {
        if !is_same(file, &there) {
            return Err(Error::refused(format!(
                "{} was sent, and {home}/{} there is another file now; does another command write there? Run the command again",
                file.from.display(),
                file.to
            )));
        }
    }
    Ok(pushed)
}

fn is_same(file: &PushFile, there: &RemoteFile) -> bool {
    there.sha256 == Some(file.sha256) && there.mode == Some(file.mode)
}

fn inspect(destination: &str, paths: &[String]) -> Result<Vec<RemoteFile>, Error> {
    remote_files::inspect(destination, paths, HASHES).map_err(|error| {
        let reason = match error {
            RemoteFilesError::Unreachable(reason)
            | RemoteFilesError::Refused(reason)
            | RemoteFilesError::BadOutput(reason) => reason,
        };
        Error::refused(format!(
            "`ssh {destination}` failed ({reason}); nothing was sent. Try it by hand: ssh {destination} true"
        ))
    })
}

/// Sends the files as one archive, and shows the progress on a terminal.
fn send(destination: &str, incoming: &str, wanted: &[&PushFile], bytes: u64) -> Result<(), Error> {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    let sent = run(destination, &script(UNPACK, &[incoming]), |to| {
        for file in wanted {
            let mut from = DigestReader::new(bar.wrap_read(files::open(&file.from)?));
            archive::file(to, &file.to, file.mode, file.size, &mut from)?;
            if from.digest() != file.sha256 {
                let why = format!(
                    "{} changed while it was sent; run the command again",
                    file.from.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        archive::end(to)
    });
    bar.finish_and_clear();
    sent
}

/// A script for the other host's `sh`, with arguments. A leading `~/` is the home folder there.
fn script(text: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|path| ssh::quoted_path(path))
        .collect();
    format!("sh -c {} sh {}", ssh::quoted(text), arguments.join(" "))
}

fn run(
    destination: &str,
    line: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |reason: String| {
        Error::refused(format!(
            "`ssh {destination}` failed ({reason}); no file there is half written. Run the command again"
        ))
    };
    let output =
        ssh::send(destination, line, IDLE, write).map_err(|error| failed(error.to_string()))?;
    match output.succeeded() {
        true => Ok(()),
        false => Err(failed(output.reason())),
    }
}
