//! The format of log lines.

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line: `timestamp`, `level`, `message`, the event's own fields, `target`.
    Json,
    /// Text for a terminal.
    Text,
}
