//! Everything that mlx-rs does not offer safely, and nothing else.

use mlx_rs::{Array, Dtype};

/// Copies `bytes` into an array of its own.
///
/// # Panics
/// If there are more or fewer bytes than the shape needs.
pub fn copied(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Array {
    let size = match dtype {
        Dtype::Uint32 | Dtype::Float32 => 4,
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        other => panic!("weights are never stored as {other:?}"),
    };
    let count: usize = shape.iter().map(|&n| n as usize).product();
    assert_eq!(bytes.len(), count * size, "{shape:?} of {dtype:?}");
    // MLX reads the numbers as numbers: a tensor may lie anywhere in its file.
    let aligned;
    let bytes = if bytes.as_ptr().align_offset(size) == 0 {
        bytes
    } else {
        aligned = Aligned::new(bytes);
        aligned.bytes(bytes.len())
    };
    // SAFETY: MLX copies `count` numbers of `size` bytes before it returns; that many lie there (asserted above),
    // aligned for their type, and every bit pattern is a number of these types.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) }
}

/// Bytes that begin where any number may begin.
struct Aligned(Vec<[u8; 4]>, usize);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        // One word more, so that an aligned start leaves room for all.
        let mut words = vec![[0; 4]; bytes.len() / 4 + 2];
        let flat = words.as_flattened_mut();
        let start = flat.as_ptr().align_offset(4);
        flat[start..start + bytes.len()].copy_from_slice(bytes);
        Self(words, start)
    }

    fn bytes(&self, len: usize) -> &[u8] {
        &self.0.as_flattened()[self.1..self.1 + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_from_wherever_they_lie() {
        let numbers = [1.5f32, -2.0, 0.25];
        let plain: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        for shift in 0..4 {
            let moved: Vec<u8> = [vec![0; shift], plain.clone()].concat();
            let array = copied(&moved[shift..], &[3], Dtype::Float32);
            assert_eq!(array.as_slice::<f32>(), numbers);
        }
    }
}
