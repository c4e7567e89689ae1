//! Drift: is a host still what was installed on it? It only tells; it never puts anything back.
//!
//! On the host itself it asks what `sanctum-launchd verify` asks, through the same function. From another host it trusts
//! nothing that the first one says of itself: it hashes raw files over ssh and compares them with its own copy of the
//! receipt.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_client::ReferenceAddress;
use sanctum_config::fleet::Fleet;
use sanctum_config::{Home, Label, files};
use sanctum_host::{Active, Launchctl};
use sanctum_launchd::offbox::{NotSeen, offbox};
use sanctum_launchd::site::{Site, this_host};
use sanctum_launchd::{Finding, certificates, verify};
use sanctum_watch::{
    Check, Details, FirstCause, Kind, Miss, Report, Round, Setting, Verdict, aside, offline,
};
use serde_json::json;

/// How long the other host may take to hash its files where fleet.toml says nothing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A fleet.toml of thousands of agents is smaller.
const LARGEST: u64 = 4 << 20;
/// What an alert tells of one by one; `verify` shows the rest.
const TOLD: usize = 8;

/// The drift check of one host.
#[derive(Debug)]
pub struct Drift {
    place: Arc<Place>,
    host: Label,
    reference: Option<ReferenceAddress>,
    /// launchd's label for this watchdog, which need not tell itself that it lives.
    own: String,
    /// The servers of this host whose guardian reports that they are down.
    outages: Vec<Outage>,
}

/// Where an outage of a server is reported already.
#[derive(Debug)]
struct Outage {
    server: Label,
    first_cause: FirstCause,
}

/// Where the host that is looked at lies.
enum Place {
    /// It is this one.
    Here(Site),
    /// It is reached over ssh.
    There {
        fleet: Fleet,
        /// The file that it was read from.
        file: PathBuf,
        home: Home,
        host: Label,
        /// This host, whose own certificates no other check looks at.
        here: Label,
        limit: Duration,
    },
}

/// Why nothing was seen.
enum Blind {
    /// The other host cannot be reached.
    Unreached(String),
    /// Anything else.
    Failed(String),
}

impl Drift {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and its mend.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let Setting {
            fleet,
            home,
            name,
            watch,
            config,
            ..
        } = setting;
        // To try it out it need not be in any host's list.
        let here = match fleet.hosts.contains_key(&setting.host) {
            true => setting.host.clone(),
            false => this_host(fleet, home).map_err(|error| error.to_string())?,
        };
        let host = watched(fleet, watch.target.as_ref(), &here)?;
        let place = if host == here {
            Place::Here(Site {
                text: text_of(config)?,
                file: config.clone(),
                fleet: fleet.clone(),
                home: home.clone(),
                host: host.clone(),
                launchctl: Launchctl::here(),
            })
        } else {
            if fleet.hosts[&host].ssh.is_none() {
                return Err(NotSeen::NoDestination(host).to_string());
            }
            Place::There {
                fleet: fleet.clone(),
                file: config.clone(),
                home: home.clone(),
                host: host.clone(),
                here,
                limit: watch.timeout.unwrap_or(TIMEOUT),
            }
        };
        let outages = match &place {
            Place::Here(_) => outages(setting, &host),
            Place::There { .. } => Vec::new(),
        };
        Ok(Self {
            place: Arc::new(place),
            host,
            reference: setting.reference()?,
            own: fleet.launchd_label(name),
            outages,
        })
    }

    /// Whether a finding says only that a server is down, which its guardian reports. That is about the agent that serves: no
    /// outage explains what is wrong with its standby.
    fn is_reported(&self, finding: &Finding, now: DateTime<Utc>) -> bool {
        use sanctum_launchd::Kind::{Disabled, NotLoaded, NotRunning};
        let Place::Here(site) = &*self.place else {
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
            site.fleet.launchd_label(agent) == finding.about && outage.first_cause.is_reported(now)
        })
    }

    fn report(&self, mut findings: Vec<Finding>, now: DateTime<Utc>) -> Report {
        // Its own silence ends with this check. Where it has just been silent itself, the whole host slept, and the others
        // are about to wake too: the next check tells.
        let silent = |finding: &Finding| finding.kind == sanctum_launchd::Kind::Watchdog;
        let slept = (findings.iter()).any(|finding| silent(finding) && finding.about == self.own);
        findings.retain(|finding| !(silent(finding) && slept));
        let host = &self.host;
        let all = findings.clone();
        // One cause is one alert; where there is nothing else, this miss is left to the guardian's alert.
        findings.retain(|finding| !self.is_reported(finding, now));
        let (miss, shown) = match findings.is_empty() {
            true => (Miss::NoAnswer, &all),
            false => (Miss::Failed, &findings),
        };
        let verdict = match &shown[..] {
            [] => Verdict::new(Kind::Ok, format!("{host} is as it was installed")),
            [one] => {
                Verdict::new(Kind::Miss, format!("{}: {}", one.about, one.wrong)).next(&one.mend)
            }
            several => {
                let told = several.iter().take(TOLD).map(|finding| {
                    format!(
                        "{}: {} (do this: {})",
                        finding.about, finding.wrong, finding.mend
                    )
                });
                let mut told: Vec<String> = told.collect();
                if several.len() > TOLD {
                    told.push(format!("and {} more", several.len() - TOLD));
                }
                let said = format!("{} findings on {host}: {}", several.len(), told.join("; "));
                Verdict::new(Kind::Miss, said).next(self.verify())
            }
        };
        let words = |finding: &Finding| format!("{} {}", finding.about, finding.wrong);
        Report {
            wrongs: findings.iter().map(words).collect(),
            miss,
            details: Details {
                lines: all.iter().map(ToString::to_string).collect(),
                fields: json!({ "findings": all }),
            },
            ..verdict.into()
        }
    }

    fn verify(&self) -> String {
        format!("sanctum-launchd verify --host {}", self.host)
    }

    async fn blind(&self, blind: Blind) -> Report {
        match blind {
            Blind::Unreached(said) => {
                if let Some(verdict) = offline(self.reference.as_ref(), &said).await {
                    return verdict.into();
                }
                // A host that is gone is the canary's to tell of, at once; that nobody can look at the installation is
                // told of when it lasts for hours, as where ssh alone is down.
                let next = format!("sanctum-launchd status --host {}", self.host);
                Verdict::new(Kind::Busy, said).next(next).into()
            }
            Blind::Failed(said) => Report {
                wrongs: vec!["failed".to_owned()],
                ..Verdict::new(Kind::Miss, said).next(self.verify()).into()
            },
        }
    }
}

