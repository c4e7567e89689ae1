//! The fleet.toml that `init` writes: from answers to questions, a commented file that `check` accepts.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use sanctum_config::{Fleet, HostAddress, Label, ModelId};

/// The port of the server on loopback, and of a standby.
const PORT: u16 = 1337;
/// The port of the server for other hosts.
const TLS_PORT: u16 = 1338;

/// What the questions ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewFleet {
    /// The host that serves.
    pub(crate) serving: NewHost,
    /// The host that watches it from outside.
    pub(crate) watching: Option<NewHost>,
    /// The model's folder; none for the model that is built in.
    pub(crate) model: Option<String>,
    /// The program that can serve in the server's place.
    pub(crate) standby: Option<StandbyProgram>,
    /// How alerts of the host that serves are delivered.
    pub(crate) alert: AlertChannel,
}

/// A host and its address: `mini=192.0.2.25`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewHost {
    /// Its name in fleet.toml.
    pub(crate) name: Label,
    /// Its address, as other hosts reach it.
    pub(crate) address: String,
}

/// A program and its arguments. Words are separated by spaces; there are no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandbyProgram(Vec<String>);

/// How alerts are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AlertChannel {
    /// As notifications on the watchdog's own screen.
    Desktop,
    /// To the watchdog's log.
    Log,
    /// To an HTTP receiver.
    Url(String),
}

