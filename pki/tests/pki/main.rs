//! The program as an operator uses it, and its certificates as OpenSSL judges them.

mod damage;
mod docs;
mod fleet;
mod manifest;
mod openssl;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const FLEET: &str = r#"
[fleet]
name = "test"
[hosts.mini]
address = "100.64.0.25"
agents = ["server", "guardian", "canary"]
[hosts.laptop]
address = "laptop.example"
agents = ["shadow", "offbox"]
[servers.server]
host = "mini"
listen = ["127.0.0.1:1337", "100.64.0.26:1337"]
tls_listen = ["0.0.0.0:1338", "[fd00::25]:1338"]
auth = { token_file = "~/.sanctum/secrets/server.token" }
[servers.shadow]
host = "laptop"
listen = ["[::]:8902"]
[watch.guardian]
target = "server"
[watch.canary]
target = "server"
[watch.offbox]
check = "canary"
target = "server"
"#;

/// A folder with a fleet.toml and a home for the CA.
struct Desk(TempDir);

/// What a command said.
struct PkiOutput {
    ok: bool,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(desk.path("fleet.toml"), FLEET).expect("it is writable");
        desk
    }

    /// With a CA and all that the fleet needs.
    fn set_up() -> Self {
        let desk = Self::new();
        desk.done("init");
        desk.done("fleet");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a command of words.
    fn run(&self, words: &str) -> PkiOutput {
        let output = Command::new(env!("CARGO_BIN_EXE_sanctum-pki"))
            .current_dir(self.0.path())
            .args(["--config", "fleet.toml", "--home", "home"])
            .args(words.split_whitespace())
            // Whatever could be logged would stand where nothing may stand.
            .env("RUST_LOG", "debug")
            .output()
            .expect("the program starts");
        PkiOutput::of(output)
    }

    /// Starts a command of words.
    fn start(&self, words: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_sanctum-pki"))
            .current_dir(self.0.path())
            .args(["--config", "fleet.toml", "--home", "home"])
            .args(words.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Runs a command of words under a umask.
    fn run_with_umask(&self, umask: &str, words: &str) -> PkiOutput {
        let output = Command::new("sh")
            .current_dir(self.0.path())
            .args(["-c", "umask \"$1\" && shift && exec \"$@\"", "sh", umask])
            .arg(env!("CARGO_BIN_EXE_sanctum-pki"))
            .args(["--config", "fleet.toml", "--home", "home"])
            .args(words.split_whitespace())
            .output()
            .expect("the shell starts");
        PkiOutput::of(output)
    }

    /// Runs a command that must succeed.
    fn done(&self, words: &str) -> String {
        let said = self.run(words);
        assert!(said.ok, "{words}: {}", said.err);
        assert_eq!(said.err, "", "{words}");
        said.out
    }

    /// Runs a command that must be refused, in one line.
    fn refused(&self, words: &str) -> String {
        let said = self.run(words);
        assert_eq!(said.code, Some(1), "{words}: {}{}", said.out, said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        said.err
    }

    /// Every file with its mode and contents.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        files(self.0.path(), &mut all);
        all
    }
}

impl PkiOutput {
    fn of(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

fn files(folder: &Path, into: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, into),
            false => {
                let bytes = fs::read(&path).expect("a file");
                into.insert(path.clone(), (mode(&path), bytes));
            }
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}
