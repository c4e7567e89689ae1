//! The keys that sign certificates and manifests. An attacker who controls a server must not get them, so they are never
//! on a host that serves.

use std::path::{Path, PathBuf};

use sanctum_config::Home;

use crate::Installation;
use crate::finding::{Finding, FindingKind};
use crate::ssh::quoted_file;

pub(super) fn check(installation: &Installation, findings: &mut Vec<Finding>) {
    let mut servers = installation.fleet.servers.values();
    if !servers.any(|server| server.host == installation.host) {
        return;
    }
    for (path, purpose) in keys_of_signers(&installation.home) {
        if path.exists() {
            findings.push(forbidden_key(&path.display().to_string(), purpose, &path));
        }
    }
}

/// The keys that no host that serves may have, each with its purpose.
pub(crate) fn keys_of_signers(home: &Home) -> [(PathBuf, &'static str); 3] {
    [
        (
            home.certs().join("ca.key"),
            "it signs every certificate of the fleet",
        ),
        (
            home.certs().join("ca-old.key"),
            "it signed the certificates of the fleet",
        ),
        (
            home.secrets().join("manifest.key"),
            "it signs the manifests that servers trust",
        ),
    ]
}

/// The finding for such a key.
pub(crate) fn forbidden_key(subject: &str, purpose: &str, path: &Path) -> Finding {
    let problem = format!("{purpose}, and must never be on a host that serves");
    let fix = format!(
        "move it to a machine that does not serve, then: rm -P {} (or rm, if it has no -P)",
        quoted_file(path)
    );
    Finding::new(FindingKind::ForbiddenKey, subject, problem, fix)
}
