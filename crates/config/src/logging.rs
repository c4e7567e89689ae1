//! Log lines of this process: in a file that is rotated, or on standard error. JSON for machines, plain text on a terminal.
//!
//! An agent writes its own file: launchd appends for ever to the files that it opens, and continues to write to one
//! that was renamed. launchd then saves only panics and output before logging starts.
//!
//! A thread of its own writes the file, so that a disk that does not answer delays no thread that logs. Lines that the
//! disk is too slow for are counted and left out.

mod file;
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

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `message`, the event's own fields, `target`.
    Json,
    /// For reading.
    Text,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    StandardError,
    /// A file; and standard error too where that is a terminal.
    File {
        /// The file.
        path: PathBuf,
        /// How large it may grow.
        rotation: Rotation,
    },
}

/// A log filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is no log filter ({source}); write a level such as `debug`, or `info,sanctum_engine=trace`"
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

/// Ends the thread that writes the file when it is dropped, once all lines are written.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Sends this process's events and panics to `destination` from now on. Call it once, first thing, and [`finish`] last
/// thing. If the file cannot be written, that is reported on standard error and log lines go there.
///
/// `format` left out means JSON, but text on a terminal. The filter is `filter`, else `RUST_LOG`, else `info`.
///
/// # Errors
/// If the filter cannot be understood.
pub fn start(
    destination: Destination,
    format: Option<Format>,
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
    let usual = if terminal { Format::Text } else { Format::Json };
    let colors = terminal && std::env::var_os("NO_COLOR").is_none();
    let mut layers = Vec::new();
    if terminal || file.is_none() {
        layers.push(lines(format.unwrap_or(usual), colors, std::io::stderr));
    }
    layers.extend(file.map(|file| lines(format.unwrap_or(Format::Json), false, file)));
    tracing_subscriber::registry()
        .with(layers)
        .with(filter)
        .init();
    log_panics();
    Ok(())
}

/// Writes what was logged, and ends logging to a file. A disk that does not answer is waited for for a second.
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

fn lines<W>(format: Format, colors: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = layer().with_writer(SafeLines {
        writer,
        format,
        colors,
    });
    match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines
            .with_ansi(colors)
            .with_target(false)
            .fmt_fields(debug_fn(text_field).delimited(" "))
            .boxed(),
    }
}

/// One field of a line for people. Its text is made safe here, before escape sequences that colour the line are around it.
fn text_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = UntrustedText::escaped(&format!("{value:?}"), usize::MAX, |_| false);
    match field.name() {
        "message" => write!(to, "{text}"),
        name => write!(to, "{name}={text}"),
    }
}

/// Logs panics too, before standard error gets them with their backtrace.
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
    fn a_filter_is_a_level_or_a_list_and_a_bad_one_is_shown() {
        assert!(parse("info,sanctum_engine=trace").is_ok());
        let error = parse("info,=,=").unwrap_err().to_string();
        assert!(error.contains("`info,=,=`"), "{error}");
    }

    #[test]
    fn destination_takes_its_sizes_from_fleet_toml() {
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
