//! Whether a process runs the program that lies on disk: one that was replaced under a process that lives keeps running the
//! old one, whatever the file's digest says. Both are compared by inode.
//!
//! Linux tells of a process's program in `/proc`. Elsewhere `lsof` does; `$SANCTUM_LSOF` names a program to ask instead.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sanctum_config::files;

use crate::Failure;
use crate::tools::Line;

/// lsof looks at one process only, which takes it milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The file that lies there.
    TheFile,
    /// Something else: the file was replaced after the process had been started.
    SomethingElse,
    /// Nothing: it has ended meanwhile, or the file is gone.
    Nothing,
    /// The file is a script: what runs is its interpreter, or what that has become.
    AScript,
}

/// The command line that tells the inodes of a process's program and its libraries.
pub fn asking(pid: u32) -> Line {
    let pid = pid.to_string();
    Line::new(
        &["lsof", "-a", "-p", &pid, "-d", "txt", "-F", "in"],
        "which files a process executes",
    )
}

/// Whether process `pid` runs the file at `program`.
///
/// # Errors
/// If there is nobody who could tell.
pub fn runs(pid: u32, program: &Path) -> Result<Runs, Failure> {
    let Ok(file) = fs::metadata(program) else {
        return Ok(Runs::Nothing);
    };
    let mut start = [0; 2];
    if files::open(program).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && &start == b"#!"
    {
        return Ok(Runs::AScript);
    }
    if std::env::var_os("SANCTUM_LSOF").is_none() && Path::new("/proc/self/exe").exists() {
        // The link leads to the file even when it was removed or another has its name.
        return Ok(match fs::metadata(format!("/proc/{pid}/exe")) {
            Ok(own) if (own.dev(), own.ino()) == (file.dev(), file.ino()) => Runs::TheFile,
            Ok(_) => Runs::SomethingElse,
            Err(_) => Runs::Nothing,
        });
    }
    let said = asking(pid).run(LIMIT)?;
    Ok(understood(&said.stdout, file.ino()))
}

/// lsof's output for programs: a field a line, `i` before an inode. The libraries stand there too.
fn understood(text: &str, inode: u64) -> Runs {
    let inodes: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix('i')?.parse().ok())
        .collect();
    match inodes.is_empty() {
        true => Runs::Nothing,
        false if inodes.contains(&inode) => Runs::TheFile,
        false => Runs::SomethingElse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lsof_says_is_understood() {
        let text =
            "p4711\nftxt\ni81\nn/u/ada/.sanctum/bin/sanctum-server\nftxt\ni7\nn/usr/lib/dyld\n";
        assert_eq!(understood(text, 81), Runs::TheFile);
        assert_eq!(understood(text, 82), Runs::SomethingElse);
        assert_eq!(understood("", 81), Runs::Nothing);
        assert!(
            asking(4711)
                .to_string()
                .ends_with("lsof -a -p 4711 -d txt -F in")
        );
    }

    #[test]
    fn a_program_that_was_replaced_under_its_process_is_another_one() {
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
        assert_eq!(runs(process.id(), &program).unwrap(), Runs::TheFile);
        fs::rename(&program, folder.path().join("old")).unwrap();
        fs::copy("/bin/sleep", &program).unwrap();
        assert_eq!(runs(process.id(), &program).unwrap(), Runs::SomethingElse);
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(runs(process.id(), &program).unwrap(), Runs::Nothing);
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(runs(process.id(), &program).unwrap(), Runs::AScript);
    }
}
