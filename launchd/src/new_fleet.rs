//! The fleet.toml that `init` writes: from answers to questions, a commented file that `check` accepts.

mod answers;
mod receiver;
mod toml_text;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::Path;

use sanctum_config::{Fleet, Home, HostAddress, ModelId};

pub(crate) use answers::{AlertChannel, NewHost, StandbyProgram};
pub(crate) use receiver::AlertReceiver;
pub(crate) use toml_text::printable;

use crate::fleet_check::check_fleet;
use toml_text::quoted;

/// The port of the server on loopback, and of a standby.
const PORT: u16 = 1337;
/// The port of the server for other hosts.
const TLS_PORT: u16 = 1338;
/// The fleet's home, as fleet.toml names it.
const HOME: &str = "~/.sanctum";
/// The file with the address of a receiver of alerts, if that is a secret, in the fleet's home.
pub(crate) const SECRET_FILE: &str = "secrets/receiver.url";

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

impl NewFleet {
    /// The text of fleet.toml.
    ///
    /// # Errors
    /// If the answers contradict each other, or `check` refuses the fleet that they make.
    pub(crate) fn text(&self) -> Result<String, String> {
        if let Some(watching) = &self.watching {
            watching.watches(&self.serving)?;
        }
        let failed = |why: String| format!("these answers make no valid fleet: {why}");
        if let Some(receiver) = self.secret() {
            // The address is checked as if it were in fleet.toml, and is in no message.
            let address = receiver.public_address();
            let public = self.with_address(&format!("url = {}\n", quoted(&address)));
            checked(&public).map_err(|why| failed(why.replace(&address, "ADDRESS")))?;
        }
        let text = self.with_address(&match &self.alert {
            AlertChannel::Receiver(receiver) if receiver.is_secret => {
                format!("url_file = \"{HOME}/{SECRET_FILE}\"\n")
            }
            AlertChannel::Receiver(receiver) => format!("url = {}\n", quoted(receiver.address())),
            AlertChannel::Desktop | AlertChannel::Log => String::new(),
        });
        checked(&text).map_err(failed)?;
        Ok(text)
    }

    /// The receiver of alerts whose address belongs into the file [`SECRET_FILE`]; none if there is no such receiver.
    pub(crate) fn secret(&self) -> Option<&AlertReceiver> {
        match &self.alert {
            AlertChannel::Receiver(receiver) => {
                Some(receiver).filter(|receiver| receiver.is_secret)
            }
            AlertChannel::Desktop | AlertChannel::Log => None,
        }
    }

    /// The text with this line for the address of the receiver of alerts.
    fn with_address(&self, address: &str) -> String {
        let mut text = String::new();
        self.begin(&mut text);
        self.hosts(&mut text);
        self.server(&mut text);
        self.standby(&mut text);
        self.watchdogs(&mut text);
        self.alerts(address, &mut text);
        text
    }

    fn begin(&self, text: &mut String) {
        put(
            text,
            &format!(
                "# The whole fleet: every program reads this file, and every launchd property list is made from it. After a change:\n\
             #\n\
             #   sanctum-launchd check --config fleet.toml\n\
             #   sanctum-launchd install --config fleet.toml\n\
             #\n\
             # docs/fleet.toml shows all sections and keys.\n\n\
             [fleet]\n\
             name = \"sanctum\"                          # launchd knows an agent as com.<name>.<agent>\n\
             home = \"{HOME}\"                       # on every host: bin/ releases/ state/ logs/ certs/ secrets/\n"
            ),
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

    fn alerts(&self, address: &str, text: &mut String) {
        if let AlertChannel::Receiver(receiver) = &self.alert {
            let keys = receiver.keys;
            put(
                text,
                &format!(
                    "\n[alerts.receiver]                         # POST, JSON; docs/watching.md has its keys\n{address}{keys}"
                ),
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
            Self::Receiver(_) => "receiver",
        }
    }
}

fn put(text: &mut String, part: &str) {
    // Writing to a String does not fail.
    let _ = write!(text, "{part}");
}

/// Checks a text as `check` does.
fn checked(text: &str) -> Result<(), String> {
    let file = Path::new("fleet.toml");
    let fleet = Fleet::parse(text, file).map_err(|error| error.to_string())?;
    let home = Home::for_deployment(&fleet).map_err(|error| error.to_string())?;
    check_fleet(&fleet, file, &home).map_err(|error| error.to_string())
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
