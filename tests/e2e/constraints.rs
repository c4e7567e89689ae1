//! Constrained answers over HTTP: schemas, forced calls, several choices, fields without effect.

use sanctum_tests::{Chunk, Server};
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn ask(question: &str, extra: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": question }], "max_tokens": 200, "seed": 1,
    });
    let fields = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn add() -> Value {
    json!({ "type": "function", "function": { "name": "add", "strict": true, "parameters": {
        "type": "object",
        "properties": { "a": { "type": "integer" }, "b": { "type": "integer" }, "unit": { "enum": ["C", "F"] } },
        "required": ["a", "b", "unit"],
        "additionalProperties": false,
    } } })
}

#[tokio::test]
async fn schema_is_enforced_whole_and_streamed_at_any_temperature() {
    let server = Server::start([""; 0]).await;
    let schema = json!({
        "type": "object",
        "properties": { "ok": { "type": "boolean" }, "size": { "type": "integer", "minimum": 3, "maximum": 12 },
            "kind": { "enum": ["red", "blue"] } },
        "required": ["ok", "size", "kind"],
        "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } });
    for temperature in [0.0, 2.0] {
        let extra = json!({ "response_format": format, "temperature": temperature });
        let answer = server
            .http()
            .post(PATH, &ask("What is 2+2?", extra.clone()))
            .await;
        let choice = answer.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "stop", "{choice}");
        let whole = choice["message"]["content"].as_str().unwrap().to_owned();
        let value: Value = serde_json::from_str(&whole).unwrap();
        assert!(
            value["ok"].is_boolean() && (3..=12).contains(&value["size"].as_i64().unwrap()),
            "{value}"
        );
        assert!(
            ["red", "blue"].contains(&value["kind"].as_str().unwrap()),
            "{value}"
        );

        let mut streamed = ask("What is 2+2?", extra);
        streamed["stream"] = true.into();
        let chunks = server.http().stream(PATH, &streamed).await.rest().await;
        let text: String = chunks.iter().map(Chunk::text).collect();
        assert_eq!(text, whole);
    }
}

#[tokio::test]
async fn forced_call_is_made_with_its_parameters() {
    let server = Server::start([""; 0]).await;
    let named = json!({ "type": "function", "function": { "name": "add" } });
    for choice in [json!("required"), named] {
        let extra = json!({
            "tools": [add()], "tool_choice": choice, "parallel_tool_calls": false, "temperature": 0, "max_tokens": 250,
        });
        let answer = server
            .http()
            .post(PATH, &ask("Say hello.", extra))
            .await
            .json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["function"]["name"], "add");
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert!(
            arguments["a"].is_number() && arguments["b"].is_number(),
            "{arguments}"
        );
        assert!(
            arguments["unit"] == "C" || arguments["unit"] == "F",
            "{arguments}"
        );
    }
}

#[tokio::test]
async fn constraint_that_cannot_be_enforced_is_named() {
    let server = Server::start([""; 0]).await;
    let schema = json!({ "type": "object", "properties": { "tags": { "type": "array", "uniqueItems": true } } });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let required = json!({ "tool_choice": "required" });
    for (extra, param) in [
        (
            json!({ "response_format": format }),
            "response_format.json_schema.schema.properties.tags.uniqueItems",
        ),
        (json!({ "guided_regex": "(?=a)b" }), "guided_regex"),
        (
            json!({ "guided_grammar": "start: undefined_rule" }),
            "guided_grammar",
        ),
        (required, "tool_choice"),
    ] {
        let answer = server.http().post(PATH, &ask("hi", extra)).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["param"], param, "{}", answer.json());
    }
}

