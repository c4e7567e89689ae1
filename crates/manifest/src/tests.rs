//! Folders that match their manifests, and the ways in which they do not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A model's folder with its manifest and signature beside it, and the keys.
struct SignedFolder {
    home: TempDir,
    key: SigningKey,
}

impl SignedFolder {
    /// A folder with a bit of everything.
    fn new() -> Self {
        let home = Self {
            home: TempDir::new().unwrap(),
            key: SigningKey::generate().unwrap(),
        };
        fs::create_dir_all(home.folder().join("eval")).unwrap();
        home.write("config.json", b"{}");
        home.write("model.safetensors", &[7; 100_000]);
        home.write("README.md", b"read me");
        home.write("eval/results.txt", b"fine");
        home.publish();
        home
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("model")
    }

    fn manifest(&self) -> PathBuf {
        self.home.path().join("model.sha256")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder().join(name), bytes).unwrap();
    }

    /// Lists what is there, and signs the list.
    fn publish(&self) {
        let manifest = create(&self.folder(), &[], |_, _| ()).unwrap();
        fs::write(self.manifest(), manifest.to_string()).unwrap();
        self.sign(&self.key);
    }

    fn sign(&self, key: &SigningKey) {
        let signature = key.sign(&fs::read(self.manifest()).unwrap());
        fs::write(signature_path(&self.manifest()), signature.0).unwrap();
    }

    fn trusting(&self, keys: &[&SigningKey]) -> Expected {
        let write = |(index, key): (usize, &&SigningKey)| {
            let path = self.home.path().join(format!("{index}.pub"));
            fs::write(&path, key.public().to_file()).unwrap();
            path
        };
        Expected {
            manifest: self.manifest(),
            keys: keys.iter().enumerate().map(write).collect(),
        }
    }

    fn verify_trusting(&self, keys: &[&SigningKey]) -> Result<Verified, String> {
        Verification::start(&self.folder(), &self.trusting(keys))
            .and_then(|begun| begun.wait(|_, _| ()))
            .map_err(|error| error.to_string())
    }

    fn verify(&self) -> Result<Verified, String> {
        self.verify_trusting(&[&self.key])
    }

    /// The error, which must say all of this.
    #[track_caller]
    fn refused(&self, says: &[&str]) {
        let error = self.verify().unwrap_err();
        let all = says.iter().all(|word| error.contains(word));
        assert!(all, "{says:?} in: {error}");
    }
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

#[test]
fn a_folder_that_matches_is_verified_and_handed_to_the_loader() {
    let home = SignedFolder::new();
    let begun = Verification::start(&home.folder(), &home.trusting(&[&home.key])).unwrap();
    let files = begun.files();
    let mut told = Vec::new();
    let verified = begun.wait(|done, total| told.push((done, total))).unwrap();
    // The settings were compared before; progress is about the rest.
    let total = 100_000 + "read me".len() as u64 + "fine".len() as u64;
    assert_eq!(told.first(), Some(&(0, total)));
    assert_eq!(told.last(), Some(&(total, total)));
    assert_eq!(verified.manifest().files().len(), 4);
    assert_eq!(verified.bytes(), total + 2);
    assert_eq!(verified.signed_by(), Some(&home.key.public()));
    verified.unchanged().unwrap();

    // README.md is listed, but the loader does not read it.
    let names: Vec<_> = files.files.keys().collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    assert_eq!(&*files.files["model.safetensors"], [7; 100_000]);
    assert_eq!(&*files.files["config.json"], b"{}");
}

#[test]
fn one_byte_anywhere_is_found_and_both_digests_told() {
    for (name, good) in [
        ("model.safetensors", &[7; 100_000][..]),
        ("config.json", b"{}"),
        ("README.md", b"read me"),
        ("eval/results.txt", b"fine"),
    ] {
        let home = SignedFolder::new();
        let mut bad = good.to_vec();
        *bad.last_mut().unwrap() ^= 1;
        home.write(name, &bad);
        home.refused(&[name, &digest(good), &digest(&bad), "shasum -a 256"]);
    }
}

