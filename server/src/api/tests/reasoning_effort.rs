//! Levels of reasoning, in front of templates that accept a few of them.

use sanctum_engine::schedule::{Event, FinishReason};
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, token};

/// Accepts `low`, `medium` and `xhigh`, as Qwen3.8's.
const THREE_LEVELS: &str = include_str!("../../../../tests/golden/template/reasoning-effort.jinja");
/// Has no levels, as Qwen3.6's.
const NO_LEVELS: &str = include_str!("../../../../tests/golden/template/keeps-reasoning.jinja");
/// Accepts neither `high` nor a neighbour of it.
const TWO_LEVELS: &str = "{%- if enable_thinking and reasoning_effort is defined \
    and reasoning_effort not in ['low', 'medium'] %}{{ raise_exception('Odd.') }}{% endif %}\
    {%- for m in messages %}{{ m.content }}{% endfor %}";

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// What `THREE_LEVELS` begins with at each level.
const MOST: &str = "<|begin|>system\nTake all the time";
const LEAST: &str = "<|begin|>system\nAnswer after a short thought.";
const NEITHER: &str = "<|begin|>user\n";

/// A request of one question with further fields.
fn question(route: &str, extra: Value) -> Value {
    let mut body = match route {
        RESPONSES => json!({ "input": "hi" }),
        _ => json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 5 }),
    };
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    body
}

fn answer() -> Vec<Event> {
    vec![token("x"), finished(FinishReason::Stop, "")]
}

/// The prompt that the engine gets; the scripted model has a token for each byte.
async fn prompt(template: &str, route: &str, extra: Value) -> String {
    let server = TestServer::with_template(template);
    let (job, response) = server.ask(route, question(route, extra), answer()).await;
    assert_eq!(response.status, 200, "{route}: {}", response.text);
    let bytes = job.request.prompt.iter().map(|&id| id as u8);
    String::from_utf8(bytes.collect()).unwrap()
}

/// The field and the message of a refusal; Anthropic's shape has no field.
async fn refused(template: &str, route: &str, body: Value) -> (Value, String) {
    let response = TestServer::with_template(template).post(route, body).await;
    assert_eq!(response.status, 400, "{route}: {}", response.text);
    let error = response.json()["error"].clone();
    let message = error["message"].as_str().unwrap().to_owned();
    (error["param"].clone(), message)
}

#[tokio::test]
async fn effort_becomes_a_level_that_the_template_accepts() {
    for (level, begin) in [
        ("minimal", LEAST),
        ("low", LEAST),
        ("medium", NEITHER),
        ("high", MOST),
        ("xhigh", MOST),
        ("max", MOST),
    ] {
        let thinking = json!({ "enable_thinking": true });
        let adaptive = json!({ "type": "adaptive" });
        let variables = json!({ "enable_thinking": true, "reasoning_effort": level });
        for (route, extra) in [
            (CHAT, json!({ "reasoning_effort": level })),
            (CHAT, json!({ "reasoning": { "effort": level } })),
            (
                CHAT,
                json!({ "reasoning_effort": level, "chat_template_kwargs": thinking }),
            ),
            (CHAT, json!({ "chat_template_kwargs": variables })),
            (
                CHAT,
                json!({ "reasoning_effort": "max", "chat_template_kwargs": variables }),
            ),
            (RESPONSES, json!({ "reasoning": { "effort": level } })),
            (
                MESSAGES,
                json!({ "thinking": adaptive, "output_config": { "effort": level } }),
            ),
        ] {
            let prompt = prompt(THREE_LEVELS, route, extra.clone()).await;
            assert!(prompt.starts_with(begin), "{route} {extra}: {prompt}");
            assert!(prompt.ends_with("<think>\n"), "{route} {extra}: {prompt}");
        }
    }
}

