//! OpenSSL accepts what is good and refuses what is not. Where there is no `openssl`, these tests say so and pass.

use std::process::Command;

use crate::{Desk, PkiOutput};

impl Desk {
    /// `openssl` with words, in this folder.
    fn openssl(&self, words: &str) -> PkiOutput {
        let output = Command::new("openssl")
            .current_dir(self.0.path())
            .args(words.split_whitespace())
            .output()
            .expect("openssl starts");
        PkiOutput::of(output)
    }

    fn verify(&self, purpose: &str, certificate: &str) -> PkiOutput {
        self.openssl(&format!(
            "verify -x509_strict -CAfile home/certs/ca.crt -CRLfile home/certs/ca.crl -crl_check -purpose {purpose} \
             home/certs/{certificate}.crt"
        ))
    }

    fn accepts(&self, purpose: &str, certificate: &str) {
        let said = self.verify(purpose, certificate);
        assert!(said.ok, "{certificate}: {}{}", said.out, said.err);
    }

    fn refuses(&self, purpose: &str, certificate: &str, why: &str) {
        let said = self.verify(purpose, certificate);
        assert!(
            !said.ok && said.err.contains(why),
            "{certificate}: {}{}",
            said.out,
            said.err
        );
    }

    /// The revocation list as text; its signature is checked on the way.
    fn crl(&self) -> String {
        let said = self.openssl("crl -in home/certs/ca.crl -CAfile home/certs/ca.crt -text -noout");
        assert!(said.ok && said.err.contains("verify OK"), "{}", said.err);
        said.out
    }
}

fn missing() -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        println!("skipped: there is no openssl here");
    }
    missing
}

#[test]
fn what_a_fleet_needs_is_accepted_for_its_own_side_only() {
    if missing() {
        return;
    }
    let desk = Desk::set_up();
    for server in ["server", "shadow"] {
        desk.accepts("sslserver", server);
        desk.refuses("sslclient", server, "unsuitable certificate purpose");
    }
    for client in ["clients/guardian", "clients/canary", "clients/offbox"] {
        desk.accepts("sslclient", client);
        desk.refuses("sslserver", client, "unsuitable certificate purpose");
    }
    let text = |name: &str| {
        desk.openssl(&format!("x509 -in home/certs/{name}.crt -text -noout"))
            .out
    };
    let ca = text("ca");
    for part in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
        "prime256v1",
    ] {
        assert!(ca.contains(part), "{part}: {ca}");
    }
    let server = text("server");
    for part in [
        "CA:FALSE",
        "TLS Web Server Authentication",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
        "Digital Signature",
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "IP Address:0:0:0:0:0:0:0:1",
        "IP Address:100.64.0.25",
        "IP Address:100.64.0.26",
        "IP Address:FD00:0:0:0:0:0:0:25",
    ] {
        assert!(server.contains(part), "{part}: {server}");
    }
    assert!(
        !server.contains("0.0.0.0") && !server.contains("Client Auth"),
        "{server}"
    );
    let shadow = text("shadow");
    assert!(
        shadow.contains("DNS:laptop.example") && !shadow.contains("0:0:0:0:0:0:0:0"),
        "{shadow}"
    );
    let crl = desk.crl();
    assert!(crl.contains("No Revoked Certificates"), "{crl}");
    let key = desk.openssl("pkey -in home/certs/server.key -noout -check");
    assert!(key.ok, "{}", key.err);
}

#[test]
fn who_is_revoked_stays_out_until_renewed_and_no_revocation_is_forgotten() {
    if missing() {
        return;
    }
    let desk = Desk::set_up();
    // A stolen copy of the first certificate, which the second replaces without revoking it.
    let stolen = desk.read("home/certs/clients/canary.crt");
    std::fs::write(desk.path("home/stolen.crt"), &stolen).unwrap();
    desk.done("renew canary");
    desk.accepts("sslclient", "clients/canary");
    desk.accepts("sslclient", "../stolen");
    let said = desk.done("revoke canary --reason key-compromise");
    assert_eq!(said.matches("is revoked").count(), 2, "{said}");
    desk.refuses("sslclient", "clients/canary", "certificate revoked");
    desk.refuses("sslclient", "../stolen", "certificate revoked");
    desk.accepts("sslclient", "clients/guardian");
    desk.accepts("sslserver", "server");
    let crl = desk.crl();
    assert!(crl.contains("Key Compromise") && number(&crl) == 2, "{crl}");

    // fleet does not undo it; renew does, for the new certificate only.
    assert!(desk.done("fleet").contains("client canary: left"));
    desk.refuses("sslclient", "clients/canary", "certificate revoked");
    desk.done("renew canary");
    desk.accepts("sslclient", "clients/canary");
    desk.refuses("sslclient", "../stolen", "certificate revoked");

    // The ledger is lost: the list remembers, and the next one still has a higher number.
    std::fs::remove_file(desk.path("home/certs/ledger.json")).unwrap();
    desk.done("revoke guardian");
    desk.refuses("sslclient", "clients/guardian", "certificate revoked");
    desk.refuses("sslclient", "../stolen", "certificate revoked");
    desk.accepts("sslclient", "clients/canary");
    assert_eq!(number(&desk.crl()), 3);
    // The list is lost: the ledger remembers.
    std::fs::remove_file(desk.path("home/certs/ca.crl")).unwrap();
    desk.done("crl --days 7");
    desk.refuses("sslclient", "clients/guardian", "certificate revoked");
    desk.refuses("sslclient", "../stolen", "certificate revoked");
    assert_eq!(number(&desk.crl()), 4);
}

