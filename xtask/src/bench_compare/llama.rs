//! `llama-bench` of llama.cpp and of its fork ik_llama.cpp.
//!
//! Both print an array of tests with `-o json`; only llama.cpp has `-o jsonl`. Neither measures several streams.

mod output;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::CompareError;
use super::figure::median;
use super::process::stdout_of;
use super::program::{BenchCall, BenchOptions, BenchOutput, BenchProgram};
use super::workload::{self, Workload};

/// ik_llama.cpp's option to interleave rows when it loads a model, without which it is slow.
const REPACK: &str = "-rtr";

/// A project that has a llama-bench.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LlamaFork {
    /// ggml-org/llama.cpp.
    LlamaCpp,
    /// ikawrakow/ik_llama.cpp.
    IkLlamaCpp,
}

impl LlamaFork {
    fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::IkLlamaCpp => "ik_llama.cpp",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::LlamaCpp => "--llama-bench",
            Self::IkLlamaCpp => "--ik-llama-bench",
        }
    }

    /// The project of a program with this help.
    fn of(help: &str) -> Self {
        match help.contains(REPACK) {
            true => Self::IkLlamaCpp,
            false => Self::LlamaCpp,
        }
    }
}

/// A llama-bench with a GGUF file.
#[derive(Debug)]
pub(super) struct LlamaBench {
    fork: LlamaFork,
    program: PathBuf,
    gguf: PathBuf,
    shape: String,
    options: BenchOptions,
}

impl LlamaBench {
    /// Checks that the program starts, and whose it is.
    ///
    /// # Errors
    /// If it does not start, or is that of the other project.
    pub(super) fn find(
        fork: LlamaFork,
        program: &Path,
        gguf: &Path,
        shape: &str,
        options: BenchOptions,
    ) -> Result<Self, CompareError> {
        let other = LlamaFork::of(&stdout_of(Command::new(program).arg("--help"))?);
        if other != fork {
            return Err(CompareError::OtherFork {
                flag: fork.flag(),
                program: program.to_owned(),
                other: other.name(),
                right: other.flag(),
            });
        }
        Ok(Self {
            fork,
            program: program.to_owned(),
            gguf: gguf.to_owned(),
            shape: shape.to_owned(),
            options,
        })
    }

    /// Refuses a file of another size than the shape: its figures would be compared with those of another model.
    fn check_size(&self, parameters: f64) -> Result<(), String> {
        let Some(expected) = billions(&self.shape) else {
            return Ok(());
        };
        let found = parameters / 1e9;
        match (0.75..1.25).contains(&(found / expected)) {
            true => Ok(()),
            false => Err(format!(
                "{} has {found:.2} billion parameters, which is not the shape {}; correct --gguf or --shape",
                self.gguf.display(),
                self.shape
            )),
        }
    }
}

/// Billions of parameters in the name of a shape, such as `qwen3.5-0.8b` or `qwen3.5-35b-a3b`.
fn billions(shape: &str) -> Option<f64> {
    shape
        .split('-')
        .find_map(|part| part.strip_suffix('b')?.parse().ok())
}

