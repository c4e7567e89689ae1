//! `cargo xtask release VERSION`: programs, stripped and packed, as a folder, as a tarball with its SHA-256, and as a Homebrew
//! formula that installs the tarball.

mod error;
mod formula;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use sha2::{Digest, Sha256};

pub(crate) use error::ReleaseError;

use self::formula::Formula;
use crate::error::StepError;
use crate::steps::CachedSteps;
use crate::target_folder;

/// The programs of a release.
const PROGRAMS: [&str; 7] = [
    "sanctum-server",
    "sanctum-guardian",
    "sanctum-canary",
    "sanctum-drift",
    "sanctum-parity",
    "sanctum-launchd",
    "sanctum-pki",
];
/// MLX's own kernels, which its build leaves in this folder.
const METALLIB: &str = "mlx.metallib";
/// The oldest macOS that MLX's kernels compile for.
const DEPLOYMENT_TARGET: &str = "14.0";

/// Options of `release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The version: that of Cargo.toml, which may be followed by -SUFFIX or +SUFFIX
    version: String,
    /// The folder to leave everything in [default: target/dist]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Where the tarball will be downloaded from [default: the file itself, for an installation on this machine]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Sign and notarise the programs before they are packed, with this Developer ID (a Mac only)
    #[arg(long, value_name = "IDENTITY")]
    sign: Option<String>,
    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Print the commands, and run none
    #[arg(long)]
    dry_run: bool,
}

/// Builds, packs and describes a release.
pub(crate) fn run(args: &ReleaseArgs) -> Result<ExitCode, ReleaseError> {
    check_version(&args.version)?;
    let steps = CachedSteps::new(args.dry_run);
    let target = target_folder::path();
    let built = match &args.programs {
        Some(folder) => folder.clone(),
        None => {
            build(&steps, &target)?;
            target.join("release")
        }
    };
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let out = args.out.clone().unwrap_or_else(|| target.join("dist"));
    let out = std::path::absolute(&out).map_err(StepError::file(&out))?;
    let name = format!("sanctum-{}", args.version);
    let folder = out.join(&name);
    let metallib = target.join("metal").join(METALLIB);
    let metallib = Some(metallib).filter(|path| cfg!(target_os = "macos") && path.exists());
    collect(&steps, &built, metallib.as_deref(), &folder)?;
    let launchd = folder.join("sanctum-launchd");
    if let Some(identity) = &args.sign {
        steps.run(
            Command::new(&launchd)
                .arg("sign")
                .arg(&folder)
                .args(["--identity", identity]),
        )?;
    }
    // After signing, which changes the programs.
    steps.run(
        Command::new(&launchd)
            .arg("pack")
            .arg(&folder)
            .args(["--release", &args.version]),
    )?;
    let tarball = format!("{name}-{platform}.tar.gz");
    steps.run(
        Command::new("tar")
            // Apple's tar would add a file of attributes beside each file.
            .env("COPYFILE_DISABLE", "1")
            .arg("-czf")
            .arg(out.join(&tarball))
            .arg("-C")
            .arg(&out)
            .arg(&name),
    )?;
    if args.dry_run {
        println!("# write {tarball}.sha256 and sanctum.rb");
        return Ok(ExitCode::SUCCESS);
    }
    let sha256 = sha256(&out.join(&tarball))?;
    // As `shasum -a 256 -c` and `sha256sum -c` read it.
    steps.write(
        &out.join(format!("{tarball}.sha256")),
        &format!("{sha256}  {tarball}\n"),
    )?;
    let formula = Formula {
        version: &args.version,
        url: &match &args.url {
            Some(url) => url.clone(),
            None => format!("file://{}", out.join(&tarball).display()),
        },
        sha256: &sha256,
        is_macos: cfg!(target_os = "macos"),
        is_arm: cfg!(target_arch = "aarch64"),
    };
    steps.write(&out.join("sanctum.rb"), &formula.text()?)?;
    println!("{}", folder.display());
    println!("{}", out.join(&tarball).display());
    println!("{}", out.join(format!("{tarball}.sha256")).display());
    println!("{}", out.join("sanctum.rb").display());
    Ok(ExitCode::SUCCESS)
}

/// Programs report the version of Cargo.toml, so a release of another version would be misleading.
fn check_version(version: &str) -> Result<(), ReleaseError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let ours = env!("CARGO_PKG_VERSION");
    let rest = version.strip_prefix(ours);
    let is_ours = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+']));
    match is_ours && version.len() <= 64 && version.chars().all(plain) {
        true => Ok(()),
        false => Err(ReleaseError::Version {
            version: version.to_owned(),
            ours,
        }),
    }
}

/// `[profile.release]` strips the programs.
fn build(steps: &CachedSteps, target: &Path) -> Result<(), ReleaseError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(target_folder::workspace()).args([
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--bins",
    ]);
    if cfg!(target_os = "macos") {
        build
            .args(["--features", "sanctum-server/mlx"])
            .env("MACOSX_DEPLOYMENT_TARGET", DEPLOYMENT_TARGET)
            .env("MLX_RS_METAL_PATH", target.join("metal"));
    }
    Ok(steps.run(&mut build)?)
}

/// Copies the programs into the release's folder, which is emptied first.
fn collect(
    steps: &CachedSteps,
    built: &Path,
    metallib: Option<&Path>,
    folder: &Path,
) -> Result<(), ReleaseError> {
    let files = PROGRAMS.map(|name| built.join(name));
    if steps.dry_run() {
        for file in files.iter().map(PathBuf::as_path).chain(metallib) {
            println!("# copy {} to {}", file.display(), folder.display());
        }
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(StepError::file(folder))?;
    }
    fs::create_dir_all(folder).map_err(StepError::file(folder))?;
    for (file, mode) in files
        .iter()
        .map(|file| (file.as_path(), 0o755))
        .chain(metallib.map(|file| (file, 0o644)))
    {
        if !file.is_file() {
            return Err(ReleaseError::Missing(file.to_owned()));
        }
        let place = folder.join(file.file_name().unwrap_or_default());
        fs::copy(file, &place).map_err(StepError::file(file))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))
            .map_err(StepError::file(&place))?;
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String, ReleaseError> {
    let mut file = fs::File::open(path).map_err(StepError::file(path))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut part).map_err(StepError::file(path))?;
        if read == 0 {
            let digest = hash.finalize();
            return Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&part[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_that_of_the_programs() {
        let ours = env!("CARGO_PKG_VERSION");
        for good in [
            ours.to_owned(),
            format!("{ours}-rc.1"),
            format!("{ours}+mini.2"),
        ] {
            check_version(&good).unwrap();
        }
        for bad in [
            "",
            "99.0.0",
            &format!("{ours}1"),
            &format!("{ours}-a b"),
            "../x",
        ] {
            let error = check_version(bad).unwrap_err().to_string();
            assert!(error.contains("Cargo.toml"), "{bad}: {error}");
        }
    }
}
