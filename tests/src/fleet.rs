//! A fleet of one server as an operator sets it up: fleet.toml, and the files that the real `sanctum-pki` makes from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::{Process, Server, binary};

/// A folder with fleet.toml and the fleet's home; dropping this removes it.
pub struct Fleet {
    folder: TempDir,
}

impl Fleet {
    /// Writes fleet.toml with these additional lines about the server, and makes its CA, certificates, token and a client
    /// `canary`. The server listens on a free port of loopback.
    ///
    /// # Panics
    /// If `sanctum-pki` fails.
    pub fn set_up(server: &str) -> Self {
        let fleet = Self {
            folder: TempDir::new().expect("a temporary folder"),
        };
        let text = format!(
            "[fleet]\nhome = \"home\"\n\
             [hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"canary\"]\n\
             [watch.canary]\ntarget = \"server\"\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:0\"]\n\
             auth = {{ token_file = \"home/secrets/server.token\" }}\n{server}\n"
        );
        fs::write(fleet.path("fleet.toml"), text).expect("it is ours");
        for command in ["init", "fleet", "token server"] {
            fleet.pki(command);
        }
        fleet
    }

    /// A path in its folder: `fleet.toml`, or `home/…`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key, by their path under `home/certs` without the extension.
    pub fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |ending| self.path(&format!("home/certs/{name}.{ending}"));
        (file("crt"), file("key"))
    }

    /// The server's bearer token.
    pub fn token(&self) -> String {
        let text = fs::read_to_string(self.path("home/secrets/server.token"));
        text.expect("`token` was run").trim().to_owned()
    }

    /// Runs `sanctum-pki` with these arguments and returns its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn pki(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "sanctum-pki {words}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `sanctum-pki` with arguments that it must refuse, and returns its error.
    ///
    /// # Panics
    /// If it does not exit with 1.
    pub fn pki_refuses(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "sanctum-pki {words}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn run(&self, words: &str) -> Output {
        Command::new(binary::pki())
            .args(["--config", "fleet.toml"])
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the executable runs")
    }

    /// The arguments that make `sanctum-server` serve it.
    pub fn args(&self) -> [PathBuf; 2] {
        [Path::new("--config").to_owned(), self.path("fleet.toml")]
    }

    /// Starts the server.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn serve(&self) -> Server {
        Server::ready(Process::launch(self.args())).await
    }
}
