//! STAND-IN: `bench` and `export-model`, whose bodies are written elsewhere.

use std::path::Path;

use crate::Failure;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {}

pub fn run(_args: &BenchArgs) -> Result<(), Failure> {
    Err(std::io::Error::other("bench is not here yet").into())
}

pub fn export_model(_dir: &Path) -> Result<(), Failure> {
    Err(std::io::Error::other("export-model is not here yet").into())
}
