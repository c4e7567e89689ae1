//! Transcripts in the shape of the real tool's, and a stand-in executable that answers with its codes.

use super::*;

const RUNNING: &str = "gui/501/com.sanctum.server = {
\tactive count = 4
\tpath = /Users/ada/Library/LaunchAgents/com.sanctum.server.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /Users/ada/.sanctum/bin/sanctum-server
\targuments = {
\t\t/Users/ada/.sanctum/bin/sanctum-server
\t\t--config
\t\t/Users/ada/My Fleet/fleet.toml
\t\t
\t\t{
\t}

\tinherited environment = {
\t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners
\t}

\tenvironment = {
\t\tXPC_SERVICE_NAME => com.sanctum.server
\t}

\tdomain = gui/501 [100015]
\tasid = 100015
\tminimum runtime = 30
\texit timeout = 45
\truns = 2
\tpid = 4711
\timmediate reason = speculative
\tlast exit code = (never exited)
\tlast terminating signal = Killed: 9

\tresource coalition = {
\t\tID = 770
\t\tstate = active
\t\tpid = 1
\t}

\tspawn type = interactive (4)
\tproperties = keepalive | runatload | inferred program
}
";

#[test]
fn running_service_is_parsed_from_the_first_level_only() {
    let service = text::service(RUNNING);
    assert_eq!(service.state, "running");
    assert_eq!((service.pid, service.runs), (Some(4711), Some(2)));
    assert_eq!(service.last_exit, Some(LastExit::Signal(9)));
    assert_eq!(service.exit_timeout, Some(Duration::from_secs(45)));
    assert_eq!(
        service.plist.unwrap(),
        Path::new("/Users/ada/Library/LaunchAgents/com.sanctum.server.plist")
    );
    assert_eq!(
        service.program.unwrap(),
        Path::new("/Users/ada/.sanctum/bin/sanctum-server")
    );
    assert_eq!(
        service.arguments,
        [
            "/Users/ada/.sanctum/bin/sanctum-server",
            "--config",
            "/Users/ada/My Fleet/fleet.toml",
            "",
            "{"
        ]
    );
}

#[test]
fn service_without_a_process_has_its_last_exit() {
    let end = |lines: &str| {
        let text = format!("gui/501/x = {{\n\tstate = spawn scheduled\n\truns = 9\n{lines}}}\n");
        text::service(&text).last_exit
    };
    assert_eq!(
        end("\tlast exit code = (never exited)\n"),
        Some(LastExit::Never)
    );
    assert_eq!(end("\tlast exit code = 1\n"), Some(LastExit::Code(1)));
    assert_eq!(
        end("\tlast exit code = 78: EX_CONFIG\n"),
        Some(LastExit::Code(78))
    );
    assert_eq!(
        end("\tlast terminating signal = Segmentation fault: 11\n"),
        Some(LastExit::Signal(11))
    );
    assert_eq!(end("\tlast exit reason = something new\n"), None);
    assert_eq!(text::service(""), Service::default());
}

#[test]
fn list_has_processes_exit_codes_and_labels() {
    let text = "PID\tStatus\tLabel\n-\t0\tcom.apple.quicklook\n279\t0\tcom.apple.Finder\n-\t-9\tcom.sanctum.server\n";
    let listed = text::list(text);
    assert_eq!(listed.len(), 3);
    assert_eq!((listed[1].pid, listed[1].status), (Some(279), 0));
    assert_eq!((listed[2].pid, listed[2].status), (None, -9));
    assert_eq!(listed[2].label, "com.sanctum.server");
}

#[test]
fn print_disabled_of_old_and_new_systems_is_parsed() {
    let new = "\tdisabled services = {\n\t\t\"com.sanctum.escape-hatch\" => disabled\n\t\t\"com.sanctum.server\" => enabled\n\t}\n\tlogin item associations = {\n\t\t\"a\" => \"64133\"\n\t}\n";
    let old = "disabled services = {\n\t\"com.sanctum.escape-hatch\" => true\n\t\"com.sanctum.server\" => false\n}\n";
    for text in [new, old] {
        let disabled = text::disabled(text);
        assert_eq!(disabled.len(), 2, "{disabled:?}");
        assert!(disabled["com.sanctum.escape-hatch"]);
        assert!(!disabled["com.sanctum.server"]);
    }
}

/// Writes a program in another process. The file that this one wrote would be busy as long as a child that another test starts
/// meanwhile has its descriptor.
fn write_executable(path: &std::path::Path, text: &str) {
    use std::io::Write;
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path);
    let mut child = shell.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// A `launchctl` that is a shell script.
fn standing_in(script: &str) -> (tempfile::TempDir, Launchctl) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launchctl");
    write_executable(&path, &format!("#!/bin/sh\n{script}\n"));
    let launchctl = Launchctl::new(path.to_str().unwrap(), 501);
    (folder, launchctl)
}

#[test]
fn print_of_unloaded_service_is_none_and_other_failures_are_errors() {
    let (_folder, launchctl) = standing_in(
        "echo 'Bad request.' >&2\necho \"Could not find service \\\"$2\\\" in domain for user gui: 501\" >&2\nexit 113",
    );
    assert_eq!(launchctl.print("com.sanctum.server").unwrap(), None);
    launchctl.bootout("com.sanctum.server").unwrap();
    let (_folder, launchctl) =
        standing_in("echo 'Could not find domain for user gui: 501' >&2\nexit 112");
    let error = launchctl.print("com.sanctum.server").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`launchctl print gui/501/com.sanctum.server` failed: Could not find domain for user gui: 501 (code 112)"
    );
}