#[test]
fn one_certificate_is_revoked_by_its_number() {
    if missing() {
        return;
    }
    let desk = Desk::set_up();
    let serial = desk
        .openssl("x509 -in home/certs/clients/canary.crt -serial -noout")
        .out;
    let serial = serial.trim().trim_start_matches("serial=");
    desk.done(&format!("revoke --serial {serial}"));
    desk.refuses("sslclient", "clients/canary", "certificate revoked");
    let unknown = desk.done("revoke --serial 01:02:03");
    assert!(unknown.contains("the ledger does not have it"), "{unknown}");
    let crl = desk.crl();
    assert!(crl.contains("Serial Number: 010203"), "{crl}");
}

#[test]
fn two_cas_overlap_until_the_rotation_is_finished() {
    if missing() {
        return;
    }
    let desk = Desk::set_up();
    desk.done("revoke offbox");
    let old = desk.read("home/certs/clients/canary.crt");
    std::fs::write(desk.path("home/old.crt"), &old).unwrap();
    assert!(
        desk.refused("rotate-ca --finish")
            .contains("no CA is being replaced")
    );

    desk.done("rotate-ca");
    // Both generations are trusted, and the former one's revocations hold.
    desk.accepts("sslclient", "clients/canary");
    desk.accepts("sslserver", "server");
    desk.refuses("sslclient", "clients/offbox", "certificate revoked");
    assert!(desk.refused("rotate-ca").contains("already being replaced"));
    assert!(desk.refused("rotate-ca --finish").contains("still in use"));
    assert!(
        desk.done("fleet")
            .contains("signed by the former CA; next: sanctum-pki renew --all")
    );
    assert_eq!(crate::mode(&desk.path("home/certs/ca-old.key")), 0o600);

    let said = desk.done("renew --all --within 30d");
    assert!(said.contains("client offbox: left (revoked"), "{said}");
    for (purpose, name) in [
        ("sslclient", "clients/canary"),
        ("sslclient", "../old"),
        ("sslserver", "server"),
    ] {
        desk.accepts(purpose, name);
    }
    // While they overlap, each list is signed by its own CA.
    desk.done("revoke guardian");
    desk.refuses("sslclient", "clients/guardian", "certificate revoked");
    desk.refuses("sslclient", "clients/offbox", "certificate revoked");
    assert_eq!(
        String::from_utf8(desk.read("home/certs/ca.crl"))
            .unwrap()
            .matches("BEGIN X509 CRL")
            .count(),
        2
    );
    assert!(
        desk.done("renew --all --within 30d")
            .contains("client canary: left (36")
    );

    desk.done("rotate-ca --finish");
    desk.accepts("sslclient", "clients/canary");
    desk.accepts("sslserver", "server");
    desk.refuses(
        "sslclient",
        "../old",
        "unable to get local issuer certificate",
    );
    desk.refuses("sslclient", "clients/guardian", "certificate revoked");
    for gone in ["ca-old.key", "ca-old.crt"] {
        assert!(!desk.path("home/certs").join(gone).exists(), "{gone}");
    }
    desk.done("rotate-ca");
    desk.accepts("sslclient", "clients/canary");
}

#[test]
fn certificate_has_the_requested_validity() {
    if missing() {
        return;
    }
    let desk = Desk::set_up();
    desk.done("client late --not-before 2020-01-01 --days 1");
    desk.refuses("sslclient", "clients/late", "certificate has expired");
    desk.done("client early --not-before 2030-01-01T12:00:00Z --days 1");
    desk.refuses("sslclient", "clients/early", "certificate is not yet valid");
    let table = desk.done("list");
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("late") && line.contains("expired")),
        "{table}"
    );
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("early") && line.contains("not yet valid")),
        "{table}"
    );
    desk.done("renew late early");
    desk.accepts("sslclient", "clients/late");
    desk.accepts("sslclient", "clients/early");
}

fn number(crl: &str) -> u64 {
    let mut lines = crl
        .lines()
        .skip_while(|line| !line.contains("X509v3 CRL Number"));
    let number = lines
        .nth(1)
        .map(str::trim)
        .and_then(|digits| digits.parse().ok());
    number.unwrap_or_else(|| panic!("no number: {crl}"))
}
