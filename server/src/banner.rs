//! The banner at a terminal when the server is ready: its addresses, the console, and a command to paste.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sanctum_config::ModelId;

use crate::listen::BoundAddress;

/// The URL of the console for a browser on this machine.
pub(crate) fn console_url(endpoint: &BoundAddress) -> String {
    let local = match endpoint.address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(local, endpoint.address.port());
    let secure = endpoint.secure;
    format!("{}/", BoundAddress { address, secure })
}

/// The banner. `token` is the file of the bearer token, where requests from this machine need it too.
pub(crate) fn banner(
    endpoints: &[BoundAddress],
    models: &[&ModelId],
    token: Option<&str>,
) -> String {
    let urls: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let models: Vec<&str> = models.iter().map(|id| id.as_str()).collect();
    // Plain HTTP needs no certificate.
    let first = endpoints
        .iter()
        .find(|endpoint| !endpoint.secure)
        .or(endpoints.first());
    let url = first.map_or_else(String::new, ToString::to_string);
    let secure = first.is_some_and(|endpoint| endpoint.secure);
    let (credentials, api_key) = match (secure, token) {
        (true, _) => (
            " --cert CLIENT.crt --key CLIENT.key --cacert ca.crt".to_owned(),
            "any api_key, and a client certificate".to_owned(),
        ),
        (false, Some(file)) => (
            format!(" -H \"Authorization: Bearer $(cat {file})\""),
            format!("api_key is the content of {file}"),
        ),
        (false, None) => (String::new(), "any api_key".to_owned()),
    };
    format!(
        r#"
  Sanctum {version} serves {models} on {urls}

  Open {console} in a browser to chat and to see what the server does, or:

    curl {url}/v1/chat/completions -H 'Content-Type: application/json'{credentials} \
      -d '{{"messages": [{{"role": "user", "content": "What is 2+2? Respond with only the number."}}], "temperature": 0}}'

  OpenAI clients: base_url {url}/v1, {api_key}. Ctrl-C stops it.
"#,
        console = first.map_or_else(String::new, console_url),
        version = env!("CARGO_PKG_VERSION"),
        models = models.join(", "),
        urls = urls.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, secure: bool) -> BoundAddress {
        BoundAddress {
            address: address.parse().unwrap(),
            secure,
        }
    }

    #[test]
    fn curl_command_can_be_pasted() {
        let id = "tiny".parse().unwrap();
        let banner = banner(&[endpoint("127.0.0.1:1337", false)], &[&id], None);
        assert!(banner.contains("serves tiny on http://127.0.0.1:1337\n"));
        let body = banner
            .split("-d '")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["messages"][0]["role"], "user");
    }

    #[test]
    fn console_is_named_by_an_address_that_a_browser_can_open() {
        for (address, url) in [
            ("127.0.0.1:1337", "http://127.0.0.1:1337/"),
            ("0.0.0.0:1337", "http://127.0.0.1:1337/"),
            ("[::]:1337", "http://[::1]:1337/"),
            ("100.64.0.25:80", "http://100.64.0.25:80/"),
        ] {
            let endpoint = endpoint(address, false);
            assert_eq!(console_url(&endpoint), url);
            let banner = banner(&[endpoint], &[], None);
            assert!(banner.contains(&format!("Open {url} in a browser")));
        }
    }

    #[test]
    fn banner_shows_the_credentials_that_are_needed() {
        let id = "tiny".parse().unwrap();
        let (tls, plain) = (
            endpoint("127.0.0.1:1338", true),
            endpoint("127.0.0.1:1337", false),
        );
        let with_token = banner(&[tls, plain], &[&id], Some("~/s/server.token"));
        assert!(with_token.contains("curl http://127.0.0.1:1337/v1"));
        assert!(with_token.contains("Bearer $(cat ~/s/server.token)"));
        assert!(!with_token.contains("any api_key"));
        assert!(banner(&[tls], &[&id], None).contains("--cert CLIENT.crt"));
    }
}
