//! The four files, parsed and checked together.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use zeroize::Zeroize;

use super::clients::{Clients, Trusted};
use super::files::{TlsError, TlsFiles};

const DAY: i64 = 86_400;

/// Files that were read together and can be used.
pub(crate) struct Material {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// The clients that are accepted.
    pub clients: Arc<Clients>,
    /// What expires, and when.
    pub terms: Vec<Term>,
    /// Whether there was a list of revoked certificates: one that was read must not be removed.
    pub has_crl: bool,
    /// The CAs and their lists.
    cas: Vec<CaWithList>,
}

/// A CA, and how old its list of revoked certificates is.
struct CaWithList {
    certificate: CertificateDer<'static>,
    subject: String,
    /// None: it has no list.
    age: Option<Age>,
}

/// Which of two lists of one CA is the newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Age {
    /// Its number (RFC 5280, 5.2.3), big endian without leading zeros; pki gives one to every list.
    number: Option<Vec<u8>>,
    /// In seconds since 1970.
    signed: i64,
}

impl Age {
    fn of(list: &CertificateRevocationList<'_>) -> Self {
        Self {
            number: list.crl_number().map(|number| number.to_bytes_be()),
            signed: list.last_update().timestamp(),
        }
    }

    fn is_older_than(&self, other: &Self) -> bool {
        match (&self.number, &other.number) {
            (Some(own), Some(other)) => (own.len(), own) < (other.len(), other),
            _ => self.signed < other.signed,
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.number {
            Some(number) => {
                f.write_str("number 0x")?;
                number.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            None => write!(f, "signed at {} s since 1970", self.signed),
        }
    }
}

/// Something in a file that expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// What it is, with its file.
    pub what: String,
    /// In seconds since 1970.
    pub until: i64,
    /// How long before that it should be renewed, in seconds.
    pub notice: i64,
    /// What happens when it has expired, and the fix.
    pub then: &'static str,
}

/// A CA and the lists that it has signed.
pub(super) struct ParsedCa<'a> {
    der: &'a CertificateDer<'static>,
    parsed: X509Certificate<'a>,
    /// The newest that there is.
    list: Option<(Age, CertificateRevocationListDer<'static>)>,
}

impl<'a> ParsedCa<'a> {
    pub(super) fn new(der: &'a CertificateDer<'static>, parsed: X509Certificate<'a>) -> Self {
        Self {
            der,
            parsed,
            list: None,
        }
    }
}

impl Material {
    /// Reads and checks the files.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut terms = Vec::new();

        let chain: Vec<CertificateDer<'static>> = parse(
            &files.certificate,
            &files.read_certificate()?,
            "certificate",
        )?;
        let own = certificate(&files.certificate, &chain[0])?;
        terms.push(Term {
            what: format!("the server's certificate {}", files.certificate.display()),
            until: own.validity().not_after.timestamp(),
            notice: 7 * DAY,
            then: "clients refuse to connect; renew it with `sanctum-pki renew`",
        });

        let ca_der: Vec<CertificateDer<'static>> =
            parse(&files.ca, &files.read_ca()?, "certificate")?;
        let mut cas = Vec::with_capacity(ca_der.len());
        for der in &ca_der {
            let parsed = certificate(&files.ca, der)?;
            if !parsed.is_ca() {
                let subject = parsed.subject();
                let problem = format!(
                    "`{subject}` is not a CA; the file must contain the certificates that sign those of clients"
                );
                return Err(content(&files.ca, problem));
            }
            terms.push(Term {
                what: format!("the CA `{}` of {}", parsed.subject(), files.ca.display()),
                until: parsed.validity().not_after.timestamp(),
                notice: 30 * DAY,
                then: "its clients are refused; see `sanctum-pki rotate-ca`",
            });
            cas.push(ParsedCa::new(der, parsed));
        }
        let crl = files.read_crl()?;
        let has_crl = crl.is_some();
        if let Some(crl) = crl {
            terms.extend(assign(files.crl.path(), &crl, &mut cas)?);
        }

