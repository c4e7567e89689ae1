//! The address of a server that a caller uses, and the credentials that it presents there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sanctum_config::fleet::{Fleet, Loopback, Server};
use sanctum_config::{Home, Label, ListenAddress, NoHome};

/// A server as one caller reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEndpoint {
    /// The server's name in fleet.toml.
    pub server: Label,
    /// The host that it runs on.
    pub host: Label,
    /// Whether the caller runs on that host too.
    pub on_box: bool,
    /// The base URL, such as `http://127.0.0.1:1337`.
    pub base: String,
    /// The credentials that the caller presents there.
    pub credentials: Credentials,
    /// The base URL of the server's plain HTTP listener, if the caller reaches one.
    pub plain: Option<String>,
}

/// The credentials that a caller presents to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Plain HTTP without credentials: over loopback, or to a server that requires none.
    None,
    /// Plain HTTP with the bearer token in this file.
    Bearer(PathBuf),
    /// Mutual TLS.
    Mutual {
        /// The fleet's CAs.
        ca: PathBuf,
        /// The caller's certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// A server that a caller cannot reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The watchdog does not name a server.
    #[error(
        "[watch.{0}] has no `target`, and fleet.toml does not have exactly one server; add `target = \"NAME\"`"
    )]
    NoServer(Label),
    /// fleet.toml has no such server.
    #[error("there is no [servers.{0}] in fleet.toml")]
    UnknownServer(Label),
    /// The server's own host alone can reach it.
    #[error(
        "[servers.{server}] listens on loopback only, and `{caller}` is on another host; give the server an address in \
         `tls_listen`"
    )]
    LoopbackOnly {
        /// The server.
        server: Label,
        /// The watchdog or host that calls.
        caller: Label,
    },
    /// The server listens for TLS only, and the caller has no certificate.
    #[error(
        "[servers.{server}] listens for TLS only, and {} is missing; on the CA's host, run `sanctum-pki client {caller}`",
        certificate.display()
    )]
    NoCertificate {
        /// The server.
        server: Label,
        /// The watchdog or host that calls.
        caller: Label,
        /// The path of the certificate.
        certificate: PathBuf,
    },
    /// A path with `~`, and no HOME.
    #[error(transparent)]
    Home(#[from] NoHome),
}

/// A caller: what decides the address and the credentials.
struct Caller<'a> {
    /// For messages, and the name of its certificate.
    name: &'a Label,
    fleet: &'a Fleet,
    config: &'a Path,
    home: &'a Home,
    /// Whether it runs on the server's host.
    on_box: bool,
}

impl ServerEndpoint {
    /// The server of `[watch.NAME]`, as that watchdog reaches it. `config` is the file that `fleet` was read from.
    ///
    /// # Errors
    /// If the watchdog has no server, or no way to reach it.
    pub fn for_watchdog(
        fleet: &Fleet,
        config: &Path,
        home: &Home,
        watch: &Label,
    ) -> Result<Self, EndpointError> {
        let section = fleet.watch.get(watch);
        let server = section
            .and_then(|section| fleet.watched_server(section))
            .ok_or_else(|| EndpointError::NoServer(watch.clone()))?;
        let runs_on = fleet.host_of(watch);
        let caller = Caller {
            name: watch,
            fleet,
            config,
            home,
            // A watchdog that no host lists is being tried out beside its server.
            on_box: runs_on.is_none_or(|host| fleet.host_of(server) == Some(host)),
        };
        caller.find(server)
    }

    /// A server as a program on `host`, which must be this host, reaches it. From another host than the server's, it
    /// presents the certificate of the first agent of `host` that has one.
    ///
    /// # Errors
    /// If there is no such server, or no way to reach it.
    pub fn from_host(
        fleet: &Fleet,
        config: &Path,
        home: &Home,
        host: &Label,
        server: &Label,
    ) -> Result<Self, EndpointError> {
        let agents = || {
            fleet
                .hosts
                .get(host)
                .into_iter()
                .flat_map(|host| &host.agents)
        };
        let with_certificate = agents().find(|agent| certificate(home, agent).exists());
        let watchdog = agents().find(|agent| fleet.watch.contains_key(*agent));
        let caller = Caller {
            name: with_certificate.or(watchdog).unwrap_or(host),
            fleet,
            config,
            home,
            on_box: fleet.host_of(server) == Some(host),
        };
        caller.find(server)
    }

