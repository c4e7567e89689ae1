//! Damage to a model's weights: one bit, which only a question finds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A scale of the built-in model whose wrong exponent makes a wrong answer: attention to the wrong places.
pub const SCALES: &str = "language_model.model.layers.3.self_attn.q_proj.scales";

/// A byte of a model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightByte {
    /// The file.
    pub file: PathBuf,
    /// The byte's offset in it.
    pub offset: u64,
    /// Its value.
    pub value: u8,
}

impl WeightByte {
    /// The byte with the sign and the exponent's upper bits of a tensor's first number, a bf16. `model` is the model's folder.
    ///
    /// # Errors
    /// If the file cannot be read, or has no such tensor of bf16.
    pub fn exponent(model: &Path, tensor: &str) -> io::Result<Self> {
        let file = model.join("model.safetensors");
        let bytes = fs::read(&file)?;
        let invalid = || io::Error::other(format!("{} has no bf16 {tensor}", file.display()));
        // safetensors: the header's length in 8 bytes, the header as JSON, the data.
        let length = bytes
            .first_chunk()
            .map(|length| u64::from_le_bytes(*length));
        let data = 8 + length.ok_or_else(invalid)? as usize;
        let header: Value = serde_json::from_slice(bytes.get(8..data).ok_or_else(invalid)?)?;
        let about = &header[tensor];
        let begin = about["data_offsets"][0].as_u64();
        let begin = begin
            .filter(|_| about["dtype"] == "BF16")
            .ok_or_else(invalid)?;
        // Little-endian: sign and the exponent's upper seven bits are in the second byte.
        let offset = data as u64 + begin + 1;
        let value = *bytes.get(offset as usize).ok_or_else(invalid)?;
        Ok(Self {
            file,
            offset,
            value,
        })
    }

    /// Its value with the highest bit of the exponent flipped.
    pub fn flipped(&self) -> u8 {
        self.value ^ 0x40
    }
}

/// Flips the highest bit of the exponent of a tensor's first number.
///
/// # Panics
/// If that is not possible.
pub fn flip_a_bit(model: &Path, tensor: &str) {
    let byte = WeightByte::exponent(model, tensor).unwrap();
    let file = File::options().write(true).open(&byte.file).unwrap();
    file.write_all_at(&[byte.flipped()], byte.offset).unwrap();
}
