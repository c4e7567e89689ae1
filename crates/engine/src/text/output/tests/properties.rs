//! Any output, cut anywhere.

use proptest::prelude::*;
use proptest::sample::Index;

use super::reference::reference;
use super::*;

/// Pieces that calls are made of, well or badly put together.
fn piece() -> impl Strategy<Value = String> {
    const FIXED: [&str; 48] = [
        WEATHER,
        "<tool_call>",
        "<tool_call>\n",
        "</tool_call>",
        "\n</tool_call>\n",
        "<function=write>",
        "<function=write>\n",
        "<function=get_weather>\n",
        "<function=f>",
        "<function=write",
        "</function>",
        "\n</function>\n",
        "<parameter=text>",
        "<parameter=text>\n",
        "\n<parameter=path>\n",
        "\n<parameter=days>\n",
        "<parameter=days>5.0",
        "<parameter=city\n",
        "< parameter = extra >",
        "</parameter>",
        "\n</parameter>",
        "\n</parameter>\n",
        "\n</parameter>\n</function>\n",
        "\n</function>\n</tool_call>\n",
        "<think>",
        "</think>",
        "</think>\n\n",
        "{\"name\": \"write\", \"arguments\": {\"text\": \"",
        "{\"name\": \"write\"}",
        "{\"name\": \"f\"}",
        "{\"a\": 1, \"b\": [",
        "\"}}",
        "}",
        "]",
        "\"",
        "\\\"",
        "```",
        "```json\n",
        "\n```\n",
        "`",
        "\n",
        " ",
        "x",
        "<",
        "</",
        "</para",
        "[1, 'a']",
        "é",
    ];
    prop_oneof![
        30 => prop::sample::select(&FIXED[..]).prop_map(str::to_owned),
        1 => (500usize..530).prop_map(|len| format!("<parameter={}>", "x".repeat(len))),
        4 => "[a é\n<>`\"\\\\{}]{0,3}",
    ]
}

/// Calls in their parts.
const CALLS: [&[&str]; 5] = [
    &[
        "<tool_call>",
        "\n",
        "{\"name\": \"f\", \"a\": \"",
        WEATHER,
        "\"",
        "}",
        "\n",
        "</tool_call>",
    ],
    &[
        "\n",
        " ",
        "```",
        "xml",
        "\n",
        "<tool_call>",
        "\n",
        "<function=write>",
        "\n",
        "<parameter=text>",
        "\n",
        "x",
        "\n",
        "</parameter>",
        "\n",
        "<parameter=path>",
        "\n",
        "y",
        "\n",
        "</parameter>",
        "\n",
        "</function>",
        "\n",
        "</tool_call>",
        "\n",
        "`",
        "``",
        "\n",
    ],
    &[
        "<tool_call>",
        "\n",
        "<function=get_weather>",
        "\n",
        "<parameter=days>",
        "\n",
        "5.0",
        "\n",
        "</parameter>",
        "\n",
        "<parameter=city>",
        "\n",
        "<tool_call>",
        "<function=f>",
        "</function>",
        "</tool_call>",
        "\n",
        "</parameter>",
        "\n",
        "</function>",
        "<function=write>",
        "</function>",
        "\n",
        "</tool_call>",
        "</think>",
        "\n",
    ],
    &[
        "<function=get_weather>",
        "\n",
        "<parameter=units>",
        "['a']",
        "</parameter>",
        "\n",
        "<parameter=extra>",
        "{",
        "}",
        "</parameter>",
        "</function>",
        "\n",
        "</tool_call>",
        "\n",
    ],
    &[
        "<tool_call>",
        "\n",
        "```json\n",
        "{\"name\": \"get_weather\", ",
        "\"arguments\": ",
        "{\"days\": ",
        "5.0",
        "}",
        "}",
        "\n",
        "{\"name\": \"write\"",
        "}",
        "\n",
        "```",
        "\n",
        "</tool_call>",
        "\n",
    ],
];

/// A call that lacks some of its parts, or has others in their place or between them.
fn damaged_call() -> impl Strategy<Value = String> {
    let damage = prop::collection::vec((0u8..24, piece()), 28);
    (prop::sample::select(&CALLS[..]), damage).prop_map(|(parts, damage)| {
        let parts = parts.iter().zip(damage);
        parts
            .map(|(part, (damage, piece))| match damage {
                0 | 1 => String::new(),
                2 => piece,
                3 => format!("{piece}{part}"),
                _ => (*part).to_owned(),
            })
            .collect()
    })
}

