//! `alert test`: a real alert through each channel.

use std::path::Path;

use chrono::Utc;
use sanctum_config::{Fleet, Home, Label, Role, UntrustedText, did_you_mean_or_names};
use sanctum_host::{read_fleet, this_host};
use sanctum_watch::alert::{Alert, Channel, Severity};
use serde_json::{Value, json};

use crate::Error;
use crate::args::{GlobalArgs, TestArgs};
use crate::at_once::at_once;
use crate::console::Console;
use crate::status::count;

/// Runs it.
pub(super) fn run(
    args: &GlobalArgs,
    options: &TestArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let (file, fleet) = read_fleet(args.config.as_deref())?;
    let home = Home::of(&fleet)?;
    let here = this_host(&fleet, &home).ok().flatten();
    if let Some(host) = args
        .host
        .as_ref()
        .filter(|host| here.as_ref() != Some(*host))
    {
        return Err(Error::refused(format!(
            "a channel is tested from the host whose watchdogs use it; run `sanctum-launchd alert test` on {host}, without --host"
        )));
    }
    let names = names(&fleet, here.as_ref(), options.channel.as_ref())?;
    let alert = test_alert(here.as_ref());
    let dry_run = console.dry_run;
    let outcomes = at_once(
        &names,
        |name| (name, test(&fleet, &file, name, &alert, dry_run)),
        |(name, outcome): &(&Label, TestOutcome)| print(name, outcome, console),
    )?;
    let results: Vec<Value> = outcomes
        .iter()
        .map(|(name, outcome)| match outcome {
            Ok(done) => json!({ "channel": name, "result": done, "error": null, "fix": null }),
            Err((error, fix)) => {
                json!({ "channel": name, "result": null, "error": error, "fix": fix })
            }
        })
        .collect();
    let failed = results
        .iter()
        .filter(|result| !result["error"].is_null())
        .count();
    let line = format!("{} of {} failed", failed, count(names.len(), "channel"));
    let line = match (failed, console.dry_run) {
        (0, true) => format!("{} would be tested", count(names.len(), "channel")),
        (0, false) => format!(
            "{} accepted the test alert {}",
            count(names.len(), "channel"),
            alert.id
        ),
        _ => line,
    };
    console.end(&line, json!({ "channels": results, "id": alert.id }))?;
    match failed {
        0 => Ok(()),
        failed => Err(Error::Problems(failed)),
    }
}

/// What came of a channel: what was done, or the error and its fix.
type TestOutcome = Result<&'static str, (String, String)>;

/// Sends the alert through one channel, and waits until it is delivered or has failed.
fn test(fleet: &Fleet, file: &Path, name: &Label, alert: &Alert, dry_run: bool) -> TestOutcome {
    let channel = Channel::of(fleet, file, name);
    let channel = match channel.map_err(|error| (error.to_string(), String::new()))? {
        Channel::Log => return Ok("nothing to send: every alert is in its watchdog's log"),
        _ if dry_run => return Ok("would be tested"),
        channel => channel,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| (format!("cannot be tested: {error}"), String::new()))?;
    let delivered = runtime.block_on(channel.deliver(alert));
    // A name lookup that hangs is left behind.
    runtime.shutdown_background();
    match delivered {
        Ok(()) => Ok("delivered"),
        Err(error) => Err((error.problem, error.fix)),
    }
}

/// Prints what came of a channel at once; as JSON, all are printed at the end.
fn print(name: &Label, outcome: &TestOutcome, console: &mut Console) -> Result<(), Error> {
    if console.is_json() {
        return Ok(());
    }
    match outcome {
        Ok(done) => console.note(&format!("{name}: {done}"))?,
        Err((error, fix)) => {
            console.note(&format!("{name}: failed: {}", UntrustedText::new(error)))?;
            if !fix.is_empty() {
                console.note(&format!("  fix: {}", UntrustedText::new(fix)))?;
            }
        }
    }
    Ok(())
}

/// The channels to test: the named one, else those that a watchdog of this host uses.
fn names(fleet: &Fleet, here: Option<&Label>, only: Option<&Label>) -> Result<Vec<Label>, Error> {
    let known = || fleet.alerts.keys();
    if let Some(only) = only {
        if fleet.alerts.contains_key(only) {
            return Ok(vec![only.clone()]);
        }
        let near = did_you_mean_or_names(only.as_str(), known().map(Label::as_str));
        return Err(Error::refused(format!(
            "fleet.toml has no [alerts.{only}]{near}"
        )));
    }
    let is_used = |name: &&Label| {
        let Some(here) = here else { return true };
        let agents = fleet.agents_of(here);
        let mut watchdogs = agents.iter().filter_map(|(_, role)| match role {
            Role::Watch(watch) => Some(watch),
            _ => None,
        });
        watchdogs.any(|watch| watch.alert.contains(name))
    };
    let names: Vec<Label> = known().filter(is_used).cloned().collect();
    match names.is_empty() {
        false => Ok(names),
        true => Err(Error::refused(
            "no watchdog of this host alerts through a channel; add an [alerts.NAME], and its name to `alert` in [watch.NAME] \
             (docs/watching.md, \"How an alert is delivered\")",
        )),
    }
}

fn test_alert(here: Option<&Label>) -> Alert {
    let now = Utc::now();
    let host = here.map_or_else(|| "this host".to_owned(), Label::to_string);
    Alert {
        id: format!("test-{}", now.format("%Y%m%dT%H%M%S%.3fZ")),
        condition: "test".to_owned(),
        severity: Severity::Info,
        source: "sanctum-launchd".to_owned(),
        title: format!("test alert from {host}"),
        body: "sent by `sanctum-launchd alert test`. Nothing is wrong, and there is nothing to do"
            .to_owned(),
        host,
        time: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_this_hosts_watchdogs_are_tested() {
        let text = "[hosts.a]\naddress = \"a\"\nagents = [\"canary\"]\n[hosts.b]\naddress = \"b\"\nagents = [\"drift\"]\n\
            [watch.canary]\nalert = [\"phone\"]\n[watch.drift]\nalert = [\"mail\"]\n\
            [alerts.phone]\nurl = \"http://a/\"\n[alerts.mail]\nurl = \"http://a/\"\n[alerts.log]\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let of = |here: Option<&str>, only: Option<&str>| {
            names(&fleet, here.map(label).as_ref(), only.map(label).as_ref())
                .map(|names| names.iter().map(Label::to_string).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(Some("a"), None).unwrap(), ["phone"]);
        assert_eq!(of(None, None).unwrap(), ["log", "mail", "phone"]);
        assert_eq!(of(Some("a"), Some("mail")).unwrap(), ["mail"]);
        let error = of(None, Some("phon")).unwrap_err();
        assert!(error.contains("did you mean `phone`"), "{error}");
        let error = of(None, Some("pager")).unwrap_err();
        assert!(error.contains("the names are log, mail, phone"), "{error}");
        let nothing = Fleet::default();
        let error = names(&nothing, None, None).unwrap_err().to_string();
        assert!(error.contains("[alerts.NAME]"), "{error}");
    }
}
