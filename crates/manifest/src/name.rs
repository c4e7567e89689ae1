//! The name of a file in a manifest: a path that cannot leave its folder.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A file's path relative to its folder, with `/` between the components: never empty, absolute or with a `.`, `..`
/// or empty component, and without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

/// A name that is not allowed in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none.
    #[error("the file's name is missing")]
    Empty,
    /// It begins with `/`.
    #[error("{0:?} is an absolute path; name files as they are called inside the model's folder")]
    Absolute(String),
    /// It has a component that is not the name of a file or folder.
    #[error(
        "{0:?} has a `.`, `..` or empty component; name files as they are called inside the model's folder"
    )]
    Component(String),
    /// It has a control character in it: NUL, a line break, an escape sequence.
    #[error("{0:?} has a control character in it; rename the file")]
    Control(String),
    /// It is not UTF-8.
    #[error("{0:?} is not UTF-8; rename the file")]
    NotUtf8(String),
}

impl FileName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a relative path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Its components, outermost first: one at least.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = || text.to_owned();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.starts_with('/') {
            return Err(NameError::Absolute(name()));
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::Control(name()));
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(NameError::Component(name()));
        }
        Ok(Self(name()))
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        let parse = |text: &str| text.parse::<FileName>();
        for fine in ["config.json", "a/b c/d", "..x", ".hidden", "a\\b", " "] {
            assert_eq!(parse(fine).unwrap().as_str(), fine);
        }
        assert_eq!(parse(""), Err(NameError::Empty));
        assert!(matches!(parse("/etc/passwd"), Err(NameError::Absolute(_))));
        for wrong in ["..", ".", "./a", "a/../b", "a//b", "a/", "a/."] {
            assert!(
                matches!(parse(wrong), Err(NameError::Component(_))),
                "{wrong}"
            );
        }
        for wrong in ["a\0", "a\nb", "a\r", "\u{1b}[2J"] {
            assert!(
                matches!(parse(wrong), Err(NameError::Control(_))),
                "{wrong:?}"
            );
        }
    }
}
