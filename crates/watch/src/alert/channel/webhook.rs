//! Webhooks: `POST` to an address, as the alert's own JSON or by a template.

use std::path::Path;

use sanctum_config::fleet;

use super::delivery::DeliveryError;
use super::endpoint::Endpoint;
use super::template::Template;
use crate::alert::Alert;

/// An HTTP receiver.
#[derive(Clone, Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    template: Option<Template>,
}

impl Webhook {
    /// The receiver of a section.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(super) fn of(section: &fleet::ChannelSection, file: &Path) -> Result<Self, String> {
        let template = section.template.as_deref().map(Template::parse);
        Ok(Self {
            endpoint: Endpoint::of(section, file)?,
            template: template.transpose()?,
        })
    }

    #[cfg(test)]
    pub(super) fn to(url: &str) -> Self {
        Self {
            endpoint: Endpoint::at(url.parse().unwrap()),
            template: None,
        }
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let target = self.endpoint.open().await?;
        let body = match &self.template {
            Some(template) => template.fill(alert),
            None => serde_json::to_vec(alert)
                .map_err(|error| DeliveryError::never(error.to_string(), String::new()))?,
        };
        target.post(target.url(), body).await
    }
}
