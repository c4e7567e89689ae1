//! The rotary embedding, as `rope_parameters`, the older `rope_scaling` and the older fields of the root say it.
//!
//! transformers lets `rope_scaling` replace `rope_parameters`, mlx-lm ignores it beside them. Here the two are laid
//! together, and what they disagree about is an error. `rope_type` and the older `type` mean the same.

use sanctum_kernels::RopeScaling;
use serde_json::{Map, Value};

use super::error::{ConfigError, unsupported};
use super::fields::Fields;

/// Base, rotated share of a head, and stretching.
#[derive(Debug)]
pub(super) struct RopeFields {
    pub(super) theta: f64,
    pub(super) rotary_factor: f64,
    pub(super) scaling: RopeScaling,
    /// Positions for which the stretching is meant; none without.
    pub(super) context: Option<usize>,
}

/// Of text, whose three positions are equal, these change nothing; neither does what only training knows.
const INERT: [&str; 3] = ["mrope_section", "mrope_interleaved", "finetuned"];
const PLAIN: [&str; 4] = ["type", "rope_type", "rope_theta", "partial_rotary_factor"];
const SCALED: [&str; 2] = ["factor", "original_max_position_embeddings"];
const YARN: [&str; 6] = [
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

const REMOVE_ONE: &str = "the two must agree; remove one of them";
const KINDS: &str = "default, linear and yarn are supported; convert the model without context extension, or serve it \
                     with a program that supports this one";

impl RopeFields {
    pub(super) fn parse(config: &Fields) -> Result<Self, ConfigError> {
        let rope = together(config)?;
        let kind = kind(&rope)?.unwrap_or("default");
        let read: &[&[&str]] = match kind {
            "yarn" => &[&PLAIN, &INERT, &SCALED, &YARN],
            "linear" => &[&PLAIN, &INERT, &SCALED],
            "default" | "mrope" => &[&PLAIN, &INERT],
            _ => return Err(unsupported(rope.path("rope_type"), kind, KINDS)),
        };
        for (key, value) in rope.iter() {
            // A factor of 1 stretches nothing.
            let neutral = key == "factor" && value.as_f64() == Some(1.0);
            if !neutral && !read.iter().any(|keys| keys.contains(&key)) {
                let wanted = format!("it has no meaning for the rope_type {kind}; {KINDS}");
                return Err(rope.wrong(key, &wanted));
            }
        }
        let number = |key: &str| -> Result<Option<f64>, ConfigError> {
            Ok(rope.number(key)?.or(config.number(key)?))
        };
        // The reference implementations disagree about a default, so there is none.
        let theta = number("rope_theta")?.ok_or_else(|| {
            let wanted = "add it to rope_parameters, as published checkpoints do";
            config.missing("rope_theta", wanted)
        })?;
        let rotary_factor = number("partial_rotary_factor")?.unwrap_or(0.25);
        if theta <= 1.0 {
            return Err(unsupported("rope_theta", theta, "it must be above 1"));
        }
        if !(0.0..=1.0).contains(&rotary_factor) {
            let wanted = "it must be between 0 and 1";
            return Err(unsupported("partial_rotary_factor", rotary_factor, wanted));
        }
        let (scaling, context) = match kind {
            "linear" => (linear(&rope)?, None),
            "yarn" => yarn(&rope)?,
            _ => (RopeScaling::None, None),
        };
        Ok(Self {
            theta,
            rotary_factor,
            scaling,
            context,
        })
    }
}

/// `rope_parameters` with what `rope_scaling` adds to them.
fn together(config: &Fields) -> Result<Fields, ConfigError> {
    let older = config.object("rope_scaling")?.unwrap_or_default();
    let Some(parameters) = config.object("rope_parameters")? else {
        return Ok(Fields::named("rope_scaling", older));
    };
    let parameters = Fields::named("rope_parameters", parameters);
    let older = Fields::named("rope_scaling", older);
    let kinds = [&parameters, &older].map(kind);
    let [first, second] = kinds;
    let kind = match [first?, second?] {
        // Not to stretch is what a file says that was never meant to be stretched.
        [None | Some("default" | "mrope"), Some(kind)] | [Some(kind), None] => Some(kind),
        [Some(kind), Some(other)] if kind == other || other == "default" || other == "mrope" => {
            Some(kind)
        }
        [Some(kind), Some(other)] => {
            let wanted = format!("rope_parameters.rope_type is {kind}; {REMOVE_ONE}");
            return Err(unsupported("rope_scaling.rope_type", other, wanted));
        }
        [None, None] => None,
    };
    let mut all = Map::new();
    for (key, value) in parameters.iter().chain(older.iter()) {
        if matches!(key, "type" | "rope_type") {
            continue;
        }
        match all.get(key) {
            Some(first) if !same(first, value) && !INERT.contains(&key) => {
                let wanted = format!("rope_parameters.{key} is {first}; {REMOVE_ONE}");
                return Err(older.wrong(key, &wanted));
            }
            Some(_) => {}
            None => drop(all.insert(key.to_owned(), value.clone())),
        }
    }
    all.extend(kind.map(|kind| ("rope_type".to_owned(), Value::from(kind))));
    Ok(Fields::named("rope_parameters", all))
}

/// The type that an object names, under its newer or its older key.
fn kind(rope: &Fields) -> Result<Option<&str>, ConfigError> {
    match (rope.text("rope_type")?, rope.text("type")?) {
        (Some(kind), Some(other)) if kind != other => {
            let wanted = format!("{} is {other}; {REMOVE_ONE}", rope.path("type"));
            Err(unsupported(rope.path("rope_type"), kind, wanted))
        }
        (kind, older) => Ok(kind.or(older)),
    }
}

/// Whether two values are equal; 1e7 and 10000000 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn linear(rope: &Fields) -> Result<RopeScaling, ConfigError> {
    Ok(RopeScaling::Linear {
        factor: factor(rope)?,
    })
}