/// The servers of this host with the guardians that report their outages through the same channels.
fn outages(setting: &Setting, host: &Label) -> Vec<Outage> {
    let Setting {
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

/// The host that is looked at: the target's, else this one if it has `ssh` or none has, else the only one that has.
fn watched(fleet: &Fleet, target: Option<&Label>, here: &Label) -> Result<Label, String> {
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
            "several hosts have `ssh`, so it is not known which of them is meant; write `target = \"SERVER\"`, a server of \
             that host"
                .to_owned(),
        ),
    }
}

fn text_of(config: &Path) -> Result<Vec<u8>, String> {
    files::read(config, LARGEST)
        .map_err(|error| format!("cannot read {}: {error}", config.display()))
}

impl Place {
    fn look(&self) -> Result<Vec<Finding>, Blind> {
        match self {
            Self::Here(site) => verify(site).map_err(|failure| Blind::Failed(failure.to_string())),
            Self::There {
                fleet,
                file,
                home,
                host,
                here,
                limit,
            } => {
                let found = offbox(fleet, home, host, *limit);
                let mut found = found.map_err(|error| match error {
                    NotSeen::Unreached { .. } => Blind::Unreached(error.to_string()),
                    other => Blind::Failed(other.to_string()),
                })?;
                for finding in certificates(fleet, file, home, here, Utc::now()) {
                    let about = format!("{here}:{}", finding.about);
                    found.push(Finding { about, ..finding });
                }
                Ok(found)
            }
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(site) => write!(f, "Here({})", site.host),
            Self::There { host, .. } => write!(f, "There({host})"),
        }
    }
}

impl Check for Drift {
    async fn check(&mut self, round: &mut Round) -> Report {
        let place = Arc::clone(&self.place);
        match aside(move || place.look()).await {
            Some(Ok(findings)) => self.report(findings, round.now),
            Some(Err(blind)) => self.blind(blind).await,
            None => {
                self.blind(Blind::Failed(
                    "the check could not be run; see the log".to_owned(),
                ))
                .await
            }
        }
    }

