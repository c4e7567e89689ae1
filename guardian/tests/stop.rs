//! The real guardian, whose launchctl hangs: neither its time limits nor SIGTERM wait for it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// launchctl with a loaded agent. `$HANGS` is the subcommand that hangs; it opens the FIFO first.
const LAUNCHCTL: &str = r#"#!/bin/sh
if [ "$1" = "$HANGS" ]; then
    echo hangs > "$(dirname "$0")/fifo"
    exec sleep 60
fi
[ "$1" = print ] && printf '%s = {\n\tstate = running\n\tpid = 77\n\truns = 1\n}\n' "$2"
exit 0
"#;

fn start(folder: &Path, hangs: &str) -> Child {
    let text = format!(
        "[fleet]\nhome = \"{0}\"\n[hosts.mini]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"guardian\"]\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:9\"]\n\
         [watch.guardian]\nevery = \"100ms\"\nmisses = 1\nstartup_grace = \"1ms\"\n",
        folder.display()
    );
    fs::write(folder.join("fleet.toml"), text).unwrap();
    let launchctl = folder.join("launchctl");
    fs::write(&launchctl, LAUNCHCTL).unwrap();
    fs::set_permissions(&launchctl, fs::Permissions::from_mode(0o755)).unwrap();
    let made = Command::new("mkfifo").arg(folder.join("fifo")).status();
    assert!(made.unwrap().success());
    Command::new(env!("CARGO_BIN_EXE_sanctum-guardian"))
        .args(["--config", "fleet.toml"])
        .current_dir(folder)
        .env("SANCTUM_LAUNCHCTL", &launchctl)
        .env("HANGS", hangs)
        .stdin(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap()
}

#[test]
fn guardian_obeys_sigterm_within_a_second_while_launchctl_hangs() {
    for hangs in ["print", "kickstart"] {
        let folder = tempfile::tempdir().unwrap();
        let mut guardian = start(folder.path(), hangs);
        // Opening and reading the FIFO waits until launchctl hangs.
        let mut line = String::new();
        let mut fifo = fs::File::open(folder.path().join("fifo")).unwrap();
        fifo.read_to_string(&mut line).unwrap();
        assert_eq!(line, "hangs\n");
        let begun = Instant::now();
        let pid = guardian.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let status = guardian.wait().unwrap();
        let took = begun.elapsed();
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(status.code(), Some(0), "{hangs}: {log}");
        assert!(took < Duration::from_secs(1), "{hangs}: {took:?}\n{log}");
    }
}
