//! Another host, checked from outside: its system's tools hash its files over ssh, and the digests are compared with this
//! host's copy of its receipt. The fleet's own programs on that host are not asked: an attacker who has replaced one of them
//! controls its answers.
//!
//! This check trusts the other host's sshd, its `sh`, `stat`, and `shasum` or `sha256sum`, in `/usr/bin` and `/bin` first.
//! Linux and macOS differ in these tools; one shell script works on both.

use std::path::Path;
use std::time::Duration;

use sanctum_config::record::RecordError;
use sanctum_config::{Digest, Fleet, Home, Label, UntrustedText};

use crate::verify::{forbidden_key, keys_of_signers};
use crate::{Artefact, ArtefactKind, Finding, FindingKind, Receipt, ssh};

/// ssh's exit code if it could not connect, or was not authorized.
const SSH_FAILED: i32 = 255;
/// OpenSSH's messages for a host that was reached: its host key has changed, or it does not accept this host's key.
const REFUSALS: [&str; 2] = ["Host key verification failed", "Permission denied"];

/// For each path: its permission bits and its digest, each on its own line, or `absent`. GNU's `stat` is tried first: BSD's
/// rejects `-c`, while GNU's accepts `-f` with another meaning.
const SCRIPT: &str = r#"PATH=/usr/bin:/bin:$PATH; LC_ALL=C; export PATH LC_ALL; n=0; for f in "$@"; do echo "file $n"; n=$((n+1)); if [ -e "$f" ]; then echo "mode $(stat -c %a "$f" 2>/dev/null || stat -f %Mp%Lp "$f" 2>/dev/null)"; if [ -f "$f" ]; then echo "sha256 $(shasum -a 256 < "$f" 2>/dev/null || sha256sum < "$f" 2>/dev/null)"; fi; else echo absent; fi; done; echo end"#;

/// Why another host could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum OffboxError {
    /// ssh could not connect: the host or the network is down.
    #[error("{host} cannot be reached by ssh: {reason}")]
    Unreachable {
        /// The host.
        host: Label,
        /// ssh's message.
        reason: String,
    },
    /// The host has another key than before, or no longer accepts this host's key. A host that is down does neither.
    #[error(
        "{host} answers and refuses the connection, or it is another machine than before: {reason}; try it by hand: ssh \
         {destination} true"
    )]
    Refused {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// ssh's message.
        reason: String,
    },
    /// fleet.toml does not say how to reach it.
    #[error(
        "[hosts.{0}] has no `ssh`, so it cannot be checked from here; write `ssh = \"DESTINATION\"`"
    )]
    NoDestination(Label),
    /// The output of its tools does not parse.
    #[error(
        "stat and shasum on {host} printed something unexpected: {reason}; try it by hand: ssh {destination} true"
    )]
    BadOutput {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// The beginning of its output.
        reason: String,
    },
    /// This host's copy of its receipt cannot be read.
    #[error(transparent)]
    Copy(#[from] RecordError),
}

/// What is at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PathState {
    /// Nothing.
    absent: bool,
    /// Permission bits; none if they are unknown.
    mode: Option<u32>,
    /// The digest; none if it is not a file, or cannot be read.
    sha256: Option<Digest>,
}

