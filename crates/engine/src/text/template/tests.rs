//! Prompts against those of transformers.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::text::production;

/// The cases that `tests/golden/make_template.py` made.
fn golden(file: &str) -> Vec<Json> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/template");
    let text = std::fs::read_to_string(PathBuf::from(folder).join(file)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Whether the outcome is the golden one. Jinja's own error messages are not ours, but what a template raises is.
fn agrees(case: &Json, outcome: &Result<String, TemplateError>) -> bool {
    match (case["rendered"].as_str(), outcome) {
        (Some(rendered), Ok(ours)) => ours == rendered,
        (None, Err(TemplateError::Raised(ours))) => {
            case["raised"] == true && case["error"] == *ours
        }
        (None, Err(TemplateError::Render(_))) => case["raised"] == false,
        _ => false,
    }
}

fn check(cases: &[Json], render: impl Fn(&Json) -> Result<String, TemplateError>) {
    let mut wrong = Vec::new();
    for case in cases {
        let outcome = render(case);
        if !agrees(case, &outcome) {
            wrong.push(format!("{}\n  {outcome:?}\n  {case}", case["name"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn qwens_template_renders_as_in_transformers() {
    let Some(source) = production::file("chat_template.jinja") else {
        return;
    };
    let source = String::from_utf8(source).unwrap();
    let template = ChatTemplate::new(&source).unwrap();
    let mut cases = golden("qwen3.5.jsonl");
    assert!(cases.len() > 90);
    // Python's dictionary is refused where we parse the text that OpenAI's clients send.
    cases.retain(|case| case["name"] != "tool-call-arguments-as-text");
    check(&cases, |case| render_as_transformers(&template, case));
}

/// Renders a conversation with the variables that transformers gives it.
fn render_as_transformers(template: &ChatTemplate, case: &Json) -> Result<String, TemplateError> {
    let tools = case["tools"].as_array().cloned().unwrap_or_default();
    let kwargs = case["kwargs"].as_object().unwrap();
    if kwargs.contains_key("enable_thinking") {
        return template.render(case["messages"].as_array().unwrap(), &tools, kwargs);
    }
    // `render` would say that thinking is off; transformers says nothing.
    let messages = case["messages"].as_array().unwrap();
    let messages: Vec<Json> = messages.iter().map(as_templates_expect).collect();
    let mut context = kwargs.clone();
    context.insert("messages".into(), messages.into());
    context.insert("tools".into(), case["tools"].clone());
    template.render_apart(&context, &|| true)
}

/// Templates with the constructs of Qwen3.6's and Qwen3.8's.
const NEWER: [(&str, &str); 2] = [
    (
        "keeps-reasoning.jinja",
        include_str!("../../../../../tests/golden/template/keeps-reasoning.jinja"),
    ),
    (
        "reasoning-effort.jinja",
        include_str!("../../../../../tests/golden/template/reasoning-effort.jinja"),
    ),
];

#[test]
fn newer_templates_render_as_in_transformers() {
    let cases = golden("newer.jsonl");
    for (name, source) in NEWER {
        let template = ChatTemplate::new(source).unwrap();
        let mut cases = cases.clone();
        // What is no mapping for Python is read as no arguments here.
        cases.retain(|case| {
            case["template"] == name && case["name"] != format!("{name}/arguments-empty-text")
        });
        let rendered = cases.iter().filter(|case| case["rendered"].is_string());
        assert!(rendered.count() >= 20, "{name}");
        check(&cases, |case| render_as_transformers(&template, case));
    }
}

#[test]
fn reasoning_effort_is_accepted_unless_the_template_raises_an_error_for_it() {
    let accepted = |source: &str, has_tools| {
        let template = ChatTemplate::new(source).unwrap();
        let levels = ["minimal", "low", "medium", "high", "xhigh", "max"];
        let accepts = |level: &&str| template.accepts_reasoning_effort(&json!(level), has_tools);
        levels.into_iter().filter(accepts).count()
    };
    let [(_, keeps_reasoning), (_, three_levels)] = NEWER;
    assert_eq!(accepted(three_levels, false), 3);
    assert_eq!(accepted(three_levels, true), 3);
    assert_eq!(accepted(keeps_reasoning, false), 6);
    // It refuses every conversation of one question, whatever the level.
    let fails = "{{ raise_exception('No.') }}{{ reasoning_effort }}";
    assert_eq!(accepted(fails, false), 6);
    let template = ChatTemplate::new("{{ reasoning_effort }}").unwrap();
    let template = template.with_tool_use(ChatTemplate::new(three_levels).unwrap());
    let accepts = |has_tools| template.accepts_reasoning_effort(&json!("high"), has_tools);
    assert!(accepts(false) && !accepts(true));
}

/// What minijinja does in its own way, as the module's documentation says.
const OWN_WAY: [&str; 3] = ["loop-counters", "attribute-or-key", "string-format"];

#[test]
fn the_extras_of_transformers_are_there() {
    let mut cases = golden("extras.jsonl");
    assert!(cases.len() > 60);
    cases.retain(|case| OWN_WAY.iter().all(|own| case["name"] != *own));
    check(&cases, |case| {
        let template = ChatTemplate::new(case["template"].as_str().unwrap())?;
        template.render_apart(case["context"].as_object().unwrap(), &|| true)
    });
}

#[test]
fn thinking_is_off_unless_asked_for() {
    let source = "{{ enable_thinking }} {{ add_generation_prompt }} {{ tools }}";
    let template = ChatTemplate::new(source).unwrap();
    let render = |variables: Json| {
        template
            .render(&[], &[], variables.as_object().unwrap())
            .unwrap()
    };
    assert_eq!(render(json!({})), "False True None");
    assert_eq!(
        render(json!({"enable_thinking": true, "add_generation_prompt": false})),
        "True False None"
    );
}

#[test]
fn arguments_that_come_as_text_are_parsed() {
    let source = "{% for m in messages %}{% for c in m.tool_calls %}\
        {{ (c.function or c).arguments | tojson }};{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(source).unwrap();
    let calls = json!([
        {"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": \"é\"}"}},
        {"name": "f", "arguments": ""},
        {"function": {"name": "f", "arguments": "not json"}},
        {"function": {"name": "f", "arguments": {"x": 1.0}}},
    ]);
    let messages = [
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
        json!(3),
    ];
    assert_eq!(
        template.render(&messages, &[], &Map::new()).unwrap(),
        r#"{"b": 1, "a": "é"};{};"not json";{"x": 1.0};"#
    );
}

#[test]
fn special_tokens_come_from_the_tokenizers_config() {
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null});
    let template = ChatTemplate::new("{{ bos_token }}{{ eos_token }}{{ pad_token }}")
        .unwrap()
        .with_special_tokens(&config);
    let prompt = template.render(&[], &[], &Map::new()).unwrap();
    assert_eq!(prompt, "<s></s>");
}

#[test]
fn raised_message_is_distinguished_from_a_template_error() {
    let raise = "{% macro m() %}{{ raise_exception('No ' ~ 'pictures.') }}{% endmacro %}{{ m() }}";
    let render = |source: &str| ChatTemplate::new(source)?.render(&[], &[], &Map::new());
    assert_eq!(
        render(raise),
        Err(TemplateError::Raised("No pictures.".into()))
    );
    assert!(matches!(render("{{ x.y }}"), Err(TemplateError::Render(_))));
    let Err(TemplateError::Syntax(message)) = render("\n{% if %}") else {
        panic!("a broken template was compiled");
    };
    assert!(message.contains(":2"), "{message}");
}

/// JSON of the kinds that clients send where a message should be.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop_oneof!["user", "assistant", "tool", "text", "\\PC{0,8}"].prop_map(Json::from),
    ];
    let key = prop_oneof![
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "[a-z]{1,3}"
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_conversation_panics(
        messages in prop::collection::vec(any_json(), 0..4),
        tools in prop::collection::vec(any_json(), 0..2),
    ) {
        let source = include_str!("../../../../../models/tiny/chat_template.jinja");
        let template = ChatTemplate::new(source).unwrap();
        // Refusing is as good as rendering.
        if let Ok(prompt) = template.render(&messages, &tools, &Map::new()) {
            prop_assert!(prompt.ends_with("</think>\n\n"));
        }
        let everything = ChatTemplate::new("{{ messages }}{{ messages | tojson(indent=1) }}").unwrap();
        prop_assert!(everything.render(&messages, &[], &Map::new()).is_ok());
    }
}
