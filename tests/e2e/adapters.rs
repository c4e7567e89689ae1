//! Adapters are swapped while requests run, and the answers of those do not change.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use sanctum_tests::{Answer, Http, Metrics, Process, Server};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The folder of adapters shipped with the built-in model.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny/adapters")
}

/// An untrained adapter: a pair of rank 1 that shifts the last layer's output.
pub(crate) fn nonsense(folder: &Path) {
    let module = "language_model.model.layers.7.mlp.down_proj";
    let (a, b) = (768 * 4, 256 * 4);
    let header = json!({
        format!("{module}.lora_a"): { "dtype": "F32", "shape": [768, 1], "data_offsets": [0, a] },
        format!("{module}.lora_b"): { "dtype": "F32", "shape": [1, 256], "data_offsets": [a, a + b] },
    })
    .to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    let wave = |i: usize| ((i * 37 % 64) as f32 - 32.0) / 64.0;
    bytes.extend((0..768 + 256).flat_map(|i| wave(i).to_le_bytes()));
    let config =
        json!({ "fine_tune_type": "lora", "lora_parameters": { "rank": 1, "scale": 4.0 } });
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("adapters.safetensors"), bytes).unwrap();
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

async fn swap(http: &Http, adapter: Value) -> Value {
    let answer = http
        .post("/v1/adapters", &json!({ "adapter": adapter }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The error of a refused swap.
async fn refused(http: &Http, adapter: Value, status: u16, code: &str) -> Answer {
    let body = json!({ "adapter": adapter });
    let answer = http.post("/v1/adapters", &body).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (status, &json!(code)),
        "{}",
        answer.text
    );
    answer
}

async fn ask(http: &Http, messages: &Value) -> Value {
    let body = json!({ "messages": messages, "temperature": 0, "max_tokens": 60 });
    http.post("/v1/chat/completions", &body).await.json()
}

fn said(answer: &Value) -> &str {
    let content = &answer["choices"][0]["message"]["content"];
    content.as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// The share of correct answers to the shipped adapter's held-out cases, and the fingerprint of the answers.
async fn skill(http: &Http, cases: usize) -> (f64, String) {
    let file = shipped().join("radio/held_out.jsonl");
    let lines =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut right, mut fingerprint) = (0, String::new());
    let cases: Vec<Value> = lines
        .lines()
        .take(cases)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut asked = JoinSet::new();
    for case in cases.clone() {
        let http = http.clone();
        asked.spawn(async move { (ask(&http, &case["messages"]).await, case["expect"].clone()) });
    }
    while let Some(done) = asked.join_next().await {
        let (answer, expected) = done.unwrap();
        right += usize::from(said(&answer).trim() == expected);
        fingerprint = answer["system_fingerprint"].as_str().unwrap().to_owned();
    }
    (right as f64 / cases.len() as f64, fingerprint)
}

/// Starts eight streams, and waits until each has its first tokens.
async fn streams(server: &Server) -> Vec<sanctum_tests::Chunks> {
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = server.stream_of(600).await;
        assert!(stream.next().await.is_some());
        streams.push(stream);
    }
    streams
}

/// The text of each stream from its second chunk on, and the fingerprints in its chunks.
async fn rest(streams: Vec<sanctum_tests::Chunks>) -> Vec<(String, Vec<Value>)> {
    let mut told = Vec::new();
    for stream in streams {
        let chunks = stream.rest().await;
        assert!(chunks.last().unwrap().is_done());
        let mut prints: Vec<Value> = chunks
            .iter()
            .map(|chunk| chunk.data["system_fingerprint"].clone())
            .filter(|print| !print.is_null())
            .collect();
        prints.dedup();
        told.push((chunks.iter().map(|chunk| chunk.text()).collect(), prints));
    }
    told
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn eight_streams_are_unchanged_by_swaps() {
    let home = tempfile::tempdir().unwrap();
    nonsense(&home.path().join("nonsense"));
    let ice = home.path().join("ice");
    let server = icy(home.path(), "64", "SANCTUM_FREEZE_ENGINE", &ice).await;
    let question = json!([{ "role": "user", "content": "What is the capital of Japan?" }]);
    let before = ask(server.http(), &question).await;
    let alone = rest(streams(&server).await).await;

    // An engine that is frozen for the swap has not finished before it.
    let running = streams(&server).await;
    fs::write(&ice, "").unwrap();
    let card = swap(server.http(), "nonsense".into()).await;
    let health = server.http().get("/health").await.json();
    assert_eq!(health["in_flight"], 8, "{health}");
    fs::remove_file(&ice).unwrap();
    let adapted = ask(server.http(), &question).await;
    assert_ne!(said(&adapted), said(&before));
    assert_eq!(
        card["adapter"],
        json!({ "name": "nonsense", "rank": 1, "alpha": 4.0, "pairs": 1 })
    );
    let print = card["system_fingerprint"].as_str().unwrap();
    assert!(print.ends_with("+nonsense-r1-a4-1"), "{print}");
    assert_eq!(adapted["system_fingerprint"], print);
    // The streams that ran before the swap are unchanged, to the last letter.
    assert_eq!(rest(running).await, alone);

    let running = streams(&server).await;
    fs::write(&ice, "").unwrap();
    let card = swap(server.http(), Value::Null).await;
    assert_eq!(card["adapter"], Value::Null);
    let health = server.http().get("/health").await.json();
    assert_eq!(health["in_flight"], 8, "{health}");
    fs::remove_file(&ice).unwrap();
    let after = ask(server.http(), &question).await;
    assert_eq!(
        (said(&after), &after["system_fingerprint"]),
        (said(&before), &before["system_fingerprint"])
    );
    assert!(
        rest(running)
            .await
            .iter()
            .all(|(_, prints)| *prints == [json!(print)])
    );

    let models = server.http().get("/v1/models").await.json();
    assert_eq!(
        models["data"][0]["system_fingerprint"],
        before["system_fingerprint"]
    );
    let adapters = server.http().get("/v1/adapters").await.json();
    assert_eq!(adapters["data"][0]["available"], json!(["nonsense"]));
}

#[tokio::test]
async fn refused_swap_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (inside, outside) = (home.path().join("in"), home.path().join("out"));
    fs::create_dir_all(&inside).unwrap();
    nonsense(&outside);
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    fs::create_dir(inside.join("empty")).unwrap();
    // Links that lead out of the folder, a second name, and truncated weights.
    fs::create_dir(inside.join("borrowed")).unwrap();
    for file in ["adapter_config.json", "adapters.safetensors"] {
        let link = inside.join("borrowed").join(file);
        std::os::unix::fs::symlink(outside.join(file), link).unwrap();
    }
    std::os::unix::fs::symlink("empty", inside.join("alias")).unwrap();
    nonsense(&inside.join("torn"));
    let weights = inside.join("torn/adapters.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let server = Server::start([OsStr::new("--adapter-dir"), inside.as_os_str()]).await;
    let before = server.http().get("/v1/models").await.text;
    for (adapter, status, code) in [
        ("link", 404, "adapter_not_found"),
        ("nothing", 404, "adapter_not_found"),
        ("empty", 422, "adapter_unusable"),
        ("borrowed", 404, "adapter_not_found"),
        ("alias", 404, "adapter_not_found"),
        ("torn", 422, "adapter_unusable"),
    ] {
        let answer = refused(server.http(), adapter.into(), status, code).await;
        let folder = home.path().to_str().unwrap();
        assert!(!answer.text.contains(folder), "{}", answer.text);
    }
    let adapters = server.http().get("/v1/adapters").await.json();
    assert_eq!(adapters["data"][0]["available"], json!(["torn"]));
    for path in ["../out", "/etc", outside.to_str().unwrap()] {
        let answer = server
            .http()
            .post("/v1/adapters", &json!({ "adapter": path }))
            .await;
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
    assert_eq!(server.http().get("/v1/models").await.text, before);
    drop(server);

    let small = [
        "--adapter-dir".into(),
        home.path().as_os_str().to_owned(),
        "--metal-memory-limit-mb".into(),
        "6".into(),
    ];
    let server = Server::start(small).await;
    let answer = refused(server.http(), "out".into(), 507, "insufficient_memory").await;
    assert!(
        answer.text.contains("this model has 6 MiB"),
        "{}",
        answer.text
    );
    // The attempt has released its memory.
    let question = json!([{ "role": "user", "content": "What is the capital of Japan?" }]);
    assert!(!said(&ask(server.http(), &question).await).is_empty());
}

/// The shipped adapter's skill exists only while it is loaded.
#[tokio::test]
async fn trained_adapter_is_swapped_in_and_out() {
    const CASES: usize = 40;
    let server = Server::start([OsStr::new("--adapter-dir"), shipped().as_os_str()]).await;
    let (before, base) = skill(server.http(), CASES).await;
    assert!(before < 0.1, "{before}");
    let running = streams(&server).await;
    swap(server.http(), "radio".into()).await;
    let (with, adapted) = skill(server.http(), CASES).await;
    assert!(with >= 0.9, "{with}");
    assert!(adapted.contains("+radio-r"), "{adapted}");
    swap(server.http(), Value::Null).await;
    assert_eq!(skill(server.http(), CASES).await, (before, base));
    drop(running);
}

/// A server with so much memory, of which a part is frozen while the file exists.
#[cfg(debug_assertions)]
async fn icy(folder: &Path, memory_mb: &str, part: &str, ice: &Path) -> Server {
    let limit = ["--metal-memory-limit-mb", memory_mb];
    let args = ["--port", "0"].into_iter().chain(limit).map(OsStr::new);
    let args = args.chain([OsStr::new("--adapter-dir"), folder.as_os_str()]);
    let env = [(part, ice.to_str().unwrap())];
    Server::ready(Process::launch_with(args, &env)).await
}

/// A client that has asked for a swap, whose load has begun and is frozen.
#[cfg(debug_assertions)]
async fn half_swapped(server: &Server, ice: &Path) -> tokio::task::JoinHandle<Answer> {
    fs::write(ice, "").unwrap();
    let http = server.http().afresh();
    let client = tokio::spawn(async move {
        http.post("/v1/adapters", &json!({ "adapter": "nonsense" }))
            .await
    });
    server.logged("swapping").await;
    client
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn second_swap_is_refused_and_the_first_completes_without_its_client() {
    let home = tempfile::tempdir().unwrap();
    nonsense(&home.path().join("nonsense"));
    let ice = home.path().join("ice");
    let server = icy(home.path(), "10", "SANCTUM_FREEZE_LOAD", &ice).await;
    let before = server.http().get("/v1/models").await.json();
    let limit = async || {
        let metrics = server.metrics().await;
        metrics.sum("sanctum_sequence_memory_limit_bytes", &[])
    };
    let whole = limit().await;
    // A request for the loaded adapter loads nothing.
    swap(server.http(), Value::Null).await;
    let client = half_swapped(&server, &ice).await;
    let answer = refused(server.http(), "nonsense".into(), 409, "swap_running").await;
    assert!(answer.retry_after().is_some());
    // Meanwhile it answers as before, with less memory.
    assert!(limit().await < whole);
    let long = json!({ "prompt": "Count", "max_tokens": 1900 });
    let refused = server.http().post("/v1/completions", &long).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("memory_shared")),
        "{}",
        refused.text
    );
    let question = json!([{ "role": "user", "content": "What is the capital of Japan?" }]);
    let answer = ask(server.http(), &question).await;
    assert_eq!(
        answer["system_fingerprint"],
        before["data"][0]["system_fingerprint"]
    );
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    fs::remove_file(&ice).unwrap();
    let swapped = server.logged("swapped").await;
    assert_eq!(swapped["adapter"], "nonsense");
    let after = server.http().get("/v1/models").await.json();
    assert_eq!(
        after["data"][0]["system_fingerprint"],
        swapped["fingerprint"]
    );
    let again =
        |metrics: &Metrics| metrics.sum("sanctum_sequence_memory_limit_bytes", &[]) == whole;
    server.metrics_show("all of the memory", again).await;
    assert_eq!(
        server.http().post("/v1/completions", &long).await.status,
        200
    );
    swap(server.http(), Value::Null).await;
    assert_eq!(
        server.http().get("/v1/models").await.json()["data"][0]["system_fingerprint"],
        before["data"][0]["system_fingerprint"]
    );
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn stopping_server_refuses_swaps() {
    let home = tempfile::tempdir().unwrap();
    nonsense(&home.path().join("nonsense"));
    let ice = home.path().join("ice");
    let server = icy(home.path(), "64", "SANCTUM_FREEZE_LOAD", &ice).await;
    let client = half_swapped(&server, &ice).await;
    server.signal(Signal::TERM);
    server.logged("stopping: running requests may finish").await;
    fs::remove_file(&ice).unwrap();
    let answer = client.await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text);
    server.logged("not swapped: the server is stopping").await;
    assert_eq!(server.ended().await.code, Some(0));
}

#[tokio::test]
async fn server_without_adapter_dir_refuses_swaps() {
    let home = tempfile::tempdir().unwrap();
    nonsense(&home.path().join("nonsense"));
    let own = home.path().join("nonsense");
    let server = Server::start([OsStr::new("--adapter-path"), own.as_os_str()]).await;
    for adapter in [Value::Null, "nonsense".into(), "other".into()] {
        refused(server.http(), adapter, 403, "adapters_off").await;
    }
    let adapters = server.http().get("/v1/adapters").await.json();
    assert_eq!(
        adapters["data"][0],
        json!({ "model": Server::BUILT_IN, "adapter": "nonsense", "available": [] })
    );
}
