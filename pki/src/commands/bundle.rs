//! `bundle`: what one host needs, in a folder that lies over its home.
//!
//! What goes in is listed one by one. There is no copying of folders here, so that a key that is to stay where it is
//! cannot slip in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sanctum_config::{Fleet, Label, did_you_mean, files};
use zeroize::Zeroizing;

use super::Site;
use crate::args::BundleArgs;
use crate::changes::Changes;
use crate::holder::{Holder, Kind};
use crate::home::Home;
use crate::trust::Trust;
use crate::{PkiError, secret};

pub(crate) fn run(site: &mut Site, args: &BundleArgs) -> Result<(), PkiError> {
    let fleet = site.fleet()?;
    if !fleet.hosts.contains_key(&args.host) {
        return Err(PkiError::Unknown {
            what: "fleet.toml has no host",
            name: args.host.to_string(),
            near: did_you_mean(args.host.as_str(), fleet.hosts.keys().map(Label::as_str)),
        });
    }
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => format!("bundle-{}", args.host).into(),
    };
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(PkiError::Exists {
            path: folder,
            mend: "remove it when it is delivered, or name another with --out".into(),
        });
    }
    let mut bundle = Bundle {
        to: Home::new(folder.clone()),
        changes: Changes::default(),
        files: Vec::new(),
    };
    let trust = Trust::read(&site.home)?;
    for holder in holders_on(&fleet, &args.host)? {
        bundle.pair(site, &trust, &holder)?;
    }
    let home = site.home.clone();
    bundle.public(&home, &home.authorities(), "the CA's certificate")?;
    bundle.public(
        &home,
        &home.crl(),
        "a revocation list; make one: sanctum-pki crl",
    )?;
    let mut keys = BTreeSet::from([home.manifest_public(), home.former_manifest_public()]);
    for (name, server) in fleet
        .servers
        .iter()
        .filter(|(_, server)| server.host == args.host)
    {
        for key in &server.manifest_keys {
            match site.within_home(key) {
                Some(rest) => drop(keys.insert(home.path().join(rest))),
                // Relative paths begin at the host's fleet.toml, wherever that lies; these two go along anyway.
                None if ["certs/manifest.pub", "certs/manifest-old.pub"]
                    .contains(&key.as_str()) => {}
                None => site.say(format_args!(
                    "note: {key} of {name} lies outside the home; take it there yourself"
                ))?,
            }
        }
    }
    for path in keys {
        match path.exists() {
            true => {
                is_public(&home, &path)?;
                bundle.public(&home, &path, "a public key")?;
            }
            false if path == home.former_manifest_public() => {}
            false => site.say(format_args!(
                "note: {} is not here; if models are to have manifests: sanctum-pki manifest keygen",
                path.display()
            ))?,
        }
    }
    for (name, server) in fleet
        .servers
        .iter()
        .filter(|(_, server)| server.host == args.host)
    {
        let Some(token) = &server.auth.token_file else {
            continue;
        };
        match site.within_home(token) {
            None => site.say(format_args!("note: {token} of {name} lies outside the home; take it there yourself"))?,
            Some(rest) => match secret::read(&home.path().join(&rest))? {
                Some(bytes) => {
                    is_token(&home, &home.path().join(&rest), &bytes)?;
                    bundle.secret(&rest, bytes);
                }
                None => site.say(format_args!(
                    "note: {} of {name} is not here; if the host does not have it: sanctum-pki token {name}",
                    rest.display()
                ))?,
            },
        }
    }
    site.say(format_args!(
        "{}{} for {}: {}",
        site.would(),
        folder.display(),
        args.host,
        bundle.files.join(", ")
    ))?;
    site.finish(bundle.changes)
}

