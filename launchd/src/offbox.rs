//! Another host as it looks from outside: its files, hashed and measured by its own system's tools over ssh, compared with
//! this host's copy of its receipt. What that host's own programs say of themselves is not asked; whoever has replaced one
//! of them may have replaced what it says.
//!
//! What is trusted is the other host's `sh`, `stat`, and `shasum` or `sha256sum`, in `/usr/bin` and `/bin` first, and its
//! sshd. Linux and macOS differ in these tools; one line of shell serves both.

use std::path::Path;
use std::time::Duration;

use sanctum_config::{Digest, Fleet, Home, Label, UntrustedText};
use sanctum_host::{Artefact, ArtefactKind, Receipt};

use crate::Failure;
use crate::finding::{Finding, Kind};
use crate::remote;
use crate::verify::{forbidden, keys_out_of_place};

/// ssh's exit code where the host could not be reached, or did not let us in.
const NOT_REACHED: i32 = 255;
/// What OpenSSH says where it was reached: its key is not the known one, or ours is not wanted.
const REFUSALS: [&str; 2] = ["Host key verification failed", "Permission denied"];

/// For each path: its permission bits and its digest, each on a line of its own, or that it is not there. GNU's `stat` is
/// tried first, for BSD's refuses `-c`, and `-f` means something else to GNU's.
const LOOK: &str = r#"PATH=/usr/bin:/bin:$PATH; LC_ALL=C; export PATH LC_ALL; n=0; for f in "$@"; do echo "look $n"; n=$((n+1)); if [ -e "$f" ]; then echo "mode $(stat -c %a "$f" 2>/dev/null || stat -f %Mp%Lp "$f" 2>/dev/null)"; if [ -f "$f" ]; then echo "sha256 $(shasum -a 256 < "$f" 2>/dev/null || sha256sum < "$f" 2>/dev/null)"; fi; else echo absent; fi; done; echo end"#;

/// Why another host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum NotSeen {
    /// ssh did not get there: the host, or the way to it, is down.
    #[error("{host} cannot be reached by ssh: {why}")]
    Unreached {
        /// The host.
        host: Label,
        /// What ssh said.
        why: String,
    },
    /// Somebody answers there and is not who it was, or lets us in no longer. A host that is down does neither.
    #[error(
        "{host} is reached by ssh and refuses, or is another machine than it was: {why}; try it by hand: ssh {destination} \
         true"
    )]
    Refused {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// What ssh said.
        why: String,
    },
    /// It is not known how to reach it.
    #[error(
        "[hosts.{0}] has no `ssh`, so it cannot be looked at from here; write `ssh = \"DESTINATION\"`"
    )]
    NoDestination(Label),
    /// It answered something else.
    #[error(
        "{host} did not answer as a system with stat and shasum does: {why}; try it by hand: ssh {destination} true"
    )]
    Strange {
        /// The host.
        host: Label,
        /// How it is reached.
        destination: String,
        /// What it said.
        why: String,
    },
    /// Our own copy of its receipt cannot be read.
    #[error(transparent)]
    Ours(#[from] Failure),
}

/// What there is at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Nothing.
    absent: bool,
    /// Permission bits; none if nobody could tell.
    mode: Option<u32>,
    /// What is in it; none if it is no file, or nobody could read it.
    sha256: Option<Digest>,
}

