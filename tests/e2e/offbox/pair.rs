//! The Mini that serves and the laptop that watches it: two homes, two networks, a real sshd on one and a desktop on the
//! other.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sanctum_config::Digest;
use sanctum_host::{Artefact, ArtefactKind, InstalledAgent, Receipt};
use sanctum_tests::{program, skipped};
use serde_json::Value;
use tempfile::TempDir;

use super::desktop::{Desktop, Notification};
use super::network::{LAPTOP, MINI, Network, REFERENCE};

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(150);

/// The two watchdogs on the laptop.
pub(super) const WATCHDOGS: [&str; 2] = ["canary-offbox", "drift-offbox"];

const SSHD: &str = "/usr/sbin/sshd";

/// Both hosts and their processes.
pub(super) struct HostPair {
    pub network: Network,
    desktop: Desktop,
    server: Option<RunningProcess>,
    watchdogs: Vec<RunningProcess>,
    sshd: Option<RunningProcess>,
    folder: TempDir,
}

/// A process that is killed when this is dropped.
struct RunningProcess(Child);

impl RunningProcess {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.starts_with('/') && Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

impl HostPair {
    /// Both hosts, with ok verdicts; or why they cannot be made here.
    pub(super) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return skipped("root, for network namespaces and sshd");
        }
        for (program, package) in [
            ("ip", "iproute2"),
            ("dbus-daemon", "dbus"),
            (SSHD, "openssh-server"),
            ("ssh", "openssh-client"),
            ("ssh-keygen", "openssh-client"),
        ] {
            if !is_there(program) {
                return skipped(&format!("{program} (Debian: {package})"));
            }
        }
        let network = match Network::new() {
            Ok(network) => network,
            Err(error) => return skipped(&format!("network namespaces ({error})")),
        };
        let folder = TempDir::new().unwrap();
        let mut pair = Self {
            desktop: Desktop::new(folder.path()),
            network,
            server: None,
            watchdogs: Vec::new(),
            sshd: None,
            folder,
        };
        pair.install_mini();
        pair.install_laptop();
        pair.start_sshd();
        pair.start_server();
        pair.watchdogs = WATCHDOGS.map(|name| pair.watchdog(name)).into();
        pair.all_well();
        assert!(pair.desktop.shown().is_empty());
        Some(pair)
    }

    /// A path in the home of `mini` or `laptop`.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program that serves on the Mini.
    pub(super) fn binary(&self) -> PathBuf {
        self.path("mini/.sanctum/bin/sanctum-server")
    }

    /// The text of that program: a script that executes the real one, and is hashed quickly.
    pub(super) fn script(remark: &str) -> String {
        let server = program("sanctum-server");
        format!(
            "#!/bin/sh\n# {remark}\nexec '{}' \"$@\"\n",
            server.display()
        )
    }

    fn install_mini(&self) {
        write(&self.binary(), &Self::script("as installed"), 0o755);
        let exported = Command::new(program("sanctum-server"))
            .arg("export-model")
            .arg(self.path("mini/model"))
            .env("HOME", self.path("mini"))
            .output()
            .unwrap();
        assert!(exported.status.success(), "{exported:?}");
        // Both hosts have fleet.toml and the token.
        for host in ["mini", "laptop"] {
            let home = self.path(host).join(".sanctum");
            write(&home.join("fleet.toml"), &fleet(), 0o644);
            let token = home.join("secrets/server.token");
            write(&token, &format!("{}\n", "5a".repeat(32)), 0o600);
            let secrets = token.parent().unwrap();
            fs::set_permissions(secrets, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    /// The laptop's copy of the Mini's receipt.
    fn install_laptop(&self) {
        let artefact = |name: &str, kind, mode| {
            let path = self.path("mini/.sanctum").join(name);
            let sha256 = Digest::of(&fs::read(&path).unwrap());
            Artefact {
                path,
                sha256,
                mode,
                kind,
            }
        };
        let artefacts = vec![
            artefact("bin/sanctum-server", ArtefactKind::Binary, 0o755),
            artefact("fleet.toml", ArtefactKind::Fleet, 0o644),
        ];
        let receipt = Receipt {
            host: "mini".parse().unwrap(),
            release: "1".to_owned(),
            previous: None,
            installed: "2026-04-18T03:00:00Z".to_owned(),
            fleet_sha256: artefacts[1].sha256,
            agents: vec![InstalledAgent {
                name: "server".parse().unwrap(),
                label: "com.sanctum.server".to_owned(),
                plist: self.path("mini/Library/LaunchAgents/com.sanctum.server.plist"),
                enabled: true,
            }],
            artefacts,
        };
        let copy = self.path("laptop/.sanctum/state/receipts/mini.json");
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        receipt.write(&copy).unwrap();
    }

    fn start_sshd(&mut self) {
        let ssh = self.path("ssh");
        fs::create_dir(&ssh).unwrap();
        for key in ["host", "laptop"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(ssh.join(key))
                .status();
            assert!(made.unwrap().success());
        }
        let at = ssh.display();
        let sshd = format!(
            "ListenAddress {MINI}:22\nHostKey {at}/host\nAuthorizedKeysFile {at}/laptop.pub\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             UsePAM no\nStrictModes no\nPidFile none\n"
        );
        write(&ssh.join("sshd_config"), &sshd, 0o600);
        let client = format!(
            "Host mini\nHostName {MINI}\nUser root\nIdentityFile {at}/laptop\nIdentitiesOnly yes\n\
             UserKnownHostsFile {at}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        );
        write(&ssh.join("config"), &client, 0o600);
        let host = fs::read_to_string(ssh.join("host.pub")).unwrap();
        write(&ssh.join("known_hosts"), &format!("{MINI} {host}"), 0o600);
        let wrapper = format!("#!/bin/sh\nexec ssh -F {at}/config \"$@\"\n");
        write(&ssh.join("ssh"), &wrapper, 0o755);
        // The folder that sshd changes its root to before login; the system creates it when it starts the service.
        fs::create_dir_all("/run/sshd").unwrap();
        let mut command = self.network.command("mini", SSHD);
        command
            .args(["-D", "-e", "-f"])
            .arg(ssh.join("sshd_config"));
        self.sshd = Some(self.run(command, "sshd"));
    }

    /// Starts the Mini's server.
    pub(super) fn start_server(&mut self) {
        let binary = self.binary();
        let mut command = self.network.command("mini", binary.to_str().unwrap());
        command
            .arg("--config")
            .arg(self.path("mini/.sanctum/fleet.toml"))
            .env("HOME", self.path("mini"));
        self.server = Some(self.run(command, "server"));
    }

    /// Kills the Mini's server.
    pub(super) fn kill_server(&mut self) {
        self.server = None;
    }

    /// Starts another server, and waits until the laptop has checked it.
    pub(super) fn serve_again_after(&mut self, change: impl FnOnce(&Self)) {
        let canary = &self.watchdogs[0];
        canary.signal(Signal::STOP);
        self.kill_server();
        change(self);
        self.start_server();
        self.wait("a server that listens", |pair| {
            pair.log("server").contains(&format!("http://{MINI}:1337"))
        });
        self.watchdogs[0].signal(Signal::CONT);
    }

    fn watchdog(&self, name: &str) -> RunningProcess {
        let (check, _) = name.split_once('-').unwrap();
        let program = program(&format!("sanctum-{check}"));
        let mut command = self.network.command("laptop", program.to_str().unwrap());
        command
            .args(["--name", name, "--config"])
            .arg(self.path("laptop/.sanctum/fleet.toml"))
            .env("HOME", self.path("laptop"))
            .env("SANCTUM_SSH", self.path("ssh/ssh"))
            .env("DBUS_SESSION_BUS_ADDRESS", self.desktop.address());
        self.run(command, name)
    }

    fn run(&self, mut command: Command, name: &str) -> RunningProcess {
        let log = File::create(self.log_file(name)).unwrap();
        let child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        RunningProcess(child.unwrap())
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    /// The state of a watchdog.
    fn state(&self, watchdog: &str) -> Value {
        let file = format!("laptop/.sanctum/state/watch/{watchdog}.json");
        let state = fs::read(self.path(&file)).unwrap_or_default();
        serde_json::from_slice(&state).unwrap_or_default()
    }

    /// How many checks of a watchdog have had this verdict, as its state file counts them.
    fn checks(&self, watchdog: &str, kind: &str) -> u64 {
        let state = self.state(watchdog);
        let hours = state["hours"].as_array().into_iter().flatten();
        hours.filter_map(|hour| hour[kind].as_u64()).sum()
    }

    /// Waits until a watchdog has had this verdict this many more times.
    #[track_caller]
    pub(super) fn look_on(&self, watchdog: &str, kind: &str, checks: u64) {
        let seen = self.checks(watchdog, kind);
        self.wait(&format!("{checks} × {kind} of {watchdog}"), |pair| {
            pair.checks(watchdog, kind) >= seen + checks
        });
    }

    /// Waits until both verdicts are ok.
    #[track_caller]
    pub(super) fn all_well(&self) {
        self.wait("peace", |pair| {
            let well = |name: &&str| pair.state(name)["last"]["kind"] == "ok";
            WATCHDOGS.iter().all(well)
        });
    }

    /// The titles on the laptop's screen so far, in order.
    pub(super) fn titles(&self) -> Vec<String> {
        let shown = self.desktop.shown().into_iter();
        shown.map(|one| one.title).collect()
    }

    /// Waits until a notification of this title is shown.
    #[track_caller]
    pub(super) fn told(&self, title: &str) -> Notification {
        let find = |pair: &Self| {
            let mut shown = pair.desktop.shown().into_iter();
            shown.find(|one| one.title == title)
        };
        self.wait(&format!("`{title}`"), |pair| find(pair).is_some());
        find(self).expect("it was there")
    }

    /// Waits for a condition of files or the screen.
    #[track_caller]
    fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !wanted(self) {
            let logs = || {
                ["server", "sshd", WATCHDOGS[0], WATCHDOGS[1]].map(|name| {
                    let log = self.log(name);
                    let lines: Vec<&str> = log.lines().collect();
                    let end = lines[lines.len().saturating_sub(8)..].join("\n");
                    format!("--- {name}\n{end}")
                })
            };
            assert!(
                begun.elapsed() < SOON,
                "waited for {what}; shown: {:#?}\n{}",
                self.desktop.shown(),
                logs().join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The fleet.toml of both hosts.
fn fleet() -> String {
    let alert = format!("reference = \"http://{REFERENCE}\"\nalert = [\"desktop\"]\n");
    format!(
        "[hosts.mini]\naddress = \"{MINI}\"\nssh = \"mini\"\nagents = [\"server\"]\n\
         [hosts.laptop]\naddress = \"{LAPTOP}\"\nagents = {WATCHDOGS:?}\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1337\", \"{MINI}:1337\"]\nthreads = 1\n\
         models = [{{ id = \"council\", path = \"~/model\" }}]\n\
         auth = {{ token_file = \"~/.sanctum/secrets/server.token\" }}\n\
         [watch.canary-offbox]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"5s\"\n\
         misses = 2\n{alert}\
         [watch.drift-offbox]\ncheck = \"drift\"\nevery = \"300ms\"\ntimeout = \"15s\"\nmisses = 2\n{alert}\
         [alerts.desktop]\nsound = \"Submarine\"\n"
    )
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Replaces a file; processes that have the old one open keep it.
pub(super) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write(&new, text, 0o755);
    fs::rename(new, path).unwrap();
}
