//! Signing and notarising a release on a Mac: the commands, their order, and the checks of their output.
//!
//! Programs get the hardened runtime, a secure timestamp, and one entitlement: `allow-jit`, which Metal's shader compiler
//! needs. Library validation stays on. A ticket cannot be stapled to a bare program, so success is what the notary's log
//! says: "Ready for distribution" without issues.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::atomic;
use sanctum_host::code_signature::{display_line, says_ad_hoc};
use sanctum_host::{ArtefactKind, CommandLine};
use serde::Deserialize;

use crate::Error;
use crate::console::Console;
use crate::release_folder::describe;

/// The only exception from the hardened runtime.
const ENTITLEMENTS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>com.apple.security.cs.allow-jit</key>
	<true/>
</dict>
</plist>
"#;

/// The limit for local tools: codesign connects to Apple's timestamp server.
const LOCAL: Duration = Duration::from_secs(120);
/// Apple usually answers within minutes.
const NOTARY: Duration = Duration::from_secs(60 * 60);

/// The identity that signs, and the credentials for the notary.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    /// The certificate's name in the keychain; `-` signs ad hoc, which the notary rejects.
    pub(crate) identity: String,
    /// The keychain profile that `notarytool store-credentials` created.
    pub(crate) profile: String,
}

/// The folder and its programs.
struct Folder<'a> {
    path: &'a Path,
    programs: Vec<PathBuf>,
}

impl Folder<'_> {
    // Hidden files do not become part of the release.
    fn entitlements(&self) -> PathBuf {
        self.path.join(".entitlements.plist")
    }

    fn archive(&self) -> PathBuf {
        self.path.join(".notarise.zip")
    }
}

/// Signs and notarises the programs in a folder. A dry run only prints the commands.
///
/// # Errors
/// If a tool is missing or fails, or the notary reports an issue, which the error contains.
pub(crate) fn sign(path: &Path, signer: &Signer, console: &mut Console) -> Result<(), Error> {
    // `pack` sets the version later.
    let version = "unsigned"
        .parse()
        .map_err(|error: String| Error::refused(error))?;
    let programs = describe(path, version)?.files.into_iter();
    let programs = programs.filter(|file| file.kind == ArtefactKind::Binary);
    let folder = Folder {
        path,
        programs: programs.map(|file| path.join(file.name.as_str())).collect(),
    };
    if console.dry_run {
        for line in folder.lines(signer) {
            console.step("sign", &format!("run {line}   # {}", line.purpose))?;
        }
        return Ok(());
    }
    atomic::write(&folder.entitlements(), ENTITLEMENTS.as_bytes(), 0o644)
        .map_err(|error| Error::write(&folder.entitlements(), error))?;
    let done = folder.carry_out(signer, console);
    for left in [folder.entitlements(), folder.archive()] {
        atomic::remove(&left).map_err(|error| Error::write(&left, error))?;
    }
    done
}

impl Folder<'_> {
    /// All command lines, with `SUBMISSION` in place of the id from the notary.
    fn lines(&self, signer: &Signer) -> Vec<CommandLine> {
        let mut lines = Vec::new();
        for program in &self.programs {
            lines.push(self.codesign(program, signer));
            lines.push(strict(program));
            lines.push(display_line(program));
        }
        lines.push(self.archive_line());
        lines.push(self.submit(signer));
        lines.push(log("SUBMISSION", signer));
        lines
    }

    fn codesign(&self, program: &Path, signer: &Signer) -> CommandLine {
        CommandLine::new(
            &[
                "codesign",
                "--force",
                "--options",
                "runtime",
                "--timestamp",
                "--entitlements",
                &self.entitlements().to_string_lossy(),
                "--sign",
                &signer.identity,
                &program.to_string_lossy(),
            ],
            "sign with the hardened runtime",
        )
    }

    fn archive_line(&self) -> CommandLine {
        let mut words = vec!["zip".to_owned(), "-q".into(), "-j".into()];
        words.push(self.archive().to_string_lossy().into_owned());
        words.extend(
            self.programs
                .iter()
                .map(|program| program.to_string_lossy().into_owned()),
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        CommandLine::new(&words, "the notary accepts archives")
    }

    fn submit(&self, signer: &Signer) -> CommandLine {
        CommandLine::new(
            &[
                "xcrun",
                "notarytool",
                "submit",
                &self.archive().to_string_lossy(),
                "--keychain-profile",
                &signer.profile,
                "--wait",
                "--output-format",
                "json",
            ],
            "ask the notary and wait",
        )
    }

    fn carry_out(&self, signer: &Signer, console: &mut Console) -> Result<(), Error> {
        for program in &self.programs {
            must(&self.codesign(program, signer), console)?;
            must(&strict(program), console)?;
            let output = must(&display_line(program), console)?;
            check_signature(&output)
                .map_err(|why| Error::refused(format!("{}: {why}", program.display())))?;
        }
        must(&self.archive_line(), console)?;
        let line = self.submit(signer);
        console.step("notarise", &format!("run {line}"))?;
        let output = line.run(NOTARY)?;
        let id = submission(&output.stdout, &output.stderr).map_err(Error::refused)?;
        let log = must(&log(&id, signer), console)?;
        check_notary(&log).map_err(|why| Error::refused(format!("submission {id}: {why}")))?;
        let saved = self.path.join(format!(".notarisation-{id}.json"));
        atomic::write(&saved, log.as_bytes(), 0o644)
            .map_err(|error| Error::write(&saved, error))?;
        Ok(console.note(&format!(
            "notarised: submission {id}, log in {}",
            saved.display()
        ))?)
    }
}