/// Everything on `host` that is not as this host's copy of its receipt says, in a fixed order; empty if all is well.
///
/// # Errors
/// If it cannot be looked at.
pub fn offbox(
    fleet: &Fleet,
    home: &Home,
    host: &Label,
    limit: Duration,
) -> Result<Vec<Finding>, NotSeen> {
    let destination = (fleet.hosts.get(host))
        .and_then(|host| host.ssh.as_deref())
        .ok_or_else(|| NotSeen::NoDestination(host.clone()))?;
    let copy = home.receipt_of(host);
    let Some(receipt) = Receipt::read(&copy).map_err(Failure::from)? else {
        let wrong = format!("there is no copy of {host}'s receipt here to compare it with");
        let mend = format!("sanctum-launchd receipt --host {host} --release FOLDER");
        return Ok(vec![Finding::new(
            Kind::NoReceipt,
            copy.display(),
            wrong,
            mend,
        )]);
    };
    let serves = fleet.servers.values().any(|server| server.host == *host);
    let keys = match home_there(&receipt) {
        Some(there) if serves => keys_out_of_place(&there).to_vec(),
        _ => Vec::new(),
    };
    let paths: Vec<&Path> = (receipt.artefacts.iter())
        .map(|artefact| artefact.path.as_path())
        .chain(keys.iter().map(|(path, _)| path.as_path()))
        .collect();
    let seen = look(host, destination, &paths, limit)?;
    let (artefacts, forbidden_keys) = seen.split_at(receipt.artefacts.len());
    let mut findings = Vec::new();
    for (artefact, seen) in receipt.artefacts.iter().zip(artefacts) {
        findings.extend(compare(host, artefact, seen));
    }
    for ((path, what), seen) in keys.iter().zip(forbidden_keys) {
        if !seen.absent {
            findings.push(forbidden(&there(host, path), what, path));
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

fn look(
    host: &Label,
    destination: &str,
    paths: &[&Path],
    limit: Duration,
) -> Result<Vec<Seen>, NotSeen> {
    let mut line = format!("sh -c {} sh", remote::quoted(LOOK));
    for path in paths {
        line.push(' ');
        line.push_str(&remote::quoted(&path.to_string_lossy()));
    }
    let unreached = |why: String| NotSeen::Unreached {
        host: host.clone(),
        why,
    };
    let said =
        remote::ssh(destination, &line, limit).map_err(|error| unreached(error.to_string()))?;
    if said.code == Some(NOT_REACHED) {
        let why = said.reason();
        return Err(match REFUSALS.iter().any(|words| why.contains(words)) {
            true => NotSeen::Refused {
                host: host.clone(),
                destination: destination.to_owned(),
                why,
            },
            false => unreached(why),
        });
    }
    understood(&said.stdout, paths.len()).ok_or_else(|| NotSeen::Strange {
        host: host.clone(),
        destination: destination.to_owned(),
        why: UntrustedText::bounded(&said.reason(), 200).into(),
    })
}

/// Reads what [`LOOK`] prints; none unless all of it is there. A login shell may have said something before.
fn understood(text: &str, paths: usize) -> Option<Vec<Seen>> {
    let mut all: Vec<Seen> = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "look" if rest.parse() == Ok(all.len()) => all.push(Seen::default()),
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

fn compare(host: &Label, artefact: &Artefact, seen: &Seen) -> Vec<Finding> {
    let about = there(host, &artefact.path);
    let mend = format!(
        "on {host}: sanctum-launchd install (puts it back); here, if {host} was changed on purpose: sanctum-launchd receipt \
         --host {host} --release FOLDER"
    );
    let found = |kind, wrong: String, mend: &str| Finding::new(kind, &about, wrong, mend);
    if seen.absent {
        return vec![found(Kind::Missing, "it is missing".to_owned(), &mend)];
    }
    let mut findings = Vec::new();
    match seen.sha256 {
        Some(sha256) if sha256 == artefact.sha256 => {}
        Some(sha256) => findings.push(found(
            Kind::Changed,
            format!(
                "it is not what was installed (SHA-256 {sha256}, installed {})",
                artefact.sha256
            ),
            &mend,
        )),
        None => findings.push(found(
            Kind::Changed,
            "nobody there can read it, or there is neither shasum nor sha256sum".to_owned(),
            &mend,
        )),
    }
    if seen.mode != Some(artefact.mode) {
        let mode = seen
            .mode
            .map_or("unknown".to_owned(), |mode| format!("{mode:04o}"));
        findings.push(found(
            Kind::Mode,
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

    /// The line itself, in this system's shell, with these folders before the others.
    fn run(paths: &[PathBuf], first: Option<&Path>) -> Vec<Seen> {
        let mut line = LOOK.to_owned();
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
            "Welcome!\nlook out\n{}",
            String::from_utf8(output.stdout).unwrap()
        );
        understood(&text, paths.len()).expect("it came to its end")
    }

    #[test]
    fn one_line_serves_linux_and_macos() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it's a file");
        fs::write(&file, "abc").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let paths = [file, folder.path().join("none"), folder.path().to_owned()];
        let expected = Seen {
            mode: Some(0o640),
            sha256: Some(Digest::of(b"abc")),
            absent: false,
        };
        let seen = run(&paths, None);
        assert_eq!(seen[0], expected);
        assert!(seen[1].absent && !seen[2].absent);
        assert_eq!(seen[2].sha256, None, "a folder");

        // As macOS has it: no sha256sum, and a stat that knows no -c.
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
        // As a Linux without perl has it: no shasum.
        tool("shasum", "exit 127");
        tool("sha256sum", "PATH=/usr/bin:/bin exec sha256sum");
        assert_eq!(run(&paths[..1], Some(&mac))[0].sha256, expected.sha256);
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(
            understood("look 0\nmode 644\nsha256 \nlook 1\nabsent\n", 2),
            None
        );
        assert_eq!(understood("end\n", 1), None);
        let seen = understood("look 0\nmode 0755\nsha256 x\nend\n", 1).unwrap();
        assert_eq!((seen[0].mode, seen[0].sha256), (Some(0o755), None));
    }
}
