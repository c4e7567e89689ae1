//! A host in a temporary folder: a home, a fleet.toml, releases of shell scripts, a `launchctl` that keeps its state in
//! files, and a server that gives the answer in the installed program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Its state is in `$LAUNCHD`: `loaded/<label>` is the property list as it was at bootstrap, `disabled/<label>` and
/// `leaving/<label>` are marks, `calls` lists every call. A bootout finishes with the next `print`, as launchd's takes some
/// time, and a bootstrap in between fails with 5.
const LAUNCHCTL: &str = r#"#!/bin/sh
cd "$LAUNCHD" && mkdir -p loaded disabled leaving || exit 70
echo "$*" >> calls
label=${2##*/}
case $1 in
print)
    if [ -e "leaving/$label" ]; then rm "leaving/$label"; echo "	state = SIGTERMed"; exit 0; fi
    if [ ! -e "loaded/$label" ]; then echo "Could not find service \"$label\" in domain for user gui: 501" >&2; exit 113; fi
    echo "gui/501/$label = {"
    echo "	state = running"
    echo "	arguments = {"
    awk '/ProgramArguments/{on=1} /<\/array>/{on=0} on && /<string>/{gsub(/.*<string>|<\/string>.*/, ""); print "\t\t" $0}' "loaded/$label"
    echo "	}"
    [ -e exit-timeout ] && echo "	exit timeout = $(cat exit-timeout)"
    echo "	runs = 1"
    if [ -e "exits" ]; then echo "	last exit code = 78: EX_CONFIG"; else echo "	pid = 99999999"; fi
    echo "}" ;;
