//! What happens to a request when its client disconnects or the server stops, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sanctum_engine::schedule::FinishReason;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fixture::{TestServer, finished, token};
use crate::api::AppState;
use crate::listen::{HttpServer, Listeners, Transport};

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(5);

/// Serves a server on a socket.
async fn listen(server: &TestServer) -> (SocketAddr, tokio::task::JoinSet<()>) {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::open([(free.into(), Transport::Plain)])
        .await
        .unwrap();
    let address = listeners.endpoints().unwrap()[0].address;
    let AppState {
        metrics, shutdown, ..
    } = &*server.app;
    let http = HttpServer::new(
        server.router.clone(),
        shutdown.clone(),
        metrics.clone(),
        Arc::default(),
        100,
    );
    (address, listeners.serve(&http))
}

async fn ask(address: SocketAddr, extra: Value) -> TcpStream {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Reads until the text has come.
async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        loop {
            let read = socket.read(&mut buffer).await.unwrap();
            all.extend(&buffer[..read]);
            let so_far = String::from_utf8_lossy(&all).into_owned();
            if so_far.contains(text) || read == 0 {
                return so_far;
            }
        }
    };
    let all = timeout(SOON, read).await.expect("the text comes");
    assert!(all.contains(text), "{text} is not in {all}");
    all
}

#[tokio::test]
async fn disconnecting_from_a_plain_request_cancels_it() {
    let server = TestServer::new();
    let (address, _connections) = listen(&server).await;
    let socket = ask(address, json!({})).await;
    let job = server.job().await;
    assert!(!job.events.is_closed());
    drop(socket);
    timeout(SOON, job.events.closed())
        .await
        .expect("it is cancelled");
}

#[tokio::test]
async fn disconnecting_from_a_stream_cancels_it() {
    let server = TestServer::new();
    let (address, _connections) = listen(&server).await;
    let mut socket = ask(address, json!({ "stream": true })).await;
    let job = server.job().await;
    job.events.try_send(token("first")).unwrap();
    read_until(&mut socket, "first").await;
    drop(socket);
    timeout(SOON, job.events.closed())
        .await
        .expect("it is cancelled");
    let page = server.get("/metrics").await.text;
    assert!(page.contains(r#"sanctum_generations_total{model="council",outcome="cancelled"} 1"#));
}

#[tokio::test]
async fn draining_server_finishes_running_requests_and_accepts_no_new_ones() {
    let server = TestServer::new();
    let (address, mut connections) = listen(&server).await;
    let mut socket = ask(address, json!({ "stream": true })).await;
    let job = server.job().await;
    job.events.try_send(token("first")).unwrap();
    read_until(&mut socket, "first").await;

    server.app.shutdown.drain();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(address).await.is_err());
    job.events
        .try_send(finished(FinishReason::Stop, "last"))
        .unwrap();
    let rest = read_until(&mut socket, "[DONE]").await;
    assert!(rest.contains("last"));
    let end = timeout(SOON, connections.join_next()).await;
    assert!(matches!(end, Ok(Some(Ok(())))));
}

#[tokio::test]
async fn stream_that_outlives_the_drain_limit_ends_with_an_error() {
    let server = TestServer::new();
    let (address, mut connections) = listen(&server).await;
    let mut stream = ask(address, json!({ "stream": true })).await;
    let job = server.job().await;
    job.events.try_send(token("first")).unwrap();
    read_until(&mut stream, "first").await;
    let mut plain = ask(address, json!({})).await;
    let _waiting = server.job().await;

    server.app.shutdown.cancel();
    let rest = read_until(&mut stream, "shutting_down").await;
    assert!(!rest.contains("[DONE]"));
    let refused = read_until(&mut plain, "shutting_down").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let end = timeout(SOON, connections.join_next()).await;
    assert!(matches!(end, Ok(Some(Ok(())))));
    timeout(SOON, job.events.closed())
        .await
        .expect("the generation is cancelled");
}
