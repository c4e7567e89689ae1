//! `alert list`: open and recent alerts.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use sanctum_config::Label;
use sanctum_host::{Installation, ssh};
use sanctum_watch::age;
use sanctum_watch::alert::Mute;
use serde_json::json;

use super::place::elsewhere;
use crate::Error;
use crate::args::{GlobalArgs, ListArgs};
use crate::commands::open_installed;
use crate::console::Console;
use crate::host_alerts::{HostAlerts, ListedAlert};
use crate::status::count;

/// Runs it.
pub(super) fn run(
    args: &GlobalArgs,
    options: &ListArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let now = Utc::now();
    let alerts = match elsewhere(&installation)? {
        None => HostAlerts::read(&installation, now),
        Some(host) => ask(&installation, &host, options.recent)?,
    };
    let mut alerts = alerts.escaped();
    alerts.recent.truncate(options.recent);
    let muted = alerts
        .open
        .iter()
        .filter(|alert| alert.muted.is_some())
        .count();
    let line = format!(
        "{}: {} open, {muted} of them muted",
        alerts.host,
        count(alerts.open.len(), "alert")
    );
    if !console.is_json() {
        console.raw().write_all(page(&alerts, now).as_bytes())?;
    }
    let HostAlerts {
        host,
        open,
        recent,
        mutes,
        problems,
    } = alerts;
    Ok(console.end(
        &line,
        json!({ "host": host, "open": open, "recent": recent, "mutes": mutes, "problems": problems }),
    )?)
}

/// Another host, over ssh.
fn ask(installation: &Installation, host: &Label, recent: usize) -> Result<HostAlerts, Error> {
    let section = installation.fleet.hosts.get(host);
    let destination = section.and_then(|host| host.ssh.as_deref()).ok_or_else(|| {
        Error::refused(format!(
            "[hosts.{host}] has no `ssh`, so it cannot be asked from here; add it, or run this command there"
        ))
    })?;
    let command = format!("alert list --recent {recent}");
    let fleet = &installation.fleet;
    let answer = ssh::ask_launchd_within(fleet, destination, &command, ssh::SHORT_LIMIT)
        .map_err(Error::refused)?;
    serde_json::from_value(answer).map_err(|error| {
        Error::refused(format!(
            "the sanctum-launchd on {host} is of another version: {error}"
        ))
    })
}

