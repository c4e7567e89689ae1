//! The name of a client: the common name in its certificate.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What X.520 allows.
const LONGEST: usize = 64;

/// The common name: exactly one, of printable ASCII with no space at its ends. It is written into logs, metrics and
/// files, where other characters could mislead or break a line.
pub(crate) fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let (name, None) = (names.next()?.as_str().ok()?, names.next()) else {
        return None;
    };
    let is_printable = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let fits = !name.is_empty() && name.len() <= LONGEST && name.trim() == name;
    (is_printable && fits).then(|| name.into())
}