#[tokio::test]
async fn several_choices_have_seeds_of_their_own() {
    let server = Server::start([""; 0]).await;
    let extra = json!({ "n": 3, "temperature": 2.0, "max_tokens": 12 });
    let answer = server
        .http()
        .post(PATH, &ask("Once", extra.clone()))
        .await
        .json();
    let texts: Vec<&Value> = (0..3)
        .map(|i| &answer["choices"][i]["message"]["content"])
        .collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(answer["choices"][index]["index"], index);
        let mut alone = ask("Once", json!({ "temperature": 2.0, "max_tokens": 12 }));
        alone["seed"] = (1 + index).into();
        let one = server.http().post(PATH, &alone).await.json();
        assert_eq!(&&one["choices"][0]["message"]["content"], text);
    }
    let one = server
        .http()
        .post(PATH, &ask("Once", json!({})))
        .await
        .json();
    assert_eq!(
        answer["usage"]["prompt_tokens"],
        one["usage"]["prompt_tokens"]
    );

    let body = json!({ "prompt": ["1, 2, 3,", "5, 6,"], "max_tokens": 4, "temperature": 0, "logprobs": 1 });
    let lists = server.http().post("/v1/completions", &body).await.json();
    for (index, prompt) in ["1, 2, 3,", "5, 6,"].iter().enumerate() {
        let body = json!({ "prompt": prompt, "max_tokens": 4, "temperature": 0, "logprobs": 1 });
        let alone = server.http().post("/v1/completions", &body).await.json();
        let (mut of_list, mut alone) =
            (lists["choices"][index].clone(), alone["choices"][0].clone());
        assert_eq!(of_list["index"].take(), index);
        alone["index"].take();
        assert_eq!(of_list, alone);
    }
}

#[tokio::test]
async fn unknown_field_is_listed_and_a_misspelt_one_refused() {
    let server = Server::start([""; 0]).await;
    let answer = server
        .http()
        .post(PATH, &ask("hi", json!({ "x_trace": 1, "max_tokens": 2 })))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["sanctum-ignored-fields"], "x_trace");
    let answer = server
        .http()
        .post(PATH, &ask("hi", json!({ "temprature": 1 })))
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("temperature")
    );
}

#[tokio::test]
async fn ambiguous_grammar_is_refused_and_delays_no_other_client() {
    let server = Server::start([""; 0]).await;
    let grammar = "start: e \"\\u0001\"\ne: e e | e e e | /[a-z ]/";
    let extra = json!({ "guided_grammar": grammar, "temperature": 0, "n": 3 });
    let (hostile, http) = (ask("Say hello.", extra), server.http());
    let question = "What is 2+2? Respond with only the number.";
    let plain = ask(question, json!({ "temperature": 0, "max_tokens": 20 }));
    let others = async {
        for _ in 0..3 {
            let answer = http.post(PATH, &plain).await.json();
            assert_eq!(answer["choices"][0]["message"]["content"], "4");
        }
    };
    let (refused, ()) = tokio::join!(http.post(PATH, &hostile), others);
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status, &error["param"]),
        (400, &json!("guided_grammar")),
        "{error}"
    );
    assert_eq!(error["code"], "unsupported_constraint");
}

#[tokio::test]
async fn function_that_is_not_allowed_is_not_called() {
    let server = Server::start([""; 0]).await;
    let other = json!({ "type": "function", "function": { "name": "now" } });
    let allowed =
        json!({ "mode": "auto", "tools": [{ "type": "function", "function": { "name": "now" } }] });
    let extra = json!({
        "tools": [add(), other], "tool_choice": { "type": "allowed_tools", "allowed_tools": allowed },
        "temperature": 2.0, "max_tokens": 60,
    });
    for seed in 0..4 {
        let mut body = ask("What is 17 + 26?", extra.clone());
        body["seed"] = seed.into();
        let answer = server.http().post(PATH, &body).await.json();
        let calls = answer["choices"][0]["message"]["tool_calls"]
            .as_array()
            .cloned();
        for call in calls.unwrap_or_default() {
            assert_eq!(call["function"]["name"], "now", "{answer}");
        }
    }
}
