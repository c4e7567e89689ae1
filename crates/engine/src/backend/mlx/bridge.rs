//! Everything that mlx-rs does not offer safely, and nothing else.

mod environment;
mod kernel;
mod source_file;

use std::ffi::CStr;

use mlx_rs::{Array, Device, Dtype};

pub(super) use self::environment::{disable_graph_limit, has_graph_limit};
pub(super) use self::kernel::{CustomKernel, Gpu, KernelCall, TemplateArgument};

/// Copies `bytes` into an array of its own.
///
/// # Panics
/// If there are more or fewer bytes than the shape needs.
pub(super) fn copied(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Array {
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

/// A size that MLX knows of the GPU, by its name there.
pub(super) fn gpu_size(key: &CStr) -> Option<u64> {
    // The first use of mlx-rs makes errors come back: mlx-c's own way is to end the process.
    Device::try_default().ok()?;
    // SAFETY: the device and the info are made and freed here, each once; every out-pointer is a live local; a call
    // that fails gives a status other than 0 and leaves the locals as they are. `key` ends with a zero byte.
    unsafe {
        let gpu = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let (mut known, mut size) = (false, 0usize);
        let found = mlx_sys::mlx_device_info_get(&mut info, gpu) == 0
            && mlx_sys::mlx_device_info_has_key(&mut known, info, key.as_ptr()) == 0
            && known
            && mlx_sys::mlx_device_info_get_size(&mut size, info, key.as_ptr()) == 0;
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(gpu);
        found.then_some(size as u64)
    }
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
