//! Drift: whether a host is still as it was installed. It reports differences and changes nothing.
//!
//! On the host itself it calls the same function as `sanctum-launchd verify`. From another host it does not trust the first
//! host's own programs: it hashes files over ssh and compares them with its own copy of the receipt.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_client::ReferenceAddress;
use sanctum_config::fleet::Fleet;
use sanctum_config::{Home, Label, files};
use sanctum_host::{
    Active, Finding, FindingKind, Installation, Launchctl, MAX_FLEET_BYTES, OffboxError,
    TypedCommands, offbox, require_this_host,
};
use sanctum_watch::{
    BlockingTask, Check, CheckReport, Details, FirstCause, MissCause, Notice, Round, Verdict,
    VerdictKind, WatchdogConfig, certificate_findings, offline, verify_host,
};
use serde_json::json;

/// How long the other host may take to hash its files by default.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Findings that an alert lists; `verify` shows the rest.
const LISTED: usize = 8;

/// The drift check of one host.
#[derive(Debug)]
pub struct Drift {
    subject: Arc<DriftSubject>,
    host: Label,
    comparison: BlockingTask,
    reference: Option<ReferenceAddress>,
    /// launchd's label of this watchdog, whose own silence is not a finding.
    own: String,
    /// The commands that messages print.
    commands: TypedCommands,
    /// The servers of this host whose guardians report outages.
    outages: Vec<Outage>,
}

/// A server whose outages a guardian reports.
#[derive(Debug)]
struct Outage {
    server: Label,
    first_cause: FirstCause,
}

/// The host that is checked.
enum DriftSubject {
    /// This host.
    Here(Installation),
    /// Another host, over ssh.
    There {
        fleet: Fleet,
        /// The file that it was read from.
        file: PathBuf,
        home: Home,
        host: Label,
        /// This host, whose certificates are checked too.
        here: Label,
        limit: Duration,
    },
}

/// Why the check has no findings.
enum CheckError {
    /// The other host cannot be reached.
    Unreachable(String),
    /// Anything else.
    Failed(String),
}

impl Drift {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and the fix.
    pub fn new(setting: &WatchdogConfig) -> Result<Self, String> {
        let WatchdogConfig {
            fleet,
            home,
            name,
            watch,
            config,
            ..
        } = setting;
        // For a test by hand, the watchdog need not be in any host's list.
        let here = match fleet.hosts.contains_key(&setting.host) {
            true => setting.host.clone(),
            false => require_this_host(fleet, home).map_err(|error| error.to_string())?,
        };
        let host = host_to_check(fleet, watch.target.as_ref(), &here)?;
        let subject = if host == here {
            DriftSubject::Here(Installation {
                text: text_of(config)?,
                file: config.clone(),
                fleet: fleet.clone(),
                home: home.clone(),
                host: host.clone(),
                launchctl: Launchctl::here(),
            })
        } else {
            if fleet.hosts[&host].ssh.is_none() {
                return Err(OffboxError::NoDestination(host).to_string());
            }
            DriftSubject::There {
                fleet: fleet.clone(),
                file: config.clone(),
                home: home.clone(),
                host: host.clone(),
                here,
                limit: watch.timeout.unwrap_or(TIMEOUT),
            }
        };
        let outages = match &subject {
            DriftSubject::Here(_) => outages(setting, &host),
            DriftSubject::There { .. } => Vec::new(),
        };
        Ok(Self {
            subject: Arc::new(subject),
            host,
            comparison: BlockingTask::new("the comparison with the receipt"),
            reference: setting.reference()?,
            own: fleet.launchd_label(name),
            commands: setting.commands(),
            outages,
        })
    }

    /// Whether a finding is only that a server is down, which its guardian reports. This applies to the agent that serves: an
    /// outage explains no problem of its standby.
    fn is_reported(&self, finding: &Finding, now: DateTime<Utc>) -> bool {
        use FindingKind::{Disabled, NotLoaded, NotRunning};
        let DriftSubject::Here(site) = &*self.subject else {
            return false;
        };
        if !matches!(finding.kind, NotRunning | NotLoaded | Disabled) {
            return false;
        }
        let Ok(active) = Active::read(&site.home.active()) else {
            return false;
        };
        self.outages.iter().any(|outage| {
            let agent = active.agent_for(&outage.server);
            site.fleet.launchd_label(agent) == finding.subject
                && outage.first_cause.is_reported(now)
        })
    }

