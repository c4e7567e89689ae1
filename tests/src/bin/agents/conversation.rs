//! The messages of an agent's task.

use serde_json::{Value, json};

use crate::random::SplitMix;

const TEAMS: [&str; 3] = ["kitchen", "library", "workshop"];
const WORDS: [&str; 24] = [
    "lamp", "river", "seven", "copper", "window", "quiet", "market", "green", "stone", "twelve",
    "garden", "letter", "cloud", "bridge", "paper", "north", "salt", "wheel", "harbor", "nine",
    "silver", "field", "candle", "road",
];
const TOOLS: [&str; 4] = ["list_files", "read_file", "search", "run"];

/// A conversation that grows at its end.
#[derive(Clone, Debug)]
pub(crate) struct AgentConversation {
    team: usize,
    messages: Vec<Value>,
    calls: u64,
}

impl AgentConversation {
    /// A new task. Agents of a team have the same system prompt and tools.
    pub(crate) fn begin(random: &mut SplitMix, agent: usize) -> Self {
        let team = agent % TEAMS.len();
        let system = format!(
            "You are an assistant of the {} team. You work with tools and answer briefly. {}",
            TEAMS[team],
            words(&mut SplitMix::new(team as u64), 60)
        );
        let mut conversation = Self {
            team,
            messages: vec![json!({ "role": "system", "content": system })],
            calls: 0,
        };
        conversation.instruct(random);
        conversation
    }

    /// Appends an instruction.
    pub(crate) fn instruct(&mut self, random: &mut SplitMix) {
        let length = 3 + random.below(12);
        let text = format!("Next: {}?", words(random, length));
        self.messages
            .push(json!({ "role": "user", "content": text }));
    }

    /// Appends an answer as it came.
    pub(crate) fn answered(&mut self, text: &str) {
        let text = match text.trim() {
            "" => "Done.",
            _ => text,
        };
        self.messages
            .push(json!({ "role": "assistant", "content": text }));
    }

    /// Appends an answer with a call of a tool, and the tool's result. Other clients render calls in their own way, so that
    /// the prompt leaves the path of the answer within this message.
    pub(crate) fn called(&mut self, text: &str, random: &mut SplitMix, most_words: u64) {
        self.calls += 1;
        let id = format!("call_{}", self.calls);
        let arguments = json!({ "path": words(random, 2).replace(' ', "/") }).to_string();
        let function = json!({ "name": random.pick(&TOOLS), "arguments": arguments });
        self.messages.push(json!({
            "role": "assistant",
            "content": text,
            "tool_calls": [{ "id": id, "type": "function", "function": function }],
        }));
        let length = 1 + random.below(most_words.max(1));
        self.messages.push(json!({
            "role": "tool",
            "tool_call_id": id,
            "content": words(random, length),
        }));
    }

    /// Goes back to an earlier instruction and replaces it.
    pub(crate) fn go_back(&mut self, random: &mut SplitMix) {
        let is_user = |(_, message): &(usize, &Value)| message["role"] == "user";
        let turns: Vec<usize> = (self.messages.iter().enumerate())
            .filter(is_user)
            .map(|(index, _)| index)
            .collect();
        let turn = turns[random.below(turns.len() as u64) as usize];
        self.messages.truncate(turn);
        self.instruct(random);
    }

    /// The body of a request.
    pub(crate) fn request(&self, max_tokens: u64) -> Value {
        let tools = TOOLS[..2 + self.team % 2].iter().map(|name| {
            json!({ "type": "function", "function": {
                "name": name,
                "description": "Acts on a path.",
                "parameters": { "type": "object", "properties": { "path": { "type": "string" } } },
            } })
        });
        json!({
            "messages": self.messages,
            "tools": tools.collect::<Value>(),
            "tool_choice": "none",
            "temperature": 0,
            "max_tokens": max_tokens,
            "stream": true,
            "stream_options": { "include_usage": true },
        })
    }
}

fn words(random: &mut SplitMix, count: u64) -> String {
    let words: Vec<&str> = (0..count).map(|_| random.pick(&WORDS)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversation_grows_at_its_end_and_branches_within() {
        let mut random = SplitMix::new(1);
        let mut conversation = AgentConversation::begin(&mut random, 4);
        conversation.answered("  ");
        let before = conversation.messages.clone();
        conversation.called("ok", &mut random, 5);
        assert_eq!(conversation.messages[..3], before[..]);
        assert_eq!(conversation.messages[4]["tool_call_id"], "call_1");
        conversation.instruct(&mut random);
        conversation.go_back(&mut random);
        let last = conversation.messages.last().unwrap();
        assert_eq!(last["role"], "user");
        let other = AgentConversation::begin(&mut random, 1);
        assert_eq!(other.messages[0], before[0], "one team");
    }
}
