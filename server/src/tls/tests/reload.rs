//! Files that change while the server runs.

use std::fs;

use super::pki::{Pki, a_moment, block, connect, refusal};
use crate::tls::TlsServer;

#[tokio::test(start_paused = true)]
async fn fifo_in_place_of_a_file_changes_nothing_while_serving() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = TlsServer::read(pki.files()).unwrap();
    tokio::spawn(tls.clone().follow());
    let (good, revoked) = (pki.client("good", 7), pki.client("bad", 8));
    let files = pki.files();
    for path in [&files.certificate, &files.key, &files.ca, files.crl.path()] {
        let text = fs::read_to_string(path).unwrap();
        block(path);
        a_moment().await;
        let (identity, _stream) = connect(&tls, Some(&good)).await.unwrap();
        assert!(identity.is_trusted(), "{}", path.display());
        assert_eq!(refusal(&tls, &revoked).await.0, "revoked");
        let name = path.file_name().unwrap().to_str().unwrap();
        pki.write(name, &text);
    }
    // What is put right again is read again.
    pki.revoke(&[7, 8]);
    a_moment().await;
    assert_eq!(refusal(&tls, &good).await.0, "revoked");
}

#[tokio::test(start_paused = true)]
async fn renewed_certificate_is_shown_to_the_next_client() {
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let client = pki.client("canary", 8);
    let shown = async || {
        let (identity, stream) = connect(&tls, Some(&client)).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        (identity, chain[0].to_vec())
    };
    let (identity, before) = shown().await;
    pki.install(&pki.server(2));
    a_moment().await;
    let (_, after) = shown().await;
    assert_ne!(before, after);
    assert!(
        identity.is_trusted(),
        "a renewal is no business of clients that are there"
    );
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_used_change_nothing() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let (good, revoked) = (pki.client("good", 7), pki.client("bad", 8));
    let still = async |what: &str| {
        a_moment().await;
        assert!(!tls.reload(), "{what}");
        let (identity, _stream) = connect(&tls, Some(&good)).await.unwrap();
        assert!(identity.is_trusted(), "{what}");
        assert_eq!(refusal(&tls, &revoked).await.0, "revoked", "{what}");
    };
    assert!(tls.reload());
    pki.write("ca.crl", "no list");
    still("a list that is none").await;
    fs::remove_file(pki.files().crl.path()).unwrap();
    still("a list that is gone").await;
    pki.write("ca.crl", &Pki::new().list(&[], 4000));
    still("another CA's list of the same name").await;
    pki.revoke(&[8]);
    pki.write("s.key", &pki.server(3).key);
    still("another certificate's key").await;
    pki.write("ca.crt", "");
    still("no CA").await;
}
