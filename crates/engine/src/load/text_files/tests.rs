//! Ends of sequences and chat templates, from each file that may have them.

use serde_json::json;

use super::*;
use crate::load::checkpoint::Files;
use crate::load::embedded;

/// The built-in model's files with some replaced, added or, where there is nothing, left out.
fn files(changed: &[(&str, Option<Value>)]) -> Files {
    let mut files = std::collections::BTreeMap::from(
        embedded::FILES.map(|(name, bytes)| (name, bytes.to_vec())),
    );
    for (name, content) in changed {
        match content {
            None => drop(files.remove(name)),
            // Templates are text, all else is JSON.
            Some(Value::String(text)) => drop(files.insert(name, text.clone().into_bytes())),
            Some(json) => drop(files.insert(name, json.to_string().into_bytes())),
        }
    }
    Files::memory(files)
}

fn text(changed: &[(&str, Option<Value>)]) -> Result<Text, String> {
    let files = files(changed);
    let config = files.require("config.json").unwrap();
    let config = ModelConfig::parse(&config).unwrap();
    read(&files, &config, &ModelSource::Embedded).map_err(|error| error.to_string())
}

/// config.json of the built-in model with other ends of sequence.
fn config(eos: Value) -> Option<Value> {
    let (_, bytes) = embedded::FILES[0];
    let mut config: Value = serde_json::from_slice(bytes).unwrap();
    config["eos_token_id"] = eos;
    Some(config)
}

const END_OF_TURN: u32 = 1017; // <|im_end|>
const END_OF_TEXT: u32 = 1015; // <|endoftext|>

#[test]
fn end_of_sequence_is_the_union_of_all_files() {
    let turn = json!({ "eos_token": "<|im_end|>" });
    let turn_as_object = json!({ "eos_token": { "content": "<|im_end|>", "special": true } });
    let none = json!({});
    for (generation, in_config, tokenizer, expected) in [
        // Each alone.
        (
            Some(json!({"eos_token_id": END_OF_TEXT})),
            json!(null),
            none.clone(),
            vec![END_OF_TEXT],
        ),
        (None, json!([END_OF_TEXT]), none.clone(), vec![END_OF_TEXT]),
        (None, json!(null), turn.clone(), vec![END_OF_TURN]),
        (None, json!(null), turn_as_object.clone(), vec![END_OF_TURN]),
        // The fine-tune that ran on into invented turns.
        (
            Some(json!({"eos_token_id": END_OF_TEXT})),
            json!(null),
            turn.clone(),
            vec![END_OF_TEXT, END_OF_TURN],
        ),
        (
            Some(json!({"eos_token_id": [END_OF_TEXT]})),
            json!(5),
            turn_as_object,
            vec![END_OF_TEXT, 5, END_OF_TURN],
        ),
        // Each once.
        (
            Some(json!({"eos_token_id": [END_OF_TURN, 5]})),
            json!([5, END_OF_TURN]),
            turn,
            vec![END_OF_TURN, 5],
        ),
        (
            Some(none.clone()),
            json!(null),
            json!({"eos_token": "no such token"}),
            vec![],
        ),
        (None, json!(null), json!({"eos_token": null}), vec![]),
    ] {
        let eos = text(&[
            ("generation_config.json", generation),
            ("config.json", config(in_config)),
            ("tokenizer_config.json", Some(tokenizer)),
        ]);
        assert_eq!(eos.unwrap().eos, expected);
    }
}