fn strict(program: &Path) -> CommandLine {
    let program = program.to_string_lossy();
    CommandLine::new(
        &["codesign", "--verify", "--strict", "--verbose=2", &program],
        "check the signature",
    )
}

fn log(id: &str, signer: &Signer) -> CommandLine {
    CommandLine::new(
        &[
            "xcrun",
            "notarytool",
            "log",
            id,
            "--keychain-profile",
            &signer.profile,
        ],
        "read the notary's log: Ready for distribution, and issues null",
    )
}

/// Runs a line that must succeed. Returns both output streams: codesign writes to standard error.
fn must(line: &CommandLine, console: &mut Console) -> Result<String, Error> {
    console.step("sign", &format!("run {line}"))?;
    let output = line.run(LOCAL)?;
    if output.succeeded() {
        return Ok(format!("{}{}", output.stdout, output.stderr));
    }
    let fix = match output.stderr.contains("errSecInternalComponent") {
        true => format!("; {KEYCHAIN}"),
        false => String::new(),
    };
    Err(Error::refused(format!(
        "`{line}` failed: {}{fix}",
        output.reason()
    )))
}

/// The password is read from the terminal. In a command line, every process could read it.
const KEYCHAIN: &str = "over ssh the keychain cannot show its dialog, so allow codesign to use the key once (this asks for the \
    login password): security set-key-partition-list -S apple-tool:,apple:,codesign: -s \
    ~/Library/Keychains/login.keychain-db; and unlock it in each session: security unlock-keychain \
    ~/Library/Keychains/login.keychain-db";

/// `codesign --display --verbose=4`: `flags=0x10000(runtime)`, `Authority=…`, `Timestamp=…`.
fn check_signature(output: &str) -> Result<(), String> {
    let flags = output
        .lines()
        .find_map(|line| line.split_once("flags=").map(|(_, flags)| flags))
        .and_then(|flags| flags.split_once('(')?.1.split(')').next())
        .unwrap_or_default();
    let has = |flag: &str| flags.split(',').any(|word| word == flag);
    if has("adhoc") || says_ad_hoc(output) {
        return Err("it is signed ad hoc; name a Developer ID with --identity (security find-identity -v -p codesigning)".into());
    }
    if !has("runtime") {
        return Err("it is signed without the hardened runtime".into());
    }
    match output.lines().any(|line| line.starts_with("Timestamp=")) {
        true => Ok(()),
        false => {
            Err("its signature has no secure timestamp; is timestamp.apple.com reachable?".into())
        }
    }
}

/// The submission's id from `notarytool submit --output-format json`. A rejected submission has an id too: its log says why.
fn submission(out: &str, err: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Submitted {
        id: String,
    }
    if let Ok(submitted) = serde_json::from_str::<Submitted>(out.trim()) {
        return Ok(submitted.id);
    }
    let output = format!("{out}\n{err}");
    let short = output.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.contains("403") || output.contains("agreement") {
        return Err(format!(
            "the notary answers 403: a required agreement is missing or has expired. The key is valid; the account's holder \
             accepts the agreement at https://appstoreconnect.apple.com/agreements ({short})"
        ));
    }
    if output.contains("No Keychain password item found") {
        return Err(format!(
            "the keychain has no such profile; create it once: xcrun notarytool store-credentials PROFILE --key KEY.p8 \
             --key-id ID --issuer UUID ({short})"
        ));
    }
    Err(format!("the notary accepted no submission: {short}"))
}

