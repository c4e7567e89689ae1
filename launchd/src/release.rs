//! A release: a folder of programs with a `release.json` that says which version they are and what is in them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, Home, atomic, files};
use sanctum_host::ArtefactKind;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The name of the file that describes a release.
pub const DESCRIPTION: &str = "release.json";

/// Larger than any description.
const LARGEST: u64 = 4 << 20;

/// A release's version, or the name of a file in it: letters, digits, `.`, `_`, `+` and `-`, the first a letter or a
/// digit. It becomes a path's last part.
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
    /// What is in it.
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
    /// If it is not there, damaged, or names a file twice.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(DESCRIPTION);
        let bad = |why: String| Failure::Refused(format!("{}: {why}", path.display()));
        let text = files::read(&path, LARGEST).map_err(|error| {
            bad(format!(
                "{error}; a release folder is made with `sanctum-launchd pack FOLDER --release VERSION`"
            ))
        })?;
        let release: Self =
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let mut names = BTreeSet::new();
        if let Some(twice) = release.files.iter().find(|file| !names.insert(&file.name)) {
            return Err(bad(format!("the file `{}` stands there twice", twice.name)));
        }
        Ok(release)
    }

    /// Describes the programs in a folder. A file that ends in `.metallib` is MLX's kernels; every other one must be
    /// executable. Hidden files and the description itself are left out.
    ///
    /// # Errors
    /// If the folder cannot be read, has no program, or a file is neither.
    pub fn describe(folder: &Path, version: PathPart) -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |error| Failure::read(folder, error);
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == DESCRIPTION {
                continue;
            }
            let about = fs::metadata(&path).map_err(|error| Failure::read(&path, error))?;
            let kind = if name.ends_with(".metallib") {
                ArtefactKind::Metallib
            } else {
                ArtefactKind::Binary
            };
            let runs = about.permissions().mode() & 0o100 != 0;
            if !about.is_file() || (kind == ArtefactKind::Binary && !runs) {
                return Err(Failure::Refused(format!(
                    "{} is no program (nor a .metallib); a release holds nothing else, take it out",
                    path.display()
                )));
            }
            files.push(ReleaseFile {
                name: name.parse().map_err(Failure::Refused)?,
                sha256: digest(&path)?,
                kind,
            });
        }
        if files.is_empty() {
            let folder = folder.display();
            return Err(Failure::Refused(format!("there is no program in {folder}")));
        }
        files.sort();
        Ok(Self { version, files })
    }

    /// Writes the description into its folder.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(DESCRIPTION);
        let mut text = serde_json::to_vec_pretty(self).expect("a description is plain data");
        text.push(b'\n');
        atomic::write(&path, &text, 0o644).map_err(|error| Failure::write(&path, error))
    }

    /// Its file of that name.
    pub fn file(&self, name: &str) -> Option<&ReleaseFile> {
        self.files.iter().find(|file| file.name.as_str() == name)
    }

    /// Whether the files in `folder` are those that it describes.
    ///
    /// # Errors
    /// If one is missing or different: the first is named.
    pub fn check(&self, folder: &Path) -> Result<(), Failure> {
        self.files.iter().try_for_each(|file| {
            let path = folder.join(file.name.as_str());
            let found = digest(&path)?;
            if found == file.sha256 {
                return Ok(());
            }
            Err(Failure::Refused(format!(
                "{} is not what {DESCRIPTION} says (it has SHA-256 {found}, it should have {}); copy the release again",
                path.display(),
                file.sha256
            )))
        })
    }

    /// Copies the release under the home's `releases/`, whole or not at all. In one that is there already, a
    /// damaged file is copied again.
    ///
    /// # Errors
    /// If a file is not what the description says, another release of the same version is there, or the system refuses.
    pub fn take_in(&self, folder: &Path, home: &Home) -> Result<PathBuf, Failure> {
        let place = home.release(self.version.as_str());
        if place.join(DESCRIPTION).exists() {
            if Self::read(&place)? != *self {
                return Err(Failure::Refused(format!(
                    "another release {} is in {}; give the new one a version of its own",
                    self.version,
                    place.display()
                )));
            }
            for file in &self.files {
                let to = place.join(file.name.as_str());
                if Digest::of_file(&to).ok().flatten() != Some(file.sha256) {
                    file.copy(folder, &place)?;
                }
            }
            return self.check(&place).map(|()| place);
        }
        self.check(folder)?;
        let incoming = home.releases().join(format!(".{}.incoming", self.version));
        remove_folder(&incoming)?;
        self.files
            .iter()
            .try_for_each(|file| file.copy(folder, &incoming))?;
        // What was checked above may have changed while it was copied.
        self.check(&incoming)?;
        self.write(&incoming)?;
        // A folder without a description is left over from an installation that was interrupted.
        remove_folder(&place)?;
        fs::rename(&incoming, &place).map_err(|error| Failure::write(&place, error))?;
        Ok(place)
    }
}

