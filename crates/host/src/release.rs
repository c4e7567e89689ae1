//! A release: a folder of programs with a `release.json`, which has their version and their digests.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use sanctum_config::{Digest, files};
use serde::{Deserialize, Serialize};

use crate::{ArtefactKind, Error};

/// The name of the file that describes a release.
pub const DESCRIPTION: &str = "release.json";

/// A larger file is not a description.
const MAX_BYTES: u64 = 4 << 20;

/// A release's version, or the name of a file in it: letters, digits, `.`, `_`, `+` and `-`, the first a letter or a
/// digit. It becomes the last part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPart(String);

/// `release.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its version.
    pub version: PathPart,
    /// Its files, by name.
    pub files: Vec<ReleaseFile>,
}

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFile {
    /// Its name there, and in the home's `bin/`.
    pub name: PathPart,
    /// The digest of its contents.
    pub sha256: Digest,
    /// `binary` or `metallib`.
    pub kind: ArtefactKind,
}

impl PathPart {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PathPart {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{text}` cannot be a version or a file of a release: 1 to 64 letters, digits, `.`, `_`, `+` or `-`, \
                 the first a letter or a digit"
            ))
        }
    }
}

impl std::str::FromStr for PathPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<PathPart> for String {
    fn from(part: PathPart) -> Self {
        part.0
    }
}

impl fmt::Display for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Release {
    /// Reads a release folder's description.
    ///
    /// # Errors
    /// If it is missing, does not parse, or lists a file twice.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(DESCRIPTION);
        let bad = |why: String| Error::Refused(format!("{}: {why}", path.display()));
        let text = files::read(&path, MAX_BYTES).map_err(|error| {
            bad(format!(
                "{error}; create it with `sanctum-launchd pack FOLDER --release VERSION`"
            ))
        })?;
        let release: Self =
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let mut names = BTreeSet::new();
        if let Some(twice) = release.files.iter().find(|file| !names.insert(&file.name)) {
            return Err(bad(format!("the file `{}` is listed twice", twice.name)));
        }
        Ok(release)
    }

    /// Its file of that name.
    pub fn file(&self, name: &str) -> Option<&ReleaseFile> {
        self.files.iter().find(|file| file.name.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_one_part_of_a_path() {
        for bad in ["", "..", "a/b", ".x", "a b", "-x", &"x".repeat(65)] {
            assert!(bad.parse::<PathPart>().is_err(), "{bad}");
        }
        let version: PathPart = "0.2.0-rc.1+mini".parse().unwrap();
        assert_eq!(version.as_str(), "0.2.0-rc.1+mini");
    }

    #[test]
    fn description_that_is_missing_or_lists_a_file_twice_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = || Release::read(folder.path()).unwrap_err().to_string();
        assert!(error().contains("sanctum-launchd pack"), "{}", error());
        let file = serde_json::json!({ "name": "a", "sha256": sanctum_config::Digest::of(b""), "kind": "binary" });
        let twice = serde_json::json!({ "version": "1", "files": [file, file] });
        std::fs::write(folder.path().join(DESCRIPTION), twice.to_string()).unwrap();
        assert!(error().contains("`a` is listed twice"), "{}", error());
    }
}
