//! What others computed, and how far from it we are: shared by the tests of all backends.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

/// A reference: tokens and the logits that another program computed for them.
pub(crate) struct Golden {
    pub tokens: Vec<u32>,
    pub logits: Vec<f32>,
}

/// The reference in a folder.
pub(crate) fn golden(folder: &Path) -> Golden {
    let bytes = fs::read(folder.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 4]> {
        let (words, rest) = file.tensor(name).unwrap().data().as_chunks::<4>();
        assert!(rest.is_empty());
        words.to_vec()
    };
    Golden {
        tokens: words("tokens")
            .into_iter()
            .map(u32::from_le_bytes)
            .collect(),
        logits: words("logits")
            .into_iter()
            .map(f32::from_le_bytes)
            .collect(),
    }
}

/// The folder of a reference.
#[allow(dead_code)] // not every test picks one
pub(crate) fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    root.join(name)
}

/// The references of a kind, in order.
#[allow(dead_code)] // nor does every test take all of them
pub(crate) fn folders(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(kind);
    let mut folders: Vec<_> = fs::read_dir(&root)
        .unwrap_or_else(|e| panic!("{}: {e}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// max |Δ| over the reference's standard deviation.
pub(crate) fn distance(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let mean = reference.iter().map(|&x| f64::from(x)).sum::<f64>() / reference.len() as f64;
    let variance = reference
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / reference.len() as f64;
    let worst = ours
        .iter()
        .zip(reference)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .fold(
            0.0,
            |worst, d| if d > worst || d.is_nan() { d } else { worst },
        );
    worst / variance.sqrt()
}
