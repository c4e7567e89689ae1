//! What the host that watches has at the beginning: fleet.toml and three releases.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use sanctum_tests::{SCALES, flip_a_bit, program};

use crate::fleet::DemoFleet;

/// fleet.toml, with `{names}` of what differs from run to run.
const FLEET: &str = include_str!("fleet.toml");

/// The program that can serve in the server's place.
pub(crate) struct StandbyServer {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// How long a server may take to start, for fleet.toml.
    startup_grace: &'static str,
}

impl StandbyServer {
    /// mlx_lm.server where it is installed, else another sanctum-server.
    pub(crate) fn find(port: u16) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mlx = std::env::split_paths(&path)
            .map(|folder| folder.join("mlx_lm.server"))
            .find(|program| program.is_file());
        let (program, arguments, startup_grace) = match mlx {
            // Python imports its libraries first.
            Some(program) => (program, ["--model", "~/models/tiny"], "30s"),
            None => (program("sanctum-server"), ["--threads", "1"], "2s"),
        };
        let mut words = vec![program.display().to_string()];
        words.extend(arguments.map(str::to_owned));
        words.extend(["--port".to_owned(), port.to_string()]);
        Self {
            words,
            startup_grace,
        }
    }
}

/// Writes fleet.toml into the home of the host that watches.
pub(crate) fn write_fleet_toml(fleet: &DemoFleet, alerts: &str) -> io::Result<()> {
    let port = fleet.mini.port();
    let standby = StandbyServer::find(port);
    let words = standby.words.iter().map(|word| format!("{word:?}"));
    let words: Vec<String> = words.collect();
    let text = FLEET
        .replace("{mini}", fleet.mini.name)
        .replace("{studio}", fleet.studio.name)
        .replace("{port}", &port.to_string())
        .replace("{tls_port}", &fleet.tls_port.to_string())
        .replace("{standby}", &format!("[{}]", words.join(", ")))
        .replace("{grace}", standby.startup_grace)
        .replace("{alerts}", alerts);
    fs::write(fleet.studio.path("fleet.toml"), text)
}

/// Makes the releases: 0.1.0 works, the server of 0.2.0 does not start, and that of 0.3.0 answers wrong where it is installed.
/// Their programs are scripts that execute the real ones, because a debug build has half a gigabyte of programs, and a
/// watchdog hashes them every few seconds.
pub(crate) fn make_releases(fleet: &DemoFleet) -> io::Result<()> {
    let works = r#"exec "$SERVER" "$@""#;
    let does_not_start =
        format!("case $1 in check-model) {works};; esac\nexec \"$SERVER\" \"$@\" --no-such-option");
    let damaged = damaged_model(fleet)?;
    let answers_wrong = format!(
        "case $1 in --config) exec \"$SERVER\" \"$@\" --model 'sanctum-tiny={}';; esac\n{works}",
        damaged.display()
    );
    for (version, script) in [
        ("0.1.0", works),
        ("0.2.0", &does_not_start),
        ("0.3.0", &answers_wrong),
    ] {
        let studio = &fleet.studio;
        studio.release_of_scripts(version, script);
        let folder = studio.path(&format!("sanctum-{version}"));
        fs::rename(studio.path(version), folder)?;
    }
    Ok(())
}

/// The built-in model with a wrong bit.
fn damaged_model(fleet: &DemoFleet) -> io::Result<PathBuf> {
    let model = fleet.root.join("damaged");
    let export = Command::new(program("sanctum-server"))
        .arg("export-model")
        .arg(&model)
        .env("HOME", fleet.studio.home())
        .output()?;
    if !export.status.success() {
        let why = String::from_utf8_lossy(&export.stderr).into_owned();
        return Err(io::Error::other(why));
    }
    flip_a_bit(&model, SCALES);
    Ok(model)
}