print-disabled)
    echo "disabled services = {"
    for mark in disabled/*; do [ -e "$mark" ] && echo "	\"${mark#disabled/}\" => disabled"; done
    echo "}" ;;
bootstrap)
    label=$(basename "$3" .plist)
    if [ -e "leaving/$label" ] || [ -e "loaded/$label" ] || [ -e "disabled/$label" ]; then
        echo "Bootstrap failed: 5: Input/output error" >&2; exit 5
    fi
    cp "$3" "loaded/$label" ;;
bootout)
    [ -e "loaded/$label" ] || { echo "Boot-out failed: 3: No such process" >&2; exit 3; }
    rm "loaded/$label"; touch "leaving/$label" ;;
enable) rm -f "disabled/$label" ;;
disable) touch "disabled/$label" ;;
*) echo "Unrecognized subcommand: $1" >&2; exit 64 ;;
esac
"#;

/// The agents of [`Host::new`]'s fleet.
pub(crate) const AGENTS: [&str; 4] = ["server", "guardian", "parity", "hatch"];

pub(crate) struct Host {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

/// The output of the program and its exit code.
pub(crate) struct LaunchdOutput {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl LaunchdOutput {
    pub(crate) fn of(mut command: Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: status.code(),
            out: text(stdout),
            err: text(stderr),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.out + &self.err
    }
}

impl Host {
    /// Nothing is installed yet. Releases 1, 2, 3 and `wrong`, whose server answers 5, exist.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let host = Self { folder, address };
        let program = host.home().join("bin/sanctum-server");
        std::thread::spawn(move || answer(&listener, &program));
        executable(&host.at("launchctl"), LAUNCHCTL);
        fs::create_dir(host.at("launchd")).unwrap();
        host.fleet("");
        fs::write(host.at("parity.json"), "{}").unwrap();
        for (version, sum) in [("1", "4"), ("2", "4"), ("3", "4"), ("wrong", "5")] {
            let release = host.release(version);
            fs::create_dir(&release).unwrap();
            for name in ["server", "guardian", "parity"] {
                let text = format!("#!/bin/sh\n# answers {sum}\necho sanctum-{name} {version}\n");
                executable(&release.join(format!("sanctum-{name}")), &text);
            }
            host.run(&["pack", release.to_str().unwrap(), "--release", version])
                .ok();
        }
        host
    }

    /// The address of another server, which answers as the first one does.
    pub(crate) fn another_server(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let program = self.home().join("bin/sanctum-server");
        std::thread::spawn(move || answer(&listener, &program));
        address
    }

    /// Writes fleet.toml, with more at its end.
    pub(crate) fn fleet(&self, more: &str) {
        let text = format!(
            "[fleet]\nretention = 2\n\
             [hosts.mini]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"guardian\", \"parity\"]\n\
             [servers.server]\nhost = \"mini\"\nlisten = [\"{}\"]\n\
             [agents.hatch]\nhost = \"mini\"\nprogram = [\"/bin/sleep\", \"9\"]\nstandby_for = \"server\"\n\
             [watch.guardian]\ntarget = \"server\"\nevery = \"60s\"\n\
             [watch.parity]\ntarget = \"server\"\nat = \"0 3 * * *\"\nspec = \"parity.json\"\n{more}",
            self.address
        );
        fs::write(self.at("fleet.toml"), text).unwrap();
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.at("user/.sanctum")
    }

    pub(crate) fn release(&self, version: &str) -> PathBuf {
        self.at(&format!("release-{version}"))
    }

    pub(crate) fn plist(&self, agent: &str) -> PathBuf {
        self.at(&format!(
            "user/Library/LaunchAgents/com.sanctum.{agent}.plist"
        ))
    }

    pub(crate) fn run(&self, line: &[&str]) -> LaunchdOutput {
        self.run_with(line, &[])
    }

    /// A command, not yet run.
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        self.command_for(&self.at("fleet.toml"), line)
    }

    /// A command for another fleet.toml, not yet run.
    pub(crate) fn command_for(&self, fleet: &Path, line: &[&str]) -> Command {
        let user = self.at("user");
        fs::create_dir_all(&user).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanctum-launchd"));
        command
            .args(line)
            .args(["--config", fleet.to_str().unwrap()])
            .current_dir(&user)
            .env("HOME", &user)
            // Without the sanctum-launchd of a fleet that is installed on this machine.
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LAUNCHD", self.at("launchd"))
            .env("SANCTUM_LAUNCHCTL", self.at("launchctl"))
            .env("SANCTUM_SOCKETFILTERFW", "/no/such/firewall");
        command
    }

    /// Describes release `version`, whose server is this shell script.
    pub(crate) fn release_with_server(&self, version: &str, script: &str) {
        let release = self.release(version);
        fs::create_dir_all(&release).unwrap();
        for name in ["guardian", "parity"] {
            let text = format!("#!/bin/sh\necho sanctum-{name} {version}\n");
            executable(&release.join(format!("sanctum-{name}")), &text);
        }
        let text = format!("#!/bin/sh\n# answers 4\n{script}\necho sanctum-server {version}\n");
        executable(&release.join("sanctum-server"), &text);
        self.run(&["pack", release.to_str().unwrap(), "--release", version])
            .ok();
    }

    pub(crate) fn run_with(&self, line: &[&str], environment: &[(&str, &str)]) -> LaunchdOutput {
        let mut command = self.command(line);
        command.envs(environment.iter().copied());
        LaunchdOutput::of(command)
    }

    /// `install` with a release.
    pub(crate) fn install(&self, version: &str) -> LaunchdOutput {
        self.run(&[
            "install",
            "--release",
            self.release(version).to_str().unwrap(),
        ])
    }

    /// `upgrade` to a release, without a second instance, dying after a step if one is named.
    pub(crate) fn upgrade(&self, version: &str, fault: &str) -> LaunchdOutput {
        let release = self.release(version);
        let line = upgrading(release.to_str().unwrap());
        self.run_with(&line, &[("SANCTUM_FAULT", fault)])
    }

    pub(crate) fn json(&self, line: &[&str]) -> Value {
        let line: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
        let said = self.run(&line);
        serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
    }

    /// The kinds of `verify`'s findings.
    pub(crate) fn findings(&self) -> Vec<String> {
        let found = self.json(&["verify"]);
        let kinds = found["findings"].as_array().unwrap().iter();
        kinds
            .map(|finding| finding["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn record(&self, name: &str) -> Value {
        let bytes = fs::read(self.home().join("state").join(name)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    pub(crate) fn is_loaded(&self, agent: &str) -> bool {
        self.at(&format!("launchd/loaded/com.sanctum.{agent}"))
            .exists()
    }

    pub(crate) fn is_disabled(&self, agent: &str) -> bool {
        self.at(&format!("launchd/disabled/com.sanctum.{agent}"))
            .exists()
    }

    /// The calls of `launchctl` since the last time, without queries.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.at("launchd/calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, "").unwrap();
        let told = text.lines().filter(|line| !line.starts_with("print"));
        told.map(|line| {
            let (verb, rest) = line.split_once(' ').unwrap();
            let name = rest.rsplit('/').next().unwrap().trim_end_matches(".plist");
            format!("{verb} {}", name.trim_start_matches("com.sanctum."))
        })
        .collect()
    }

    /// The version that the installed programs are of; one for each program.
    pub(crate) fn installed(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for name in ["sanctum-server", "sanctum-guardian", "sanctum-parity"] {
            let text = fs::read_to_string(self.home().join("bin").join(name)).unwrap_or_default();
            versions.insert(
                name.to_owned(),
                text.split_whitespace().last().unwrap_or("none").to_owned(),
            );
        }
        versions
    }

    /// Asserts that one release is installed and runs, and that there are no findings.
    #[track_caller]
    pub(crate) fn is_whole(&self, version: &str) {
        assert!(
            self.installed().values().all(|v| v == version),
            "{:?}",
            self.installed()
        );
        assert_eq!(self.record("receipt.json")["release"], version);
        assert_eq!(self.findings(), [""; 0]);
        for agent in AGENTS {
            assert_eq!(self.is_loaded(agent), agent != "hatch", "{agent}");
        }
        assert!(!self.home().join("state/journal.json").exists());
        assert!(!self.home().join("state/lease.json").exists());
        let litter = |path: &PathBuf| path.extension().is_some_and(|end| end == "new");
        assert_eq!(self.snapshot().into_keys().find(litter), None);
    }

    /// Every file of the user with what is in it and when it was written.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.at("user")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                let written = entry.metadata().unwrap().modified().unwrap();
                let bytes = fs::read(entry.path()).unwrap_or_default();
                files.insert(entry.path(), (written, bytes));
            }
        }
        files
    }
}

/// The command line of an upgrade to the release in a folder, without a second instance.
pub(crate) fn upgrading(release: &str) -> [&str; 5] {
    ["upgrade", "--trial", "never", "--release", release]
}

pub(crate) fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `/health`, `/metrics`, and a chat with the answer in the installed program.
fn answer(listener: &TcpListener, program: &Path) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = String::new();
        let mut part = [0; 4096];
        while !request.contains("\r\n\r\n") {
            match stream.read(&mut part) {
                Ok(0) | Err(_) => break,
                Ok(read) => request.push_str(&String::from_utf8_lossy(&part[..read])),
            }
        }
        let text = fs::read_to_string(program).unwrap_or_default();
        let sum = text
            .split("answers ")
            .nth(1)
            .and_then(|rest| rest.get(..1))
            .unwrap_or("?");
        // The number of probes for which it is still loading.
        let loading = fs::read_to_string(program.with_file_name("loading")).unwrap_or_default();
        let left: u32 = loading.parse().unwrap_or(0);
        if left > 0 {
            fs::write(program.with_file_name("loading"), (left - 1).to_string()).unwrap();
        }
        let (mut status, phase) = match left {
            0 => ("200 OK", "ready"),
            _ => ("503 Service Unavailable", "loading"),
        };
        // As another program's server answers: `200 BODY`, `404` or nothing at all.
        let other = fs::read_to_string(program.with_file_name("other-health")).ok();
        let body = if let Some(other) = other.filter(|_| request.starts_with("GET /health")) {
            let (code, body) = other.split_once(' ').unwrap_or((&other, ""));
            status = match code {
                "200" => "200 OK",
                "404" => "404 Not Found",
                _ => continue,
            };
            body.to_owned()
        } else if request.starts_with("GET /v1/models") {
            r#"{"object":"list","data":[{"id":"m"}]}"#.to_owned()
        } else if request.starts_with("GET /health") {
            format!(
                r#"{{"status":"{phase}","phase":"{phase}","in_flight":0,"queued":0,"progress":1,"progress_age_seconds":0}}"#
            )
        } else if request.starts_with("GET /metrics") {
            let page = "sanctum_auth_total{method=\"loopback\",outcome=\"granted\"} 7\n";
            fs::read_to_string(program.with_file_name("other-metrics")).unwrap_or(page.to_owned())
        } else {
            format!(r#"{{"choices":[{{"message":{{"content":"{sum}"}},"finish_reason":"stop"}}]}}"#)
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}
