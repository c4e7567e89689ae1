//! A step: done once, skipped while what it depends on stays the same, shown on a terminal, printed in a dry run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::StepError;

/// The steps of one run.
pub struct Steps {
    dry_run: bool,
}

impl Steps {
    /// In a dry run commands are printed instead of run.
    pub fn new(dry_run: bool) -> Self {
        Self { dry_run }
    }

    /// Whether nothing may be changed.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Does `work`, which fills `folder`, unless that was done for the same `key`. The folder is emptied first and
    /// marked at the end, so that what was interrupted is done again.
    pub fn once<E: From<StepError>>(
        &mut self,
        title: &str,
        folder: &Path,
        key: &str,
        work: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mark = folder.join(".made-from");
        if fs::read_to_string(&mark).is_ok_and(|made| made == key) {
            eprintln!("{title}: there already");
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

    /// Runs a command to its end, or prints it.
    pub fn run(&self, command: &mut Command) -> Result<(), StepError> {
        if self.dry_run {
            println!("{}", line(command));
            return Ok(());
        }
        command.stdin(Stdio::null());
        let status = command.status().map_err(|e| StepError::start(command, e))?;
        match status.success() {
            true => Ok(()),
            false => Err(StepError::failed(command)),
        }
    }

    /// Runs two commands, the first one's output being the second one's input.
    pub fn pipe(&self, from: &mut Command, to: &mut Command) -> Result<(), StepError> {
        if self.dry_run {
            println!("{} | {}", line(from), line(to));
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

    /// Writes a file, or says that it would.
    pub fn write(&self, path: &Path, text: &str) -> Result<(), StepError> {
        if self.dry_run {
            println!("# write {}", path.display());
            return Ok(());
        }
        fs::write(path, text).map_err(StepError::file(path))
    }
}

/// A command as one would type it.
pub fn line(command: &Command) -> String {
    let quoted = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,".contains(c);
        match word.chars().all(plain) && !word.is_empty() {
            true => word.into_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, quoted(value?))));
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted);
    environment.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("g++");
        command.args(["-DX=1", "two words", "it's"]).env("A", "b c");
        assert_eq!(line(&command), r"A='b c' g++ -DX=1 'two words' 'it'\''s'");
    }

    #[test]
    fn a_step_is_done_again_only_if_its_key_changes_or_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("step");
        let mut steps = Steps::new(false);
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
            Steps::new(false)
                .pipe(&mut shell(from), &mut shell(to))
                .is_ok()
        };
        assert!(pipe("echo word", "read word && test $word = word"));
        assert!(!pipe("false", "cat"));
        assert!(!pipe("echo word", "read word; test $word = other"));
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("step");
        let mut steps = Steps::new(true);
        let work =
            |steps: &mut Steps| -> Result<(), StepError> { steps.run(&mut Command::new("false")) };
        steps.once("a step", &folder, "key", work).unwrap();
        assert!(!folder.exists());
    }
}