    fn busy(&self) -> &'static str {
        "could not be looked at"
    }

    fn subject(&self) -> String {
        match &*self.place {
            Place::Here(_) => format!("the installation on {}", self.host),
            Place::There { .. } => format!("the installation on {}, seen from outside,", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use sanctum_launchd::Kind as About;
    use sanctum_watch::State;

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
    fn the_host_that_is_looked_at_can_be_told_without_a_word() {
        let mini = "[hosts.mini]\naddress = \"a\"\nssh = \"mini\"\n";
        let laptop = "[hosts.laptop]\naddress = \"b\"\n";
        let fleet_of_two = fleet(&format!("{mini}{laptop}"));
        for here in ["mini", "laptop"] {
            let host = watched(&fleet_of_two, None, &label(here)).unwrap();
            assert_eq!(host.as_str(), "mini", "from {here}");
        }
        let none = fleet(&format!("[hosts.mini]\naddress = \"a\"\n{laptop}"));
        assert_eq!(
            watched(&none, None, &label("laptop")).unwrap().as_str(),
            "laptop"
        );
        let three = fleet(&format!(
            "{mini}{laptop}[hosts.maxi]\naddress = \"c\"\nssh = \"maxi\"\n"
        ));
        assert!(
            watched(&three, None, &label("laptop"))
                .unwrap_err()
                .contains("`target")
        );
        let target = label("server");
        let host = watched(&three, Some(&target), &label("laptop")).unwrap();
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
        let drift = Drift::new(&Setting {
            home: home.clone(),
            watch: fleet.watch[&label("drift")].clone(),
            host: label("mini"),
            config,
            name: label("drift"),
            fleet: fleet.clone(),
        })
        .unwrap();
        let now = Utc::now();
        let mut guardian = State::new(label("guardian"), now);
        guardian.last = Some(Verdict::new(Kind::Miss, "gave no answer"));
        guardian.missing_since = Some(now);
        guardian
            .write(&home.watch_state(&label("guardian")))
            .unwrap();
        let hides = |kind, agent: &str| {
            let about = fleet.launchd_label(&label(agent));
            drift.is_reported(&Finding::new(kind, about, "it is wrong", "fix it"), now)
        };
        assert!(hides(About::NotRunning, "server"));
        assert!(!hides(About::Changed, "server"));
        assert!(!hides(About::Disabled, "other"));
        let mut active = Active::read(&home.active()).unwrap();
        active.set(label("server"), label("other"));
        active.write(&home.active()).unwrap();
        assert!(hides(About::NotRunning, "other"));
        assert!(!hides(About::Disabled, "server"));
    }

    #[test]
    fn findings_are_told_with_what_to_do_and_its_own_silence_is_no_finding() {
        let drift = Drift {
            place: Arc::new(Place::There {
                fleet: Fleet::default(),
                file: "fleet.toml".into(),
                home: Home::new("/h".into(), "/u".into()),
                host: label("mini"),
                here: label("laptop"),
                limit: TIMEOUT,
            }),
            host: label("mini"),
            reference: None,
            own: "com.sanctum.drift".to_owned(),
            outages: Vec::new(),
        };
        let now = Utc::now();
        let finding = |kind, about: &str| Finding::new(kind, about, "it is wrong", "mend it");
        let one = vec![
            finding(About::Watchdog, "com.sanctum.drift"),
            finding(About::Changed, "/a"),
        ];
        let report = drift.report(one, now);
        assert_eq!(report.verdict.said, "/a: it is wrong");
        assert_eq!(report.verdict.next, "mend it");
        let many = (0..10)
            .map(|at| finding(About::Missing, &format!("/{at}")))
            .collect();
        let report = drift.report(many, now);
        assert!(
            report
                .verdict
                .said
                .starts_with("10 findings on mini: /0: it is wrong (do this: mend it); /1")
        );
        assert!(report.verdict.said.ends_with("; and 2 more"));
        assert_eq!(report.wrongs.len(), 10);
        assert_eq!(report.details.fields["findings"][9]["mend"], "mend it");
        let report = drift.report(vec![finding(About::Watchdog, "com.sanctum.drift")], now);
        assert_eq!(report.verdict.kind, Kind::Ok);
        // The host slept, and nobody has given a sign of life yet since it woke.
        let all = ["com.sanctum.drift", "com.sanctum.guardian"];
        let asleep = all.map(|about| finding(About::Watchdog, about)).to_vec();
        assert_eq!(drift.report(asleep, now).verdict.kind, Kind::Ok);
        let report = drift.report(vec![finding(About::Watchdog, all[1])], now);
        assert_eq!(report.verdict.kind, Kind::Miss);
    }
}
