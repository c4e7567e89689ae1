//! `sanctum-launchd pack`: a folder of programs becomes a release.

use serde_json::json;

use crate::Failure;
use crate::args::PackArgs;
use crate::release::{DESCRIPTION, Release};
use crate::report::Report;

/// Runs it.
pub fn run(args: &PackArgs, report: &mut Report) -> Result<(), Failure> {
    let release = Release::describe(&args.folder, args.release.clone())?;
    for file in &release.files {
        report.step(
            "describe",
            &format!("describe {} {}", file.sha256, file.name),
        )?;
    }
    if !report.dry_run {
        release.write(&args.folder)?;
    }
    let path = args.folder.join(DESCRIPTION);
    let line = format!(
        "release {} has {} files: {}",
        release.version,
        release.files.len(),
        path.display()
    );
    Ok(report.end(&line, json!({ "release": release }))?)
}