    /// An instance of `server` at a loopback address that requires no credentials.
    pub fn loopback(address: SocketAddr, server: &Label, host: &Label) -> Self {
        let base = format!("http://{address}");
        Self {
            server: server.clone(),
            host: host.clone(),
            on_box: true,
            plain: Some(base.clone()),
            base,
            credentials: Credentials::None,
        }
    }

    /// Where a standby answers that serves in this server's place: it takes the plain HTTP listener, and is another program
    /// that must not see the server's token. None if the caller reaches only TLS, which a standby does not speak.
    pub fn of_standby(&self) -> Option<Self> {
        Some(Self {
            base: self.plain.clone()?,
            credentials: Credentials::None,
            ..self.clone()
        })
    }
}

impl Caller<'_> {
    fn find(&self, name: &Label) -> Result<ServerEndpoint, EndpointError> {
        let server = self.fleet.servers.get(name);
        let server = server.ok_or_else(|| EndpointError::UnknownServer(name.clone()))?;
        let token = match &server.auth.token_file {
            Some(path) => Some(path.beside(self.config)?),
            None => None,
        };
        let bearer = || token.clone().map_or(Credentials::None, Credentials::Bearer);
        let over_loopback = server
            .listen
            .iter()
            .find_map(loopback)
            .filter(|_| self.on_box);
        let plain = match over_loopback {
            Some(address) => Some(address.to_string()),
            None => self.reachable(server, &server.listen),
        };
        let endpoint = |base: String, credentials| ServerEndpoint {
            server: name.clone(),
            host: server.host.clone(),
            on_box: self.on_box,
            base,
            credentials,
            plain: plain.as_ref().map(|address| format!("http://{address}")),
        };
        if let Some(address) = over_loopback {
            let credentials = match server.auth.loopback {
                Loopback::Bypass => Credentials::None,
                Loopback::Required => bearer(),
            };
            return Ok(endpoint(format!("http://{address}"), credentials));
        }
        let certificate = certificate(self.home, self.name);
        let encrypted = self.reachable(server, &server.tls_listen);
        if let Some(address) = &encrypted
            && certificate.exists()
        {
            let credentials = Credentials::Mutual {
                ca: self.home.certs().join("ca.crt"),
                key: certificate.with_extension("key"),
                certificate,
            };
            return Ok(endpoint(format!("https://{address}"), credentials));
        }
        let (server, caller) = (name.clone(), self.name.clone());
        match (&plain, encrypted) {
            (Some(address), _) => Ok(endpoint(format!("http://{address}"), bearer())),
            (None, Some(_)) => Err(EndpointError::NoCertificate {
                server,
                caller,
                certificate,
            }),
            (None, None) => Err(EndpointError::LoopbackOnly { server, caller }),
        }
    }

    /// `host:port` of the first listener that the caller reaches.
    fn reachable(&self, server: &Server, listen: &[ListenAddress]) -> Option<String> {
        listen.iter().find_map(|address| {
            let ip = address.ip();
            if self.on_box
                && let Some(address) = loopback(address)
            {
                return Some(address.to_string());
            }
            // A zone is an interface of the server's host, and a URL carries none.
            if ip.is_loopback() || address.zone().is_some() {
                return None;
            }
            if !ip.is_unspecified() {
                return Some(address.to_string());
            }
            let host = &self.fleet.hosts.get(&server.host)?.address;
            Some(match host.parse::<Ipv6Addr>() {
                Ok(ip) => format!("[{ip}]:{}", address.port()),
                Err(_) => format!("{host}:{}", address.port()),
            })
        })
    }
}

/// The path of a client's certificate.
fn certificate(home: &Home, client: &Label) -> PathBuf {
    home.certs().join("clients").join(format!("{client}.crt"))
}

