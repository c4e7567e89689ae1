//! Whether a process runs the program file on disk. A process whose file was replaced keeps running the old program, so the
//! file's digest proves nothing about the process: the two are compared by inode.
//!
//! Linux shows a process's program in `/proc`. Elsewhere `lsof` does; `$SANCTUM_LSOF` names a program to use instead.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sanctum_config::files;

use crate::{CommandLine, Error};

/// lsof inspects a single process, which takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// What a process runs, compared with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunningProgram {
    /// The file.
    File,
    /// Another program: the file was replaced after the process had started.
    Other,
    /// Nothing: the process has ended, or the file is missing.
    None,
    /// Unknown: the file is a script, so the process runs its interpreter.
    Script,
}

/// The command line that prints the inodes of a process's program and its libraries.
pub(crate) fn lsof_line(pid: u32) -> CommandLine {
    let pid = pid.to_string();
    CommandLine::new(
        &["lsof", "-a", "-p", &pid, "-d", "txt", "-F", "in"],
        "which files a process executes",
    )
}

/// Compares what process `pid` runs with the file `program`.
///
/// # Errors
/// If lsof cannot be run.
pub(crate) fn running_program(pid: u32, program: &Path) -> Result<RunningProgram, Error> {
    let Ok(file) = fs::metadata(program) else {
        return Ok(RunningProgram::None);
    };
    let mut start = [0; 2];
    if files::open(program).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && &start == b"#!"
    {
        return Ok(RunningProgram::Script);
    }
    if std::env::var_os("SANCTUM_LSOF").is_none() && Path::new("/proc/self/exe").exists() {
        // The link leads to the file even if it was removed or renamed.
        return Ok(match fs::metadata(format!("/proc/{pid}/exe")) {
            Ok(own) if (own.dev(), own.ino()) == (file.dev(), file.ino()) => RunningProgram::File,
            Ok(_) => RunningProgram::Other,
            Err(_) => RunningProgram::None,
        });
    }
    let output = lsof_line(pid).run(LIMIT)?;
    Ok(parse_lsof(&output.stdout, file.ino()))
}

/// The output of lsof has one field a line, with `i` before an inode. It lists the libraries too.
fn parse_lsof(text: &str, inode: u64) -> RunningProgram {
    let inodes: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix('i')?.parse().ok())
        .collect();
    match inodes.is_empty() {
        true => RunningProgram::None,
        false if inodes.contains(&inode) => RunningProgram::File,
        false => RunningProgram::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsof_output_is_parsed() {
        let text =
            "p4711\nftxt\ni81\nn/u/ada/.sanctum/bin/sanctum-server\nftxt\ni7\nn/usr/lib/dyld\n";
        assert_eq!(parse_lsof(text, 81), RunningProgram::File);
        assert_eq!(parse_lsof(text, 82), RunningProgram::Other);
        assert_eq!(parse_lsof("", 81), RunningProgram::None);
        assert!(
            lsof_line(4711)
                .to_string()
                .ends_with("lsof -a -p 4711 -d txt -F in")
        );
    }

    #[test]
    fn program_replaced_under_its_process_is_found() {
        if !Path::new("/proc/self/exe").exists() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut process = std::process::Command::new(&program)
            .arg("60")
            .spawn()
            .unwrap();
        assert_eq!(
            running_program(process.id(), &program).unwrap(),
            RunningProgram::File
        );
        fs::rename(&program, folder.path().join("old")).unwrap();
        fs::copy("/bin/sleep", &program).unwrap();
        assert_eq!(
            running_program(process.id(), &program).unwrap(),
            RunningProgram::Other
        );
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(
            running_program(process.id(), &program).unwrap(),
            RunningProgram::None
        );
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(
            running_program(process.id(), &program).unwrap(),
            RunningProgram::Script
        );
    }
}
