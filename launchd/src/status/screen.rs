//! The screen that a person looks at first.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::{AgentStatus, CertificateStatus, Decisions, HostStatus, Stand};

/// Whether words have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// ANSI colours.
    Colours,
    /// None.
    Plain,
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Doubtful,
    Bad,
    Quiet,
}

impl Paint {
    fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31;1",
            Tone::Quiet => "2",
        };
        match self {
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// All hosts and their agents; the summary comes last, where the eye is.
pub fn screen(hosts: &[HostStatus], now: DateTime<Utc>, paint: Paint) -> String {
    let mut text = String::new();
    let width = hosts
        .iter()
        .flat_map(|host| &host.agents)
        .map(|agent| agent.name.as_str().len())
        .max()
        .unwrap_or(0)
        .max(8);
    for host in hosts {
        let release = match (&host.release, &host.installed, &host.not_asked) {
            (Some(release), Some(since), _) => format!("release {release} since {since}"),
            (_, _, Some(why)) => why.clone(),
            _ if host.problem.is_some() => String::new(),
            _ => "nothing installed".to_owned(),
        };
        let _ = writeln!(text, "{}  {}", host.host, paint.on(Tone::Quiet, &release));
        if let Some(problem) = &host.problem {
            let _ = writeln!(text, "  {}", paint.on(Tone::Bad, problem));
        }
        if let Some(maintenance) = &host.maintenance {
            let _ = writeln!(text, "  {}", paint.on(Tone::Doubtful, maintenance));
        }
        if !host.agents.is_empty() {
            let head = format!(
                "  {:width$}  {:14}  {:8}  {:>7}  {:>6}  {:>6}",
                "AGENT", "STATE", "VERDICT", "AGO", "24 H", "7 D"
            );
            let _ = writeln!(text, "{}", paint.on(Tone::Quiet, &head));
        }
        for agent in &host.agents {
            text.push_str(&line(agent, width, now, paint));
        }
        for server in &host.servers {
            let tone = match server.health.as_str() {
                "ready" => Tone::Good,
                "loading" | "draining" => Tone::Doubtful,
                _ => Tone::Bad,
            };
            let by = match server.served_by == server.name {
                true => String::new(),
                false => format!(", served by {}", server.served_by),
            };
            let _ = write!(
                text,
                "  {}{by}: {}",
                server.name,
                paint.on(tone, &server.health)
            );
            // A server names every method from its start.
            let auth = server.auth.iter().flatten();
            let auth = auth.filter(|(_, decisions)| **decisions != Decisions::default());
            let auth: Vec<String> = auth
                .map(|(method, decisions)| match decisions.refused {
                    0 => format!("{method} {}", decisions.granted),
                    refused => format!("{method} {} ({refused} refused)", decisions.granted),
                })
                .collect();
            if !auth.is_empty() {
                let _ = write!(text, "; let in by {}", auth.join(", "));
            }
            text.push('\n');
        }
        if !host.certificates.is_empty() {
            let days: Vec<String> = host
                .certificates
                .iter()
                .map(|one| certificate(one, now, paint))
                .collect();
            let _ = writeln!(text, "  certificates: {}", days.join(", "));
        }
        text.push('\n');
    }
    for warning in hosts.iter().flat_map(HostStatus::warnings) {
        let _ = writeln!(text, "{} {warning}", paint.on(Tone::Doubtful, "warning:"));
    }
    let troubles: Vec<String> = hosts.iter().flat_map(HostStatus::troubles).collect();
    for trouble in &troubles {
        let _ = writeln!(text, "{} {trouble}", paint.on(Tone::Bad, "!"));
    }
    let tone = if troubles.is_empty() {
        Tone::Good
    } else {
        Tone::Bad
    };
    text.push_str(&paint.on(tone, &summary(hosts)));
    text.push('\n');
    text
}

fn line(agent: &AgentStatus, width: usize, now: DateTime<Utc>, paint: Paint) -> String {
    let (state, tone) = match agent.standing {
        Stand::Running => ("running", Tone::Good),
        Stand::StandingBy => ("standing by", Tone::Quiet),
        Stand::Waiting => ("not running", Tone::Bad),
        Stand::Missing => ("not loaded", Tone::Bad),
        Stand::Intruding => ("must not run", Tone::Bad),
        Stand::NotInstalled => ("not installed", Tone::Doubtful),
    };
    let state = paint.on(tone, &format!("{state:14}"));
    let (verdict, tone, ago, day, week) = match &agent.watch {
        None => (
            String::new(),
            Tone::Quiet,
            String::new(),
            String::new(),
            String::new(),
        ),
        Some(watch) => {
            let verdict = watch.verdict.clone().unwrap_or_else(|| "-".to_owned());
            let tone = match verdict.as_str() {
                "ok" => Tone::Good,
                "miss" => Tone::Bad,
                _ => Tone::Doubtful,
            };
            let ago = watch.checked.map_or("never".to_owned(), |at| ago(now, at));
            (
                verdict,
                tone,
                ago,
                percent(watch.success_24h),
                percent(watch.success_7d),
            )
        }
    };
    let verdict = paint.on(tone, &format!("{verdict:8}"));
    let line = format!(
        "  {:width$}  {state}  {verdict}  {ago:>7}  {day:>6}  {week:>6}",
        agent.name.as_str()
    );
    format!("{}\n", line.trim_end())
}

/// `ca.crt 1700 d`.
fn certificate(one: &CertificateStatus, now: DateTime<Utc>, paint: Paint) -> String {
    let left = match one.ends {
        Some(ends) if ends <= now => "expired".to_owned(),
        Some(ends) => format!("{} d", (ends - now).num_days()),
        None if one.problem.is_none() => "does not end".to_owned(),
        None => "unusable".to_owned(),
    };
    let tone = match (&one.problem, one.urgent) {
        (Some(_), true) => Tone::Bad,
        (Some(_), false) => Tone::Doubtful,
        (None, _) => Tone::Quiet,
    };
    format!("{} {}", one.file, paint.on(tone, &left))
}

/// One line about everything that was asked: what was not asked, and what has not been checked yet, is not well by that.
pub fn summary(hosts: &[HostStatus]) -> String {
    let asked: Vec<&HostStatus> = hosts
        .iter()
        .filter(|host| host.not_asked.is_none())
        .collect();
    let agents: usize = asked.iter().map(|host| host.agents.len()).sum();
    let troubles: usize = asked.iter().map(|host| host.troubles().len()).sum();
    let warnings: usize = asked.iter().map(|host| host.warnings().len()).sum();
    let watchdogs = asked
        .iter()
        .flat_map(|host| &host.agents)
        .filter(|agent| agent.role == "watchdog" && agent.standing == Stand::Running)
        .count();
    let unchecked: Vec<String> = asked
        .iter()
        .flat_map(|host| host.unchecked())
        .map(ToString::to_string)
        .collect();
    let not_asked: Vec<&str> = hosts
        .iter()
        .filter(|host| host.not_asked.is_some())
        .map(|host| host.host.as_str())
        .collect();
    let fleet = format!("{}, {}", count(asked.len(), "host"), count(agents, "agent"));
    let mut line = match troubles {
        0 if asked.is_empty() => "no host was asked".to_owned(),
        0 if watchdogs > 0 && unchecked.len() == watchdogs => {
            format!("nothing has been checked yet: {fleet}")
        }
        0 => format!("all is well: {fleet}"),
        _ => format!("{}: {fleet}", count(troubles, "trouble")),
    };
    if warnings > 0 {
        line.push_str(&format!("; {}", count(warnings, "warning")));
    }
    if !unchecked.is_empty() {
        line.push_str(&format!("; not checked yet: {}", unchecked.join(", ")));
    }
    if !not_asked.is_empty() {
        line.push_str(&format!("; not asked: {}", not_asked.join(", ")));
    }
    line
}

/// Some things.
pub fn count(number: usize, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}

fn percent(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate >= 1.0 => "100%".to_owned(),
        // Rounding up would call an outage perfection.
        Some(rate) => format!("{:.1}%", (rate * 1000.0).floor() / 10.0),
    }
}

fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    let seconds = (now - then).num_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
