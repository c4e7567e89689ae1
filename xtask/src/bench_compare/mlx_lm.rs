//! mlx_lm: `python -m mlx_lm.benchmark`, which measures a prompt and decode behind it, of one or more streams.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::CompareError;
use super::figure::median;
use super::process::stdout_of;
use super::program::{BenchCall, BenchOptions, BenchOutput, BenchProgram};
use super::workload::Workload;

/// The prompt where decode is measured behind nothing: too short to matter, and long enough for the program.
const SHORTEST_PROMPT: usize = 16;
/// The tokens that are generated where only the prompt is measured.
const FEWEST_TOKENS: usize = 2;
/// Prints the version, and fails where mlx_lm is not installed.
const VERSION: &str = "from importlib.metadata import version; print(version('mlx-lm'))";

/// mlx_lm with a model's folder.
#[derive(Debug)]
pub(super) struct MlxLmBench {
    python: PathBuf,
    model: PathBuf,
    version: String,
    repeat: usize,
}

impl MlxLmBench {
    /// Asks this Python for the version of mlx_lm.
    ///
    /// # Errors
    /// If it does not start, or has no mlx_lm.
    pub(super) fn find(
        python: &Path,
        model: &Path,
        options: BenchOptions,
    ) -> Result<Self, CompareError> {
        let version = stdout_of(Command::new(python).args(["-c", VERSION]))?;
        Ok(Self {
            python: python.to_owned(),
            model: model.to_owned(),
            version: version.trim().to_owned(),
            repeat: options.repeat,
        })
    }
}

impl BenchProgram for MlxLmBench {
    fn name(&self) -> &'static str {
        "mlx_lm"
    }

    fn calls(&self, workloads: &[Workload]) -> Vec<BenchCall> {
        let calls = workloads.iter().map(|&workload| {
            let (prompt, generate, streams) = match workload {
                Workload::Prefill { tokens } => (tokens, FEWEST_TOKENS, 1),
                Workload::Decode {
                    tokens,
                    streams,
                    depth,
                } => (depth.max(SHORTEST_PROMPT), tokens, streams),
            };
            let mut command = Command::new(&self.python);
            command.args(["-m", "mlx_lm.benchmark", "--model"]);
            command
                .arg(&self.model)
                .args(["--prompt-tokens", &prompt.to_string()])
                .args(["--generation-tokens", &generate.to_string()])
                .args(["--batch-size", &streams.to_string()])
                .args(["--num-trials", &self.repeat.to_string()]);
            BenchCall {
                workloads: vec![workload],
                command,
            }
        });
        calls.collect()
    }

    fn read(&self, workloads: &[Workload], stdout: &str) -> Result<BenchOutput, String> {
        let rates = workloads.iter().map(|&workload| {
            let figure = match workload {
                Workload::Prefill { .. } => "prompt_tps=",
                Workload::Decode { .. } => "generation_tps=",
            };
            let trials: Vec<f64> = stdout
                .lines()
                .filter(|line| line.starts_with("Trial "))
                .filter_map(|line| value(line, figure))
                .collect();
            match trials.is_empty() {
                true => Err(format!("no line `Trial N: … {figure}…`")),
                false => Ok((workload, median(&trials))),
            }
        });
        Ok(BenchOutput {
            version: self.version.clone(),
            rates: rates.collect::<Result<_, String>>()?,
            limits: None,
        })
    }
}

/// The number after `name` in `Trial 1:  prompt_tps=812.345, generation_tps=41.250, …`.
fn value(line: &str, name: &str) -> Option<f64> {
    line.split([' ', ','])
        .find_map(|part| part.strip_prefix(name))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::command_line;

    const PRINTED: &str = "Running warmup..
Timing with prompt_tokens=4096, generation_tokens=64, batch_size=8.
Trial 1:  prompt_tps=812.500, generation_tps=41.250, peak_memory=1.250, total_time=6.500
Trial 2:  prompt_tps=800.000, generation_tps=40.000, peak_memory=1.250, total_time=6.600
Trial 3:  prompt_tps=820.000, generation_tps=42.000, peak_memory=1.250, total_time=6.400
Averages: prompt_tps=810.833, generation_tps=41.083, peak_memory=1.250
";

    fn bench() -> MlxLmBench {
        MlxLmBench {
            python: "python3".into(),
            model: "mlxq".into(),
            version: "0.32.2".to_owned(),
            repeat: 3,
        }
    }

    fn work(text: &str) -> Workload {
        text.parse().unwrap()
    }

    #[test]
    fn mlx_lm_command_measures_one_workload() {
        let asked = ["prefill 2048", "decode 64 x 8", "decode 64 x 1 @ 4096"];
        let calls = bench().calls(&asked.map(work));
        let lines: Vec<_> = calls
            .iter()
            .map(|call| command_line(&call.command))
            .collect();
        let line = |prompt: usize, generate: usize, streams: usize| {
            format!(
                "python3 -m mlx_lm.benchmark --model mlxq --prompt-tokens {prompt} --generation-tokens {generate} \
                 --batch-size {streams} --num-trials 3"
            )
        };
        assert_eq!(
            lines,
            [line(2048, 2, 1), line(16, 64, 8), line(4096, 64, 1)]
        );
    }

    #[test]
    fn mlx_lm_output_is_read_by_its_trials() {
        let read = |text: &str| {
            let output = bench().read(&[work(text)], PRINTED).unwrap();
            assert_eq!(output.version, "0.32.2");
            output.rates[0].1
        };
        assert_eq!(read("prefill 4096"), 812.5);
        assert_eq!(read("decode 64 x 8 @ 4096"), 41.25);
        let why = bench().read(&[work("prefill 128")], "Running warmup..\n");
        assert!(why.unwrap_err().contains("prompt_tps="));
    }
}
