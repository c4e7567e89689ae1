//! Checks of reused prefixes that failed in a server of this host, as its health page reports them.

use sanctum_client::FailedPrefixCheck;
use sanctum_config::Label;
use sanctum_host::{Finding, FindingKind, Installation};

use crate::server_probe::{STATE_LIMIT, ServerProbe};

/// A failed check in one line.
pub(crate) fn in_words(failed: &FailedPrefixCheck) -> String {
    match failed.model.as_str() {
        "" => failed.reason.clone(),
        model => format!("{model}: {}", failed.reason),
    }
}

/// One finding for each model of the server whose reused prefixes failed a check. A server that does not answer has none
/// here: others report that.
pub(crate) fn of_server(installation: &Installation, name: &Label) -> Vec<Finding> {
    let Installation {
        fleet,
        file,
        home,
        host,
        launchctl,
        ..
    } = installation;
    let Ok(probe) = ServerProbe::from_host(fleet, file, home, host, name) else {
        return Vec::new();
    };
    let (_, failed) = probe.health(STATE_LIMIT);
    let target = launchctl.target(&fleet.launchd_label(name));
    let finding = |failed: &FailedPrefixCheck| {
        Finding::new(
            FindingKind::PrefixCheck,
            name,
            format!(
                "a prompt with a reused prefix was computed again, and the result was another one ({}); it reuses none until \
                 it is restarted",
                in_words(failed)
            ),
            format!(
                "read {}, then write prefix_cache = \"off\" in fleet.toml and run: {}; or: launchctl kickstart -k {target}",
                home.log(name).display(),
                installation.typed("install")
            ),
        )
    };
    failed.iter().map(finding).collect()
}
