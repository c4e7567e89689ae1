//! A program's code signature, as Apple's `codesign` shows it.

use std::path::Path;
use std::time::Duration;

use crate::CommandLine;

/// How long codesign may take to read a signature.
const LIMIT: Duration = Duration::from_secs(120);

/// The command line that shows a program's signature.
pub fn display_line(program: &Path) -> CommandLine {
    let program = program.to_string_lossy();
    CommandLine::new(
        &["codesign", "--display", "--verbose=4", &program],
        "read the signature back",
    )
}

/// Whether the output of codesign describes a signature without an identity.
pub fn says_ad_hoc(output: &str) -> bool {
    output.lines().any(|line| line.trim() == "Signature=adhoc")
}

/// Whether a program is signed without an identity, as `cargo build` leaves it on Apple Silicon. False where codesign does
/// not exist.
pub fn is_ad_hoc(program: &Path) -> bool {
    let output = display_line(program).run(LIMIT).unwrap_or_default();
    output.succeeded() && says_ad_hoc(&format!("{}\n{}", output.stdout, output.stderr))
}
