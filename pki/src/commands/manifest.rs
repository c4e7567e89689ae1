//! `manifest`: the signed lists of models' files. Their format and rules are the engine's.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sanctum_config::files;
use sanctum_manifest::{
    Expected, Manifest, ManifestError, PublicKey, SigningKey, Verification, create, signature_path,
};
use zeroize::Zeroizing;

use super::Site;
use crate::PkiError;
use crate::args::ManifestCommand;
use crate::changes::Changes;

pub(crate) fn run(site: &mut Site, command: &ManifestCommand) -> Result<(), PkiError> {
    match command {
        ManifestCommand::Keygen { force } => keygen(site, *force),
        ManifestCommand::Create { folder, out } => make(site, folder, out.as_deref()),
        ManifestCommand::Sign { manifest, key } => sign(site, manifest, key.as_deref()),
        ManifestCommand::Verify {
            folder,
            manifest,
            key,
            unsigned,
        } => {
            let manifest = manifest.clone().unwrap_or_else(|| manifest_of(folder));
            let keys = match unsigned {
                true => Vec::new(),
                false => trusted(site, key)?,
            };
            verify(site, folder, Expected { manifest, keys })
        }
    }
}

fn keygen(site: &mut Site, force: bool) -> Result<(), PkiError> {
    let (secret, public) = (site.home.manifest_key(), site.home.manifest_public());
    for path in [&secret, &public] {
        if path.exists() && !force {
            return Err(PkiError::Exists {
                path: path.clone(),
                mend:
                    "--force replaces the pair, and keeps the former public key as manifest-old.pub"
                        .into(),
            });
        }
    }
    let mut changes = Changes::default();
    let kept = site.home.former_manifest_public();
    if public.exists() && kept.exists() {
        return Err(PkiError::Exists {
            path: kept,
            mend: "a rotation is under way, and this key still counts: sign every manifest anew, take manifest-old.pub \
                   out of manifest_keys, delete it, then run this again"
                .into(),
        });
    }
    if public.exists() {
        let former = PublicKey::read(&public)?;
        changes.public(kept, former.to_file());
    }
    let key = SigningKey::generate()?;
    let text = Zeroizing::new(key.to_file().as_bytes().to_vec());
    changes.new_secret(secret.clone(), text, force);
    changes.public(public.clone(), key.public().to_file());
    site.say(format_args!(
        "{}{} signs, and stays on this machine; {} checks: {}",
        site.would(),
        secret.display(),
        public.display(),
        key.public()
    ))?;
    site.finish(changes)
}

fn make(site: &mut Site, folder: &Path, out: Option<&Path>) -> Result<(), PkiError> {
    let path = out.map_or_else(|| manifest_of(folder), Path::to_owned);
    let signature = signature_path(&path);
    let bar = bar(folder);
    let manifest = create(folder, &[path.clone(), signature.clone()], |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let manifest = manifest?;
    let mut changes = Changes::default();
    changes.public(path.clone(), manifest.to_string());
    let next = match signature.exists() {
        true => "the signature beside it is that of the one before; sign it anew",
        false => "sign it",
    };
    site.say(format_args!(
        "{}{} lists {} files; {next}: sanctum-pki manifest sign {}",
        site.would(),
        path.display(),
        manifest.files().len(),
        path.display()
    ))?;
    site.finish(changes)
}

fn sign(site: &mut Site, manifest: &Path, key: Option<&Path>) -> Result<(), PkiError> {
    /// Millions of files; a larger one is no manifest.
    const LARGEST: u64 = 256 << 20;
    let bytes = files::read(manifest, LARGEST).map_err(|error| PkiError::read(manifest, error))?;
    let list = Manifest::parse(&bytes).map_err(|source| ManifestError::Line {
        path: manifest.to_owned(),
        source,
    })?;
    let path = key.map_or_else(|| site.home.manifest_key(), Path::to_owned);
    if !path.exists() {
        let why = "it is missing; make one with `sanctum-pki manifest keygen`, or sign where it is";
        return Err(PkiError::form(&path, "a signing key", why));
    }
    let key = SigningKey::read(&path)?;
    let signature = signature_path(manifest);
    let mut changes = Changes::default();
    changes.public(signature.clone(), key.sign(&bytes).0);
    site.say(format_args!(
        "{}{} signs {} files by the key {}",
        site.would(),
        signature.display(),
        list.files().len(),
        key.public()
    ))?;
    site.finish(changes)
}

/// The keys that were named, else those of the home.
fn trusted(site: &Site, named: &[PathBuf]) -> Result<Vec<PathBuf>, PkiError> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut keys = vec![
        site.home.manifest_public(),
        site.home.former_manifest_public(),
    ];
    keys.retain(|path| path.exists());
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(PkiError::form(
            &site.home.manifest_public(),
            "a public key",
            "it is missing; name one with --key, or check the digests only with --unsigned",
        )),
    }
}

fn verify(site: &mut Site, folder: &Path, expected: Expected) -> Result<(), PkiError> {
    let bar = bar(folder);
    let verified = Verification::start(folder, &expected).and_then(|begun| {
        begun.wait(|done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })
    });
    bar.finish_and_clear();
    let verified = verified?;
    verified.unchanged()?;
    let signer = match verified.signed_by() {
        Some(key) => format!("signed by {key}"),
        None => "whose signature was not checked".into(),
    };
    site.say(format_args!(
        "ok: {} files with {} bytes match {}, {signer}",
        verified.manifest().files().len(),
        verified.bytes(),
        verified.manifest_path().display()
    ))
}

/// Where a folder's manifest lies unless said otherwise: beside it.
fn manifest_of(folder: &Path) -> PathBuf {
    // A trailing slash is no part of the name.
    let folder: PathBuf = folder.components().collect();
    let mut path = folder.into_os_string();
    path.push(".sha256");
    path.into()
}

/// Shown on terminals only.
fn bar(folder: &Path) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("hashing {}", folder.display()));
    bar
}
