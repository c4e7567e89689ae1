//! Builds and locates the programs under test.
//!
//! Cargo builds a package's binaries for that package's own tests only. So the first test that needs one builds them
//! all: `cargo test` is enough in a fresh clone, and no test runs against an outdated server. Cargo holds no lock while
//! tests run, and serialises concurrent builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The path of `sanctum-server`; the first call builds it. `SANCTUM_SERVER` names another program to test instead.
pub(crate) fn server() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| given_or_built("SANCTUM_SERVER", "sanctum-server"))
}

/// The path of `sanctum-pki`; the first call builds it. `SANCTUM_PKI` names another program to test instead.
pub(crate) fn pki() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| given_or_built("SANCTUM_PKI", "sanctum-pki"))
}

/// The path of another program of the workspace, built first.
///
/// # Panics
/// When there is no such program.
pub fn of(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("there is no program {name}"))
}

fn given_or_built(variable: &str, name: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(given) => given.into(),
        None => of(name),
    }
}

/// The path of a program, if the workspace has it. The first call builds all programs, unless `SANCTUM_PROGRAMS` names the
/// folder of programs that are built already.
pub fn find(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("SANCTUM_PROGRAMS") {
        Some(folder) => files(Path::new(&folder)),
        None => build(),
    });
    let is_it = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == name);
    built.iter().find(is_it).cloned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    // Tests and their children run in other folders.
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("SANCTUM_PROGRAMS: {}: {error}", folder.display()));
    let files = entries.flatten().map(|entry| entry.path());
    // Cargo writes `NAME.d` beside each program.
    files
        .filter(|path| path.is_file() && path.extension().is_none())
        .collect()
}

/// Builds all programs once, in the profile of this code: built together they share the tests' dependencies, one by one each
/// would be built with other features.
fn build() -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from(env!("CARGO")));
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let mut command = Command::new(cargo);
    // Cargo's variables about the test's package: build scripts that read them (ring's does) would run again, and half
    // of the workspace would be rebuilt, each time that a build within a test follows one outside.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of| name.starts_with(of))
        {
            command.env_remove(&*name);
        }
    }
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--manifest-path", "../Cargo.toml"])
        .args(["--workspace", "--bins", "--profile", profile])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the programs do not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect()
}