#[test]
fn what_is_missing_truncated_or_empty_is_named() {
    for name in ["model.safetensors", "config.json", "eval/results.txt"] {
        let home = SignedFolder::new();
        let path = home.folder().join(name);
        let whole = fs::read(&path).unwrap();
        home.write(name, &whole[..whole.len() - 1]);
        let size = format!("over {} bytes", whole.len() - 1);
        home.refused(&[name, &digest(&whole), &size]);
        home.write(name, b"");
        home.refused(&[name, "is empty"]);
        fs::remove_file(&path).unwrap();
        home.refused(&[name, "missing", "copy it again"]);
    }
}

#[test]
fn several_faults_are_counted() {
    let home = SignedFolder::new();
    for name in ["README.md", "model.safetensors", "eval/results.txt"] {
        home.write(name, b"other");
    }
    home.refused(&["README.md", "and 2 other files"]);
}

#[test]
fn a_file_too_many_matters_if_the_loader_would_read_it() {
    let home = SignedFolder::new();
    home.write("notes.txt", b"hello");
    home.write("eval/config.json", b"not the loader's");
    home.write(".DS_Store", b"Finder was here");
    home.verify().unwrap();
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "model-00002-of-00002.safetensors",
    ] {
        assert!(is_loaded(name));
        home.write(name, b"{}");
        home.refused(&[name, "not listed", "sanctum-pki manifest create"]);
        fs::remove_file(home.folder().join(name)).unwrap();
    }
    home.verify().unwrap();
}

#[test]
fn a_signature_holds_for_one_manifest_and_one_key() {
    let home = SignedFolder::new();
    let stranger = SigningKey::generate().unwrap();
    let says = ["not the signature", "sanctum-pki manifest sign"];

    // Re-signed by a key that is not trusted.
    home.sign(&stranger);
    home.refused(&says);
    home.sign(&home.key);
    home.verify().unwrap();

    // The weights and the manifest swapped, the signature kept. It is checked before the manifest is even read.
    home.write("model.safetensors", b"others");
    let manifest = create(&home.folder(), &[], |_, _| ()).unwrap();
    fs::write(home.manifest(), manifest.to_string()).unwrap();
    home.refused(&says);
    fs::write(home.manifest(), "no manifest at all").unwrap();
    home.refused(&says);
    home.sign(&home.key);
    home.refused(&["model.sha256, line 1"]);

    fs::write(signature_path(&home.manifest()), [0; 63]).unwrap();
    home.refused(&says);
    fs::write(signature_path(&home.manifest()), [0; 64]).unwrap();
    home.refused(&says);
    fs::remove_file(signature_path(&home.manifest())).unwrap();
    home.refused(&["not signed", "sanctum-pki manifest sign"]);
}

#[test]
fn keys_are_rotated_by_trusting_both_for_a_while() {
    let home = SignedFolder::new();
    let (old, new) = (&home.key, SigningKey::generate().unwrap());
    let signer = |keys: &[&SigningKey]| {
        let verified = home.verify_trusting(keys)?;
        Ok::<_, String>(verified.signed_by().cloned())
    };
    assert_eq!(signer(&[old, &new]), Ok(Some(old.public())));
    home.sign(&new);
    assert_eq!(signer(&[old, &new]), Ok(Some(new.public())));
    assert_eq!(signer(&[&new]), Ok(Some(new.public())));
    assert!(signer(&[old]).unwrap_err().contains("not the signature"));
    // Without keys the signature is not asked for.
    assert_eq!(signer(&[]), Ok(None));
    // A key that cannot be read is no reason to go on with the others.
    let mut expected = home.trusting(&[&new]);
    expected.keys.push(home.home.path().join("gone.pub"));
    let error = expected.read().unwrap_err().to_string();
    assert!(error.contains("gone.pub"), "{error}");
}

