//! The log of this process: a rotated file, or standard error; as JSON or as text.
//!
//! An agent writes its own file: launchd never truncates the files that it opens, and continues to write to one that was
//! renamed. launchd's own file then has only panics and what a program prints before it logs.
//!
//! A separate thread writes the file, so that a disk that does not answer delays no thread that logs. Lines for which the
//! disk is too slow are counted and dropped.

mod file;
mod format;
mod safe;

use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::field::Field;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::{Fleet, Rotation, UntrustedText};
use safe::SafeLines;

pub use format::LineFormat;

/// The destination of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    StandardError,
    /// A file; and standard error too if that is a terminal.
    File {
        /// The file.
        path: PathBuf,
        /// Its rotation.
        rotation: Rotation,
    },
}

/// A log filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is not a log filter ({source}); write a level such as `debug`, or `info,sanctum_engine=trace`"
)]
pub struct BadFilter {
    filter: String,
    source: ParseError,
}

impl Destination {
    /// The file that `--log-file` names, with the sizes of `[logs]` in fleet.toml; standard error without a file. A
    /// fleet.toml that cannot be used is not reported here: the program that reads it next does that, in the log.
    pub fn of(file: Option<&Path>, fleet_toml: Option<&Path>) -> Self {
        let Some(path) = file else {
            return Self::StandardError;
        };
        let fleet = fleet_toml.and_then(|path| Fleet::read(path).ok());
        Self::File {
            path: path.to_owned(),
            rotation: fleet.unwrap_or_default().logs.rotation(),
        }
    }
}

/// The thread that writes the file; dropping it writes all lines and ends the thread.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Logs this process's events and panics to `destination`. Call it once at the start of the process, and [`finish`] at its
/// end. If the file cannot be written, that is reported on standard error and log lines go there.
///
/// The default of `format` is text on a terminal and JSON elsewhere. The filter is `filter`, else `RUST_LOG`, else `info`.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(
    destination: Destination,
    format: Option<LineFormat>,
    filter: Option<&str>,
) -> Result<(), BadFilter> {
    let filter = match filter {
        Some(filter) => parse(filter)?,
        None => match std::env::var("RUST_LOG") {
            Ok(filter) if !filter.is_empty() => parse(&filter)?,
            _ => EnvFilter::new("info"),
        },
    };
    let file = match destination {
        Destination::StandardError => None,
        Destination::File { path, rotation } => open(&path, rotation),
    };
    let terminal = std::io::stderr().is_terminal();
    let usual = if terminal {
        LineFormat::Text
    } else {
        LineFormat::Json
    };
    let colors = terminal && std::env::var_os("NO_COLOR").is_none();
    let mut layers = Vec::new();
    if terminal || file.is_none() {
        layers.push(lines(format.unwrap_or(usual), colors, std::io::stderr));
    }
    layers.extend(file.map(|file| lines(format.unwrap_or(LineFormat::Json), false, file)));
    tracing_subscriber::registry()
        .with(layers)
        .with(filter)
        .init();
    log_panics();
    Ok(())
}

/// Writes the remaining lines, and ends logging to a file. Waits one second for a disk that does not answer.
pub fn finish() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The writer of a file; none if it cannot be opened, which is reported.
fn open(path: &Path, rotation: Rotation) -> Option<NonBlocking> {
    match file::start(path, rotation) {
        Ok((lines, writer)) => {
            *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            Some(lines)
        }
        Err(error) => {
            eprintln!(
                "cannot write the log {}: {error}; log lines go to standard error instead",
                path.display()
            );
            None
        }
    }
}

fn lines<W>(format: LineFormat, colors: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = layer().with_writer(SafeLines {
        writer,
        format,
        colors,
    });
    match format {
        LineFormat::Json => lines.json().flatten_event(true).boxed(),
        LineFormat::Text => lines
            .with_ansi(colors)
            .with_target(false)
            .fmt_fields(debug_fn(text_field).delimited(" "))
            .boxed(),
    }
}

/// One field of a text line. Its value is escaped here, before the escape sequences that colour the line are added.
fn text_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = UntrustedText::escaped(&format!("{value:?}"), usize::MAX, |_| false);
    match field.name() {
        "message" => write!(to, "{text}"),
        name => write!(to, "{name}={text}"),
    }
}

/// Logs panics too, before they are printed to standard error with their backtrace.
fn log_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let text = panic.payload_as_str().unwrap_or("without a message");
        let at = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), at, "a thread panicked: {text}");
        usual(panic);
        // The process ends with its main thread, and nothing else would write the line.
        if thread.name() == Some("main") {
            finish();
        }
    }));
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(filter).map_err(|source| BadFilter {
        filter: filter.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_is_a_level_or_a_list_and_a_bad_one_is_shown() {
        assert!(parse("info,sanctum_engine=trace").is_ok());
        let error = parse("info,=,=").unwrap_err().to_string();
        assert!(error.contains("`info,=,=`"), "{error}");
    }

    #[test]
    fn destination_has_the_rotation_of_fleet_toml() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("fleet.toml");
        std::fs::write(&config, "[logs]\nmax_mb = 2\nkeep = 7\n").unwrap();
        let file = Path::new("/x/server.log");
        let rotation = |destination| match destination {
            Destination::File { rotation, .. } => (rotation.max_bytes.get() >> 20, rotation.keep),
            Destination::StandardError => panic!("there is a file"),
        };
        assert_eq!(rotation(Destination::of(Some(file), Some(&config))), (2, 7));
        let absent = folder.path().join("absent");
        assert_eq!(
            rotation(Destination::of(Some(file), Some(&absent))),
            (16, 4)
        );
        assert_eq!(
            Destination::of(None, Some(&config)),
            Destination::StandardError
        );
    }
}
