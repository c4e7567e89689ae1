//! A host that is changed without the installer, under the simulated launchd: drift reports each change with its fix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sanctum_sim_launchd::Launchd;
use sanctum_tests::program;
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than any step here takes.
const SOON: Duration = Duration::from_secs(90);

/// A host with drift, which checks every second, a canary, which checks every hour, and a program of others. No server
/// runs: drift sends no requests.
struct DriftHost {
    launchd: Launchd,
    folder: TempDir,
    program: PathBuf,
}

impl DriftHost {
    fn installed() -> Self {
        let folder = TempDir::new().unwrap();
        let release = folder.path().join("release");
        fs::create_dir(&release).unwrap();
        for name in ["canary", "drift", "launchd"] {
            let name = format!("sanctum-{name}");
            // The programs of a debug build are large: link them.
            fs::hard_link(program(&name), release.join(&name))
                .or_else(|_| fs::copy(program(&name), release.join(&name)).map(drop))
                .unwrap();
        }
        let sim = folder.path().join("launchd");
        let launchd = Launchd::start(&sim, &program("launchctl"), folder.path(), 0.02).unwrap();
        for (name, value) in launchd.environment() {
            let value = value.display().to_string();
            launchd.run(&["setenv", name, &value]).unwrap();
        }
        let host = Self {
            program: release.join("sanctum-launchd"),
            launchd,
            folder,
        };
        host.fleet(1000);
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

    /// Writes the operator's fleet.toml; the helper sleeps for this time.
    fn fleet(&self, seconds: u32) {
        let fleet = format!(
            "[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"canary\", \"drift\", \"helper\"]\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:9\"]\n\
             [agents.helper]\nhost = \"here\"\nprogram = [\"/bin/sleep\", \"{seconds}\"]\n\
             [watch.canary]\ntarget = \"server\"\nevery = \"1h\"\n\
             [watch.drift]\nevery = \"1s\"\nalert = [\"log\"]\n[alerts.log]\n"
        );
        fs::write(self.path("fleet.toml"), fleet).unwrap();
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

    /// Drift's state file.
    fn state(&self) -> Value {
        let state = fs::read(self.path(".sanctum/state/watch/drift.json"));
        serde_json::from_slice(&state.unwrap_or_default()).unwrap_or_default()
    }

    /// Waits until drift's state file satisfies `wanted`.
    fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let state = self.state();
            if wanted(&state) {
                return state;
            }
            assert!(begun.elapsed() < SOON, "waited for {what}: {state:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until drift's message has all of these texts, and returns the fix.
    fn drift_reports(&self, words: &[&str]) -> String {
        let state = self.wait(&format!("{words:?}"), |state| {
            let said = state["last"]["message"].as_str().unwrap_or_default();
            state["last"]["kind"] == "miss" && words.iter().all(|word| said.contains(word))
        });
        state["last"]["next"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn all_well(&self) {
        self.wait("a drift without findings", |state| {
            state["last"]["kind"] == "ok"
                && state["open"]
                    .as_object()
                    .is_some_and(|open| open.is_empty())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path(".sanctum/logs/drift.log")).unwrap()
    }
}

fn edit(path: &Path, edit: impl Fn(&str) -> String) -> String {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, edit(&text)).unwrap();
    text
}

#[test]
fn drift_reports_each_change_with_its_fix() {
    let host = DriftHost::installed();
    let launchd = &host.launchd;
    host.all_well();

    // A property list is edited: drift reports the file, and the arguments that launchd has loaded.
    let plist = host.path("Library/LaunchAgents/com.sanctum.canary.plist");
    let before = edit(&plist, |text| {
        text.replace("<string>--name</string>", "<string>--nome</string>")
    });
    host.drift_reports(&[
        "com.sanctum.canary.plist: it was changed after it was installed",
        "com.sanctum.canary: it was loaded with other arguments than",
        "(fix: sanctum-launchd install",
    ]);
    assert_eq!(host.state()["open"]["misses"]["alerts"], 1);

    // The deployed fleet.toml is edited too: a new finding alerts during the first alert's cooldown.
    let fleet = host.path(".sanctum/fleet.toml");
    let deployed = edit(&fleet, |text| text.replace("1h", "2h"));
    host.drift_reports(&[
        "fleet.toml: it was changed after it was installed",
        "--config YOUR-FLEET.TOML",
    ]);
    let state = host.wait("the second alert", |state| {
        state["open"]["misses"]["alerts"] == 2
    });
    assert_eq!(
        state["open"]["misses"]["problems"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    fs::write(&plist, before).unwrap();
    fs::write(&fleet, deployed).unwrap();
    host.all_well();
    // The log's thread may write the line after the state.
    host.wait("the recovery in the log", |_| {
        host.log()
            .contains("recovered: the installation on here fails its check")
    });

    // fleet.toml is changed, its property lists are written, and the agent is only restarted: it keeps its old arguments.
    host.fleet(2000);
    host.must(&[
        "render",
        "--config",
        "fleet.toml",
        "--host",
        "here",
        "--out",
        "Library/LaunchAgents",
    ]);
    let helper = format!("{}/com.sanctum.helper", launchd.domain());
    launchd.run(&["kickstart", "-k", &helper]).unwrap();
    host.drift_reports(&[
        "com.sanctum.helper: it was loaded with other arguments",
        "(loaded: /bin/sleep 1000; in the file: /bin/sleep 2000); a kickstart does not change them",
        "com.sanctum.helper.plist: it was changed",
    ]);
    host.must(&["install", "--config", "fleet.toml", "--host", "here"]);
    host.all_well();

    // A program is replaced by an identical file: its digest is right, and its process runs the old file.
    let canary = host.path(".sanctum/bin/sanctum-canary");
    let new = host.path(".sanctum/bin/new");
    fs::copy(&canary, &new).unwrap();
    fs::rename(&new, &canary).unwrap();
    let next = host.drift_reports(&["com.sanctum.canary: its process does not run the file"]);
    let target = format!("{}/com.sanctum.canary", launchd.domain());
    assert_eq!(next, format!("launchctl kickstart -k {target}"));
    launchd.run(&["kickstart", "-k", &target]).unwrap();
    host.all_well();

    // An agent is unloaded by hand.
    launchd.run(&["bootout", &helper]).unwrap();
    let next = host.drift_reports(&["com.sanctum.helper: it is not loaded"]);
    assert_eq!(next, "sanctum-launchd install");
    host.must(&["install", "--config", "fleet.toml", "--host", "here"]);
    host.all_well();
    host.must(&["uninstall"]);
    launchd.wait(SOON, |all| all.is_empty()).unwrap();
}
