//! The walk of docs/install.md: from nothing to a rolled-back agent, with the commands of that page on two hosts that have nothing, each
//! with its own network, home and launchd, and a real sshd on the one that serves.
//!
//! `SANCTUM_WALK=FILE` writes everything that the commands print, with their times. With `SANCTUM_WALK_OUTAGE=1` the test also waits for the
//! notification that the host which serves is dead, which takes `every` times `misses`: ten minutes.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sanctum_tests::{program, skipped};
use tempfile::TempDir;

use crate::host::{Host, said};
use crate::offbox::desktop::Desktop;
use crate::offbox::network::{LAPTOP, MINI, Network};
use crate::sshd::{SSHD, Sshd};

const PAGE: &str = include_str!("../../docs/install.md");
const SECTION: &str = "## From nothing to a rolled-back agent";

/// The addresses of the page.
const SHOWN: [(&str, &str); 2] = [("192.0.2.25", MINI), ("192.0.2.55", LAPTOP)];

/// A command of the page and the lines of its output that the page shows.
struct WalkCommand {
    line: String,
    output: Vec<String>,
}

/// The commands of the section's first block.
fn commands() -> Vec<WalkCommand> {
    let (_, section) = PAGE.split_once(SECTION).expect("the section is there");
    let (_, block) = section.split_once("```console\n").expect("it has a block");
    let (block, _) = block.split_once("\n```").expect("the block ends");
    let mut commands: Vec<WalkCommand> = Vec::new();
    for line in block.lines() {
        let line = SHOWN.iter().fold(line.to_owned(), |line, (shown, real)| {
            line.replace(shown, real)
        });
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(WalkCommand {
                line: command.to_owned(),
                output: Vec::new(),
            }),
            (None, Some(command)) => command.output.push(line),
            (None, None) => panic!("{line} follows no command"),
        }
    }
    commands
}

/// Whether a line of the page is in an output. `…` is any text.
fn is_in(shown: &str, output: &str) -> bool {
    output.lines().any(|line| {
        let mut rest = line;
        shown.split('…').all(|part| match rest.find(part.trim()) {
            Some(at) => {
                rest = &rest[at + part.trim().len()..];
                true
            }
            None => false,
        })
    })
}

/// The two hosts.
struct WalkHosts {
    network: Network,
    mini: Host,
    laptop: Host,
    desktop: Desktop,
    sshd: Sshd,
    programs: PathBuf,
    _folder: TempDir,
}