fn page(alerts: &HostAlerts, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    table(&mut text, "OPEN", &alerts.open, now);
    table(&mut text, "RECENT", &alerts.recent, now);
    let is_listed = |mute: &&Mute| {
        alerts
            .open
            .iter()
            .any(|alert| alert.condition == mute.condition)
    };
    for mute in alerts.mutes.iter().filter(|mute| !is_listed(mute)) {
        let _ = writeln!(text, "{} is {}", mute.condition, muted(mute));
    }
    for problem in &alerts.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

fn table(text: &mut String, title: &str, alerts: &[ListedAlert], now: DateTime<Utc>) {
    if alerts.is_empty() {
        return;
    }
    let row = |alert: &ListedAlert| {
        [
            alert.id.clone(),
            format!(
                "{} ({} ago)",
                alert.since.format("%Y-%m-%d %H:%M UTC"),
                age(now - alert.since)
            ),
            alert
                .severity
                .map_or("-", |severity| severity.as_str())
                .to_owned(),
            format!("{} on {}", alert.watchdog, alert.host),
            alert.title.clone(),
        ]
    };
    let head = [title, "SINCE", "SEVERITY", "BY", "WHAT"].map(str::to_owned);
    let rows: Vec<[String; 5]> = alerts.iter().map(row).collect();
    let width = |column: usize| {
        let all = std::iter::once(&head).chain(&rows);
        all.map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line + &row[4] + "\n"
    };
    text.push_str(&line(&head));
    for (row, alert) in rows.iter().zip(alerts) {
        text.push_str(&line(row));
        for detail in details(alert) {
            let _ = writeln!(text, "  {detail}");
        }
    }
    text.push('\n');
}

/// What happened to an alert, one line each.
fn details(alert: &ListedAlert) -> Vec<String> {
    let mut lines = Vec::new();
    if alert.alerts > 1 {
        lines.push(format!(
            "{} alerts so far; about the last one:",
            alert.alerts
        ));
    }
    let names = |names: &[Label]| {
        let names: Vec<&str> = names.iter().map(Label::as_str).collect();
        names.join(", ")
    };
    if !alert.delivered.is_empty() {
        lines.push(format!("delivered to {}", names(&alert.delivered)));
    }
    for waiting in &alert.waiting {
        let what = match waiting.is_refused {
            true => "rejected by",
            false => "not delivered to",
        };
        let error = waiting
            .error
            .as_ref()
            .map_or("not tried yet", |error| error.as_str());
        lines.push(format!("{what} {}: {error}", waiting.channel));
    }
    if !alert.silent.is_empty() {
        lines.push(format!("muted: not sent to {}", names(&alert.silent)));
    }
    if alert.delivered.is_empty() && alert.waiting.is_empty() && alert.silent.is_empty() {
        lines.push("in the log only".to_owned());
    }
    if let Some(mute) = &alert.muted {
        lines.push(format!("its condition is {}", muted(mute)));
    }
    if alert.is_closing {
        lines.push("an operator has asked to close it".to_owned());
    }
    for covered in &alert.covers {
        lines.push(format!(
            "the same cause: {} since {}: {}",
            covered.watchdog,
            covered.since.format("%H:%M UTC"),
            covered.message
        ));
    }
    lines
}

fn muted(mute: &Mute) -> String {
    let why = match mute.why.is_empty() {
        true => String::new(),
        false => format!(": {}", mute.why),
    };
    format!(
        "muted until {} by {}{why}",
        mute.until.format("%Y-%m-%d %H:%M UTC"),
        mute.by
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_alerts::{Covered, PendingChannel};

    #[test]
    fn page_shows_delivery_mute_and_what_has_the_same_cause() {
        let now = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let mute = Mute {
            condition: "guardian/outage".to_owned(),
            since: now,
            until: now + chrono::TimeDelta::hours(2),
            by: "ada".into(),
            why: "the disk is replaced".into(),
        };
        let open = ListedAlert {
            id: "guardian-outage-20260412T130000.000Z".to_owned(),
            condition: mute.condition.clone(),
            watchdog: label("guardian"),
            host: label("mini"),
            severity: Some(sanctum_watch::alert::Severity::Critical),
            title: "server on mini crashes at every start".to_owned(),
            body: String::new(),
            since: now - chrono::TimeDelta::hours(3),
            alerts: 2,
            is_open: true,
            delivered: vec![label("phone")],
            waiting: vec![PendingChannel {
                channel: label("mail"),
                error: Some(
                    "the mail server smtp.example.com:465 cannot be reached: refused".into(),
                ),
                is_refused: false,
            }],
            silent: Vec::new(),
            muted: Some(mute.clone()),
            is_closing: true,
            covers: vec![Covered {
                watchdog: label("canary"),
                message: "no answer".to_owned(),
                since: now,
            }],
        };
        let past = ListedAlert {
            id: "drift-misses-1".to_owned(),
            condition: "drift/misses".to_owned(),
            is_open: false,
            alerts: 1,
            delivered: Vec::new(),
            waiting: Vec::new(),
            muted: None,
            is_closing: false,
            covers: Vec::new(),
            ..open.clone()
        };
        let alerts = HostAlerts {
            host: label("mini"),
            open: vec![open],
            recent: vec![past],
            mutes: vec![
                mute.clone(),
                Mute {
                    condition: "canary/misses".to_owned(),
                    ..mute
                },
            ],
            problems: vec!["drift: damaged".to_owned()],
        };
        let page = page(&alerts, now);
        for words in [
            "guardian-outage-20260412T130000.000Z  2026-04-12 10:20 UTC (3 hours ago)  critical  guardian on mini",
            "2 alerts so far",
            "delivered to phone\n",
            "not delivered to mail: the mail server smtp.example.com:465",
            "its condition is muted until 2026-04-12 15:20 UTC by ada: the disk is replaced\n",
            "an operator has asked to close it",
            "the same cause: canary since 13:20 UTC: no answer\n",
            "RECENT",
            "in the log only",
            "canary/misses is muted until",
            "problem: drift: damaged",
        ] {
            assert!(page.contains(words), "{words:?} is not in\n{page}");
        }
    }
}
