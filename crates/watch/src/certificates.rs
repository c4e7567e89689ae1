//! The validity of the certificates and revocation lists on a host.
//!
//! `sanctum-launchd status` and `verify` show all of them; `verify` and drift report those that expire soon.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Fleet, Home, Label, UntrustedText, files};
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// The largest of these files that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Days before the expiry at which a renewal is due, and at which it is urgent.
pub const NOTICE: [i64; 2] = [30, 7];

/// A certificate or a revocation list, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub kind: CertificateKind,
    /// The name of its server, client or CA.
    pub name: UntrustedText,
    /// When it expires; none if it does not: a revocation list need not name its next update.
    pub ends: Option<DateTime<Utc>>,
}

/// A certificate or a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// The certificate of a CA.
    Authority,
    /// The certificate of a server or of a client.
    Certificate,
    /// The revocation list of a CA.
    RevocationList,
}

/// A file whose validity cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct CertificateError {
    /// The file.
    pub path: PathBuf,
    /// The system's error, or why its content is not a certificate.
    pub source: io::Error,
}

/// Everything in `home` that ends, and what `fleet` names elsewhere for the servers of `host`, in the order of the
/// paths. A file that cannot be read is an error of its own, and so is a folder of the home that cannot be listed, unless
/// it is absent.
pub fn on_host(
    fleet: &Fleet,
    config: &Path,
    home: &Home,
    host: &Label,
) -> Vec<Result<Validity, CertificateError>> {
    let mut paths = Vec::new();
    let mut errors = Vec::new();
    for folder in [home.certs(), home.certs().join("clients")] {
        match listed(&folder) {
            Ok(listed) => paths.extend(listed.into_iter().filter(|path| ends(path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => errors.push(CertificateError {
                path: folder,
                source,
            }),
        }
    }
    let servers = fleet.servers.values().filter(|server| server.host == *host);
    for tls in servers.map(|server| &server.tls) {
        let named = [&tls.certificate, &tls.ca, &tls.crl];
        paths.extend(
            named
                .into_iter()
                .flatten()
                .filter_map(|path| path.beside(config).ok()),
        );
    }
    paths.sort();
    paths.dedup();
    let read = paths.iter().flat_map(|path| read(path));
    errors.into_iter().map(Err).chain(read).collect()
}

/// The paths of what is in a folder.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// Whether a file of the home is one that ends, by its name. Half-written files begin with a dot.
fn ends(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().unwrap_or_default();
    !hidden && (extension == "crt" || extension == "crl")
}

/// All certificates and revocation lists of a PEM file.
pub fn read(path: &Path) -> Vec<Result<Validity, CertificateError>> {
    let failed = |source| CertificateError {
        path: path.to_owned(),
        source,
    };
    let form = |why: String| failed(io::Error::new(io::ErrorKind::InvalidData, why));
    let bytes = match files::read(path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) => return vec![Err(failed(error))],
    };
    let mut all = Vec::new();
    for block in Pem::iter_from_buffer(&bytes) {
        let validity = block
            .map_err(|error| error.to_string())
            .and_then(|block| validity(path, &block));
        all.extend(validity.map_err(form).transpose());
    }
    if all.is_empty() {
        all.push(Err(form("there is no certificate in it".to_owned())));
    }
    all
}

/// None for a block of another kind.
fn validity(path: &Path, block: &Pem) -> Result<Option<Validity>, String> {
    let (kind, name, end) = match block.label.as_str() {
        "CERTIFICATE" => {
            let (_, certificate) =
                X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
            let kind = match certificate.is_ca() {
                true => CertificateKind::Authority,
                false => CertificateKind::Certificate,
            };
            let end = certificate.validity().not_after;
            (kind, common_name(certificate.subject()), Some(end))
        }
        "X509 CRL" => {
            let (_, list) = CertificateRevocationList::from_der(&block.contents)
                .map_err(|error| error.to_string())?;
            let end = list.next_update();
            (
                CertificateKind::RevocationList,
                common_name(list.issuer()),
                end,
            )
        }
        _ => return Ok(None),
    };
    let date = |seconds| DateTime::from_timestamp(seconds, 0).ok_or("its end is no date");
    let ends = end.map(|end| date(end.timestamp())).transpose()?;
    Ok(Some(Validity {
        path: path.to_owned(),
        kind,
        name,
        ends,
    }))
}

fn common_name(name: &X509Name<'_>) -> UntrustedText {
    let mut names = name.iter_common_name();
    let common = names.next().and_then(|name| name.as_str().ok());
    UntrustedText::bounded(common.unwrap_or("without a name"), 64)
}

impl Validity {
    /// Whole days until it ends, negative where it has ended; none if it does not end.
    pub fn days_left(&self, now: DateTime<Utc>) -> Option<i64> {
        let left = self.ends? - now;
        Some(left.num_seconds().div_euclid(86_400))
    }

    /// What is wrong with it, if its end is near or past: in the same words until it becomes worse, so that an alert is
    /// sent at each of [`NOTICE`]'s days and at the end, and not every hour.
    pub fn problem(&self, now: DateTime<Utc>) -> Option<String> {
        let ends = self.ends?;
        let date = ends.format("%Y-%m-%d");
        if ends <= now {
            return Some(format!("{self} expired on {date}"));
        }
        let near = |days: &i64| ends - now < TimeDelta::days(*days);
        let days = NOTICE.iter().rev().find(|days| near(days))?;
        Some(format!(
            "{self} expires on {date}, in less than {days} days"
        ))
    }

    /// What to type on the CA's machine.
    pub fn renewal(&self, host: &Label) -> String {
        let command = match self.kind {
            CertificateKind::Authority => "sanctum-pki rotate-ca".to_owned(),
            CertificateKind::Certificate => format!("sanctum-pki renew {}", self.name),
            CertificateKind::RevocationList => "sanctum-pki crl".to_owned(),
        };
        format!("on the CA's machine: {command}; sanctum-pki --config fleet.toml bundle {host}")
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CertificateKind::Authority => write!(f, "the CA `{}`", self.name),
            CertificateKind::Certificate => write!(f, "the certificate of `{}`", self.name),
            CertificateKind::RevocationList => write!(f, "the revocation list of `{}`", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
    };

    use super::*;

    fn day(number: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_776_000_000 + number * 86_400, 0).unwrap()
    }

    fn parameters(name: &str, days: i64) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_after = time(day(days));
        parameters
    }

    fn time(at: DateTime<Utc>) -> time::OffsetDateTime {
        time::OffsetDateTime::from_unix_timestamp(at.timestamp()).unwrap()
    }

    /// A home with a CA that lasts 900 days, its list 6, a server's certificate 29 and a client's none.
    fn home(folder: &Path) -> Home {
        let home = Home::new(folder.to_owned(), folder.to_owned());
        std::fs::create_dir_all(home.certs().join("clients")).unwrap();
        let mut authority = parameters("sanctum CA", 900);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let put = |name: &str, pem: String| std::fs::write(home.certs().join(name), pem).unwrap();
        put("ca.crt", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        let list = CertificateRevocationListParams {
            this_update: time(day(-1)),
            next_update: time(day(6)),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        put("ca.crl", list.signed_by(&issuer).unwrap().pem().unwrap());
        for (file, name, days) in [
            ("server.crt", "server", 29),
            ("clients/canary.crt", "canary", 0),
        ] {
            let key = KeyPair::generate().unwrap();
            let signed = parameters(name, days).signed_by(&key, &issuer).unwrap();
            put(file, signed.pem());
        }
        put("server.key", "not looked at".into());
        home
    }

    #[test]
    fn validity_of_everything_on_a_host_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        let host = "mini".parse().unwrap();
        let all = on_host(&Fleet::default(), Path::new("fleet.toml"), &home, &host);
        let all: Vec<Validity> = all.into_iter().map(Result::unwrap).collect();
        let seen: Vec<(String, Option<i64>, Option<String>)> = all
            .iter()
            .map(|one| (one.to_string(), one.days_left(day(0)), one.problem(day(0))))
            .collect();
        let problem = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [
                (
                    "the revocation list of `sanctum CA`".into(),
                    Some(6),
                    problem(
                        "the revocation list of `sanctum CA` expires on 2026-04-18, in less than 7 days"
                    )
                ),
                ("the CA `sanctum CA`".into(), Some(900), None),
                (
                    "the certificate of `canary`".into(),
                    Some(0),
                    problem("the certificate of `canary` expired on 2026-04-12")
                ),
                (
                    "the certificate of `server`".into(),
                    Some(29),
                    problem(
                        "the certificate of `server` expires on 2026-05-11, in less than 30 days"
                    )
                ),
            ]
        );
        assert!(all[3].renewal(&host).contains("sanctum-pki renew server"));
    }

    /// A DER sequence of so many bytes: its header, and what is in it.
    fn sequence(contents: &[u8]) -> Vec<u8> {
        let length = contents.len();
        let header = match u8::try_from(length) {
            Ok(short @ ..128) => vec![0x30, short],
            Ok(long) => vec![0x30, 0x81, long],
            Err(_) => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
        };
        [&header[..], contents].concat()
    }

    /// What is in the DER sequence at the beginning, and what comes after it.
    fn opened(der: &[u8]) -> (&[u8], &[u8]) {
        let (header, length) = match der[1] {
            0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
            0x81 => (3, usize::from(der[2])),
            short => (2, usize::from(short)),
        };
        der[header..].split_at(length)
    }

    #[test]
    fn revocation_list_without_next_update_does_not_end() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        let path = home.certs().join("ca.crl");
        let bytes = std::fs::read(&path).unwrap();
        let mut block = Pem::iter_from_buffer(&bytes).next().unwrap().unwrap();
        let (list, _) = opened(&block.contents);
        let (signed, signature) = opened(list);
        // `thisUpdate` and `nextUpdate` are the two UTCTimes, of 15 bytes each; the signature is not checked here.
        let time = |from: usize| {
            let at = signed[from..].windows(2).position(|two| two == [0x17, 13]);
            from + at.unwrap()
        };
        let next = time(time(0) + 15);
        let signed = sequence(&[&signed[..next], &signed[next + 15..]].concat());
        block.contents = sequence(&[&signed[..], signature].concat());
        let validity = validity(&path, &block).unwrap().unwrap();
        assert_eq!(validity.kind, CertificateKind::RevocationList);
        assert_eq!(validity.ends, None);
        assert_eq!(validity.days_left(day(0)), None);
        assert_eq!(validity.problem(day(100_000)), None);
    }

    #[test]
    fn certs_folder_that_cannot_be_listed_is_an_error_and_an_absent_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned(), folder.path().to_owned());
        let host = "mini".parse().unwrap();
        let all = || on_host(&Fleet::default(), Path::new("fleet.toml"), &home, &host);
        assert!(all().is_empty());
        std::fs::create_dir_all(home.certs()).unwrap();
        std::fs::write(home.certs().join("clients"), "").unwrap();
        let errors: Vec<CertificateError> = all().into_iter().filter_map(Result::err).collect();
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert_eq!(error.path, home.certs().join("clients"));
    }

    #[test]
    fn validity_of_what_is_no_certificate_is_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        std::fs::write(
            home.certs().join("server.crt"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
        )
        .unwrap();
        std::fs::remove_file(home.certs().join("ca.crl")).unwrap();
        std::fs::create_dir(home.certs().join("ca.crl")).unwrap();
        let host = "mini".parse().unwrap();
        let all = on_host(&Fleet::default(), Path::new("fleet.toml"), &home, &host);
        let errors: Vec<String> = all
            .into_iter()
            .filter_map(|one| Some(one.err()?.to_string()))
            .collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors[0].contains("ca.crl: it is a folder"),
            "{}",
            errors[0]
        );
        assert!(errors[1].contains("server.crt"), "{}", errors[1]);
    }
}
