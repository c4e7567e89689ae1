//! Where and with which files to listen for TLS.

use sanctum_config::{ListenAddress, TildePath};

use super::error::SettingsError;
use super::section::Section;
use crate::args::ServeArgs;
use crate::tls::{CrlPath, TlsFiles};

/// The fleet's home without fleet.toml.
const HOME: &str = "~/.sanctum";
/// The name of a server that fleet.toml does not name.
const NAME: &str = "server";

/// Where and with which files to listen for TLS.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TlsSettings {
    /// At least one address.
    pub listen: Vec<ListenAddress>,
    /// The files, which are not read yet.
    pub files: TlsFiles,
}

/// Decides. None: there is no TLS listener.
pub(crate) fn resolve(
    args: &ServeArgs,
    section: Option<&Section>,
) -> Result<Option<TlsSettings>, SettingsError> {
    let server = section.map(|section| &section.server);
    let listen: Vec<ListenAddress> = match server {
        Some(server) if args.tls_host.is_empty() => server.tls_listen.clone(),
        _ => args.tls_host.iter().map(|host| host.0.clone()).collect(),
    };
    if listen.is_empty() {
        let flags = [
            ("--tls-cert", &args.tls_cert),
            ("--tls-key", &args.tls_key),
            ("--tls-ca", &args.tls_ca),
            ("--tls-crl", &args.tls_crl),
        ];
        let useless = flags.into_iter().find(|(_, file)| file.is_some());
        return match useless {
            Some((flag, _)) => Err(SettingsError::TlsNowhere(flag)),
            None => Ok(None),
        };
    }
    let home = match section {
        Some(section) => section.path(&section.home)?,
        None => HOME.parse::<TildePath>().expect("it is a path").here()?,
    };
    let certs = home.join("certs");
    let name = section.map_or(NAME, |section| section.name.as_str());
    let named = server.map(|server| server.tls.clone()).unwrap_or_default();
    let pick = |flag: &Option<TildePath>, key: &Option<TildePath>| match (flag, section, key) {
        (Some(flag), _, _) => flag.here().map(Some),
        (None, Some(section), Some(key)) => section.path(key).map(Some),
        _ => Ok(None),
    };
    let usual = |extension: &str| certs.join(format!("{name}.{extension}"));
    let certificate = pick(&args.tls_cert, &named.certificate)?;
    let key = pick(&args.tls_key, &named.key)?;
    let ca = pick(&args.tls_ca, &named.ca)?;
    let crl = pick(&args.tls_crl, &named.crl)?;
    Ok(Some(TlsSettings {
        listen,
        files: TlsFiles {
            certificate: certificate.unwrap_or_else(|| usual("crt")),
            key: key.unwrap_or_else(|| usual("key")),
            ca: ca.unwrap_or_else(|| certs.join("ca.crt")),
            crl: match crl {
                Some(crl) => CrlPath::Named(crl),
                None => CrlPath::Usual(certs.join("ca.crl")),
            },
        },
    }))
}
