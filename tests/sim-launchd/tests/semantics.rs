//! The semantics that the fleet's tests rely on, with real processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_sim_launchd::Launchd;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

struct Session {
    launchd: Launchd,
    folder: TempDir,
}

impl Session {
    /// All times at a twentieth.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_launchctl"));
        let launchd =
            Launchd::start(&folder.path().join("sim"), program, folder.path(), 0.05).unwrap();
        Self { launchd, folder }
    }

    /// Writes `~/Library/LaunchAgents/<label>.plist` for a shell script.
    fn plist(&self, label: &str, script: &str, keys: &str) -> PathBuf {
        let agents = self.folder.path().join("Library/LaunchAgents");
        std::fs::create_dir_all(&agents).unwrap();
        let path = agents.join(format!("{label}.plist"));
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict><key>Label</key><string>{label}</string>\
             <key>ProgramArguments</key><array><string>/bin/sh</string><string>-c</string><string>{script}</string></array>\
             {keys}</dict></plist>"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> (u8, String) {
        let reply = self.launchd.run(arguments).unwrap();
        (reply.code, reply.out + &reply.err)
    }

    fn target(&self, label: &str) -> String {
        format!("{}/{label}", self.launchd.domain())
    }

    fn bootstrap(&self, path: &Path) -> (u8, String) {
        self.run(&["bootstrap", &self.launchd.domain(), path.to_str().unwrap()])
    }
}

const KEEP: &str = "<key>KeepAlive</key><true/><key>RunAtLoad</key><true/>";

#[test]
fn keep_alive_job_restarts_after_its_throttle() {
    let session = Session::new();
    let plist = session.plist("com.example.a", "exec sleep 1000", KEEP);
    assert_eq!(session.bootstrap(&plist).0, 0);
    let label = "com.example.a";
    let first = session
        .launchd
        .wait_for(label, SOON, |s| s.pid.is_some())
        .unwrap();
    assert_eq!(first.runs, 1);
    assert_eq!(
        session.run(&["kill", "SIGKILL", &session.target(label)]).0,
        0
    );
    let second = session
        .launchd
        .wait_for(label, SOON, |s| s.runs == 2 && s.pid.is_some())
        .unwrap();
    assert_ne!(first.pid, second.pid);
    assert_eq!(second.last_signal, Some(9));
    let (code, text) = session.run(&["print", &session.target(label)]);
    assert_eq!(code, 0);
    for line in [
        "state = running",
        "runs = 2",
        "last terminating signal = Killed: 9",
        "\t\texec sleep 1000\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        session
            .run(&["list"])
            .1
            .contains(&format!("{}\t-9\t{label}", second.pid.unwrap()))
    );
}

#[test]
fn bootout_is_asynchronous_and_bootstrap_fails_until_it_is_over() {
    let session = Session::new();
    // It ignores SIGTERM until it is killed, after 20 s scaled. A process that has just started does not ignore SIGTERM
    // yet, so it reports when it does.
    let trapped = session.folder.path().join("trapped");
    let script = "trap : TERM; echo > trapped; while :; do sleep 0.01; done";
    let made = std::process::Command::new("mkfifo").arg(&trapped).status();
    assert!(made.unwrap().success());
    let folder = session.folder.path().to_str().unwrap();
    let keys = format!("{KEEP}<key>WorkingDirectory</key><string>{folder}</string>");
    let plist = session.plist("com.example.b", script, &keys);
    session.bootstrap(&plist);
    std::fs::read(&trapped).unwrap();
    let target = session.target("com.example.b");
    assert_eq!(session.bootstrap(&plist).0, 5, "it is loaded");
    session.launchd.blocking(false).unwrap();
    let (code, text) = session.run(&["bootout", &target]);
    assert_eq!(
        (code, text.as_str()),
        (36, "Boot-out failed: 36: Operation now in progress\n")
    );
    let (code, text) = session.bootstrap(&plist);
    assert_eq!(
        (code, text.as_str()),
        (5, "Bootstrap failed: 5: Input/output error\n")
    );
    session.launchd.wait(SOON, |all| all.is_empty()).unwrap();
    let (code, text) = session.run(&["print", &target]);
    assert_eq!(code, 113);
    assert!(
        text.starts_with("Could not find service \"com.example.b\" in domain for user gui:"),
        "{text}"
    );
    assert_eq!(session.run(&["bootout", &target]).0, 3);
    assert_eq!(session.bootstrap(&plist).0, 0);
}