#[test]
fn a_change_while_it_is_loaded_is_noticed() {
    let replace = |path: &Path| {
        let beside = path.with_extension("new");
        fs::copy(path, &beside).unwrap();
        fs::rename(beside, path).unwrap();
    };
    let touch = |path: &Path| {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
    };
    let rewrite = |path: &Path| fs::write(path, fs::read(path).unwrap()).unwrap();
    let chmod = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    type Tampering<'a> = &'a dyn Fn(&Path);
    let cases: [(Tampering, &str); 5] = [
        (&replace, "another file has its name"),
        (&touch, "time"),
        (&rewrite, "time"),
        (&chmod, "its change time"),
        (&remove, "it is gone"),
    ];
    for name in ["model.safetensors", "config.json", "README.md"] {
        for (change, says) in cases {
            let home = SignedFolder::new();
            let begun = Verification::start(&home.folder(), &home.trusting(&[])).unwrap();
            // When all is hashed and nothing is decided.
            let mut changed = false;
            let verified = begun.wait(|done, total| {
                if done == total && !changed {
                    change(&home.folder().join(name));
                    changed = true;
                }
            });
            let error = verified.unwrap().unchanged().unwrap_err().to_string();
            assert!(changed && error.contains(name), "{error}");
            assert!(error.contains("changed while it was loaded"), "{error}");
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}

#[test]
fn links_inside_the_folder_are_followed_and_no_others() {
    let home = SignedFolder::new();
    let folder = home.folder();
    let outside = home.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("blob"), b"{}").unwrap();
    fs::create_dir(folder.join("blobs")).unwrap();
    home.write("blobs/1", b"{}");
    let link = |target: &str, name: &str| {
        let _ = fs::remove_file(folder.join(name));
        symlink(target, folder.join(name)).unwrap();
    };
    let absolute = folder.join("blobs/1");
    for inside in [
        "blobs/1",
        "./eval/../blobs/1",
        "README.md/../blobs/1",
        absolute.to_str().unwrap(),
    ] {
        link(inside, "tokenizer.json");
        // A file is no folder, whatever comes after it.
        match inside.starts_with("README") {
            false => {
                home.publish();
                home.verify().unwrap();
            }
            true => assert!(create(&folder, &[], |_, _| ()).is_err()),
        }
    }
    // A link to a file of the same bytes elsewhere, as in Hugging Face's cache.
    for out in [
        "../outside/blob",
        "eval/../../outside/blob",
        outside.join("blob").to_str().unwrap(),
    ] {
        link(out, "tokenizer.json");
        home.refused(&["tokenizer.json", "link out of the folder", "cp -RL"]);
        let error = create(&folder, &[], |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("cp -RL"), "{error}");
    }
    // Through a link to a folder, though the name looks like one inside.
    link("blobs/1", "tokenizer.json");
    fs::rename(folder.join("eval"), outside.join("eval")).unwrap();
    link("../outside/eval", "eval");
    home.refused(&["eval/results.txt", "link out of the folder"]);
    fs::remove_file(folder.join("eval")).unwrap();
    fs::rename(outside.join("eval"), folder.join("eval")).unwrap();
    home.verify().unwrap();

    link("two", "one");
    link("one", "two");
    let error = create(&folder, &[], |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("levels of links"), "{error}");
    fs::remove_file(folder.join("two")).unwrap();
    link("blobs", "one");
    let error = create(&folder, &[], |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("link to a folder"), "{error}");
}

#[test]
fn what_is_no_file_is_not_read() {
    let home = SignedFolder::new();
    fs::remove_file(home.folder().join("README.md")).unwrap();
    fs::create_dir(home.folder().join("README.md")).unwrap();
    home.refused(&["README.md", "not a regular file"]);
    fs::remove_dir_all(home.folder()).unwrap();
    home.refused(&["model: "]);
    fs::create_dir(home.folder()).unwrap();
    let error = create(&home.folder(), &[], |_, _| ()).unwrap_err();
    assert!(matches!(error, ManifestError::Nothing { .. }), "{error}");
}

#[test]
fn a_manifest_may_lie_in_the_folder_itself() {
    let home = SignedFolder::new();
    let inside = home.folder().join("model.sha256");
    let own = [inside.clone(), signature_path(&inside)];
    let manifest = create(&home.folder(), &own, |_, _| ()).unwrap();
    fs::write(&inside, manifest.to_string()).unwrap();
    assert_eq!(create(&home.folder(), &own, |_, _| ()).unwrap(), manifest);
    let expected = Expected {
        manifest: inside,
        keys: Vec::new(),
    };
    let begun = Verification::start(&home.folder(), &expected).unwrap();
    begun.wait(|_, _| ()).unwrap().unchanged().unwrap();
}

#[test]
fn ten_thousand_files_are_no_trouble() {
    let home = SignedFolder::new();
    for index in 0..10_000 {
        home.write(&format!("{index:05}.txt"), &[index as u8]);
    }
    home.publish();
    let verified = home.verify().unwrap();
    assert_eq!(verified.manifest().files().len(), 10_004);
    verified.unchanged().unwrap();
    home.write("05000.txt", b"?");
    home.refused(&["05000.txt"]);
}
