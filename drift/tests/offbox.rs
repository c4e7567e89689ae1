//! Drift from another host, with a stand-in for ssh that runs the line here: what would be the other host is a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sanctum_config::Digest;
use sanctum_host::{Artefact, ArtefactKind, InstalledAgent, Receipt};
use serde_json::Value;
use tempfile::TempDir;

struct OffboxFixture {
    folder: TempDir,
}

impl OffboxFixture {
    /// A laptop with a copy of the receipt of `mini`, whose files lie in `mini/`.
    fn new() -> Self {
        let laptop = Self {
            folder: TempDir::new().unwrap(),
        };
        laptop.fleet("");
        let ssh = "#!/bin/sh\n\
            [ \"$1 $2 $3 $4 $5\" = '-o BatchMode=yes -o ConnectTimeout=5 --' ] || exit 64\n\
            [ -e \"${0%/*}/gone\" ] && { echo 'ssh: connect to host mini port 22: No route to host' >&2; exit 255; }\n\
            [ -e \"${0%/*}/refuses\" ] && { cat \"${0%/*}/refuses\" >&2; exit 255; }\n\
            [ \"$6\" = ada@mini ] || exit 65\n\
            echo \"$7\" >> \"${0%/*}/told\"\n\
            [ -e \"${0%/*}/strange\" ] && { echo 'This account is currently not available.'; exit 1; }\n\
            exec sh -c \"$7\"\n";
        write(&laptop.at("ssh"), ssh, 0o755);
        let mut artefacts = Vec::new();
        for (name, kind, mode) in [
            ("home/bin/sanctum-server", ArtefactKind::Binary, 0o755),
            ("home/fleet.toml", ArtefactKind::Fleet, 0o644),
            (
                "Library/LaunchAgents/com.sanctum.server.plist",
                ArtefactKind::Plist,
                0o644,
            ),
        ] {
            let path = laptop.at("mini").join(name);
            write(&path, name, mode);
            let sha256 = Digest::of(name.as_bytes());
            artefacts.push(Artefact {
                path,
                sha256,
                mode,
                kind,
            });
        }
        let receipt = Receipt {
            host: "mini".parse().unwrap(),
            release: "1".into(),
            previous: None,
            installed: "2026-04-18T03:00:00Z".into(),
            fleet_sha256: Digest::of(b"home/fleet.toml"),
            agents: vec![InstalledAgent {
                name: "server".parse().unwrap(),
                label: "com.sanctum.server".into(),
                plist: artefacts[2].path.clone(),
                enabled: true,
            }],
            artefacts,
        };
        receipt.write(&laptop.copy()).unwrap();
        laptop
    }

