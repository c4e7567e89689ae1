//! What is measured: a prompt, or decode of some streams behind some tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One measurement. Its text is the name that `sanctum-server bench` gives it: `prefill 128`, `decode 64 x 8`,
/// `decode 64 x 1 @ 32768`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum Workload {
    /// A prompt, until the logits of its last token.
    Prefill {
        /// Tokens of the prompt.
        tokens: usize,
    },
    /// Tokens one by one.
    Decode {
        /// Tokens that each stream generates.
        tokens: usize,
        /// Streams that generate at once.
        streams: usize,
        /// Tokens that each stream has processed before.
        depth: usize,
    },
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill { tokens } => write!(f, "prefill {tokens}"),
            Self::Decode {
                tokens,
                streams,
                depth: 0,
            } => write!(f, "decode {tokens} x {streams}"),
            Self::Decode {
                tokens,
                streams,
                depth,
            } => write!(f, "decode {tokens} x {streams} @ {depth}"),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parsed(text).ok_or_else(|| {
            format!(
                "`{text}` is not a workload; write `prefill 128`, `decode 64 x 8` (64 tokens in each of 8 streams) or \
                 `decode 64 x 1 @ 32768` (behind that many tokens)"
            )
        })
    }
}

impl TryFrom<String> for Workload {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Workload> for String {
    fn from(workload: Workload) -> Self {
        workload.to_string()
    }
}

fn parsed(text: &str) -> Option<Workload> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["prefill", tokens] => Some(Workload::Prefill {
            tokens: count(tokens)?,
        }),
        ["decode", tokens, "x", streams] => Some(Workload::Decode {
            tokens: count(tokens)?,
            streams: count(streams)?,
            depth: 0,
        }),
        ["decode", tokens, "x", streams, "@", depth] => Some(Workload::Decode {
            tokens: count(tokens)?,
            streams: count(streams)?,
            depth: count(depth)?,
        }),
        _ => None,
    }
}

fn count(word: &str) -> Option<usize> {
    word.parse().ok().filter(|&count| count > 0)
}

/// Workloads that one process can measure: all prompts, and decode of one length at one depth. Programs that load a model
/// in a minute load it once for each group.
#[derive(Debug, PartialEq)]
pub(super) struct WorkloadGroup {
    /// Its workloads.
    pub(super) workloads: Vec<Workload>,
    /// Tokens that decode generates; 0 if there is none.
    pub(super) generate: usize,
    /// Tokens that streams have processed before.
    pub(super) depth: usize,
}

impl WorkloadGroup {
    /// The prompts' tokens as a program's list `128,2048`; `0` if there is none.
    pub(super) fn prompts(&self) -> String {
        self.list(|workload| match workload {
            Workload::Prefill { tokens } => Some(tokens),
            Workload::Decode { .. } => None,
        })
    }

    /// The numbers of streams as a list; `0` without decode.
    pub(super) fn streams(&self) -> String {
        self.list(|workload| match workload {
            Workload::Prefill { .. } => None,
            Workload::Decode { streams, .. } => Some(streams),
        })
    }

    fn list(&self, number: impl Fn(Workload) -> Option<usize>) -> String {
        let numbers = self.workloads.iter().filter_map(|&one| number(one));
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        match numbers.is_empty() {
            true => "0".to_owned(),
            false => numbers.join(","),
        }
    }
}

/// The fewest groups.
pub(super) fn groups(workloads: &[Workload]) -> Vec<WorkloadGroup> {
    let mut groups: Vec<WorkloadGroup> = Vec::new();
    for &workload in workloads {
        let (generate, depth) = match workload {
            Workload::Prefill { .. } => (0, 0),
            Workload::Decode { tokens, depth, .. } => (tokens, depth),
        };
        let fits = |group: &&mut WorkloadGroup| {
            let same_length = generate == group.generate || generate == 0 || group.generate == 0;
            group.depth == depth && same_length
        };
        match groups.iter_mut().find(fits) {
            Some(group) => {
                group.workloads.push(workload);
                group.generate = group.generate.max(generate);
            }
            None => groups.push(WorkloadGroup {
                workloads: vec![workload],
                generate,
                depth,
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workloads(text: &str) -> Vec<Workload> {
        text.split(',').map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn workload_is_read_as_it_is_written() {
        // As `sanctum-server bench` names its runs.
        for name in ["prefill 128", "decode 64 x 4", "decode 64 x 1 @ 32768"] {
            let workload: Workload = name.parse().unwrap();
            assert_eq!(workload.to_string(), name);
            let json = serde_json::to_string(&workload).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Workload>(&json).unwrap(), workload);
        }
    }

    #[test]
    fn other_workloads_are_refused_with_examples() {
        for text in [
            "",
            "prefill",
            "prefill 0",
            "prefill -1",
            "decode 64",
            "decode 64 x 0",
            "decode 64 x 1 @ 0",
            "encode 64 x 1",
        ] {
            let error = text.parse::<Workload>().unwrap_err();
            assert!(error.contains("write `prefill 128`"), "{text}: {error}");
        }
    }

    #[test]
    fn groups_share_a_process_for_all_prompts_and_decode_of_a_depth() {
        let asked = workloads(
            "decode 64 x 1 @ 32768,prefill 128,decode 64 x 1,prefill 2048,decode 64 x 8,decode 32 x 1",
        );
        let groups = groups(&asked);
        let shown: Vec<_> = groups
            .iter()
            .map(|group| {
                (
                    group.prompts(),
                    group.generate,
                    group.streams(),
                    group.depth,
                )
            })
            .collect();
        let group = |prompts: &str, generate: usize, streams: &str, depth: usize| {
            (prompts.to_owned(), generate, streams.to_owned(), depth)
        };
        assert_eq!(
            shown,
            [
                group("0", 64, "1", 32768),
                group("128,2048", 64, "1,8", 0),
                group("0", 32, "1", 0),
            ]
        );
        assert_eq!(groups[1].workloads, [1, 2, 3, 4].map(|index| asked[index]));
    }
}
