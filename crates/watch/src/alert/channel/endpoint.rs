//! An HTTP address that alerts are posted to. The address itself and a token may be secrets in files, and are then in no
//! message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Response, Url};
use rustls::ClientConfig;
use sanctum_client::{http, root_cause};
use sanctum_config::{TildePath, UntrustedText, files, fleet};
use zeroize::Zeroizing;

use super::delivery::{DeliveryError, LIMIT};
use super::secret;
use crate::blocking::BlockingTask;

/// The statuses that reject the alert itself, so that a retry would fail too.
pub(super) const MALFORMED: [u16; 4] = [400, 413, 415, 422];
/// The time limit of reading the files of a channel.
const FILES_LIMIT: Duration = Duration::from_secs(5);
/// The largest file of certificate authorities, in bytes.
const LARGEST_CA: u64 = 4 << 20;
/// What a message shows of a response's body, in characters.
const SHOWN: usize = 200;

/// An HTTP address with its credentials.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    address: Address,
    /// Whether messages show the address's scheme and host only.
    is_path_secret: bool,
    token: Option<PathBuf>,
    ca: Option<PathBuf>,
    reading: BlockingTask,
}

#[derive(Clone, Debug)]
enum Address {
    Plain(Url),
    File(PathBuf),
}

/// The files of an endpoint, as they are now.
pub(crate) struct Target {
    url: Url,
    /// How messages name it.
    shown: String,
    is_path_secret: bool,
    /// The file that has the address.
    address_file: Option<PathBuf>,
    token: Option<Zeroizing<String>>,
    tls: Option<ClientConfig>,
}

impl Endpoint {
    /// The address of a channel's section in `file`.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(super) fn of(section: &fleet::ChannelSection, file: &Path) -> Result<Self, String> {
        let beside = |path: &TildePath| path.beside(file).map_err(|error| error.to_string());
        let optional = |path: &Option<TildePath>| path.as_ref().map(beside).transpose();
        let endpoint = Self::of_keys(
            "url",
            section.url.as_deref(),
            section.url_file.as_ref(),
            file,
        )?;
        Ok(Self {
            token: optional(&section.token_file)?,
            ca: optional(&section.ca_file)?,
            ..endpoint.ok_or("it has neither `url` nor `url_file`")?
        })
    }

    /// The address of the key `key`, or in the file of the key with `_file` behind its name; none if there is neither.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(crate) fn of_keys(
        key: &str,
        url: Option<&str>,
        url_file: Option<&TildePath>,
        file: &Path,
    ) -> Result<Option<Self>, String> {
        let address = match (url, url_file) {
            (Some(url), _) => {
                let url = parse(url).map_err(|why| format!("`{key}` {why}"))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(format!(
                        "`{key}` has a user or a password in it, which every reader of fleet.toml sees; write the address \
                         into a file, and name that with `{key}_file`"
                    ));
                }
                Address::Plain(url)
            }
            (None, Some(path)) => {
                Address::File(path.beside(file).map_err(|error| error.to_string())?)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            is_path_secret: matches!(address, Address::File(_)),
            address,
            token: None,
            ca: None,
            reading: BlockingTask::new("reading the files of a channel"),
        }))
    }

    #[cfg(test)]
    pub(super) fn at(url: Url) -> Self {
        Self {
            address: Address::Plain(url),
            is_path_secret: false,
            token: None,
            ca: None,
            reading: BlockingTask::new("reading the files of a channel"),
        }
    }

    /// The same with an address of which messages show the scheme and the host only.
    pub(crate) fn with_secret_path(self) -> Self {
        Self {
            is_path_secret: true,
            ..self
        }
    }

    /// The address, if it is not in a file.
    pub(super) fn url(&self) -> Option<&Url> {
        match &self.address {
            Address::Plain(url) => Some(url),
            Address::File(_) => None,
        }
    }

    /// Reads its files.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(crate) async fn open(&self) -> Result<Target, DeliveryError> {
        let Self {
            address,
            is_path_secret,
            token,
            ca,
            reading,
        } = self.clone();
        let read = move || Target::read(address, is_path_secret, token.as_deref(), ca.as_deref());
        let target = match &self.address {
            // Nothing to read, so nothing that could block.
            Address::Plain(_) if self.token.is_none() && self.ca.is_none() => read(),
            _ => match reading.run(FILES_LIMIT, read).await {
                Ok(target) => target,
                Err(error) => Err(error.to_string()),
            },
        };
        target.map_err(|why| DeliveryError::later(why, "correct the file that the error names"))
    }
}