impl WalkHosts {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return skipped("root, for network namespaces and sshd");
        }
        let network = match Network::new() {
            Ok(network) => network,
            Err(error) => return skipped(&format!("network namespaces ({error})")),
        };
        let folder = TempDir::new().unwrap();
        let host = |name: &str| {
            let home = folder.path().join(name);
            fs::create_dir(&home).unwrap();
            let launchctl = folder.path().join(format!("launchctl-{name}"));
            let command = network.command(name, program("launchctl").to_str().unwrap());
            script(&launchctl, &format!("exec {} \"$@\"", shell(&command)));
            Host::with_launchctl(&home, &launchctl)
        };
        let (mini, laptop) = (host("mini"), host("laptop"));
        let environment = mini.launchd.environment();
        let environment =
            environment.map(|(name, value)| (name.to_owned(), value.display().to_string()));
        let sshd = network.command("mini", SSHD);
        let sshd = Sshd::start_at((MINI, 22), sshd, mini.home(), &environment)?;
        let desktop = Desktop::new(folder.path());
        laptop.set_variable("DBUS_SESSION_BUS_ADDRESS", desktop.address());
        laptop.set_variable("SANCTUM_SSH", sshd.client().to_str().unwrap());
        // What the reader has: the programs in the PATH, two releases, and a program that can serve in the server's place.
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for name in ["sanctum-launchd", "sanctum-pki"] {
            symlink(program(name), programs.join(name)).unwrap();
        }
        symlink(sshd.client(), programs.join("ssh")).unwrap();
        for version in ["0.1.0", "0.2.0"] {
            laptop.release_of_scripts(version, "exec \"$SERVER\" \"$@\"");
            fs::rename(
                laptop.path(version),
                laptop.path(&format!("sanctum-{version}")),
            )
            .unwrap();
        }
        fs::create_dir(mini.path("bin")).unwrap();
        symlink(program("sanctum-server"), mini.path("bin/other-server")).unwrap();
        Some(Self {
            network,
            mini,
            laptop,
            desktop,
            sshd,
            programs,
            _folder: folder,
        })
    }

    /// Runs a line in the laptop's shell.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let mut command = self.network.command("laptop", "/bin/sh");
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.programs.display());
        command
            .args(["-c", line])
            .current_dir(self.laptop.home())
            .env_clear()
            .env("HOME", self.laptop.home())
            .env("PATH", path)
            .env("SANCTUM_SSH", self.sshd.client())
            .env("DBUS_SESSION_BUS_ADDRESS", self.desktop.address())
            .envs(self.laptop.launchd.environment())
            .stdin(Stdio::null());
        said(command.output().unwrap())
    }

    /// Cuts the power of the host that serves until the laptop has shown that it is dead, and then that it is back.
    fn outage(&self, record: &mut String) {
        const LONG: Duration = Duration::from_secs(15 * 60);
        let begun = Instant::now();
        self.mini.power_off();
        for title in [
            "server on mini fails its check",
            "recovered: server on mini fails its check",
        ] {
            while self.desktop.shown().iter().all(|one| one.title != title) {
                assert!(begun.elapsed() < 2 * LONG, "{:#?}", self.desktop.shown());
                std::thread::sleep(Duration::from_millis(200));
            }
            let _ = writeln!(
                record,
                "# after {:.0} s: {title}",
                begun.elapsed().as_secs_f64()
            );
            if !title.starts_with("recovered") {
                self.mini.power_on();
            }
        }
    }
}

#[test]
fn walk_of_the_page_leads_from_nothing_to_a_rolled_back_agent() {
    let commands = commands();
    assert!(
        (10..=15).contains(&commands.len()),
        "{} commands",
        commands.len()
    );
    let Some(hosts) = WalkHosts::new() else {
        return;
    };
    let (mut record, mut total) = (String::new(), Duration::ZERO);
    for WalkCommand { line, output } in &commands {
        // A reader has read `status` before the next command: by then, the first round of each watchdog is over.
        if line == "sanctum-launchd status" {
            hosts.mini.all_well(&["guardian", "canary", "drift"]);
            hosts.laptop.all_well(&["canary-offbox", "drift-offbox"]);
        }
        let begun = Instant::now();
        let (code, out) = hosts.run(line);
        let took = begun.elapsed();
        total += took;
        let _ = writeln!(record, "$ {line}\n{out}# {:.1} s", took.as_secs_f64());
        if let Some(file) = std::env::var_os("SANCTUM_WALK") {
            fs::write(file, format!("{record}# {:.1} s\n", total.as_secs_f64())).unwrap();
        }
        assert_eq!(code, Some(0), "{line}: {out}");
        for shown in output {
            assert!(
                is_in(shown, &out),
                "`{line}` does not print `{shown}`:\n{out}"
            );
        }
        if line.starts_with("sanctum-launchd alert test") {
            let shown = hosts.desktop.shown();
            assert!(
                shown.iter().any(|one| one.title.starts_with("test alert")),
                "{shown:#?}"
            );
            if std::env::var_os("SANCTUM_WALK_OUTAGE").is_some() {
                hosts.outage(&mut record);
            }
        }
    }
    // The other program serves, and the guardian watches it.
    hosts.mini.wait("a guardian that follows", |mini| {
        mini.verdict("guardian").starts_with("ok: standby answers")
    });
}

/// A command as a line for the shell.
fn shell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
    words.join(" ")
}

fn script(path: &Path, line: &str) {
    fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
