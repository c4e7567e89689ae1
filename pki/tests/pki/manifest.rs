//! `manifest`: from a key to a verified folder.

use std::fs;
use std::process::Command;

use crate::Desk;

fn with_model() -> Desk {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("model/more")).unwrap();
    fs::write(desk.path("model/config.json"), "{}").unwrap();
    fs::write(desk.path("model/model.safetensors"), [7; 100_000]).unwrap();
    fs::write(desk.path("model/more/notes.txt"), "notes").unwrap();
    desk
}

#[test]
fn a_folder_is_listed_signed_and_verified() {
    let desk = with_model();
    let said = desk.done("manifest keygen");
    let public = String::from_utf8(desk.read("home/certs/manifest.pub")).unwrap();
    assert!(public.len() == 65 && said.contains(public.trim()), "{said}");
    assert_eq!(crate::mode(&desk.path("home/secrets/manifest.key")), 0o600);
    assert!(
        desk.done("manifest create model/")
            .contains("lists 3 files")
    );
    assert!(
        desk.refused("manifest verify model")
            .contains("is not signed")
    );
    desk.done("manifest verify model --unsigned");
    desk.done("manifest sign model.sha256");
    assert_eq!(desk.read("model.sha256.sig").len(), 64);
    let said = desk.done("manifest verify model");
    assert!(
        said.contains("3 files with 100007 bytes") && said.contains(public.trim()),
        "{said}"
    );

    // coreutils read the same file.
    let sums = Command::new("sha256sum")
        .args(["--check", "--quiet", "../model.sha256"])
        .current_dir(desk.path("model"))
        .status();
    match sums {
        Ok(status) => assert!(status.success()),
        Err(error) => println!("skipped: there is no sha256sum here ({error})"),
    }

    fs::write(desk.path("model/model.safetensors"), [8; 100_000]).unwrap();
    assert!(
        desk.refused("manifest verify model")
            .contains("model.safetensors")
    );
    let said = desk.done("manifest create model");
    assert!(said.contains("sign it again"), "{said}");
    assert!(
        desk.refused("manifest verify model")
            .contains("is not the signature")
    );
    desk.done("manifest sign model.sha256");
    desk.done("manifest verify model");
}

#[test]
fn the_former_key_counts_until_its_public_half_is_removed() {
    let desk = with_model();
    desk.done("manifest keygen");
    desk.done("manifest create model --out lists/model.sha256");
    desk.done("manifest sign lists/model.sha256");
    desk.done("manifest keygen --force");
    let verify = "manifest verify model --manifest lists/model.sha256";
    desk.done(verify);
    // Once more would forget the key that all manifests are signed with.
    let told = desk.refused("manifest keygen --force");
    assert!(told.contains("manifest-old.pub"), "{told}");
    desk.done(verify);
    fs::remove_file(desk.path("home/certs/manifest-old.pub")).unwrap();
    assert!(desk.refused(verify).contains("is not the signature"));
    desk.done("manifest sign lists/model.sha256");
    desk.done(verify);
    desk.done(&format!("{verify} --key home/certs/manifest.pub"));
}
