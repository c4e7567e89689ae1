//! The listening sockets of a server.

use std::io;

use sanctum_config::ListenAddress;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::accept;
use super::addresses;
use super::http_server::HttpServer;
use super::transport::{BoundAddress, Transport, bind};

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", fix(.source))]
pub(crate) struct ListenError {
    address: ListenAddress,
    source: io::Error,
}

fn fix(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop the program that listens there, or choose another port with --port (0 chooses a free one)"
        }
        io::ErrorKind::PermissionDenied => {
            "; only root may use ports below 1024, choose another with --port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// Sockets, open or to be opened.
pub(crate) struct Listeners(Vec<Listener>);

struct Listener {
    address: ListenAddress,
    transport: Transport,
    /// None while it cannot be opened.
    socket: Option<TcpListener>,
}

impl Listeners {
    /// Opens the sockets. Those that can be reached over loopback must open; the others are opened later if they cannot be
    /// now.
    ///
    /// # Errors
    /// If one that can be reached over loopback cannot be opened.
    pub(crate) async fn open(
        addresses: impl IntoIterator<Item = (ListenAddress, Transport)>,
    ) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        for (address, transport) in addresses {
            let socket = match bind(&address).await {
                Ok(socket) => Some(socket),
                Err(source) if addresses::is_local(&address) => {
                    return Err(ListenError { address, source });
                }
                Err(error) => {
                    tracing::warn!(
                        %address,
                        %error,
                        "cannot listen on this address yet; it is retried in the background until it works"
                    );
                    None
                }
            };
            listeners.push(Listener {
                address,
                transport,
                socket,
            });
        }
        Ok(Self(listeners))
    }

    /// The sockets that are open.
    ///
    /// # Errors
    /// If the system does not know a socket's address.
    pub(crate) fn endpoints(&self) -> io::Result<Vec<BoundAddress>> {
        let open = self.0.iter();
        open.filter_map(|listener| Some((listener, listener.socket.as_ref()?)))
            .map(|(listener, socket)| {
                Ok(BoundAddress {
                    address: socket.local_addr()?,
                    secure: listener.transport.is_secure(),
                })
            })
            .collect()
    }

    /// Serves until the server drains and the last connection is closed: one task for each listener.
    pub(crate) fn serve(self, server: &HttpServer) -> JoinSet<()> {
        let serve = |listener: Listener| {
            let Listener {
                address,
                transport,
                socket,
            } = listener;
            accept::run(address, transport, socket, server.clone())
        };
        self.0.into_iter().map(serve).collect()
    }
}
