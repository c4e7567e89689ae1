//! `sanctum-server bench --schema`: what a constraint costs.
//!
//! Unlike the forward passes of the other measurements, these tokens are chosen by the engine, as for requests: sampled at
//! temperature 1 from logits to which the constraint's mask was applied. Measurements without and with the constraint take
//! turns, so that a machine whose speed changes meanwhile affects both alike.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use sanctum_engine::backend::Backend;
use sanctum_engine::graph::Model;
use sanctum_engine::prefix::Reuse;
use sanctum_engine::sampling::Sampling;
use sanctum_engine::schedule::{Engine, EngineLimits, Event, Heartbeat, Request};
use sanctum_engine::text::{Text, Tokenizer};
use sanctum_grammar::{Constraint, Format, Rules};
use serde::Serialize;

use super::spread::Spread;
use crate::args::BenchArgs;
use crate::failure::CommandFailure;

/// The largest schema file, in bytes: more than the server accepts in a request.
const LARGEST_SCHEMA: u64 = 1 << 20;
/// The largest tokenizer.json, in bytes.
const LARGEST_TOKENIZER: u64 = 256 << 20;
/// Tokens of each prompt, in addition to the generated ones, that the context holds.
const PROMPT: usize = 16;

/// The cost of a constraint at one number of streams.
#[derive(Debug, Serialize)]
pub(super) struct ConstrainedRun {
    /// `decode 64 x 4`.
    pub(super) name: String,
    /// Tokens a second of all streams together, without the constraint.
    pub(super) free: Spread,
    /// The same with it.
    pub(super) constrained: Spread,
    /// The median of the ratios of neighbours in time.
    pub(super) ratio: f64,
}

/// The text side of the benchmark: with a tokenizer of another model, if one is named.
pub(super) fn text(args: &BenchArgs, own: Text) -> Result<Text, CommandFailure> {
    let Some(folder) = &args.tokenizer else {
        return Ok(own);
    };
    let file = folder
        .here()
        .map_err(crate::settings::SettingsError::from)?;
    let file = file.join("tokenizer.json");
    let bytes = sanctum_config::files::read(&file, LARGEST_TOKENIZER)
        .map_err(|error| unusable(&file, &error))?;
    let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| unusable(&file, &error))?;
    let vocab = tokenizer.vocab_size() as u32;
    let mut text = Text::new(tokenizer, None, Vec::new());
    // A model may have more tokens than its tokenizer.
    text.wrap = Some(vocab);
    Ok(text)
}

/// The rules of the schema in a file.
pub(super) fn rules(file: &Path) -> Result<Rules, CommandFailure> {
    let json = sanctum_config::files::read_text(file, LARGEST_SCHEMA)
        .map_err(|error| unusable(file, &error))?;
    let schema = serde_json::from_str(&json).map_err(|error| unusable(file, &error))?;
    Ok(Rules {
        answer: Some(Format::Schema {
            schema,
            lenient: false,
            path: String::new(),
        }),
        calls: None,
    })
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> CommandFailure {
    CommandFailure::BenchFile {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

/// Measures each number of streams.
///
/// # Errors
/// If the schema cannot be enforced, or the engine does not start or fails.
pub(super) fn measure<B>(
    args: &BenchArgs,
    file: &Path,
    model: Model<B>,
    text: Text,
) -> Result<Vec<ConstrainedRun>, CommandFailure>
where
    B: Backend + Send + 'static,
    B::Matrix: Send,
    B::Experts: Send,
    B::Vector: Send,
    B::Slots: Send,
{
    let constraint = text.constrain(&rules(file)?, false);
    let constraint = constraint
        .map_err(|error| unusable(file, &error))?
        .ok_or_else(|| unusable(file, &"it allows every answer"))?;
    let most = args.streams.iter().map(|streams| streams.get()).max();
    let slots = most.unwrap_or(1);
    let limits = EngineLimits {
        slots,
        queue: slots,
        prefill_chunk: args.prefill_chunk.get(),
        context: model.config.context.min(args.generate + PROMPT),
    };
    let engine = Engine::start(model, text, limits, Arc::new(Heartbeat::new()))?;
    let mut runs = Vec::new();
    for streams in args.streams.iter().map(|streams| streams.get()) {
        let rate = |constraint: Option<&Constraint>| {
            let seconds = generate(&engine, args.generate, streams, constraint)?;
            Ok::<_, CommandFailure>((args.generate * streams) as f64 / seconds)
        };
        rate(None)?; // warm-up
        rate(Some(&constraint))?;
        let (mut free, mut constrained, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.repeat.get() {
            let (without, with) = (rate(None)?, rate(Some(&constraint))?);
            free.push(without);
            constrained.push(with);
            ratios.push(with / without);
        }
        runs.push(ConstrainedRun {
            name: format!("decode {} x {streams}", args.generate),
            free: Spread::of(free),
            constrained: Spread::of(constrained),
            ratio: Spread::of(ratios).median,
        });
    }
    Ok(runs)
}

/// Seconds to generate so many tokens in each of several streams at once.
fn generate(
    engine: &Engine,
    tokens: usize,
    streams: usize,
    constraint: Option<&Constraint>,
) -> Result<f64, CommandFailure> {
    let began = Instant::now();
    let all: Result<Vec<()>, CommandFailure> = thread::scope(|scope| {
        let streams: Vec<_> = (0..streams as u64)
            .map(|seed| scope.spawn(move || stream(engine, tokens, seed, constraint)))
            .collect();
        let joined = streams.into_iter().map(|stream| stream.join());
        joined
            .map(|ended| ended.unwrap_or_else(|_| Err(failed("a stream panicked"))))
            .collect()
    });
    all?;
    Ok(began.elapsed().as_secs_f64())
}

/// Generates the tokens of one stream. An answer that the schema completes early is followed by another one.
fn stream(
    engine: &Engine,
    tokens: usize,
    seed: u64,
    constraint: Option<&Constraint>,
) -> Result<(), CommandFailure> {
    let mut left = tokens;
    while left > 0 {
        let request = Request {
            prompt: vec![1],
            max_tokens: left,
            sampling: Sampling {
                seed: seed + left as u64,
                ..Sampling::default()
            },
            stop: Vec::new(),
            logprobs: None,
            score_prompt: false,
            constraint: constraint.cloned(),
            ignore_eos: constraint.is_none(),
            reuse: Reuse::Off,
        };
        let submitted = engine.submit(request);
        let mut generation = submitted.map_err(|error| failed(&error.to_string()))?;
        let before = left;
        loop {
            match generation.blocking_next() {
                Some(Event::Token { .. }) => left -= 1,
                // No prompt is scored here.
                Some(Event::Prompt { .. }) => {}
                Some(Event::Finished { .. }) => break,
                Some(Event::Refused(error)) => return Err(failed(&error.to_string())),
                Some(Event::Failed(why)) => return Err(failed(&why)),
                None => return Err(failed("the engine has stopped")),
            }
        }
        if left == before {
            return Err(failed("the schema allows an empty answer only"));
        }
    }
    Ok(())
}

fn failed(why: &str) -> CommandFailure {
    CommandFailure::BenchEngine(why.to_owned())
}
