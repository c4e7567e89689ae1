//! One watchdog's HTTP client for one server: every call is bounded in time and in what it reads.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use sanctum_config::UntrustedText;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credentials::{self, CredentialsError, plain_tls};
use super::health::Health;
use super::no_route;
use super::route::{Access, Target};
use super::said;
use crate::http;

/// What is read of any answer.
const LARGEST: usize = 4 << 20;

/// What is shown of an answer, in characters.
const SHOWN: usize = 200;

/// A client for one server. Make a new one for every round: renewed credentials count at once.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    bearer: Option<HeaderValue>,
    timeout: Duration,
}

/// An answer and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed<T> {
    /// What was answered.
    pub value: T,
    /// From asking to the last byte.
    pub latency: Duration,
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The conversation, whose last message is to be answered.
    pub messages: Vec<Message>,
    /// Which model; the server's first where none is named.
    pub model: Option<String>,
    /// At most so many tokens are generated.
    pub max_tokens: u32,
    /// Further fields of the request.
    pub more: Map<String, Value>,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub text: String,
    /// `stop`, `length` or another; empty where the server does not say.
    pub finish_reason: String,
    /// Which build answered, where the server says.
    pub system_fingerprint: Option<String>,
}

/// A probe without the answer that it wanted.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        why: String,
    },
    /// No answer in time.
    #[error("{url} gave no answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// What was asked.
        url: String,
        /// How long it had.
        limit: Duration,
    },
    /// 429: it has enough to do.
    #[error("{url} has no room for another request (429)")]
    Busy {
        /// What was asked.
        url: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// 401 or 403.
    #[error("{url} does not accept this watchdog's credentials ({status})")]
    Denied {
        /// What was asked.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// Another status.
    #[error("{url} answered {status}: {said}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        said: String,
    },
    /// The answer is not what it should be.
    #[error("{url} answered something else than expected: {why}")]
    Form {
        /// What was asked.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// This watchdog's own files.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Question {
    /// A user's only message, for the server's first model.
    pub fn user(text: &str, max_tokens: u32) -> Self {
        Self {
            messages: vec![Message {
                role: "user".to_owned(),
                content: text.to_owned(),
            }],
            model: None,
            max_tokens,
            more: Map::new(),
        }
    }

    /// The request's body: temperature 0.
    pub fn body(&self) -> Value {
        let mut fields = Map::new();
        if let Some(model) = &self.model {
            fields.insert("model".to_owned(), model.clone().into());
        }
        fields.insert("messages".to_owned(), json!(self.messages));
        fields.insert("temperature".to_owned(), 0.into());
        fields.insert("max_tokens".to_owned(), self.max_tokens.into());
        fields.extend(self.more.clone());
        fields.into()
    }
}

impl<T> Timed<T> {
    /// The same time with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Timed<U> {
        Timed {
            value: change(self.value),
            latency: self.latency,
        }
    }
}

