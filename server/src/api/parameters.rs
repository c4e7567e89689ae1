//! The parameters that chat and text completions share: how much to generate, how tokens are chosen, where to stop.

use sanctum_engine::prefix::Reuse;
use sanctum_engine::sampling::Sampling;
use sanctum_engine::schedule::Request;
use sanctum_grammar::Constraint;
use serde_json::Value;

use super::error::ApiError;
use super::fields::{JsonField, JsonFields};
use super::json::{MOST_BIASES, MOST_STOPS};
use crate::models::Ready;
use crate::random;

/// Continuations of a prompt: each takes a slot of its own.
const MOST_CONTINUATIONS: i64 = 16;
/// Bytes of one stop string: as much text as it may hold back, and be compared again, with every token.
const LONGEST_STOP: usize = 256;
/// Bytes of a `cache_salt`: a random string or a name.
const LONGEST_SALT: usize = 512;
/// The checked parameters of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerationParameters {
    /// Continuations of each prompt.
    pub n: usize,
    /// Tokens to generate at most; none: as many as the context holds.
    pub max_tokens: Option<usize>,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Continue past end-of-sequence tokens.
    pub ignore_eos: bool,
    /// Whether the answer is streamed.
    pub stream: Option<StreamOptions>,
    /// Whether a computed prefix of the prompt may be reused, and this one's kept: llama.cpp's name for it.
    pub cache_prompt: bool,
    /// Prefixes are shared only among requests with the same one: vLLM's name for it.
    pub cache_salt: Option<String>,
}

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// Send the usage in a last chunk of its own.
    pub include_usage: bool,
}

impl GenerationParameters {
    /// Takes all of them from the body of a chat.
    pub(crate) fn take(fields: &mut JsonFields) -> Result<Self, ApiError> {
        Self::take_all(fields, 1)
    }

    /// Takes all of them from the body of a text completion, which may be of no tokens.
    pub(crate) fn take_completion(fields: &mut JsonFields) -> Result<Self, ApiError> {
        Self::take_all(fields, 0)
    }

    /// `least` is what `max_tokens` may be at least.
    fn take_all(fields: &mut JsonFields, least: usize) -> Result<Self, ApiError> {
        fields.ignore(&[
            "client_metadata",
            "include_reasoning",
            "keep_alive",
            "metadata",
            "models",
            "moderation",
            "plugins",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "provider",
            "route",
            "safety_identifier",
            "service_tier",
            "session_id",
            "store",
            "transforms",
            "ttl",
            "usage",
            "user",
            "verbosity",
        ]);
        fields.refuse(
            "min_tokens",
            |least| *least == 0,
            "an answer may always end where the model ends it",
        )?;
        let none = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        fields.refuse("stop_token_ids", none, "send `stop` strings instead")?;
        Ok(Self {
            n: match fields.take("n") {
                Some(field) => field.integer(1..=MOST_CONTINUATIONS)? as usize,
                None => 1,
            },
            max_tokens: max_tokens(fields, least)?,
            sampling: sampling(fields)?,
            stop: stop(fields)?,
            ignore_eos: take_bool(fields, "ignore_eos")?,
            stream: stream(fields)?,
            cache_prompt: match fields.take("cache_prompt") {
                Some(field) => field.bool()?,
                None => true,
            },
            cache_salt: cache_salt(fields)?,
        })
    }
}

impl GenerationParameters {
    /// The engine's request, once the prompt is known and the model that will answer it.
    pub(crate) fn into_request(
        self,
        prompt: Vec<u32>,
        constraint: Option<Constraint>,
        logprobs: Option<usize>,
        reuse: Reuse,
        ready: &Ready,
    ) -> Result<Request, ApiError> {
        let vocab = ready.engine.vocab();
        let biased = self.sampling.logit_bias.iter();
        if let Some((id, _)) = biased.clone().find(|(id, _)| *id as usize >= vocab) {
            return Err(ApiError::invalid(
                "logit_bias",
                format!("`logit_bias` names the token {id}; this model has {vocab} tokens, from 0"),
            ));
        }
        Ok(Request {
            prompt,
            // The engine ends every sequence at the end of its context.
            max_tokens: self.max_tokens.unwrap_or(usize::MAX),
            sampling: self.sampling,
            stop: self.stop,
            logprobs,
            score_prompt: false,
            constraint,
            reuse,
            ignore_eos: self.ignore_eos,
        })
    }
}

fn cache_salt(fields: &mut JsonFields) -> Result<Option<String>, ApiError> {
    let Some(field) = fields.take("cache_salt") else {
        return Ok(None);
    };
    match field.value() {
        Value::String(text) if (1..=LONGEST_SALT).contains(&text.len()) => field.string().map(Some),
        _ => Err(field.must_be(&format!("a string of 1 to {LONGEST_SALT} bytes"))),
    }
}

/// A flag that is off unless asked for.
pub(crate) fn take_bool(fields: &mut JsonFields, name: &'static str) -> Result<bool, ApiError> {
    fields.take(name).map_or(Ok(false), JsonField::bool)
}