/// The loopback address of a listener; none if it listens on another interface only.
fn loopback(listen: &ListenAddress) -> Option<SocketAddr> {
    let ip = match listen.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, listen.port()))
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
        [watch.sealed]
        target = "encrypted"
        [servers.encrypted]
        host = "mini"
        listen = []
        tls_listen = ["100.64.0.25:9002"]
    "#;

    fn in_fleet<T>(home: &Path, find: impl FnOnce(&Fleet, &Path, &Home) -> T) -> T {
        let config = Path::new("/etc/fleet/fleet.toml");
        let fleet = Fleet::parse(FLEET, config).unwrap();
        let home = Home::new(home.to_owned(), home.to_owned());
        find(&fleet, config, &home)
    }

    fn for_watchdog(watch: &str, home: &Path) -> Result<ServerEndpoint, EndpointError> {
        in_fleet(home, |fleet, config, home| {
            ServerEndpoint::for_watchdog(fleet, config, home, &watch.parse().unwrap())
        })
    }

    fn from_host(host: &str, server: &str, home: &Path) -> Result<ServerEndpoint, EndpointError> {
        in_fleet(home, |fleet, config, home| {
            let (host, server) = (host.parse().unwrap(), server.parse().unwrap());
            ServerEndpoint::from_host(fleet, config, home, &host, &server)
        })
    }

    fn certificate_of(client: &str, home: &Path) {
        let clients = home.join("certs/clients");
        std::fs::create_dir_all(&clients).unwrap();
        std::fs::write(clients.join(format!("{client}.crt")), "").unwrap();
    }

    #[test]
    fn server_on_the_callers_host_is_reached_over_loopback() {
        let home = tempfile::tempdir().unwrap();
        let guardian = for_watchdog("guardian", home.path()).unwrap();
        assert_eq!(guardian.base, "http://127.0.0.1:1337");
        assert!(guardian.on_box);
        assert_eq!(guardian.credentials, Credentials::None);
        assert_eq!(from_host("mini", "server", home.path()).unwrap(), guardian);
        // In no host's list: tried out by hand, here.
        let close = for_watchdog("close", home.path()).unwrap();
        assert_eq!(close.base, "http://127.0.0.1:9000");
        let token = Credentials::Bearer("/s/strict.token".into());
        assert_eq!(close.credentials, token);
    }

    #[test]
    fn server_on_another_host_is_reached_with_a_certificate_or_else_the_token() {
        let home = tempfile::tempdir().unwrap();
        let offbox = for_watchdog("offbox", home.path()).unwrap();
        assert_eq!(offbox.base, "http://100.64.0.25:1337");
        let token = Credentials::Bearer("/etc/fleet/secrets/server.token".into());
        assert_eq!(offbox.credentials, token);
        certificate_of("offbox", home.path());
        let offbox = for_watchdog("offbox", home.path()).unwrap();
        assert_eq!(offbox.base, "https://100.64.0.25:1338");
        assert!(matches!(offbox.credentials, Credentials::Mutual { .. }));
        assert!(!offbox.on_box);
        // A server that listens everywhere is reached at its host's address.
        let open = for_watchdog("open", home.path()).unwrap();
        assert_eq!(open.base, "http://[fd7a::55]:8902");
    }

    #[test]
    fn program_on_another_host_presents_the_certificate_of_an_agent_there() {
        let home = tempfile::tempdir().unwrap();
        certificate_of("back", home.path());
        let endpoint = from_host("laptop", "server", home.path()).unwrap();
        assert_eq!(endpoint.base, "https://100.64.0.25:1338");
        let Credentials::Mutual { key, .. } = endpoint.credentials else {
            panic!("{:?}", endpoint.credentials);
        };
        assert_eq!(key, home.path().join("certs/clients/back.key"));
        let error = from_host("laptop", "local", home.path()).unwrap_err();
        assert!(error.to_string().contains("loopback only"), "{error}");
    }

    #[test]
    fn standby_is_reached_at_the_plain_listener_without_the_servers_credentials() {
        let home = tempfile::tempdir().unwrap();
        certificate_of("offbox", home.path());
        let standby = |watch| for_watchdog(watch, home.path()).unwrap().of_standby();
        for (watch, base) in [
            ("offbox", "http://100.64.0.25:1337"),
            ("close", "http://127.0.0.1:9000"),
        ] {
            let standby = standby(watch).unwrap();
            assert_eq!(standby.base, base);
            assert_eq!(standby.credentials, Credentials::None);
        }
        let sealed = for_watchdog("sealed", home.path()).unwrap_err();
        assert!(matches!(sealed, EndpointError::NoCertificate { .. }));
        certificate_of("sealed", home.path());
        assert_eq!(standby("sealed"), None);
    }

    #[test]
    fn server_that_cannot_be_reached_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(
            for_watchdog("back", home.path()),
            Err(EndpointError::LoopbackOnly { .. })
        ));
        assert!(matches!(
            for_watchdog("lost", home.path()),
            Err(EndpointError::NoServer(_))
        ));
    }
}
