//! Downloads Debian's package of the standard library's source in exactly the wanted version.
//!
//! The system's own suites carry an older Rust than the toolchain, so newer suites are read from the same mirror, with
//! separate lists and cache: the system's packages do not change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tried in this order: the first usually has the current toolchain, the others have a new one earlier.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Fetches rust-src of `release` into `folder`; the error names what is missing.
pub(super) fn rust_src(release: &str, folder: &Path) -> Result<PathBuf, String> {
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let mirror = debian_mirror(&targets).ok_or("apt's sources name no mirror of Debian")?;
    let mut tried = Vec::new();
    for suite in SUITES {
        let own = folder.join(suite);
        let suite = Suite::new(suite, mirror, &own)?;
        match suite.fetch(release) {
            Ok(package) => return Ok(package),
            Err(reason) => tried.push(reason),
        }
    }
    Err(tried.join("; "))
}

/// A suite of Debian with separate lists and cache.
struct Suite<'a> {
    name: &'a str,
    folder: &'a Path,
}

impl<'a> Suite<'a> {
    fn new(name: &'a str, mirror: &str, folder: &'a Path) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", folder.display());
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
        }
        let line = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {name} main\n"
        );
        fs::write(folder.join("sources.list"), line).map_err(failed)?;
        Ok(Self { name, folder })
    }

    fn fetch(&self, release: &str) -> Result<PathBuf, String> {
        output(self.command("apt-get").arg("update"))?;
        let versions = output(self.command("apt-cache").args(["madison", "rust-src"]))?;
        let version = version_of(&versions, release)
            .ok_or_else(|| format!("{} has no rust-src {release}", self.name))?;
        let package = format!("rust-src={version}");
        output(self.command("apt-get").args(["download", &package]))?;
        let entries = fs::read_dir(self.folder).map_err(|error| error.to_string())?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|found| found == "deb"))
            .ok_or_else(|| format!("apt-get download {package} left no file"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder).arg("-qq");
        for (option, value) in [
            ("Dir::Etc::sourcelist", self.path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::Lists", self.path("lists")),
            ("Dir::Cache", self.path("cache")),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The output of `command`, or why it failed, on one line.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let last = messages.lines().rfind(|line| !line.trim().is_empty());
    Err(format!(
        "{program} failed ({}): {}",
        output.status,
        last.unwrap_or("it printed nothing")
    ))
}

/// The mirror of Debian's main archive, from the addresses of apt's index targets.
fn debian_mirror(targets: &str) -> Option<&str> {
    targets
        .lines()
        .find(|address| address.trim_end_matches('/').ends_with("/debian"))
}

/// The package version of `release` in the output of `apt-cache madison`.
fn version_of<'a>(madison: &'a str, release: &str) -> Option<&'a str> {
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| {
            let rest = version.strip_prefix(release);
            rest.is_some_and(|rest| rest.starts_with(['+', '-', '~']))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_the_main_archive() {
        let targets = "http://mirror.example/debian-security/\nhttp://mirror.example/debian/\n";
        assert_eq!(
            debian_mirror(targets),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(debian_mirror("http://mirror.example/ubuntu/\n"), None);
    }

    #[test]
    fn version_is_of_exactly_the_release() {
        let madison = "  rust-src | 1.95.0+dfsg1-1~bpo13+1 | http://mirror.example/debian x\n";
        assert_eq!(
            version_of(madison, "1.95.0"),
            Some("1.95.0+dfsg1-1~bpo13+1")
        );
        for other in ["1.9", "1.95", "1.95.01", "1.96.0"] {
            assert_eq!(version_of(madison, other), None, "{other}");
        }
    }

    #[test]
    fn failure_is_reported_with_the_last_message() {
        let failed = output(Command::new("sh").args(["-c", "echo a >&2; echo b >&2; exit 100"]));
        assert_eq!(failed.unwrap_err(), "sh failed (exit status: 100): b");
    }
}
