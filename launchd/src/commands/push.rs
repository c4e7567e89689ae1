//! `sanctum-launchd push`: copy programs, fleet.toml and certificates to another host.

use std::path::PathBuf;

use sanctum_host::{Installation, ssh, this_host};
use serde_json::json;

use crate::args::{GlobalArgs, PushArgs};
use crate::console::Console;
use crate::push::{PUSHED, PushFile, bundle_files, config_files, push, release_files};
use crate::status::count;
use crate::{Error, remote};

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    options: &PushArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let host = &options.to;
    let installation = Installation::open(args.config.as_deref(), Some(host))?;
    let fleet = &installation.fleet;
    if this_host(fleet, &installation.home)?.as_ref() == Some(host) {
        return Err(Error::refused(format!(
            "this machine is {host}; install here: sanctum-launchd install --release FOLDER --config {}",
            ssh::quoted_file(&installation.file)
        )));
    }
    let Some(destination) = remote::destination(&installation)? else {
        return Err(Error::refused(format!(
            "[hosts.{host}] has no `ssh`, so nothing can be sent there; write `ssh = \"DESTINATION\"`"
        )));
    };
    let mut files: Vec<PushFile> = Vec::new();
    let mut version = None;
    if let Some(folder) = &options.release {
        let (release, programs) = release_files(folder)?;
        files.extend(programs);
        version = Some(release.version.to_string());
    }
    files.extend(config_files(&installation, host)?);
    let bundle = bundle(options);
    match &bundle {
        Some(folder) => files.extend(bundle_files(fleet, host, folder)?),
        None => console.note(&format!(
            "no certificates and no tokens are sent: there is no folder bundle-{host}. If {host} needs them, run: sanctum-pki \
             --config {} bundle {host}",
            ssh::quoted_file(&installation.file)
        ))?,
    }
    let home = fleet.fleet.home.as_str();
    let pushed = push(destination, home, &files, console.dry_run, |file| {
        let what = format!(
            "send {} ({} bytes, SHA-256 {})",
            file.to, file.size, file.sha256
        );
        Ok(console.step("send", &what)?)
    })?;
    let line = match (pushed.sent, console.dry_run) {
        (0, _) => format!(
            "nothing to do: {} are on {host} already",
            count(pushed.same, "file")
        ),
        (sent, true) => format!(
            "{} would be sent to {host}; nothing has been changed",
            count(sent, "file")
        ),
        (sent, false) => format!(
            "{} sent to {host} ({} bytes), the same SHA-256 on both hosts; {} there already",
            count(sent, "file"),
            pushed.bytes,
            pushed.same
        ),
    };
    let next = version
        .as_ref()
        .map(|version| next(&installation, destination, version, pushed.is_installed));
    if let (Some(next), false) = (&next, console.dry_run) {
        console.note(&format!("next: {next}"))?;
    }
    if let (Some(folder), false) = (&bundle, console.dry_run) {
        console.note(&format!(
            "{} has secrets and is no longer needed here: rm -r {}",
            folder.display(),
            ssh::quoted_file(folder)
        ))?;
    }
    let result = json!({
        "host": host,
        "sent": pushed.sent,
        "same": pushed.same,
        "bytes": pushed.bytes,
        "next": next,
    });
    Ok(console.end(&line, result)?)
}

fn bundle(options: &PushArgs) -> Option<PathBuf> {
    let default = PathBuf::from(format!("bundle-{}", options.to));
    options
        .bundle
        .clone()
        .or_else(|| default.is_dir().then_some(default))
}

/// The command that installs what was sent.
fn next(
    installation: &Installation,
    destination: &str,
    version: &str,
    is_installed: bool,
) -> String {
    let home = installation.fleet.fleet.home.as_str();
    let place = |name: &str| ssh::quoted_path(&format!("{home}/{PUSHED}/{name}"));
    let host = &installation.host;
    let verb = match is_installed {
        true => "upgrade",
        false => "install",
    };
    let line = format!(
        "{} {verb} --config {} --host {host} --release {}",
        place(&format!("{version}/sanctum-launchd")),
        place("fleet.toml"),
        place(version)
    );
    ssh::by_hand(destination, &line)
}
