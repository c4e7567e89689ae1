//! `sanctum-server`: see `sanctum-server --help`.

use std::process::ExitCode;

/// A pass on a GPU allocates and frees tens of thousands of small blocks, on two threads, while the GPU waits: with glibc's
/// allocator that is a third of the host's time (docs/performance.md).
#[cfg(all(feature = "mlx", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sanctum_server::main()
}