/// Checks the output of `notarytool log`: the submission must be accepted without issues.
fn check_notary(log: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct NotaryLog {
        status_summary: String,
        issues: Option<Vec<serde_json::Value>>,
    }
    let begin = log.find('{').unwrap_or(0);
    let read: NotaryLog = serde_json::from_str(log[begin..].trim())
        .map_err(|error| format!("the notary's log cannot be read: {error}"))?;
    let issues = read.issues.unwrap_or_default();
    if read.status_summary == "Ready for distribution" && issues.is_empty() {
        return Ok(());
    }
    let issues: Vec<String> = issues
        .iter()
        .map(|issue| {
            let word = |key: &str| issue[key].as_str().unwrap_or("?").to_owned();
            format!("{}: {}", word("path"), word("message"))
        })
        .collect();
    Err(format!("{}; {}", read.status_summary, issues.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "Executable=/x/sanctum-server\nIdentifier=sanctum-server\nFormat=Mach-O thin (arm64)\n\
        CodeDirectory v=20500 size=9000 flags=0x10000(runtime) hashes=270+7 location=embedded\n\
        Authority=Developer ID Application: Ada (TEAM)\nAuthority=Developer ID Certification Authority\n\
        Authority=Apple Root CA\nTimestamp=18 Apr 2026 at 10:00:00\nTeamIdentifier=TEAM\n";

    #[test]
    fn signature_without_runtime_timestamp_or_identity_is_refused() {
        assert_eq!(check_signature(SIGNED), Ok(()));
        let adhoc = SIGNED.replace("0x10000(runtime)", "0x20002(adhoc,linker-signed)");
        assert!(check_signature(&adhoc).unwrap_err().contains("ad hoc"));
        let soft = SIGNED.replace("0x10000(runtime)", "0x0(none)");
        assert!(
            check_signature(&soft)
                .unwrap_err()
                .contains("hardened runtime")
        );
        let untimed = SIGNED.replace("Timestamp=", "Signed Time=");
        assert!(check_signature(&untimed).unwrap_err().contains("timestamp"));
        assert!(check_signature("").is_err());
    }

    #[test]
    fn notary_log_with_issues_is_refused() {
        let log = |summary: &str, issues: &str| {
            format!(
                r#"{{"jobId":"1","status":"Accepted","statusSummary":"{summary}","statusCode":0,"issues":{issues}}}"#
            )
        };
        assert_eq!(check_notary(&log("Ready for distribution", "null")), Ok(()));
        let issue =
            r#"[{"severity":"warning","path":"a.zip/sanctum-server","message":"no timestamp"}]"#;
        let error = check_notary(&log("Ready for distribution", issue)).unwrap_err();
        assert!(
            error.contains("a.zip/sanctum-server: no timestamp"),
            "{error}"
        );
        assert!(check_notary(&log("Archive contains critical validation errors", "null")).is_err());
        assert!(check_notary("not json").is_err());
    }

    #[test]
    fn submission_has_an_id_or_a_reason() {
        let out = r#"{"id":"0000-5","status":"Accepted","message":"Processing complete"}"#;
        assert_eq!(submission(out, ""), Ok("0000-5".to_owned()));
        let refused =
            "Error: HTTP status code: 403. A required agreement is missing or has expired.";
        assert!(submission("", refused).unwrap_err().contains("/agreements"));
        let unknown = "Error: No Keychain password item found for profile: sanctum";
        assert!(
            submission("", unknown)
                .unwrap_err()
                .contains("store-credentials")
        );
        assert!(submission("{}", "").is_err());
    }

    #[test]
    fn command_lines_contain_no_password() {
        let signer = Signer {
            identity: "Developer ID Application: Ada (TEAM)".into(),
            profile: "sanctum".into(),
        };
        let folder = Folder {
            path: Path::new("/r"),
            programs: vec!["/r/sanctum-server".into()],
        };
        let lines: Vec<String> = folder
            .lines(&signer)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            lines[0].contains("--options runtime --timestamp"),
            "{}",
            lines[0]
        );
        for line in lines.iter().chain([&KEYCHAIN.to_owned()]) {
            assert!(
                !line.contains(" -k ") && !line.contains(" -p ") && !line.contains("--password"),
                "{line}"
            );
        }
        assert_eq!(ENTITLEMENTS.matches("<key>").count(), 1);
    }
}
