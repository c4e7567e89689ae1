//! What parsing the output of a model costs at worst: milliseconds for 1 MiB of texts that look like the beginning of a call,
//! or of its end, again and again; in pieces of a token's size, and in one piece.
//!
//! `cargo run --release -p sanctum-engine --example output_bench`; exit code 1: a text takes more than 50 ms.

use std::process::ExitCode;
use std::time::Instant;

use sanctum_engine::text::output::{OutputEnd, OutputOptions, OutputParser};
use serde_json::json;

const SIZE: usize = 1 << 20;
/// Bytes of a token.
const TOKEN: usize = 4;
const LIMIT_MS: f64 = 50.0;
const REPEAT: usize = 5;

/// What each text begins with, and what it repeats.
const TEXTS: [(&str, &str, &str); 16] = [
    ("prose", "", "The weather is mild today. "),
    ("openers", "", "<tool_call>"),
    ("beginnings of openers", "", "<tool_cal"),
    ("angle brackets", "", "<"),
    (
        "functions that are not declared",
        "",
        "<tool_call>\n<function=none>\n",
    ),
    ("functions", "", "<tool_call>\n<function=weather>\n"),
    ("functions without a block", "", "<function=weather>"),
    (
        "a long value",
        "<tool_call>\n<function=weather>\n<parameter=city>\n",
        "x\n",
    ),
    (
        "beginnings of a value's end",
        "<tool_call>\n<function=weather>\n<parameter=city>\n",
        "\n</parameter",
    ),
    (
        "ends inside a value",
        "<tool_call>\n<function=weather>\n<parameter=city>\n",
        "</parameter> ",
    ),
    (
        "nested arrays",
        "<tool_call>\n<function=weather>\n<parameter=days>\n",
        "[",
    ),
    (
        "objects in a block",
        "<tool_call>",
        "{\"name\": \"weather\", \"arguments\": {",
    ),
    (
        "backslashes in an object",
        "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"",
        "\\\\",
    ),
    ("calls in reasoning", "<think>", "<tool_call>{"),
    ("fences", "<tool_call>", "```json\n"),
    (
        "whole calls",
        "",
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>\n",
    ),
];

fn main() -> ExitCode {
    let mut missed = 0;
    println!(
        "{:36} {:>10} {:>10}",
        "milliseconds for 1 MiB", "by tokens", "at once"
    );
    for (name, begin, repeated) in TEXTS {
        let text = begin.to_owned() + &repeated.repeat((SIZE - begin.len()) / repeated.len());
        let times = [TOKEN, SIZE].map(|piece| milliseconds(&text, piece));
        println!("{name:36} {:>10.1} {:>10.1}", times[0], times[1]);
        missed += times.iter().filter(|&&time| time > LIMIT_MS).count();
    }
    if missed > 0 {
        println!("{missed} times are above {LIMIT_MS} ms");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The median time to parse a text that comes in pieces of so many bytes.
fn milliseconds(text: &str, piece: usize) -> f64 {
    let tools = [json!({
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": { "city": { "type": "string" }, "days": { "type": "array" } },
            },
        },
    })];
    // All texts are ASCII.
    let pieces: Vec<&str> = (0..text.len())
        .step_by(piece)
        .map(|start| &text[start..text.len().min(start + piece)])
        .collect();
    let mut times: Vec<f64> = (0..REPEAT)
        .map(|_| {
            let mut parser = OutputParser::new(OutputOptions {
                tools: &tools,
                ..OutputOptions::default()
            });
            let begun = Instant::now();
            let mut events = 0;
            for piece in &pieces {
                events += parser.push(piece).len();
            }
            events += parser.finish(OutputEnd::Stop).len();
            std::hint::black_box(events);
            1e3 * begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEAT / 2]
}
