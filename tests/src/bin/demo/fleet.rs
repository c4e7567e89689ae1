//! The two hosts: each a folder with its own simulated launchd, and a script in place of ssh between them.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use sanctum_tests::host::Host;
use sanctum_tests::program;
use sanctum_tests::receiver::Receiver;
use tempfile::TempDir;

use crate::record::Replacements;

/// In place of ssh: another host is another folder. It is on while its launchd is.
const SSH: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -o) shift 2 ;;
    --) shift; break ;;
    *) break ;;
    esac
done
host=$1; shift
if [ ! -e "{root}/$host/launchd" ] || [ -e "{root}/$host/launchd/off" ]; then
    echo "ssh: connect to host $host port 22: No route to host" >&2
    exit 255
fi
. "{root}/$host.environment"
cd "$HOME" && exec sh -c "$*"
"#;

/// In place of macOS's firewall: it is off. That of the machine is about real servers.
const FIREWALL: &str = "#!/bin/sh\necho 'Firewall is disabled. (State = 0)'\n";

/// The programs that are typed at the host that watches.
const TYPED: [&str; 2] = ["sanctum-launchd", "sanctum-pki"];

/// Both hosts and the commands that run on them. Removes nothing by itself: see [`DemoFleet::end`].
pub(crate) struct DemoFleet {
    /// The host that serves.
    pub(crate) mini: DemoHost,
    /// The host that watches, where all commands are typed.
    pub(crate) studio: DemoHost,
    /// The server's port for other hosts.
    pub(crate) tls_port: u16,
    /// The folder of everything.
    pub(crate) root: PathBuf,
    running: Mutex<RunningDemo>,
}

/// A host and its name in fleet.toml.
pub(crate) struct DemoHost {
    pub(crate) name: &'static str,
    host: Host,
}

impl Deref for DemoHost {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// What must end with the demo.
struct RunningDemo {
    has_ended: bool,
    /// The process groups of commands.
    groups: Vec<Pid>,
    folder: Option<TempDir>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output and standard error, in the order of their lines.
    pub(crate) output: String,
}

impl DemoFleet {
    /// Starts both hosts, with nothing installed.
    pub(crate) fn start() -> io::Result<Self> {
        let folder = TempDir::with_prefix("sanctum-demo-")?;
        let root = folder.path().canonicalize()?;
        let [mini, studio] = names();
        let tls_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let fleet = Self {
            mini: DemoHost::new(&root, mini)?,
            studio: DemoHost::new(&root, studio)?,
            tls_port,
            running: Mutex::new(RunningDemo {
                has_ended: false,
                groups: Vec::new(),
                folder: Some(folder),
            }),
            root,
        };
        let script = SSH.replace("{root}", &fleet.root.display().to_string());
        for (name, script) in [("ssh", script.as_str()), ("firewall", FIREWALL)] {
            let path = fleet.root.join(name);
            fs::write(&path, script)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        let typed = fleet.root.join("programs");
        fs::create_dir(&typed)?;
        for name in TYPED {
            symlink(program(name), typed.join(name))?;
        }
        symlink(fleet.root.join("ssh"), typed.join("ssh"))?;
        for host in [&fleet.mini, &fleet.studio] {
            // launchd's agents have no other environment than their session's.
            for (name, value) in fleet.replaced_programs() {
                host.set_variable(name, &value);
            }
            let lines = fleet.environment(host).into_iter().map(|(name, value)| {
                let value = value.replace('\'', r"'\''");
                format!("export {name}='{value}'\n")
            });
            let file = fleet.root.join(format!("{}.environment", host.name));
            fs::write(file, lines.collect::<String>())?;
        }
        Ok(fleet)
    }

    /// What a recorded run shows instead of this machine's paths and ports.
    pub(crate) fn replacements(&self, alerts: &Receiver) -> Replacements {
        let port = self.mini.port();
        let programs = program("sanctum-server");
        let programs = programs.parent().unwrap_or(Path::new("/"));
        let mut all: Replacements = [&self.mini, &self.studio]
            .map(|host| (host.home().display().to_string(), "~".to_owned()))
            .into();
        all.push((
            self.root.display().to_string(),
            "/tmp/sanctum-demo".to_owned(),
        ));
        all.push((programs.display().to_string(), "target/debug".to_owned()));
        all.push((alerts.url(), "http://192.0.2.7:4077/notify".to_owned()));
        let tls_port = self.tls_port;
        for (address, shown) in [("localhost", "192.0.2.25"), ("0.0.0.0", "0.0.0.0")] {
            all.push((format!("{address}:{tls_port}"), format!("{shown}:1338")));
        }
        all.push((format!("127.0.0.1:{port}"), "127.0.0.1:1337".to_owned()));
        all.push((format!("port {port}"), "port 1337".to_owned()));
        all
    }

    /// The variables that name programs to use instead of the system's.
    fn replaced_programs(&self) -> [(&'static str, String); 2] {
        [
            ("SANCTUM_SSH", "ssh"),
            ("SANCTUM_SOCKETFILTERFW", "firewall"),
        ]
        .map(|(name, file)| (name, self.root.join(file).display().to_string()))
    }

    /// The environment of a shell on a host.
    fn environment(&self, host: &DemoHost) -> Vec<(&'static str, String)> {
        let mut path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        // The other host has the programs that are installed there, and no others.
        if host.name == self.studio.name {
            path = format!("{}:{path}", self.root.join("programs").display());
        }
        let mut all = vec![("HOME", host.home().display().to_string()), ("PATH", path)];
        all.extend(self.replaced_programs());
        for name in ["USER", "LOGNAME", "TMPDIR", "LANG"] {
            all.extend(std::env::var(name).ok().map(|value| (name, value)));
        }
        for (name, value) in host.launchd.environment() {
            all.push((name, value.display().to_string()));
        }
        all
    }

    /// A line for the shell of the host that watches, which writes to `output`.
    fn shell(&self, line: &str, output: &io::PipeWriter) -> io::Result<Command> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line])
            .current_dir(self.studio.home())
            .env_clear()
            .envs(self.environment(&self.studio))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .process_group(0);
        Ok(command)
    }

