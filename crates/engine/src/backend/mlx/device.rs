//! The device that MLX computes on.

use mlx_rs::Device;

/// Where MLX computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlxDevice {
    /// The processor: for correctness.
    Cpu,
    /// Metal or CUDA.
    Gpu,
}

impl MlxDevice {
    /// The best that this machine has.
    pub fn best() -> Self {
        // MLX's own default is a GPU where there is one.
        let gpu = Device::try_default().is_ok_and(|device| device == Device::gpu());
        if gpu { Self::Gpu } else { Self::Cpu }
    }
}
