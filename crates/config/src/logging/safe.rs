//! Log lines that are safe on a terminal, whatever was logged: what formats them escapes some control characters, and no
//! bidirectional marks.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::format::LineFormat;
use crate::{UntrustedText, terminal_json};

/// Writers of lines in which every hidden character is escaped: in JSON as JSON has it.
#[derive(Clone, Debug)]
pub(super) struct SafeLines<W> {
    pub(super) writer: W,
    pub(super) format: LineFormat,
    /// Whether escape sequences that colour a line stay; those within a logged text are escaped before.
    pub(super) colors: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for SafeLines<W> {
    type Writer = SafeLines<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SafeLines {
            writer: self.writer.make_writer(),
            format: self.format,
            colors: self.colors,
        }
    }
}

/// A write is one line, or several whole ones.
impl<W: Write> Write for SafeLines<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let safe: String = match self.format {
            LineFormat::Json => terminal_json(&text),
            LineFormat::Text => UntrustedText::escaped(&text, usize::MAX, |c| {
                c == '\n' || c == '\x1b' && self.colors
            })
            .into(),
        };
        self.writer.write_all(safe.as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::logging::lines;

    #[derive(Clone, Default)]
    struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for SharedBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LineFormat, colors: bool) -> String {
        let kept = SharedBuffer::default();
        let writer = kept.clone();
        let layer = lines(format, colors, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let text = "a\x1b]0;owned\x07\u{9b}31m\u{202e}z\u{e0041}\nb";
            let path = std::path::Path::new(text);
            tracing::error!(field = text, shown = %text, path = %path.display(), debug = ?path, "{text}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn log_line_with_hidden_characters_is_escaped_in_every_format() {
        for (format, colors) in [
            (LineFormat::Json, false),
            (LineFormat::Text, false),
            (LineFormat::Text, true),
        ] {
            let line = logged(format, colors);
            assert!(line.contains("owned"), "{line:?}");
            let steers = |c: char| {
                c.is_control() && !matches!(c, '\n' | '\x1b') || "\u{202e}\u{e0041}".contains(c)
            };
            assert!(!line.contains(steers), "{format:?}: {line:?}");
            assert!(!line.contains("\x1b]"), "{format:?}: {line:?}");
            assert_eq!(line.contains('\x1b'), colors, "{format:?}: {line:?}");
        }
        let line = logged(LineFormat::Json, false);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(read["message"].as_str().unwrap().contains('\u{202e}'));
    }
}
