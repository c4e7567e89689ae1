//! Whether a watchdog can start with its section of fleet.toml. `check`, `install` and `upgrade` ask before they deploy the
//! file, and the watchdog itself at its start and for `--once`.

use std::path::Path;

use sanctum_client::{EndpointError, ReferenceAddress};
use sanctum_config::fleet::{Fleet, Watch};
use sanctum_config::{Label, TildePath};

use crate::alert::{Channel, Endpoint};
use crate::schedule::{BadSchedule, Schedule};

/// Checks what does not depend on the files of a host: schedule, channels, addresses and the watched server. `file` is where
/// `fleet` was read from.
///
/// # Errors
/// The first problem of `[watch.NAME]`: a sentence that names the key and its fix.
pub fn check_section(fleet: &Fleet, file: &Path, name: &Label) -> Result<(), String> {
    let Some(watch) = fleet.watch.get(name) else {
        return Ok(());
    };
    match Schedule::of(watch) {
        // It is tried out by hand, with `--once`.
        Err(BadSchedule::None) if fleet.host_of(name).is_none() => {}
        Err(error) => return Err(error.to_string()),
        Ok(_) => {}
    }
    for channel in &watch.alert {
        Channel::of(fleet, file, channel).map_err(|error| error.to_string())?;
    }
    heartbeat_endpoint(watch, file)?;
    reference(watch)?;
    let check = watch.check(name).as_str();
    let asks = matches!(check, "guardian" | "canary" | "parity");
    let server = fleet.watched_server(watch);
    if asks && server.is_none() {
        return Err(EndpointError::NoServer(name.clone()).to_string());
    }
    if let Some(host) = server
        .and_then(|server| fleet.host_of(server))
        .filter(|host| check == "guardian" && fleet.host_of(name).is_some_and(|own| own != *host))
    {
        return Err(format!(
            "a guardian runs on its server's host; move `{name}` to the agents of [hosts.{host}]"
        ));
    }
    if check == "parity" && watch.spec.is_none() {
        return Err(
            "`spec` is missing; add `spec = \"parity-smoke.json\"`, the file with the questions"
                .into(),
        );
    }
    Ok(())
}

/// The endpoint of `heartbeat_url`; none if there is none.
pub(crate) fn heartbeat_endpoint(watch: &Watch, file: &Path) -> Result<Option<Endpoint>, String> {
    let (url, url_file): (_, Option<&TildePath>) = (
        watch.heartbeat_url.as_deref(),
        watch.heartbeat_url_file.as_ref(),
    );
    Endpoint::of_keys("heartbeat_url", url, url_file, file)
}

/// The `reference` address; none if there is none.
pub(crate) fn reference(watch: &Watch) -> Result<Option<ReferenceAddress>, String> {
    let reference = watch.reference.as_deref().map(ReferenceAddress::parse);
    reference.transpose().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(check: &str, keys: &str) -> Result<(), String> {
        let text = format!(
            "[hosts.mini]\naddress = \"mini\"\nagents = [\"server\", \"shadow\", \"dog\"]\n\
             [servers.server]\nhost = \"mini\"\n\
             [servers.shadow]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1400\"]\n\
             [alerts.flow]\nurl = \"ftp://x\"\n\
             [watch.dog]\ncheck = \"{check}\"\n{keys}\n"
        );
        let file = Path::new("/f/fleet.toml");
        let fleet = Fleet::parse(&text, file).unwrap();
        check_section(&fleet, file, &"dog".parse().unwrap())
    }

    #[test]
    fn section_with_which_a_watchdog_does_not_start_is_an_error() {
        let fine = "every = \"1m\"\ntarget = \"server\"";
        check("canary", fine).unwrap();
        for (keys, words) in [
            ("target = \"server\"", "there is no schedule"),
            ("every = \"1m\"", "has no `target`"),
            (
                &format!("{fine}\nalert = [\"flow\"]"),
                "`url` = \"ftp://x\"",
            ),
            (
                &format!("{fine}\nheartbeat_url = \"hc-ping.com/x\""),
                "`heartbeat_url` = \"hc-ping.com/x\"",
            ),
            (
                &format!("{fine}\nheartbeat_url = \"\""),
                "`heartbeat_url` = \"\"",
            ),
            (
                &format!("{fine}\nheartbeat_url = \"https://a:b@hc-ping.com/x\""),
                "`heartbeat_url_file`",
            ),
            (
                &format!("{fine}\nreference = \"100.64.0.1\""),
                "`reference = ",
            ),
            (&format!("{fine}\nreference = \"\""), "`reference = "),
            (&format!("{fine}\nreference = \"ftp://x\""), "`reference = "),
        ] {
            let error = check("canary", keys).unwrap_err();
            assert!(error.contains(words), "{keys}: {error}");
        }
        let error = check("parity", fine).unwrap_err();
        assert!(error.contains("`spec` is missing"), "{error}");
    }
}
