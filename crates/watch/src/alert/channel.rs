//! Channels: an HTTP receiver such as Force Flow, or the screen of the watchdog's host.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::LOCATION;
use sanctum_client::{http, root_cause};
use sanctum_config::fleet::Fleet;
use sanctum_config::{Label, UntrustedText, did_you_mean};

use super::Alert;
use super::desktop;

/// The time limit of one delivery.
const LIMIT: Duration = Duration::from_secs(10);

/// The statuses that reject the alert itself, so that a retry would fail too.
const MALFORMED: [u16; 4] = [400, 413, 415, 422];

/// A channel, as `[alerts.NAME]` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `POST` as JSON; delivered with a 2xx status only.
    Http(Url),
    /// A notification on this host's screen, with this sound.
    Desktop(Option<String>),
    /// The log only.
    Log,
}

/// A section that describes no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChannel {
    /// There is no such section.
    #[error("`alert` names `{name}`, and there is no [alerts.{name}]{near}")]
    Missing {
        /// The name.
        name: Label,
        /// A suggestion, or empty.
        near: String,
    },
    /// Not an HTTP address.
    #[error("[alerts.{name}]: `url = \"{url}\"` is not an http:// or https:// address")]
    Url {
        /// The section.
        name: Label,
        /// Its value.
        url: String,
    },
    /// Neither a URL nor a known name.
    #[error(
        "[alerts.{0}] has no `url`; add one, or use the names `desktop` (this host's screen) or `log`"
    )]
    Kind(Label),
}

/// An alert that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It is retried later.
    #[error("{0}")]
    Later(String),
    /// The receiver rejects this alert permanently.
    #[error("{0}")]
    Never(String),
}

impl Channel {
    /// The channel of that name.
    ///
    /// # Errors
    /// If its section is missing or describes no channel.
    pub fn of(fleet: &Fleet, name: &Label) -> Result<Self, BadChannel> {
        let section = fleet.alerts.get(name).ok_or_else(|| {
            let known = fleet.alerts.keys().map(Label::as_str);
            BadChannel::Missing {
                name: name.clone(),
                near: did_you_mean(name.as_str(), known),
            }
        })?;
        match (&section.url, name.as_str()) {
            (Some(text), _) => Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                .map(Self::Http)
                .ok_or_else(|| BadChannel::Url {
                    name: name.clone(),
                    url: text.clone(),
                }),
            (None, "desktop") => Ok(Self::Desktop(section.sound.clone())),
            (None, "log") => Ok(Self::Log),
            (None, _) => Err(BadChannel::Kind(name.clone())),
        }
    }

    /// Delivers an alert, within ten seconds.
    ///
    /// # Errors
    /// If the channel did not confirm the delivery.
    pub async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        match self {
            Self::Http(url) => post(url, alert).await,
            Self::Desktop(sound) => desktop::show(alert, sound.as_deref(), LIMIT)
                .await
                .map_err(DeliveryError::Later),
            Self::Log => Ok(()),
        }
    }
}

async fn post(url: &Url, alert: &Alert) -> Result<(), DeliveryError> {
    let later = |error: reqwest::Error| {
        let cause = root_cause(&error);
        DeliveryError::Later(format!("{url} cannot be reached: {cause}"))
    };
    // The system's certificate authorities are needed for https only.
    let tls = (url.scheme() != "https").then(http::no_tls);
    let client = http::client(tls, LIMIT).map_err(later)?;
    let answer = client
        .post(url.clone())
        .json(alert)
        .send()
        .await
        .map_err(later)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let answered = format!("{url} answered {status}");
    Err(match answer.headers().get(LOCATION) {
        // A gateway that asks for a login answers like this too, temporarily.
        Some(location) if status.is_redirection() => DeliveryError::Later(format!(
            "{answered} to {}, and redirects are not followed; write the final address as `url`",
            UntrustedText::from_bytes(location.as_bytes())
        )),
        _ if MALFORMED.contains(&status.as_u16()) => DeliveryError::Never(answered),
        _ => DeliveryError::Later(answered),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::http::StatusCode;

    use super::*;
    use crate::alert::Severity;

    fn alert() -> Alert {
        Alert {
            id: "canary-1".into(),
            severity: Severity::Info,
            source: "canary".into(),
            host: "mini".into(),
            title: "title".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn alert_is_delivered_by_2xx_only_and_never_follows_a_redirect() {
        let elsewhere = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&elsewhere);
        let receiver = Router::new()
            .fallback(move || async move {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .route(
                "/status/{code}",
                axum::routing::any(
                    async |axum::extract::Path(code): axum::extract::Path<u16>| {
                        let status = StatusCode::from_u16(code).unwrap();
                        (status, [("location", "/elsewhere")])
                    },
                ),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, receiver).await });
        let answered = async |code: u16| {
            let url = format!("http://{address}/status/{code}").parse().unwrap();
            Channel::Http(url).deliver(&alert()).await
        };
        for code in [200, 201, 202, 204] {
            assert_eq!(answered(code).await, Ok(()), "{code}");
        }
        for code in [301, 302, 303, 307, 308] {
            let error = answered(code).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Later(_)), "{code}: {error}");
            assert!(error.to_string().contains("redirects"), "{code}: {error}");
        }
        for code in [
            300, 304, 401, 403, 404, 408, 409, 410, 429, 500, 502, 503, 504,
        ] {
            let error = answered(code).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Later(_)), "{code}: {error}");
        }
        for code in MALFORMED {
            let error = answered(code).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Never(_)), "{code}: {error}");
        }
        assert_eq!(elsewhere.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn receiver_with_tls_that_is_down_is_retried() {
        // The listener keeps the port, and closes connections without TLS.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || drop(listener.accept()));
        let channel = Channel::Http(format!("https://{address}/notify").parse().unwrap());
        let failed = channel.deliver(&alert()).await.unwrap_err();
        assert!(matches!(failed, DeliveryError::Later(_)), "{failed}");
    }

    #[test]
    fn section_of_alerts_is_one_of_three_channels_or_an_error() {
        let text = "[alerts.force-flow]\nurl = \"http://127.0.0.1:4077/notify\"\n[alerts.desktop]\nsound = \"Submarine\"\n[alerts.log]\n[alerts.pager]\n[alerts.odd]\nurl = \"ftp://x\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let of = |name: &str| Channel::of(&fleet, &name.parse().unwrap());
        assert!(matches!(of("force-flow"), Ok(Channel::Http(_))));
        assert_eq!(
            of("desktop"),
            Ok(Channel::Desktop(Some("Submarine".into())))
        );
        assert_eq!(of("log"), Ok(Channel::Log));
        assert!(matches!(of("pager"), Err(BadChannel::Kind(_))));
        assert!(matches!(of("odd"), Err(BadChannel::Url { .. })));
        let error = of("desktp").unwrap_err().to_string();
        assert!(error.contains("did you mean `desktop`"), "{error}");
    }
}
