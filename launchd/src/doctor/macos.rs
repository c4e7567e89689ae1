//! What macOS reports about power, FileVault and automatic login, through its own commands: pmset(1), fdesetup(8),
//! defaults(1).
//!
//! None of these commands promises the format of its output, so that an output that is not understood is "not checkable".

use std::time::Duration;

use sanctum_host::command;

use super::report::DoctorLine;

/// How long one of these commands may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The lines about a Mac that serves unattended.
pub(super) fn unattended() -> Vec<DoctorLine> {
    vec![
        judge("sleep", run("pmset", &["-g", "custom"]), sleep),
        judge(
            "power failure",
            run("pmset", &["-g", "custom"]),
            power_failure,
        ),
        judge("FileVault", run("fdesetup", &["status"]), file_vault),
        judge(
            "automatic login",
            run(
                "defaults",
                &[
                    "read",
                    "/Library/Preferences/com.apple.loginwindow",
                    "autoLoginUser",
                ],
            ),
            automatic_login,
        ),
    ]
}

/// The output of a command: standard output if it has succeeded, standard error otherwise.
type ToolOutput = Result<String, String>;

/// None where the command does not exist. `$SANCTUM_PMSET` and the like name another program on every system.
fn run(name: &str, arguments: &[&str]) -> Option<ToolOutput> {
    let variable = format!("SANCTUM_{}", name.to_ascii_uppercase());
    if !cfg!(target_os = "macos") && std::env::var_os(variable).is_none() {
        return None;
    }
    Some(match command::run(name, arguments, LIMIT) {
        Ok(output) if output.succeeded() => Ok(output.stdout),
        Ok(output) => Err(output.reason()),
        Err(error) => Err(error.to_string()),
    })
}

fn judge(
    check: &str,
    answer: Option<ToolOutput>,
    judge: impl Fn(&ToolOutput) -> Option<DoctorLine>,
) -> DoctorLine {
    let Some(answer) = answer else {
        return DoctorLine::not_checkable(check, "this is not macOS");
    };
    judge(&answer).unwrap_or_else(|| {
        let (Ok(text) | Err(text)) = &answer;
        let first = text.lines().next().unwrap_or("nothing");
        DoctorLine::not_checkable(check, format!("the system's command printed: {first}"))
    })
}

/// A setting of `pmset -g custom` for the mains: ` sleep                10`, below `AC Power:`.
fn power_setting(text: &str, name: &str) -> Option<u32> {
    let mut is_mains = true;
    let mut found = None;
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) && line.trim_end().ends_with(':') {
            is_mains = line.trim_end() == "AC Power:";
            continue;
        }
        let mut words = line.split_whitespace();
        if is_mains && words.next() == Some(name) {
            found = words.next()?.parse().ok();
        }
    }
    found
}

fn sleep(answer: &ToolOutput) -> Option<DoctorLine> {
    let minutes = power_setting(answer.as_ref().ok()?, "sleep")?;
    Some(match minutes {
        0 => DoctorLine::passed("sleep", "this Mac does not go to sleep when idle"),
        minutes => DoctorLine::failed(
            "sleep",
            format!(
                "this Mac goes to sleep after {minutes} idle minutes, and then answers nothing"
            ),
            "sudo pmset -a sleep 0",
        ),
    })
}

/// A laptop has no `autorestart`, and a battery instead.
fn power_failure(answer: &ToolOutput) -> Option<DoctorLine> {
    let text = answer.as_ref().ok()?;
    let check = "power failure";
    match power_setting(text, "autorestart") {
        Some(0) => Some(DoctorLine::failed(
            check,
            "this Mac stays off after a power failure",
            "sudo pmset -a autorestart 1",
        )),
        Some(_) => Some(DoctorLine::passed(
            check,
            "this Mac starts again after a power failure",
        )),
        None if text.contains("Battery Power:") => {
            Some(DoctorLine::passed(check, "this Mac has a battery"))
        }
        None => None,
    }
}

