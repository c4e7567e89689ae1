//! The machine of a comparison: what it is, and what limits the figures.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::figure::{median, rounded};
use super::process::first_line;

/// What `sanctum-server bench` reports about the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MachineLimits {
    /// The instruction set of its inner loops, or MLX and its device.
    pub(super) device: String,
    /// The threads that it uses.
    pub(super) threads: usize,
    /// The bandwidth of a plain read loop on these threads; a GPU's is not measured.
    pub(super) read_gb_s: Option<f64>,
}

/// The machine of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BenchMachine {
    /// The processor's model.
    pub(super) cpu: String,
    /// The NVIDIA GPU that MLX uses. Of Apple's chips the processor's name is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gpu: Option<String>,
    /// The instruction set, or MLX and its device.
    pub(super) device: String,
    /// The threads of all programs.
    pub(super) threads: usize,
    /// What a plain read loop on these threads reads, in GB/s: the limit of decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_gb_s: Option<f64>,
}

impl BenchMachine {
    /// This machine, with the limits that each process reported.
    pub(super) fn here(limits: &[MachineLimits]) -> Self {
        let MachineLimits {
            device, threads, ..
        } = limits.first().cloned().unwrap_or_default();
        let bandwidths: Vec<f64> = limits.iter().filter_map(|one| one.read_gb_s).collect();
        let gpu = || {
            first_line(
                Command::new("nvidia-smi").args(["--query-gpu=name", "--format=csv,noheader"]),
            )
        };
        Self {
            cpu: cpu(),
            gpu: device.starts_with("MLX").then(gpu).flatten(),
            device,
            threads,
            read_gb_s: (!bandwidths.is_empty()).then(|| rounded(median(&bandwidths))),
        }
    }

    /// Whether rows of both belong together: the bandwidth varies from run to run.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let Self {
            cpu,
            gpu,
            device,
            threads,
            read_gb_s: _,
        } = self;
        (cpu, gpu, device, threads) == (&other.cpu, &other.gpu, &other.device, &other.threads)
    }
}

impl fmt::Display for BenchMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gpu) = &self.gpu {
            write!(f, "{gpu}, ")?;
        }
        write!(f, "{}, {}, {} threads", self.cpu, self.device, self.threads)?;
        match self.read_gb_s {
            Some(rate) => write!(f, ", memory reads at {rate:.1} GB/s"),
            None => Ok(()),
        }
    }
}

/// The processor's name, or at least its architecture.
fn cpu() -> String {
    let linux = || model_name(&fs::read_to_string("/proc/cpuinfo").ok()?);
    let macos = || first_line(Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]));
    linux()
        .or_else(macos)
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The model in the text of /proc/cpuinfo, which many Arm machines leave out.
fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_is_the_same_whatever_the_bandwidth() {
        let limits = |read_gb_s| MachineLimits {
            device: "avx2".to_owned(),
            threads: 2,
            read_gb_s,
        };
        let machine = BenchMachine::here(&[limits(Some(10.0)), limits(Some(30.0))]);
        assert_eq!((machine.threads, machine.read_gb_s), (2, Some(20.0)));
        assert!(
            machine
                .to_string()
                .ends_with(", avx2, 2 threads, memory reads at 20.0 GB/s")
        );
        let other = BenchMachine::here(&[limits(None)]);
        assert_eq!(other.read_gb_s, None);
        assert!(machine.is_same_as(&other));
        assert!(!machine.is_same_as(&BenchMachine {
            threads: 4,
            ..other
        }));
    }

    #[test]
    fn model_name_is_read_from_cpuinfo() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7B13\nmodel name\t: AMD EPYC 7B13\n";
        assert_eq!(model_name(text).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(model_name("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }
}
