//! Plays back the output of a macOS tool: called as `codesign`, `socketfilterfw` or `xcrun` (a link to this binary), it
//! looks in the folder `SIM_TOOLS_DIR` for `<name>.transcript`, finds the first entry whose words are a prefix of its own arguments,
//! prints that entry's text and exits with its code. All calls are written to `<name>.calls`, one a line.
//!
//! An entry is a line `$ words… [exit N]`, followed by the text.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let name = Path::new(&called)
        .file_name()
        .unwrap_or_default()
        .to_owned();
    let arguments: Vec<String> = words.collect();
    let Some(folder) = std::env::var_os("SIM_TOOLS_DIR").map(PathBuf::from) else {
        eprintln!("sim-tool: SIM_TOOLS_DIR is not set");
        return ExitCode::from(64);
    };
    let file = |end: &str| folder.join(format!("{}.{end}", name.display()));
    let line = arguments.join(" ");
    let calls = OpenOptions::new()
        .append(true)
        .create(true)
        .open(file("calls"));
    if let Err(error) = calls.and_then(|mut calls| writeln!(calls, "{line}")) {
        eprintln!("sim-tool: {error}");
        return ExitCode::from(74);
    }
    let transcript = std::fs::read_to_string(file("transcript")).unwrap_or_default();
    let mut found = None;
    for text in transcript.split_inclusive('\n') {
        match text.strip_prefix("$ ") {
            Some(_) if found.is_some() => break,
            Some(entry) => {
                let (words, code) = entry
                    .trim_end()
                    .rsplit_once(" exit ")
                    .unwrap_or((entry.trim_end(), "0"));
                let matches = line == words || line.starts_with(&format!("{words} "));
                found = matches.then(|| code.parse().unwrap_or(0));
            }
            None if found.is_some() => print!("{text}"),
            None => {}
        }
    }
    match found {
        Some(code) => ExitCode::from(code),
        None => {
            eprintln!(
                "sim-tool: {} has no answer to: {line}",
                file("transcript").display()
            );
            ExitCode::from(64)
        }
    }
}
