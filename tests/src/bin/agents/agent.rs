//! One agent: task after task, turn after turn.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sanctum_tests::{Http, Limit, Report};
use serde_json::{Value, json};

use crate::conversation::AgentConversation;
use crate::random::SplitMix;

const CHAT: &str = "/v1/chat/completions";
/// The share of turns that are followed by a call of a tool, of those that begin a new task, and of those that start a
/// second agent from the same conversation.
const CALLS: f64 = 0.5;
const ENDS: f64 = 0.05;
const FORKS: f64 = 0.1;
/// Turns of a second agent at most.
const FORKED_TURNS: u64 = 4;

/// How agents behave.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub context: u64,
    pub answer: u64,
    pub result: u64,
    pub branch: f64,
    pub leave: f64,
    pub verify: f64,
    pub pause: u64,
    pub until: Instant,
    /// Answers after which an agent ends; none: only the time counts.
    pub answers: Option<u64>,
}

/// An agent at work.
pub(crate) struct SimulatedAgent {
    http: Http,
    habits: Arc<Habits>,
    random: SplitMix,
    number: usize,
    figures: Figures,
}

/// What agents have done and seen.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    answers: u64,
    left: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    verified: u64,
    differences: u64,
    /// To the first event with text, in milliseconds: of prompts that reused half of their tokens at least, and of others.
    warm_ms: Vec<f64>,
    cold_ms: Vec<f64>,
}

/// A complete answer.
struct TurnAnswer {
    text: String,
    prompt_tokens: u64,
    cached_tokens: u64,
    first_ms: f64,
}

impl SimulatedAgent {
    pub(crate) fn new(http: Http, habits: Arc<Habits>, random: SplitMix, number: usize) -> Self {
        Self {
            http,
            habits,
            random,
            number,
            figures: Figures::default(),
        }
    }

    /// Works until it has its answers, or the time is over.
    pub(crate) async fn work(mut self) -> Figures {
        while self.has_time() {
            let task = AgentConversation::begin(&mut self.random, self.number);
            self.task(task, u64::MAX).await;
        }
        self.figures
    }

    fn has_time(&self) -> bool {
        match self.habits.answers {
            Some(answers) => self.figures.answers < answers,
            None => Instant::now() < self.habits.until,
        }
    }

    async fn task(&mut self, mut conversation: AgentConversation, turns: u64) {
        for _ in 0..turns {
            if !self.has_time() {
                return;
            }
            if self.random.chance(self.habits.leave) {
                self.leave(&conversation).await;
            }
            let answer = self.ask(conversation.request(self.habits.answer)).await;
            let is_full = answer.prompt_tokens + self.habits.answer > self.habits.context;
            if self.random.chance(self.habits.verify) {
                self.verify(&conversation, &answer).await;
            }
            if is_full || self.random.chance(ENDS) {
                return;
            }
            if self.random.chance(self.habits.branch) {
                conversation.go_back(&mut self.random);
                continue;
            }
            if self.random.chance(CALLS) {
                let most = self.habits.result;
                conversation.called(&answer.text, &mut self.random, most);
            } else {
                conversation.answered(&answer.text);
                conversation.instruct(&mut self.random);
            }
            if turns == u64::MAX && self.random.chance(FORKS) {
                self.fork(&mut conversation).await;
            }
            self.pause().await;
        }
    }

    /// A second agent continues the same conversation in another way, at the same time.
    async fn fork(&mut self, conversation: &mut AgentConversation) {
        let mut second = SimulatedAgent::new(
            self.http.afresh(),
            self.habits.clone(),
            self.random.fork(),
            self.number,
        );
        let mut copy = conversation.clone();
        copy.instruct(&mut second.random);
        let turns = 1 + second.random.below(FORKED_TURNS);
        let first = self.ask(conversation.request(self.habits.answer));
        // Boxed: a task may start agents, whose tasks are futures of the same type.
        let (answer, ()) = tokio::join!(first, Box::pin(second.task(copy, turns)));
        self.figures += std::mem::take(&mut second.figures);
        conversation.answered(&answer.text);
        conversation.instruct(&mut self.random);
    }

