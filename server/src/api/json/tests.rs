use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> Result<Value, Malformed> {
    JsonBudget::default().parse(json.as_bytes(), "")
}

fn refusal(json: &str) -> (String, String) {
    match parse(json).unwrap_err() {
        Malformed::Refused(error) => (error.param().unwrap().to_owned(), error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn list(element: &str, count: usize) -> String {
    format!("[{}]", vec![element; count].join(","))
}

#[test]
fn arrays_beyond_their_limit_are_refused_by_name() {
    let message =
        |field: &str, list: String| format!(r#"{{"messages":[{{}},{{"{field}":{list}}}]}}"#);
    for (json, place, most) in [
        (
            format!(r#"{{"messages":{}}}"#, list("{}", 16_385)),
            "messages",
            16_384,
        ),
        (
            message("content", list("{}", 4097)),
            "messages[1].content",
            4096,
        ),
        (
            message("tool_calls", list("1", 1025)),
            "messages[1].tool_calls",
            1024,
        ),
        (format!(r#"{{"tools":{}}}"#, list("1", 1025)), "tools", 1024),
        (format!(r#"{{"stop":{}}}"#, list("\"a\"", 17)), "stop", 16),
        (
            format!(r#"{{"prompt":{}}}"#, list("1", (1 << 20) + 1)),
            "prompt",
            1 << 20,
        ),
        (
            format!(r#"{{"prompt":[{}]}}"#, list("1", (1 << 20) + 1)),
            "prompt[0]",
            1 << 20,
        ),
        (
            format!(r#"{{"tools":[{{"enum":{}}}]}}"#, list("1", 16_385)),
            "tools[0].enum",
            16_384,
        ),
    ] {
        let (param, message) = refusal(&json);
        assert_eq!(param, place);
        assert_eq!(message, format!("`{place}` has more than {most} elements"));
    }
}

#[test]
fn objects_and_values_beyond_their_limit_are_refused_by_name() {
    let members: Vec<String> = (0..1025).map(|n| format!("\"{n}\":1")).collect();
    let (param, message) = refusal(&format!("{{\"logit_bias\":{{{}}}}}", members.join(",")));
    assert_eq!(
        (param.as_str(), message.as_str()),
        ("logit_bias", "`logit_bias` has more than 1024 members")
    );
    let deep = list(&list("0", 1000), 140);
    let (param, message) = refusal(&format!(r#"{{"tools":[{{"x":{deep}}}]}}"#));
    assert!(param.starts_with("tools[0].x["), "{param}");
    assert!(message.contains("131072 JSON values"), "{message}");
}

#[test]
fn rest_of_a_refused_array_is_not_read() {
    // The rest is not JSON, and is never reached.
    let (param, _) = refusal(&format!(r#"{{"stop":[{}!!!"#, "1,".repeat(100)));
    assert_eq!(param, "stop");
}

#[test]
fn prompt_of_a_million_token_ids_is_accepted() {
    let json = format!(r#"{{"prompt":{}}}"#, list("151643", 1 << 20));
    let value = parse(&json).unwrap();
    assert_eq!(value["prompt"].as_array().unwrap().len(), 1 << 20);
}

#[test]
fn token_ids_of_several_prompts_share_one_limit() {
    let half = list("1", 1 << 19);
    assert!(parse(&format!(r#"{{"prompt":[{half},{half}]}}"#)).is_ok());
    let (param, message) = refusal(&format!(r#"{{"prompt":[{half},{half},[1]]}}"#));
    assert_eq!(param, "prompt[2][0]");
    assert!(message.contains("1048576 token ids"), "{message}");
}

#[test]
fn byte_order_mark_before_a_body_is_skipped() {
    let body = "\u{feff}{\"a\":1}";
    assert_eq!(parse(body).unwrap(), serde_json::json!({ "a": 1 }));
    let inside = JsonBudget::default().parse(body.as_bytes(), "messages[0].x");
    assert!(matches!(inside, Err(Malformed::Syntax(_))));
}

#[test]
fn json_in_strings_shares_the_budget() {
    let mut budget = JsonBudget::default();
    let hundred = list("1", 100);
    let parsed = (0..).map(|_| budget.parse(hundred.as_bytes(), "messages[0].x"));
    let fits = parsed.take_while(Result::is_ok).count();
    assert_eq!(fits, MOST_VALUES / 101);
}

proptest! {
    #[test]
    fn json_within_the_limits_is_what_serde_json_reads(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let theirs = serde_json::from_slice::<Value>(&bytes).ok();
        prop_assert_eq!(JsonBudget::default().parse(&bytes, "").ok(), theirs);
    }

    #[test]
    fn json_is_what_serde_json_reads(
        json in r#"(\[|\]|\{|\}|,|:|"a"|"\\u00e9"|"prompt"|1|-2|1\.5e3|1e999|true|null| ){0,12}"#
    ) {
        let theirs = serde_json::from_str::<Value>(&json).ok();
        prop_assert_eq!(parse(&json).ok(), theirs);
    }
}
