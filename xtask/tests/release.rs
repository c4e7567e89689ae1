//! `cargo xtask release` with programs that are scripts: the folder, the tarball, its checksum and the formula.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-test.1");
const PROGRAMS: [&str; 7] = [
    "sanctum-server",
    "sanctum-guardian",
    "sanctum-canary",
    "sanctum-drift",
    "sanctum-parity",
    "sanctum-launchd",
    "sanctum-pki",
];

/// Programs that only print their arguments; `pack` leaves a release.json.
fn programs(folder: &Path) {
    for name in PROGRAMS {
        let script = "#!/bin/sh\necho \"$0 $*\"\nif [ \"$1\" = pack ]; then echo \"$4\" > \"$2/release.json\"; fi\n";
        fs::write(folder.join(name), script).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn release(version: &str, programs: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["release", version, "--programs"])
        .arg(programs)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}

#[test]
fn release_is_a_folder_a_tarball_with_its_checksum_and_a_formula() {
    let folder = TempDir::new().unwrap();
    let (built, out) = (folder.path().join("built"), folder.path().join("dist"));
    fs::create_dir(&built).unwrap();
    programs(&built);
    let output = release(VERSION, &built, &out, &[]);
    assert!(output.status.success(), "{output:?}");

    let name = format!("sanctum-{VERSION}");
    let packed = fs::read_to_string(out.join(&name).join("release.json")).unwrap();
    assert_eq!(packed.trim(), VERSION, "pack got the version");
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let tarball = format!("{name}-{platform}.tar.gz");
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar")
        .arg("-xzf")
        .arg(out.join(&tarball))
        .arg("-C")
        .arg(&unpacked)
        .status();
    assert!(tar.unwrap().success());
    for program in PROGRAMS {
        let about = fs::metadata(unpacked.join(&name).join(program)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o755, "{program}");
    }
    assert!(unpacked.join(&name).join("release.json").exists());

    let checked = Command::new("sha256sum")
        .args(["-c", &format!("{tarball}.sha256")])
        .current_dir(&out)
        .output();
    if has_program("sha256sum") {
        assert!(checked.unwrap().status.success());
    }
    let sums = fs::read_to_string(out.join(format!("{tarball}.sha256"))).unwrap();
    let (sha256, _) = sums.split_once("  ").unwrap();
    let formula = fs::read_to_string(out.join("sanctum.rb")).unwrap();
    assert!(
        formula.contains(&format!("sha256 \"{sha256}\"")),
        "{formula}"
    );
    assert!(formula.contains(&format!("file://{}", out.join(&tarball).display())));
    if has_program("ruby") {
        let ruby = Command::new("ruby")
            .arg("-c")
            .arg(out.join("sanctum.rb"))
            .output();
        let ruby = ruby.unwrap();
        assert!(ruby.status.success(), "{ruby:?}");
    }

    // A file of an earlier run does not stay in the folder.
    fs::write(out.join(&name).join("old"), "").unwrap();
    let url = ["--url", "https://example.net/sanctum.tar.gz"];
    assert!(release(VERSION, &built, &out, &url).status.success());
    assert!(!out.join(&name).join("old").exists());
    let formula = fs::read_to_string(out.join("sanctum.rb")).unwrap();
    assert!(
        formula.contains("url \"https://example.net/sanctum.tar.gz\""),
        "{formula}"
    );
}

#[test]
fn release_without_a_program_or_of_another_version_fails() {
    let folder = TempDir::new().unwrap();
    let (built, out) = (folder.path().join("built"), folder.path().join("dist"));
    fs::create_dir(&built).unwrap();
    programs(&built);
    fs::remove_file(built.join("sanctum-pki")).unwrap();
    for (version, part) in [
        (VERSION, "sanctum-pki is missing"),
        ("99.0.0", "Cargo.toml"),
    ] {
        let output = release(version, &built, &out, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn dry_run_of_a_release_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("dist");
    let output = release(VERSION, folder.path(), &out, &["--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("pack") && printed.contains("tar -czf"),
        "{printed}"
    );
    assert!(!out.exists());
}
