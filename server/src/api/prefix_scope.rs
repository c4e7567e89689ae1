//! Whose computed prefixes a request may reuse, and who may reuse its own.

use sanctum_config::fleet::PrefixCacheScope;
use sanctum_engine::prefix::{Reuse, Scope};

use crate::client_key::ClientKey;

/// The first part of every hash: another version of this function makes other scopes.
const VERSION: &[u8] = b"sanctum prefix scope 1";

/// What a request of `client` with this `cache_salt` may reuse.
///
/// Requests without a salt to a server that shares everything are in the scope of zeros. All other scopes are hashes of
/// what distinguishes them, which stay the same across restarts.
pub(crate) fn reuse(sharing: PrefixCacheScope, client: &ClientKey, salt: Option<&str>) -> Reuse {
    let client = match sharing {
        PrefixCacheScope::Off => return Reuse::Off,
        PrefixCacheScope::Shared => None,
        PrefixCacheScope::PerClient => Some(client),
    };
    if client.is_none() && salt.is_none() {
        return Reuse::Scope(Scope::default());
    }
    let (kind, name): (&[u8], Vec<u8>) = match client {
        None => (b"shared", Vec::new()),
        Some(ClientKey::Certificate(name)) => (b"certificate", name.as_bytes().to_vec()),
        Some(ClientKey::Loopback) => (b"loopback", Vec::new()),
        Some(ClientKey::LoopbackWithToken) => (b"loopback with token", Vec::new()),
        Some(ClientKey::Ipv4(address)) => (b"ipv4", address.octets().to_vec()),
        Some(ClientKey::Ipv6Network(network)) => (b"ipv6", network.to_be_bytes().to_vec()),
        Some(ClientKey::Ipv6Link(interface)) => (b"ipv6 link", interface.to_be_bytes().to_vec()),
    };
    Reuse::Scope(match salt {
        None => Scope::of(&[VERSION, kind, &name]),
        Some(salt) => Scope::of(&[VERSION, kind, &name, salt.as_bytes()]),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

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
                let scope = reuse(PrefixCacheScope::PerClient, client, salt);
                assert_eq!(scope, reuse(PrefixCacheScope::PerClient, client, salt));
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
        let shared = |client, salt| reuse(PrefixCacheScope::Shared, &client, salt);
        let (one, other) = (ClientKey::Loopback, ClientKey::Ipv4([192, 0, 2, 1].into()));
        assert_eq!(shared(one.clone(), None), Reuse::Scope(Scope::default()));
        assert_eq!(shared(other.clone(), None), Reuse::Scope(Scope::default()));
        assert_eq!(
            shared(one.clone(), Some("a")),
            shared(other.clone(), Some("a"))
        );
        assert_ne!(shared(one.clone(), Some("a")), shared(one, None));
        let off = reuse(PrefixCacheScope::Off, &other, Some("a"));
        assert_eq!(off, Reuse::Off);
    }
}
