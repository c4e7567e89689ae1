//! Which requests the page answers: reads, by a browser or a program of this machine that names this machine.
//!
//! A page of another site can make a browser send requests to 127.0.0.1, and read the answers once the name of that site
//! resolves to 127.0.0.1 (DNS rebinding). The browser then names the other site in `Host`. Without rebinding it hides the
//! answers from the other page, because the page here sends no CORS headers.

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode};

/// Characters of a foreign name that an error message shows, at most.
const MOST_SHOWN: usize = 100;

/// Why a request is refused: the status, and a line for its client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestRefusal {
    /// 400, 403 or 405.
    pub(super) status: StatusCode,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

/// Checks a request.
///
/// # Errors
/// If it names another host than this machine, or none, or would change something.
pub(super) fn check(request: &Parts) -> Result<(), RequestRefusal> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, None) = (hosts.next(), hosts.next()) else {
        return Err(RequestRefusal {
            status: StatusCode::BAD_REQUEST,
            message: "the request has several `Host` headers; send one".to_owned(),
        });
    };
    let named = host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let target = request.uri.authority().map(ToString::to_string);
    let named: Vec<String> = named.into_iter().chain(target).collect();
    if named.is_empty() {
        return Err(RequestRefusal {
            status: StatusCode::BAD_REQUEST,
            message: "the request has no `Host` header; send one".to_owned(),
        });
    }
    if let Some(foreign) = named.iter().find(|host| !is_this_machine(host)) {
        let plain = |c: &char| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c);
        let shown: String = foreign.chars().filter(plain).take(MOST_SHOWN).collect();
        return Err(RequestRefusal {
            status: StatusCode::FORBIDDEN,
            message: format!(
                "the request names the host `{shown}`, and this page is for this machine only; open it as http://127.0.0.1 or \
                 http://localhost, with its port"
            ),
        });
    }
    match request.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(RequestRefusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "the fleet page is read-only: send GET or HEAD, and use sanctum-launchd to change something".to_owned(),
        }),
    }
}

/// Whether a host, with or without a port, is a name of this machine's loopback.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    // User information is not part of `Host`.
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let address = address.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn status(method: &str, target: &str, hosts: &[&str]) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match check(&parts) {
            Ok(()) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn request_that_names_this_machine_is_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:1340",
            "localhost:1340",
            "LOCALHOST",
            "[::1]:1340",
            "[::ffff:127.0.0.1]",
            // Another port: an ssh tunnel.
            "127.0.0.1:9999",
        ] {
            assert_eq!(status("GET", "/", &[host]), 200, "{host}");
            assert_eq!(status("HEAD", "/", &[host]), 200, "{host}");
        }
        assert_eq!(
            status("GET", "http://localhost:1340/", &["localhost:1340"]),
            200
        );
    }

    #[test]
    fn request_that_names_another_host_is_refused() {
        for host in [
            "evil.example",
            "evil.example:1340",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1:1340",
            "0.0.0.0:1340",
            "[::]:1340",
            "localhost@evil.example",
            "evil@localhost",
            "",
            " ",
            "[::1",
        ] {
            assert_eq!(status("GET", "/", &[host]), 403, "{host}");
        }
        assert_eq!(status("GET", "http://evil.example/", &["localhost"]), 403);
        assert_eq!(status("GET", "/", &[]), 400);
        assert_eq!(status("GET", "/", &["localhost", "localhost"]), 400);
    }

    #[test]
    fn request_that_would_change_something_is_refused() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            assert_eq!(status(method, "/", &["localhost"]), 405, "{method}");
        }
    }

    #[test]
    fn refusal_shows_only_characters_of_host_names() {
        let request = Request::builder()
            .uri("/")
            .header(HOST, "a<b>\"c\".example");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let message = check(&parts).unwrap_err().message;
        assert!(message.contains("`abc.example`"), "{message}");
    }
}
