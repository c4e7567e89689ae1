//! `bundle`: the files that one host needs, in a folder to be copied over its home.
//!
//! Each file is named. No folder is copied, so that a key that must stay on the CA's machine cannot be included by accident.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sanctum_config::fleet::Server;
use sanctum_config::{Fleet, Label, did_you_mean_or_names, files};
use zeroize::Zeroizing;

use super::CommandContext;
use crate::args::BundleArgs;
use crate::changes::Changes;
use crate::holder::{Holder, HolderKind};
use crate::home::PkiHome;
use crate::trust::Trust;
use crate::{PkiError, secret};

pub(crate) fn run(context: &mut CommandContext, args: &BundleArgs) -> Result<(), PkiError> {
    let fleet = context.fleet()?;
    if !fleet.hosts.contains_key(&args.host) {
        let names = fleet.hosts.keys().map(Label::as_str);
        let near = did_you_mean_or_names(args.host.as_str(), names);
        return Err(PkiError::Refused(format!(
            "fleet.toml has no [hosts.{}]{near}",
            args.host
        )));
    }
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => format!("bundle-{}", args.host).into(),
    };
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(PkiError::Exists {
            path: folder,
            fix: "remove it if it is delivered, or name another folder with --out".into(),
        });
    }
    let mut bundle = Bundle {
        to: PkiHome::new(folder.clone()),
        changes: Changes::default(),
        files: Vec::new(),
    };
    let trust = Trust::read(&context.home)?;
    for holder in holders_on(&fleet, &args.host)? {
        bundle.pair(context, &trust, &holder)?;
    }
    let home = context.home.clone();
    bundle.public(&home, &home.authorities(), "the CA's certificate")?;
    bundle.public(
        &home,
        &home.crl(),
        "a revocation list; create one: sanctum-pki crl",
    )?;
    let mut keys = BTreeSet::from([home.manifest_public(), home.former_manifest_public()]);
    for (name, server) in fleet
        .servers
        .iter()
        .filter(|(_, server)| server.host == args.host)
    {
        for key in &server.manifest_keys {
            match context.within_home(key) {
                Some(rest) => drop(keys.insert(home.path().join(rest))),
                // Relative paths begin at the host's fleet.toml; these two are included anyway.
                None if ["certs/manifest.pub", "certs/manifest-old.pub"]
                    .contains(&key.as_str()) => {}
                None => context.say(format_args!(
                    "note: {key} of {name} is outside the home; copy it to the host yourself"
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
            false => context.say(format_args!(
                "note: {} is missing; if models have manifests, create the key: sanctum-pki manifest keygen",
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
        match context.within_home(token) {
            None => context.say(format_args!("note: {token} of {name} is outside the home; copy it to the host yourself"))?,
            Some(rest) => match secret::read(&home.path().join(&rest))? {
                Some(bytes) => {
                    is_token(&home, &home.path().join(&rest), &bytes)?;
                    bundle.secret(&rest, bytes);
                }
                None => context.say(format_args!(
                    "note: {} of {name} is missing; if the host does not have it, create it: sanctum-pki token {name}",
                    rest.display()
                ))?,
            },
        }
    }
    context.say(format_args!(
        "{}{} for {}: {}",
        context.would(),
        folder.display(),
        args.host,
        bundle.files.join(", ")
    ))?;
    context.finish(bundle.changes)
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
    let upstreams = servers.clone();
    let upstreams = upstreams.filter(|(_, server)| server.needs_upstream_client());
    let upstreams = upstreams.map(|(name, _)| Server::upstream_client(name));
    servers
        .map(|(name, _)| Holder::new(HolderKind::Server, name.clone()))
        .chain(
            watches
                .cloned()
                .chain(upstreams)
                .map(|name| Holder::new(HolderKind::Client, name)),
        )
        .collect()
}

/// Refuses anything but a public key. A seed has the same form: a public key is readable by other users, and is not the signing
/// key.
fn is_public(home: &PkiHome, path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::MetadataExt;
    let refused = |why: &str| {
        Err(PkiError::Refused(format!(
            "{} in manifest_keys {why}; name the public key there (certs/manifest.pub): a bundle holds no signing key",
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
        return refused("is not a public key of 64 hexadecimal digits");
    }
    let signing = home.manifest_key();
    if signing.exists() && read(&signing)?.trim_ascii_end() == line {
        return refused("is the signing key");
    }
    let mode = fs::metadata(path)
        .map_err(|e| PkiError::read(path, e))?
        .mode();
    if mode & 0o077 == 0 {
        return refused(
            "is readable by its owner only, as a private key is (if it is public: chmod 644)",
        );
    }
    Ok(())
}

/// Refuses anything but a bearer token.
fn is_token(home: &PkiHome, path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
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
        "{} in token_file is not a bearer token; create one with `sanctum-pki token NAME`: a bundle holds no CA key and no \
         signing key",
        path.display()
    )))
}

struct Bundle {
    to: PkiHome,
    changes: Changes,
    files: Vec<String>,
}

impl Bundle {
    /// Adds a certificate and its key, if they are usable.
    fn pair(
        &mut self,
        context: &CommandContext,
        trust: &Trust,
        holder: &Holder,
    ) -> Result<(), PkiError> {
        let assessment = trust.assess(&context.home, holder, context.now)?;
        let (true, Some(certificate)) = (assessment.state.is_usable(), assessment.certificate)
        else {
            return Err(PkiError::Refused(format!(
                "the certificate of {holder} cannot be used: {}; issue it with `sanctum-pki --config FILE fleet` if it is \
                 missing, else with `sanctum-pki renew {}`",
                assessment.state, holder.name
            )));
        };
        let key = context.home.key(holder);
        // It was read a moment ago, but may have been removed since.
        let gone = || PkiError::read(&key, std::io::ErrorKind::NotFound.into());
        let bytes = secret::read(&key)?.ok_or_else(gone)?;
        self.changes.secret(self.to.key(holder), bytes);
        self.changes
            .public(self.to.certificate(holder), certificate.pem());
        self.files.push(format!("certificate and key of {holder}"));
        Ok(())
    }

    fn public(&mut self, home: &PkiHome, path: &Path, what: &'static str) -> Result<(), PkiError> {
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
