//! ntfy: a message to a topic, published as JSON (<https://docs.ntfy.sh/publish/#publish-as-json>).

use std::path::Path;

use reqwest::Url;
use sanctum_config::fleet;
use serde_json::json;

use super::delivery::DeliveryError;
use super::endpoint::Endpoint;
use crate::alert::{Alert, Severity};

/// The longest message that ntfy shows as one; a longer one becomes a file. In bytes.
const LONGEST: usize = 4096;

/// A topic of an ntfy server.
#[derive(Clone, Debug)]
pub struct Ntfy {
    endpoint: Endpoint,
}

impl Ntfy {
    /// The topic of a section.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(super) fn of(section: &fleet::ChannelSection, file: &Path) -> Result<Self, String> {
        // Who knows the topic can read and write it.
        let endpoint = Endpoint::of(section, file)?.with_secret_path();
        if let Some(url) = endpoint.url() {
            split(url).map_err(|why| format!("`url`: {why}"))?;
        }
        Ok(Self { endpoint })
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let target = self.endpoint.open().await?;
        let (server, topic) = split(target.url()).map_err(|why| {
            DeliveryError::later(
                format!("the address in `url_file`: {why}"),
                "correct the file",
            )
        })?;
        let body = json!({
            "topic": topic,
            "title": alert.title,
            "message": message(&alert.body),
            "priority": priority(alert.severity),
            "tags": [tag(alert.severity), alert.host, alert.source],
        });
        target.post(&server, body.to_string().into_bytes()).await
    }
}

/// The address of the server, which takes JSON, and the topic: the last part of the path.
fn split(url: &Url) -> Result<(Url, String), String> {
    let wanted = "write the address of a topic: https://ntfy.sh/TOPIC";
    let path = url.path().trim_end_matches('/');
    let (folder, topic) = path.rsplit_once('/').unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    // What ntfy accepts as the name of a topic.
    if topic.is_empty() || topic.len() > 64 || !topic.chars().all(is_plain) {
        return Err(format!(
            "its path does not end with a topic (1 to 64 letters, digits, - and _); {wanted}"
        ));
    }
    if url.query().is_some() {
        return Err(format!("it has a query (?…), which is not used; {wanted}"));
    }
    let mut server = url.clone();
    server.set_path(&format!("{folder}/"));
    Ok((server, topic.to_owned()))
}

/// At most [`LONGEST`] bytes; ntfy shows no empty message.
fn message(body: &str) -> String {
    const END: &str = "…";
    match body.len() {
        0 => "-".to_owned(),
        1..=LONGEST => body.to_owned(),
        _ => {
            let end = (0..=LONGEST - END.len())
                .rev()
                .find(|end| body.is_char_boundary(*end));
            format!("{}{END}", &body[..end.unwrap_or(0)])
        }
    }
}

/// 5 rings through a phone's silence, 4 pops up, 3 is the default.
fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 5,
        Severity::Warning => 4,
        Severity::Info => 3,
    }
}

/// A tag that ntfy shows as an emoji.
fn tag(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "rotating_light",
        Severity::Warning => "warning",
        Severity::Info => "white_check_mark",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_topic_is_its_server_and_its_name() {
        for (url, server, topic) in [
            ("https://ntfy.sh/fleet-7Hq", "https://ntfy.sh/", "fleet-7Hq"),
            (
                "http://10.0.0.7:8080/push/fleet_7/",
                "http://10.0.0.7:8080/push/",
                "fleet_7",
            ),
        ] {
            let (base, name) = split(&url.parse().unwrap()).unwrap();
            assert_eq!((base.as_str(), name.as_str()), (server, topic));
        }
        for url in [
            "https://ntfy.sh",
            "https://ntfy.sh/",
            "https://ntfy.sh/a.b",
            "https://ntfy.sh/%41",
            "https://ntfy.sh/a?auth=x",
            &format!("https://ntfy.sh/{}", "a".repeat(65)),
        ] {
            let error = split(&url.parse().unwrap()).unwrap_err();
            assert!(error.contains("https://ntfy.sh/TOPIC"), "{url}: {error}");
        }
    }

    #[test]
    fn message_has_at_most_the_bytes_that_ntfy_shows() {
        assert_eq!(message(""), "-");
        assert_eq!(message("short"), "short");
        for body in [
            "a".repeat(5000),
            "é".repeat(5000),
            format!("a{}", "é".repeat(5000)),
        ] {
            let shown = message(&body);
            assert!(
                shown.len() <= LONGEST && shown.len() > LONGEST - 6,
                "{}",
                shown.len()
            );
            assert!(shown.ends_with('…'));
        }
    }
}
