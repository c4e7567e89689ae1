//! `cargo xtask demo`: builds the programs and starts the demo (`tests/src/bin/demo`).

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde_json::Value;

use crate::error::StepError;
use crate::target_folder;

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the last step, instead of at Ctrl-C; also if standard input or output is not a terminal
    #[arg(long)]
    once: bool,
    /// Write a page with all that was shown, as docs/demo.md
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// The demo does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A program does not start, or failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Cargo has built no program of this name.
    #[error(
        "`cargo build --workspace --bins` has built no program `demo`; is tests/src/bin/demo there?"
    )]
    NoProgram,
}

/// Builds all programs with one command, and becomes the demo, so that signals reach it.
///
/// # Errors
/// If something does not build or start.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, DemoError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    // The profile and the features of `cargo test --workspace`, which has built the same.
    build
        .args(["build", "--workspace", "--bins"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(target_folder::workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // Cargo's variables about this package: build scripts that read them would run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let output = build.output().map_err(|e| StepError::start(&build, e))?;
    if !output.status.success() {
        return Err(StepError::failed(&build).into());
    }
    let demo = executable(&String::from_utf8_lossy(&output.stdout)).ok_or(DemoError::NoProgram)?;
    let mut command = Command::new(&demo);
    // The programs beside it were built just now.
    command.env("SANCTUM_PROGRAMS", demo.parent().unwrap_or(&demo));
    if args.once {
        command.arg("--once");
    }
    if let Some(record) = &args.record {
        command.arg("--record").arg(record);
    }
    let error = command.exec();
    Err(StepError::start(&command, error).into())
}

/// The program `demo` in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().map(serde_json::from_str::<Value>);
    let mut built =
        messages.filter_map(|message| message.ok()?["executable"].as_str().map(PathBuf::from));
    built.find(|path| path.file_stem().is_some_and(|stem| stem == "demo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"executable\":\"/w/target/debug/load\"}\n{\"executable\":\"/w/target/debug/demo\"}\n";
        assert_eq!(executable(messages), Some("/w/target/debug/demo".into()));
        assert_eq!(executable("not JSON\n"), None);
    }
}
