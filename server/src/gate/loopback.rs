//! Which requests over loopback were sent by a program on this machine, and not by a web page that a browser on this
//! machine has open.
//!
//! A page can make its browser send requests to 127.0.0.1. The browser gives it away: it names the page's own host where a
//! DNS answer was rebound to 127.0.0.1, it sends the page's `Origin` with cross-origin requests of scripts, and a form
//! cannot send JSON. A header can only get a request refused here, never accepted.
//!
//! Source: the Fetch standard, "CORS protocol" and "CORS-safelisted request-header"; RFC 9110, section 7.2, for `Host`.

use std::net::{IpAddr, Ipv6Addr};

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use sanctum_config::HostName;

use super::origins;
use super::refusal::Refusal;

/// Characters of a foreign name that an error message shows, at most.
const MOST_SHOWN: usize = 100;

/// Whether the address is this machine's own loopback, however it is written.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// What a request over loopback may look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopbackRules<'a> {
    /// The addresses that the server listens on.
    pub own: &'a [IpAddr],
    /// The names that the operator gives this machine.
    pub names: &'a [HostName],
    /// The operator lists the origin of the request.
    pub is_named_origin: bool,
}

/// Refuses what neither a program on this machine nor an allowed page would send.
pub(crate) fn check(
    request: &Request,
    host: &RequestHost,
    rules: &LoopbackRules<'_>,
) -> Result<(), Refusal> {
    if let Some(foreign) = host.foreign(rules) {
        return Err(Refusal::ForeignHost {
            host: shown(foreign),
        });
    }
    let headers = request.headers();
    let is_ours = || rules.is_named_origin || origins::is_own(headers, "http");
    if headers.contains_key(header::ORIGIN) && !is_ours() {
        return Err(Refusal::Origin);
    }
    if !request.body().is_end_stream() && !is_json(request.headers()) {
        return Err(Refusal::NotJson);
    }
    Ok(())
}

/// A name as an error message may show it: characters of host names only.
fn shown(name: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c);
    name.chars().filter(plain).take(MOST_SHOWN).collect()
}

/// Exactly one content type, and it is JSON; parameters such as a charset are allowed.
fn is_json(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (all.next(), all.next()) else {
        return false;
    };
    let essence = one.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
}

/// The hosts that a request names: in its `Host` header, and in its target where that is a whole URL.
#[derive(Debug, PartialEq)]
pub(crate) struct RequestHost(Vec<(Name, String)>);

#[derive(Debug, PartialEq)]
enum Name {
    Localhost,
    Address(IpAddr),
    /// Any other, without its port where it has one.
    Other(String),
}

impl RequestHost {
    /// Reads a request. Without a host, or with several, it is not HTTP/1.1.
    pub(crate) fn of(request: &Request) -> Result<Self, Refusal> {
        let mut headers = request.headers().get_all(header::HOST).iter();
        let names = match (headers.next(), headers.next(), request.uri().authority()) {
            (Some(_), Some(_), _) | (None, _, None) => return Err(Refusal::NotOneHost),
            (Some(header), None, None) => vec![name(header.as_bytes())],
            (None, _, Some(target)) => vec![name(target.as_str().as_bytes())],
            (Some(header), None, Some(target)) => {
                vec![name(header.as_bytes()), name(target.as_str().as_bytes())]
            }
        };
        Ok(Self(names))
    }

    /// The first name that is not one of this machine.
    fn foreign(&self, rules: &LoopbackRules<'_>) -> Option<&str> {
        let listens = |address: IpAddr| !address.is_unspecified() && rules.own.contains(&address);
        self.0.iter().find_map(|(name, text)| {
            let is_ours = match name {
                Name::Localhost => true,
                Name::Address(address) => {
                    let written = address.to_string();
                    is_loopback(*address)
                        || listens(*address)
                        || rules.names.iter().any(|listed| listed.is(&written))
                }
                Name::Other(name) => rules.names.iter().any(|listed| listed.is(name)),
            };
            (!is_ours).then_some(text.as_str())
        })
    }
}