    fn report(&self, mut findings: Vec<Finding>, now: DateTime<Utc>) -> CheckReport<Infallible> {
        // This watchdog has just checked. If it is reported as stopped, the whole host slept, and the other watchdogs are
        // about to check too: only the next check counts for them.
        let silent = |finding: &Finding| finding.kind == FindingKind::Watchdog;
        let slept = (findings.iter()).any(|finding| silent(finding) && finding.subject == self.own);
        findings.retain(|finding| !(silent(finding) && slept));
        let host = &self.host;
        let all = findings.clone();
        // One cause is one alert: if nothing else is left, the guardian's alert covers this miss.
        findings.retain(|finding| !self.is_reported(finding, now));
        let (miss, shown) = match findings.is_empty() {
            true => (MissCause::NoAnswer, &all),
            false => (MissCause::Failed, &findings),
        };
        let verdict = match &shown[..] {
            [] => Verdict::new(VerdictKind::Ok, format!("{host} is as it was installed")),
            [one] => Verdict::new(
                VerdictKind::Miss,
                format!("{}: {}", one.subject, one.problem),
            )
            .next(&one.fix),
            several => {
                let listed = several.iter().take(LISTED).map(|finding| {
                    format!(
                        "{}: {} (fix: {})",
                        finding.subject, finding.problem, finding.fix
                    )
                });
                let mut listed: Vec<String> = listed.collect();
                if several.len() > LISTED {
                    listed.push(format!("and {} more", several.len() - LISTED));
                }
                let message = format!(
                    "{} findings on {host}: {}",
                    several.len(),
                    listed.join("; ")
                );
                Verdict::new(VerdictKind::Miss, message).next(self.verify())
            }
        };
        let text = |finding: &Finding| format!("{} {}", finding.subject, finding.problem);
        CheckReport {
            problems: findings.iter().map(text).collect(),
            details: Details {
                lines: all.iter().map(ToString::to_string).collect(),
                fields: json!({ "findings": all }),
            },
            ..Verdict { miss, ..verdict }.into()
        }
    }

    fn verify(&self) -> String {
        self.commands.typed(&format!("verify --host {}", self.host))
    }

    async fn report_error(&self, error: CheckError) -> CheckReport<Infallible> {
        match error {
            CheckError::Unreachable(message) => {
                if let Some(verdict) = offline(self.reference.as_ref(), &message).await {
                    return verdict.into();
                }
                // The canary alerts at once if the host is down. Drift alerts only if ssh alone fails for hours.
                let next = self.commands.typed(&format!("status --host {}", self.host));
                Verdict::new(VerdictKind::Busy, message).next(next).into()
            }
            CheckError::Failed(message) => CheckReport {
                problems: vec!["failed".to_owned()],
                ..Verdict::new(VerdictKind::Miss, message)
                    .next(self.verify())
                    .into()
            },
        }
    }
}

/// The servers of this host, with the guardians that report their outages through the same channels.
fn outages(setting: &WatchdogConfig, host: &Label) -> Vec<Outage> {
    let WatchdogConfig {
        fleet, home, watch, ..
    } = setting;
    let of = |server: &Label| Outage {
        server: server.clone(),
        first_cause: FirstCause::of_server(fleet, home, host, server, &watch.alert),
    };
    let servers = fleet.servers.iter();
    let here = servers.filter(|(_, server)| server.host == *host);
    here.map(|(server, _)| of(server)).collect()
}

