//! The screen that `status` prints.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use sanctum_config::{Fleet, Label};

use super::host_status::{AgentState, AgentStatus, CertificateStatus, Decisions, HostStatus};
use super::summary::summary;

/// Whether the screen has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// ANSI colours.
    Colours,
    /// None.
    Plain,
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
}

impl Paint {
    fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31;1",
            Tone::Quiet => "2",
        };
        match self {
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The screen: a section for each host, then the problems and the summary, which is last, above the prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusScreen {
    width: usize,
    now: DateTime<Utc>,
    paint: Paint,
}

impl StatusScreen {
    /// A screen for these hosts. Its first column is as wide as the longest name of an agent in fleet.toml, so that a section
    /// can be printed before the other hosts have answered.
    pub(crate) fn new(fleet: &Fleet, hosts: &[&Label], now: DateTime<Utc>, paint: Paint) -> Self {
        let agents = hosts.iter().flat_map(|host| fleet.agents_of(host));
        let longest = agents.map(|(name, _)| name.as_str().len()).max();
        Self {
            width: longest.unwrap_or(0).max(8),
            now,
            paint,
        }
    }

    /// The section of a host.
    pub(crate) fn section(self, host: &HostStatus) -> String {
        let Self { width, now, paint } = self;
        let mut text = String::new();
        let release = match (&host.release, &host.installed, &host.not_asked) {
            (Some(release), Some(since), _) => format!("release {release} since {since}"),
            (_, _, Some(why)) => why.clone(),
            _ if host.problem.is_some() => String::new(),
            _ => "nothing is installed".to_owned(),
        };
        let _ = writeln!(text, "{}  {}", host.host, paint.on(Tone::Quiet, &release));
        if let Some(problem) = &host.problem {
            let _ = writeln!(text, "  {}", paint.on(Tone::Bad, problem));
        }
        if let Some(maintenance) = &host.maintenance {
            let _ = writeln!(text, "  {}", paint.on(Tone::Warning, maintenance));
        }
        if let Some(window) = &host.window {
            let what = window.describe();
            let _ = writeln!(text, "  {}", paint.on(Tone::Warning, &what));
        }
        for record in &host.unreadable {
            let _ = writeln!(text, "  {}", paint.on(Tone::Bad, record));
        }
        if !host.agents.is_empty() {
            let head = format!(
                "  {:width$}  {:14}  {:>7}  {:>8}  {:>8}  {:8}  {:>7}  {:>6}  {:>6}",
                "AGENT", "STATE", "UP", "RESTARTS", "MEMORY", "VERDICT", "AGO", "24 H", "7 D"
            );
            let _ = writeln!(text, "{}", paint.on(Tone::Quiet, &head));
        }
        for agent in &host.agents {
            text.push_str(&line(agent, width, now, paint));
        }
        for agent in &host.agents {
            if let Some(stopped) = &agent.stopped {
                let what = format!("{} is {}", agent.name, stopped.describe());
                let _ = writeln!(text, "  {}", paint.on(Tone::Warning, &what));
            }
        }
        for server in &host.servers {
            let tone = match server.state.as_str() {
                "ready" => Tone::Good,
                "loading" | "draining" | "stopped" => Tone::Warning,
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
                paint.on(tone, &server.state)
            );
            if let (Some(running), Some(queued)) = (server.in_flight, server.queued) {
                let _ = write!(text, "; {running} running, {queued} queued");
            }
            if let Some(rate) = server.tokens_per_second {
                let _ = write!(text, ", {rate:.1} tokens/s");
            }
            if let Some(used) = server.mlx_memory_bytes {
                let _ = write!(text, "; MLX uses {}", bytes(used));
            }
            // A server lists methods without requests too.
            let auth = server.auth.iter().flatten();
            let auth = auth.filter(|(_, decisions)| **decisions != Decisions::default());
            let auth: Vec<String> = auth
                .map(|(method, decisions)| match decisions.refused {
                    0 => format!("{method} {}", decisions.granted),
                    refused => format!("{method} {} ({refused} refused)", decisions.granted),
                })
                .collect();
            if !auth.is_empty() {
                let _ = write!(text, "; accepted: {}", auth.join(", "));
            }
            text.push('\n');
        }
        if let Some(disk) = host.disk {
            let (free, total) = (bytes(disk.free_bytes), bytes(disk.total_bytes));
            let _ = writeln!(text, "  disk: {free} of {total} free");
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
        text
    }

    /// The problems of all hosts and the summary.
    pub(crate) fn end(self, hosts: &[HostStatus]) -> String {
        let paint = self.paint;
        let mut text = String::new();
        for warning in hosts.iter().flat_map(HostStatus::warnings) {
            let _ = writeln!(text, "{} {warning}", paint.on(Tone::Warning, "warning:"));
        }
        let problems: Vec<String> = hosts.iter().flat_map(HostStatus::problems).collect();
        for problem in &problems {
            let _ = writeln!(text, "{} {problem}", paint.on(Tone::Bad, "!"));
        }
        let tone = if problems.is_empty() {
            Tone::Good
        } else {
            Tone::Bad
        };
        text.push_str(&paint.on(tone, &summary(hosts)));
        text.push('\n');
        text
    }
}

fn line(agent: &AgentStatus, width: usize, now: DateTime<Utc>, paint: Paint) -> String {
    let (state, tone) = match agent.state {
        AgentState::Running => ("running", Tone::Good),
        AgentState::Standby => ("standby", Tone::Quiet),
        AgentState::NotRunning => ("not running", Tone::Bad),
        AgentState::NotLoaded => ("not loaded", Tone::Bad),
        AgentState::LoadedStandby => ("loaded standby", Tone::Bad),
        AgentState::NotInstalled => ("not installed", Tone::Warning),
        AgentState::Stopped => ("stopped", Tone::Warning),
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
                _ => Tone::Warning,
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
    let up = agent.uptime_seconds.map_or_else(String::new, duration);
    let restarts = agent.restarts().filter(|_| agent.pid.is_some());
    let restarts = restarts.map_or_else(String::new, |restarts| restarts.to_string());
    let memory = agent.memory_bytes.map_or_else(String::new, bytes);
    let line = format!(
        "  {:width$}  {state}  {up:>7}  {restarts:>8}  {memory:>8}  {verdict}  {ago:>7}  {day:>6}  {week:>6}",
        agent.name.as_str()
    );
    format!("{}\n", line.trim_end())
}

/// `ca.crt 1700 d`.
fn certificate(one: &CertificateStatus, now: DateTime<Utc>, paint: Paint) -> String {
    let left = match one.ends {
        Some(ends) if ends <= now => "expired".to_owned(),
        Some(ends) => format!("{} d", (ends - now).num_days()),
        None if one.problem.is_none() => "does not expire".to_owned(),
        None => "unusable".to_owned(),
    };
    let tone = match (&one.problem, one.urgent) {
        (Some(_), true) => Tone::Bad,
        (Some(_), false) => Tone::Warning,
        (None, _) => Tone::Quiet,
    };
    format!("{} {}", one.file, paint.on(tone, &left))
}

fn percent(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate >= 1.0 => "100%".to_owned(),
        // Rounded down, so that an outage never shows as 100%.
        Some(rate) => format!("{:.1}%", (rate * 1000.0).floor() / 10.0),
    }
}

fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    duration((now - then).num_seconds().max(0).unsigned_abs())
}

/// `1.4 GiB`.
fn bytes(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= 100.0 * GIB => format!("{:.0} GiB", bytes / GIB),
        _ if bytes >= GIB => format!("{:.1} GiB", bytes / GIB),
        _ => format!("{:.0} MiB", bytes / MIB),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
