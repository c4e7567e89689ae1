//! Channels: an HTTP receiver such as Force Flow, an ntfy topic, mail, or the screen of the watchdog's host.

mod delivery;
mod email;
mod endpoint;
mod ntfy;
mod secret;
mod template;
mod webhook;

use std::path::Path;

use sanctum_config::fleet::{ChannelKind, Fleet};
use sanctum_config::{Label, did_you_mean_or_names};

use super::Alert;
use super::desktop;
pub use delivery::DeliveryError;
use delivery::LIMIT;
pub use email::Email;
pub(crate) use endpoint::Endpoint;
pub use ntfy::Ntfy;
pub use webhook::Webhook;

/// A channel, as `[alerts.NAME]` describes it. Secrets are read for each delivery, so that a new token or password counts
/// at once.
#[derive(Clone, Debug)]
pub enum Channel {
    /// `POST` as JSON; delivered with a 2xx status only.
    Webhook(Webhook),
    /// A message to an ntfy topic; delivered with a 2xx status only.
    Ntfy(Ntfy),
    /// Mail; delivered when the server has accepted the message for all recipients.
    Email(Box<Email>),
    /// A notification on this host's screen, with this sound.
    Desktop(Option<String>),
    /// The log only.
    Log,
}

/// A section that describes no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChannel {
    /// There is no such section.
    #[error("there is no [alerts.{name}]{near}")]
    Missing {
        /// The name.
        name: Label,
        /// A suggestion, or empty.
        near: String,
    },
    /// A key has a value that it does not accept.
    #[error("[alerts.{name}]: {why}")]
    Value {
        /// The section.
        name: Label,
        /// The key, its value and what to write instead.
        why: String,
    },
    /// Neither a URL nor a known name.
    #[error(
        "[alerts.{0}] has no `url` and no `kind`; add one, or use the names `desktop` (this host's screen) or `log`"
    )]
    Kind(Label),
}

impl Channel {
    /// The channel of that name in `fleet`, which was read from `file`.
    ///
    /// # Errors
    /// If its section is missing or describes no channel.
    pub fn of(fleet: &Fleet, file: &Path, name: &Label) -> Result<Self, BadChannel> {
        let section = fleet.alerts.get(name).ok_or_else(|| {
            let known = fleet.alerts.keys().map(Label::as_str);
            BadChannel::Missing {
                name: name.clone(),
                near: did_you_mean_or_names(name.as_str(), known),
            }
        })?;
        let value = |why: String| BadChannel::Value {
            name: name.clone(),
            why,
        };
        Ok(match section.kind(name) {
            Some(ChannelKind::Webhook) => Self::Webhook(Webhook::of(section, file).map_err(value)?),
            Some(ChannelKind::Ntfy) => Self::Ntfy(Ntfy::of(section, file).map_err(value)?),
            Some(ChannelKind::Email) => {
                Self::Email(Box::new(Email::of(section, file).map_err(value)?))
            }
            Some(ChannelKind::Desktop) => Self::Desktop(section.sound.clone()),
            Some(ChannelKind::Log) => Self::Log,
            None => return Err(BadChannel::Kind(name.clone())),
        })
    }

    /// Whether it is the log, which has every alert anyway.
    pub fn is_log(&self) -> bool {
        matches!(self, Self::Log)
    }

    /// Delivers an alert, within ten seconds, mail within twenty.
    ///
    /// # Errors
    /// If the channel did not confirm the delivery.
    pub async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        match self {
            Self::Webhook(webhook) => webhook.deliver(alert).await,
            Self::Ntfy(ntfy) => ntfy.deliver(alert).await,
            Self::Email(email) => email.deliver(alert).await,
            Self::Desktop(sound) => {
                let shown = desktop::show(alert, sound.as_deref(), LIMIT).await;
                shown.map_err(|error| DeliveryError::later(error, desktop::FIX))
            }
            Self::Log => Ok(()),
        }
    }

    /// A channel that posts alerts as JSON to this address.
    #[cfg(test)]
    pub(crate) fn http(url: &str) -> Self {
        Self::Webhook(Webhook::to(url))
    }
}

#[cfg(test)]
mod tests;
