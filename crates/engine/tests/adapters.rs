//! Merged adapters against what mlx_lm makes of the same checkpoints and pairs, on every backend of this build.
//!
//! The reference is fused in f32, as the engine does it, so that only the order of additions differs. `mlx_lm.fuse` adds in the
//! checkpoint's own type: the engine must be as near to the unrounded sum.

#[allow(dead_code)] // these cases hold more than one reference, and read them themselves
mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use reference::{distance, folders};
use safetensors::SafeTensors;
use sanctum_engine::backend::{CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{AdapterSource, HostModel, LoadError, ModelSource};

/// A case of `tests/golden/make_adapters.py`.
struct Case {
    folder: PathBuf,
    tokens: Vec<u32>,
    base: Vec<f32>,
    logits: Vec<f32>,
    narrow: Vec<f32>,
    unrounded: Vec<f32>,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases: Vec<_> = folders("adapters").into_iter().map(Self::read).collect();
        assert!(cases.len() >= 3);
        cases
    }

    fn read(folder: PathBuf) -> Self {
        let bytes = fs::read(folder.join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| file.tensor(name).unwrap().data().as_chunks().0.to_vec();
        let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect();
        Self {
            tokens: words("tokens")
                .into_iter()
                .map(u32::from_le_bytes)
                .collect(),
            base: floats("base"),
            logits: floats("logits"),
            narrow: floats("narrow"),
            unrounded: floats("unrounded"),
            folder,
        }
    }

    fn checkpoint(&self) -> ModelSource {
        let name = self.folder.file_name().unwrap();
        let golden = self.folder.parent().unwrap().parent().unwrap();
        ModelSource::Folder(golden.join("mlx").join(name))
    }

    fn open(&self, layout: Option<&str>) -> HostModel {
        let adapter = layout.map(|layout| AdapterSource {
            name: layout.parse().unwrap(),
            folder: self.folder.join(layout),
        });
        HostModel::open_adapted(&self.checkpoint(), adapter.as_ref(), |_, _| {})
            .unwrap_or_else(|error| panic!("{}: {error}", self.folder.display()))
    }
}

fn agrees(logits: impl Fn(HostModel, &[u32]) -> Vec<f32>) {
    let mut report = String::new();
    let mut fine = true;
    for case in Case::all() {
        let name = case.folder.file_name().unwrap().to_string_lossy();
        let theirs = distance(&case.narrow, &case.unrounded);
        let base = distance(&logits(case.open(None), &case.tokens), &case.base);
        report += &format!("{name}: without {base:.2e}\n");
        fine &= base <= 1e-3;
        for layout in ["mlx", "peft"] {
            let host = case.open(Some(layout));
            let info = host.adapter.clone().unwrap();
            assert!(
                host.fingerprint.ends_with(&format!("+{info}")),
                "{}",
                host.fingerprint
            );
            let merged = logits(host, &case.tokens);
            let ours = distance(&merged, &case.unrounded);
            let merged = distance(&merged, &case.logits);
            report += &format!(
                "{name}: {info} {merged:.2e}; from the unrounded sum {ours:.2e}, mlx_lm's own {theirs:.2e}\n"
            );
            fine &= merged <= 1e-3 && ours <= theirs.max(1e-3) * 1.1;
        }
    }
    println!("{report}");
    assert!(fine, "{report}");
}

#[test]
fn merged_logits_agree_with_mlx_lm_s_fused_model() {
    agrees(|host, tokens| {
        let backend = CpuBackend::new(&host.config, 1, Precision::Exact);
        Model::new(backend, host.config, host.weights).logits(&[tokens])
    });
}

#[cfg(feature = "mlx")]
#[test]
fn merged_logits_agree_with_mlx_lm_s_fused_model_on_mlx() {
    use sanctum_engine::backend::{MlxBackend, MlxDevice};
    agrees(|host, tokens| {
        let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, Precision::Exact);
        Model::new(backend, host.config, host.weights).logits(&[tokens])
    });
}

/// Both layouts hold the same numbers: whichever is read, the same weights come of it.
#[test]
fn both_layouts_give_the_same_bits() {
    for case in Case::all() {
        let [mlx, peft] = ["mlx", "peft"].map(|layout| case.open(Some(layout)).weights);
        for (a, b) in mlx.matrices().into_iter().zip(peft.matrices()) {
            for (a, b) in a.parts().into_iter().zip(b.parts()) {
                assert!(**a == **b, "{}", case.folder.display());
            }
        }
    }
}

/// The fingerprint tells one adapter from another, and from none.
#[test]
fn the_fingerprint_tells() {
    let case = &Case::all()[0];
    let [none, mlx, peft] = [None, Some("mlx"), Some("peft")].map(|l| case.open(l).fingerprint);
    assert!(!none.contains('+'), "{none}");
    assert!(mlx.ends_with("+mlx-r4-a8-25"), "{mlx}");
    assert!(peft.ends_with("+peft-r4-a8-25"), "{peft}");
    let weights = |fingerprint: &str| fingerprint.split('+').next().unwrap().to_owned();
    assert_ne!(weights(&none), weights(&mlx));
    assert_ne!(weights(&mlx), weights(&peft));
}

/// An adapter that was trained for another model is refused by the tensor that does not fit.
#[test]
fn another_model_s_adapter_does_not_load() {
    let cases = Case::all();
    let refused = |model: &Case, adapter: &Path| {
        let adapter = AdapterSource {
            name: "other".parse().unwrap(),
            folder: adapter.to_owned(),
        };
        match HostModel::open_adapted(&model.checkpoint(), Some(&adapter), |_, _| {}) {
            Err(error @ LoadError::Adapter { .. }) => error.to_string(),
            other => panic!("{:?}", other.map(|host| host.fingerprint)),
        }
    };
    let error = refused(&cases[0], &cases[1].folder.join("mlx"));
    assert!(
        error.starts_with("adapter other: the model has no matrix for tensor "),
        "{error}"
    );
    assert!(error.contains("trained for another model"), "{error}");
    let missing = refused(&cases[0], &cases[1].folder);
    assert!(
        missing.contains("the folder of other has neither"),
        "{missing}"
    );
}