fn max_tokens(fields: &mut JsonFields, least: usize) -> Result<Option<usize>, ApiError> {
    let mut limit = |name| -> Result<Option<usize>, ApiError> {
        let Some(field) = fields.take(name) else {
            return Ok(None);
        };
        match field.integer(-1..=i64::from(u32::MAX))? {
            // Other servers write "as many as fit" as -1.
            -1 => Ok(None),
            tokens if (tokens as usize) < least => Err(field_zero(name)),
            tokens => Ok(Some(tokens as usize)),
        }
    };
    // The names of llama.cpp, Ollama and text-generation-inference come before OpenAI's old one.
    let mut old = None;
    for name in ["n_predict", "num_predict", "max_new_tokens", "max_tokens"] {
        let wanted = limit(name)?;
        old = old.or(wanted);
    }
    match (old, limit("max_completion_tokens")?) {
        (Some(old), Some(new)) if old != new => Err(ApiError::invalid(
            "max_completion_tokens",
            format!("`max_completion_tokens` is {new} and `max_tokens` is {old}; send one of them"),
        )),
        (old, new) => Ok(new.or(old)),
    }
}

fn field_zero(name: &str) -> ApiError {
    ApiError::invalid(
        name,
        format!("`{name}` must be at least 1, or -1 for as many tokens as fit"),
    )
}

fn sampling(fields: &mut JsonFields) -> Result<Sampling, ApiError> {
    let usual = Sampling::default();
    let mut number = |name, range, default| {
        fields
            .take(name)
            .map_or(Ok(default), |field| field.number(range))
    };
    let temperature = number("temperature", 0.0..=2.0, usual.temperature)?;
    let top_p = number("top_p", 0.0..=1.0, usual.top_p)?;
    let min_p = number("min_p", 0.0..=1.0, usual.min_p)?;
    // llama.cpp's name for it comes second.
    let repeat_penalty = number("repeat_penalty", 0.01..=10.0, usual.repetition_penalty)?;
    let repetition_penalty = number("repetition_penalty", 0.01..=10.0, repeat_penalty)?;
    let presence_penalty = number("presence_penalty", -2.0..=2.0, usual.presence_penalty)?;
    let frequency_penalty = number("frequency_penalty", -2.0..=2.0, usual.frequency_penalty)?;

    let mut integer = |name, range, default| -> Result<usize, ApiError> {
        match fields.take(name) {
            // Other servers write "no limit" as -1.
            Some(field) => Ok(field.integer(range)?.max(0) as usize),
            None => Ok(default),
        }
    };
    let top_k = integer("top_k", -1..=i64::from(u32::MAX), usual.top_k)?;
    let repetition_window = integer(
        "repetition_context_size",
        0..=1 << 20,
        usual.repetition_window,
    )?;
    let seed = match fields.take("seed") {
        // Only its bits matter, so it may be negative.
        Some(field) => match field.value().as_u64() {
            Some(seed) => seed,
            None => field.integer(i64::MIN..=i64::MAX)? as u64,
        },
        None => random::number(),
    };
    Ok(Sampling {
        temperature,
        top_p,
        top_k,
        min_p,
        repetition_penalty,
        repetition_window,
        presence_penalty,
        frequency_penalty,
        logit_bias: logit_bias(fields)?,
        seed,
    })
}

fn logit_bias(fields: &mut JsonFields) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(field) = fields.take("logit_bias") else {
        return Ok(Vec::new());
    };
    let mut members = field.members()?;
    members.retain(|(_, field)| !field.value().is_null());
    if members.len() > MOST_BIASES {
        return Err(ApiError::invalid(
            "logit_bias",
            format!(
                "`logit_bias` has {} tokens; {MOST_BIASES} at most",
                members.len()
            ),
        ));
    }
    let bias = |(key, field): (String, JsonField)| {
        let id = key.parse().map_err(|_| {
            let shown: String = key.chars().take(40).collect();
            ApiError::invalid(
                "logit_bias",
                format!("the keys of `logit_bias` must be token ids, not `{shown}`"),
            )
        })?;
        Ok((id, field.number(-100.0..=100.0)?))
    };
    members.into_iter().map(bias).collect()
}

fn stop(fields: &mut JsonFields) -> Result<Vec<String>, ApiError> {
    let Some(field) = fields.take("stop") else {
        return Ok(Vec::new());
    };
    let stops = match field.value() {
        Value::String(_) => vec![field],
        Value::Array(stops) if stops.len() <= MOST_STOPS => field.array()?,
        _ => {
            return Err(field.must_be(&format!(
                "a string or an array of up to {MOST_STOPS} strings"
            )));
        }
    };
    let text = |field: JsonField| {
        let wrong = |problem: &str| {
            let path = field.path();
            Err(ApiError::invalid(path, format!("`{path}` {problem}")))
        };
        match field.value() {
            Value::String(text) if text.is_empty() => wrong("is empty; remove it"),
            Value::String(text) if text.len() > LONGEST_STOP => wrong(&format!(
                "has {} bytes; a stop string has at most {LONGEST_STOP}",
                text.len()
            )),
            _ => field.string(),
        }
    };
    stops.into_iter().map(text).collect()
}