    async fn ask(&mut self, body: Value) -> TurnAnswer {
        let answer = ask(&self.http, &body).await;
        let figures = &mut self.figures;
        figures.answers += 1;
        figures.prompt_tokens += answer.prompt_tokens;
        figures.cached_tokens += answer.cached_tokens;
        match 2 * answer.cached_tokens >= answer.prompt_tokens {
            true => figures.warm_ms.push(answer.first_ms),
            false => figures.cold_ms.push(answer.first_ms),
        }
        answer
    }

    /// The same question without reuse must have the same answer.
    async fn verify(&mut self, conversation: &AgentConversation, answer: &TurnAnswer) {
        let mut body = conversation.request(self.habits.answer);
        body["cache_prompt"] = json!(false);
        let cold = ask(&self.http, &body).await;
        self.figures.verified += 1;
        if cold.text != answer.text {
            self.figures.differences += 1;
            eprintln!(
                "difference after {} of {} reused tokens\n  reused:   {:?}\n  computed: {:?}\n  request: {body}",
                answer.cached_tokens, answer.prompt_tokens, answer.text, cold.text
            );
        }
    }

    /// Disconnects at a random moment of the prompt or the answer.
    async fn leave(&mut self, conversation: &AgentConversation) {
        let http = self.http.afresh();
        let body = conversation.request(self.habits.answer);
        let moment = Duration::from_millis(1 + self.random.below(80));
        let answered = tokio::time::timeout(moment, ask(&http, &body)).await;
        self.figures.left += u64::from(answered.is_err());
    }

    async fn pause(&mut self) {
        if self.habits.pause > 0 {
            let pause = self.random.below(self.habits.pause);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

async fn ask(http: &Http, body: &Value) -> TurnAnswer {
    let began = Instant::now();
    let mut chunks = http.stream(CHAT, body).await;
    let mut answer = TurnAnswer {
        text: String::new(),
        prompt_tokens: 0,
        cached_tokens: 0,
        first_ms: 0.0,
    };
    while let Some(chunk) = chunks.next().await {
        assert!(chunk.data["error"].is_null(), "{}", chunk.data);
        let is_first = answer.text.is_empty() && !chunk.text().is_empty();
        if is_first {
            answer.first_ms = 1e3 * (chunk.at - began).as_secs_f64();
        }
        answer.text.push_str(chunk.text());
        let usage = &chunk.data["usage"];
        if let Some(tokens) = usage["prompt_tokens"].as_u64() {
            answer.prompt_tokens = tokens;
            let cached = &usage["prompt_tokens_details"]["cached_tokens"];
            answer.cached_tokens = cached.as_u64().expect("the usage has cached tokens");
        }
    }
    answer
}

impl Figures {
    /// Adds them to the report.
    pub(crate) fn report(mut self, report: &mut Report) {
        let some = Some(Limit::AtLeast(1.0));
        report.add("answers", self.answers as f64, "", some);
        report.add("clients that left", self.left as f64, "", None);
        report.add("prompt tokens", self.prompt_tokens as f64, "", None);
        report.add("reused of them", self.cached_tokens as f64, "", None);
        let rate = 100.0 * self.cached_tokens as f64 / self.prompt_tokens.max(1) as f64;
        report.add("hit rate", rate, "%", None);
        for (name, times) in [("warm", &mut self.warm_ms), ("cold", &mut self.cold_ms)] {
            times.sort_by(f64::total_cmp);
            if let Some(median) = times.get(times.len() / 2) {
                report.add(&format!("first token p50, {name}"), *median, "ms", None);
            }
        }
        report.add("answers compared", self.verified as f64, "", None);
        let none = Some(Limit::AtMost(0.0));
        report.add("different ones", self.differences as f64, "", none);
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.left += other.left;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.verified += other.verified;
        self.differences += other.differences;
        self.warm_ms.extend(other.warm_ms);
        self.cold_ms.extend(other.cold_ms);
    }
}
