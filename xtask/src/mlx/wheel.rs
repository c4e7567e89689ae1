//! libmlx from PyPI: the library behind MLX's Python package, in the version that mlx-sys pins.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::MlxError;
use super::folders::MlxFolders;
use super::source::Source;
use crate::steps::CachedSteps;

/// The version of MLX whose hashes follow.
const VERSION: &str = "0.32.2";

/// A wheel, identified by name, version and hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    /// The device that it is for, as in `target/mlx/<device>`.
    pub device: &'static str,
    /// Its name and version on PyPI.
    requirement: &'static str,
    /// SHA-256 of the file for x86-64 Linux.
    sha256: &'static str,
    /// Whether it needs libraries that exist only on the target machine.
    pub partial: bool,
}

impl Wheel {
    /// MLX's CPU device.
    pub(super) const CPU: Self = Self {
        device: "cpu",
        requirement: "mlx-cpu==0.32.2",
        sha256: "fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878",
        partial: false,
    };
    /// CUDA 13.
    pub(super) const CUDA: Self = Self {
        device: "cuda",
        requirement: "mlx-cuda-13==0.32.2",
        sha256: "335094ccd1c0c6dc3e09c8caba207c8180602bacc0c38ba20c1d81e9456ab394",
        partial: true,
    };
    /// libclang, with which bindgen parses C headers.
    pub(super) const LIBCLANG: Self = Self {
        device: "libclang",
        requirement: "libclang==18.1.1",
        sha256: "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
        partial: false,
    };

    /// Fetches libmlx and its headers.
    pub(super) fn unpack(
        &self,
        source: &Source,
        folders: &MlxFolders,
        steps: &mut CachedSteps,
    ) -> Result<(), MlxError> {
        if source.mlx != VERSION {
            return Err(MlxError::Version {
                sys: source.sys.clone(),
                wanted: source.mlx.clone(),
                known: VERSION,
            });
        }
        self.fetch("libmlx", &folders.wheel(), steps)
    }

    /// Unpacks the wheel into `folder`; pip checks its hash.
    pub(super) fn fetch(
        &self,
        what: &str,
        folder: &Path,
        steps: &mut CachedSteps,
    ) -> Result<(), MlxError> {
        let title = format!("{what} ({} from PyPI)", self.requirement);
        let line = format!("{} --hash=sha256:{}\n", self.requirement, self.sha256);
        steps.once(&title, folder, &line, |steps| {
            let list = folder.join("requirements.txt");
            steps.write(&list, &line)?;
            let mut pip = Command::new(python()?);
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-compile",
            ])
            .args(["--disable-pip-version-check", "--root-user-action=ignore"])
            .args(["--only-binary=:all:", "--require-hashes", "--target"])
            .arg(folder)
            .arg("--requirement")
            .arg(&list);
            Ok::<_, MlxError>(steps.run(&mut pip)?)
        })
    }
}

/// The first Python that has pip.
fn python() -> Result<OsString, MlxError> {
    let named = env::var_os("PYTHON");
    let usual = ["python3", "python"].map(OsString::from);
    let candidates = named.map_or_else(|| usual.to_vec(), |named| vec![named]);
    candidates
        .into_iter()
        .find(|python| {
            Command::new(python)
                .args(["-m", "pip", "--version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .ok_or(MlxError::NoPip)
}

/// The folder of libmlx.so, its headers beside it.
pub(super) fn libmlx(folders: &MlxFolders) -> PathBuf {
    folders.wheel().join("mlx/lib")
}

/// libclang.so in an unpacked wheel.
pub(super) fn libclang(folders: &MlxFolders) -> PathBuf {
    folders.libclang().join("clang/native")
}

/// MLX's headers.
pub(super) fn headers(folders: &MlxFolders) -> PathBuf {
    folders.wheel().join("mlx/include")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_by_version_and_hash() {
        for wheel in [Wheel::CPU, Wheel::CUDA, Wheel::LIBCLANG] {
            assert!(wheel.requirement.contains("=="), "{wheel:?}");
            assert_eq!(wheel.sha256.len(), 64, "{wheel:?}");
        }
        for wheel in [Wheel::CPU, Wheel::CUDA] {
            assert!(wheel.requirement.ends_with(VERSION), "{wheel:?}");
        }
    }
}
