//! Alerts of this host's watchdogs that no channel has accepted: they are in the spool, with the channel's error.

use std::collections::BTreeMap;

use sanctum_config::{Home, Label};
use sanctum_host::{Finding, FindingKind};
use sanctum_watch::alert::{Undelivered, undelivered};

/// One finding for each channel that has not accepted alerts of the watchdog `name`, and one if its spool cannot be read.
pub(crate) fn of_watchdog(home: &Home, name: &Label) -> Vec<Finding> {
    let folder = home.spool(name);
    let all = match undelivered(&folder) {
        Ok(all) => all,
        Err(error) => {
            let fix = format!("ls -ld {}", folder.display());
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
                true => format!("read them, then: rm -r {}", folder.join("refused").display()),
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