impl FromStr for NewHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` is not NAME=ADDRESS; write a name and the address that other hosts use: mini=192.0.2.25")
        })?;
        let name = name.trim().parse().map_err(|error| format!("{error}"))?;
        let address = address.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let ip = address.parse::<HostAddress>();
        let is_name = !address.is_empty() && address.chars().all(plain);
        if ip.is_err() && !is_name {
            return Err(format!(
                "`{address}` is not an address; write an IP address or a host name, without a port: {name}=192.0.2.25"
            ));
        }
        if address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            return Err(format!(
                "`{address}` means every address of a host, and other hosts cannot connect to it; write one of them: \
                 {name}=192.0.2.25"
            ));
        }
        Ok(Self {
            name,
            address: address.to_owned(),
        })
    }
}

impl NewHost {
    /// Whether it can watch `serving` from outside.
    ///
    /// # Errors
    /// If it is the same host, or one of them cannot be reached from the other.
    pub(crate) fn watches(&self, serving: &Self) -> Result<(), String> {
        if self.name == serving.name || self.address == serving.address {
            return Err(format!(
                "`{}` both serves and watches from outside; name another host, or none",
                serving.name
            ));
        }
        for host in [self, serving] {
            let ip = host.address.parse::<IpAddr>();
            if host.address == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()) {
                return Err(format!(
                    "`{}` is reached by {} itself only; write the address that the other host uses",
                    host.address, host.name
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for AlertChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "desktop" => Ok(Self::Desktop),
            "log" => Ok(Self::Log),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                public(url)?;
                Ok(Self::Url(printable(url)?))
            }
            other => Err(format!(
                "`{other}` is not a channel; write desktop, log, or the URL of a receiver: https://192.0.2.7/notify"
            )),
        }
    }
}

/// Services whose addresses are secrets: who knows one can write there, or read.
const SECRET: [&str; 5] = [
    "hooks.slack.com",
    "discord.com",
    "discordapp.com",
    "api.telegram.org",
    "ntfy.sh",
];

/// Refuses an address that every reader of fleet.toml should not see.
fn public(url: &str) -> Result<(), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    let why = match () {
        () if authority.contains('@') => "has a user or a password in it",
        () if SECRET.contains(&host.to_ascii_lowercase().as_str()) => "is a secret itself",
        () => return Ok(()),
    };
    Err(format!(
        "the address of {} {why}, and every reader of fleet.toml would see it; write desktop or log here, then the address into \
         a file, and name that with `url_file` (docs/watching.md, \"How an alert is delivered\")",
        authority.rsplit('@').next().unwrap_or_default()
    ))
}

/// A text that can be in a TOML string and in a comment.
pub(crate) fn printable(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err(format!("{text:?} has control characters; leave them out")),
        false => Ok(text.trim().to_owned()),
    }
}

impl FromStr for StandbyProgram {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['\'', '"', '\\']) {
            return Err(format!(
                "`{text}` has quotes, and words are separated by spaces only; write a script with these arguments, and name it here"
            ));
        }
        let words: Vec<String> = printable(text)?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        match words.first() {
            Some(program) if program.starts_with('/') || program.starts_with("~/") => {
                Ok(Self(words))
            }
            _ => Err(format!(
                "`{text}` does not begin with the absolute path of a program; write one that begins with / or ~/, because \
                 launchd has another PATH"
            )),
        }
    }
}

impl NewFleet {
    /// The text of fleet.toml.
    ///
    /// # Errors
    /// If the answers contradict each other, or make no valid fleet.
    pub(crate) fn text(&self) -> Result<String, String> {
        if let Some(watching) = &self.watching {
            watching.watches(&self.serving)?;
        }
        let mut text = String::new();
        self.begin(&mut text);
        self.hosts(&mut text);
        self.server(&mut text);
        self.standby(&mut text);
        self.watchdogs(&mut text);
        self.alerts(&mut text);
        Fleet::parse(&text, Path::new("fleet.toml"))
            .map(|_| text)
            .map_err(|error| format!("these answers make no valid fleet: {error}"))
    }

    fn begin(&self, text: &mut String) {
        put(
            text,
            "# The whole fleet: every program reads this file, and every launchd property list is made from it. After a change:\n\
             #\n\
             #   sanctum-launchd check --config fleet.toml\n\
             #   sanctum-launchd install --config fleet.toml\n\
             #\n\
             # docs/fleet.toml shows all sections and keys.\n\n\
             [fleet]\n\
             name = \"sanctum\"                          # launchd knows an agent as com.<name>.<agent>\n\
             home = \"~/.sanctum\"                       # on every host: bin/ releases/ state/ logs/ certs/ secrets/\n",
        );
    }

    fn hosts(&self, text: &mut String) {
        let NewHost { name, address } = &self.serving;
        let address = quoted(address);
        put(
            text,
            &format!(
                "\n[hosts.{name}]                             # it serves\n\
                 address = {address}\n\
                 ssh = {address}                      # the destination of commands with --host; `ssh DESTINATION true` must work\n\
                 agents = [\"server\", \"guardian\", \"canary\", \"drift\"]\n"
            ),
        );
        if let Some(NewHost { name, address }) = &self.watching {
            let address = quoted(address);
            put(
                text,
                &format!(
                    "\n[hosts.{name}]                           # it watches from outside, so that a dead host is noticed\n\
                     address = {address}\n\
                     ssh = {address}\n\
                     agents = [\"canary-offbox\", \"drift-offbox\"]\n"
                ),
            );
        }
    }

    fn server(&self, text: &mut String) {
        let name = &self.serving.name;
        put(
            text,
            &format!(
                "\n[servers.server]\n\
                 host = \"{name}\"\n\
                 listen = [\"127.0.0.1:{PORT}\"]               # plain HTTP for programs on {name} itself\n"
            ),
        );
        if self.watching.is_some() {
            let address = self.serving.address.as_str();
            // A server listens on addresses, and not on names.
            let ip = match address.parse::<HostAddress>() {
                Ok(_) if address.contains(':') => format!("[{address}]"),
                Ok(_) => address.to_owned(),
                Err(_) => "0.0.0.0".to_owned(),
            };
            put(
                text,
                &format!(
                    "tls_listen = [\"{ip}:{TLS_PORT}\"]           # for other hosts: only clients with a certificate of this fleet\n"
                ),
            );
        }
        match &self.model {
            None => put(
                text,
                "# No models: the small one that is built into the program. To serve your own:\n\
                 # models = [{ id = \"council\", path = \"~/models/qwen3.5-27b-4bit\" }]\n",
            ),
            Some(folder) => {
                let id = model_id(folder);
                let folder = quoted(folder);
                put(
                    text,
                    &format!(
                        "models = [{{ id = \"{id}\", path = {folder} }}]   # requests name it `{id}`; manifest = \"FILE\" signs it\n"
                    ),
                );
            }
        }
    }

    fn standby(&self, text: &mut String) {
        let Some(StandbyProgram(program)) = &self.standby else {
            return;
        };
        let words: Vec<String> = program.iter().map(|word| quoted(word)).collect();
        put(
            text,
            &format!(
                "\n[agents.standby]                          # it does not run until: sanctum-launchd rollback --agent standby\n\
                 host = \"{}\"\n\
                 program = [{}]   # it must listen on 127.0.0.1:{PORT}\n\
                 standby_for = \"server\"\n",
                self.serving.name,
                words.join(", ")
            ),
        );
    }

    fn watchdogs(&self, text: &mut String) {
        let channel = self.alert.section();
        put(
            text,
            &format!(
                "\n[watch.guardian]                          # is it alive? Restarts a hung or dead server, never a busy one\n\
                 target = \"server\"\n\
                 every = \"60s\"\n\
                 alert = [\"{channel}\"]\n\
                 \n[watch.canary]                            # does it answer correctly?\n\
                 target = \"server\"\n\
                 every = \"10m\"\n\
                 alert = [\"{channel}\"]\n\
                 \n[watch.drift]                             # is everything as it was installed?\n\
                 every = \"1h\"\n\
                 alert = [\"{channel}\"]\n"
            ),
        );
        if self.watching.is_some() {
            put(
                text,
                "\n[watch.canary-offbox]                     # the same from outside, on that host's own screen\n\
                 check = \"canary\"\n\
                 target = \"server\"\n\
                 every = \"5m\"\n\
                 misses = 2                                # a dead host is noticed after 10 minutes\n\
                 # reference = \"https://192.0.2.1\"         # an address that answers whenever this host is on the network\n\
                 alert = [\"desktop\"]\n\
                 \n[watch.drift-offbox]                      # over ssh, against this host's own copy of the receipt\n\
                 check = \"drift\"\n\
                 target = \"server\"\n\
                 every = \"1h\"\n\
                 alert = [\"desktop\"]\n",
            );
        }
    }

    fn alerts(&self, text: &mut String) {
        if let AlertChannel::Url(url) = &self.alert {
            let url = quoted(url);
            put(
                text,
                &format!("\n[alerts.receiver]                         # POST, JSON\nurl = {url}\n"),
            );
        }
        if self.alert == AlertChannel::Log {
            put(
                text,
                "\n[alerts.log]                              # only the watchdog's own log\n",
            );
        }
        if self.alert == AlertChannel::Desktop || self.watching.is_some() {
            put(
                text,
                "\n[alerts.desktop]                          # a notification on the screen of the watchdog's host\n\
                 sound = \"Submarine\"\n",
            );
        }
    }
}

impl AlertChannel {
    fn section(&self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Log => "log",
            Self::Url(_) => "receiver",
        }
    }
}

fn put(text: &mut String, part: &str) {
    // Writing to a String does not fail.
    let _ = write!(text, "{part}");
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// The name of a model in requests: that of its folder.
fn model_id(folder: &str) -> String {
    let name = Path::new(folder).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    match name.parse::<ModelId>() {
        Ok(_) if !name.starts_with('~') => name.into_owned(),
        _ => "model".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_notes::fleet_notes;

    fn new() -> NewFleet {
        NewFleet {
            serving: "mini=192.0.2.25".parse().unwrap(),
            watching: None,
            model: None,
            standby: None,
            alert: AlertChannel::Desktop,
        }
    }

    /// The notes of `check` about it.
    fn notes(fleet: &NewFleet) -> Vec<String> {
        let text = fleet.text().unwrap();
        let file = Path::new("/x/fleet.toml");
        let parsed = Fleet::parse(&text, file).unwrap();
        fleet_notes(&parsed, file, None)
    }

    #[test]
    fn answer_that_makes_no_fleet_is_refused_at_once() {
        for host in [
            "mini=1.2.3.4:99",
            "mini=0.0.0.0",
            "mini=::",
            "mini=",
            "mini=a b",
        ] {
            assert!(host.parse::<NewHost>().is_err(), "{host}");
        }
        "mini=fd7a::55".parse::<NewHost>().unwrap();
        for url in [
            "https://a:b@x.example/y",
            "https://hooks.slack.com/services/T/B/x",
            "https://ntfy.sh/topic",
        ] {
            let error = url.parse::<AlertChannel>().unwrap_err();
            assert!(error.contains("`url_file`"), "{error}");
            assert!(
                !error.contains("a:b") && !error.contains("/services"),
                "{error}"
            );
        }
        "http://127.0.0.1:4077/notify"
            .parse::<AlertChannel>()
            .unwrap();
        assert!("/bin/sh -c \"echo a\"".parse::<StandbyProgram>().is_err());
        let mini: NewHost = "mini=127.0.0.1".parse().unwrap();
        let laptop: NewHost = "laptop=192.0.2.55".parse().unwrap();
        let error = laptop.watches(&mini).unwrap_err();
        assert!(error.contains("mini itself only"), "{error}");
    }

    #[test]
    fn every_kind_of_fleet_is_valid_and_has_no_notes() {
        let watching = Some("laptop=laptop.example.net".parse().unwrap());
        let all = [
            new(),
            NewFleet {
                watching: watching.clone(),
                ..new()
            },
            NewFleet {
                serving: "mini=fd00::25".parse().unwrap(),
                watching,
                model: Some("~/models/a \"b\"".into()),
                standby: Some("/usr/local/bin/mlx_lm.server --port 1337".parse().unwrap()),
                alert: "https://192.0.2.7/notify".parse().unwrap(),
            },
            NewFleet {
                alert: AlertChannel::Log,
                ..new()
            },
        ];
        for fleet in &all {
            assert_eq!(
                notes(fleet),
                Vec::<String>::new(),
                "{}",
                fleet.text().unwrap()
            );
        }
        let text = all[2].text().unwrap();
        assert!(
            text.contains("tls_listen = [\"[fd00::25]:1338\"]"),
            "{text}"
        );
        assert!(text.contains(r#"path = "~/models/a \"b\"""#), "{text}");
        assert!(text.contains("id = \"model\""), "{text}");
        assert!(text.contains("standby_for = \"server\""), "{text}");
    }

    #[test]
    fn answers_that_make_no_fleet_are_errors_with_an_example() {
        for (bad, part) in [
            ("mini", "mini=192.0.2.25"),
            ("a b=192.0.2.1", "is not a label"),
            ("mini=", "is not an address"),
            ("mini=a\"b", "is not an address"),
        ] {
            let error = bad.parse::<NewHost>().unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
        assert!("mail".parse::<AlertChannel>().is_err());
        assert!("https://a\x1b".parse::<AlertChannel>().is_err());
        let relative = "mlx_lm.server".parse::<StandbyProgram>();
        assert!(relative.unwrap_err().contains("absolute path"));
        let same = NewFleet {
            watching: Some("mini=192.0.2.26".parse().unwrap()),
            ..new()
        };
        assert!(same.text().unwrap_err().contains("name another host"));
    }
}
