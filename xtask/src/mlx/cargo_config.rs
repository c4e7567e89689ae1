//! The configuration that stands in for mlx-sys' build script, and tells binaries where libmlx is.

use super::steps::Steps;
use super::wheel::{self, Wheel};
use super::{MlxError, Places};

/// Writes it; another run writes the same.
pub fn write(wheel: &Wheel, places: &Places, steps: &mut Steps) -> Result<(), MlxError> {
    let path = places.config();
    steps.write(&path, &text(wheel, places))
}

fn text(wheel: &Wheel, places: &Places) -> String {
    let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let libmlx = wheel::libmlx(places);
    // Beside the binary first: that is where a release has it.
    let mut arguments = format!(
        "\"-C\", \"link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/mlx/lib:{}\"",
        libmlx.display()
    );
    if wheel.partial {
        // CUDA's own libraries are only where it runs.
        arguments += ", \"-C\", \"link-arg=-Wl,--unresolved-symbols=ignore-in-shared-libs\"";
    }
    format!(
        r#"# Written by cargo xtask mlx: MLX from PyPI instead of mlx-sys' build script.
[target.x86_64-unknown-linux-gnu]
rustflags = [{arguments}]

[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-link-search = [{lib}, {libmlx}]

[target.x86_64-unknown-linux-gnu.mlx.rustc-env]
OUT_DIR = {out}
"#,
        lib = quoted(&format_search(&places.lib())),
        libmlx = quoted(&format_search(&libmlx)),
        out = quoted(&places.out()),
    )
}

fn format_search(folder: &std::path::Path) -> std::path::PathBuf {
    format!("native={}", folder.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_toml_that_replaces_the_build_script() {
        let places = Places::new("cpu");
        for wheel in [Wheel::CPU, Wheel::CUDA] {
            let config: toml::Table = text(&wheel, &places).parse().unwrap();
            let target = &config["target"]["x86_64-unknown-linux-gnu"];
            let out = target["mlx"]["rustc-env"]["OUT_DIR"].as_str().unwrap();
            assert!(out.ends_with("mlx/cpu/out"), "{out}");
            let flags = target["rustflags"].as_array().unwrap();
            assert_eq!(flags.len(), if wheel.partial { 4 } else { 2 });
        }
    }
}
