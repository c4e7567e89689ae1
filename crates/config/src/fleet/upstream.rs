//! `[[servers.NAME.models.upstreams]]`: other servers that have a model.

use std::time::Duration;

use serde::Deserialize;

use crate::{Label, ModelId, TildePath, duration, tilde};

/// Another server with a model: a Sanctum server, or any server of the OpenAI API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSection {
    /// Its URL without `/v1`: `https://192.0.2.20:1338`.
    pub url: String,
    /// Names it in logs, headers and metrics; by default the URL's host and port.
    pub name: Option<Label>,
    /// The model's id there, if it is another one.
    pub model: Option<ModelId>,
    /// The file of the bearer token that it needs.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub token_file: Option<TildePath>,
    /// For `https`: the certificate that this server presents; by default `certs/clients/<server>-upstream.crt` under the fleet's home,
    /// which `sanctum-pki fleet` issues.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub certificate: Option<TildePath>,
    /// Its key; by default `certs/clients/<server>-upstream.key`.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub key: Option<TildePath>,
    /// The CAs of its certificate; by default `certs/ca.crt`.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub ca: Option<TildePath>,
    /// How long a connection may take; by default 2 s.
    #[serde(default, deserialize_with = "duration::optional")]
    pub connect_timeout: Option<Duration>,
    /// How long the first byte of a response may take; by default 10 minutes.
    #[serde(default, deserialize_with = "duration::optional")]
    pub first_byte_timeout: Option<Duration>,
}

impl UpstreamSection {
    /// Its scheme and what follows it, if the URL is one that can be used.
    pub fn scheme_and_address(&self) -> Option<(&str, &str)> {
        let (scheme, rest) = self.url.split_once("://")?;
        let address = rest.strip_suffix('/').unwrap_or(rest);
        let is_host = !address.is_empty()
            && address
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-:[]%_".contains(c));
        (matches!(scheme, "http" | "https") && is_host).then_some((scheme, address))
    }

    /// Whether it is asked with the client certificate that `sanctum-pki fleet` issues for its server's upstreams.
    pub fn has_issued_certificate(&self) -> bool {
        let is_https = self
            .scheme_and_address()
            .is_some_and(|(scheme, _)| scheme == "https");
        is_https && (self.certificate.is_none() || self.key.is_none())
    }

    /// What is wrong with it.
    pub(super) fn contradiction(&self) -> Option<String> {
        let Some((scheme, _)) = self.scheme_and_address() else {
            return Some(format!(
                "the upstream's `url` is `{}`; write `http://HOST:PORT` or `https://HOST:PORT`, without `/v1`",
                self.url.escape_default()
            ));
        };
        let has_tls = self.certificate.is_some() || self.key.is_some() || self.ca.is_some();
        if scheme == "http" && has_tls {
            return Some(format!(
                "the upstream `{}` is plain HTTP, and has a certificate; write `https`, or remove `certificate`, `key` and `ca`",
                self.url
            ));
        }
        (scheme == "https" && self.token_file.is_some()).then(|| {
            format!(
                "the upstream `{}` uses mutual TLS, and has a `token_file`; remove it, or write `http`",
                self.url
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(text: &str) -> UpstreamSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn url_is_a_scheme_a_host_and_a_port() {
        for (url, parts) in [
            ("http://127.0.0.1:1337", Some(("http", "127.0.0.1:1337"))),
            (
                "https://studio.example:1338/",
                Some(("https", "studio.example:1338")),
            ),
            (
                "https://[2001:db8::1]:1338",
                Some(("https", "[2001:db8::1]:1338")),
            ),
            ("http://192.0.2.20/v1", None),
            ("http://user:secret@192.0.2.20", None),
            ("ftp://192.0.2.20", None),
            ("192.0.2.20:1337", None),
            ("http://", None),
        ] {
            let upstream = upstream(&format!("url = \"{url}\""));
            assert_eq!(upstream.scheme_and_address(), parts, "{url}");
            assert_eq!(upstream.contradiction().is_some(), parts.is_none(), "{url}");
        }
    }

    #[test]
    fn credentials_that_do_not_fit_the_scheme_are_named() {
        let problem = |text| upstream(text).contradiction().unwrap();
        let plain = problem("url = \"http://192.0.2.20:1337\"\ncertificate = \"a.crt\"");
        assert!(plain.contains("write `https`"), "{plain}");
        let both = problem("url = \"https://192.0.2.20:1338\"\ntoken_file = \"token\"");
        assert!(both.contains("mutual TLS"), "{both}");
    }
}
