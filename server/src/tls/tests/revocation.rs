//! Lists of revoked certificates.

use std::fs;

use super::pki::{Pki, a_moment, connect, refusal};
use crate::tls::TlsServer;

#[tokio::test(start_paused = true)]
async fn revoked_client_is_not_trusted_and_another_still_is() {
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let pair = pki.client("canary", 8);
    let (canary, _stream) = connect(&tls, Some(&pair)).await.unwrap();
    let (other, _stream) = connect(&tls, Some(&pki.client("drift", 9))).await.unwrap();
    pki.revoke(&[8]);
    a_moment().await;
    assert!(!canary.is_trusted());
    assert!(other.is_trusted());
    assert_eq!(refusal(&tls, &pair).await.0, "revoked");
}

/// As `cp -p` and `rsync -t --inplace` leave it.
#[tokio::test(start_paused = true)]
async fn list_of_the_same_size_and_time_is_read_again() {
    let pki = Pki::new();
    pki.revoke(&[9]);
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let pair = pki.client("canary", 8);
    let (canary, _stream) = connect(&tls, Some(&pair)).await.unwrap();
    let path = pki.files().crl.path().to_owned();
    let before = fs::metadata(&path).unwrap();
    // Signatures differ in length now and then.
    let list = std::iter::repeat_with(|| pki.list(&[8], 4000))
        .find(|list| list.len() as u64 == before.len())
        .unwrap();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, list.as_bytes()).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    a_moment().await;
    assert!(!canary.is_trusted());
}

#[tokio::test]
async fn expired_list_stays_in_force() {
    let pki = Pki::new();
    pki.write("ca.crl", &pki.list(&[8], 2022));
    let tls = TlsServer::read(pki.files()).unwrap();
    assert!(connect(&tls, Some(&pki.client("good", 7))).await.is_ok());
    assert_eq!(refusal(&tls, &pki.client("bad", 8)).await.0, "revoked");
}

#[tokio::test]
async fn newer_of_two_lists_of_one_ca_counts() {
    let pki = Pki::new();
    let (older, newer) = (pki.numbered(&[], 4000, 255), pki.numbered(&[8], 4000, 256));
    for text in [format!("{older}{newer}"), format!("{newer}{older}")] {
        pki.write("ca.crl", &text);
        let tls = TlsServer::read(pki.files()).unwrap();
        assert_eq!(refusal(&tls, &pki.client("bad", 8)).await.0, "revoked");
    }
}

#[tokio::test]
async fn older_list_is_refused() {
    let pki = Pki::new();
    pki.write("ca.crl", &pki.numbered(&[8], 4000, 2));
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let (bad, good) = (pki.client("bad", 8), pki.client("good", 7));
    pki.write("ca.crl", &pki.numbered(&[], 4000, 1));
    a_moment().await;
    assert_eq!(refusal(&tls, &bad).await.0, "revoked");
    assert!(connect(&tls, Some(&good)).await.is_ok());
    // A newer one may.
    pki.write("ca.crl", &pki.numbered(&[], 4000, 3));
    a_moment().await;
    assert!(connect(&tls, Some(&bad)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn ca_that_had_a_list_needs_one_while_it_is_trusted() {
    let (old, new) = (Pki::named("old CA", (2020, 4000)), Pki::new());
    let both = format!("{}{}", old.ca_pem, new.ca_pem);
    let (olds, news) = (old.list(&[8], 4000), new.list(&[], 4000));
    old.write("ca.crt", &both);
    old.write("ca.crl", &format!("{olds}{news}"));
    let tls = TlsServer::read(old.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let revoked = old.client("bad", 8);
    // Still the list of a CA that is trusted, only not of every one.
    old.write("ca.crl", &news);
    a_moment().await;
    assert_eq!(refusal(&tls, &revoked).await.0, "revoked");
    // The CA goes, and its list with it.
    old.write("ca.crt", &new.ca_pem);
    a_moment().await;
    assert_eq!(refusal(&tls, &revoked).await.0, "unknown_ca");
    assert!(connect(&tls, Some(&new.client("a", 7))).await.is_ok());
}
