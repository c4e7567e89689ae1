//! Which address of a server a watchdog uses, and what it shows there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sanctum_config::fleet::{Fleet, Loopback, Server};
use sanctum_config::{Home, Label, ListenAddress, NoHome};

/// A server as one watchdog reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in fleet.toml.
    pub server: Label,
    /// The host it runs on.
    pub host: Label,
    /// Whether the watchdog runs on that host too.
    pub on_box: bool,
    /// `http://127.0.0.1:1337`.
    pub base: String,
    /// What is shown there.
    pub access: Access,
}

/// What a watchdog shows to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: plain HTTP over loopback, or a server that asks nobody.
    Open,
    /// Plain HTTP with the token in this file.
    Bearer(PathBuf),
    /// TLS with this watchdog's certificate.
    Mutual {
        /// The fleet's CAs.
        ca: PathBuf,
        /// The watchdog's certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// A server that a watchdog cannot reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not said which.
    #[error(
        "[watch.{0}] has no `target`, and there is not exactly one server; write `target = \"NAME\"`"
    )]
    None(Label),
    /// It listens where only its own host can reach it.
    #[error(
        "[servers.{server}] listens on loopback only and [watch.{watch}] runs on another host; give the server an address in `tls_listen`"
    )]
    Loopback {
        /// The server.
        server: Label,
        /// The watchdog.
        watch: Label,
    },
    /// It listens for TLS only, and the watchdog has no certificate.
    #[error(
        "[servers.{server}] listens for TLS only and {} is missing; on the CA's host type: sanctum-pki client {watch}", certificate.display()
    )]
    NoCertificate {
        /// The server.
        server: Label,
        /// The watchdog.
        watch: Label,
        /// Where its certificate belongs.
        certificate: PathBuf,
    },
    /// A path with `~` and no HOME.
    #[error(transparent)]
    Home(#[from] NoHome),
}

impl Target {
    /// The server that `[watch.NAME]` names, or the only one. `config` is the file that `fleet` was read from.
    ///
    /// # Errors
    /// If there is no such server, or no way to it.
    pub fn of(
        fleet: &Fleet,
        config: &Path,
        home: &Home,
        watch: &Label,
    ) -> Result<Self, TargetError> {
        let section = fleet.watch.get(watch);
        let named = section.and_then(|section| section.target.as_ref());
        let only = || {
            let mut servers = fleet.servers.iter();
            servers.next().filter(|_| servers.next().is_none())
        };
        let (name, server) = named
            .and_then(|name| fleet.servers.get_key_value(name))
            .or_else(only)
            .ok_or_else(|| TargetError::None(watch.clone()))?;
        // A watchdog that no host lists is being tried out beside its server.
        let on_box = fleet.host_of(watch).is_none_or(|host| *host == server.host);
        let token = match &server.auth.token_file {
            Some(path) => Some(path.beside(config)?),
            None => None,
        };
        let target = |base: String, access| Self {
            server: name.clone(),
            host: server.host.clone(),
            on_box,
            base,
            access,
        };
        let bearer = |token: &Option<PathBuf>| token.clone().map_or(Access::Open, Access::Bearer);
        if on_box && let Some(address) = server.listen.iter().find_map(loopback) {
            let access = match server.auth.loopback {
                Loopback::Bypass => Access::Open,
                Loopback::Required => bearer(&token),
            };
            return Ok(target(format!("http://{address}"), access));
        }
        let clients = home.certs().join("clients");
        let certificate = clients.join(format!("{watch}.crt"));
        let outside = |listen: &[ListenAddress]| outside(fleet, server, listen, on_box);
        let encrypted = outside(&server.tls_listen);
        if let Some(address) = &encrypted
            && certificate.exists()
        {
            let access = Access::Mutual {
                ca: home.certs().join("ca.crt"),
                key: clients.join(format!("{watch}.key")),
                certificate,
            };
            return Ok(target(format!("https://{address}"), access));
        }
        match (outside(&server.listen), encrypted) {
            (Some(address), _) => Ok(target(format!("http://{address}"), bearer(&token))),
            (None, Some(_)) => Err(TargetError::NoCertificate {
                server: name.clone(),
                watch: watch.clone(),
                certificate,
            }),
            (None, None) => Err(TargetError::Loopback {
                server: name.clone(),
                watch: watch.clone(),
            }),
        }
    }
}