#[test]
fn bootstrap_of_label_in_use_differs_from_a_broken_plist() {
    let (_folder, launchctl) =
        standing_in("echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5");
    let plist = Path::new("/tmp/x.plist");
    assert!(launchctl.bootstrap(plist).unwrap_err().is_label_in_use());
    let (_folder, launchctl) =
        standing_in("echo 'Bootstrap failed: 109: Invalid property list' >&2; exit 109");
    assert!(!launchctl.bootstrap(plist).unwrap_err().is_label_in_use());
}

/// A `launchctl` whose `print` shows a service until the file `gone` is there, with `exit timeout = 1` and the process
/// number in the file `pid`; what `bootout` and `kickstart` do is `script`. Its quick calls may take a second, and the
/// margin is one.
fn with_service(script: &str) -> (tempfile::TempDir, Launchctl) {
    let script = format!(
        "cd \"$(dirname \"$0\")\"\n\
         if [ $1 = print ]; then\n\
         [ -e gone ] && {{ echo 'Could not find service \"x\" in domain' >&2; exit 113; }}\n\
         printf 'gui/501/x = {{\\n\\tstate = running\\n\\texit timeout = 1\\n\\tpid = %s\\n}}\\n' \"$(cat pid)\"; exit 0\n\
         fi\n{script}"
    );
    let (folder, mut launchctl) = standing_in(&script);
    std::fs::write(folder.path().join("pid"), "4711").unwrap();
    launchctl.limit = Duration::from_secs(1);
    launchctl.margin = Duration::from_secs(1);
    (folder, launchctl)
}

#[test]
fn bootout_in_progress_or_of_unloaded_service_succeeds() {
    for (code, word) in [(36, "Operation now in progress"), (3, "No such process")] {
        let script =
            format!("echo > gone; echo 'Boot-out failed: {code}: {word}' >&2; exit {code}");
        with_service(&script).1.bootout("x").unwrap();
    }
    let (_folder, launchctl) =
        with_service("echo 'Boot-out failed: 1: Operation not permitted' >&2; exit 1");
    assert!(launchctl.bootout("x").is_err());
}

#[test]
fn bootout_that_blocks_may_take_the_exit_timeout() {
    let (_folder, launchctl) = with_service("sleep 1.3; echo > gone");
    launchctl.bootout("x").unwrap();
}

#[test]
fn bootout_timeout_is_decided_by_the_service_state() {
    let (_folder, launchctl) = with_service("echo > gone; exec sleep 60");
    launchctl.bootout("x").unwrap();
    let (_folder, launchctl) = with_service("exec sleep 60");
    let error = launchctl.bootout("x").unwrap_err();
    assert!(
        matches!(error, LaunchctlError::StillLoaded { .. }),
        "{error}"
    );
}

#[test]
fn restart_that_blocks_may_take_the_exit_timeout() {
    let (_folder, launchctl) = with_service("sleep 1.3; echo 4712 > pid");
    launchctl.restart("x").unwrap();
}

#[test]
fn restart_timeout_is_decided_by_the_new_process() {
    let (_folder, launchctl) = with_service("echo 4712 > pid; exec sleep 60");
    launchctl.restart("x").unwrap();
    let (_folder, launchctl) = with_service("exec sleep 60");
    let error = launchctl.restart("x").unwrap_err();
    assert!(
        matches!(error, LaunchctlError::NotRestarted { .. }),
        "{error}"
    );
}

#[test]
fn exit_limit_is_from_print_else_the_property_list_else_the_default() {
    let launchctl = Launchctl::new("launchctl", 501);
    let limit = |service: &Service| launchctl.exit_limit_of(Some(service)) - MARGIN;
    let seconds = Duration::from_secs;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.plist");
    let text =
        "<plist version=\"1.0\"><dict><key>ExitTimeOut</key><integer>90</integer></dict></plist>";
    std::fs::write(&path, text).unwrap();
    let mut service = Service {
        plist: Some(path.clone()),
        ..Service::default()
    };
    assert_eq!(limit(&service), seconds(90));
    // macOS 26 caps it, and shows what it applies.
    service.exit_timeout = Some(seconds(60));
    assert_eq!(limit(&service), seconds(60));
    std::fs::remove_file(&path).unwrap();
    service.exit_timeout = None;
    assert_eq!(limit(&service), EXIT_TIMEOUT);
    service.exit_timeout = Some(seconds(0));
    assert_eq!(launchctl.exit_limit_of(Some(&service)), NO_EXIT_TIMEOUT);
}

#[test]
fn missing_launchctl_is_an_error_before_it_is_used() {
    for program in ["no-such-launchctl", "/no/such/launchctl"] {
        let error = Launchctl::new(program, 501)
            .check_exists()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(program) && error.contains("macOS only"),
            "{error}"
        );
    }
    standing_in("").1.check_exists().unwrap();
    Launchctl::new("sh", 501).check_exists().unwrap();
}

#[test]
fn arguments_are_those_of_the_manual() {
    let script = "[ $1 = print ] && exit 113; echo \"$*\" >> \"$(dirname \"$0\")/calls\"";
    let (folder, launchctl) = standing_in(script);
    launchctl.restart("a").unwrap();
    launchctl.kickstart("a").unwrap();
    launchctl.enable("a").unwrap();
    launchctl.disable("a").unwrap();
    launchctl.bootout("a").unwrap();
    launchctl.bootstrap(Path::new("/l/a.plist")).unwrap();
    assert!(!launchctl.is_disabled("a").unwrap());
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(
        calls.lines().collect::<Vec<_>>(),
        [
            "kickstart -k gui/501/a",
            "kickstart gui/501/a",
            "enable gui/501/a",
            "disable gui/501/a",
            "bootstrap gui/501 /l/a.plist",
            "print-disabled gui/501",
        ]
    );
}
