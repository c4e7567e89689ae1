//! What another server of the fleet says of a request that it passes on: for whom it asks, and the request's id there.
//!
//! Only servers that the operator lists in `auth.fronts`, by the names in their certificates, are believed: every client can send
//! these headers.

use axum::http::HeaderMap;

use crate::client_key::{ClientKey, LOOPBACK, LOOPBACK_WITH_TOKEN};

/// The longest name of a client, in bytes: 64 characters, each with up to four bytes that are escaped.
const LONGEST_NAME: usize = 800;
/// The longest id, in bytes.
const LONGEST_ID: usize = 64;

/// What a front says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// The client for whom it asks.
    pub client: Option<String>,
    /// The id of the request in its log.
    pub id: Option<String>,
}

impl Forwarded {
    /// What the headers say. What is not of the form that our own servers send is ignored.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let is_name = |name: &String| {
            !name.is_empty()
                && name.len() <= LONGEST_NAME
                && name.bytes().all(|b| b.is_ascii_graphic())
        };
        let is_id = |id: &String| {
            let rest = id.strip_prefix("req_").unwrap_or_default();
            !rest.is_empty()
                && id.len() <= LONGEST_ID
                && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        Self {
            client: text("sanctum-client").filter(is_name),
            id: text("x-request-id").filter(is_id),
        }
    }

    /// Whether it asks for a program of its own machine, with or without the token: where that needs none, it does not count
    /// either.
    pub(crate) fn is_of_loopback(&self) -> bool {
        let client = self.client.as_deref();
        client.is_some_and(|client| [LOOPBACK, LOOPBACK_WITH_TOKEN].contains(&client))
    }

    /// The client that the request of `front` counts for: one of its own clients, so that none uses up another's limits.
    pub(crate) fn client_key(&self, front: &str) -> Option<ClientKey> {
        let client = self.client.as_ref()?;
        Some(ClientKey::Certificate(
            format!("{front} for {client}").into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(client: &str, id: &str) -> Forwarded {
        let mut headers = HeaderMap::new();
        headers.insert("sanctum-client", client.parse().unwrap());
        headers.insert("x-request-id", id.parse().unwrap());
        Forwarded::of(&headers)
    }

    #[test]
    fn local_programs_of_a_front_are_recognized() {
        for (key, is_local) in [
            (ClientKey::Loopback, true),
            (ClientKey::LoopbackWithToken, true),
            (ClientKey::Certificate("loopback".into()), false),
            (ClientKey::Ipv4([192, 0, 2, 7].into()), false),
        ] {
            let sent = forwarded(&key.to_string(), "req_a");
            assert_eq!(sent.is_of_loopback(), is_local, "{key}");
        }
    }

    #[test]
    fn only_what_our_own_servers_send_is_taken() {
        let ours = forwarded("192.0.2.7", "req_0aZ9");
        assert_eq!(ours.client.as_deref(), Some("192.0.2.7"));
        assert_eq!(ours.id.as_deref(), Some("req_0aZ9"));
        let key = ours.client_key("front").unwrap();
        assert_eq!(key, ClientKey::Certificate("front for 192.0.2.7".into()));
        for (client, id) in [
            ("", ""),
            ("two words", "req_"),
            (&"x".repeat(801), "req_a b"),
            ("\u{e9}", &format!("req_{}", "a".repeat(61))),
        ] {
            let nothing = Forwarded {
                client: None,
                id: None,
            };
            assert_eq!(forwarded(client, id), nothing, "{client} {id}");
        }
    }
}
