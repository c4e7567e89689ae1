//! `sanctum-launchd sign`: the programs of a folder, on a Mac.

use serde_json::json;

use crate::Failure;
use crate::args::SignArgs;
use crate::report::Report;
use crate::sign::{Signer, sign};

/// Runs it.
pub fn run(args: &SignArgs, report: &mut Report) -> Result<(), Failure> {
    let signer = Signer {
        identity: args.identity.clone(),
        profile: args.profile.clone(),
    };
    sign(&args.folder, &signer, report)?;
    let line = match report.dry_run {
        true => "nothing has been done",
        false => "signed and notarised; now pack it: sanctum-launchd pack FOLDER --release VERSION",
    };
    Ok(report.end(
        line,
        json!({ "folder": args.folder, "identity": args.identity }),
    )?)
}
