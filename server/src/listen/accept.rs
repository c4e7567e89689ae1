//! The life of a listener: it binds, accepts connections, and closes when the server drains.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use sanctum_config::ListenAddress;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::connection;
use super::http_server::HttpServer;
use super::transport::{BoundAddress, Transport, bind};
use crate::client_key::ClientKey;

/// An address that could not be bound is retried after this time, the first time sooner.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
/// Where the system has no socket to give, an immediate retry would only use a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the server drains, then waits for the open ones. Without a `socket` the address is bound
/// first.
pub(crate) async fn run(
    address: ListenAddress,
    transport: Transport,
    socket: Option<TcpListener>,
    server: HttpServer,
) {
    let mut draining = pin!(server.shutdown.draining());
    let socket = match socket {
        Some(socket) => socket,
        None => tokio::select! {
            socket = bind_later(&address, &transport) => socket,
            () = &mut draining => return,
        },
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            // Before the next connection: under a flood there always is one.
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((socket, address)) => {
                    serve(socket, address, &transport, &server, &mut connections);
                }
                Err(error) => handle_error(error, &server).await,
            },
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Retries until the address is bound.
async fn bind_later(address: &ListenAddress, transport: &Transport) -> TcpListener {
    let mut pause = FIRST_RETRY;
    loop {
        sleep(pause).await;
        pause = RETRY;
        match bind(address).await {
            Ok(socket) => {
                let secure = transport.is_secure();
                let endpoint = socket.local_addr();
                let endpoint = endpoint.map(|address| BoundAddress { address, secure }.to_string());
                let address = endpoint.unwrap_or_else(|_| address.to_string());
                tracing::info!(address, "now listening on this address too");
                return socket;
            }
            Err(error) => tracing::debug!(%address, %error, "still cannot listen on this address"),
        }
    }
}

/// Starts a task for the connection, or closes it where there are too many.
fn serve(
    socket: TcpStream,
    address: SocketAddr,
    transport: &Transport,
    server: &HttpServer,
    connections: &mut JoinSet<()>,
) {
    match server.limit.acquire(address, transport.is_secure()) {
        Ok(permit) => {
            let (transport, server) = (transport.clone(), server.clone());
            connections.spawn(connection::serve(
                socket, address, permit, transport, server,
            ));
        }
        Err(full) => {
            server.refused(address, full.reason());
            let client = ClientKey::of_address(address);
            if let Some(left_out) = server.log_limiter.permit(Some(&client)) {
                tracing::warn!(
                    peer = %address,
                    reason = full.reason(),
                    left_out,
                    "a connection was closed: too many are open; see --max-connections"
                );
            }
        }
    }
}

/// A client that disconnected is no error of the server; after any other error the system needs a pause.
async fn handle_error(error: io::Error, server: &HttpServer) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    if let Some(left_out) = server.log_limiter.permit(None) {
        tracing::error!(%error, left_out, "a connection cannot be accepted; is `ulimit -n` too low?");
    }
    server.metrics.connection_refused("system");
    server.limit.evict_one();
    sleep(ACCEPT_PAUSE).await;
}