/// `name`, `name:port`, `a.b.c.d:port` or `[v6]:port`.
fn name(text: &[u8]) -> (Name, String) {
    let parse = || {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            is_port(port).then_some(())?;
            return Some(Name::Address(address.parse::<Ipv6Addr>().ok()?.into()));
        }
        let end = text.find(':').unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        is_port(port).then_some(())?;
        let rooted = name.strip_suffix('.').unwrap_or(name);
        match rooted.eq_ignore_ascii_case("localhost") {
            true => Some(Name::Localhost),
            false => Some(match name.parse::<std::net::Ipv4Addr>() {
                Ok(v4) => Name::Address(v4.into()),
                Err(_) => Name::Other(name.to_owned()),
            }),
        }
    };
    let name = parse().unwrap_or_else(|| Name::Other(String::new()));
    (name, String::from_utf8_lossy(text).into_owned())
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(headers: &[(&str, &str)], body: &'static str) -> Request {
        let mut request = Request::post("/v1/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body)).unwrap()
    }

    fn judge(request: &Request) -> Result<(), Refusal> {
        let own = ["192.0.2.1", "2001:db8::1", "0.0.0.0", "127.0.0.1"];
        let own = own.map(|address| address.parse().unwrap());
        let names = ["host.docker.internal".parse().unwrap()];
        let rules = LoopbackRules {
            own: &own,
            names: &names,
            is_named_origin: false,
        };
        check(request, &RequestHost::of(request)?, &rules)
    }

    fn is_foreign(result: Result<(), Refusal>) -> bool {
        matches!(result, Err(Refusal::ForeignHost { .. }))
    }

    fn host(text: &str) -> Result<(), Refusal> {
        judge(&request(&[("host", text)], ""))
    }

    #[test]
    fn every_form_of_a_loopback_address_is_loopback_and_no_other() {
        let loopback = |text: &str| is_loopback(text.parse().unwrap());
        for yes in [
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:127.9.9.9",
        ] {
            assert!(loopback(yes), "{yes}");
        }
        for no in [
            "128.0.0.1",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "::2",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
        ] {
            assert!(!loopback(no), "{no}");
        }
    }

    #[test]
    fn own_names_are_accepted_at_any_port() {
        for ours in [
            "localhost",
            "localhost:1337",
            "LocalHost.",
            "localhost.:80",
            "127.0.0.1",
            "127.0.0.1:1337",
            "127.3.2.1",
            "[::1]",
            "[::1]:1337",
            "[::ffff:127.0.0.1]:1",
            "192.0.2.1:9",
            "[2001:db8::1]:9",
            "host.docker.internal",
            "Host.Docker.Internal.:1337",
        ] {
            assert_eq!(host(ours), Ok(()), "{ours}");
        }
    }

    #[test]
    fn similar_names_are_foreign() {
        for foreign in [
            "localhost.evil.example",
            "host.docker.internal.evil.example",
            "127.0.0.1.evil.example",
            "evil.example",
            "evil.example:1337",
            "localhost..",
            "xlocalhost",
            "local.host",
            "localhost@evil.example",
            "evil@localhost",
            "localhost:80:80",
            "localhost:x",
            "127.1",
            "0177.0.0.1",
            "2130706433",
            "127.0.0.1.",
            "0.0.0.0",
            "192.0.2.2",
            "[::1",
            "[::1]x",
            "::1",
            "[::1%lo]",
            "[localhost]",
            "localhost/",
            "localhost, evil.example",
            "",
            ":1337",
        ] {
            assert!(is_foreign(host(foreign)), "{foreign}");
        }
    }

    #[test]
    fn foreign_name_is_shown_without_what_is_not_a_name() {
        for (text, shown) in [
            ("evil.example:1337", "evil.example:1337"),
            ("<b>evil", "bevil"),
            (&"x".repeat(300), &"x".repeat(100)),
        ] {
            let refusal = Refusal::ForeignHost { host: shown.into() };
            assert_eq!(host(text), Err(refusal));
        }
    }

    #[test]
    fn page_of_a_listed_origin_is_judged_as_a_program_is() {
        let headers = [("host", "localhost"), ("origin", "http://page.example")];
        let rules = LoopbackRules {
            own: &[],
            names: &[],
            is_named_origin: true,
        };
        let judge = |headers: &[(&str, &str)], body| {
            let request = request(headers, body);
            check(&request, &RequestHost::of(&request)?, &rules)
        };
        assert_eq!(judge(&headers, ""), Ok(()));
        assert_eq!(judge(&headers, "{}"), Err(Refusal::NotJson));
        let rebound = [("host", "page.example"), ("origin", "http://page.example")];
        assert!(is_foreign(judge(&rebound, "")));
    }

    #[test]
    fn one_host_is_what_http_wants() {
        let none = request(&[], "");
        assert_eq!(judge(&none), Err(Refusal::NotOneHost));
        let two = request(&[("host", "localhost"), ("host", "localhost")], "");
        assert_eq!(judge(&two), Err(Refusal::NotOneHost));
        let mut target = request(&[("host", "localhost")], "");
        *target.uri_mut() = "http://evil.example/v1/completions".parse().unwrap();
        assert!(is_foreign(judge(&target)));
        *target.uri_mut() = "http://127.0.0.1:1337/v1/completions".parse().unwrap();
        assert_eq!(judge(&target), Ok(()));
        target.headers_mut().clear();
        assert_eq!(judge(&target), Ok(()));
    }

    #[test]
    fn origin_header_is_refused_even_with_an_own_name() {
        for origin in ["http://evil.example", "http://localhost:1337", "null", ""] {
            let request = request(&[("host", "localhost"), ("origin", origin)], "");
            assert_eq!(judge(&request), Err(Refusal::Origin));
        }
    }

    #[test]
    fn own_page_is_judged_as_a_program_is_and_a_rebound_one_is_foreign() {
        let own = [
            ("host", "localhost:1337"),
            ("origin", "http://localhost:1337"),
        ];
        assert_eq!(judge(&request(&own, "")), Ok(()));
        assert_eq!(judge(&request(&own, "{}")), Err(Refusal::NotJson));
        let elsewhere = [
            ("host", "localhost:1337"),
            ("origin", "http://localhost:3000"),
        ];
        assert_eq!(judge(&request(&elsewhere, "")), Err(Refusal::Origin));
        let rebound = [
            ("host", "evil.example:1337"),
            ("origin", "http://evil.example:1337"),
        ];
        assert!(is_foreign(judge(&request(&rebound, ""))));
    }

    #[test]
    fn body_that_is_not_json_is_refused() {
        let with = |kinds: &[&str]| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(kinds.iter().map(|kind| ("content-type", *kind)));
            judge(&request(&headers, "{}"))
        };
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;x",
        ] {
            assert_eq!(with(&[good]), Ok(()));
        }
        let json = "application/json";
        for bad in [
            &["text/plain"][..],
            &["application/x-www-form-urlencoded"],
            &["multipart/form-data; boundary=application/json"],
            &["application/json5"],
            &["text/plain; application/json"],
            &[""],
            &[],
            &[json, json],
            &[json, "text/plain"],
        ] {
            assert_eq!(with(bad), Err(Refusal::NotJson), "{bad:?}");
        }
        assert_eq!(judge(&request(&[("host", "localhost")], "")), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn no_host_panics_and_no_foreign_name_is_accepted(text in "[a-z.:0-9@%\\[\\]-]{0,30}") {
            let ours = text.to_lowercase().starts_with("localhost") || text.contains("127.") || text.contains(":")
                || text.contains("192.0.2.1");
            proptest::prop_assert!(ours || host(&text).is_err(), "{}", text);
        }
    }
}
