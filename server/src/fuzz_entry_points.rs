//! The fuzz entry points: a function for each place where bytes from outside are first read. `fuzz/` calls them, and the
//! test below replays its seeds.
//!
//! A function accepts any bytes; it panics where an invariant does not hold.

use std::path::Path;

use sanctum_config::fleet::Fleet;
use sanctum_manifest::Manifest;

pub use crate::api::fuzz::request;
pub use crate::gate::fuzz::bearer;
pub use crate::tls::fuzz::{certificate, crl};
pub use sanctum_engine::text::output::fuzz_output as output;

/// The manifest of a model's folder. It is the same after it was printed and parsed again.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(
            Manifest::parse(manifest.to_string().as_bytes()),
            Ok(manifest)
        );
    }
}

/// fleet.toml. An error names the file.
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

    const ENTRY_POINTS: [(&str, Feed); 7] = [
        ("bearer", bearer),
        ("certificate", certificate),
        ("crl", crl),
        ("fleet", fleet),
        ("manifest", manifest),
        ("output", output),
        ("request", request),
    ];

    #[test]
    fn seeds_of_the_fuzz_targets_do_not_panic() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        for (name, feed) in ENTRY_POINTS {
            let mut fed = 0;
            for seed in fs::read_dir(seeds.join(name)).unwrap() {
                let bytes = fs::read(seed.unwrap().path()).unwrap();
                feed(&bytes);
                // Cut short, as a file is while it is written.
                feed(&bytes[..bytes.len() / 2]);
                fed += 1;
            }
            assert!(fed > 0, "{name} has no seeds");
        }
    }
}