/// `FileVault is Off.`
fn file_vault(answer: &ToolOutput) -> Option<DoctorLine> {
    let text = answer.as_ref().ok()?;
    let check = "FileVault";
    if text.contains("FileVault is Off") {
        return Some(DoctorLine::passed(
            check,
            "it is off, so that macOS starts unattended",
        ));
    }
    text.contains("FileVault is On").then(|| {
        DoctorLine::failed(
            check,
            "it is on: after each restart macOS waits for a password, and no agent runs",
            "turn it off in System Settings, Privacy & Security, or log in by hand after each restart",
        )
    })
}

/// The user's name; an error if there is no such setting.
fn automatic_login(answer: &ToolOutput) -> Option<DoctorLine> {
    let check = "automatic login";
    match answer {
        Ok(user) if !user.trim().is_empty() => {
            let user = user.trim();
            Some(DoctorLine::passed(
                check,
                format!("{user} is logged in when macOS starts"),
            ))
        }
        Err(why) if why.contains("does not exist") => Some(DoctorLine::failed(
            check,
            "no user is logged in when macOS starts, and agents belong to a user's graphical session",
            "turn it on in System Settings, Users & Groups",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::DoctorOutcome;
    use super::*;

    /// In the form that pmset(1) prints for a laptop.
    const LAPTOP: &str = "Battery Power:\n Sleep On Power Button 1\n lowpowermode         0\n standby              1\n\
        \x20sleep                1\n displaysleep         2\nAC Power:\n Sleep On Power Button 1\n\
        \x20sleep                0\n displaysleep         10\n";

    /// And for a Mac mini.
    const MINI: &str = "AC Power:\n Sleep On Power Button 1\n autorestart          0\n powernap             1\n\
        \x20disksleep            10\n sleep                15\n womp                 1\n";

    fn ok(text: &str) -> ToolOutput {
        Ok(text.to_owned())
    }

    #[test]
    fn power_settings_of_the_mains_are_read() {
        assert_eq!(power_setting(LAPTOP, "sleep"), Some(0));
        assert_eq!(power_setting(MINI, "sleep"), Some(15));
        assert_eq!(power_setting(MINI, "disksleep"), Some(10));
        assert_eq!(power_setting("", "sleep"), None);
        let failed = sleep(&ok(MINI)).unwrap();
        assert!(failed.is_failure() && failed.detail.contains("15 idle minutes"));
        assert_eq!(failed.fix.as_deref(), Some("sudo pmset -a sleep 0"));
        assert_eq!(sleep(&ok(LAPTOP)).unwrap().outcome, DoctorOutcome::Passed);
        assert!(power_failure(&ok(MINI)).unwrap().is_failure());
        assert!(!power_failure(&ok(LAPTOP)).unwrap().is_failure());
    }

    #[test]
    fn file_vault_and_automatic_login_are_judged() {
        assert!(file_vault(&ok("FileVault is On.\n")).unwrap().is_failure());
        assert!(!file_vault(&ok("FileVault is Off.\n")).unwrap().is_failure());
        assert_eq!(file_vault(&Err("not authorized".into())), None);
        assert!(!automatic_login(&ok("ada\n")).unwrap().is_failure());
        let missing = "The domain/default pair of (/Library/Preferences/com.apple.loginwindow, autoLoginUser) does not exist";
        assert!(automatic_login(&Err(missing.into())).unwrap().is_failure());
        assert_eq!(automatic_login(&Err("timeout".into())), None);
    }

    #[test]
    fn output_that_is_not_understood_is_not_checkable() {
        let line = judge("sleep", Some(ok("pmset: new words\nmore")), sleep);
        assert_eq!(line.outcome, DoctorOutcome::NotCheckable);
        assert!(line.detail.ends_with("printed: pmset: new words"), "{line}");
        assert_eq!(judge("sleep", None, sleep).detail, "this is not macOS");
    }
}
