//! `manifest`: the signed lists of models' files. Their format and rules are those of sanctum-manifest.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sanctum_config::files;
use sanctum_manifest::{
    Expected, Manifest, ManifestError, PublicKey, SigningKey, Verification, create, signature_path,
};
use zeroize::Zeroizing;

use super::CommandContext;
use crate::PkiError;
use crate::args::ManifestCommand;
use crate::changes::Changes;

pub(crate) fn run(context: &mut CommandContext, command: &ManifestCommand) -> Result<(), PkiError> {
    match command {
        ManifestCommand::Keygen { force } => keygen(context, *force),
        ManifestCommand::Create { folder, out } => make(context, folder, out.as_deref()),
        ManifestCommand::Sign { manifest, key } => sign(context, manifest, key.as_deref()),
        ManifestCommand::Verify {
            folder,
            manifest,
            key,
            unsigned,
        } => {
            let manifest = manifest.clone().unwrap_or_else(|| manifest_of(folder));
            let keys = match unsigned {
                true => Vec::new(),
                false => trusted(context, key)?,
            };
            verify(context, folder, Expected { manifest, keys })
        }
    }
}

fn keygen(context: &mut CommandContext, force: bool) -> Result<(), PkiError> {
    let (secret, public) = (context.home.manifest_key(), context.home.manifest_public());
    for path in [&secret, &public] {
        if path.exists() && !force {
            return Err(PkiError::Exists {
                path: path.clone(),
                fix:
                    "--force replaces the pair, and keeps the former public key as manifest-old.pub"
                        .into(),
            });
        }
    }
    let mut changes = Changes::default();
    let kept = context.home.former_manifest_public();
    if public.exists() && kept.exists() {
        return Err(PkiError::Exists {
            path: kept,
            fix: "a rotation is in progress, and this key is still trusted: sign every manifest again, remove \
                   manifest-old.pub from manifest_keys, delete it, then run this again"
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
    context.say(format_args!(
        "{}{} is the signing key, keep it on this machine; {} is the public key: {}",
        context.would(),
        secret.display(),
        public.display(),
        key.public()
    ))?;
    context.finish(changes)
}

fn make(context: &mut CommandContext, folder: &Path, out: Option<&Path>) -> Result<(), PkiError> {
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
        true => "its signature is that of the previous manifest; sign it again",
        false => "sign it",
    };
    context.say(format_args!(
        "{}{} lists {} files; {next}: sanctum-pki manifest sign {}",
        context.would(),
        path.display(),
        manifest.files().len(),
        path.display()
    ))?;
    context.finish(changes)
}

fn sign(context: &mut CommandContext, manifest: &Path, key: Option<&Path>) -> Result<(), PkiError> {
    /// Millions of files; a larger file is not a manifest.
    const LARGEST: u64 = 256 << 20;
    let bytes = files::read(manifest, LARGEST).map_err(|error| PkiError::read(manifest, error))?;
    let list = Manifest::parse(&bytes).map_err(|source| ManifestError::Line {
        path: manifest.to_owned(),
        source,
    })?;
    let path = key.map_or_else(|| context.home.manifest_key(), Path::to_owned);
    if !path.exists() {
        let why = "it is missing; create one with `sanctum-pki manifest keygen`, or run this on the machine that has it";
        return Err(PkiError::form(&path, "a signing key", why));
    }
    let key = SigningKey::read(&path)?;
    let signature = signature_path(manifest);
    let mut changes = Changes::default();
    changes.public(signature.clone(), key.sign(&bytes).0);
    context.say(format_args!(
        "{}{} signs {} files by the key {}",
        context.would(),
        signature.display(),
        list.files().len(),
        key.public()
    ))?;
    context.finish(changes)
}

/// The keys that were named, else those of the home.
fn trusted(context: &CommandContext, named: &[PathBuf]) -> Result<Vec<PathBuf>, PkiError> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut keys = vec![
        context.home.manifest_public(),
        context.home.former_manifest_public(),
    ];
    keys.retain(|path| path.exists());
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(PkiError::form(
            &context.home.manifest_public(),
            "a public key",
            "it is missing; name one with --key, or check the digests only with --unsigned",
        )),
    }
}

fn verify(context: &mut CommandContext, folder: &Path, expected: Expected) -> Result<(), PkiError> {
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
    context.say(format_args!(
        "ok: {} files with {} bytes match {}, {signer}",
        verified.manifest().files().len(),
        verified.bytes(),
        verified.manifest_path().display()
    ))
}

/// The default path of a folder's manifest: beside the folder.
fn manifest_of(folder: &Path) -> PathBuf {
    // A trailing slash is not part of the name.
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