#[tokio::test]
async fn reasoning_without_a_level_has_the_templates_own() {
    for (route, extra) in [
        (CHAT, json!({ "enable_thinking": true })),
        (MESSAGES, json!({ "thinking": { "type": "adaptive" } })),
    ] {
        let prompt = prompt(THREE_LEVELS, route, extra).await;
        assert!(prompt.starts_with(MOST), "{route}: {prompt}");
    }
}

#[tokio::test]
async fn effort_has_no_effect_where_the_model_does_not_reason() {
    let off = json!({ "enable_thinking": false });
    for (route, extra) in [
        (CHAT, json!({})),
        (CHAT, json!({ "reasoning_effort": "none" })),
        (RESPONSES, json!({ "reasoning": { "effort": "none" } })),
        (
            CHAT,
            json!({ "reasoning_effort": "high", "enable_thinking": false }),
        ),
        (
            CHAT,
            json!({ "reasoning_effort": "high", "chat_template_kwargs": off }),
        ),
        (MESSAGES, json!({ "output_config": { "effort": "high" } })),
    ] {
        let prompt = prompt(THREE_LEVELS, route, extra.clone()).await;
        assert!(prompt.starts_with(NEITHER), "{route} {extra}: {prompt}");
        assert!(
            prompt.ends_with("</think>\n\n"),
            "{route} {extra}: {prompt}"
        );
    }
}

#[tokio::test]
async fn template_without_levels_reasons_at_each_of_them() {
    for level in ["minimal", "high"] {
        let prompt = prompt(NO_LEVELS, CHAT, json!({ "reasoning_effort": level })).await;
        assert_eq!(
            prompt,
            "<|begin|>user\nhi<|end|>\n<|begin|>assistant\n<think>\n"
        );
    }
}

#[tokio::test]
async fn level_without_a_neighbour_is_a_400_that_names_the_field() {
    let variables = json!({ "enable_thinking": true, "reasoning_effort": "turbo" });
    let adaptive = json!({ "type": "adaptive" });
    for (template, route, extra, field) in [
        (
            TWO_LEVELS,
            CHAT,
            json!({ "reasoning_effort": "high" }),
            "reasoning_effort",
        ),
        (
            TWO_LEVELS,
            CHAT,
            json!({ "reasoning": { "effort": "max" } }),
            "reasoning.effort",
        ),
        (
            TWO_LEVELS,
            RESPONSES,
            json!({ "reasoning": { "effort": "high" } }),
            "reasoning.effort",
        ),
        (
            TWO_LEVELS,
            MESSAGES,
            json!({ "thinking": adaptive, "output_config": { "effort": "high" } }),
            "output_config.effort",
        ),
        (
            THREE_LEVELS,
            CHAT,
            json!({ "chat_template_kwargs": variables }),
            "chat_template_kwargs.reasoning_effort",
        ),
    ] {
        let (param, message) = refused(template, route, question(route, extra)).await;
        if route != MESSAGES {
            assert_eq!(param, field, "{message}");
        }
        let named = message.contains(&format!("`{field}` is "));
        let levels = match template {
            TWO_LEVELS => "send \"low\" or \"medium\"",
            _ => "send \"low\", \"medium\" or \"xhigh\"",
        };
        assert!(named && message.contains(levels), "{message}");
    }
}

#[tokio::test]
async fn conversation_that_asks_nothing_is_a_400_that_names_its_field() {
    let messages = json!([
        { "role": "system", "content": "Be brief." }, { "role": "assistant", "content": "Yes." },
    ]);
    let input = json!([{ "role": "assistant", "content": "Yes." }]);
    for (route, body, field) in [
        (CHAT, json!({ "messages": messages }), json!("messages")),
        (RESPONSES, json!({ "input": input }), json!("input")),
        (
            MESSAGES,
            json!({ "messages": input, "max_tokens": 5 }),
            Value::Null,
        ),
    ] {
        let (param, message) = refused(THREE_LEVELS, route, body).await;
        assert_eq!(param, field, "{route}: {message}");
        let reason = "No message asks the model anything.";
        assert!(message.contains(reason), "{route}: {message}");
    }
}
