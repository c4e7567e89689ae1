//! Stopping the server.

use sanctum_tests::{Server, Signal, within};
use serde_json::Value;
use tokio::net::TcpStream;

const STOPPING: &str = "stopping: running requests may finish";

#[tokio::test]
async fn idle_server_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start([""; 0]).await;
        // An open connection must not delay the exit.
        server.http().get("/health").await;
        server.signal(signal);
        let ended = server.ended().await;
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.last_message(), "stopped");
    }
}

#[tokio::test]
async fn draining_server_finishes_streams_and_refuses_new_requests() {
    let server = Server::start([""; 0]).await;
    let mut stream = server.stream_of(60).await;
    let first = stream.next().await.unwrap();
    server.signal(Signal::TERM);
    server.logged(STOPPING).await;
    let address = server
        .http()
        .base()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    within("the port to close", async {
        while TcpStream::connect(&address).await.is_ok() {}
    })
    .await;

    let rest = stream.rest().await;
    let (done, rest) = rest.split_last().unwrap();
    assert!(done.is_done());
    let reason = &rest.last().unwrap().data["choices"][0]["finish_reason"];
    assert_eq!(reason, "length");
    assert!(!first.text().is_empty());
    let ended = server.ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[tokio::test]
async fn drain_limit_cancels_streams_with_an_error() {
    let server = Server::start(["--drain-seconds", "0"]).await;
    let mut stream = server.stream_of(2000).await;
    stream.next().await.unwrap();
    server.signal(Signal::TERM);
    let rest = stream.rest().await;
    let last = &rest.last().unwrap().data;
    assert_eq!(last["error"]["code"], "shutting_down", "{last}");
    assert!(rest.iter().all(|chunk| !chunk.is_done()));
    let ended = server.ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[tokio::test]
async fn second_signal_ends_the_server_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = Server::start(["--max-slots", "1"]).await;
        let mut stream = server.stream_of(2000).await;
        stream.next().await.unwrap();
        server.signal(signal);
        server.logged(STOPPING).await;
        server.signal(signal);
        let ended = server.ended().await;
        assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
    }
}

#[tokio::test]
async fn waiting_requests_are_answered_before_the_end() {
    let server = Server::start(["--max-slots", "1"]).await;
    let mut working = server.stream_of(40).await;
    working.next().await.unwrap();
    let waiting = server.stream_of(5).await;
    server
        .health_shows("one that waits", |health| health["queued"] == 1)
        .await;
    server.signal(Signal::TERM);
    let ends = |chunks: Vec<sanctum_tests::Chunk>| chunks.last().map(|chunk| chunk.data.clone());
    assert_eq!(ends(working.rest().await), Some(Value::Null));
    assert_eq!(ends(waiting.rest().await), Some(Value::Null));
    assert_eq!(server.ended().await.code, Some(0));
}
