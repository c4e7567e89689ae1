//! A host of a fleet under the simulated launchd: the real server and the real watchdogs, installed by the real
//! `sanctum-launchd`, and the incidents that they are there for.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sanctum_sim_launchd::Launchd;
use sanctum_tests::program;
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(90);

/// A host with its launchd, its home and its programs.
struct Host {
    launchd: Launchd,
    folder: TempDir,
    program: PathBuf,
}

impl Host {
    /// Installs a server, a guardian that looks every second, and a canary that does.
    fn installed() -> Self {
        let folder = TempDir::new().unwrap();
        let release = folder.path().join("release");
        fs::create_dir(&release).unwrap();
        for name in ["server", "guardian", "canary", "launchd"] {
            let name = format!("sanctum-{name}");
            // The programs of a debug build are large, and a link is as good.
            fs::hard_link(program(&name), release.join(&name))
                .or_else(|_| fs::copy(program(&name), release.join(&name)).map(drop))
                .unwrap();
        }
        let sim = folder.path().join("launchd");
        let launchd = Launchd::start(&sim, &program("launchctl"), folder.path(), 0.02).unwrap();
        // Agents find the stand-in for launchctl as they would find the real one without a word.
        for (name, value) in launchd.environment() {
            let value = value.display().to_string();
            launchd.run(&["setenv", name, &value]).unwrap();
        }
        let host = Self {
            program: release.join("sanctum-launchd"),
            launchd,
            folder,
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let fleet = format!(
            "[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"guardian\", \"canary\"]\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:{port}\"]\nthreads = 1\n\
             [watch.guardian]\ntarget = \"server\"\nevery = \"1s\"\ntimeout = \"1s\"\nmisses = 3\nstartup_grace = \"5s\"\n\
             restarts_per_hour = 2\nalert = [\"log\"]\n\
             [watch.canary]\ntarget = \"server\"\nevery = \"1s\"\nmisses = 2\nalert = [\"log\"]\n[alerts.log]\n"
        );
        fs::write(host.path("fleet.toml"), fleet).unwrap();
        host.must(&["pack", "release", "--release", "0.1.0"]);
        host.must(&[
            "install",
            "--config",
            "fleet.toml",
            "--host",
            "here",
            "--release",
            "release",
        ]);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", self.folder.path())
            .envs(self.launchd.environment())
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out
    }

    /// What a watchdog found last.
    fn verdict(&self, agent: &str) -> Value {
        let state = fs::read(self.path(&format!(".sanctum/state/watch/{agent}.json")));
        let state: Value = serde_json::from_slice(&state.unwrap_or_default()).unwrap_or_default();
        state["last"].clone()
    }

    /// Waits until a watchdog's state satisfies `wanted`; nobody but its file tells of it.
    fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !wanted(self) {
            let logs = || {
                let log =
                    |name| fs::read_to_string(self.path(&format!(".sanctum/logs/{name}.log")));
                ["server", "guardian", "canary"]
                    .map(|name| log(name).unwrap_or_default())
                    .join("\n")
            };
            assert!(begun.elapsed() < SOON, "waited for {what}\n{}", logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn all_well(&self) {
        self.wait("answers", |host| {
            ["guardian", "canary"]
                .iter()
                .all(|agent| host.verdict(agent)["kind"] == "ok")
        });
    }
}

fn modified(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.clone(),
                fs::metadata(&path).unwrap().modified().unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_installed_is_looked_after() {
    const SERVER: &str = "com.sanctum.server";
    let host = Host::installed();
    let launchd = &host.launchd;
    host.all_well();

    // A second install writes nothing and restarts nobody.
    let places = ["Library/LaunchAgents", ".sanctum/bin"].map(|place| host.path(place));
    let before = places.each_ref().map(|place| modified(place));
    let pid = launchd
        .wait_for(SERVER, SOON, |s| s.pid.is_some())
        .unwrap()
        .pid;
    host.must(&[
        "install",
        "--config",
        "fleet.toml",
        "--host",
        "here",
        "--release",
        "release",
    ]);
    assert_eq!(places.each_ref().map(|place| modified(place)), before);
    assert_eq!(
        launchd
            .wait_for(SERVER, SOON, |s| s.pid.is_some())
            .unwrap()
            .pid,
        pid
    );
    host.must(&["verify"]);

    // Killed: launchd brings it back, and the guardian has nothing to do with it.
    let target = format!("{}/{SERVER}", launchd.domain());
    launchd.run(&["kill", "SIGKILL", &target]).unwrap();
    launchd
        .wait_for(SERVER, SOON, |s| s.runs == 2 && s.pid.is_some())
        .unwrap();
    host.all_well();

    // Stopped: it answers nobody, and only the guardian can tell launchd.
    let stopped = launchd.wait_for(SERVER, SOON, |s| s.pid.is_some()).unwrap();
    launchd.run(&["kill", "SIGSTOP", &target]).unwrap();
    let kicked = launchd
        .wait_for(SERVER, SOON, |s| s.pid.is_some() && s.pid != stopped.pid)
        .unwrap();
    assert_eq!(kicked.last_signal, Some(9), "it could not hear SIGTERM");
    host.all_well();
    let log = fs::read_to_string(host.path(".sanctum/logs/guardian.log")).unwrap();
    assert!(log.contains("server on here was restarted"), "{log}");
    assert!(log.contains("launchctl kickstart -k"), "{log}");

    // Edited by hand: verify names the file, and what to type.
    let plist = host.path("Library/LaunchAgents/com.sanctum.canary.plist");
    let text = fs::read_to_string(&plist).unwrap();
    fs::write(&plist, text.replace("<true/>", "<false/>")).unwrap();
    let found = host.run(&["verify"]);
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(
        !found.status.success() && said.contains("com.sanctum.canary.plist"),
        "{said}"
    );

    host.must(&["uninstall"]);
    launchd.wait(SOON, |all| all.is_empty()).unwrap();
}
