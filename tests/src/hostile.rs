//! A client that requests as much work as a server accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Server;

/// Bodies that are sent at once.
pub(crate) const BODIES: usize = 12;
/// Bytes of each.
pub(crate) const BODY: usize = 2 << 20;
/// Bodies that are announced as large and sent slowly.
pub(crate) const SLOW: usize = 4;

/// The hostile client: [`BODIES`] requests of [`BODY`] bytes at once, each sent again after its response, and [`SLOW`]
/// bodies that never end. Dropping this closes its connections.
pub struct Hostile {
    tasks: JoinSet<()>,
    answered: Arc<AtomicUsize>,
}

impl Hostile {
    /// Starts it.
    pub fn beside(server: &Server) -> Self {
        let answered = Arc::new(AtomicUsize::new(0));
        let address = server.http().base().trim_start_matches("http://");
        let mut tasks = JoinSet::new();
        let words = "The quick brown fox jumps over 13 lazy dogs, again. ";
        let content = words.repeat(BODY / words.len());
        let body = json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 1 });
        let body: Arc<str> = body.to_string().into();
        for _ in 0..BODIES {
            tasks.spawn(send(address.to_owned(), body.clone(), answered.clone()));
        }
        for _ in 0..SLOW {
            tasks.spawn(dribble(address.to_owned()));
        }
        Self { tasks, answered }
    }

    /// How many of its requests were answered.
    pub fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }

    /// Closes all connections at once.
    pub async fn leave(mut self) {
        self.tasks.shutdown().await;
    }
}

fn head(address: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Sends the request repeatedly, over a new connection each time.
async fn send(address: String, body: Arc<str>, answered: Arc<AtomicUsize>) {
    loop {
        if let Ok(mut socket) = TcpStream::connect(&address).await {
            let head = head(&address, body.len());
            let mut answer = Vec::new();
            let sent = async {
                socket.write_all(head.as_bytes()).await?;
                socket.write_all(body.as_bytes()).await?;
                socket.read_to_end(&mut answer).await
            };
            if sent.await.is_ok() {
                answered.fetch_add(1, Relaxed);
            }
        }
        // No busy loop against a server that refuses at once.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Announces a large body and sends a little of it every second.
async fn dribble(address: String) {
    loop {
        if let Ok(mut socket) = TcpStream::connect(&address).await {
            let head = head(&address, 15 << 20);
            let mut alive = socket.write_all(head.as_bytes()).await.is_ok();
            while alive {
                alive = socket.write_all(&[b' '; 1 << 10]).await.is_ok();
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