fn stream(fields: &mut JsonFields) -> Result<Option<StreamOptions>, ApiError> {
    let streamed = take_bool(fields, "stream")?;
    let Some(options) = fields.take("stream_options") else {
        return Ok(streamed.then_some(StreamOptions {
            include_usage: false,
        }));
    };
    if !streamed {
        return Err(ApiError::invalid(
            "stream_options",
            "`stream_options` needs `stream: true`",
        ));
    }
    let mut options = options.object()?;
    let include_usage = take_bool(&mut options, "include_usage")?;
    options.ignore(&["include_obfuscation"]);
    options.finish()?;
    Ok(Some(StreamOptions { include_usage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<GenerationParameters, ApiError> {
        let mut fields = JsonFields::parse(body.as_bytes()).unwrap();
        let parameters = GenerationParameters::take(&mut fields)?;
        fields.finish()?;
        Ok(parameters)
    }

    fn param(body: &str) -> String {
        parse(body).unwrap_err().param().unwrap().to_owned()
    }

    #[test]
    fn absent_fields_have_openais_defaults_and_each_request_its_own_seed() {
        let one = parse("{}").unwrap();
        assert_eq!(one.sampling.temperature, 1.0);
        assert_eq!(one.sampling.top_p, 1.0);
        assert_eq!(one.max_tokens, None);
        assert_eq!(one.stream, None);
        assert_ne!(one.sampling.seed, parse("{}").unwrap().sampling.seed);
    }

    #[test]
    fn all_parameters_are_read() {
        let all = parse(
            r#"{"max_completion_tokens": 7, "temperature": 0, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
                "repetition_penalty": 1.1, "repetition_context_size": 20, "presence_penalty": -1,
                "frequency_penalty": 0.5, "logit_bias": {"15": -100, "3": 2.5}, "seed": -1, "stop": ["a", "b"],
                "stream": true, "stream_options": {"include_usage": true}, "user": "u", "metadata": {"k": "v"}}"#,
        )
        .unwrap();
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.05,
            repetition_penalty: 1.1,
            repetition_window: 20,
            presence_penalty: -1.0,
            frequency_penalty: 0.5,
            logit_bias: vec![(15, -100.0), (3, 2.5)],
            seed: u64::MAX,
        };
        assert_eq!(all.sampling, sampling);
        assert_eq!(all.max_tokens, Some(7));
        assert_eq!(all.stop, ["a", "b"]);
        let usage = StreamOptions {
            include_usage: true,
        };
        assert_eq!(all.stream, Some(usage));
    }

    #[test]
    fn prefix_is_reused_unless_the_request_declines() {
        let reuse = |body| {
            let parameters = parse(body).unwrap();
            (parameters.cache_prompt, parameters.cache_salt)
        };
        assert_eq!(reuse("{}"), (true, None));
        assert_eq!(reuse(r#"{"cache_prompt": null}"#), (true, None));
        let both = reuse(r#"{"cache_prompt": false, "cache_salt": "team"}"#);
        assert_eq!(both, (false, Some("team".to_owned())));
    }

    #[test]
    fn stop_may_be_one_string() {
        assert_eq!(parse(r#"{"stop": "\n"}"#).unwrap().stop, ["\n"]);
        assert_eq!(param(r#"{"stop": ["a", ""]}"#), "stop[1]");
        assert_eq!(param(r#"{"stop": 3}"#), "stop");
    }

    #[test]
    fn parameter_out_of_range_is_named() {
        for (body, name) in [
            (r#"{"temperature": 2.1}"#, "temperature"),
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"top_p": -0.1}"#, "top_p"),
            (r#"{"top_k": 1.5}"#, "top_k"),
            (r#"{"max_tokens": 0}"#, "max_tokens"),
            (
                r#"{"max_tokens": 5, "max_completion_tokens": 6}"#,
                "max_completion_tokens",
            ),
            (r#"{"presence_penalty": 3}"#, "presence_penalty"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"logit_bias": {"hello": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"5": 101}}"#, "logit_bias.5"),
            (r#"{"n": 0}"#, "n"),
            (r#"{"n": 17}"#, "n"),
            (r#"{"n": "2"}"#, "n"),
            (r#"{"stream": "yes"}"#, "stream"),
            (
                r#"{"stream_options": {"include_usage": true}}"#,
                "stream_options",
            ),
            (r#"{"seed": 1.5}"#, "seed"),
            (r#"{"max_token": 5}"#, "max_token"),
            (r#"{"cache_salt": ""}"#, "cache_salt"),
            (r#"{"cache_salt": 5}"#, "cache_salt"),
            (r#"{"cache_prompt": "no"}"#, "cache_prompt"),
        ] {
            assert_eq!(param(body), name, "{body}");
        }
    }
}
