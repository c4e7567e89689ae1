//! Paths as a person writes them, `~` included.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error};

/// A path that may begin with `~/`, kept as it was written: the same fleet.toml is read on several hosts, and each has
/// its own home folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TildePath(String);

/// A path begins with `~`, and this process has no home folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` begins with ~ and HOME is not set to a path; set HOME or write the whole path")]
pub struct NoHome(String);

impl TildePath {
    /// The path with `home` in place of `~`.
    pub fn under(&self, home: &Path) -> PathBuf {
        match self.0.strip_prefix('~') {
            Some(rest) => home.join(rest.trim_start_matches('/')),
            None => PathBuf::from(&self.0),
        }
    }

    /// The path on this host, for the user whom this process runs as.
    pub fn here(&self) -> Result<PathBuf, NoHome> {
        if !self.0.starts_with('~') {
            return Ok(PathBuf::from(&self.0));
        }
        match std::env::home_dir() {
            Some(home) if !home.as_os_str().is_empty() => Ok(self.under(&home)),
            _ => Err(NoHome(self.0.clone())),
        }
    }

    /// The path on this host, as `file` names it: relative ones are relative to that file's folder, wherever this
    /// process was started.
    pub fn beside(&self, file: &Path) -> Result<PathBuf, NoHome> {
        let path = self.here()?;
        Ok(match file.parent() {
            // Joining an absolute path leaves it as it is.
            Some(folder) => folder.join(path),
            None => path,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For serde's `deserialize_with`: an optional path; `""` means none, like an absent key.
pub(crate) fn optional_or_empty<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<TildePath>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.try_into().map(Some).map_err(D::Error::custom)
}

impl TryFrom<String> for TildePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path; leave the key out instead".into());
        }
        if text.starts_with('~') && text != "~" && !text.starts_with("~/") {
            return Err(format!(
                "`{text}` names another user's home; write the whole path"
            ));
        }
        Ok(Self(text))
    }
}

impl FromStr for TildePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for TildePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tilde_is_a_home_folder_and_nothing_else_is() {
        let under = |text: &str| {
            let path: TildePath = text.parse().unwrap();
            path.under(Path::new("/home/ada"))
        };
        assert_eq!(under("~/models/a"), Path::new("/home/ada/models/a"));
        assert_eq!(under("~"), Path::new("/home/ada"));
        assert_eq!(under("/srv/~/a"), Path::new("/srv/~/a"));
        assert_eq!(under("a/b"), Path::new("a/b"));
        let beside = |text: &str, file: &str| {
            let path: TildePath = text.parse().unwrap();
            path.beside(Path::new(file)).unwrap()
        };
        assert_eq!(beside("a/b", "/etc/fleet.toml"), Path::new("/etc/a/b"));
        assert_eq!(beside("/a/b", "/etc/fleet.toml"), Path::new("/a/b"));
        assert_eq!(beside("a", "fleet.toml"), Path::new("a"));
        assert!("~bob/x".parse::<TildePath>().is_err());
        assert!("".parse::<TildePath>().is_err());
    }
}
