//! Files of another host, hashed and measured over ssh by its system's own tools: `sh`, `stat`, and `shasum` or `sha256sum`, in
//! `/usr/bin` and `/bin` first. Linux and macOS differ in these tools; one shell script works on both.

use std::time::Duration;

use sanctum_config::{Digest, UntrustedText};

use crate::ssh;

/// OpenSSH's messages for a host that was reached: its host key has changed, or it does not accept this host's key.
const REFUSALS: [&str; 2] = ["Host key verification failed", "Permission denied"];

/// For each path: its permission bits and its digest, each on its own line, or `absent`. GNU's `stat` is tried first: BSD's
/// rejects `-c`, while GNU's accepts `-f` with another meaning.
const SCRIPT: &str = r#"PATH=/usr/bin:/bin:$PATH; LC_ALL=C; export PATH LC_ALL; n=0; for f in "$@"; do echo "file $n"; n=$((n+1)); if [ -e "$f" ]; then echo "mode $(stat -c %a "$f" 2>/dev/null || stat -f %Mp%Lp "$f" 2>/dev/null)"; if [ -f "$f" ]; then echo "sha256 $(shasum -a 256 < "$f" 2>/dev/null || sha256sum < "$f" 2>/dev/null)"; fi; else echo absent; fi; done; echo end"#;

/// What is at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteFile {
    /// Nothing.
    pub absent: bool,
    /// Permission bits; none if they are unknown.
    pub mode: Option<u32>,
    /// The digest; none if it is not a file, or cannot be read.
    pub sha256: Option<Digest>,
}

/// Why the files of another host are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteFilesError {
    /// ssh could not connect: the host or the network is down.
    Unreachable(String),
    /// The host has another key than before, or no longer accepts this host's key. A host that is down does neither.
    Refused(String),
    /// The output of its tools does not parse.
    BadOutput(String),
}

/// What is at each path of another host, in this order. A leading `~/` is the home folder there.
///
/// # Errors
/// If ssh fails, or the host's tools print something else.
pub fn inspect(
    destination: &str,
    paths: &[String],
    limit: Duration,
) -> Result<Vec<RemoteFile>, RemoteFilesError> {
    let mut line = format!("sh -c {} sh", ssh::quoted(SCRIPT));
    for path in paths {
        line.push(' ');
        line.push_str(&ssh::quoted_path(path));
    }
    let output = ssh::run(destination, &line, limit)
        .map_err(|error| RemoteFilesError::Unreachable(error.to_string()))?;
    if output.code == Some(ssh::FAILED) {
        let reason = output.reason();
        return Err(match is_refusal(&reason) {
            true => RemoteFilesError::Refused(reason),
            false => RemoteFilesError::Unreachable(reason),
        });
    }
    parse(&output.stdout, paths.len()).ok_or_else(|| {
        RemoteFilesError::BadOutput(UntrustedText::bounded(&output.reason(), 200).into())
    })
}

/// Whether ssh has failed after it had reached the host.
pub fn is_refusal(reason: &str) -> bool {
    REFUSALS.iter().any(|refusal| reason.contains(refusal))
}

/// Parses the output of [`SCRIPT`]; none if it is incomplete. A login shell may have printed something before it.
fn parse(text: &str, paths: usize) -> Option<Vec<RemoteFile>> {
    let mut all: Vec<RemoteFile> = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "file" if rest.parse() == Ok(all.len()) => all.push(RemoteFile::default()),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// Runs the script in this system's shell, with `first` before the other folders in PATH.
    fn run(paths: &[PathBuf], first: Option<&Path>) -> Vec<RemoteFile> {
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
        let expected = RemoteFile {
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