#[test]
fn end_of_sequence_that_is_no_token_id_is_named_with_its_file() {
    for (content, found) in [
        (r#"{"eos_token_id": "<|im_end|>"}"#, "\"<|im_end|>\""),
        (r#"{"eos_token_id": NaN}"#, "NaN"),
        (r#"{"eos_token_id": [1, -1]}"#, "[1,-1]"),
    ] {
        let error = text(&[("generation_config.json", Some(content.into()))]).unwrap_err();
        let words = ["generation_config.json", "eos_token_id", found];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn python_literals_and_byte_order_marks_are_read_in_every_file() {
    let as_text = |name: &str| {
        let (_, bytes) = embedded::FILES
            .into_iter()
            .find(|(file, _)| *file == name)
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let marked = |name: &str| {
        let file = as_text(name).replacen('{', "{\"unused\": [NaN, Infinity],", 1);
        Some(Value::from(format!("\u{feff}{file}")))
    };
    let tokenizer = Some(Value::from(format!(
        "\u{feff}{}",
        as_text("tokenizer.json")
    )));
    let text = text(&[
        ("generation_config.json", marked("generation_config.json")),
        ("tokenizer_config.json", marked("tokenizer_config.json")),
        ("tokenizer.json", tokenizer),
    ]);
    assert_eq!(text.unwrap().eos, [END_OF_TURN, END_OF_TEXT]);
}

/// What a checkpoint with these files renders without tools, and with one.
fn rendered(changed: &[(&str, Option<Value>)]) -> Result<Option<[String; 2]>, String> {
    let Some(template) = text(changed)?.template else {
        return Ok(None);
    };
    let tool = json!({ "type": "function", "function": { "name": "w" } });
    let render = |tools: &[Value]| template.render(&[], tools, &Map::new()).unwrap();
    Ok(Some([render(&[]), render(&[tool])]))
}

#[test]
fn template_of_each_file_is_used_in_the_order_of_transformers() {
    let gone = ("chat_template.jinja", None);
    let jinja = (
        "chat_template.jinja",
        Some(json!("jinja{{ enable_thinking }}")),
    );
    let named = json!([
        { "name": "default", "template": "list" },
        { "name": "tool_use", "template": "list with {{ tools | length }}" },
    ]);
    let of = |field: Value| Some(json!({ "chat_template": field }));
    let list = ("tokenizer_config.json", of(named.clone()));
    let object = (
        "tokenizer_config.json",
        of(json!({"default": "a", "tool_use": "b"})),
    );
    let one = ("tokenizer_config.json", of(json!("one")));
    let older = ("chat_template.json", of(json!("older")));
    let older_list = ("chat_template.json", of(named));
    let folder = (TOOL_USE_TEMPLATE, Some(json!("folder")));
    for (changed, expected) in [
        (vec![gone.clone(), one.clone()], ["one", "one"]),
        (vec![gone.clone(), list.clone()], ["list", "list with 1"]),
        (vec![gone.clone(), object], ["a", "b"]),
        (vec![gone.clone(), older.clone()], ["older", "older"]),
        (vec![gone.clone(), older_list], ["list", "list with 1"]),
        (
            vec![gone.clone(), one.clone(), older.clone()],
            ["one", "one"],
        ),
        (
            vec![gone.clone(), list.clone(), folder.clone()],
            ["list", "folder"],
        ),
        (
            vec![gone.clone(), older.clone(), folder.clone()],
            ["older", "folder"],
        ),
        (
            vec![jinja.clone(), list, older],
            ["jinjaFalse", "jinjaFalse"],
        ),
        (vec![jinja, folder.clone()], ["jinjaFalse", "folder"]),
    ] {
        let expected = Some(expected.map(str::to_owned));
        assert_eq!(rendered(&changed), Ok(expected), "{changed:?}");
    }
    assert_eq!(rendered(std::slice::from_ref(&gone)), Ok(None));
    for (changed, words) in [
        (folder, "default"),
        (
            (
                "tokenizer_config.json",
                of(json!([{"name": "tool_use", "template": ""}])),
            ),
            "default",
        ),
        (
            ("tokenizer_config.json", of(json!(3))),
            "list of named templates",
        ),
        (
            ("chat_template.json", Some(json!("["))),
            "chat_template.json",
        ),
    ] {
        let error = rendered(&[gone.clone(), changed]).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn variables_of_both_templates_can_be_set() {
    let template = text(&[
        ("chat_template.jinja", Some(json!("{{ a }}"))),
        (TOOL_USE_TEMPLATE, Some(json!("{{ b }}"))),
    ]);
    let template = template.unwrap().template.unwrap();
    assert!(template.reads("a") && template.reads("b") && !template.reads("c"));
}

#[test]
fn byte_order_mark_of_a_template_is_no_part_of_the_prompt() {
    let plain = Some(json!("\u{feff}plain"));
    let with_tools = Some(json!("\u{feff}tools"));
    let changed = [
        ("chat_template.jinja", plain),
        (TOOL_USE_TEMPLATE, with_tools),
    ];
    let expected = ["plain", "tools"].map(str::to_owned);
    assert_eq!(rendered(&changed), Ok(Some(expected)));
}
