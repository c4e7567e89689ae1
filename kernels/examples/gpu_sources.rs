//! Writes the kernels' texts as files, for the checks that want no Rust: `gpu_sources FOLDER`.
//!
//! For each kernel a folder with `header.cuda`, `header.metal`, `body`, `inputs` and `outputs`.

use std::path::PathBuf;
use std::{env, fs, io};

use sanctum_kernels::gpu::{self, Dialect, GpuKernel};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: gpu_sources FOLDER"))?;
    for kernel in kernels() {
        let folder = folder.join(&kernel.name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("header.metal"), kernel.header(Dialect::Metal))?;
        fs::write(folder.join("header.cuda"), kernel.header(Dialect::Cuda))?;
        fs::write(folder.join("body"), &kernel.body)?;
        fs::write(folder.join("inputs"), kernel.inputs.join(" "))?;
        fs::write(folder.join("outputs"), kernel.outputs.join(" "))?;
    }
    Ok(())
}

fn kernels() -> Vec<GpuKernel> {
    let mut kernels = vec![
        gpu::add_norm(),
        gpu::swiglu(),
        gpu::route(),
        gpu::mix(),
        gpu::gated_norm(),
        gpu::short_conv(),
        gpu::gated_delta(),
        gpu::delta_step(),
        gpu::placed(),
        gpu::placed_store(),
        gpu::sdpa_dequant_v(false),
        gpu::sdpa_dequant_v(true),
        gpu::attention_end(),
        gpu::quantize_v(),
        gpu::unpack(),
    ];
    kernels.extend((1..=4).map(gpu::qmv));
    kernels.extend((1..=4).map(gpu::qmm));
    kernels.extend([gpu::qmv_gated(), gpu::qmm_gated()]);
    kernels.extend([gpu::qmv_places(), gpu::qmv_places_gated()]);
    kernels.extend([true, false].map(gpu::sdpa_tensor));
    kernels
}
