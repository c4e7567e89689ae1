//! Runs the programs in turns.
//!
//! The speed of a shared machine changes from minute to minute: each round measures every program, so that a slow minute does
//! not count against one of them only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::error::CompareError;
use super::machine::MachineLimits;
use super::process::stdout_of;
use super::program::{BenchCall, BenchOutput, BenchProgram};
use super::row::MeasuredWorkload;
use super::workload::Workload;
use crate::command_line::command_line;

/// What all rounds measured.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    /// The figures, in the order of the first round.
    pub(super) workloads: Vec<MeasuredWorkload>,
    /// The machine, as each process of Sanctum reported it.
    pub(super) limits: Vec<MachineLimits>,
}

impl Measurements {
    fn add(&mut self, program: &'static str, output: BenchOutput) {
        self.limits.extend(output.limits);
        for (work, rate) in output.rates {
            let known = self
                .workloads
                .iter_mut()
                .find(|one| one.program == program && one.work == work);
            match known {
                Some(one) => one.rounds.push(rate),
                None => self.workloads.push(MeasuredWorkload {
                    program,
                    version: output.version.clone(),
                    work,
                    rounds: vec![rate],
                }),
            }
        }
    }
}

/// Measures the workloads with each program, in every round.
///
/// # Errors
/// If a program fails or prints something else than expected.
pub(super) fn measure(
    programs: &[Box<dyn BenchProgram>],
    workloads: &[Workload],
    rounds: usize,
) -> Result<Measurements, CompareError> {
    let calls = programs
        .iter()
        .map(|program| program.calls(workloads).len());
    let bar = progress_bar(rounds * calls.sum::<usize>());
    let mut measurements = Measurements::default();
    for round in 1..=rounds {
        for program in programs {
            for call in program.calls(workloads) {
                show(
                    &bar,
                    &format!(
                        "round {round} of {rounds}, {}",
                        title(program.as_ref(), &call)
                    ),
                );
                measurements.add(program.name(), output_of(program.as_ref(), call)?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(measurements)
}

/// A bar over the processes. It draws nothing unless standard error is a terminal.
fn progress_bar(processes: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(processes as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg}\n{wide_bar} {pos}/{len}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Shows what runs: on the bar, or as a line in a log.
fn show(bar: &ProgressBar, what: &str) {
    match bar.is_hidden() {
        true => eprintln!("{what}"),
        false => bar.set_message(what.to_owned()),
    }
}

/// `llama.cpp: prefill 128, decode 64 x 1`.
fn title(program: &dyn BenchProgram, call: &BenchCall) -> String {
    let workloads: Vec<String> = call.workloads.iter().map(Workload::to_string).collect();
    format!("{}: {}", program.name(), workloads.join(", "))
}

/// Runs a process and reads its figures, one for each of its workloads.
fn output_of(program: &dyn BenchProgram, mut call: BenchCall) -> Result<BenchOutput, CompareError> {
    let stdout = stdout_of(&mut call.command)?;
    let unusable = |why: String| CompareError::Output {
        program: program.name(),
        command: command_line(&call.command),
        why,
    };
    let mut output = program.read(&call.workloads, &stdout).map_err(unusable)?;
    for asked in &call.workloads {
        let rate = output.rates.iter().find(|(work, _)| work == asked);
        if !rate.is_some_and(|(_, rate)| rate.is_finite() && *rate > 0.0) {
            return Err(unusable(format!("it has no figure for `{asked}`")));
        }
    }
    output
        .rates
        .retain(|(work, _)| call.workloads.contains(work));
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Prints a number for each workload.
    struct EchoProgram {
        name: &'static str,
        script: &'static str,
    }

    impl BenchProgram for EchoProgram {
        fn name(&self) -> &'static str {
            self.name
        }

        fn calls(&self, workloads: &[Workload]) -> Vec<BenchCall> {
            let mut command = Command::new("sh");
            command.args(["-c", self.script]);
            vec![BenchCall {
                workloads: workloads.to_vec(),
                command,
            }]
        }

        fn read(&self, workloads: &[Workload], stdout: &str) -> Result<BenchOutput, String> {
            let rates = stdout.lines().filter_map(|line| line.parse::<f64>().ok());
            Ok(BenchOutput {
                version: "1".to_owned(),
                rates: workloads.iter().copied().zip(rates).collect(),
                limits: Some(MachineLimits::default()),
            })
        }
    }

    fn programs(scripts: [&'static str; 2]) -> Vec<Box<dyn BenchProgram>> {
        let [first, second] = scripts;
        vec![
            Box::new(EchoProgram {
                name: "first",
                script: first,
            }),
            Box::new(EchoProgram {
                name: "second",
                script: second,
            }),
        ]
    }

    fn workloads() -> [Workload; 2] {
        ["prefill 128", "decode 64 x 1"].map(|text| text.parse::<Workload>().unwrap())
    }

    #[test]
    fn every_round_measures_every_program() {
        let programs = programs(["echo 1; echo 2", "echo 3; echo 4; echo 5"]);
        let measurements = measure(&programs, &workloads(), 3).unwrap();
        let shown: Vec<_> = measurements
            .workloads
            .iter()
            .map(|one| (one.program, one.work.to_string(), one.rounds.clone()))
            .collect();
        let expected = |program, work: &str, rate: f64| (program, work.to_owned(), vec![rate; 3]);
        assert_eq!(
            shown,
            [
                expected("first", "prefill 128", 1.0),
                expected("first", "decode 64 x 1", 2.0),
                expected("second", "prefill 128", 3.0),
                expected("second", "decode 64 x 1", 4.0),
            ]
        );
        assert_eq!(measurements.limits.len(), 6);
    }

    #[test]
    fn missing_or_impossible_figure_and_failed_process_name_the_command() {
        for (script, why) in [
            ("echo 3", "no figure for `decode 64 x 1`"),
            ("echo 3; echo NaN", "no figure for `decode 64 x 1`"),
            ("echo 0; echo 1", "no figure for `prefill 128`"),
            ("echo no memory >&2; exit 1", "no memory"),
        ] {
            let programs = programs(["echo 1; echo 2", script]);
            let error = measure(&programs, &workloads(), 1).unwrap_err().to_string();
            assert!(error.contains(why), "{script}: {error}");
            assert!(error.contains("sh -c"), "{script}: {error}");
        }
    }
}
