//! Where requests of browsers come from and what they name: origins of pages, and host names.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The longest host name, in bytes (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;

/// The origin of web pages: what a browser writes into the `Origin` header of their requests.
///
/// Source: the HTML standard, "Origins" and "Serialization of an origin"; RFC 6454, section 6.2.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Origin {
    /// `*`: every page.
    Any,
    /// `scheme://host` or `scheme://host:port` as browsers write it, or `null`: a file, or a sandboxed frame.
    Exact(String),
}

/// A name by which requests may call the host: a DNS name without a port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

/// An origin or host name that no browser would send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// Not an [`Origin`].
    #[error(
        "`{0}` is not an origin; write what the browser sends, such as https://chat.example.com or http://localhost:3000 \
         (a scheme, a host, a port unless it is the scheme's own, and no path), or null, or * for every page"
    )]
    Origin(String),
    /// Not a [`HostName`].
    #[error(
        "`{0}` is not a host name; write the name alone, such as host.docker.internal, without a scheme, a port or a \
         wildcard"
    )]
    HostName(String),
}

impl Origin {
    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(text) => text,
        }
    }
}

impl HostName {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a `Host` header names it: `name`, without its port. Case and a final dot do not matter.
    pub fn is(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case(&self.0)
    }
}

impl TryFrom<String> for Origin {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        match text.as_str() {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Exact(text)),
            _ => {}
        }
        let parse = || {
            let (scheme, authority) = text.split_once("://")?;
            let scheme = scheme.to_ascii_lowercase();
            let mut letters = scheme.bytes();
            let begins_well = letters.next()?.is_ascii_lowercase();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            (begins_well && letters.all(plain)).then_some(())?;
            let authority = authority.to_ascii_lowercase();
            let (host, port) = match authority.strip_prefix('[') {
                Some(rest) => {
                    let end = rest.find(']')?;
                    rest[..end].parse::<std::net::Ipv6Addr>().ok()?;
                    authority.split_at(end + 2)
                }
                None => {
                    let (host, port) =
                        authority.split_at(authority.find(':').unwrap_or(authority.len()));
                    is_host(host).then_some(())?;
                    (host, port)
                }
            };
            // Browsers leave the scheme's own port out.
            let own = matches!(
                (scheme.as_str(), port),
                ("http", ":80") | ("https", ":443") | (_, "")
            );
            if own {
                return Some(format!("{scheme}://{host}"));
            }
            let number: u16 = port.strip_prefix(':')?.parse().ok()?;
            (port[1..] == number.to_string()).then_some(format!("{scheme}://{host}{port}"))
        };
        match parse() {
            Some(origin) => Ok(Self::Exact(origin)),
            None => Err(BadOrigin::Origin(text)),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        let name = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        match is_host(&name) {
            true => Ok(Self(name)),
            false => Err(BadOrigin::HostName(text)),
        }
    }
}

/// Letters, digits, `-` and `_` between single dots. An IP address of version 4 is one too.
fn is_host(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    name.len() <= LONGEST_HOST && name.split('.').all(label)
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        text.to_owned().try_into()
    }
}

impl FromStr for HostName {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_kept_as_browsers_write_it() {
        for (text, origin) in [
            ("https://chat.example.com", "https://chat.example.com"),
            ("HTTP://LocalHost:3000", "http://localhost:3000"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
        ] {
            let parsed: Origin = text.parse().unwrap();
            assert_eq!(parsed, Origin::Exact(origin.into()), "{text}");
        }
        assert_eq!("*".parse(), Ok(Origin::Any));
    }

    #[test]
    fn text_that_no_browser_sends_is_no_origin() {
        for bad in [
            "",
            "chat.example.com",
            "https://",
            "https://a.example/",
            "https://a.example/chat",
            "https://*.example",
            "https://a.example:x",
            "https://a.example:99999",
            "https://a.example:080",
            "https://user@a.example",
            "https://a..example",
            "https://b\u{fc}cher.example",
            "https://[::1",
            "https://[x]",
            "1http://a.example",
            "NULL",
        ] {
            assert_eq!(
                bad.parse::<Origin>(),
                Err(BadOrigin::Origin(bad.into())),
                "{bad}"
            );
        }
    }

    #[test]
    fn host_name_is_compared_without_case_and_final_dot() {
        let name: HostName = "Host.Docker.Internal".parse().unwrap();
        for same in ["host.docker.internal", "HOST.docker.internal."] {
            assert!(name.is(same), "{same}");
        }
        for other in ["docker.internal", "host.docker.internal.evil.example", ""] {
            assert!(!name.is(other), "{other}");
        }
        for bad in [
            "",
            "a b",
            "a:1337",
            "http://a",
            "*.example",
            "a..b",
            "[::1]",
        ] {
            assert_eq!(
                bad.parse::<HostName>(),
                Err(BadOrigin::HostName(bad.into())),
                "{bad}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_an_origin_reads_as_itself(text in ".{0,40}|[a-z]{1,6}://[a-z0-9:.\\[\\]]{0,20}") {
            let _ = text.parse::<HostName>();
            if let Ok(origin) = text.parse::<Origin>() {
                proptest::prop_assert_eq!(origin.as_str().parse::<Origin>(), Ok(origin.clone()));
            }
        }
    }
}
