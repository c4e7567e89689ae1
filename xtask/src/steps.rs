//! Steps of a chore: run once, skipped while their inputs are unchanged, printed in a dry run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command_line::command_line;
use crate::error::StepError;

/// The steps of one run.
pub(crate) struct CachedSteps {
    dry_run: bool,
}

impl CachedSteps {
    /// A dry run prints commands instead of running them.
    pub(crate) fn new(dry_run: bool) -> Self {
        Self { dry_run }
    }

    /// Whether nothing may be changed.
    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Runs `work`, which fills `folder`, unless it completed before with the same `key`. The folder is emptied first and
    /// marked last, so that an interrupted step runs again.
    pub(crate) fn once<E: From<StepError>>(
        &mut self,
        title: &str,
        folder: &Path,
        key: &str,
        work: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mark = folder.join(".made-from");
        if fs::read_to_string(&mark).is_ok_and(|made| made == key) {
            eprintln!("{title}: up to date");
            return Ok(());
        }
        eprintln!("{title} → {}", folder.display());
        if self.dry_run {
            return work(self);
        }
        let began = Instant::now();
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(StepError::file(folder))?;
        }
        fs::create_dir_all(folder).map_err(StepError::file(folder))?;
        work(self)?;
        fs::write(&mark, key).map_err(StepError::file(mark))?;
        eprintln!("{title}: done in {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Runs a command and waits for it, or prints it.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), StepError> {
        if self.dry_run {
            println!("{}", command_line(command));
            return Ok(());
        }
        command.stdin(Stdio::null());
        let status = command.status().map_err(|e| StepError::start(command, e))?;
        match status.success() {
            true => Ok(()),
            false => Err(StepError::failed(command)),
        }
    }

    /// Runs `from | to`.
    pub(crate) fn pipe(&self, from: &mut Command, to: &mut Command) -> Result<(), StepError> {
        if self.dry_run {
            println!("{} | {}", command_line(from), command_line(to));
            return Ok(());
        }
        let mut first = from
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| StepError::start(from, e))?;
        let piped = first.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let second = to.stdin(piped).status();
        let first = first.wait().map_err(|e| StepError::start(from, e))?;
        let second = second.map_err(|e| StepError::start(to, e))?;
        match (first.success(), second.success()) {
            (true, true) => Ok(()),
            (_, false) => Err(StepError::failed(to)),
            (false, true) => Err(StepError::failed(from)),
        }
    }

    /// Writes a file, or prints that it would.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), StepError> {
        if self.dry_run {
            println!("# write {}", path.display());
            return Ok(());
        }
        fs::write(path, text).map_err(StepError::file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_runs_again_only_after_failure_or_with_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("step");
        let mut steps = CachedSteps::new(false);
        let mut done = 0;
        let mut once = |key: &str, fail: bool| {
            let _ = steps.once("a step", &folder, key, |steps| -> Result<(), StepError> {
                done += 1;
                steps.write(&folder.join("file"), key)?;
                steps.run(&mut Command::new(if fail { "false" } else { "true" }))
            });
            done
        };
        assert_eq!(once("one", true), 1);
        assert_eq!(once("one", false), 2);
        assert_eq!(once("one", false), 2);
        assert_eq!(once("two", false), 3);
    }

    #[test]
    fn pipe_fails_when_either_command_fails() {
        let pipe = |from: &str, to: &str| {
            let shell = |script: &str| {
                let mut shell = Command::new("sh");
                shell.args(["-c", script]);
                shell
            };
            CachedSteps::new(false)
                .pipe(&mut shell(from), &mut shell(to))
                .is_ok()
        };
        assert!(pipe("echo word", "read word && test $word = word"));
        assert!(!pipe("false", "cat"));
        assert!(!pipe("echo word", "read word; test $word = other"));
    }

    #[test]
    fn dry_run_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("step");
        let mut steps = CachedSteps::new(true);
        let work = |steps: &mut CachedSteps| -> Result<(), StepError> {
            steps.run(&mut Command::new("false"))
        };
        steps.once("a step", &folder, "key", work).unwrap();
        assert!(!folder.exists());
    }
}
