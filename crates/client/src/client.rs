//! The client: every request is limited in time and in what it reads.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use sanctum_config::UntrustedText;
use serde::Deserialize;
use serde_json::Value;

use crate::chat::{ChatRequest, ChatResponse};
use crate::credentials;
use crate::endpoint::{Credentials, ServerEndpoint};
use crate::error::{ClientError, root_cause};
use crate::health::Health;
use crate::http;
use crate::no_route;

/// The largest response that is read, in bytes.
const LARGEST: usize = 4 << 20;

/// What an error shows of a response, in characters.
const SHOWN: usize = 200;

/// A client of one server. Make a new one for every check, so that renewed credentials count at once.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    bearer: Option<HeaderValue>,
    timeout: Duration,
}

/// A response and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed<T> {
    /// The response.
    pub value: T,
    /// From the request to the last byte of the response.
    pub latency: Duration,
}

impl<T> Timed<T> {
    /// Replaces the value and keeps the latency.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Timed<U> {
        Timed {
            value: change(self.value),
            latency: self.latency,
        }
    }
}

impl Client {
    /// A client whose requests take `timeout` at most.
    ///
    /// # Errors
    /// If its credentials cannot be used.
    pub fn new(endpoint: &ServerEndpoint, timeout: Duration) -> Result<Self, ClientError> {
        Self::at(&endpoint.base, &endpoint.credentials, timeout)
    }

    /// A client of the server at a base URL, whose requests take `timeout` at most.
    ///
    /// # Errors
    /// If its credentials cannot be used.
    pub fn at(
        base: &str,
        credentials: &Credentials,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let (tls, bearer) = credentials::load(credentials)?;
        let http = http::client(Some(tls), timeout).map_err(|error| ClientError::Format {
            url: base.to_owned(),
            why: root_cause(&error),
        })?;
        Ok(Self {
            http,
            base: base.to_owned(),
            bearer,
            timeout,
        })
    }

    /// The same client with another time limit.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// `GET /health`. The 503 of a server that is loading or draining has a health page too.
    ///
    /// # Errors
    /// If there is no health page.
    pub async fn health(&self) -> Result<Timed<Health>, ClientError> {
        let page = self.health_page().await?;
        let health = self.heartbeat(&page.value)?;
        Ok(page.map(|_| health))
    }

    /// `GET /health` as JSON, whatever program answers.
    pub(crate) async fn health_page(&self) -> Result<Timed<Value>, ClientError> {
        let loading = StatusCode::SERVICE_UNAVAILABLE;
        self.json(Method::GET, "/health", None, &[loading]).await
    }

    /// The heartbeat in that page.
    pub(crate) fn heartbeat(&self, page: &Value) -> Result<Health, ClientError> {
        Health::deserialize(page).map_err(|error| self.format("/health", &error.to_string()))
    }

    /// `GET /v1/models`: the ids.
    ///
    /// # Errors
    /// If there is no list of models.
    pub async fn models(&self) -> Result<Timed<Vec<String>>, ClientError> {
        const PATH: &str = "/v1/models";
        let page = self.json(Method::GET, PATH, None, &[]).await?;
        let ids = page.value["data"].as_array().map(|models| {
            let ids = models.iter().filter_map(|model| model["id"].as_str());
            ids.map(str::to_owned).collect()
        });
        let ids = ids.ok_or_else(|| self.format(PATH, "it has no `data` list"))?;
        Ok(page.map(|_| ids))
    }

    /// `POST /v1/chat/completions` at temperature 0.
    ///
    /// # Errors
    /// If there is no chat completion.
    pub async fn chat(&self, request: &ChatRequest) -> Result<Timed<ChatResponse>, ClientError> {
        const PATH: &str = "/v1/chat/completions";
        let body = request.body();
        let page = self.json(Method::POST, PATH, Some(&body), &[]).await?;
        let response = ChatResponse::from_json(&page.value)
            .ok_or_else(|| self.format(PATH, "it has no `choices[0].message.content`"))?;
        Ok(page.map(|_| response))
    }

    /// `GET /metrics`: the counters in Prometheus' text format.
    ///
    /// # Errors
    /// If there is no such page.
    pub async fn metrics(&self) -> Result<Timed<String>, ClientError> {
        const PATH: &str = "/metrics";
        let page = self.request(Method::GET, PATH, None, &[]).await?;
        let text =
            String::from_utf8(page.value).map_err(|error| self.format(PATH, &error.to_string()))?;
        Ok(Timed {
            value: text,
            latency: page.latency,
        })
    }

    /// Sends a request and reads JSON, with a 2xx status or one of `accepted`.
    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accepted: &[StatusCode],
    ) -> Result<Timed<Value>, ClientError> {
        let response = self.request(method, path, body, accepted).await?;
        let value = serde_json::from_slice(&response.value)
            .map_err(|error| self.format(path, &error.to_string()))?;
        Ok(response.map(|_| value))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accepted: &[StatusCode],
    ) -> Result<Timed<Vec<u8>>, ClientError> {
        let url = format!("{}{path}", self.base);
        let begun = Instant::now();
        let mut request = self.http.request(method, &url).timeout(self.timeout);
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
        if status.is_success() || accepted.contains(&status) {
            return Ok(Timed {
                value: bytes,
                latency,
            });
        }
        Err(match status.as_u16() {
            429 => ClientError::Busy { url, retry_after },
            status @ (401 | 403) => ClientError::Denied { url, status },
            status => ClientError::Status {
                url,
                status,
                body: excerpt(&bytes),
            },
        })
    }

    async fn read(&self, url: &str, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.failed(url, &error))?
        {
            if bytes.len() + part.len() > LARGEST {
                return Err(ClientError::Format {
                    url: url.to_owned(),
                    why: format!("it is longer than {LARGEST} bytes"),
                });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    fn failed(&self, url: &str, error: &reqwest::Error) -> ClientError {
        // A connection has a shorter limit than a response.
        failed(url, error, http::CONNECT.min(self.timeout), self.timeout)
    }

    fn format(&self, path: &str, why: &str) -> ClientError {
        ClientError::Format {
            url: format!("{}{path}", self.base),
            // serde quotes what it could not read.
            why: UntrustedText::bounded(why, SHOWN).into(),
        }
    }
}

/// Why a request failed that has these limits for its connection and its response.
pub(crate) fn failed(
    url: &str,
    error: &reqwest::Error,
    connect: Duration,
    limit: Duration,
) -> ClientError {
    let url = url.to_owned();
    if error.is_timeout() {
        return match error.is_connect() {
            true => ClientError::Unreachable {
                url,
                why: format!("no connection within {} s", connect.as_secs_f64()),
                is_refused: false,
            },
            false => ClientError::Timeout { url, limit },
        };
    }
    let mut why = root_cause(error.source().unwrap_or(error));
    if has_cause(error, ErrorKind::HostUnreachable) {
        why.push_str(&no_route::cause());
    }
    ClientError::Unreachable {
        url,
        why,
        is_refused: has_cause(error, ErrorKind::ConnectionRefused),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Whether an error of the system of this kind is among the causes.
fn has_cause(error: &reqwest::Error, wanted: ErrorKind) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(|io| io.kind());
        if kind == Some(wanted) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The beginning of a response, on one line that is safe to show.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    UntrustedText::bounded(&words, SHOWN).into()
}