    /// Starts a line that runs until the demo ends, and returns the first line of its output that has `words`.
    ///
    /// # Errors
    /// If it prints none within `limit`, or the demo has ended.
    pub(crate) fn keep_running(
        &self,
        line: &str,
        words: &str,
        limit: Duration,
    ) -> Result<String, String> {
        let text = |error: io::Error| error.to_string();
        let (reader, writer) = io::pipe().map_err(text)?;
        let mut command = self.shell(line, &writer).map_err(text)?;
        drop(writer);
        self.spawn(&mut command)?;
        drop(command);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // Read to the end: a full pipe would stop the program.
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + limit;
        let mut output = String::new();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return Ok(line),
                Ok(line) => output = format!("{output}{line}\n"),
                Err(_) => return Err(format!("no line with \"{words}\"; output: {output}")),
            }
        }
    }

    /// Starts a command in a process group that ends with the demo.
    fn spawn(&self, command: &mut Command) -> Result<(Child, Pid), String> {
        let mut running = self.running();
        if running.has_ended {
            return Err("the demo has ended".to_owned());
        }
        let child = command
            .spawn()
            .map_err(|error| format!("/bin/sh: {error}"))?;
        let group = Pid::from_child(&child);
        running.groups.push(group);
        Ok((child, group))
    }

    /// Runs a line in the shell of the host that watches.
    ///
    /// # Errors
    /// If it does not end within `limit`, or the demo has ended.
    pub(crate) fn run(&self, line: &str, limit: Duration) -> Result<Ran, String> {
        let text = |error: io::Error| error.to_string();
        let (reader, writer) = io::pipe().map_err(text)?;
        let mut command = self.shell(line, &writer).map_err(text)?;
        drop(writer);
        let (mut child, group) = self.spawn(&mut command)?;
        // The pipe is closed here, so that it ends with the last process that writes to it.
        drop(command);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        let deadline = Instant::now() + limit;
        let mut output = String::new();
        let is_late = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    output.push_str(&line);
                    output.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        if is_late {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        self.running().groups.retain(|other| *other != group);
        match is_late {
            true => Err(format!(
                "no end within {} s; output: {output}",
                limit.as_secs()
            )),
            false => Ok(Ran {
                code: status.code(),
                output,
            }),
        }
    }

    /// Ends all processes and removes the folder. The logs are kept in another folder if `keep_logs`; its path is returned.
    /// None if it has been called before.
    pub(crate) fn end(&self, keep_logs: bool) -> Option<Option<PathBuf>> {
        let mut running = self.running();
        if running.has_ended {
            return None;
        }
        running.has_ended = true;
        for group in &running.groups {
            let _ = kill_process_group(*group, Signal::KILL);
        }
        for host in [&self.mini, &self.studio] {
            host.power_off();
        }
        let kept = keep_logs.then(|| self.keep_logs());
        drop(running.folder.take());
        // A process may have written a file while the folder was removed.
        for _ in 0..20 {
            match fs::remove_dir_all(&self.root) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => break,
            }
        }
        Some(kept.and_then(Result::ok))
    }

    /// Copies fleet.toml, the logs and the watchdogs' states.
    fn keep_logs(&self) -> io::Result<PathBuf> {
        let to = TempDir::with_prefix("sanctum-demo-logs-")?.keep();
        for host in [&self.mini, &self.studio] {
            let of_host = to.join(host.name);
            for name in ["logs", "state/watch"] {
                copy_files(&host.path(".sanctum").join(name), &of_host)?;
            }
        }
        let _ = fs::copy(self.studio.path("fleet.toml"), to.join("fleet.toml"));
        Ok(to)
    }

    fn running(&self) -> MutexGuard<'_, RunningDemo> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DemoHost {
    fn new(root: &Path, name: &'static str) -> io::Result<Self> {
        let home = root.join(name);
        fs::create_dir(&home)?;
        Ok(Self {
            name,
            host: Host::at(&home),
        })
    }
}

/// The names of both hosts. A program believes that a host with the machine's own name is this machine.
fn names() -> [&'static str; 2] {
    let system = rustix::system::uname();
    let machine = system.nodename().to_string_lossy().to_lowercase();
    let short = machine.split('.').next().unwrap_or_default();
    match ["mini", "studio"].contains(&short) {
        true => ["demo-mini", "demo-studio"],
        false => ["mini", "studio"],
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
