//! `[alerts.NAME]`: a channel for alerts. Which keys a kind of channel has is checked here, so that every program finds an
//! error; the watchdogs interpret their values.

use serde::Deserialize;

use crate::{Label, TildePath};

/// `[alerts.NAME]`: a channel for alerts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSection {
    /// What it is. By default a webhook if there is an address, else what the name says: `desktop` or `log`.
    pub kind: Option<ChannelKind>,
    /// The address that alerts are posted to; of ntfy, that of a topic.
    pub url: Option<String>,
    /// The file with that address, if it is a secret.
    pub url_file: Option<TildePath>,
    /// The file with the bearer token that is sent with each alert.
    pub token_file: Option<TildePath>,
    /// The body of a webhook's request: JSON with placeholders such as `{{title}}`. By default the alert as JSON.
    pub template: Option<String>,
    /// The file with the certificate authorities (PEM) that are trusted instead of the system's.
    pub ca_file: Option<TildePath>,
    /// The mail server: a name or an address, with a port if it is not the usual one.
    pub server: Option<String>,
    /// How the connection to the mail server is encrypted; implicit TLS by default.
    pub tls: Option<SmtpTls>,
    /// The sender's address.
    pub from: Option<String>,
    /// The recipients' addresses.
    #[serde(default)]
    pub to: Vec<String>,
    /// The user at the mail server.
    pub user: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<TildePath>,
    /// The sound of a desktop notification.
    pub sound: Option<String>,
}

/// The kinds of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// An HTTP receiver, such as Force Flow, Slack, Discord or Telegram.
    Webhook,
    /// A topic of an ntfy server.
    Ntfy,
    /// Mail over SMTP.
    Email,
    /// A notification on the watchdog's own host.
    Desktop,
    /// The watchdog's log only.
    Log,
}

/// How the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// From the first byte; port 465.
    #[default]
    Implicit,
    /// By the command STARTTLS, which the server must support; port 587.
    Starttls,
    /// Not at all: for a mail server on a loopback address, without a password; port 25.
    None,
}

impl ChannelKind {
    /// As `kind` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Email => "email",
            Self::Desktop => "desktop",
            Self::Log => "log",
        }
    }

    /// The keys of this kind, besides `kind`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Webhook => &["url", "url_file", "token_file", "template", "ca_file"],
            Self::Ntfy => &["url", "url_file", "token_file", "ca_file"],
            Self::Email => &[
                "server",
                "tls",
                "from",
                "to",
                "user",
                "password_file",
                "ca_file",
            ],
            Self::Desktop => &["sound"],
            Self::Log => &[],
        }
    }
}

impl ChannelSection {
    /// What the channel of this name is; none if neither its keys nor its name say it.
    pub fn kind(&self, name: &Label) -> Option<ChannelKind> {
        match (self.kind, name.as_str()) {
            (Some(kind), _) => Some(kind),
            _ if self.url.is_some() || self.url_file.is_some() => Some(ChannelKind::Webhook),
            (None, "desktop") => Some(ChannelKind::Desktop),
            (None, "log") => Some(ChannelKind::Log),
            (None, _) => None,
        }
    }

    /// The files that it reads, with their keys. All but `ca_file` are secrets.
    pub fn files(&self) -> Vec<(&'static str, &TildePath)> {
        let files = [
            ("url_file", &self.url_file),
            ("token_file", &self.token_file),
            ("password_file", &self.password_file),
            ("ca_file", &self.ca_file),
        ];
        let given = files
            .into_iter()
            .filter_map(|(key, path)| Some((key, path.as_ref()?)));
        given.collect()
    }

    /// A contradiction within the section of this name.
    pub(super) fn contradiction(&self, name: &Label) -> Option<String> {
        let Some(kind) = self.kind(name) else {
            // A section without any key is an error of the watchdog that names it.
            let key = self.given().first().copied()?;
            return Some(format!(
                "`{key}` needs `kind`: write kind = \"webhook\", \"ntfy\", \"email\", \"desktop\" or \"log\""
            ));
        };
        if let Some(key) = self
            .given()
            .into_iter()
            .find(|key| !kind.keys().contains(key))
        {
            return Some(format!(
                "`{key}` is not a key of a channel of the kind {}; its keys are {}",
                kind.as_str(),
                match kind.keys() {
                    [] => "none but `kind`".to_owned(),
                    keys => keys.join(", "),
                }
            ));
        }
        match kind {
            ChannelKind::Webhook | ChannelKind::Ntfy => match (&self.url, &self.url_file) {
                (Some(_), Some(_)) => Some(
                    "`url` and `url_file` are two addresses; keep one of them (the file, if the address is a secret)"
                        .into(),
                ),
                (None, None) => Some("it has neither `url` nor `url_file`; add one of them".into()),
                _ => None,
            },
            ChannelKind::Email => self.mail_contradiction(),
            ChannelKind::Desktop | ChannelKind::Log => None,
        }
    }

