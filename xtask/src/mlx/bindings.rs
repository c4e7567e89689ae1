//! bindings.rs: mlx-c's headers as Rust declarations, as mlx-sys' build script generates them on a Mac.

use std::path::Path;
use std::process::Command;

use super::MlxError;
use super::folders::MlxFolders;
use super::mlxc::Compiler;
use super::source::{self, Source};
use super::wheel::{self, Wheel};
use crate::error::StepError;
use crate::steps::CachedSteps;

const HALF: &str = include_str!("native/half.h");

/// On Apple's compilers `__fp16` becomes a separate type and `__bf16` a plain u16; mlx-rs depends on both.
const FLOAT16: &str = "\
#[doc = \" Bits of a half-precision number.\"]
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default)]
pub struct float16_t(pub u16);";

/// Fetches libclang and generates the bindings in a child process whose environment names it.
pub(crate) fn make(
    source: &Source,
    folders: &MlxFolders,
    steps: &mut CachedSteps,
) -> Result<(), MlxError> {
    Wheel::LIBCLANG.fetch("libclang", &folders.libclang(), steps)?;
    let out = folders.out();
    let key = format!("mlx-sys {}\n{HALF}{FLOAT16}", source.sys);
    steps.once("bindings.rs", &out, &key, |steps| {
        let builtin = Compiler::find()?.builtin_headers()?;
        steps.write(&out.join("half.h"), HALF)?;
        let this = std::env::current_exe().map_err(StepError::file("xtask"))?;
        let mut child = Command::new(this);
        child
            .env("LIBCLANG_PATH", wheel::libclang(folders))
            .arg("bindings")
            .args([&source.mlx_c, &builtin, &out.join("bindings.rs")]);
        Ok::<_, MlxError>(steps.run(&mut child)?)
    })
}

/// Writes the bindings; libclang is where `LIBCLANG_PATH` says.
pub(crate) fn write(mlx_c: &Path, builtin: &Path, out: &Path) -> Result<(), MlxError> {
    let headers = source::files(&mlx_c.join("mlx/c"), "h")?;
    let half = out.with_file_name("half.h");
    let builder = bindgen::Builder::default()
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_args(["-include", &half.to_string_lossy()])
        .clang_args(["-isystem", &builtin.to_string_lossy()])
        .blocklist_type("float16_t")
        .raw_line(FLOAT16)
        // Their `c_ulong` sizes trip a lint, and no code calls them.
        .blocklist_function("malloc")
        .blocklist_function("realloc");
    let builder = headers
        .iter()
        .fold(builder, |b, h| b.header(h.to_string_lossy()));
    let bindings = builder.generate()?;
    Ok(bindings.write_to_file(out).map_err(StepError::file(out))?)
}