/// The address by which the host itself reaches a listener; none if that takes the network.
fn loopback(listen: &ListenAddress) -> Option<SocketAddr> {
    let ip = match listen.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, listen.port()))
}

/// `host:port` of the first listener that others can reach; the host itself reaches all of them.
fn outside(
    fleet: &Fleet,
    server: &Server,
    listen: &[ListenAddress],
    on_box: bool,
) -> Option<String> {
    listen.iter().find_map(|address| {
        let ip = address.ip();
        if on_box && let Some(address) = loopback(address) {
            return Some(address.to_string());
        }
        // A zone is an interface of the server's host, and a URL carries none.
        if ip.is_loopback() || address.zone().is_some() {
            return None;
        }
        if !ip.is_unspecified() {
            return Some(address.to_string());
        }
        let host = &fleet.hosts.get(&server.host)?.address;
        Some(match host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("[{ip}]:{}", address.port()),
            Err(_) => format!("{host}:{}", address.port()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = r#"
        [hosts.mini]
        address = "100.64.0.25"
        agents = ["server", "guardian", "open", "strict"]
        [hosts.laptop]
        address = "fd7a::55"
        agents = ["offbox", "shadow", "back"]
        [servers.server]
        host = "mini"
        listen = ["100.64.0.25:1337", "127.0.0.1:1337"]
        tls_listen = ["100.64.0.25:1338"]
        auth = { token_file = "secrets/server.token" }
        [servers.shadow]
        host = "laptop"
        listen = ["[::]:8902"]
        [servers.strict]
        host = "mini"
        listen = ["0.0.0.0:9000"]
        auth = { token_file = "/s/strict.token", loopback = "required" }
        [servers.local]
        host = "mini"
        listen = ["127.0.0.1:9001"]
        [watch.guardian]
        target = "server"
        [watch.offbox]
        target = "server"
        [watch.back]
        target = "local"
        [watch.open]
        target = "shadow"
        [watch.close]
        target = "strict"
        [watch.lost]
    "#;

    fn target(watch: &str, home: &Path) -> Result<Target, TargetError> {
        let config = Path::new("/etc/fleet/fleet.toml");
        let fleet = Fleet::parse(FLEET, config).unwrap();
        let home = Home::new(home.to_owned(), home.to_owned());
        Target::of(&fleet, config, &home, &watch.parse().unwrap())
    }

    #[test]
    fn on_its_own_host_a_server_is_reached_over_loopback() {
        let home = tempfile::tempdir().unwrap();
        let guardian = target("guardian", home.path()).unwrap();
        assert_eq!(guardian.base, "http://127.0.0.1:1337");
        assert_eq!((guardian.on_box, guardian.access), (true, Access::Open));
        // In no host's list: tried out by hand, here.
        let close = target("close", home.path()).unwrap();
        assert_eq!(close.base, "http://127.0.0.1:9000");
        assert_eq!(close.access, Access::Bearer("/s/strict.token".into()));
    }

    #[test]
    fn from_elsewhere_with_a_certificate_or_else_the_token() {
        let home = tempfile::tempdir().unwrap();
        let offbox = target("offbox", home.path()).unwrap();
        assert_eq!(offbox.base, "http://100.64.0.25:1337");
        assert_eq!(
            offbox.access,
            Access::Bearer("/etc/fleet/secrets/server.token".into())
        );
        let clients = home.path().join("certs/clients");
        std::fs::create_dir_all(&clients).unwrap();
        std::fs::write(clients.join("offbox.crt"), "").unwrap();
        let offbox = target("offbox", home.path()).unwrap();
        assert_eq!(offbox.base, "https://100.64.0.25:1338");
        assert!(matches!(offbox.access, Access::Mutual { .. }));
        assert!(!offbox.on_box);
        // A server that listens everywhere is reached at its host's address.
        assert_eq!(
            target("open", home.path()).unwrap().base,
            "http://[fd7a::55]:8902"
        );
    }

    #[test]
    fn where_there_is_no_way_it_says_so() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(
            target("back", home.path()),
            Err(TargetError::Loopback { .. })
        ));
        assert!(matches!(
            target("lost", home.path()),
            Err(TargetError::None(_))
        ));
    }
}
