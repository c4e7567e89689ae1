//! Signing and notarising a release on a Mac: which commands, in which order, and how their words are judged.
//!
//! Hardened runtime, a secure timestamp, and one entitlement: `allow-jit`, which Metal's shader compiler needs. Library
//! validation stays on. A bare program cannot be stapled (there is nowhere to put the ticket), so the judge of success
//! is the notary's own log: "Ready for distribution" and no issues.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::atomic;
use sanctum_host::ArtefactKind;
use serde::Deserialize;

use crate::Failure;
use crate::release::Release;
use crate::report::Report;
use crate::tools::Line;

/// Everything that the hardened runtime forbids stays forbidden, but for this.
pub const ENTITLEMENTS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>com.apple.security.cs.allow-jit</key>
	<true/>
</dict>
</plist>
"#;

/// What may take the longest of the local tools: codesign asks Apple's timestamp server.
const LOCAL: Duration = Duration::from_secs(120);
/// Apple answers within minutes, as a rule.
const NOTARY: Duration = Duration::from_secs(60 * 60);

/// Who signs, and with whose credentials the notary is asked.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The certificate's name in the keychain; `-` signs ad hoc, which the notary refuses.
    pub identity: String,
    /// The profile that `notarytool store-credentials` has put into the keychain.
    pub profile: String,
}

/// The files of one signing.
struct Folder<'a> {
    path: &'a Path,
    programs: Vec<PathBuf>,
}

impl Folder<'_> {
    // Hidden, so that they become no part of the release.
    fn entitlements(&self) -> PathBuf {
        self.path.join(".entitlements.plist")
    }

    fn archive(&self) -> PathBuf {
        self.path.join(".notarise.zip")
    }
}

/// Signs and notarises the programs in a folder; with `report.dry_run` only says how.
///
/// # Errors
/// If a tool is missing or refuses, or the notary finds anything: what it said is in the failure.
pub fn sign(path: &Path, signer: &Signer, report: &mut Report) -> Result<(), Failure> {
    // The version is told by `pack`, later.
    let unnamed = "unsigned".parse().map_err(Failure::Refused)?;
    let programs = Release::describe(path, unnamed)?.files.into_iter();
    let programs = programs.filter(|file| file.kind == ArtefactKind::Binary);
    let folder = Folder {
        path,
        programs: programs.map(|file| path.join(file.name.as_str())).collect(),
    };
    if report.dry_run {
        for line in folder.lines(signer) {
            report.step("sign", &format!("run {line}   # {}", line.why))?;
        }
        return Ok(());
    }
    atomic::write(&folder.entitlements(), ENTITLEMENTS.as_bytes(), 0o644)
        .map_err(|error| Failure::write(&folder.entitlements(), error))?;
    let done = folder.carry_out(signer, report);
    for left in [folder.entitlements(), folder.archive()] {
        atomic::remove(&left).map_err(|error| Failure::write(&left, error))?;
    }
    done
}

