//! The tensors of a checkpoint's safetensors files, by canonical name.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::{Dtype, SafeTensors};
use sanctum_manifest::Bytes;
use serde::Deserialize;

use super::{CheckpointError, Files};
use crate::json;

/// A tensor, as a view into its file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// Its name in the file, for messages.
    pub name: String,
    /// The file that holds it.
    pub file: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its elements, row-major, little-endian.
    pub bytes: Bytes,
}

/// The name of a tensor or module without the prefixes by which exporters differ: `model.…` or `lm_head.…`.
pub(crate) fn canonical_name(name: &str) -> String {
    for (prefix, plain) in [
        ("model.language_model.", "model."),
        ("language_model.model.", "model."),
        ("language_model.", ""),
    ] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!("{plain}{rest}");
        }
    }
    name.to_owned()
}

/// Whether a tensor belongs to a part that a text server does not run: the vision tower or the multi-token
/// prediction head.
fn is_foreign(name: &str) -> bool {
    [
        "model.visual.",
        "visual.",
        "vision_tower.",
        "model.vision_tower.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
        || name.split('.').any(|part| part == "mtp")
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Every tensor of the language model, by canonical name.
///
/// # Errors
/// If a file is missing or damaged, the index and the shards disagree, or a tensor is there twice.
pub(crate) fn tensors(files: &Files) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut promised = BTreeMap::new();
    let shards: BTreeSet<String> = match files.open("model.safetensors.index.json")? {
        None => ["model.safetensors".to_owned()].into(),
        Some(file) => {
            let index: ShardIndex = json::parse(&file).map_err(|e| CheckpointError::Damaged {
                file: "model.safetensors.index.json".into(),
                reason: e.to_string(),
            })?;
            promised = index.weight_map;
            promised.values().cloned().collect()
        }
    };
    let mut tensors = BTreeMap::<String, Tensor>::new();
    // So that one rule tells which files are the loader's: `is_loaded`.
    if let Some(other) = shards.iter().find(|name| !name.ends_with(".safetensors")) {
        return Err(CheckpointError::Damaged {
            file: "model.safetensors.index.json".into(),
            reason: format!("{other:?} is not the name of a .safetensors file"),
        });
    }
    for shard in &shards {
        for tensor in shard_tensors(shard, files.require(shard)?)? {
            promised.remove(&tensor.name);
            let name = canonical_name(&tensor.name);
            if is_foreign(&tensor.name) {
                tracing::debug!(tensor = tensor.name, "not part of the language model");
            } else if let Some(first) = tensors.get(&name) {
                return Err(CheckpointError::Twice {
                    name,
                    first: first.file.clone(),
                    second: tensor.file,
                });
            } else {
                tensors.insert(name, tensor);
            }
        }
    }
    match promised.pop_first() {
        Some((tensor, shard)) => Err(CheckpointError::NotInShard { tensor, shard }),
        None => Ok(tensors),
    }
}

/// The tensors of one safetensors file.
pub(crate) fn shard_tensors(file: &str, bytes: Bytes) -> Result<Vec<Tensor>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged {
        file: file.to_owned(),
        reason,
    };
    // `deserialize` checks that the tensors tile the file exactly, so a truncated file does not pass.
    let parsed = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let base = bytes.as_ptr() as usize;
    Ok(parsed
        .iter()
        .map(|(name, view)| {
            let start = view.data().as_ptr() as usize - base;
            Tensor {
                name: name.to_owned(),
                file: file.to_owned(),
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: bytes.slice(start..start + view.data().len()),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(tensors: &[(&str, Vec<usize>)]) -> Vec<u8> {
        let zeros = vec![0u8; 4096];
        let views = tensors.iter().map(|(name, shape)| {
            let len = shape.iter().product::<usize>() * 2;
            let view =
                safetensors::tensor::TensorView::new(Dtype::BF16, shape.clone(), &zeros[..len]);
            (name.to_string(), view.unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn names_lose_their_prefixes_and_foreign_parts_are_left_out() {
        let bytes = file(&[
            ("model.language_model.norm.weight", vec![4]),
            ("language_model.lm_head.weight", vec![2, 4]),
            ("model.visual.patch_embed.proj.bias", vec![4]),
            ("mtp.norm.weight", vec![4]),
        ]);
        let found = tensors(&Files::memory([("model.safetensors", bytes)])).unwrap();
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["lm_head.weight", "model.norm.weight"]);
        assert_eq!(found["lm_head.weight"].shape, [2, 4]);
        assert_eq!(found["lm_head.weight"].bytes.len(), 16);
    }

    #[test]
    fn shards_are_read_through_the_index() {
        let index = |map: serde_json::Value| {
            serde_json::json!({"metadata": {}, "weight_map": map})
                .to_string()
                .into_bytes()
        };
        let a = file(&[("model.a", vec![4])]);
        let b = file(&[("model.b", vec![8])]);
        let right =
            index(serde_json::json!({"model.a": "one.safetensors", "model.b": "two.safetensors"}));
        let files = |json, b| {
            Files::memory([
                ("model.safetensors.index.json", json),
                ("one.safetensors", a.clone()),
                ("two.safetensors", b),
            ])
        };
        assert_eq!(tensors(&files(right.clone(), b.clone())).unwrap().len(), 2);
        let wrong =
            index(serde_json::json!({"model.c": "one.safetensors", "model.b": "two.safetensors"}));
        let error = tensors(&files(wrong, b)).unwrap_err().to_string();
        assert!(error.contains("one.safetensors holds model.c"), "{error}");
        let error = tensors(&files(right, a.clone())).unwrap_err().to_string();
        assert!(error.contains("model.a is there twice"), "{error}");
    }

    #[test]
    fn a_truncated_file_is_named() {
        let mut bytes = file(&[("model.a", vec![64])]);
        bytes.truncate(bytes.len() - 1);
        let error = tensors(&Files::memory([("model.safetensors", bytes)])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("model.safetensors is damaged"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_not_a_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = file(&[("model.a", vec![3, 5]), ("model.b", vec![64])]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = tensors(&Files::memory([("model.safetensors", bytes)]));
        }

        #[test]
        fn noise_is_an_error_and_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(tensors(&Files::memory([("model.safetensors", bytes)])).is_err());
        }
    }
}