impl ProbeError {
    /// Whether a server answered, though not as it should.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::Denied { .. } | Self::Status { .. } | Self::Form { .. }
        )
    }

    /// The status that was answered; none if nothing was.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Busy { .. } => Some(429),
            Self::Denied { status, .. } | Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Client {
    /// A client whose calls take `timeout` at most.
    ///
    /// # Errors
    /// If its credentials cannot be used.
    pub fn new(target: &Target, timeout: Duration) -> Result<Self, ProbeError> {
        let mut bearer = None;
        let tls = match &target.access {
            Access::Open => plain_tls(),
            Access::Bearer(path) => {
                let token = credentials::token(path)?;
                let header = zeroize::Zeroizing::new(format!("Bearer {}", *token));
                let mut value = HeaderValue::from_str(&header).expect("a token is printable ASCII");
                value.set_sensitive(true);
                bearer = Some(value);
                plain_tls()
            }
            Access::Mutual {
                ca,
                certificate,
                key,
            } => credentials::mutual_tls(ca, certificate, key)?,
        };
        let http = http::client(Some(tls), timeout).map_err(|error| ProbeError::Form {
            url: target.base.clone(),
            why: said(&error),
        })?;
        Ok(Self {
            http,
            base: target.base.clone(),
            bearer,
            timeout,
        })
    }

    /// `GET /health`: a server that loads or drains says so with 503, which is an answer here.
    ///
    /// # Errors
    /// If there is no such answer.
    pub async fn health(&self) -> Result<Timed<Health>, ProbeError> {
        let page = self.health_page().await?;
        let health = self.heartbeat(&page.value)?;
        Ok(page.map(|_| health))
    }

    /// `GET /health` as JSON, whatever program answers.
    pub(super) async fn health_page(&self) -> Result<Timed<Value>, ProbeError> {
        let loads = StatusCode::SERVICE_UNAVAILABLE;
        self.call(Method::GET, "/health", None::<&()>, &[loads])
            .await
    }

    /// The heartbeat in that page.
    pub(super) fn heartbeat(&self, page: &Value) -> Result<Health, ProbeError> {
        Health::deserialize(page).map_err(|error| self.form("/health", &error.to_string()))
    }

    /// `GET /v1/models`: the ids.
    ///
    /// # Errors
    /// If there is no such answer.
    pub async fn models(&self) -> Result<Timed<Vec<String>>, ProbeError> {
        let page: Timed<Value> = self
            .call(Method::GET, "/v1/models", None::<&()>, &[])
            .await?;
        let ids = page.value["data"].as_array().map(|models| {
            let ids = models.iter().filter_map(|model| model["id"].as_str());
            ids.map(str::to_owned).collect()
        });
        Ok(Timed {
            value: ids.ok_or_else(|| self.form("/v1/models", "there is no `data` list in it"))?,
            latency: page.latency,
        })
    }

    /// `POST /v1/chat/completions` at temperature 0.
    ///
    /// # Errors
    /// If there is no answer of that form.
    pub async fn chat(&self, question: &Question) -> Result<Timed<Answer>, ProbeError> {
        const PATH: &str = "/v1/chat/completions";
        let body = question.body();
        let answer: Timed<Value> = self.call(Method::POST, PATH, Some(&body), &[]).await?;
        let choice = &answer.value["choices"][0];
        let text = choice["message"]["content"]
            .as_str()
            .ok_or_else(|| self.form(PATH, "there is no `choices[0].message.content` in it"))?;
        let value = Answer {
            text: text.to_owned(),
            finish_reason: choice["finish_reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            system_fingerprint: answer.value["system_fingerprint"]
                .as_str()
                .map(str::to_owned),
        };
        Ok(Timed {
            value,
            latency: answer.latency,
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
        also: &[StatusCode],
    ) -> Result<Timed<T>, ProbeError> {
        let url = format!("{}{path}", self.base);
        let begun = Instant::now();
        let mut request = self.http.request(method, &url);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.failed(&url, &error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let bytes = self.read(&url, response).await?;
        let latency = begun.elapsed();
        if status.is_success() || also.contains(&status) {
            return serde_json::from_slice(&bytes)
                .map(|value| Timed { value, latency })
                .map_err(|error| self.form(path, &error.to_string()));
        }
        Err(match status.as_u16() {
            429 => ProbeError::Busy { url, retry_after },
            status @ (401 | 403) => ProbeError::Denied { url, status },
            status => ProbeError::Status {
                url,
                status,
                said: excerpt(&bytes),
            },
        })
    }

    async fn read(&self, url: &str, mut response: Response) -> Result<Vec<u8>, ProbeError> {
        let mut bytes = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.failed(url, &error))?
        {
            if bytes.len() + part.len() > LARGEST {
                return Err(ProbeError::Form {
                    url: url.to_owned(),
                    why: format!("it is longer than {LARGEST} bytes"),
                });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    fn failed(&self, url: &str, error: &reqwest::Error) -> ProbeError {
        let url = url.to_owned();
        if error.is_timeout() {
            return match error.is_connect() {
                // A connection has a shorter limit than an answer.
                true => ProbeError::Unreachable {
                    url,
                    why: format!(
                        "no connection within {} s",
                        http::CONNECT.min(self.timeout).as_secs_f64()
                    ),
                },
                false => ProbeError::Timeout {
                    url,
                    limit: self.timeout,
                },
            };
        }
        let mut why = said(error.source().unwrap_or(error));
        if is_without_route(error) {
            why.push_str(&no_route::cause());
        }
        ProbeError::Unreachable { url, why }
    }

    fn form(&self, path: &str, why: &str) -> ProbeError {
        ProbeError::Form {
            url: format!("{}{path}", self.base),
            // serde quotes what it was given.
            why: UntrustedText::bounded(why, SHOWN).into(),
        }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Whether the system says that there is no way to the host (EHOSTUNREACH).
fn is_without_route(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(|io| io.kind());
        if kind == Some(ErrorKind::HostUnreachable) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The beginning of an answer, on one line that is safe to show.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    UntrustedText::bounded(&words, SHOWN).into()
}
