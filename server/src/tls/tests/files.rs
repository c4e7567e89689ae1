//! Files that cannot be used at the start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::pki::{Pki, block, problem};
use crate::tls::{CrlPath, TlsError, TlsFiles, TlsServer};

#[test]
fn fifo_in_place_of_a_file_is_an_error_at_start() {
    let pki = Pki::new();
    let files = pki.files();
    for path in [&files.certificate, &files.key, &files.ca, files.crl.path()] {
        let text = fs::read_to_string(path).unwrap();
        block(path);
        let error = problem(&files);
        assert!(
            error.contains("a FIFO") && error.contains(&path.display().to_string()),
            "{error}"
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        pki.write(name, &text);
    }
    assert!(TlsServer::read(files).is_ok());
}

#[test]
fn error_of_a_file_has_the_fix() {
    let pki = Pki::new();
    let files = pki.files();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = problem(&files);
    assert!(
        error.contains("0640") && error.contains("chmod 600"),
        "{error}"
    );
    pki.write("s.key", &pki.server(3).key);
    assert!(matches!(
        TlsServer::read(files.clone()),
        Err(TlsError::Mismatch { .. })
    ));
    pki.write("s.key", &pki.ca_pem);
    assert!(problem(&files).contains("private key"));
    pki.install(&pki.server(3));
    pki.write("ca.crt", &pki.client("a", 2).certificate);
    assert!(problem(&files).contains("is not a CA"));
    pki.write("ca.crt", &pki.ca_pem);
    pki.write("s.crt", "");
    assert!(problem(&files).contains("no certificate in it"));
    pki.install(&pki.server(4));
    fs::remove_file(files.crl.path()).unwrap();
    assert!(
        TlsServer::read(files.clone()).is_ok(),
        "the list was not named"
    );
    let named = TlsFiles {
        crl: CrlPath::Named(files.crl.path().to_owned()),
        ..files.clone()
    };
    assert!(problem(&named).contains("--tls-crl"));
    fs::remove_file(&files.certificate).unwrap();
    assert!(problem(&files).contains("--tls-cert"));
}

#[test]
fn damaged_file_never_panics() {
    use proptest::test_runner::{Config, TestRunner};
    let pki = Pki::new();
    let files = pki.files();
    let texts = ["s.crt", "s.key", "ca.crt", "ca.crl"].map(|name| {
        let path = pki.folder.path().join(name);
        (name, fs::read(path).unwrap())
    });
    let config = Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    };
    let spoil = (
        0..4usize,
        proptest::prelude::any::<(proptest::sample::Index, u8)>(),
    );
    TestRunner::new(config)
        .run(&spoil, |(which, (at, byte))| {
            let (name, text) = &texts[which];
            let mut spoilt = text.clone();
            let at = at.index(spoilt.len());
            spoilt[at] = byte;
            let path = pki.folder.path().join(name);
            fs::write(&path, &spoilt).unwrap();
            // Either verdict is right; what counts is that there is one.
            let _ = crate::tls::material::Material::read(&files);
            fs::write(&path, text).unwrap();
            Ok(())
        })
        .unwrap();
    assert!(TlsServer::read(files).is_ok());
}
