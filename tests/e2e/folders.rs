//! Checkpoint folders: complete ones are served, damaged ones are refused with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use sanctum_tests::{Ended, Process, Server, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::openai::{COUNT, SUM};

/// A folder with the built-in model in it.
async fn exported() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("copy");
    let ended = Process::launch(["export-model".as_ref(), folder.as_os_str()])
        .ended()
        .await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.stdout.trim_end(), folder.to_str().unwrap());
    (home, folder)
}

async fn serve(folder: &Path) -> Ended {
    let args = [
        "--port".as_ref(),
        "0".as_ref(),
        "--model".as_ref(),
        folder.as_os_str(),
    ];
    Process::launch(args).ended().await
}

#[tokio::test]
async fn exported_model_answers_like_built_in_model() {
    let (_home, folder) = exported().await;
    let built_in = Server::start([""; 0]).await;
    let args = ["--model".into(), folder.clone().into_os_string()];
    let copy = Server::start(args).await;
    for question in [SUM, COUNT, "Why is the sky blue?"] {
        let body = json!({
            "messages": [{ "role": "user", "content": question }], "temperature": 0, "logprobs": true,
        });
        let answer = async |server: &Server| {
            let answer = server
                .http()
                .post("/v1/chat/completions", &body)
                .await
                .json();
            (
                answer["choices"].clone(),
                answer["system_fingerprint"].clone(),
                answer["model"].clone(),
            )
        };
        let (expected, fingerprint, _) = answer(&built_in).await;
        assert_eq!(answer(&copy).await, (expected, fingerprint, json!("copy")));
    }
}

#[tokio::test]
async fn changed_weights_have_another_fingerprint() {
    let (_home, folder) = exported().await;
    let fingerprint = async || {
        let server = Server::start(["--model".as_ref(), folder.as_os_str()]).await;
        let body = json!({ "prompt": "1", "max_tokens": 1 });
        let answer = server.http().post("/v1/completions", &body).await.json();
        answer["system_fingerprint"].as_str().unwrap().to_owned()
    };
    let before = fingerprint().await;
    assert_eq!(fingerprint().await, before);

    // The lowest bit of the first weight; the file begins with the length of its header.
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let described = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + described] ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert_ne!(fingerprint().await, before);
}

#[tokio::test]
async fn two_models_are_served_side_by_side() {
    let (_home, folder) = exported().await;
    let named = |id: &str| format!("{id}={}", folder.display());
    let server = Server::start([
        "--model".into(),
        named("left"),
        "--model".into(),
        named("right"),
    ])
    .await;
    let http = server.http();
    let models = http.get("/v1/models").await.json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&json!("left"), &json!("right"))
    );
    for (asked, answering) in [(json!("right"), "right"), (Value::Null, "left")] {
        let body = json!({
            "model": asked, "messages": [{ "role": "user", "content": SUM }], "temperature": 0,
        });
        let answer = http.post("/v1/chat/completions", &body).await.json();
        assert_eq!(answer["model"], answering);
        assert_eq!(answer["choices"][0]["message"]["content"], "4");
    }
    let health = http.get("/health").await.json();
    assert_eq!(
        health["models"].as_array().map(Vec::len),
        Some(2),
        "{health}"
    );
    let asked = server.metrics().await;
    for id in ["left", "right"] {
        assert_eq!(
            asked.sum("sanctum_generations_total", &[("model", id)]),
            1.0
        );
    }
}

#[tokio::test]
async fn missing_chat_template_is_logged_at_start_and_named_with_the_fix() {
    let (_home, folder) = exported().await;
    fs::remove_file(folder.join("chat_template.jinja")).unwrap();
    let server = Server::start(["--model".as_ref(), folder.as_os_str()]).await;
    let chat = json!({ "messages": [{ "role": "user", "content": SUM }] });
    let answer = server.http().post("/v1/chat/completions", &chat).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"]["message"].to_string();
    assert!(error.contains("chat_template.jinja"), "{error}");
    let prompt = json!({ "prompt": "1", "max_tokens": 1 });
    let answer = server.http().post("/v1/completions", &prompt).await;
    assert_eq!(answer.status, 200);
    server.signal(Signal::TERM);
    let log = server.ended().await.log;
    let said = |line: &String| line.contains("no chat template") && line.contains("WARN");
    assert!(log.iter().any(said), "{log:#?}");
}

#[tokio::test]
async fn damaged_folder_is_refused_with_the_damage() {
    let (_home, folder) = exported().await;
    let weights = folder.join("model.safetensors");
    let config = folder.join("config.json");
    let whole = fs::read(&weights).unwrap();
    let settings = fs::read_to_string(&config).unwrap();
    let refused = async |names: &[&str]| {
        let ended = serve(&folder).await;
        assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
        let words = ended.last_message();
        let all = names.iter().all(|name| words.contains(name));
        assert!(all, "{names:?} in: {words}");
        assert!(!ended.log.join("").contains("panicked"), "{:#?}", ended.log);
    };

    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refused(&["model.safetensors"]).await;
    fs::write(&weights, &whole[..5]).unwrap();
    refused(&["model.safetensors"]).await;
    fs::write(&weights, renamed(&whole, "A_log", "A_lag")).unwrap();
    refused(&["A_l", "linear_attn"]).await;
    fs::remove_file(&weights).unwrap();
    refused(&["model.safetensors"]).await;
    fs::write(&weights, &whole).unwrap();

    let changed = |change: fn(&mut Value)| {
        let mut json = serde_json::from_str(&settings).unwrap();
        change(&mut json);
        fs::write(&config, json.to_string()).unwrap();
    };
    changed(|config| config["hidden_size"] = 512.into());
    // The packed embedding has 512 columns at 2 bits; the first tensor that has no second reading is the norm.
    refused(&["input_layernorm", "model.safetensors", "config.json"]).await;
    changed(|config| config["model_type"] = "llama".into());
    refused(&["model_type", "llama"]).await;
    changed(|config| config["quantization"]["bits"] = 7.into());
    refused(&["bits", "7"]).await;
    changed(|config| drop(config.as_object_mut().unwrap().remove("num_hidden_layers")));
    refused(&["num_hidden_layers"]).await;
    fs::write(&config, "{").unwrap();
    refused(&["config.json"]).await;
    fs::write(&config, &settings).unwrap();

    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    refused(&["tokenizer.json"]).await;
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    refused(&["tokenizer.json"]).await;
    fs::remove_dir_all(&folder).unwrap();
    refused(&["config.json"]).await;
}

/// Replaces `from` in the first tensor's name that has it with `to`; both have the same length, so the file stays
/// well-formed.
fn renamed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = file
        .windows(from.len())
        .position(|bytes| bytes == from.as_bytes())
        .unwrap();
    let mut file = file.to_vec();
    file[at..at + to.len()].copy_from_slice(to.as_bytes());
    file
}
