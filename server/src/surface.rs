//! Where bytes from outside are first read, a function for each: what `fuzz/` feeds, and what the test below replays.
//!
//! A function here takes any bytes and returns; it panics where something that always holds does not. What each of
//! them does with the bytes is the business of the module that reads them.

use std::path::Path;

use sanctum_config::fleet::Fleet;
use sanctum_manifest::Manifest;

pub use crate::api::surface::request;
pub use crate::gate::surface::bearer;
pub use crate::tls::surface::{certificate, crl};

/// The manifest of a model's folder. What was read is what is printed and read again.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(
            Manifest::parse(manifest.to_string().as_bytes()),
            Ok(manifest)
        );
    }
}

/// fleet.toml. An error says where.
pub fn fleet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = Fleet::parse(text, Path::new("fleet.toml")) {
        assert!(error.to_string().contains("fleet.toml"), "{error}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Feed = fn(&[u8]);

    const SURFACES: [(&str, Feed); 6] = [
        ("bearer", bearer),
        ("certificate", certificate),
        ("crl", crl),
        ("fleet", fleet),
        ("manifest", manifest),
        ("request", request),
    ];

    #[test]
    fn the_seeds_of_the_fuzz_targets_are_no_trouble() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        for (name, feed) in SURFACES {
            let mut fed = 0;
            for seed in fs::read_dir(seeds.join(name)).unwrap() {
                let bytes = fs::read(seed.unwrap().path()).unwrap();
                feed(&bytes);
                // Cut short, as files are that are being written.
                feed(&bytes[..bytes.len() / 2]);
                fed += 1;
            }
            assert!(fed > 0, "{name} has no seeds");
        }
    }
}
