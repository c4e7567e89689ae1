//! Command lines as data: what to type, why, and with whose rights. `--dry-run` prints them on every system; they are run
//! only where the programs exist.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::command::{self, Output};

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Whether it needs an administrator: it is printed, never run.
    pub sudo: bool,
    /// What it is for.
    pub purpose: &'static str,
}

impl CommandLine {
    /// A line that this user can run.
    pub fn new(words: &[&str], purpose: &'static str) -> Self {
        Self {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            sudo: false,
            purpose,
        }
    }

    /// A line for an administrator to type.
    pub fn for_root(words: &[&str], purpose: &'static str) -> Self {
        Self {
            sudo: true,
            ..Self::new(words, purpose)
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be started, or does not finish within `limit`.
    pub fn run(&self, limit: Duration) -> Result<Output, Error> {
        let (program, arguments) = self
            .words
            .split_first()
            .expect("a command line has a program");
        Ok(command::run(program, arguments, limit)?)
    }
}

impl fmt::Display for CommandLine {
    /// As it can be typed into a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sudo {
            f.write_str("sudo ")?;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+~".contains(c);
        for (at, word) in self.words.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            match !word.is_empty() && word.chars().all(plain) {
                true => write!(f, "{space}{word}")?,
                false => write!(f, "{space}'{}'", word.replace('\'', r"'\''"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_can_be_typed_as_it_is_shown() {
        let line = CommandLine::for_root(&["printf", "%s.", "a b", "it's", "", "~/x"], "to see");
        assert_eq!(line.to_string(), r"sudo printf %s. 'a b' 'it'\''s' '' ~/x");
        let shown = CommandLine {
            sudo: false,
            ..line
        };
        let typed = CommandLine::new(&["sh", "-c", &shown.to_string().replace("~", "")], "");
        let output = typed.run(Duration::from_secs(10)).unwrap();
        assert_eq!(output.stdout, "a b.it's../x.");
    }
}
