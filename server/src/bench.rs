//! STAND-IN for `sanctum-server bench`, whose body is written elsewhere.

use crate::Failure;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {}

pub fn run(_args: &BenchArgs) -> Result<(), Failure> {
    Err(std::io::Error::other("bench is not here yet").into())
}