/// The servers and watchdogs that fleet.toml puts on a host.
fn holders_on(fleet: &Fleet, host: &Label) -> Result<Vec<Holder>, PkiError> {
    let servers = fleet
        .servers
        .iter()
        .filter(|(_, server)| server.host == *host);
    let agents = fleet
        .hosts
        .get(host)
        .map(|host| &host.agents[..])
        .unwrap_or_default();
    let watches = agents
        .iter()
        .filter(|agent| fleet.watch.contains_key(*agent));
    servers
        .map(|(name, _)| Holder::new(Kind::Server, name.clone()))
        .chain(watches.map(|name| Holder::new(Kind::Client, name.clone())))
        .collect()
}

/// Refuses what is no public key. A seed has the same form, so the file says which it is: a public key may be read by
/// others, and is not the key that signs here.
fn is_public(home: &Home, path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::MetadataExt;
    let refused = |why: &str| {
        Err(PkiError::Refused(format!(
            "{} of manifest_keys {why}; name the public key there (certs/manifest.pub): a bundle holds no key that signs",
            path.display()
        )))
    };
    let read = |path: &Path| {
        files::read(path, 1 << 10)
            .map(Zeroizing::new)
            .map_err(|e| PkiError::read(path, e))
    };
    let text = read(path)?;
    let line = text.trim_ascii_end();
    if line.len() != 64 || !line.iter().all(u8::is_ascii_hexdigit) {
        return refused("is no public key of 64 hexadecimal digits");
    }
    let signing = home.manifest_key();
    if signing.exists() && read(&signing)?.trim_ascii_end() == line {
        return refused("is the signing key");
    }
    let mode = fs::metadata(path)
        .map_err(|e| PkiError::read(path, e))?
        .mode();
    if mode & 0o077 == 0 {
        return refused("is closed to others, as a private key is (if it is public: chmod 644)");
    }
    Ok(())
}

/// Refuses what is no bearer token.
fn is_token(home: &Home, path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let line = bytes.trim_ascii_end();
    let one_word = line.len() >= 32 && line.iter().all(u8::is_ascii_graphic);
    let signing = home.manifest_key();
    let signs = match secret::read(&signing)? {
        Some(key) => key.trim_ascii_end() == line,
        None => false,
    };
    if one_word && !signs {
        return Ok(());
    }
    Err(PkiError::Refused(format!(
        "{} of token_file holds no bearer token; make one with `sanctum-pki token NAME`: a bundle holds no key of a CA and \
         none that signs",
        path.display()
    )))
}

struct Bundle {
    to: Home,
    changes: Changes,
    files: Vec<String>,
}

impl Bundle {
    /// A certificate with its key, if they are any good.
    fn pair(&mut self, site: &Site, trust: &Trust, holder: &Holder) -> Result<(), PkiError> {
        let judged = trust.judge(&site.home, holder, site.now)?;
        let (true, Some(certificate)) = (judged.state.is_usable(), judged.certificate) else {
            return Err(PkiError::Refused(format!(
                "the certificate of {holder} is of no use: {}; `sanctum-pki --config FILE fleet` issues what is \
                 missing, `sanctum-pki renew {}` what is there",
                judged.state, holder.name
            )));
        };
        let key = site.home.key(holder);
        // It was read a moment ago; if it is gone now, so is the pair.
        let gone = || PkiError::read(&key, std::io::ErrorKind::NotFound.into());
        let bytes = secret::read(&key)?.ok_or_else(gone)?;
        self.changes.secret(self.to.key(holder), bytes);
        self.changes
            .public(self.to.certificate(holder), certificate.pem());
        self.files.push(format!("certificate and key of {holder}"));
        Ok(())
    }

    fn public(&mut self, home: &Home, path: &Path, what: &'static str) -> Result<(), PkiError> {
        let rest = path.strip_prefix(home.path()).unwrap_or(path);
        let text = crate::home::read_text(path, what)?;
        let missing = || PkiError::form(path, what, "it is missing");
        self.changes
            .public(self.to.path().join(rest), text.ok_or_else(missing)?);
        self.files.push(rest.display().to_string());
        Ok(())
    }

    fn secret(&mut self, rest: &PathBuf, bytes: Zeroizing<Vec<u8>>) {
        self.changes.secret(self.to.path().join(rest), bytes);
        self.files.push(rest.display().to_string());
    }
}
