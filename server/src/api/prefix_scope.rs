//! Whose computed prefixes a request may reuse, and who may reuse its own.

use sanctum_config::fleet::PrefixCacheScope;
use sanctum_engine::prefix::{Reuse, Scope};

use crate::client_key::ClientKey;

/// The first part of every hash: another version of this function makes other scopes.
const VERSION: &[u8] = b"sanctum prefix scope 1";

/// What a request may reuse. `part`: another server asks, for one of its clients. `salt`: the request's `cache_salt`.
///
/// Requests without a salt to a server that shares everything are in the scope of zeros. All other scopes are hashes of
/// what distinguishes them, which stay the same across restarts.
pub(crate) fn reuse(
    sharing: PrefixCacheScope,
    client: &ClientKey,
    part: Option<&[u8]>,
    salt: Option<&str>,
) -> Reuse {
    let client = match sharing {
        PrefixCacheScope::Off => return Reuse::Off,
        PrefixCacheScope::Shared => None,
        PrefixCacheScope::PerClient => Some(client),
    };
    if client.is_none() && part.is_none() && salt.is_none() {
        return Reuse::Scope(Scope::default());
    }
    let (kind, name) = match client {
        None => (&b"shared"[..], Vec::new()),
        Some(client) => identity(client),
    };
    // Each part is hashed with its length, and none that is missing equals an empty one.
    let salt = salt.map(str::as_bytes);
    let parts = [(&b"salt"[..], salt), (b"part", part)];
    let parts = parts
        .into_iter()
        .filter_map(|(name, value)| Some([name, value?]));
    let mut all: Vec<&[u8]> = vec![VERSION, kind, &name];
    all.extend(parts.flatten());
    Reuse::Scope(Scope::of(&all))
}

/// The value of [`PREFIX_SCOPE`](super::body::PREFIX_SCOPE) with which this server asks another one for `client`, which has
/// sent `part` itself if another server asks. `key` is this server's secret: no other program can name the scope of a client.
pub(crate) fn of_client(key: &str, client: &ClientKey, part: Option<&[u8]>) -> String {
    let (kind, name) = identity(client);
    let mut all: Vec<&[u8]> = vec![VERSION, b"front", key.as_bytes(), kind, &name];
    all.extend(part);
    let scope = Scope::of(&all);
    let digits = scope.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn identity(client: &ClientKey) -> (&'static [u8], Vec<u8>) {
    match client {
        ClientKey::Certificate(name) => (b"certificate", name.as_bytes().to_vec()),
        ClientKey::Loopback => (b"loopback", Vec::new()),
        ClientKey::LoopbackWithToken => (b"loopback with token", Vec::new()),
        ClientKey::Ipv4(address) => (b"ipv4", address.octets().to_vec()),
        ClientKey::Ipv6Network(network) => (b"ipv6", network.to_be_bytes().to_vec()),
        ClientKey::Ipv6Link(interface) => (b"ipv6 link", interface.to_be_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn clients_of_another_server_are_separate() {
        let front = ClientKey::Certificate("front".into());
        let (one, other) = (ClientKey::Loopback, ClientKey::LoopbackWithToken);
        for sharing in [PrefixCacheScope::PerClient, PrefixCacheScope::Shared] {
            let scopes = [&one, &other].map(|client| {
                let part = of_client("key", client, None);
                reuse(sharing, &front, Some(part.as_bytes()), None)
            });
            assert_ne!(scopes[0], scopes[1]);
            assert!(!scopes.contains(&reuse(sharing, &front, None, None)));
            let part = of_client("key", &one, None);
            let salted = reuse(sharing, &front, None, Some(&part));
            assert!(!scopes.contains(&salted), "a part equals a salt");
        }
    }

    #[test]
    fn client_of_a_front_cannot_name_the_scope_of_another() {
        let (ada, eve) = (ClientKey::Loopback, ClientKey::LoopbackWithToken);
        let scope = of_client("key", &ada, None);
        // A client sends the scope of another one, or guesses it without the key.
        for part in [scope.clone(), of_client("", &ada, None)] {
            assert_ne!(of_client("key", &eve, Some(part.as_bytes())), scope);
        }
        assert_ne!(of_client("", &ada, None), scope);
        let part = Some(&b"x"[..]);
        assert_eq!(of_client("key", &ada, part), of_client("key", &ada, part));
        assert_ne!(of_client("key", &ada, part), scope);
    }

    #[test]
    fn scope_separates_clients_and_salts() {
        let clients = [
            ClientKey::Certificate("laptop".into()),
            ClientKey::Certificate("".into()),
            ClientKey::Loopback,
            ClientKey::LoopbackWithToken,
            ClientKey::Ipv4([192, 0, 2, 1].into()),
            ClientKey::Ipv4([192, 0, 2, 2].into()),
            ClientKey::Ipv6Network(1),
            ClientKey::Ipv6Link(1),
        ];
        let mut scopes = HashSet::new();
        for client in &clients {
            for salt in [None, Some("a"), Some("b"), Some("")] {
                let scope = reuse(PrefixCacheScope::PerClient, client, None, salt);
                assert_eq!(
                    scope,
                    reuse(PrefixCacheScope::PerClient, client, None, salt)
                );
                let Reuse::Scope(scope) = scope else {
                    panic!("{client:?}");
                };
                assert!(scopes.insert(scope), "{client:?} {salt:?}");
            }
        }
        assert!(!scopes.contains(&Scope::default()));
    }

    #[test]
    fn scope_of_shared_prefixes_depends_on_the_salt_alone() {
        let shared = |client, salt| reuse(PrefixCacheScope::Shared, &client, None, salt);
        let (one, other) = (ClientKey::Loopback, ClientKey::Ipv4([192, 0, 2, 1].into()));
        assert_eq!(shared(one.clone(), None), Reuse::Scope(Scope::default()));
        assert_eq!(shared(other.clone(), None), Reuse::Scope(Scope::default()));
        assert_eq!(
            shared(one.clone(), Some("a")),
            shared(other.clone(), Some("a"))
        );
        assert_ne!(shared(one.clone(), Some("a")), shared(one, None));
        let off = reuse(PrefixCacheScope::Off, &other, None, Some("a"));
        assert_eq!(off, Reuse::Off);
    }
}