        let listed = |ca: &ParsedCa<'_>| CaWithList {
            certificate: ca.der.clone(),
            subject: ca.parsed.subject().to_string(),
            age: ca.list.as_ref().map(|(age, _)| age.clone()),
        };
        let all = cas.iter().map(listed).collect();
        let cas = cas.into_iter().map(|ca| Trusted {
            certificate: ca.der.clone(),
            until: unix(ca.parsed.validity().not_after.timestamp()),
            lists: ca.list.map(|(_, list)| list).into_iter().collect(),
        });
        let clients = Clients::new(cas, &provider).map_err(|why| content(&files.ca, why))?;
        let clients = Arc::new(clients);
        Ok(Self {
            config: Arc::new(config(files, chain, clients.clone(), provider)?),
            clients,
            terms,
            has_crl,
            cas: all,
        })
    }

    /// Subjects of CAs that have no list of revoked certificates.
    pub(crate) fn without_list(&self) -> impl Iterator<Item = &str> {
        let without = self.cas.iter().filter(|ca| ca.age.is_none());
        without.map(|ca| ca.subject.as_str())
    }

    /// Refuses a list that is older than the one in force, and files in which a CA has no list any more: revoked clients
    /// would be accepted again.
    pub(crate) fn follows(&self, before: &Self, files: &TlsFiles) -> Result<(), TlsError> {
        for ca in &self.cas {
            let same = |other: &&CaWithList| other.certificate == ca.certificate;
            let former = before.cas.iter().find(same);
            let Some(former) = former.and_then(|former| former.age.as_ref()) else {
                continue;
            };
            let fault = match &ca.age {
                Some(age) if age.is_older_than(former) => {
                    format!(
                        "this list of revoked certificates ({age}) is older than the one in force ({former})"
                    )
                }
                Some(_) => continue,
                None => format!(
                    "the list of revoked certificates of `{}` ({former}) is in force and missing here",
                    ca.subject
                ),
            };
            let fix =
                "copy the newest from the CA's home, or restart the server if this one is meant";
            return Err(content(files.crl.path(), format!("{fault}; {fix}")));
        }
        Ok(())
    }
}

/// Gives each list of revoked certificates to the CA that has signed it. Of several lists of one CA the newest counts:
/// rustls reads only one, and a newer list contains all of an older one.
pub(super) fn assign(
    path: &Path,
    crl: &[u8],
    cas: &mut [ParsedCa<'_>],
) -> Result<Vec<Term>, TlsError> {
    let lists: Vec<CertificateRevocationListDer<'static>> =
        parse(path, crl, "list of revoked certificates (X509 CRL)")?;
    let mut terms = Vec::with_capacity(lists.len());
    for list in lists {
        let (_, parsed) = CertificateRevocationList::from_der(&list).map_err(|error| {
            content(path, format!("not a list of revoked certificates: {error}"))
        })?;
        let issuer = parsed.issuer().to_string();
        let signed_by = |ca: &&mut ParsedCa<'_>| {
            ca.parsed.subject() == parsed.issuer()
                && parsed.verify_signature(ca.parsed.public_key()).is_ok()
        };
        let Some(ca) = cas.iter_mut().find(signed_by) else {
            let problem = format!(
                "the list of `{issuer}` is signed by none of the CAs; copy it together with its ca.crt"
            );
            return Err(content(path, problem));
        };
        if let Some(next) = parsed.next_update() {
            terms.push(Term {
                what: format!("the list of revoked certificates of `{issuer}` in {}", path.display()),
                until: next.timestamp(),
                notice: 3 * DAY,
                then: "it stays in force, but newer revocations may be missing; sign a new one with `sanctum-pki renew`",
            });
        }
        let age = Age::of(&parsed);
        if ca
            .list
            .as_ref()
            .is_none_or(|(have, _)| have.is_older_than(&age))
        {
            ca.list = Some((age, list));
        }
    }
    Ok(terms)
}

fn config(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    clients: Arc<Clients>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let certified = CertifiedKey::new(chain, parse_key(&files.key, &files.read_key()?)?);
    certified.keys_match().map_err(|_| TlsError::Mismatch {
        key: files.key.clone(),
        certificate: files.certificate.clone(),
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| content(&files.certificate, error.to_string()))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // A client that resumes a session shows no certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A key that can sign; the text is the caller's to wipe.
pub(super) fn parse_key(path: &Path, text: &[u8]) -> Result<Arc<dyn SigningKey>, TlsError> {
    let mut key = PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| content(path, format!("no private key in PEM: {error}")))?;
    let signing = ring::sign::any_supported_type(&key);
    key.zeroize();
    signing.map_err(|error| content(path, error.to_string()))
}

/// All PEM blocks of one kind: one at least, and all of them well-formed.
pub(super) fn parse<T: PemObject>(
    path: &Path,
    text: &[u8],
    what: &str,
) -> Result<Vec<T>, TlsError> {
    let blocks: Result<Vec<T>, pem::Error> = T::pem_slice_iter(text).collect();
    match blocks {
        Ok(blocks) if blocks.is_empty() => Err(content(path, format!("there is no {what} in it"))),
        Ok(blocks) => Ok(blocks),
        Err(error) => Err(content(path, format!("not PEM: {error}"))),
    }
}

pub(super) fn certificate<'a>(
    path: &Path,
    der: &'a CertificateDer<'static>,
) -> Result<X509Certificate<'a>, TlsError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(content(path, format!("not a certificate: {error}"))),
    }
}

/// Seconds since 1970; earlier times become 1970.
fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0) as u64))
}

fn content(path: &Path, problem: String) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem,
    }
}
