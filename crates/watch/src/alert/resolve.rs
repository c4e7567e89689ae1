//! Requests to close a condition by hand: one file for each in `state/alerts/resolve/`.
//!
//! `sanctum-launchd alert resolve` writes a request; the watchdog whose condition it is closes it and removes the file. So a
//! watchdog's state has one writer.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Label, RecordError, UntrustedText, atomic, record};
use serde::{Deserialize, Serialize};

/// A request to close a condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ResolveRequest {
    /// The watchdog.
    pub agent: Label,
    /// The id of the open condition.
    pub id: String,
    /// Who asks.
    pub by: UntrustedText,
    /// Why; empty if no reason was given.
    #[serde(default)]
    pub why: UntrustedText,
    /// When.
    pub at: DateTime<Utc>,
}

impl ResolveRequest {
    /// Writes the request into `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), RecordError> {
        record::write(&self.path(folder), self)
    }

    /// Whether the watchdog has not seen the request yet.
    pub fn is_pending(&self, folder: &Path) -> bool {
        self.path(folder).exists()
    }

    /// The requests to a watchdog.
    ///
    /// # Errors
    /// If the folder cannot be read. A file that is no request is ignored, and logged.
    pub fn pending(folder: &Path, agent: &Label) -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut requests = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            match record::read::<Self>(&path) {
                Ok(Some(request)) if request.agent == *agent && request.path(folder) == path => {
                    requests.push(request);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
        requests.sort_by_key(|request| request.at);
        Ok(requests)
    }

    /// Removes the request.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(&self, folder: &Path) -> io::Result<()> {
        atomic::remove(&self.path(folder))
    }

    fn path(&self, folder: &Path) -> PathBuf {
        // An id has a name, a key and a time. One that is read from a file must not lead elsewhere.
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        };
        let name: String = self.id.chars().map(plain).collect();
        folder.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_pending_for_its_watchdog_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("resolve");
        let canary: Label = "canary".parse().unwrap();
        assert_eq!(ResolveRequest::pending(&folder, &canary).unwrap(), []);
        let request = |agent: &str, id: &str| ResolveRequest {
            agent: agent.parse().unwrap(),
            id: id.to_owned(),
            by: "ada".into(),
            why: "known".into(),
            at: Utc::now(),
        };
        let first = request("canary", "canary-misses-1");
        first.write(&folder).unwrap();
        request("drift", "drift-misses-1").write(&folder).unwrap();
        std::fs::write(folder.join("damaged.json"), "{").unwrap();
        // Not the name that it would have.
        std::fs::copy(
            folder.join("canary-misses-1.json"),
            folder.join("other.json"),
        )
        .unwrap();
        assert_eq!(
            ResolveRequest::pending(&folder, &canary).unwrap(),
            std::slice::from_ref(&first)
        );
        assert!(first.is_pending(&folder));
        first.remove(&folder).unwrap();
        assert!(!first.is_pending(&folder));
        assert!(
            request("canary", "../../x")
                .path(&folder)
                .ends_with("resolve/.._.._x.json")
        );
    }
}