    fn fleet(&self, more: &str) {
        let text = format!(
            "[fleet]\nhome = \"{}\"\n\
             [hosts.mini]\naddress = \"100.64.0.25\"\nssh = \"ada@mini\"\nagents = [\"server\"]\n\
             [hosts.laptop]\naddress = \"100.64.0.55\"\nagents = [\"drift-offbox\"]\n\
             [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1337\"]\n\
             [watch.drift-offbox]\ncheck = \"drift\"\nevery = \"1h\"\n{more}",
            self.at("laptop").display()
        );
        fs::write(self.at("fleet.toml"), text).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The laptop's own copy of the receipt.
    fn copy(&self) -> PathBuf {
        self.at("laptop/state/receipts/mini.json")
    }

    fn mini(&self, name: &str) -> PathBuf {
        self.at("mini").join(name)
    }

    /// `--once --json`: the exit code and the output.
    fn once(&self) -> (i32, Value) {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_sanctum-drift"))
            .args(["--once", "--json", "--name", "drift-offbox", "--config"])
            .arg(self.at("fleet.toml"))
            .env("HOME", self.at("laptop"))
            .env("SANCTUM_SSH", self.at("ssh"))
            .output()
            .unwrap();
        let said = serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
        (status.code().unwrap(), said)
    }

    /// The kinds and subjects of the findings.
    fn found(&self) -> Vec<(String, String)> {
        let (_, said) = self.once();
        let findings = said["findings"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mini = format!("mini:{}/", self.at("mini").display());
        findings
            .iter()
            .map(|one| (text(&one["kind"]), text(&one["subject"]).replace(&mini, "")))
            .collect()
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn pair(kind: &str, subject: &str) -> (String, String) {
    (kind.to_owned(), subject.to_owned())
}

#[test]
fn other_host_is_compared_with_the_local_copy_of_its_receipt() {
    let laptop = OffboxFixture::new();
    let (code, said) = laptop.once();
    assert_eq!((code, &said["kind"]), (0, &"ok".into()), "{said}");
    let told = fs::read_to_string(laptop.at("told")).unwrap();
    assert_eq!(told.lines().count(), 1, "one connection");
    assert!(!told.contains("sanctum-launchd"), "{told}");

    write(&laptop.mini("home/bin/sanctum-server"), "replaced", 0o755);
    assert_eq!(laptop.found(), [pair("changed", "home/bin/sanctum-server")]);
    let (code, said) = laptop.once();
    assert_eq!(code, 1);
    let text = said["message"].as_str().unwrap();
    assert!(
        text.contains(&Digest::of(b"replaced").to_string()),
        "{text}"
    );
    let next = said["next"].as_str().unwrap();
    assert!(
        next.contains("sanctum-launchd receipt --host mini --release FOLDER --config "),
        "{next}"
    );

    fs::remove_file(laptop.mini("home/fleet.toml")).unwrap();
    let plist = laptop.mini("Library/LaunchAgents/com.sanctum.server.plist");
    fs::set_permissions(&plist, fs::Permissions::from_mode(0o666)).unwrap();
    write(&laptop.mini("home/certs/ca.key"), "key", 0o600);
    assert_eq!(
        laptop.found(),
        [
            pair("missing", "home/fleet.toml"),
            pair("changed", "home/bin/sanctum-server"),
            pair("mode", "Library/LaunchAgents/com.sanctum.server.plist"),
            pair("forbidden-key", "home/certs/ca.key"),
        ]
    );
}

#[test]
fn unreachable_host_is_busy_and_without_the_reference_offline() {
    let laptop = OffboxFixture::new();
    fs::write(laptop.at("gone"), "").unwrap();
    let (code, said) = laptop.once();
    assert_eq!((code, &said["kind"]), (0, &"busy".into()));
    // It was started with a file that no command finds by itself.
    let file = laptop.at("fleet.toml");
    let next = format!(
        "sanctum-launchd status --host mini --config {}",
        file.display()
    );
    assert_eq!(said["next"], next);
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("No route to host"),
        "{said}"
    );
    laptop.fleet("reference = \"https://reference.invalid\"\n");
    let (code, said) = laptop.once();
    assert_eq!((code, &said["kind"]), (0, &"offline".into()), "{said}");
    fs::remove_file(laptop.at("gone")).unwrap();
    // Another machine has its address, or it no longer accepts this host's key: an alert at once.
    for words in [
        "Host key verification failed.",
        "ada@mini: Permission denied (publickey).",
    ] {
        fs::write(laptop.at("refuses"), words).unwrap();
        let (code, said) = laptop.once();
        assert_eq!((code, &said["kind"]), (1, &"miss".into()), "{said}");
        assert!(said["message"].as_str().unwrap().contains(words), "{said}");
    }
    fs::remove_file(laptop.at("refuses")).unwrap();
    // The output of its tools does not parse.
    fs::write(laptop.at("strange"), "").unwrap();
    let (code, said) = laptop.once();
    assert_eq!(code, 1);
    assert!(
        said["message"].as_str().unwrap().contains("not available"),
        "{said}"
    );
}

#[test]
fn missing_copy_of_the_receipt_is_a_finding() {
    let laptop = OffboxFixture::new();
    fs::remove_file(laptop.copy()).unwrap();
    let (code, said) = laptop.once();
    assert_eq!(code, 1);
    assert_eq!(said["findings"][0]["kind"], "no-receipt");
    assert!(!laptop.at("told").exists(), "ssh was not called");
}

/// Writes a client certificate into the laptop's own home that expires in so many days.
fn certificate(laptop: &OffboxFixture, days: i64) {
    let mut parameters = rcgen::CertificateParams::default();
    let name = &mut parameters.distinguished_name;
    name.push(rcgen::DnType::CommonName, "drift-offbox");
    parameters.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let key = rcgen::KeyPair::generate().unwrap();
    let path = laptop.at("laptop/certs/clients/drift-offbox.crt");
    write(&path, &parameters.self_signed(&key).unwrap().pem(), 0o644);
}

#[test]
fn own_certificate_that_expires_soon_is_reported_with_its_renewal() {
    let laptop = OffboxFixture::new();
    certificate(&laptop, 60);
    assert_eq!(laptop.once().0, 0);
    for (days, problem) in [
        (29, "in less than 30 days"),
        (6, "in less than 7 days"),
        (-1, "expired on"),
    ] {
        certificate(&laptop, days);
        let (code, said) = laptop.once();
        let finding = &said["findings"][0];
        assert_eq!(
            (code, &finding["kind"]),
            (1, &"certificate".into()),
            "{said}"
        );
        let text = finding.to_string();
        assert!(text.contains(problem), "{days}: {text}");
        assert!(text.contains("sanctum-pki renew drift-offbox"), "{text}");
    }
}
