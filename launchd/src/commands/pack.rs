//! `sanctum-launchd pack`: make a folder of programs a release.

use sanctum_host::DESCRIPTION;
use serde_json::json;

use crate::Error;
use crate::args::PackArgs;
use crate::console::Console;
use crate::release_folder::{describe, write_description};

/// Runs it.
pub(crate) fn run(args: &PackArgs, console: &mut Console) -> Result<(), Error> {
    let release = describe(&args.folder, args.release.clone())?;
    for file in &release.files {
        console.step(
            "describe",
            &format!("describe {} {}", file.sha256, file.name),
        )?;
    }
    if !console.dry_run {
        write_description(&release, &args.folder)?;
    }
    let path = args.folder.join(DESCRIPTION);
    let line = format!(
        "release {} has {} files: {}",
        release.version,
        release.files.len(),
        path.display()
    );
    Ok(console.end(&line, json!({ "release": release }))?)
}