fn output(pieces: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let piece = prop_oneof![2 => piece(), 1 => damaged_call()];
    prop::collection::vec(piece, pieces).prop_map(|pieces| pieces.concat())
}

fn end() -> impl Strategy<Value = OutputEnd<'static>> {
    prop_oneof![2 => Just(OutputEnd::Stop), 1 => Just(OutputEnd::Length)]
}

fn cut<'a>(text: &'a str, cuts: &[Index]) -> Vec<&'a str> {
    let places = cuts.iter().map(|cut| cut.index(text.len() + 1));
    let mut places: Vec<usize> = places.map(|at| text.floor_char_boundary(at)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|ends| &text[ends[0]..ends[1]])
        .collect()
}

proptest! {
    #[test]
    fn output_cut_anywhere_is_read_as_the_reference_reads_it(
        output in output(0..14),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
        (thinking, forced, end) in (any::<bool>(), any::<bool>(), end()),
    ) {
        let tools = tools();
        let options = OutputOptions { tools: &tools, thinking, forced, exact: false };
        let expected = reference(&output, options, end);
        prop_assert_eq!(&joined([output.as_str()], options, end), &expected, "whole");
        let chars: Vec<String> = output.chars().map(String::from).collect();
        prop_assert_eq!(&joined(chars.iter().map(String::as_str), options, end), &expected, "by character");
        prop_assert_eq!(&joined(cut(&output, &cuts), options, end), &expected, "cut");
        let read = collect(expected);
        if read.calls.is_empty() && !thinking {
            prop_assert_eq!(read.text, output);
        }
    }

    #[test]
    fn output_before_a_stop_string_is_the_beginning_of_what_a_limit_leaves(
        output in output(0..14),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
        (thinking, forced) in (any::<bool>(), any::<bool>()),
        stop in prop::sample::select(&["x", "function", "tool_call>", "</parameter>", "\n"][..]),
    ) {
        let tools = tools();
        let options = OutputOptions { tools: &tools, thinking, forced, exact: false };
        let end = OutputEnd::StopString(stop);
        let whole = joined([output.as_str()], options, end);
        prop_assert_eq!(&joined(cut(&output, &cuts), options, end), &whole);
        let stopped = collect(whole);
        let limited = collect(joined([output.as_str()], options, OutputEnd::Length));
        prop_assert!(limited.text.starts_with(&stopped.text), "{:?} and {:?}", stopped, limited);
        prop_assert!(limited.reasoning.starts_with(&stopped.reasoning), "{:?} and {:?}", stopped, limited);
        prop_assert!(limited.calls.starts_with(&stopped.calls), "{:?} and {:?}", stopped, limited);
    }

    #[test]
    fn output_without_calls_is_kept(output in output(0..14), thinking in any::<bool>(), end in end()) {
        let options = OutputOptions { thinking, ..OutputOptions::default() };
        let read = collect(joined([output.as_str()], options, end));
        prop_assert!(read.calls.is_empty());
        if !thinking {
            prop_assert_eq!(read.text, output);
            return Ok(());
        }
        let (reasoning, answer) = output.split_once("</think>").unwrap_or((&output, ""));
        let reasoning = reasoning.trim_start();
        let reasoning = reasoning.strip_prefix("<think>").unwrap_or(reasoning).trim();
        prop_assert_eq!(read.reasoning, reasoning);
        let answer = answer.replacen("</think>", "", 1);
        prop_assert_eq!(read.text, answer.trim_start_matches('\n'));
    }

    #[test]
    fn string_value_is_kept(text in "[a \n\"\\\\é`{}]{0,20}", size in 1usize..5) {
        let tools = tools();
        let options = OutputOptions { tools: &tools, ..OutputOptions::default() };
        let chars: Vec<char> = block("write", &parameter("text", &text)).chars().collect();
        let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
        let read = collect(joined(pieces.iter().map(String::as_str), options, OutputEnd::Stop));
        let arguments: Value = serde_json::from_str(&read.calls[0].arguments).unwrap();
        prop_assert_eq!(arguments, json!({ "text": text }));
    }

    #[test]
    fn fuzz_entry_point_accepts_any_bytes(data in prop::collection::vec(any::<u8>(), 0..64)) {
        super::super::fuzz_output(&data);
    }
}
