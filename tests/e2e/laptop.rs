//! A second host without launchd, from which commands reach a host of a test over a real sshd.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sanctum_config::Digest;
use sanctum_host::Receipt;
use serde_json::Value;

use crate::host::{Host, said};
use crate::sshd::Sshd;

/// The second host. Its home is the folder `laptop` of the first one.
pub(crate) struct Laptop<'a> {
    host: &'a Host,
    sshd: Sshd,
}

impl<'a> Laptop<'a> {
    /// None, and the reason is printed, if there can be no sshd here. Sessions on `host` have these additional variables.
    pub(crate) fn of(host: &'a Host, variables: &[(&str, &str)]) -> Option<Self> {
        let mut environment: Vec<(String, String)> = host
            .launchd
            .environment()
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.display().to_string()))
            .collect();
        for (name, value) in variables {
            environment.push((name.to_string(), value.to_string()));
        }
        let sshd = Sshd::start(&host.path(""), &environment)?;
        fs::create_dir_all(host.path("laptop/.sanctum/state")).unwrap();
        Some(Self { host, sshd })
    }

    /// Gives it a receipt, by which it knows its name.
    pub(crate) fn has_receipt(&self) {
        let receipt = Receipt {
            host: "laptop".parse().unwrap(),
            release: "1".to_owned(),
            previous: None,
            installed: "2026-04-18T03:00:00Z".to_owned(),
            fleet_sha256: Digest::of(b""),
            artefacts: Vec::new(),
            agents: Vec::new(),
        };
        let path = self.host.path("laptop/.sanctum/state/receipt.json");
        receipt.write(&path).unwrap();
    }

    /// A command of its sanctum-launchd, not yet run, with the fleet.toml of the test.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(arguments);
        command.args(["--config", "fleet.toml"]);
        self.here(&mut command);
        command
    }

    /// Gives a command this host's home and ssh.
    pub(crate) fn here(&self, command: &mut Command) {
        command
            .current_dir(self.host.path(""))
            .env("HOME", self.host.path("laptop"))
            .env("SANCTUM_SSH", self.sshd.client());
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let (code, said) = said(self.command(arguments).output().unwrap());
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    /// The program that reaches the first host.
    pub(crate) fn ssh(&self) -> PathBuf {
        self.sshd.client()
    }

    /// A record in its `state/`.
    pub(crate) fn record(&self, name: &str) -> Value {
        let path = format!("laptop/.sanctum/state/{name}.json");
        let record = fs::read(self.host.path(&path)).unwrap_or_default();
        serde_json::from_slice(&record).unwrap_or_default()
    }

    /// A command line for this host's shell, in which `ssh` reaches the first host.
    pub(crate) fn shell(&self, line: &str) -> (Option<i32>, String) {
        let line = line.replacen("ssh ", &format!("{} ", self.sshd.client().display()), 1);
        let mut command = Command::new("sh");
        command.args(["-c", &line]);
        self.here(&mut command);
        said(command.output().unwrap())
    }
}
