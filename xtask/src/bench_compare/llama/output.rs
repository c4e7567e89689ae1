//! What `llama-bench -o json` prints.

use serde::Deserialize;

use crate::bench_compare::workload::Workload;

/// A test of the array; the other fields are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct LlamaTest {
    /// The commit that the program was built from.
    pub(super) build_commit: String,
    /// Parameters of the model.
    pub(super) model_n_params: f64,
    /// Tokens a second of each repetition.
    pub(super) samples_ts: Vec<f64>,
    n_prompt: usize,
    n_gen: usize,
    /// Only of llama.cpp.
    n_depth: Option<usize>,
}

impl LlamaTest {
    /// What it measured.
    pub(super) fn workload(&self) -> Workload {
        match self.n_gen {
            0 => Workload::Prefill {
                tokens: self.n_prompt,
            },
            tokens => Workload::Decode {
                tokens,
                streams: 1,
                // With `-gp` the prompt is what ik_llama.cpp generates behind.
                depth: self.n_depth.unwrap_or(self.n_prompt),
            },
        }
    }
}

/// The objects of the array. Other lines between them are skipped: ik_llama.cpp prints how many tensors it repacked.
///
/// # Errors
/// If an object is not a test.
pub(super) fn read(stdout: &str) -> Result<Vec<LlamaTest>, serde_json::Error> {
    let mut tests = Vec::new();
    let mut object: Option<String> = None;
    for line in stdout.lines().map(str::trim) {
        match object.take() {
            None if line == "{" => object = Some(line.to_owned()),
            None => {}
            Some(text) if line.starts_with('}') => {
                tests.push(serde_json::from_str(&format!("{text}}}"))?);
            }
            Some(text) => object = Some(format!("{text}\n{line}")),
        }
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama.cpp prints it, without most fields.
    const LLAMA_CPP: &str = r#"[
  {
    "build_commit": "8cf427ff",
    "build_number": 5163,
    "cpu_info": "AMD EPYC \"Milan\"",
    "model_type": "qwen35 0.8B Q4_0",
    "model_n_params": 751000000,
    "use_mmap": true,
    "n_prompt": 128,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ts": 107.700000,
    "samples_ns": [ 1242718446, 1075630252, 1267326732 ],
    "samples_ts": [ 103, 119, 101 ]
  },
  {
    "build_commit": "8cf427ff",
    "model_n_params": 751000000,
    "n_prompt": 0,
    "n_gen": 64,
    "n_depth": 4096,
    "samples_ts": [ 33.5 ]
  }
]
"#;

    /// As ik_llama.cpp prints it: the array begins before the model is loaded.
    const IK_LLAMA_CPP: &str = r#"[
============ Repacked 187 tensors
  {
    "build_commit": "1ac6a2e0",
    "model_n_params": 751000000,
    "n_prompt": 128,
    "n_gen": 0,
    "test": "pp128",
    "samples_ts": [ 171, 183, 153 ]
  },
  {
    "build_commit": "1ac6a2e0",
    "model_n_params": 751000000,
    "n_prompt": 4096,
    "n_gen": 64,
    "test": "tg64@pp4096",
    "samples_ts": [ 40, 39 ]
  }
]
"#;

    #[test]
    fn llama_output_is_read_with_and_without_depth_and_other_lines() {
        for (printed, commit, prefill, decode) in [
            (LLAMA_CPP, "8cf427ff", vec![103.0, 119.0, 101.0], vec![33.5]),
            (
                IK_LLAMA_CPP,
                "1ac6a2e0",
                vec![171.0, 183.0, 153.0],
                vec![40.0, 39.0],
            ),
        ] {
            let tests = read(printed).unwrap();
            let workloads: Vec<_> = tests
                .iter()
                .map(|test| test.workload().to_string())
                .collect();
            assert_eq!(workloads, ["prefill 128", "decode 64 x 1 @ 4096"]);
            assert_eq!(tests[0].samples_ts, prefill);
            assert_eq!(tests[1].samples_ts, decode);
            assert_eq!(tests[0].build_commit, commit);
            assert_eq!(tests[0].model_n_params, 751e6);
        }
    }

    #[test]
    fn llama_output_of_another_form_has_no_test_or_an_error() {
        assert!(read("[\n\n]\n").unwrap().is_empty());
        assert!(read("| model | test | t/s |\n").unwrap().is_empty());
        assert!(read("{\n\"n_gen\": 64\n}\n").is_err());
    }
}