impl ReleaseFile {
    fn copy(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let (from, to) = (from.join(self.name.as_str()), to.join(self.name.as_str()));
        let mut bytes = files::open(&from).map_err(|error| Failure::read(&from, error))?;
        atomic::stage(&to, &mut bytes, self.kind.mode())
            .and_then(atomic::Staged::put)
            .map_err(|error| Failure::write(&to, error))
    }
}

/// The permission bits that a file of a kind is installed with.
pub trait Mode {
    /// Such as 0o755.
    fn mode(self) -> u32;
}

impl Mode for ArtefactKind {
    fn mode(self) -> u32 {
        match self {
            Self::Binary => 0o755,
            // It may hold the addresses of alert channels, which can be secrets.
            Self::Fleet => 0o600,
            Self::Metallib | Self::Plist | Self::Spec => 0o644,
        }
    }
}

/// Removes a folder and what is in it; it may be gone already.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::write(folder, error))
        }
        _ => Ok(()),
    }
}

fn digest(path: &Path) -> Result<Digest, Failure> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    Digest::of_file(path)
        .and_then(|digest| digest.ok_or_else(missing))
        .map_err(|error| Failure::read(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn version(text: &str) -> PathPart {
        text.parse().unwrap()
    }

    #[test]
    fn a_folder_is_described_and_taken_in_whole() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        fs::create_dir(&built).unwrap();
        program(&built, "sanctum-server", "one");
        fs::write(built.join("mlx.metallib"), "kernels").unwrap();
        fs::write(built.join(".DS_Store"), "").unwrap();
        let release = Release::describe(&built, version("0.2.0")).unwrap();
        release.write(&built).unwrap();
        assert_eq!(Release::read(&built).unwrap(), release);
        assert_eq!(
            release.file("mlx.metallib").unwrap().kind,
            ArtefactKind::Metallib
        );

        let home = Home::new(folder.path().join("home"), folder.path().into());
        let place = release.take_in(&built, &home).unwrap();
        assert_eq!(place, home.release("0.2.0"));
        assert_eq!(release.take_in(&built, &home).unwrap(), place);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3);

        program(&built, "sanctum-server", "two");
        let error = release.check(&built).unwrap_err().to_string();
        assert!(
            error.contains("sanctum-server is not what release.json says"),
            "{error}"
        );
        let other = Release::describe(&built, version("0.2.0")).unwrap();
        let error = other.take_in(&built, &home).unwrap_err().to_string();
        assert!(error.contains("a version of its own"), "{error}");
    }

    #[test]
    fn what_is_no_program_is_no_part_of_a_release() {
        let folder = tempfile::tempdir().unwrap();
        let describe = || {
            Release::describe(folder.path(), version("1"))
                .unwrap_err()
                .to_string()
        };
        assert!(describe().contains("no program in"));
        fs::write(folder.path().join("README"), "").unwrap();
        assert!(
            describe().contains("README is no program"),
            "{}",
            describe()
        );
        let error = Release::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("sanctum-launchd pack"), "{error}");
        let twice = r#"{"version":"1","files":[{"name":"a","sha256":"X","kind":"binary"},{"name":"a","sha256":"X","kind":"binary"}]}"#;
        let digest = Digest::of(b"").to_string();
        fs::write(folder.path().join(DESCRIPTION), twice.replace('X', &digest)).unwrap();
        let error = Release::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }

    #[test]
    fn a_version_is_one_part_of_a_path() {
        for bad in ["", "..", "a/b", ".x", "a b", "-x", &"x".repeat(65)] {
            assert!(bad.parse::<PathPart>().is_err(), "{bad}");
        }
        assert_eq!(version("0.2.0-rc.1+mini").as_str(), "0.2.0-rc.1+mini");
    }
}
