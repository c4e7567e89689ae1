use serde_json::{Value, json};

use super::fixture::{CONTEXT, TestServer};

#[tokio::test]
async fn text_is_tokenized_by_each_name_that_servers_have_for_it() {
    let server = TestServer::new();
    for path in ["/tokenize", "/v1/tokenize"] {
        for field in ["content", "prompt"] {
            let answer = server.post(path, json!({ field: "ab€" })).await.json();
            let expected = json!({ "tokens": [97, 98, 0xe2, 0x82, 0xac], "count": 5, "max_model_len": CONTEXT });
            assert_eq!(answer, expected);
        }
    }
    let empty = server.post("/tokenize", json!({ "content": "" })).await;
    assert_eq!(empty.json()["tokens"], json!([]));
    let body = json!({ "content": "a€", "with_pieces": true, "return_token_strs": true, "add_special": true });
    let answer = server.post("/tokenize", body).await.json();
    assert_eq!(answer["tokens"][0], json!({ "id": 97, "piece": "a" }));
    assert_eq!(answer["tokens"][1], json!({ "id": 0xe2, "piece": [0xe2] }));
    assert_eq!(answer["token_strs"][0], "a");
}

#[tokio::test]
async fn text_comes_back_from_its_tokens() {
    let server = TestServer::new();
    for path in ["/detokenize", "/v1/detokenize"] {
        let body = json!({ "tokens": "a€\u{1f600}".bytes().collect::<Vec<u8>>() });
        let answer = server.post(path, body).await.json();
        assert_eq!(
            answer,
            json!({ "content": "a€\u{1f600}", "prompt": "a€\u{1f600}" })
        );
    }
    let cut = server
        .post("/detokenize", json!({ "tokens": [97, 0xe2] }))
        .await;
    assert_eq!(cut.json()["content"], "a\u{fffd}");
    let none = server.post("/detokenize", json!({ "tokens": [] })).await;
    assert_eq!(none.json()["content"], "");
}

#[tokio::test]
async fn template_is_applied_as_for_a_chat() {
    let server = TestServer::new();
    let chat = json!({
        "model": "council",
        "messages": [{ "role": "user", "content": "hi" }],
        "enable_thinking": true,
        "temperature": 0,
    });
    for path in ["/apply-template", "/v1/apply-template"] {
        let answer = server.post(path, chat.clone()).await.json();
        let prompt = "<user>hi<think>\n";
        let expected = json!({ "prompt": prompt, "count": prompt.len(), "max_model_len": CONTEXT });
        assert_eq!(answer, expected);
        let tokens = server.post("/tokenize", chat.clone()).await.json();
        assert_eq!(tokens["tokens"], json!(prompt.bytes().collect::<Vec<u8>>()));
    }
    let mut unknown = chat.clone();
    unknown["zebra"] = 1.into();
    let answer = server.post("/apply-template", unknown).await;
    assert_eq!(answer.headers["sanctum-ignored-fields"], "zebra");
}

#[tokio::test]
async fn tokenizer_info_has_what_clients_need_to_tokenize_here() {
    let server = TestServer::new();
    for path in ["/tokenizer_info", "/v1/tokenizer_info"] {
        let info = server.get(path).await.json();
        assert!(info["chat_template"].as_str().unwrap().contains("m.role"));
        assert_eq!(
            (&info["bos_token"], &info["eos_token"]),
            (&Value::Null, &json!("\0"))
        );
        assert_eq!(
            (&info["vocab_size"], &info["model_max_length"]),
            (&json!(256), &json!(CONTEXT))
        );
    }
}

#[tokio::test]
async fn hostile_bodies_are_refused_by_the_field() {
    let server = TestServer::new();
    let refused = async |path: &str, body: Value| {
        let answer = server.post(path, body).await;
        let (status, param, _) = answer.error();
        assert_eq!(status, 400, "{}", answer.text);
        param.as_str().unwrap_or_default().to_owned()
    };
    for (body, param) in [
        (json!({}), "content"),
        (json!({ "content": null }), "content"),
        (json!({ "content": 3 }), "content"),
        (json!({ "content": ["a"] }), "content"),
        (json!({ "content": "a", "prompt": "a" }), "prompt"),
        (
            json!({ "content": "a", "parse_special": false }),
            "parse_special",
        ),
        (
            json!({ "content": "a", "with_pieces": "yes" }),
            "with_pieces",
        ),
        (
            json!({ "content": "a", "with_peices": true }),
            "with_peices",
        ),
        (json!({ "content": "a".repeat(CONTEXT + 1) }), "content"),
        (json!({ "messages": [] }), "messages"),
    ] {
        assert_eq!(refused("/tokenize", body.clone()).await, param, "{body}");
    }
    for (tokens, param) in [
        (json!(null), "tokens"),
        (json!("a"), "tokens"),
        (json!([1, 256]), "tokens"),
        (json!([1, -1]), "tokens[1]"),
        (json!([1.5]), "tokens[0]"),
        (json!([4_294_967_296u64]), "tokens[0]"),
        (json!([[1]]), "tokens[0]"),
        (json!(["1"]), "tokens[0]"),
        (json!([null]), "tokens[0]"),
        (json!(vec![1; (1 << 20) + 1]), "tokens"),
    ] {
        let body = json!({ "tokens": tokens });
        let shown: String = body.to_string().chars().take(60).collect();
        let found = refused("/detokenize", body).await;
        assert!(found.starts_with(param), "{shown}: {found}");
    }
    let forbidden = json!({ "messages": [{ "role": "user", "content": "forbidden" }] });
    assert_eq!(refused("/apply-template", forbidden).await, "messages");
    assert_eq!(refused("/apply-template", json!({})).await, "messages");
    let other = server
        .post("/tokenize", json!({ "content": "a", "model": "other" }))
        .await;
    assert_eq!(
        other.error(),
        (404, json!("model"), json!("model_not_found"))
    );
    assert_eq!(server.get("/tokenize").await.status, 405);
}