/// The differences between `host` and this host's copy of its receipt, in a fixed order; empty if there is none.
///
/// # Errors
/// If it cannot be checked.
pub fn offbox(
    fleet: &Fleet,
    home: &Home,
    host: &Label,
    limit: Duration,
) -> Result<Vec<Finding>, OffboxError> {
    let destination = (fleet.hosts.get(host))
        .and_then(|host| host.ssh.as_deref())
        .ok_or_else(|| OffboxError::NoDestination(host.clone()))?;
    let copy = home.receipt_of(host);
    let Some(receipt) = Receipt::read(&copy)? else {
        let problem = format!("this host has no copy of {host}'s receipt to compare with");
        let fix = format!("sanctum-launchd receipt --host {host} --release FOLDER");
        return Ok(vec![Finding::new(
            FindingKind::NoReceipt,
            copy.display(),
            problem,
            fix,
        )]);
    };
    let serves = fleet.servers.values().any(|server| server.host == *host);
    let keys = match home_there(&receipt) {
        Some(there) if serves => keys_of_signers(&there).to_vec(),
        _ => Vec::new(),
    };
    let paths: Vec<&Path> = (receipt.artefacts.iter())
        .map(|artefact| artefact.path.as_path())
        .chain(keys.iter().map(|(path, _)| path.as_path()))
        .collect();
    let seen = inspect(host, destination, &paths, limit)?;
    let (artefacts, forbidden_keys) = seen.split_at(receipt.artefacts.len());
    let mut findings = Vec::new();
    for (artefact, seen) in receipt.artefacts.iter().zip(artefacts) {
        findings.extend(compare(host, artefact, seen));
    }
    for ((path, purpose), seen) in keys.iter().zip(forbidden_keys) {
        if !seen.absent {
            findings.push(forbidden_key(&there(host, path), purpose, path));
        }
    }
    findings.sort();
    Ok(findings)
}

/// The fleet's home on the host that a receipt is about; none if the receipt has no fleet.toml.
fn home_there(receipt: &Receipt) -> Option<Home> {
    let fleet = (receipt.artefacts.iter()).find(|file| file.kind == ArtefactKind::Fleet)?;
    let root = fleet.path.parent()?;
    // ~/Library/LaunchAgents/LABEL.plist
    let user = receipt
        .agents
        .first()
        .and_then(|agent| agent.plist.ancestors().nth(3));
    Some(Home::new(root.to_owned(), user.unwrap_or(root).to_owned()))
}

fn there(host: &Label, path: &Path) -> String {
    format!("{host}:{}", path.display())
}

fn inspect(
    host: &Label,
    destination: &str,
    paths: &[&Path],
    limit: Duration,
) -> Result<Vec<PathState>, OffboxError> {
    let mut line = format!("sh -c {} sh", ssh::quoted(SCRIPT));
    for path in paths {
        line.push(' ');
        line.push_str(&ssh::quoted(&path.to_string_lossy()));
    }
    let unreachable = |reason: String| OffboxError::Unreachable {
        host: host.clone(),
        reason,
    };
    let output =
        ssh::run(destination, &line, limit).map_err(|error| unreachable(error.to_string()))?;
    if output.code == Some(SSH_FAILED) {
        let reason = output.reason();
        return Err(
            match REFUSALS.iter().any(|refusal| reason.contains(refusal)) {
                true => OffboxError::Refused {
                    host: host.clone(),
                    destination: destination.to_owned(),
                    reason,
                },
                false => unreachable(reason),
            },
        );
    }
    parse(&output.stdout, paths.len()).ok_or_else(|| OffboxError::BadOutput {
        host: host.clone(),
        destination: destination.to_owned(),
        reason: UntrustedText::bounded(&output.reason(), 200).into(),
    })
}

/// Parses the output of [`SCRIPT`]; none if it is incomplete. A login shell may have printed something before it.
fn parse(text: &str, paths: usize) -> Option<Vec<PathState>> {
    let mut all: Vec<PathState> = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "file" if rest.parse() == Ok(all.len()) => all.push(PathState::default()),
            "end" if all.len() == paths => return Some(all),
            _ => {}
        }
        let Some(seen) = all.last_mut() else { continue };
        match word {
            "absent" => seen.absent = true,
            "mode" => seen.mode = u32::from_str_radix(rest.trim(), 8).ok(),
            // `shasum` adds the name of its input.
            "sha256" => {
                seen.sha256 = rest
                    .split_whitespace()
                    .next()
                    .and_then(|word| word.parse().ok());
            }
            _ => {}
        }
    }
    None
}