/// Both return when the process has exited: after its SIGKILL, if it ignores SIGTERM.
#[test]
fn bootout_and_kickstart_block_until_the_process_has_exited() {
    let session = Session::new();
    let label = "com.example.slow";
    let trapped = session.folder.path().join("trapped");
    let made = std::process::Command::new("mkfifo").arg(&trapped).status();
    assert!(made.unwrap().success());
    let script = "trap : TERM; echo > trapped; while :; do sleep 0.01; done";
    let folder = session.folder.path().to_str().unwrap();
    let keys = format!("{KEEP}<key>WorkingDirectory</key><string>{folder}</string>");
    session.bootstrap(&session.plist(label, script, &keys));
    std::fs::read(&trapped).unwrap();
    let running = || {
        let text = session.run(&["print", &session.target(label)]).1;
        let pid = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("pid = "));
        pid.map(str::to_owned)
    };
    let first = running();
    assert_eq!(
        session.run(&["kickstart", "-k", &session.target(label)]).0,
        0
    );
    let second = running();
    assert!(second.is_some() && second != first, "{first:?} {second:?}");
    std::fs::read(&trapped).unwrap();
    assert_eq!(session.run(&["bootout", &session.target(label)]).0, 0);
    assert_eq!(session.run(&["print", &session.target(label)]).0, 113);
}

#[test]
fn kickstart_keeps_the_arguments_of_the_bootstrap() {
    let session = Session::new();
    let label = "com.example.c";
    let plist = session.plist(label, "exec sleep 1001", KEEP);
    session.bootstrap(&plist);
    let first = session
        .launchd
        .wait_for(label, SOON, |s| s.pid.is_some())
        .unwrap();
    session.plist(label, "exec sleep 1002", KEEP);
    let (code, pid) = session.run(&["kickstart", "-kp", &session.target(label)]);
    assert_eq!(code, 0);
    assert_ne!(pid.trim().parse().ok(), first.pid);
    assert!(
        session
            .run(&["print", &session.target(label)])
            .1
            .contains("exec sleep 1001")
    );
    session.run(&["bootout", &session.target(label)]);
    session.launchd.wait(SOON, |all| all.is_empty()).unwrap();
    session.bootstrap(&plist);
    assert!(
        session
            .run(&["print", &session.target(label)])
            .1
            .contains("exec sleep 1002")
    );
}

#[test]
fn stopped_process_is_killed_after_its_exit_timeout() {
    let session = Session::new();
    let label = "com.example.s";
    session.bootstrap(&session.plist(label, "exec sleep 1000", KEEP));
    let running = session
        .launchd
        .wait_for(label, SOON, |s| s.pid.is_some())
        .unwrap();
    assert_eq!(session.run(&["kill", "STOP", &session.target(label)]).0, 0);
    // The kernel stops it asynchronously, and a SIGTERM that arrives first would still be handled.
    let pid = running.pid.unwrap().to_string();
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let ps = std::process::Command::new("ps")
            .args(["-o", "stat=", "-p", &pid])
            .output()
            .unwrap();
        if ps.stdout.first() == Some(&b'T') {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{pid} does not stop");
    }
    assert_eq!(
        session.run(&["kickstart", "-k", &session.target(label)]).0,
        0
    );
    let after = session
        .launchd
        .wait_for(label, SOON, |s| s.runs == 2 && s.pid.is_some())
        .unwrap();
    assert_eq!(after.last_signal, Some(9));
}

