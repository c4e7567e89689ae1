//! Sanctum: `sanctum-server bench --json`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::error::CompareError;
use super::machine::MachineLimits;
use super::process::{first_line, stdout_of};
use super::program::{BenchCall, BenchOptions, BenchOutput, BenchProgram};
use super::row::SANCTUM;
use super::workload::{self, Workload};
use crate::error::StepError;
use crate::steps::CachedSteps;
use crate::target_folder;

/// `sanctum-server` with random weights of a shape.
#[derive(Debug)]
pub(super) struct SanctumBench {
    server: PathBuf,
    version: String,
    shape: String,
    options: BenchOptions,
    /// More arguments of `bench`.
    more: Vec<String>,
}

impl SanctumBench {
    /// Uses this server, or builds one.
    ///
    /// # Errors
    /// If it does not build or start.
    pub(super) fn find(
        server: Option<&Path>,
        shape: &str,
        options: BenchOptions,
        more: &[String],
    ) -> Result<Self, CompareError> {
        let (server, commit) = match server {
            Some(server) => (server.to_owned(), None),
            None => (build()?, commit()),
        };
        let printed = stdout_of(Command::new(&server).arg("--version"))?;
        // `sanctum-server 0.1.0`
        let version = printed.split_whitespace().last().unwrap_or("unknown");
        let version = match commit {
            Some(commit) => format!("{version} {commit}"),
            None => version.to_owned(),
        };
        Ok(Self {
            server,
            version,
            shape: shape.to_owned(),
            options,
            more: more.to_vec(),
        })
    }
}

/// Builds the server in the release profile.
fn build() -> Result<PathBuf, StepError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(target_folder::workspace()).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "sanctum-server",
    ]);
    CachedSteps::new(false).run(&mut build)?;
    Ok(target_folder::path().join("release/sanctum-server"))
}

/// The commit that was built, marked if the code was changed since.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        first_line(
            Command::new("git")
                .current_dir(target_folder::workspace())
                .args(arguments),
        )
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    // Earlier comparisons change docs, which are not in the program.
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":!docs",
    ]);
    Some(match changed {
        Some(_) => format!("{commit}-dirty"),
        None => commit,
    })
}

/// What `bench --json` prints; the rest is ignored.
#[derive(Deserialize)]
struct SanctumReport {
    device: String,
    threads: usize,
    read_bandwidth_gb_s: Option<f64>,
    runs: Vec<SanctumRun>,
}

#[derive(Deserialize)]
struct SanctumRun {
    name: String,
    tokens_per_s: SanctumRate,
}

#[derive(Deserialize)]
struct SanctumRate {
    median: f64,
}

impl BenchProgram for SanctumBench {
    fn name(&self) -> &'static str {
        SANCTUM
    }

    fn calls(&self, workloads: &[Workload]) -> Vec<BenchCall> {
        let calls = workload::groups(workloads).into_iter().map(|group| {
            let mut command = Command::new(&self.server);
            command
                .args(["bench", "--json", "--shape", &self.shape])
                .args(["--threads", &self.options.threads.to_string()])
                .args(["--repeat", &self.options.repeat.to_string()])
                .args(["--prompt", &group.prompts()])
                .args(["--generate", &group.generate.to_string()]);
            if group.generate > 0 {
                command
                    .args(["--streams", &group.streams()])
                    .args(["--depth", &group.depth.to_string()]);
            }
            command.args(&self.more);
            BenchCall {
                workloads: group.workloads,
                command,
            }
        });
        calls.collect()
    }

    fn read(&self, _: &[Workload], stdout: &str) -> Result<BenchOutput, String> {
        let report: SanctumReport =
            serde_json::from_str(stdout).map_err(|error| error.to_string())?;
        let mut rates = Vec::new();
        for run in &report.runs {
            let workload: Workload = run.name.parse()?;
            rates.push((workload, run.tokens_per_s.median));
        }
        Ok(BenchOutput {
            version: self.version.clone(),
            rates,
            limits: Some(MachineLimits {
                device: report.device,
                threads: report.threads,
                read_gb_s: report.read_bandwidth_gb_s,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::command_line;

    fn bench() -> SanctumBench {
        SanctumBench {
            server: "sanctum-server".into(),
            version: "0.1.0 abc".to_owned(),
            shape: "qwen3.5-0.8b".to_owned(),
            options: BenchOptions {
                threads: 2,
                repeat: 3,
            },
            more: vec!["--prefill-chunk".to_owned(), "2048".to_owned()],
        }
    }

    fn work(text: &str) -> Workload {
        text.parse().unwrap()
    }

    #[test]
    fn sanctum_command_measures_a_group() {
        let asked = ["prefill 128", "decode 64 x 1", "decode 64 x 8"];
        let calls = bench().calls(&asked.map(work));
        assert_eq!(calls.len(), 1);
        assert_eq!(
            command_line(&calls[0].command),
            "sanctum-server bench --json --shape qwen3.5-0.8b --threads 2 --repeat 3 --prompt 128 --generate 64 \
             --streams 1,8 --depth 0 --prefill-chunk 2048"
        );
        let calls = bench().calls(&[work("prefill 128")]);
        let line = command_line(&calls[0].command);
        assert!(
            line.contains("--prompt 128 --generate 0 --prefill-chunk"),
            "{line}"
        );
    }

    #[test]
    fn sanctum_report_is_read_by_the_names_of_its_runs() {
        let printed = r#"{
            "model": "random weights of shape qwen3.5-0.8b", "precision": "fast", "kv_cache": "plain",
            "device": "avx2", "threads": 2, "read_bandwidth_gb_s": 18.5,
            "runs": [
                {"name": "prefill 128", "tokens_per_s": {"median": 183.5, "min": 167.0, "max": 211.0},
                 "bytes_per_token": 1.5, "bandwidth_share": null},
                {"name": "decode 64 x 1 @ 4096", "tokens_per_s": {"median": 46.0, "min": 42.0, "max": 48.0},
                 "bytes_per_token": 4e8, "bandwidth_share": 0.85}
            ],
            "constrained": []
        }"#;
        let expected = BenchOutput {
            version: "0.1.0 abc".to_owned(),
            rates: vec![
                (work("prefill 128"), 183.5),
                (work("decode 64 x 1 @ 4096"), 46.0),
            ],
            limits: Some(MachineLimits {
                device: "avx2".to_owned(),
                threads: 2,
                read_gb_s: Some(18.5),
            }),
        };
        assert_eq!(bench().read(&[], printed), Ok(expected));
        assert!(bench().read(&[], "no JSON").is_err());
        let renamed = printed.replace("prefill 128", "prompt 128");
        let why = bench().read(&[], &renamed).unwrap_err();
        assert!(why.contains("`prompt 128` is not a workload"), "{why}");
    }
}
