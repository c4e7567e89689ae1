//! Alerts of this host's watchdogs that no channel has accepted: they are in the spool, with the channel's error.

use std::collections::BTreeMap;

use sanctum_config::{Home, Label, quoted_file};
use sanctum_host::{Finding, FindingKind};
use sanctum_watch::alert::{Undelivered, undelivered};

/// One finding for each channel that has not accepted alerts of the watchdog `name`, and one if its spool cannot be read.
pub(crate) fn of_watchdog(home: &Home, name: &Label) -> Vec<Finding> {
    let folder = home.spool(name);
    let all = match undelivered(&folder) {
        Ok(all) => all,
        Err(error) => {
            let fix = format!("ls -ld {}", quoted_file(&folder));
            return vec![Finding::new(
                FindingKind::Undelivered,
                name,
                error.to_string(),
                fix,
            )];
        }
    };
    let mut channels: BTreeMap<(&Label, bool), Vec<&Undelivered>> = BTreeMap::new();
    for alert in &all {
        channels
            .entry((&alert.channel, alert.refused))
            .or_default()
            .push(alert);
    }
    channels
        .into_iter()
        .map(|((channel, refused), alerts)| {
            let what = match (alerts.len(), refused) {
                (1, false) => "1 alert has not reached".to_owned(),
                (many, false) => format!("{many} alerts have not reached"),
                (1, true) => "1 alert was refused by".to_owned(),
                (many, true) => format!("{many} alerts were refused by"),
            };
            let oldest = alerts.first().map_or("", |alert| alert.title.as_str());
            let error = alerts.last().and_then(|alert| alert.error.as_ref());
            let error = error.map_or("not tried yet", |error| error.as_str());
            let fix = match refused {
                false => format!(
                    "fix [alerts.{channel}] or the service behind it; the alerts are then delivered automatically"
                ),
                true => format!("read them, then: rm -r {}", quoted_file(&folder.join("refused"))),
            };
            Finding::new(
                FindingKind::Undelivered,
                name,
                format!("{what} the channel `{channel}` ({error}); the oldest: \"{oldest}\""),
                fix,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use sanctum_config::atomic;
    use serde_json::json;

    use super::*;

    #[test]
    fn command_that_removes_refused_alerts_names_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("my fleet"), folder.path().to_owned());
        let name: Label = "canary".parse().unwrap();
        let refused = home.spool(&name).join("refused");
        let alert = json!({
            "id": "canary-misses-1",
            "severity": "warning",
            "source": "canary",
            "host": "mini",
            "title": "wrong answer",
            "body": "4 was expected",
            "time": "2026-04-12T13:00:00Z",
        });
        let spooled = json!({ "alert": alert, "pending": ["phone"] }).to_string();
        atomic::write(&refused.join("1-a.json"), spooled.as_bytes(), 0o600).unwrap();
        let fixes: Vec<String> = of_watchdog(&home, &name)
            .into_iter()
            .map(|finding| finding.fix)
            .collect();
        let fix = format!("read them, then: rm -r '{}'", refused.display());
        assert_eq!(fixes, [fix]);
    }
}
