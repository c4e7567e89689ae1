//! `sanctum-launchd sign`: sign the programs of a folder, on a Mac.

use serde_json::json;

use crate::Error;
use crate::args::SignArgs;
use crate::console::Console;
use crate::sign::{Signer, sign};

/// Runs it.
pub(crate) fn run(args: &SignArgs, console: &mut Console) -> Result<(), Error> {
    let signer = Signer {
        identity: args.identity.clone(),
        profile: args.profile.clone(),
    };
    sign(&args.folder, &signer, console)?;
    let line = match console.dry_run {
        true => "nothing has been changed",
        false => "signed and notarised; now run: sanctum-launchd pack FOLDER --release VERSION",
    };
    Ok(console.end(
        line,
        json!({ "folder": args.folder, "identity": args.identity }),
    )?)
}