#[test]
fn disabled_service_is_not_loaded_at_login() {
    let session = Session::new();
    let (on, off) = ("com.example.on", "com.example.off");
    session.bootstrap(&session.plist(on, "exec sleep 1000", KEEP));
    let plist = session.plist(off, "exec sleep 1000", KEEP);
    assert_eq!(session.run(&["disable", &session.target(off)]).0, 0);
    assert_eq!(
        session.bootstrap(&plist),
        (119, "Bootstrap failed: 119: Service is disabled\n".into())
    );
    let text = session
        .run(&["print-disabled", &session.launchd.domain()])
        .1;
    assert!(text.contains("\"com.example.off\" => disabled"), "{text}");
    let before = session
        .launchd
        .wait_for(on, SOON, |s| s.pid.is_some())
        .unwrap();
    session.launchd.login().unwrap();
    let after = session
        .launchd
        .wait(
            SOON,
            |all| matches!(all, [s] if s.pid.is_some() && s.pid != before.pid),
        )
        .unwrap();
    assert_eq!(after[0].label, on);
    session.run(&["enable", &session.target(off)]);
    session.launchd.login().unwrap();
    session
        .launchd
        .wait(SOON, |all| {
            all.len() == 2 && all.iter().all(|s| s.pid.is_some())
        })
        .unwrap();
}

#[test]
fn keep_alive_may_depend_on_the_exit() {
    let session = Session::new();
    let unless_well = "<key>RunAtLoad</key><true/><key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>";
    session.bootstrap(&session.plist("com.example.well", "exit 0", unless_well));
    session.bootstrap(&session.plist("com.example.ill", "exit 3", unless_well));
    session
        .launchd
        .wait_for("com.example.ill", SOON, |s| {
            s.runs >= 3 && s.last_code == Some(3)
        })
        .unwrap();
    let well = session
        .launchd
        .wait_for("com.example.well", SOON, |s| s.last_code == Some(0))
        .unwrap();
    assert_eq!((well.runs, well.scheduled), (1, false));
    let missing = session.plist("com.example.m", "", KEEP);
    let text = std::fs::read_to_string(&missing)
        .unwrap()
        .replace("/bin/sh", "/nowhere/x");
    std::fs::write(
        &missing,
        text.replace("<key>KeepAlive", "<key>Kepalive</key><true/><key>KeepAlive"),
    )
    .unwrap();
    assert_eq!(
        session.bootstrap(&missing).0,
        0,
        "launchd does not look at the program"
    );
    session
        .launchd
        .wait_for("com.example.m", SOON, |s| {
            s.runs >= 2 && s.last_code == Some(78)
        })
        .unwrap();
    assert_eq!(
        session.run(&["sim-unknown-keys", "com.example.m"]),
        (0, "Kepalive\n".into())
    );
}

#[test]
fn output_environment_and_limits_follow_the_plist() {
    let session = Session::new();
    let out = session.folder.path().join("logs/out");
    let keys = format!(
        "{KEEP}<key>StandardOutPath</key><string>{}</string><key>EnvironmentVariables</key><dict><key>OWN</key><string>1</string></dict>\
         <key>SoftResourceLimits</key><dict><key>NumberOfFiles</key><integer>321</integer></dict>",
        out.display()
    );
    session.run(&["setenv", "SHARED", "2"]);
    let script = "sleep 0.1; echo $OWN $SHARED $(ulimit -n); exec sleep 1000";
    session.bootstrap(&session.plist("com.example.o", script, &keys));
    let deadline = std::time::Instant::now() + SOON;
    let mut seen = String::new();
    while !seen.ends_with('\n') && std::time::Instant::now() < deadline {
        seen = std::fs::read_to_string(&out).unwrap_or_default();
        std::thread::yield_now();
    }
    let limit = if cfg!(target_os = "linux") { "321" } else { "" };
    assert!(seen.starts_with(&format!("1 2 {limit}")), "{seen:?}");
}
