//! How soon a slot is free after its client has disconnected.
//!
//! All slots are taken and others wait, so a freed slot is visible as a shorter queue. The server counts its passes. A client
//! that disconnects during a pass cannot stop that pass: one pass is the minimum, and the limit.

use std::time::{Duration, Instant};

use sanctum_tests::{Limit, Metrics, Report, Server, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::crowd::{Crowd, ENDLESS, completion, prompt};

/// All slots but one, which the disconnecting client has.
const OTHERS: usize = 15;
/// The number of disconnections.
const TIMES: usize = 10;

/// Disconnects one client after the other.
pub(crate) async fn measure(server: &Server, report: &mut Report) {
    eprintln!("departures: {TIMES} clients disconnect");
    let crowd = Crowd::decoding(server, OTHERS).await;
    let mut passes: f64 = 0.0;
    let mut time = Duration::ZERO;
    for _ in 0..TIMES {
        let (took, count) = departure(server).await;
        passes = passes.max(count);
        time = time.max(took);
    }
    crowd.leave(server).await;
    report.add(
        "longest time to a freed slot",
        1e3 * time.as_secs_f64(),
        "ms",
        None,
    );
    report.add(
        "passes to a freed slot",
        passes,
        "",
        Some(Limit::AtMost(1.0)),
    );
}

/// Disconnects one client while another waits: the time and the passes until the other gets the slot.
async fn departure(server: &Server) -> (Duration, f64) {
    loop {
        let leaving = streaming(server).await;
        let waiting = Crowd::of(server, 1, ENDLESS);
        server
            .metrics_show("one that waits", |metrics| queued(metrics) == 1.0)
            .await;

        let before = passes(&server.metrics().await);
        drop(leaving);
        let gone = Instant::now();
        let just_after = passes(&server.metrics().await);
        let freed = server
            .metrics_show("its turn", |metrics| queued(metrics) == 0.0)
            .await;
        let took = gone.elapsed();

        drop(waiting);
        let full =
            |health: &serde_json::Value| health["in_flight"] == OTHERS && health["queued"] == 0;
        server.health_shows("the others alone", full).await;
        // A pass that ended during the disconnection would be counted although it was over: try again.
        if before == just_after {
            return (took, passes(&freed) - before);
        }
    }
}

/// A stream over a plain socket that has received its first token. Dropping it closes the connection at once.
async fn streaming(server: &Server) -> TcpStream {
    let address = server
        .http()
        .base()
        .trim_start_matches("http://")
        .to_owned();
    let body = completion(prompt(16, 900), ENDLESS).to_string();
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(&address)
        .await
        .expect("the server listens");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut read = Vec::new();
    while !read.windows(6).any(|six| six == b"data: ") {
        let some = within("its first token", socket.read_buf(&mut read)).await;
        assert!(
            some.is_ok_and(|some| some > 0),
            "{}",
            String::from_utf8_lossy(&read)
        );
    }
    socket
}

fn queued(metrics: &Metrics) -> f64 {
    metrics.sum("sanctum_requests_queued", &[])
}

fn passes(metrics: &Metrics) -> f64 {
    metrics.sum("sanctum_engine_passes_total", &[])
}
