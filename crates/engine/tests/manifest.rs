//! A checkpoint that is verified against its manifest while it is loaded.

use std::fs;

use sanctum_engine::load::{Files, ModelSource, embedded};
use sanctum_manifest::{Digest, Expected, SigningKey, Verification, create, signature_path};
use tempfile::TempDir;

#[test]
fn verified_model_equals_plain_one_and_damage_is_a_difference_first() {
    let home = TempDir::new().unwrap();
    let (folder, list) = (home.path().join("model"), home.path().join("model.sha256"));
    let key = SigningKey::generate().unwrap();
    let public = home.path().join("key.pub");
    fs::write(&public, key.public().to_file()).unwrap();
    let publish = || {
        let manifest = create(&folder, &[], |_, _| ()).unwrap();
        fs::write(&list, manifest.to_string()).unwrap();
        let signature = key.sign(&fs::read(&list).unwrap());
        fs::write(signature_path(&list), signature.0).unwrap();
    };
    embedded::export(&folder).unwrap();
    fs::write(folder.join("README.md"), "listed, and not loaded").unwrap();
    publish();
    let expected = Expected {
        manifest: list.clone(),
        keys: vec![public],
    };
    let source = ModelSource::Verified {
        folder: folder.clone(),
        expected: expected.clone(),
    };
    let loaded = source.open(None, |_, _| ()).unwrap();
    let plain = ModelSource::Folder(folder.clone())
        .open(None, |_, _| ())
        .unwrap();
    assert_eq!(loaded.host.fingerprint, plain.host.fingerprint);
    assert_eq!(loaded.verified.unwrap().manifest().files().len(), 7);
    assert!(plain.verified.is_none());

    let begun = Verification::start(&folder, &expected).unwrap();
    let files = Files::Verified(begun.files());
    for name in ["README.md", "adapter_config.json"] {
        assert!(files.open(name).unwrap().is_none());
        let error = files.require(name).unwrap_err().to_string();
        assert!(error.contains("not listed in"), "{error}");
    }

    let path = folder.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    // Renamed over it, because threads still read the mapped file: truncating it would end the process.
    let cut = folder.join("model.safetensors.new");
    fs::write(&cut, &whole[..5]).unwrap();
    fs::rename(&cut, &path).unwrap();
    let error = source.open(None, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains(&Digest::of(&whole).to_string()), "{error}");
    // Once the damaged file is listed as it is, the loader reports the damage.
    publish();
    let error = source.open(None, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}
