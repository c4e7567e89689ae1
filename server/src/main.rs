//! `sanctum-server`: see `sanctum-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sanctum_server::main()
}
