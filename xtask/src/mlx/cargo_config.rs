//! The cargo configuration that replaces mlx-sys' build script, and the one with the search path of libmlx.

use std::path::Path;

use super::folders::MlxFolders;
use super::wheel::{self, Wheel};
use crate::error::StepError;
use crate::steps::CachedSteps;

/// Writes both files.
pub(super) fn write(
    wheel: &Wheel,
    folders: &MlxFolders,
    steps: &mut CachedSteps,
) -> Result<(), StepError> {
    steps.write(&folders.config(), &config(folders))?;
    steps.write(&folders.flags(), &flags(wheel, folders))
}

/// Cargo uses this instead of running the build script of the package that links `mlx`.
fn config(folders: &MlxFolders) -> String {
    let search = |folder: &Path| format!("{:?}", format!("native={}", folder.display()));
    format!(
        r#"# Written by cargo xtask mlx: MLX from PyPI instead of mlx-sys' build script.
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-link-search = [{lib}, {libmlx}]

[target.x86_64-unknown-linux-gnu.mlx.rustc-env]
OUT_DIR = {out:?}
"#,
        lib = search(&folders.lib()),
        libmlx = search(&wheel::libmlx(folders)),
        out = folders.out().display().to_string(),
    )
}

/// The search path of libmlx: beside the binary first, where a release has it.
fn flags(wheel: &Wheel, folders: &MlxFolders) -> String {
    let libmlx = wheel::libmlx(folders);
    let rpath = format!("$ORIGIN:$ORIGIN/mlx/lib:{}", libmlx.display());
    let mut flags = format!("\"-C\", {:?}", format!("link-arg=-Wl,-rpath,{rpath}"));
    if wheel.partial {
        // CUDA's own libraries exist only on the machine that runs it.
        flags += ", \"-C\", \"link-arg=-Wl,--unresolved-symbols=ignore-in-shared-libs\"";
    }
    format!(
        "# Written by cargo xtask mlx: where binaries find libmlx.\n\
         [target.x86_64-unknown-linux-gnu]\nrustflags = [{flags}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_configs_are_valid_toml() {
        let folders = MlxFolders::new("cpu");
        let target = |text: String| {
            let table: toml::Table = text.parse().unwrap();
            table["target"]["x86_64-unknown-linux-gnu"].clone()
        };
        let out = target(config(&folders))["mlx"]["rustc-env"]["OUT_DIR"].clone();
        assert!(out.as_str().unwrap().ends_with("mlx/cpu/out"), "{out:?}");
        for (wheel, count) in [(Wheel::CPU, 2), (Wheel::CUDA, 4)] {
            let flags = target(flags(&wheel, &folders))["rustflags"].clone();
            assert_eq!(flags.as_array().unwrap().len(), count);
        }
    }
}