/// The host that is checked: the target's, else this one if it has `ssh` or no host has, else the only host that has.
fn host_to_check(fleet: &Fleet, target: Option<&Label>, here: &Label) -> Result<Label, String> {
    if let Some(server) = target.and_then(|target| fleet.servers.get(target)) {
        return Ok(server.host.clone());
    }
    let mut reached = (fleet.hosts.iter()).filter(|(_, host)| host.ssh.is_some());
    if fleet.hosts[here].ssh.is_some() {
        return Ok(here.clone());
    }
    match (reached.next(), reached.next()) {
        (None, _) => Ok(here.clone()),
        (Some((only, _)), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(
            "several hosts have `ssh`, so it is unclear which of them to check; write `target = \"SERVER\"`, with a server of \
             that host"
                .to_owned(),
        ),
    }
}

fn text_of(config: &Path) -> Result<Vec<u8>, String> {
    files::read(config, MAX_FLEET_BYTES)
        .map_err(|error| format!("cannot read {}: {error}", config.display()))
}

impl DriftSubject {
    fn compare(&self) -> Result<Vec<Finding>, CheckError> {
        match self {
            Self::Here(installation) => verify_host(installation, Utc::now())
                .map_err(|error| CheckError::Failed(error.to_string())),
            Self::There {
                fleet,
                file,
                home,
                host,
                here,
                limit,
            } => {
                let commands = TypedCommands::of(fleet, home, file);
                let found = offbox(fleet, home, host, &commands, *limit);
                let mut found = found.map_err(|error| match error {
                    OffboxError::Unreachable { .. } => CheckError::Unreachable(error.to_string()),
                    other => CheckError::Failed(other.to_string()),
                })?;
                for finding in certificate_findings(fleet, file, home, here, Utc::now()) {
                    let subject = format!("{here}:{}", finding.subject);
                    found.push(Finding { subject, ..finding });
                }
                Ok(found)
            }
        }
    }
}

impl std::fmt::Debug for DriftSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(site) => write!(f, "Here({})", site.host),
            Self::There { host, .. } => write!(f, "There({host})"),
        }
    }
}

impl Check for Drift {
    type Action = Infallible;

    async fn check(&mut self, round: &Round<'_>) -> CheckReport<Infallible> {
        let subject = Arc::clone(&self.subject);
        // Ends before the watchdog's own limit, so that the reason is known.
        let limit = self.limit().saturating_sub(Duration::from_secs(5));
        let compared = self.comparison.run(limit, move || subject.compare());
        match compared.await {
            Ok(Ok(findings)) => self.report(findings, round.now),
            Ok(Err(error)) => self.report_error(error).await,
            Err(error) => {
                self.report_error(CheckError::Failed(error.to_string()))
                    .await
            }
        }
    }

    async fn execute(&mut self, action: Infallible) -> Vec<Notice> {
        match action {}
    }