fn yarn(rope: &Fields) -> Result<(RopeScaling, Option<usize>), ConfigError> {
    /// Positions beyond this are not exact in f32.
    const MOST: usize = 1 << 24;
    let factor = factor(rope)?;
    let key = "original_max_position_embeddings";
    // transformers and mlx-lm have other defaults.
    let wanted = "it must be the context before it was extended, in tokens";
    let original = rope.size(key)?.ok_or_else(|| rope.missing(key, wanted))?;
    if original == 0 || original > MOST {
        return Err(rope.wrong(key, wanted));
    }
    if rope.flag("truncate")? == Some(false) {
        return Err(rope.wrong("truncate", "only true is supported"));
    }
    let rotations = |key: &str, default: f64| -> Result<f64, ConfigError> {
        match rope.number(key)?.filter(|&number| number != 0.0) {
            Some(number) if number < 0.0 => Err(rope.wrong(key, "it must be above 0")),
            number => Ok(number.unwrap_or(default)),
        }
    };
    let (fast, slow) = (rotations("beta_fast", 32.0)?, rotations("beta_slow", 1.0)?);
    if fast <= slow {
        return Err(rope.wrong("beta_fast", "it must be above beta_slow"));
    }
    let scaling = RopeScaling::Yarn {
        factor,
        original,
        fast,
        slow,
        attention: attention_factor(rope, factor)?,
    };
    let context = ((original as f64 * factor) as usize).min(MOST);
    Ok((scaling, Some(context)))
}

fn factor(rope: &Fields) -> Result<f64, ConfigError> {
    let wanted = "it must be how many times the context is extended, a number from 1 to 1024";
    match rope.number("factor")? {
        Some(factor) if (1.0..=1024.0).contains(&factor) => Ok(factor),
        Some(_) => Err(rope.wrong("factor", wanted)),
        None => Err(rope.missing("factor", wanted)),
    }
}

/// What queries and keys are multiplied with: `attention_factor` if it is given, else a ratio of
/// `0.1 · mscale · ln(factor) + 1`. Of `mscale` and `mscale_all_dim` given alone transformers and mlx-lm think differently.
fn attention_factor(rope: &Fields, factor: f64) -> Result<f64, ConfigError> {
    let scale = |mscale: f64| match factor > 1.0 {
        true => 0.1 * mscale * factor.ln() + 1.0,
        false => 1.0,
    };
    let said = rope.number("attention_factor")?;
    let ours = match (rope.number("mscale")?, rope.number("mscale_all_dim")?) {
        (None | Some(1.0), None | Some(0.0)) => scale(1.0),
        (Some(own), Some(all)) if own != 0.0 && all != 0.0 => scale(own) / scale(all),
        _ if said.is_some() => 1.0,
        (_, all) => {
            let key = all.map_or("mscale", |_| "mscale_all_dim");
            let wanted = "give both mscale and mscale_all_dim, or neither";
            return Err(rope.wrong(key, wanted));
        }
    };
    let factor = said.unwrap_or(ours);
    match factor > 0.0 && (factor as f32).is_normal() {
        true => Ok(factor),
        false => Err(rope.wrong("attention_factor", "it must be above 0")),
    }
}
