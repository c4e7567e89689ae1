//! A real mail server on loopback: `tests/smtp/server.py`, with a certificate of its own authority.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::SOON;

/// How its clients encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailTls {
    Implicit,
    Starttls,
}

/// The server, its files, and the mails that it has accepted.
pub(super) struct MailServer {
    tls: MailTls,
    port: u16,
    folder: PathBuf,
    process: Option<Child>,
    accepted: Arc<Mutex<Vec<Value>>>,
}

const PASSWORD: &str = "smtp-secret";

impl MailServer {
    /// Starts one; its files are in `folder`. None if aiosmtpd is not installed; with `SANCTUM_TESTS_WHOLE=1` the test fails
    /// then.
    pub(super) fn start(folder: &Path, tls: MailTls) -> Option<Self> {
        let packages = packages();
        if !packages.join("aiosmtpd").is_dir() {
            return sanctum_tests::skipped(
                "aiosmtpd; run: python3 -m pip install --require-hashes --target target/smtp -r tests/smtp/requirements.txt",
            );
        }
        certificates(folder);
        secret(&folder.join("smtp.password"), PASSWORD);
        let mut server = Self {
            tls,
            port: 0,
            folder: folder.to_owned(),
            process: None,
            accepted: Arc::default(),
        };
        server.resume();
        Some(server)
    }

    /// The section of fleet.toml that makes it the channel `mail`, with more lines.
    pub(super) fn section(&self, more: &str) -> String {
        let tls = match self.tls {
            MailTls::Implicit => "implicit",
            MailTls::Starttls => "starttls",
        };
        let folder = self.folder.display();
        format!(
            "[alerts.mail]\nkind = \"email\"\nserver = \"localhost:{}\"\ntls = \"{tls}\"\nfrom = \"sanctum@example.com\"\n\
             to = [\"oncall@example.com\"]\nuser = \"sanctum\"\npassword_file = \"{folder}/smtp.password\"\n\
             ca_file = \"{folder}/ca.crt\"\n{more}\n",
            self.port
        )
    }

    /// Ends the process: connections are refused.
    pub(super) fn pause(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it at its port.
    pub(super) fn resume(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("smtp/server.py");
        let tls = match self.tls {
            MailTls::Implicit => "implicit",
            MailTls::Starttls => "starttls",
        };
        let mut process = Command::new("python3")
            .arg(script)
            .args(["--tls", tls, "--password", PASSWORD, "--cert"])
            .arg(self.folder.join("mail.crt"))
            .arg("--key")
            .arg(self.folder.join("mail.key"))
            .args(["--port", &self.port.to_string()])
            .env("PYTHONPATH", packages())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 runs");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let port = said.next().expect("it prints its port").unwrap();
        self.port = port.trim().parse().expect("a port");
        let accepted = Arc::clone(&self.accepted);
        std::thread::spawn(move || {
            for line in said.map_while(Result::ok) {
                let mail = serde_json::from_str(&line).expect("a mail");
                accepted.lock().unwrap().push(mail);
            }
        });
        self.process = Some(process);
        TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
    }

    /// The accepted mails, in order.
    pub(super) fn accepted(&self) -> Vec<Value> {
        self.accepted.lock().unwrap().clone()
    }

    /// Waits until it has accepted this many mails.
    #[track_caller]
    pub(super) fn wait(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let mails = self.accepted();
            if mails.len() >= count {
                return mails;
            }
            assert!(
                begun.elapsed() < SOON,
                "waited for {count} mails; there are {mails:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Writes a file that only its owner can read.
pub(super) fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Where `.ci/run` installs the server's packages.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/smtp")
}

/// Writes `ca.crt`, and `mail.crt` and `mail.key` for localhost.
fn certificates(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&own, &issuer).unwrap();
    fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
    fs::write(folder.join("mail.crt"), leaf.pem()).unwrap();
    secret(&folder.join("mail.key"), &own.serialize_pem());
}