impl Folder<'_> {
    /// All command lines, with `SUBMISSION` where the notary's answer goes.
    fn lines(&self, signer: &Signer) -> Vec<Line> {
        let mut lines = Vec::new();
        for program in &self.programs {
            lines.push(self.codesign(program, signer));
            lines.push(strict(program));
            lines.push(display(program));
        }
        lines.push(self.archive_line());
        lines.push(self.submit(signer));
        lines.push(log("SUBMISSION", signer));
        lines
    }

    fn codesign(&self, program: &Path, signer: &Signer) -> Line {
        Line::new(
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

    fn archive_line(&self) -> Line {
        let mut words = vec!["zip".to_owned(), "-q".into(), "-j".into()];
        words.push(self.archive().to_string_lossy().into_owned());
        words.extend(
            self.programs
                .iter()
                .map(|program| program.to_string_lossy().into_owned()),
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Line::new(&words, "the notary takes archives")
    }

    fn submit(&self, signer: &Signer) -> Line {
        Line::new(
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

    fn carry_out(&self, signer: &Signer, report: &mut Report) -> Result<(), Failure> {
        for program in &self.programs {
            must(&self.codesign(program, signer), report)?;
            must(&strict(program), report)?;
            let said = must(&display(program), report)?;
            judge_signature(&said)
                .map_err(|why| Failure::Refused(format!("{}: {why}", program.display())))?;
        }
        must(&self.archive_line(), report)?;
        let line = self.submit(signer);
        report.step("notarise", &format!("run {line}"))?;
        let said = line.run(NOTARY)?;
        let id = submission(&said.stdout, &said.stderr).map_err(Failure::Refused)?;
        let told = must(&log(&id, signer), report)?;
        judge_notary(&told).map_err(|why| Failure::Refused(format!("submission {id}: {why}")))?;
        let kept = self.path.join(format!(".notarisation-{id}.json"));
        atomic::write(&kept, told.as_bytes(), 0o644)
            .map_err(|error| Failure::write(&kept, error))?;
        Ok(report.note(&format!(
            "notarised: submission {id}, log in {}",
            kept.display()
        ))?)
    }
}

fn strict(program: &Path) -> Line {
    let program = program.to_string_lossy();
    Line::new(
        &["codesign", "--verify", "--strict", "--verbose=2", &program],
        "check the signature",
    )
}

fn display(program: &Path) -> Line {
    let program = program.to_string_lossy();
    Line::new(
        &["codesign", "--display", "--verbose=4", &program],
        "read the signature back",
    )
}

fn log(id: &str, signer: &Signer) -> Line {
    Line::new(
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

/// Runs a line that must succeed; both of its streams (codesign speaks on standard error).
fn must(line: &Line, report: &mut Report) -> Result<String, Failure> {
    report.step("sign", &format!("run {line}"))?;
    let said = line.run(LOCAL)?;
    if said.succeeded() {
        return Ok(format!("{}{}", said.stdout, said.stderr));
    }
    let mend = match said.stderr.contains("errSecInternalComponent") {
        true => format!("; {KEYCHAIN}"),
        false => String::new(),
    };
    Err(Failure::Refused(format!(
        "`{line}` failed: {}{mend}",
        said.reason()
    )))
}

/// The password is asked for on the terminal, never written into a command line, where every process could read it.
const KEYCHAIN: &str = "over ssh the keychain asks nobody, so tell it once that codesign may use the key (it asks for the \
    login password): security set-key-partition-list -S apple-tool:,apple:,codesign: -s \
    ~/Library/Keychains/login.keychain-db; and unlock it in each session: security unlock-keychain \
    ~/Library/Keychains/login.keychain-db";

/// Whether a program is signed without an identity, as `cargo build` leaves it on Apple Silicon. Where there is no
/// codesign, nothing is known of it.
pub(crate) fn is_ad_hoc(program: &Path) -> bool {
    let said = display(program).run(LOCAL).unwrap_or_default();
    let words = format!("{}\n{}", said.stdout, said.stderr);
    said.succeeded() && words.lines().any(|line| line.trim() == "Signature=adhoc")
}

/// `codesign --display --verbose=4`: `flags=0x10000(runtime)`, `Authority=…`, `Timestamp=…`.
fn judge_signature(said: &str) -> Result<(), String> {
    let flags = said
        .lines()
        .find_map(|line| line.split_once("flags=").map(|(_, flags)| flags))
        .and_then(|flags| flags.split_once('(')?.1.split(')').next())
        .unwrap_or_default();
    let has = |flag: &str| flags.split(',').any(|word| word == flag);
    if has("adhoc") || said.lines().any(|line| line.trim() == "Signature=adhoc") {
        return Err("it is signed ad hoc; name a Developer ID with --identity (security find-identity -v -p codesigning)".into());
    }
    if !has("runtime") {
        return Err("it is signed without the hardened runtime".into());
    }
    match said.lines().any(|line| line.starts_with("Timestamp=")) {
        true => Ok(()),
        false => {
            Err("its signature has no secure timestamp; is timestamp.apple.com reachable?".into())
        }
    }
}

/// `notarytool submit --output-format json`: the submission's id, whatever came of it: its log says why.
fn submission(out: &str, err: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Submitted {
        id: String,
    }
    if let Ok(submitted) = serde_json::from_str::<Submitted>(out.trim()) {
        return Ok(submitted.id);
    }
    let said = format!("{out}\n{err}");
    let short = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if said.contains("403") || said.contains("agreement") {
        return Err(format!(
            "the notary refuses with 403: a required agreement is missing or has expired. The key is fine; the account's \
             holder accepts it at https://appstoreconnect.apple.com/agreements ({short})"
        ));
    }
    if said.contains("No Keychain password item found") {
        return Err(format!(
            "the keychain has no such profile; make it once: xcrun notarytool store-credentials PROFILE --key KEY.p8 \
             --key-id ID --issuer UUID ({short})"
        ));
    }
    Err(format!("the notary took no submission: {short}"))
}

/// `notarytool log`: accepted is not enough, there must be no issue either.
fn judge_notary(log: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Log {
        status_summary: String,
        issues: Option<Vec<serde_json::Value>>,
    }
    let begin = log.find('{').unwrap_or(0);
    let read: Log = serde_json::from_str(log[begin..].trim())
        .map_err(|error| format!("the notary's log cannot be read: {error}"))?;
    let issues = read.issues.unwrap_or_default();
    if read.status_summary == "Ready for distribution" && issues.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = issues
        .iter()
        .map(|issue| {
            let word = |key: &str| issue[key].as_str().unwrap_or("?").to_owned();
            format!("{}: {}", word("path"), word("message"))
        })
        .collect();
    Err(format!("{}; {}", read.status_summary, told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "Executable=/x/sanctum-server\nIdentifier=sanctum-server\nFormat=Mach-O thin (arm64)\n\
        CodeDirectory v=20500 size=9000 flags=0x10000(runtime) hashes=270+7 location=embedded\n\
        Authority=Developer ID Application: Ada (TEAM)\nAuthority=Developer ID Certification Authority\n\
        Authority=Apple Root CA\nTimestamp=18 Apr 2026 at 10:00:00\nTeamIdentifier=TEAM\n";

    #[test]
    fn a_signature_is_judged_by_what_is_in_it() {
        assert_eq!(judge_signature(SIGNED), Ok(()));
        let adhoc = SIGNED.replace("0x10000(runtime)", "0x20002(adhoc,linker-signed)");
        assert!(judge_signature(&adhoc).unwrap_err().contains("ad hoc"));
        let soft = SIGNED.replace("0x10000(runtime)", "0x0(none)");
        assert!(
            judge_signature(&soft)
                .unwrap_err()
                .contains("hardened runtime")
        );
        let untimed = SIGNED.replace("Timestamp=", "Signed Time=");
        assert!(judge_signature(&untimed).unwrap_err().contains("timestamp"));
        assert!(judge_signature("").is_err());
    }

    #[test]
    fn the_notary_is_believed_only_without_issues() {
        let log = |summary: &str, issues: &str| {
            format!(
                r#"{{"jobId":"1","status":"Accepted","statusSummary":"{summary}","statusCode":0,"issues":{issues}}}"#
            )
        };
        assert_eq!(judge_notary(&log("Ready for distribution", "null")), Ok(()));
        let issue =
            r#"[{"severity":"warning","path":"a.zip/sanctum-server","message":"no timestamp"}]"#;
        let error = judge_notary(&log("Ready for distribution", issue)).unwrap_err();
        assert!(
            error.contains("a.zip/sanctum-server: no timestamp"),
            "{error}"
        );
        assert!(judge_notary(&log("Archive contains critical validation errors", "null")).is_err());
        assert!(judge_notary("not json").is_err());
    }

    #[test]
    fn a_submission_has_an_id_or_a_reason() {
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
    fn no_password_stands_in_a_command_line() {
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