impl BenchProgram for LlamaBench {
    fn name(&self) -> &'static str {
        self.fork.name()
    }

    fn calls(&self, workloads: &[Workload]) -> Vec<BenchCall> {
        let single = |workload: &Workload| match workload {
            Workload::Prefill { .. } => true,
            Workload::Decode { streams, .. } => *streams == 1,
        };
        let single: Vec<Workload> = workloads.iter().copied().filter(single).collect();
        let calls = workload::groups(&single).into_iter().map(|group| {
            let generate = group.generate.to_string();
            let mut command = Command::new(&self.program);
            command.args(["-o", "json", "-m"]).arg(&self.gguf);
            command
                .args(["-t", &self.options.threads.to_string()])
                .args(["-r", &self.options.repeat.to_string()])
                .args(["-p", &group.prompts()]);
            if self.fork == LlamaFork::IkLlamaCpp {
                command.args([REPACK, "1"]);
            }
            match (group.depth, self.fork) {
                (0, _) => command.args(["-n", &generate]),
                (depth, LlamaFork::LlamaCpp) => {
                    command.args(["-n", &generate, "-d", &depth.to_string()])
                }
                (depth, LlamaFork::IkLlamaCpp) => {
                    command.args(["-n", "0", "-gp", &format!("{depth},{generate}")])
                }
            };
            BenchCall {
                workloads: group.workloads,
                command,
            }
        });
        calls.collect()
    }

    fn read(&self, _: &[Workload], stdout: &str) -> Result<BenchOutput, String> {
        let tests = output::read(stdout).map_err(|error| error.to_string())?;
        let first = tests.first().ok_or("it has no test")?;
        self.check_size(first.model_n_params)?;
        let rates = tests
            .iter()
            .map(|test| (test.workload(), median(&test.samples_ts)));
        Ok(BenchOutput {
            version: first.build_commit.clone(),
            rates: rates.collect(),
            limits: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::command_line;

    fn bench(fork: LlamaFork) -> LlamaBench {
        LlamaBench {
            fork,
            program: "llama-bench".into(),
            gguf: "q.gguf".into(),
            shape: "qwen3.5-0.8b".to_owned(),
            options: BenchOptions {
                threads: 2,
                repeat: 3,
            },
        }
    }

    fn workloads<const N: usize>(texts: [&str; N]) -> [Workload; N] {
        texts.map(|text| text.parse::<Workload>().unwrap())
    }

    fn command_lines(fork: LlamaFork, asked: &[Workload]) -> Vec<String> {
        let calls = bench(fork).calls(asked);
        calls
            .iter()
            .map(|call| command_line(&call.command))
            .collect()
    }

    #[test]
    fn llama_commands_measure_one_stream_and_depth_in_each_projects_way() {
        let asked = workloads([
            "prefill 128",
            "decode 64 x 1",
            "decode 64 x 8",
            "decode 64 x 1 @ 4096",
        ]);
        assert_eq!(
            command_lines(LlamaFork::LlamaCpp, &asked),
            [
                "llama-bench -o json -m q.gguf -t 2 -r 3 -p 128 -n 64",
                "llama-bench -o json -m q.gguf -t 2 -r 3 -p 0 -n 64 -d 4096",
            ]
        );
        assert_eq!(
            command_lines(LlamaFork::IkLlamaCpp, &asked),
            [
                "llama-bench -o json -m q.gguf -t 2 -r 3 -p 128 -rtr 1 -n 64",
                "llama-bench -o json -m q.gguf -t 2 -r 3 -p 0 -rtr 1 -n 0 -gp 4096,64",
            ]
        );
        let streams = workloads(["decode 64 x 8"]);
        assert!(bench(LlamaFork::LlamaCpp).calls(&streams).is_empty());
    }

    #[test]
    fn llama_figures_are_medians_of_a_model_of_the_shape() {
        let printed = "[\n{\n\"build_commit\": \"8cf427ff\", \"model_n_params\": 751000000, \"n_prompt\": 128, \"n_gen\": 0,\n\
                       \"n_depth\": 0, \"samples_ts\": [ 103, 119, 101 ]\n}\n]\n";
        let bench = bench(LlamaFork::LlamaCpp);
        let [prefill] = workloads(["prefill 128"]);
        let expected = BenchOutput {
            version: "8cf427ff".to_owned(),
            rates: vec![(prefill, 103.0)],
            limits: None,
        };
        assert_eq!(bench.read(&[], printed), Ok(expected));
        assert_eq!(
            bench.read(&[], "[\n\n]\n"),
            Err("it has no test".to_owned())
        );
        let larger = printed.replace("751000000", "4200000000");
        let why = bench.read(&[], &larger).unwrap_err();
        assert!(why.contains("q.gguf has 4.20 billion parameters"), "{why}");
    }

    #[test]
    fn size_is_in_the_name_of_a_shape() {
        assert_eq!(billions("qwen3.5-0.8b"), Some(0.8));
        assert_eq!(billions("qwen3.5-35b-a3b"), Some(35.0));
        assert_eq!(billions("tiny"), None);
    }

    #[test]
    fn llama_bench_of_the_other_project_is_refused() {
        // What `echo --help` prints lacks the option of ik_llama.cpp.
        let options = BenchOptions {
            threads: 1,
            repeat: 1,
        };
        let find = |fork, program: &str| {
            LlamaBench::find(
                fork,
                Path::new(program),
                Path::new("q.gguf"),
                "tiny",
                options,
            )
        };
        let error = find(LlamaFork::IkLlamaCpp, "echo").unwrap_err().to_string();
        assert!(
            error.contains("llama.cpp: name it with --llama-bench"),
            "{error}"
        );
        assert!(find(LlamaFork::LlamaCpp, "/nonexistent/llama-bench").is_err());
        assert_eq!(
            LlamaFork::of("  -rtr, --run-time-repack <0|1>"),
            LlamaFork::IkLlamaCpp
        );
    }
}
