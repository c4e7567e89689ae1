//! The receiver of alerts that an answer to `init` names: which of its keys follow from its address, and whether the address is
//! a secret.

use std::fmt;

use super::toml_text::printable;

/// An HTTP receiver of alerts.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AlertReceiver {
    /// Its address.
    address: String,
    /// Whether the address is in a file, and not in fleet.toml.
    pub(super) is_secret: bool,
    /// The other keys of its section, each a line.
    pub(super) keys: &'static str,
}

/// A service whose addresses are secrets: who knows one can write there, or read.
struct AlertService {
    /// The host of its addresses; the hosts below it are the service's too, such as `canary.discord.com`.
    host: &'static str,
    keys: &'static str,
}

const SLACK: &str =
    "template = '{\"text\": \"*{{severity}}: {{title|html}}*\\n{{body|2500|html}}\"}'\n";
const DISCORD: &str = "template = '{\"content\": \"**{{severity}}: {{title|200}}**\\n{{body|1700}}\", \"allowed_mentions\": {\"parse\": []}}'\n";

/// As docs/watching.md describes them.
static SERVICES: [AlertService; 5] = [
    AlertService {
        host: "hooks.slack.com",
        keys: SLACK,
    },
    AlertService {
        host: "hooks.slack-gov.com",
        keys: SLACK,
    },
    AlertService {
        host: "discord.com",
        keys: DISCORD,
    },
    AlertService {
        host: "discordapp.com",
        keys: DISCORD,
    },
    AlertService {
        host: "ntfy.sh",
        keys: "kind = \"ntfy\"\n",
    },
];

impl AlertService {
    /// Whether a host, in lower case, is the service's.
    fn has(&self, host: &str) -> bool {
        let below = host.strip_suffix(self.host);
        below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    }
}

impl AlertReceiver {
    /// The receiver with this address.
    ///
    /// # Errors
    /// If it needs a key that does not follow from its address.
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let address = printable(url)
            .map_err(|_| "the address has control characters; leave them out".to_owned())?;
        let (user, authority) = divided(&address);
        let host = authority.split(':').next().unwrap_or_default();
        // With a dot at its end, a name is the same.
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "api.telegram.org" {
            return Err(
                "Telegram needs a `chat_id` beside its address; write desktop or log here, then the section [alerts.telegram] of \
                 docs/watching.md, \"Examples of channels\", into fleet.toml"
                    .to_owned(),
            );
        }
        let service = SERVICES.iter().find(|service| service.has(&host));
        Ok(Self {
            is_secret: service.is_some() || user.is_some(),
            keys: service.map_or("", |service| service.keys),
            address,
        })
    }

    /// The address, with its user and password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address without a user and a password.
    pub(super) fn public_address(&self) -> String {
        match divided(&self.address) {
            (None, _) => self.address.clone(),
            (Some(user), _) => self.address.replacen(&format!("{user}@"), "", 1),
        }
    }
}

/// The user (with the password) and the rest of a URL's authority.
fn divided(url: &str) -> (Option<&str>, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, authority),
    }
}

impl fmt::Debug for AlertReceiver {
    /// Without the address, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AlertReceiver");
        shown.field("is_secret", &self.is_secret);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_known_service_or_with_a_password_is_a_secret() {
        for (url, is_secret, key) in [
            ("https://hooks.slack.com/services/T/B/x", true, "template"),
            ("https://Discord.com/api/webhooks/1/x", true, "template"),
            (
                "https://canary.discord.com/api/webhooks/1/x",
                true,
                "content",
            ),
            ("https://hooks.slack.com./services/T/B/x", true, "template"),
            ("https://notdiscord.com/api/webhooks/1/x", false, ""),
            ("https://ntfy.sh:443/topic", true, "kind = \"ntfy\""),
            ("https://a:b@192.0.2.7/notify", true, ""),
            ("http://127.0.0.1:4077/notify", false, ""),
        ] {
            let receiver = AlertReceiver::at(url).unwrap();
            assert_eq!(receiver.is_secret, is_secret, "{url}");
            assert!(receiver.keys.contains(key), "{url}: {}", receiver.keys);
            assert!(!format!("{receiver:?}").contains("://"), "{receiver:?}");
        }
        let receiver = AlertReceiver::at("https://a:b@192.0.2.7/a@c").unwrap();
        assert_eq!(receiver.public_address(), "https://192.0.2.7/a@c");
        assert_eq!(receiver.address(), "https://a:b@192.0.2.7/a@c");
        let error = AlertReceiver::at("https://api.telegram.org/botSECRET/sendMessage");
        let error = error.unwrap_err();
        assert!(
            error.contains("chat_id") && !error.contains("SECRET"),
            "{error}"
        );
    }

    #[test]
    fn templates_are_those_of_the_manual() {
        let manual = include_str!("../../../docs/watching.md");
        for service in &SERVICES {
            assert!(manual.contains(service.keys), "{}", service.keys);
        }
    }
}