impl Target {
    fn read(
        address: Address,
        is_path_secret: bool,
        token: Option<&Path>,
        ca: Option<&Path>,
    ) -> Result<Self, String> {
        let (url, place) = match address {
            Address::Plain(url) => (url, None),
            Address::File(path) => {
                let text = secret::read(&path, "the address")?;
                let url = parse_secret(&text).ok_or_else(|| {
                    format!("{} has no http:// or https:// address", path.display())
                })?;
                (url, Some(path))
            }
        };
        let origin = url.origin().ascii_serialization();
        let shown = match (is_path_secret, &place) {
            (false, _) => url.to_string(),
            (true, None) => origin,
            (true, Some(path)) => format!("{origin} (its address is in {})", path.display()),
        };
        let trust = |path: &Path| {
            let wrong = |why: String| format!("the `ca_file` {}: {why}", path.display());
            let pem =
                files::read_trusted(path, LARGEST_CA).map_err(|error| wrong(error.to_string()))?;
            http::trusting(&pem).map_err(wrong)
        };
        let tls = match (url.scheme(), ca) {
            // The system's certificate authorities are needed for https only.
            ("https", ca) => ca.map(trust).transpose()?,
            _ => Some(http::no_tls()),
        };
        Ok(Self {
            token: token
                .map(|path| secret::read(path, "the token"))
                .transpose()?,
            url,
            shown,
            is_path_secret,
            address_file: place,
            tls,
        })
    }

    /// The address.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// How messages name it, without a secret.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Posts JSON to `url`, an address of the same server. It is delivered with a 2xx status only.
    pub(super) async fn post(&self, url: &Url, body: Vec<u8>) -> Result<(), DeliveryError> {
        let request = |client: &reqwest::Client| {
            let json = HeaderValue::from_static("application/json");
            client
                .post(url.clone())
                .header(CONTENT_TYPE, json)
                .body(body)
        };
        let answer = self.send(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let Self { shown, .. } = self;
        let location = answer.headers().get(LOCATION).cloned();
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            // A gateway that asks for a login answers like this too, temporarily. The new address may repeat the secret.
            let to = match self.is_path_secret {
                true => String::new(),
                false => format!(" to {}", UntrustedText::from_bytes(location.as_bytes())),
            };
            return Err(DeliveryError::later(
                format!("{shown} answered {status}{to}, and redirects are not followed"),
                match &self.address_file {
                    None => "write the final address as `url`".to_owned(),
                    Some(file) => format!("write the final address into {}", file.display()),
                },
            ));
        }
        let said = self.excerpt(answer).await;
        let problem = format!("{shown} answered {status}{said}");
        Err(match status.as_u16() {
            code if MALFORMED.contains(&code) => DeliveryError::never(
                problem,
                "the receiver does not accept the form of this alert: compare `template` and the address with its documentation",
            ),
            401 | 403 => DeliveryError::later(
                problem,
                "the receiver does not accept the credentials: correct `token_file` or the address",
            ),
            404 | 405 | 410 => {
                DeliveryError::later(problem, "nothing takes alerts at that address: correct it")
            }
            429 => DeliveryError::later(problem, "the receiver limits the rate; it is retried"),
            _ => DeliveryError::later(problem, "see the receiver's own log; it is retried"),
        })
    }

    /// Sends a request, with the token.
    pub(crate) async fn send(
        &self,
        request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<Response, DeliveryError> {
        let later = |error: reqwest::Error| {
            let Self { shown, .. } = self;
            if error.is_timeout() && !error.is_connect() {
                return DeliveryError::later(
                    format!("{shown} did not answer within {} s", LIMIT.as_secs()),
                    "the receiver took the connection: see its own log. It is retried",
                );
            }
            let cause = root_cause(&error.without_url());
            let problem = format!("{shown} cannot be reached: {cause}");
            // rustls' name of an answer that is not TLS.
            match cause.contains("InvalidContentType") {
                true => DeliveryError::later(
                    problem,
                    "that port does not speak TLS: write http://, or the receiver's https port",
                ),
                false => DeliveryError::later(
                    problem,
                    "is the receiver running, and the address right? It is retried",
                ),
            }
        };
        let client = http::client(self.tls.clone(), LIMIT).map_err(later)?;
        let mut request = request(&client);
        if let Some(token) = &self.token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.as_str())).map_err(|_| {
                    DeliveryError::later(
                        "the token in `token_file` has characters that no header can have",
                        "write the token into that file, on one line",
                    )
                })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(later)
    }

    /// The beginning of a response's body, as the end of a sentence. Receivers explain there what they refuse. Nothing if it
    /// repeats a secret.
    pub(crate) async fn excerpt(&self, mut answer: Response) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < 4 * SHOWN {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                _ => break,
            }
        }
        bytes.truncate(4 * SHOWN);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        let repeats = |secret: &str| secret.len() > 1 && text.contains(secret);
        let secrets = self.url.path_segments().into_iter().flatten();
        let is_repeated = self.token.as_deref().is_some_and(|token| repeats(token))
            || self.is_path_secret && secrets.into_iter().any(repeats);
        match text.is_empty() || is_repeated {
            true => String::new(),
            false => format!(": {}", UntrustedText::bounded(text, SHOWN)),
        }
    }
}

/// The error ends a sentence that begins with the key.
fn parse(text: &str) -> Result<Url, String> {
    parse_secret(text).ok_or_else(|| format!("= \"{text}\" is not an http:// or https:// address"))
}

fn parse_secret(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}
