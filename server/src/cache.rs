//! `sanctum-server cache`: lists and clears a folder of cached prefixes, without an engine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sanctum_engine::prefix::cold::{self, ColdListing};
use serde_json::json;

use crate::args::{CacheCommand, CachePlace, PrefixArgs, ServeArgs};
use crate::failure::CommandFailure;
use crate::settings::{Settings, SettingsError};

/// Runs the command and prints its result.
pub(crate) fn run(command: &CacheCommand) -> Result<(), CommandFailure> {
    match command {
        CacheCommand::List { place, json } => {
            let folder = folder(place)?;
            let listing = cold::list(&folder)?;
            match json {
                true => println!("{:#}", as_json(&folder, &listing)),
                false => print!("{}", as_text(&folder, &listing, SystemTime::now())),
            }
        }
        CacheCommand::Clear { place } => {
            let folder = folder(place)?;
            let (files, bytes) = cold::clear(&folder)?;
            println!(
                "removed {}, {}, from {}",
                counted(files),
                mib(bytes),
                folder.display()
            );
        }
    }
    Ok(())
}

fn folder(place: &CachePlace) -> Result<PathBuf, SettingsError> {
    Settings::cache_dir(&ServeArgs {
        config: place.config.clone(),
        server: place.server.clone(),
        prefix: PrefixArgs {
            cache_dir: place.dir.clone(),
            ..PrefixArgs::default()
        },
        ..ServeArgs::default()
    })
}

fn as_text(folder: &Path, listing: &ColdListing, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    if !listing.prefixes.is_empty() {
        line(format!(
            "{:<18} {:<18} {:>9} {:>12} {:>12}",
            "PREFIX", "MODEL", "TOKENS", "SIZE", "LAST USED"
        ));
    }
    for prefix in &listing.prefixes {
        let age = now.duration_since(prefix.used).unwrap_or_default();
        line(format!(
            "{:<18} {:<18} {:>9} {:>12} {:>12}",
            &prefix.key[..16],
            &prefix.fingerprint[..16],
            prefix.tokens,
            mib(prefix.bytes),
            format!("{} s ago", age.as_secs()),
        ));
    }
    let bytes = listing.prefixes.iter().map(|prefix| prefix.bytes).sum();
    let unusable = match listing.unusable {
        0 => String::new(),
        count => format!(", {count} unusable files, which the next server removes"),
    };
    let unread = match listing.unread {
        0 => String::new(),
        count => format!(", {count} files that the system does not read: check the disk"),
    };
    let process = match listing.process {
        None => "no server uses it".to_owned(),
        Some(0) => "a server uses it".to_owned(),
        Some(process) => format!("process {process} uses it"),
    };
    line(format!(
        "{}: {}, {}{unusable}{unread}; {process}",
        folder.display(),
        counted(listing.prefixes.len()),
        mib(bytes)
    ));
    text
}

fn counted(prefixes: usize) -> String {
    match prefixes {
        1 => "1 prefix".to_owned(),
        count => format!("{count} prefixes"),
    }
}

fn as_json(folder: &Path, listing: &ColdListing) -> serde_json::Value {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs()
    };
    let prefixes: Vec<_> = listing
        .prefixes
        .iter()
        .map(|prefix| {
            json!({
                "key": prefix.key,
                "fingerprint": prefix.fingerprint,
                "scope": prefix.scope,
                "tokens": prefix.tokens,
                "parent_tokens": prefix.parent_tokens,
                "bytes": prefix.bytes,
                "used": seconds(prefix.used),
            })
        })
        .collect();
    let bytes: u64 = listing.prefixes.iter().map(|prefix| prefix.bytes).sum();
    json!({
        "folder": folder.display().to_string(),
        "bytes": bytes,
        "unusable": listing.unusable,
        "unread": listing.unread,
        "process": listing.process,
        "prefixes": prefixes,
    })
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sanctum_engine::prefix::cold::ListedPrefix;

    use super::*;

    fn listing() -> ColdListing {
        ColdListing {
            prefixes: vec![ListedPrefix {
                key: "ab".repeat(32),
                fingerprint: "cd".repeat(32),
                scope: "00".repeat(16),
                tokens: 4000,
                parent_tokens: 1000,
                bytes: 3 << 20,
                used: UNIX_EPOCH + Duration::from_secs(1_000),
            }],
            unusable: 2,
            unread: 1,
            process: Some(77),
        }
    }

    #[test]
    fn listing_as_text_names_prefix_model_and_process() {
        let now = UNIX_EPOCH + Duration::from_secs(1_060);
        let text = as_text(Path::new("/cache"), &listing(), now);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let fields: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            fields,
            [
                "abababababababab",
                "cdcdcdcdcdcdcdcd",
                "4000",
                "3.0",
                "MiB",
                "60",
                "s",
                "ago"
            ]
        );
        assert_eq!(
            lines[2],
            "/cache: 1 prefix, 3.0 MiB, 2 unusable files, which the next server removes, 1 files that the system does not read: \
             check the disk; process 77 uses it"
        );
        let empty = as_text(Path::new("/cache"), &ColdListing::default(), now);
        assert_eq!(empty, "/cache: 0 prefixes, 0.0 MiB; no server uses it\n");
    }

    #[test]
    fn listing_as_json_has_every_field() {
        let value = as_json(Path::new("/cache"), &listing());
        assert_eq!(value["bytes"], 3 << 20);
        assert_eq!(
            (&value["unusable"], &value["unread"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(value["process"], 77);
        assert_eq!(value["prefixes"][0]["used"], 1_000);
        assert_eq!(value["prefixes"][0]["parent_tokens"], 1_000);
        let empty = as_json(Path::new("/cache"), &ColdListing::default());
        assert!(empty["process"].is_null() && empty["prefixes"] == json!([]));
    }
}
