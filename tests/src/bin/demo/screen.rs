//! What the demo shows: plain lines, and on a terminal colours and the progress of each wait.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The longest text of an alert that is shown, in characters.
const SHOWN: usize = 320;

/// The output. Lines of several threads are shown whole.
pub(crate) struct Screen {
    is_terminal: bool,
    has_colours: bool,
    state: Mutex<ScreenState>,
}

#[derive(Default)]
struct ScreenState {
    lines: Vec<String>,
    waiting: Option<ProgressBar>,
    is_closed: bool,
}

/// How a line looks on a terminal.
#[derive(Clone, Copy)]
enum Style {
    Title,
    Plain,
    Quiet,
    Command,
    Good,
    Alert,
    Bad,
}

/// How much of a command's output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of it.
    All,
    /// The last lines of it.
    End(usize),
}

/// The progress of a wait, while this exists.
pub(crate) struct WaitSpinner<'a>(&'a Screen);

impl Drop for WaitSpinner<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.0.state().waiting.take() {
            bar.finish_and_clear();
        }
    }
}

impl Screen {
    /// The standard output of this process.
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self {
            is_terminal,
            has_colours: is_terminal && std::env::var_os("NO_COLOR").is_none(),
            state: Mutex::default(),
        }
    }

    /// The title of a step.
    pub(crate) fn title(&self, text: &str) {
        self.line(Style::Plain, "");
        self.line(Style::Title, text);
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        self.line(Style::Plain, text);
    }

    /// A command, as it is typed.
    pub(crate) fn command(&self, line: &str) {
        self.line(Style::Command, &format!("$ {line}"));
    }

    /// The output of a command.
    pub(crate) fn output(&self, text: &str, shown: Shown) {
        for line in excerpt(text, shown) {
            self.line(Style::Quiet, &line);
        }
    }

    /// An alert that has arrived.
    pub(crate) fn alert(&self, alert: &serde_json::Value) {
        let field = |name: &str| alert[name].as_str().unwrap_or_default();
        let (severity, title) = (field("severity"), field("title"));
        let (source, host) = (field("source"), field("host"));
        let line = format!("!! {severity} from {source} on {host}: {title}");
        self.line(Style::Alert, &line);
        self.line(Style::Quiet, &format!("   {}", shortened(field("body"))));
    }

    /// That a step has done what was expected.
    pub(crate) fn good(&self, text: &str) {
        self.line(Style::Good, text);
    }

    /// That it has not.
    pub(crate) fn bad(&self, text: &str) {
        self.line(Style::Bad, text);
    }

    /// Shows the progress of a wait on a terminal.
    pub(crate) fn waiting(&self, what: &str) -> WaitSpinner<'_> {
        if self.is_terminal {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} waiting: {msg} ({elapsed})")
            {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            self.state().waiting = Some(bar);
        }
        WaitSpinner(self)
    }

    /// Whether the reader of the output has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// All lines so far, without colours.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    fn line(&self, style: Style, text: &str) {
        let mut state = self.state();
        let painted = match self.has_colours {
            true => format!("{}{text}\x1b[0m", style.escape()),
            false => text.to_owned(),
        };
        let print = || writeln!(std::io::stdout(), "{painted}");
        let printed = match &state.waiting {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
        state.is_closed |= printed.is_err();
        state.lines.push(text.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Style {
    fn escape(self) -> &'static str {
        match self {
            Self::Title | Self::Command => "\x1b[1m",
            Self::Plain => "",
            Self::Quiet => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Alert => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// The lines of an output that are shown.
fn excerpt(text: &str, shown: Shown) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let left_out = match shown {
        Shown::All => 0,
        Shown::End(most) => lines.len().saturating_sub(most),
    };
    let note = (left_out > 0).then(|| format!("… {left_out} earlier lines"));
    let rest = lines[left_out..].iter().map(|&line| line.to_owned());
    note.into_iter().chain(rest).collect()
}

/// The first line of a text, or as much of it as is shown.
fn shortened(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match first.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_counts_the_lines_that_it_leaves_out() {
        assert_eq!(
            excerpt("a\nb\nc\n", Shown::End(2)),
            ["… 1 earlier lines", "b", "c"]
        );
        assert_eq!(excerpt("a\nb\n", Shown::End(2)), ["a", "b"]);
        assert_eq!(excerpt("a\nb\n", Shown::All), ["a", "b"]);
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(shortened("one\ntwo"), "one");
        let long = "ü".repeat(SHOWN + 1);
        assert_eq!(shortened(&long), format!("{}…", "ü".repeat(SHOWN)));
    }
}
