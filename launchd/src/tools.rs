//! Command lines as data: what has to be typed, why, and with whose rights. They are printed by `--dry-run` on every
//! system, and run only on the one that has the tools.

use std::fmt;
use std::time::Duration;

use sanctum_host::command::{self, Output};

use crate::Failure;

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Whether only the administrator may run it: it is printed, never run.
    pub sudo: bool,
    /// Why.
    pub why: &'static str,
}

impl Line {
    /// For us to run.
    pub fn new(words: &[&str], why: &'static str) -> Self {
        Self {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            sudo: false,
            why,
        }
    }

    /// For a person to type.
    pub fn for_root(words: &[&str], why: &'static str) -> Self {
        Self {
            sudo: true,
            ..Self::new(words, why)
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be started or takes longer than `limit`.
    pub fn run(&self, limit: Duration) -> Result<Output, Failure> {
        let (program, arguments) = self
            .words
            .split_first()
            .expect("a command line has a program");
        command::run(program, arguments, limit).map_err(|error| Failure::Refused(error.to_string()))
    }
}

impl fmt::Display for Line {
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
    fn it_can_be_typed_as_it_is_shown() {
        let line = Line::for_root(&["printf", "%s.", "a b", "it's", "", "~/x"], "to see");
        assert_eq!(line.to_string(), r"sudo printf %s. 'a b' 'it'\''s' '' ~/x");
        let shown = Line {
            sudo: false,
            ..line
        };
        let typed = Line::new(&["sh", "-c", &shown.to_string().replace("~", "")], "");
        let said = typed.run(Duration::from_secs(10)).unwrap();
        assert_eq!(said.stdout, "a b.it's../x.");
    }
}
