//! libmlxc.a: mlx-c compiled against the wheel's headers, and the functions that it omits on other processors than Arm.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use indicatif::ProgressBar;

use super::folders::MlxFolders;
use super::source::Source;
use super::{MlxError, wheel};
use crate::error::StepError;
use crate::steps::CachedSteps;

const FORMAT: &str = include_str!("native/format.h");
const SUPPLEMENT: &str = include_str!("native/supplement.cpp");

/// Compiles it, on all cores.
pub(super) fn build(
    source: &Source,
    folders: &MlxFolders,
    steps: &mut CachedSteps,
) -> Result<(), MlxError> {
    let compiler = Compiler::find()?;
    let lib = folders.lib();
    let key = format!(
        "mlx-sys {} mlx {} {}\n{FORMAT}{SUPPLEMENT}",
        source.sys, source.mlx, compiler.version
    );
    let title = format!("libmlxc.a (mlx-c of mlx-sys {})", source.sys);
    steps.once(&title, &lib, &key, |steps| {
        let format = lib.join("format.h");
        steps.write(&format, FORMAT)?;
        let supplement = lib.join("supplement.cpp");
        steps.write(&supplement, SUPPLEMENT)?;
        let mut units = source.units()?;
        units.push(supplement);
        let includes = [&source.mlx_c, &wheel::headers(folders)];
        let objects = compiler.compile_all(&units, &lib, &includes, &format, steps)?;
        let mut archive = Command::new(env::var_os("AR").unwrap_or_else(|| "ar".into()));
        archive.arg("crs").arg(lib.join("libmlxc.a")).args(&objects);
        Ok::<_, MlxError>(steps.run(&mut archive)?)
    })
}

/// A C++ compiler that was found to run.
pub(super) struct Compiler {
    program: String,
    version: String,
}

impl Compiler {
    /// `$CXX`, or g++.
    pub(super) fn find() -> Result<Self, MlxError> {
        let program = env::var("CXX").unwrap_or_else(|_| "g++".into());
        let output = Command::new(&program)
            .arg("-dumpfullversion")
            .stderr(Stdio::null())
            .output()
            .map_err(|source| MlxError::NoCompiler {
                tool: program.clone(),
                source,
            })?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { program, version })
    }

    /// The folder of its own C headers (stddef.h and the like), which libclang's wheel lacks.
    pub(super) fn builtin_headers(&self) -> Result<PathBuf, MlxError> {
        let mut command = Command::new(&self.program);
        command.arg("-print-file-name=include");
        let output = command
            .output()
            .map_err(|e| StepError::start(&command, e))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    }

    fn compile(&self, unit: &Path, object: &Path, includes: &[&PathBuf], format: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-std=c++20", "-O2", "-fPIC", "-w", "-c"]);
        for folder in includes {
            command.arg("-I").arg(folder);
        }
        command.arg("-include").arg(format);
        command.arg(unit).arg("-o").arg(object);
        command
    }

    fn compile_all(
        &self,
        units: &[PathBuf],
        into: &Path,
        includes: &[&PathBuf],
        format: &Path,
        steps: &CachedSteps,
    ) -> Result<Vec<PathBuf>, MlxError> {
        let object = |unit: &PathBuf| {
            let name = unit.file_stem().unwrap_or_default().to_string_lossy();
            into.join(format!("{name}.o"))
        };
        let bar = match steps.dry_run() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(units.len() as u64),
        };
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while let Some(unit) = units.get(next.fetch_add(1, Relaxed)) {
                let mut command = self.compile(unit, &object(unit), includes, format);
                if let Err(error) = steps.run(&mut command) {
                    next.store(units.len(), Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
                bar.inc(1);
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let cores = if steps.dry_run() { 1 } else { cores };
        thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
        bar.finish_and_clear();
        match failure.into_inner().unwrap_or_default() {
            Some(error) => Err(error.into()),
            None => Ok(units.iter().map(object).collect()),
        }
    }
}
