//! A listener's life: it is bound, accepts, and is closed when the server drains.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use sanctum_config::ListenAddress;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::{Door, Endpoint, Listener, Site, bind, connection};
use crate::client_key::ClientKey;

/// An address that could not be bound is tried again after so long, the first time sooner.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
/// Where the system cannot give another socket, trying at once would only burn a core.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts connections until the server drains, then waits for those that there are.
pub async fn run(listener: Listener, site: Site) {
    let mut draining = pin!(site.shutdown.draining());
    let Listener {
        address,
        door,
        socket,
    } = listener;
    let socket = match socket {
        Some(socket) => socket,
        None => tokio::select! {
            socket = bind_later(&address, &door) => socket,
            () = &mut draining => return,
        },
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            // Before the next: under a flood there always is one.
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((socket, address)) => welcome(socket, address, &door, &site, &mut connections),
                Err(error) => recover(error, &site).await,
            },
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Tries until it works.
async fn bind_later(address: &ListenAddress, door: &Door) -> TcpListener {
    let mut pause = FIRST_RETRY;
    loop {
        sleep(pause).await;
        pause = RETRY;
        match bind(address).await {
            Ok(socket) => {
                let secure = matches!(door, Door::Tls(_));
                let endpoint = socket.local_addr();
                let endpoint = endpoint.map(|address| Endpoint { address, secure }.to_string());
                let address = endpoint.unwrap_or_else(|_| address.to_string());
                tracing::info!(address, "now listening there too");
                return socket;
            }
            Err(error) => tracing::debug!(%address, %error, "still cannot listen there"),
        }
    }
}

/// Gives a connection a seat and a task, or closes it.
fn welcome(
    socket: TcpStream,
    address: SocketAddr,
    door: &Door,
    site: &Site,
    connections: &mut JoinSet<()>,
) {
    let secure = matches!(door, Door::Tls(_));
    match site.seats.take(address, secure) {
        Ok(seat) => {
            let connection = connection::serve(socket, address, seat, door.clone(), site.clone());
            connections.spawn(connection);
        }
        Err(full) => {
            site.metrics.connection_refused(full.reason());
            let client = ClientKey::of_address(address);
            if let Some(left_out) = site.log_limiter.permit(Some(&client)) {
                tracing::warn!(
                    peer = %address,
                    reason = full.reason(),
                    left_out,
                    "a connection was closed: there are too many; see --max-connections"
                );
            }
        }
    }
}

/// A client that went away again is its own business; all else is the system's, which needs a moment.
async fn recover(error: io::Error, site: &Site) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    if let Some(left_out) = site.log_limiter.permit(None) {
        tracing::error!(%error, left_out, "a connection cannot be accepted; is `ulimit -n` too low?");
    }
    site.metrics.connection_refused("system");
    site.seats.shed();
    sleep(BREATH).await;
}
