//! The folder of a release: its description, a check of its files, and its import under the home's `releases/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sanctum_config::{Digest, DigestReader, Home, atomic, files};
use sanctum_host::{ArtefactKind, DESCRIPTION, PathPart, Release, ReleaseFile};

use crate::Error;

/// Describes the programs in a folder. A file that ends in `.metallib` has MLX's kernels; every other file must be
/// executable. Hidden files and the description itself are skipped.
///
/// # Errors
/// If the folder cannot be read, has no program, or a file is neither.
pub(crate) fn describe(folder: &Path, version: PathPart) -> Result<Release, Error> {
    let failed = |error| Error::read(folder, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == DESCRIPTION {
            continue;
        }
        let about = fs::metadata(&path).map_err(|error| Error::read(&path, error))?;
        let kind = match name.ends_with(".metallib") {
            true => ArtefactKind::Metallib,
            false => ArtefactKind::Binary,
        };
        let is_executable = about.permissions().mode() & 0o100 != 0;
        if !about.is_file() || (kind == ArtefactKind::Binary && !is_executable) {
            return Err(Error::refused(format!(
                "{} is neither a program nor a .metallib, and a release contains nothing else; move it out of the folder",
                path.display()
            )));
        }
        files.push(ReleaseFile {
            name: name
                .parse()
                .map_err(|error: String| Error::refused(error))?,
            sha256: digest(&path)?,
            kind,
        });
    }
    if files.is_empty() {
        let folder = folder.display();
        return Err(Error::refused(format!("there is no program in {folder}")));
    }
    files.sort();
    Ok(Release { version, files })
}

/// Writes the description into its folder.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_description(release: &Release, folder: &Path) -> Result<(), Error> {
    let path = folder.join(DESCRIPTION);
    let mut text = serde_json::to_vec_pretty(release).expect("a description is plain data");
    text.push(b'\n');
    atomic::write(&path, &text, 0o644).map_err(|error| Error::write(&path, error))
}

/// Checks that the files in `folder` are the described ones.
///
/// # Errors
/// If one is missing or different: the first is named.
pub(crate) fn check(release: &Release, folder: &Path) -> Result<(), Error> {
    release.files.iter().try_for_each(|file| {
        let path = folder.join(file.name.as_str());
        match digest(&path)? {
            found if found == file.sha256 => Ok(()),
            found => Err(mismatch(&path, found, file)),
        }
    })
}

/// Copies a release under the home's `releases/`, whole or not at all. If it is there already, only missing and damaged
/// files are copied again. Each file is hashed once, while it is copied. Returns whether the release is new there.
///
/// # Errors
/// If a file is not the described one, another release of the same version is there, or a file cannot be copied.
pub(crate) fn import(release: &Release, folder: &Path, home: &Home) -> Result<bool, Error> {
    let place = home.release(release.version.as_str());
    if place.join(DESCRIPTION).exists() {
        if Release::read(&place)? != *release {
            return Err(Error::refused(format!(
                "another release {} is in {}; give the new release another version",
                release.version,
                place.display()
            )));
        }
        for file in &release.files {
            let stored = place.join(file.name.as_str());
            if Digest::of_file(&stored).ok().flatten() != Some(file.sha256) {
                copy(file, folder, &place)?;
            }
        }
        return Ok(false);
    }
    let incoming = home
        .releases()
        .join(format!(".{}.incoming", release.version));
    remove_folder(&incoming)?;
    let copied = release
        .files
        .iter()
        .try_for_each(|file| copy(file, folder, &incoming))
        .and_then(|()| write_description(release, &incoming));
    if let Err(error) = copied {
        remove_folder(&incoming)?;
        return Err(error);
    }
    // A folder without a description is left over from an interrupted import.
    remove_folder(&place)?;
    fs::rename(&incoming, &place).map_err(|error| Error::write(&place, error))?;
    Ok(true)
}

/// Copies a file and compares its digest before it is put in place.
fn copy(file: &ReleaseFile, from: &Path, to: &Path) -> Result<(), Error> {
    let (from, to) = (from.join(file.name.as_str()), to.join(file.name.as_str()));
    let bytes = files::open(&from).map_err(|error| Error::read(&from, error))?;
    let mut bytes = DigestReader::new(bytes);
    let failed = |error| Error::write(&to, error);
    let staged = atomic::stage(&to, &mut bytes, file.kind.mode()).map_err(failed)?;
    match bytes.digest() {
        found if found == file.sha256 => staged.put().map_err(failed),
        found => Err(mismatch(&from, found, file)),
    }
}

fn mismatch(path: &Path, found: Digest, file: &ReleaseFile) -> Error {
    Error::refused(format!(
        "{} does not match {DESCRIPTION} (its SHA-256 is {found}, described is {}); copy the release again",
        path.display(),
        file.sha256
    ))
}

/// Removes a folder and its contents; it may be missing.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::write(folder, error))
        }
        _ => Ok(()),
    }
}

fn digest(path: &Path) -> Result<Digest, Error> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    Digest::of_file(path)
        .and_then(|digest| digest.ok_or_else(missing))
        .map_err(|error| Error::read(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn version(text: &str) -> PathPart {
        text.parse().unwrap()
    }

    #[test]
    fn folder_is_described_and_imported_whole() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        fs::create_dir(&built).unwrap();
        program(&built, "sanctum-server", "one");
        fs::write(built.join("mlx.metallib"), "kernels").unwrap();
        fs::write(built.join(".DS_Store"), "").unwrap();
        let release = describe(&built, version("0.2.0")).unwrap();
        write_description(&release, &built).unwrap();
        assert_eq!(Release::read(&built).unwrap(), release);
        assert_eq!(
            release.file("mlx.metallib").unwrap().kind,
            ArtefactKind::Metallib
        );

        let home = Home::new(folder.path().join("home"), folder.path().into());
        assert!(import(&release, &built, &home).unwrap());
        assert!(!import(&release, &built, &home).unwrap());
        let place = home.release("0.2.0");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
        // A damaged file is copied again.
        fs::write(place.join("sanctum-server"), "damaged").unwrap();
        import(&release, &built, &home).unwrap();
        check(&release, &place).unwrap();

        program(&built, "sanctum-server", "two");
        let error = check(&release, &built).unwrap_err().to_string();
        assert!(
            error.contains("sanctum-server does not match release.json"),
            "{error}"
        );
        let other = describe(&built, version("0.2.0")).unwrap();
        let error = import(&other, &built, &home).unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[test]
    fn import_of_a_file_that_does_not_match_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        fs::create_dir(&built).unwrap();
        program(&built, "sanctum-server", "one");
        let release = describe(&built, version("1")).unwrap();
        program(&built, "sanctum-server", "two");
        let home = Home::new(folder.path().join("home"), folder.path().into());
        let error = import(&release, &built, &home).unwrap_err().to_string();
        assert!(error.contains("does not match release.json"), "{error}");
        assert_eq!(fs::read_dir(home.releases()).unwrap().count(), 0);
    }

    #[test]
    fn folder_with_other_files_is_not_a_release() {
        let folder = tempfile::tempdir().unwrap();
        let error = || {
            describe(folder.path(), version("1"))
                .unwrap_err()
                .to_string()
        };
        assert!(error().contains("no program in"), "{}", error());
        fs::write(folder.path().join("README"), "").unwrap();
        assert!(
            error().contains("README is neither a program"),
            "{}",
            error()
        );
    }
}
