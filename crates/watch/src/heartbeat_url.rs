//! The dead man's switch: after each round a watchdog requests an address of a service outside, such as healthchecks.io,
//! which alerts when the requests stop. `GET URL` means that the round was completed, `POST URL/fail` that a critical
//! condition is open. A request that fails is logged and shown by `status`; it delays nothing.
//!
//! Interface: the pinging API of healthchecks.io (<https://healthchecks.io/docs/http_api/>).

use chrono::{DateTime, Utc};
use reqwest::Url;
use sanctum_config::UntrustedText;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::alert::Endpoint;
use crate::config::WatchdogConfig;
use crate::section;

/// The largest body of a failure, in characters.
const LONGEST: usize = 2000;

/// The address of a watchdog's dead man's switch.
#[derive(Debug)]
pub struct HeartbeatUrl {
    endpoint: Endpoint,
    /// The request that has not finished.
    running: Option<JoinHandle<Result<(), String>>>,
}

/// How the last request of the heartbeat URL ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct HeartbeatStatus {
    /// When the service last accepted a request.
    pub accepted: Option<DateTime<Utc>>,
    /// Why it did not accept the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<UntrustedText>,
    /// Since when it accepts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
}

impl HeartbeatUrl {
    /// The heartbeat URL of a watchdog; none if it has none.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(crate) fn of(config: &WatchdogConfig) -> Result<Option<Self>, String> {
        let WatchdogConfig { watch, config, .. } = config;
        let endpoint = section::heartbeat_endpoint(watch, config)?;
        // Who knows the address can pretend that the watchdog runs.
        Ok(endpoint.map(|endpoint| Self {
            endpoint: endpoint.with_secret_path(),
            running: None,
        }))
    }

    /// Reports a completed round, with the open critical conditions. While the last request has not finished, nothing is
    /// sent: the next round reports again.
    pub(crate) fn report(&mut self, critical: Option<String>) {
        if self.running.is_none() {
            let endpoint = self.endpoint.clone();
            self.running = Some(tokio::spawn(request(endpoint, critical)));
        }
    }

    /// Waits until the running request has finished; for ever if there is none.
    pub(crate) async fn finished(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let result = running.await;
        self.running = None;
        result.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl HeartbeatStatus {
    /// Notes how a request ended, and logs what is new.
    pub(crate) fn note(&mut self, result: Result<(), String>, now: DateTime<Utc>) {
        match result {
            Ok(()) => {
                if self.error.take().is_some() {
                    tracing::info!("the heartbeat URL can be reached again");
                }
                self.failing_since = None;
                self.accepted = Some(now);
            }
            Err(why) => {
                let why = UntrustedText::new(&why);
                if self.error.as_ref() != Some(&why) {
                    tracing::warn!(
                        "the heartbeat was not accepted: {why}; the service behind heartbeat_url will alert that this watchdog \
                         is gone. The next round tries again"
                    );
                }
                self.failing_since.get_or_insert(now);
                self.error = Some(why);
            }
        }
    }
}

async fn request(endpoint: Endpoint, critical: Option<String>) -> Result<(), String> {
    let target = endpoint.open().await.map_err(|error| error.problem)?;
    let url = match critical {
        None => target.url().clone(),
        Some(_) => fail_url(target.url()),
    };
    let answer = target
        .send(|client| match critical {
            None => client.get(url),
            Some(critical) => client.post(url).body(
                UntrustedText::multiline(&critical)
                    .to_string()
                    .chars()
                    .take(LONGEST)
                    .collect::<String>(),
            ),
        })
        .await
        .map_err(|error| error.problem)?;
    let status = answer.status();
    let said = target.excerpt(answer).await;
    // healthchecks.io answers "OK (not found)" with 200 for a check that does not exist.
    match status.is_success() && !said.starts_with(": OK (") {
        true => Ok(()),
        false => Err(format!("{} answered {status}{said}", target.shown())),
    }
}

/// The address for a failure: `/fail` behind the path.
fn fail_url(url: &Url) -> Url {
    let mut fail = url.clone();
    fail.set_path(&format!("{}/fail", url.path().trim_end_matches('/')));
    fail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_has_its_own_path_before_the_query() {
        for (url, fail) in [
            ("https://hc-ping.com/0b9", "https://hc-ping.com/0b9/fail"),
            ("https://hc-ping.com/0b9/", "https://hc-ping.com/0b9/fail"),
            (
                "https://hc-ping.com/key/slug?create=1",
                "https://hc-ping.com/key/slug/fail?create=1",
            ),
        ] {
            assert_eq!(fail_url(&url.parse().unwrap()).as_str(), fail);
        }
    }

    #[test]
    fn status_has_since_when_no_request_is_accepted() {
        let mut status = HeartbeatStatus::default();
        let now = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        let later = now + chrono::TimeDelta::minutes(5);
        status.note(Err("it is down".to_owned()), now);
        status.note(Err("it is down".to_owned()), later);
        assert_eq!(status.failing_since, Some(now));
        assert_eq!(status.error.as_deref(), Some("it is down"));
        status.note(Ok(()), later);
        let accepted = Some(later);
        assert_eq!(
            status,
            HeartbeatStatus {
                accepted,
                ..HeartbeatStatus::default()
            }
        );
    }
}
