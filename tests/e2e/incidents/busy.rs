//! Three restarts in eight minutes, none necessary, each an outage: a server that works is not hung, however long a client
//! waits for it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, ask, has_answered, request, status};

/// The guardian's `misses` and intervals here; after all of them it would restart a server that is really hung.
const EVERY: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(3);
const MISSES: usize = 3;

/// A server of a size that keeps one thread busy, and the guardian.
fn host(limits: &str) -> Host {
    let host = Host::new();
    // The published sizes are for load tests, and cannot be the `models` of a fleet.
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\" --shape qwen3.5-0.8b");
    host.fleet(
        &["server", "guardian"],
        &format!("limits = {{ {limits}, prefill_chunk = 64 }}"),
        &format!(
            "[watch.guardian]\ntarget = \"server\"\nevery = \"{}ms\"\ntimeout = \"{}ms\"\nmisses = {MISSES}\n\
             stall_after = \"{}ms\"\nstartup_grace = \"60s\"\nalert = [\"log\"]\n[alerts.log]",
            EVERY.as_millis(),
            TIMEOUT.as_millis(),
            STALL.as_millis(),
        ),
    );
    host.install("1");
    host.wait("a model that is ready", |host| {
        host.health()["phase"] == "ready"
    });
    host
}

/// Observes the guardian of a busy server, for three times as long as it would take to act.
fn look_on(host: &Host) {
    let window = STALL.max(EVERY * MISSES as u32);
    let begun = Instant::now();
    let progress = || host.health()["progress"].as_u64().unwrap();
    let before = progress();
    while begun.elapsed() < 3 * window {
        host.look_on("guardian", MISSES);
        host.wait("a guardian that sees work", |host| {
            host.verdict("guardian")
                .contains("is busy, and its work moves")
        });
    }
    assert!(progress() > before);
}

fn is_untouched(host: &Host) {
    assert_eq!((host.restarts(), host.running("server").runs), (0, 1));
}

/// A completion that takes many minutes.
fn endless(host: &Host) -> std::net::TcpStream {
    let body =
        json!({ "prompt": "Tell me.", "max_tokens": 4000, "ignore_eos": true, "stream": true });
    ask(host.port(), "POST /v1/completions", &body.to_string()).unwrap()
}

#[test]
fn server_with_all_slots_and_the_queue_full_is_left_alone() {
    let host = host("max_slots = 2, queue = 2");
    let clients: Vec<_> = (0..4).map(|_| endless(&host)).collect();
    let is_full = |health: &serde_json::Value| health["in_flight"] == 2 && health["queued"] == 2;
    host.wait("a full queue", |host| is_full(&host.health()));
    let refused = || status(&endless(&host)) == "429";
    assert!(refused());
    look_on(&host);
    assert!(refused() && is_full(&host.health()));
    is_untouched(&host);
    drop(clients);
}

/// The first guardian's policy: a server is hung after this many chat requests in a row without an answer.
fn naive_guardian_restarts(answered: &[bool]) -> bool {
    answered
        .windows(MISSES)
        .any(|row| row.iter().all(|answered| !answered))
}

/// Its question: two tokens, which wait for all requests before it.
fn naive_question_is_answered(host: &Host) -> bool {
    let message = json!({ "role": "user", "content": "ping" });
    let body = json!({ "messages": [message], "max_tokens": 2 }).to_string();
    request(host.port(), "POST /v1/chat/completions", &body, TIMEOUT).is_some()
}

#[test]
fn prompt_that_takes_longer_than_the_guardians_timeout_is_busy() {
    let host = host("max_slots = 1");
    let prompt = "one two three four ".repeat(2000);
    let body = json!({ "prompt": prompt, "max_tokens": 1, "ignore_eos": true }).to_string();
    let client = ask(host.port(), "POST /v1/completions", &body).unwrap();
    host.wait("the prompt", |host| host.health()["in_flight"] == 1);
    let answered = std::thread::scope(|scope| {
        let probes = scope.spawn(|| {
            let probe = |_| {
                std::thread::sleep(EVERY);
                naive_question_is_answered(&host)
            };
            (0..MISSES).map(probe).collect::<Vec<_>>()
        });
        look_on(&host);
        probes.join().unwrap()
    });
    assert!(!has_answered(&client), "the prompt is still being read");
    assert!(naive_guardian_restarts(&answered), "{answered:?}");
    is_untouched(&host);
}