    fn busy(&self) -> &'static str {
        "could not be checked"
    }

    fn subject(&self) -> String {
        match &*self.subject {
            DriftSubject::Here(_) => format!("the installation on {}", self.host),
            DriftSubject::There { .. } => {
                format!("the installation on {}, checked from outside,", self.host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sanctum_watch::WatchdogState;

    use super::*;

    fn fleet(hosts: &str) -> Fleet {
        let text =
            format!("{hosts}[servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:0\"]\n");
        Fleet::parse(&text, Path::new("fleet.toml")).unwrap()
    }

    fn label(name: &str) -> Label {
        name.parse().unwrap()
    }

    #[test]
    fn host_to_check_is_found_without_a_target() {
        let mini = "[hosts.mini]\naddress = \"a\"\nssh = \"mini\"\n";
        let laptop = "[hosts.laptop]\naddress = \"b\"\n";
        let fleet_of_two = fleet(&format!("{mini}{laptop}"));
        for here in ["mini", "laptop"] {
            let host = host_to_check(&fleet_of_two, None, &label(here)).unwrap();
            assert_eq!(host.as_str(), "mini", "from {here}");
        }
        let none = fleet(&format!("[hosts.mini]\naddress = \"a\"\n{laptop}"));
        assert_eq!(
            host_to_check(&none, None, &label("laptop"))
                .unwrap()
                .as_str(),
            "laptop"
        );
        let three = fleet(&format!(
            "{mini}{laptop}[hosts.maxi]\naddress = \"c\"\nssh = \"maxi\"\n"
        ));
        assert!(
            host_to_check(&three, None, &label("laptop"))
                .unwrap_err()
                .contains("`target")
        );
        let target = label("server");
        let host = host_to_check(&three, Some(&target), &label("laptop")).unwrap();
        assert_eq!(host.as_str(), "mini");
    }

    #[test]
    fn outage_hides_findings_about_the_active_agent_and_not_about_its_standby() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned(), folder.path().to_owned());
        let text = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"other\", \"guardian\", \"drift\"]\n\
            [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:0\"]\n\
            [agents.other]\nhost = \"mini\"\nprogram = [\"/bin/other\"]\nstandby_for = \"server\"\n\
            [watch.guardian]\n[watch.drift]\n";
        let config = folder.path().join("fleet.toml");
        std::fs::write(&config, text).unwrap();
        let fleet = Fleet::parse(text, &config).unwrap();
        let drift = Drift::new(&WatchdogConfig {
            home: home.clone(),
            watch: fleet.watch[&label("drift")].clone(),
            host: label("mini"),
            config,
            name: label("drift"),
            fleet: fleet.clone(),
        })
        .unwrap();
        let now = Utc::now();
        let mut guardian = WatchdogState::new(label("guardian"), now);
        guardian.last = Some(Verdict::new(VerdictKind::Miss, "gave no answer"));
        guardian.missing_since = Some(now);
        guardian
            .write(&home.watch_state(&label("guardian")))
            .unwrap();
        let hides = |kind, agent: &str| {
            let about = fleet.launchd_label(&label(agent));
            drift.is_reported(&Finding::new(kind, about, "it is wrong", "fix it"), now)
        };
        assert!(hides(FindingKind::NotRunning, "server"));
        assert!(!hides(FindingKind::Changed, "server"));
        assert!(!hides(FindingKind::Disabled, "other"));
        let mut active = Active::read(&home.active()).unwrap();
        active.set(label("server"), label("other"));
        active.write(&home.active()).unwrap();
        assert!(hides(FindingKind::NotRunning, "other"));
        assert!(!hides(FindingKind::Disabled, "server"));
    }

    #[test]
    fn findings_are_reported_with_their_fix_and_without_its_own_silence() {
        let drift = Drift {
            subject: Arc::new(DriftSubject::There {
                fleet: Fleet::default(),
                file: "fleet.toml".into(),
                home: Home::new("/h".into(), "/u".into()),
                host: label("mini"),
                here: label("laptop"),
                limit: TIMEOUT,
            }),
            host: label("mini"),
            comparison: BlockingTask::new("the test"),
            reference: None,
            own: "com.sanctum.drift".to_owned(),
            commands: TypedCommands::default(),
            outages: Vec::new(),
        };
        let now = Utc::now();
        let finding = |kind, about: &str| Finding::new(kind, about, "it is wrong", "fix it");
        let one = vec![
            finding(FindingKind::Watchdog, "com.sanctum.drift"),
            finding(FindingKind::Changed, "/a"),
        ];
        let report = drift.report(one, now);
        assert_eq!(report.verdict.message, "/a: it is wrong");
        assert_eq!(report.verdict.next, "fix it");
        let many = (0..10)
            .map(|at| finding(FindingKind::Missing, &format!("/{at}")))
            .collect();
        let report = drift.report(many, now);
        assert!(
            report
                .verdict
                .message
                .starts_with("10 findings on mini: /0: it is wrong (fix: fix it); /1")
        );
        assert!(report.verdict.message.ends_with("; and 2 more"));
        assert_eq!(report.problems.len(), 10);
        assert_eq!(report.details.fields["findings"][9]["fix"], "fix it");
        let report = drift.report(
            vec![finding(FindingKind::Watchdog, "com.sanctum.drift")],
            now,
        );
        assert_eq!(report.verdict.kind, VerdictKind::Ok);
        // The host slept, and no watchdog has checked since it woke.
        let all = ["com.sanctum.drift", "com.sanctum.guardian"];
        let asleep = all
            .map(|about| finding(FindingKind::Watchdog, about))
            .to_vec();
        assert_eq!(drift.report(asleep, now).verdict.kind, VerdictKind::Ok);
        let report = drift.report(vec![finding(FindingKind::Watchdog, all[1])], now);
        assert_eq!(report.verdict.kind, VerdictKind::Miss);
    }
}
