//! Log lines on standard error: JSON for machines, plain for people.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `message`, the event's own fields, `target`.
    Json,
    /// For reading.
    Text,
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

/// Sends this process's events to standard error from now on. Call it once, first thing.
///
/// `format` left out means JSON unless standard error is a terminal. The filter is `filter`, else `RUST_LOG`, else
/// `info`.
pub fn start(format: Option<Format>, filter: Option<&str>) -> Result<(), BadFilter> {
    let filter = match filter {
        Some(filter) => parse(filter)?,
        None => match std::env::var("RUST_LOG") {
            Ok(filter) if !filter.is_empty() => parse(&filter)?,
            _ => EnvFilter::new("info"),
        },
    };
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { Format::Text } else { Format::Json });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        Format::Json => lines.json().flatten_event(true).init(),
        Format::Text => lines
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .init(),
    }
    Ok(())
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
}
