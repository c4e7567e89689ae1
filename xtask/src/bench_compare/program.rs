//! A program that is measured: Sanctum, or a peer.

use std::process::Command;

use super::machine::MachineLimits;
use super::workload::Workload;

/// A program, with the model that it runs.
pub(super) trait BenchProgram {
    /// Its name in rows and on the page.
    fn name(&self) -> &'static str;

    /// The processes of a round. Workloads that the program cannot measure are left out.
    fn calls(&self, workloads: &[Workload]) -> Vec<BenchCall>;

    /// Reads what the process for these workloads printed.
    ///
    /// # Errors
    /// The reason, if the output is not what was expected.
    fn read(&self, workloads: &[Workload], stdout: &str) -> Result<BenchOutput, String>;
}

/// A process to run.
#[derive(Debug)]
pub(super) struct BenchCall {
    /// What it measures.
    pub(super) workloads: Vec<Workload>,
    /// Its command.
    pub(super) command: Command,
}

/// What a process measured.
#[derive(Debug, PartialEq)]
pub(super) struct BenchOutput {
    /// The program's version, or the commit that it was built from.
    pub(super) version: String,
    /// Tokens a second, of all streams together; the median of the repetitions.
    pub(super) rates: Vec<(Workload, f64)>,
    /// The machine, if the program reports it as Sanctum does.
    pub(super) limits: Option<MachineLimits>,
}

/// What is alike for all programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct BenchOptions {
    /// Threads that compute.
    pub(super) threads: usize,
    /// Repetitions in a round.
    pub(super) repeat: usize,
}