    fn mail_contradiction(&self) -> Option<String> {
        let missing = [
            (
                "server",
                self.server.is_none(),
                "server = \"smtp.example.com\"",
            ),
            (
                "from",
                self.from.is_none(),
                "from = \"sanctum@example.com\"",
            ),
            ("to", self.to.is_empty(), "to = [\"you@example.com\"]"),
        ];
        if let Some((key, _, fix)) = missing.into_iter().find(|(_, missing, _)| *missing) {
            return Some(format!("`{key}` is missing; write {fix}"));
        }
        match (&self.user, &self.password_file) {
            (Some(_), None) => Some("`user` needs `password_file`: name the file with the password".into()),
            (None, Some(_)) => Some("`password_file` needs `user`: write the user at the mail server".into()),
            (Some(_), Some(_)) if self.tls == Some(SmtpTls::None) => Some(
                "tls = \"none\" would send the password in the clear; write tls = \"implicit\" or \"starttls\"".into(),
            ),
            _ => None,
        }
    }

    /// The keys that are given, except `kind`.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("token_file", self.token_file.is_some()),
            ("template", self.template.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("server", self.server.is_some()),
            ("tls", self.tls.is_some()),
            ("from", self.from.is_some()),
            ("to", !self.to.is_empty()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("sound", self.sound.is_some()),
        ];
        let given = keys.into_iter().filter(|(_, given)| *given);
        given.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Fleet;

    fn parse(section: &str) -> Result<Fleet, String> {
        Fleet::parse(section, Path::new("fleet.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn channel_of_each_kind_is_accepted() {
        for section in [
            "[alerts.force-flow]\nurl = \"http://127.0.0.1:4077/notify\"",
            "[alerts.desktop]\nsound = \"Submarine\"",
            "[alerts.screen]\nkind = \"desktop\"",
            "[alerts.log]",
            "[alerts.phone]\nkind = \"ntfy\"\nurl_file = \"~/topic\"\ntoken_file = \"~/token\"\nca_file = \"ca.crt\"",
            "[alerts.chat]\nkind = \"webhook\"\nurl_file = \"~/url\"\ntemplate = '{\"text\": \"{{title}}\"}'",
            "[alerts.mail]\nkind = \"email\"\nserver = \"smtp.example.com\"\nfrom = \"a@example.com\"\n\
             to = [\"b@example.com\"]\nuser = \"a\"\npassword_file = \"~/p\"\ntls = \"starttls\"",
        ] {
            assert!(parse(section).is_ok(), "{section}: {:?}", parse(section));
        }
    }

    #[test]
    fn channel_that_contradicts_itself_is_an_error_with_its_fix() {
        let mail = "[alerts.m]\nkind = \"email\"\nserver = \"s\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n";
        let cases = [
            (
                "[alerts.x]\nkind = \"pager\"".to_owned(),
                "unknown variant `pager`",
            ),
            (
                "[alerts.x]\nkind = \"ntfy\"".to_owned(),
                "neither `url` nor `url_file`",
            ),
            (
                "[alerts.x]\nurl = \"http://a\"\nurl_file = \"b\"".to_owned(),
                "two addresses",
            ),
            (
                "[alerts.x]\nkind = \"ntfy\"\nurl = \"http://a/b\"\ntemplate = \"{}\"".to_owned(),
                "`template` is not a key of a channel of the kind ntfy",
            ),
            ("[alerts.log]\nsound = \"x\"".to_owned(), "none but `kind`"),
            (
                "[alerts.x]\nsound = \"x\"".to_owned(),
                "`sound` needs `kind`",
            ),
            (
                "[alerts.m]\nkind = \"email\"".to_owned(),
                "`server` is missing",
            ),
            (
                format!("{mail}user = \"u\""),
                "`user` needs `password_file`",
            ),
            (
                format!("{mail}password_file = \"p\""),
                "`password_file` needs `user`",
            ),
            (
                format!("{mail}user = \"u\"\npassword_file = \"p\"\ntls = \"none\""),
                "in the clear",
            ),
        ];
        for (section, words) in cases {
            let error = parse(&section).unwrap_err();
            assert!(error.contains(words), "{section}: {error}");
        }
    }
}
