//! The configuration that stands in for mlx-sys' build script, and the one that tells binaries where libmlx is.

use std::path::Path;

use super::Places;
use super::wheel::{self, Wheel};
use crate::error::StepError;
use crate::steps::Steps;

/// Writes both; another run writes the same.
pub fn write(wheel: &Wheel, places: &Places, steps: &mut Steps) -> Result<(), StepError> {
    steps.write(&places.config(), &config(places))?;
    steps.write(&places.flags(), &flags(wheel, places))
}

/// Cargo takes this instead of running the build script of the package that links `mlx`.
fn config(places: &Places) -> String {
    let search = |folder: &Path| format!("{:?}", format!("native={}", folder.display()));
    format!(
        r#"# Written by cargo xtask mlx: MLX from PyPI instead of mlx-sys' build script.
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-link-search = [{lib}, {libmlx}]

[target.x86_64-unknown-linux-gnu.mlx.rustc-env]
OUT_DIR = {out:?}
"#,
        lib = search(&places.lib()),
        libmlx = search(&wheel::libmlx(places)),
        out = places.out().display().to_string(),
    )
}

/// Beside the binary first, since that is where a release has it.
fn flags(wheel: &Wheel, places: &Places) -> String {
    let libmlx = wheel::libmlx(places);
    let rpath = format!("$ORIGIN:$ORIGIN/mlx/lib:{}", libmlx.display());
    let mut flags = format!("\"-C\", {:?}", format!("link-arg=-Wl,-rpath,{rpath}"));
    if wheel.partial {
        // CUDA's own libraries are only where it runs.
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
    fn both_are_toml_that_cargo_understands() {
        let places = Places::new("cpu");
        let target = |text: String| {
            let table: toml::Table = text.parse().unwrap();
            table["target"]["x86_64-unknown-linux-gnu"].clone()
        };
        let out = target(config(&places))["mlx"]["rustc-env"]["OUT_DIR"].clone();
        assert!(out.as_str().unwrap().ends_with("mlx/cpu/out"), "{out:?}");
        for (wheel, count) in [(Wheel::CPU, 2), (Wheel::CUDA, 4)] {
            let flags = target(flags(&wheel, &places))["rustflags"].clone();
            assert_eq!(flags.as_array().unwrap().len(), count);
        }
    }
}