fn compare(host: &Label, artefact: &Artefact, seen: &PathState) -> Vec<Finding> {
    let subject = there(host, &artefact.path);
    let fix = format!(
        "on {host}: sanctum-launchd install (puts it back); here, if {host} was changed on purpose: sanctum-launchd receipt \
         --host {host} --release FOLDER"
    );
    let found = |kind, problem: String, fix: &str| Finding::new(kind, &subject, problem, fix);
    if seen.absent {
        return vec![found(
            FindingKind::Missing,
            "it is missing".to_owned(),
            &fix,
        )];
    }
    let mut findings = Vec::new();
    match seen.sha256 {
        Some(sha256) if sha256 == artefact.sha256 => {}
        Some(sha256) => findings.push(found(
            FindingKind::Changed,
            format!(
                "its contents are not the installed ones (SHA-256 {sha256}, installed {})",
                artefact.sha256
            ),
            &fix,
        )),
        None => findings.push(found(
            FindingKind::Changed,
            "it cannot be read there, or there is neither shasum nor sha256sum".to_owned(),
            &fix,
        )),
    }
    if seen.mode != Some(artefact.mode) {
        let mode = seen
            .mode
            .map_or("unknown".to_owned(), |mode| format!("{mode:04o}"));
        findings.push(found(
            FindingKind::Mode,
            format!("its mode is {mode}, installed {:04o}", artefact.mode),
            &format!(
                "on {host}: chmod {:o} {}",
                artefact.mode,
                artefact.path.display()
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// Runs the script in this system's shell, with `first` before the other folders in PATH.
    fn run(paths: &[PathBuf], first: Option<&Path>) -> Vec<PathState> {
        let mut line = SCRIPT.to_owned();
        if let Some(first) = first {
            line = line.replace(
                "/usr/bin:/bin",
                &format!("{}:/usr/bin:/bin", first.display()),
            );
        }
        let output = Command::new("sh")
            .arg("-c")
            .arg(line)
            .arg("sh")
            .args(paths)
            .output()
            .unwrap();
        let text = format!(
            "Welcome!\nfile out\n{}",
            String::from_utf8(output.stdout).unwrap()
        );
        parse(&text, paths.len()).expect("it is complete")
    }

    #[test]
    fn script_works_on_linux_and_macos() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it's a file");
        fs::write(&file, "abc").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let paths = [file, folder.path().join("none"), folder.path().to_owned()];
        let expected = PathState {
            mode: Some(0o640),
            sha256: Some(Digest::of(b"abc")),
            absent: false,
        };
        let seen = run(&paths, None);
        assert_eq!(seen[0], expected);
        assert!(seen[1].absent && !seen[2].absent);
        assert_eq!(seen[2].sha256, None, "a folder");

        // As on macOS: no sha256sum, and a stat that rejects -c.
        let mac = folder.path().join("mac");
        fs::create_dir(&mac).unwrap();
        let tool = |name: &str, script: &str| {
            let path = mac.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        tool(
            "stat",
            "case $1 in -f) echo 0640 ;; *) echo 'stat: illegal option -- c' >&2; exit 1 ;; esac",
        );
        tool("sha256sum", "exit 127");
        tool(
            "shasum",
            "[ \"$1 $2\" = '-a 256' ] && PATH=/usr/bin:/bin exec sha256sum",
        );
        assert_eq!(run(&paths[..1], Some(&mac)), [expected]);
        // As on Linux without perl: no shasum.
        tool("shasum", "exit 127");
        tool("sha256sum", "PATH=/usr/bin:/bin exec sha256sum");
        assert_eq!(run(&paths[..1], Some(&mac))[0].sha256, expected.sha256);
    }

    #[test]
    fn incomplete_output_is_none() {
        assert_eq!(
            parse("file 0\nmode 644\nsha256 \nfile 1\nabsent\n", 2),
            None
        );
        assert_eq!(parse("end\n", 1), None);
        let seen = parse("file 0\nmode 0755\nsha256 x\nend\n", 1).unwrap();
        assert_eq!((seen[0].mode, seen[0].sha256), (Some(0o755), None));
    }
}
