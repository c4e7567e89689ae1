//! `cargo xtask words`: finds words that this project does not use; `xtask/words.toml` lists them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use regex::Regex;
use serde::Deserialize;

/// The list, below the workspace's folder.
const LIST: &str = "xtask/words.toml";

/// The words cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WordsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The list is invalid.
    #[error("{LIST}: {0}")]
    List(String),
    /// git does not list the files.
    #[error("`git ls-files` failed: {0}")]
    Git(String),
}

/// `words.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    word: Vec<Word>,
    #[serde(default)]
    exception: Vec<Exception>,
}

/// A pattern that is not used, and its replacement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    pattern: String,
    instead: String,
}

/// A line that may contain a listed word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// The file, relative to the workspace.
    file: PathBuf,
    /// A part of the line.
    text: String,
    /// Why the word is right in that place.
    #[allow(dead_code, reason = "for people; a missing one is an error")]
    reason: String,
}

/// Prints every place of a listed word in the files that git tracks; fails if there is one.
///
/// # Errors
/// If a file or the list cannot be read.
pub(crate) fn run(workspace: &Path) -> Result<ExitCode, WordsError> {
    let checker = Checker::new(&read(&workspace.join(LIST))?)?;
    let mut places = 0;
    let mut files = 0;
    for file in tracked(workspace)? {
        let text = read(&workspace.join(&file))?;
        files += 1;
        for place in checker.places(&file, &text) {
            eprintln!("{place}");
            places += 1;
        }
    }
    match places {
        0 => {
            println!("{files} files: none of the words of {LIST}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!(
                "{places} places; write what the list has instead, or add an exception with its reason to {LIST}"
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Checker {
    words: Vec<(Regex, String)>,
    exceptions: Vec<Exception>,
}

impl Checker {
    fn new(list: &str) -> Result<Self, WordsError> {
        let list: List =
            toml::from_str(list).map_err(|error| WordsError::List(error.to_string()))?;
        let compiled = |word: Word| {
            Regex::new(&format!(r"\b(?:{})\b", word.pattern))
                .map(|pattern| (pattern, word.instead))
                .map_err(|error| WordsError::List(error.to_string()))
        };
        Ok(Self {
            words: list
                .word
                .into_iter()
                .map(compiled)
                .collect::<Result<_, _>>()?,
            exceptions: list.exception,
        })
    }

    fn places(&self, file: &Path, text: &str) -> Vec<String> {
        let mut places = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let excepted =
                |exception: &&Exception| exception.file == file && line.contains(&exception.text);
            if self.exceptions.iter().any(|exception| excepted(&exception)) {
                continue;
            }
            let plain = plain(line);
            for (pattern, instead) in &self.words {
                if let Some(found) = pattern.find(&plain) {
                    places.push(format!(
                        "{}:{}: `{}`: write {instead}",
                        file.display(),
                        number + 1,
                        found.as_str()
                    ));
                }
            }
        }
        places
    }
}

/// The line in lower case, with names split into words.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len() + 8);
    let mut was_small = false;
    for c in line.chars() {
        match c {
            '_' | '-' => plain.push(' '),
            c if c.is_uppercase() => {
                if was_small {
                    plain.push(' ');
                }
                plain.extend(c.to_lowercase());
            }
            c => plain.push(c),
        }
        was_small = c.is_lowercase();
    }
    plain
}

fn tracked(workspace: &Path) -> Result<Vec<PathBuf>, WordsError> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "*.rs", "*.md", "*.toml"])
        .current_dir(workspace)
        .output()
        .map_err(|error| WordsError::Git(error.to_string()))?;
    if !output.status.success() {
        return Err(WordsError::Git(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let files = names
        .split('\0')
        .filter(|name| !name.is_empty() && *name != LIST);
    Ok(files
        .map(PathBuf::from)
        .filter(|file| workspace.join(file).is_file())
        .collect())
}

fn read(file: &Path) -> Result<String, WordsError> {
    fs::read_to_string(file).map_err(|source| WordsError::Read {
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
[[word]]
pattern = "frob(s|bed)?"
instead = "turn"
[[exception]]
file = "a.rs"
text = "Mr. Frob"
reason = "a name"
"#;

    #[test]
    fn listed_word_in_text_or_name_is_reported_with_its_line() {
        let checker = Checker::new(SAMPLE).unwrap();
        let text = "fine\n// It frobs.\nfn it_is_frobbed() {}\nstruct FrobNow;\nfrobnicate, microfrob\n// Mr. Frob\n";
        let places = checker.places(Path::new("a.rs"), text);
        assert_eq!(
            places,
            [
                "a.rs:2: `frobs`: write turn",
                "a.rs:3: `frobbed`: write turn",
                "a.rs:4: `frob`: write turn"
            ]
        );
        assert_eq!(checker.places(Path::new("b.rs"), "// Mr. Frob").len(), 1);
    }

    #[test]
    fn list_with_an_error_is_refused() {
        assert!(Checker::new("[[word]]\npattern = \"(\"\ninstead = \"x\"").is_err());
        assert!(Checker::new("[[word]]\npattern = \"x\"").is_err());
        let reasonless = "word = []\n[[exception]]\nfile = \"a\"\ntext = \"b\"";
        assert!(Checker::new(reasonless).is_err());
    }

    #[test]
    fn list_of_this_workspace_compiles() {
        assert!(Checker::new(include_str!("../words.toml")).is_ok());
    }
}
