//! `adapter_config.json`, of mlx-lm and of PEFT: ranks, scales, and features that are not supported.
//!
//! PEFT's file describes the adapter only, so an unknown key with a value is an error. mlx-lm writes its training settings
//! into the same file: only those that concern the weights are read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{AdapterError, AdapterName};
use crate::json;
use crate::load::checkpoint::Files;
use sanctum_manifest::Bytes;

/// The file's name, in both layouts.
pub(super) const FILE: &str = "adapter_config.json";

const RETRAIN: &str =
    "train it as plain LoRA, or merge it with the tools that made it and serve the result";

/// PEFT's keys that change nothing about which numbers are merged: bookkeeping, and what only training reads.
const IDLE: [&str; 24] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
    "peft_type",
    "lora_alpha",
];

/// The tool that wrote an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdapterLayout {
    /// mlx-lm: `<module>.lora_a [in, r]`, `<module>.lora_b [r, out]`.
    Mlx,
    /// PEFT: `base_model.model.<module>.lora_A.weight [r, in]`, `….lora_B.weight [out, r]`.
    Peft,
}

/// What merging needs of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The layout it was read from.
    pub layout: AdapterLayout,
    /// The rank of pairs that no pattern names.
    pub rank: usize,
    /// Their alpha.
    pub alpha: f64,
    /// Whether the scale is alpha / √rank instead of alpha / rank.
    pub rank_stabilised: bool,
    ranks: BTreeMap<String, usize>,
    alphas: BTreeMap<String, f64>,
}

impl AdapterLayout {
    /// The file of its weights.
    pub(crate) const fn weights(self) -> &'static str {
        match self {
            Self::Mlx => "adapters.safetensors",
            Self::Peft => "adapter_model.safetensors",
        }
    }

    /// The layout of the weights file, and its content.
    pub(super) fn find(files: &Files, name: &AdapterName) -> Result<(Self, Bytes), AdapterError> {
        let [mlx, peft] = [Self::Mlx, Self::Peft].map(|layout| files.open(layout.weights()));
        match (mlx?, peft?) {
            (Some(bytes), None) => Ok((Self::Mlx, bytes)),
            (None, Some(bytes)) => Ok((Self::Peft, bytes)),
            (Some(_), Some(_)) => Err(AdapterError::AdapterLayout(name.clone(), "both")),
            (None, None) => Err(AdapterError::AdapterLayout(name.clone(), "neither")),
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// If a field is missing or wrong, or needs something that is not supported.
    pub(super) fn parse(layout: AdapterLayout, file: &[u8]) -> Result<Self, AdapterError> {
        let fields: Map<String, Value> = json::parse(file)
            .map_err(|error| wrong("", format!("it is not an object of JSON: {error}")))?;
        match layout {
            AdapterLayout::Mlx => mlx(&fields),
            AdapterLayout::Peft => peft(&fields),
        }
    }

    /// Rank and scale of a module's pair. A pattern names modules as PEFT does: the whole name, or its end after a dot.
    ///
    /// # Errors
    /// If two patterns disagree, or the scale is no number that f32 holds.
    pub(super) fn of(&self, module: &str) -> Result<(usize, f32), AdapterError> {
        let rank = picked("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank);
        let alpha = picked("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        let scale = match self.rank_stabilised {
            true => alpha / (rank as f64).sqrt(),
            false => alpha / rank as f64,
        };
        match (scale as f32).is_normal() {
            true => Ok((rank, scale as f32)),
            false => Err(wrong(
                "alpha and rank",
                format!("give {module} the scale {scale:e}, which no float32 holds; correct them"),
            )),
        }
    }
}

/// mlx-lm's `scale` is alpha / rank.
fn mlx(fields: &Map<String, Value>) -> Result<Config, AdapterError> {
    match fields.get("fine_tune_type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind == "lora" => {}
        Some(other) => return Err(unsupported("fine_tune_type", other, RETRAIN)),
    }
    idle(fields, "use_dora", "", RETRAIN)?;
    let at = "lora_parameters";
    let inner = fields
        .get(at)
        .and_then(Value::as_object)
        .ok_or_else(|| wrong(at, "must be an object with rank and scale".into()))?;
    for key in inner.keys() {
        if !["rank", "scale", "dropout", "keys", "alpha"].contains(&key.as_str()) {
            idle(inner, key, at, RETRAIN)?;
        }
    }
    let rank = rank(inner.get("rank"), "lora_parameters.rank")?;
    let scale = number(inner.get("scale"), "lora_parameters.scale")?;
    Ok(Config {
        layout: AdapterLayout::Mlx,
        rank,
        alpha: scale * rank as f64,
        rank_stabilised: false,
        ranks: BTreeMap::new(),
        alphas: BTreeMap::new(),
    })
}

fn peft(fields: &Map<String, Value>) -> Result<Config, AdapterError> {
    match fields.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        other => {
            let said = other.unwrap_or(&Value::Null);
            return Err(unsupported("peft_type", said, RETRAIN));
        }
    }
    match fields.get("bias") {
        None | Some(Value::Null) => {}
        Some(Value::String(which)) if which == "none" => {}
        Some(other) => return Err(unsupported("bias", other, RETRAIN)),
    }
    // These initializations change the base weights as well.
    match fields.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => {}
        Some(Value::String(how)) if ["gaussian", "orthogonal", "eva"].contains(&how.as_str()) => {}
        Some(other) => {
            let fix = "it changed the base as well; convert it to plain LoRA first (PEFT: path_initial_model_for_weight_conversion)";
            return Err(unsupported("init_lora_weights", other, fix));
        }
    }
    let read = ["r", "use_rslora", "rank_pattern", "alpha_pattern", "bias"];
    for key in fields.keys().map(String::as_str) {
        if !read.contains(&key) && !IDLE.contains(&key) {
            idle(fields, key, "", RETRAIN)?;
        }
    }
    Ok(Config {
        layout: AdapterLayout::Peft,
        rank: rank(fields.get("r"), "r")?,
        alpha: number(fields.get("lora_alpha"), "lora_alpha")?,
        rank_stabilised: match fields.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(on)) => *on,
            Some(_) => return Err(wrong("use_rslora", "must be true or false".into())),
        },
        ranks: pattern(fields, "rank_pattern", rank)?,
        alphas: pattern(fields, "alpha_pattern", number)?,
    })
}

/// A map from module names to numbers. PEFT takes regular expressions; names are all that are in use.
fn pattern<T>(
    fields: &Map<String, Value>,
    field: &str,
    read: impl Fn(Option<&Value>, &str) -> Result<T, AdapterError>,
) -> Result<BTreeMap<String, T>, AdapterError> {
    let entries = match fields.get(field) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(wrong(field, "must be an object".into())),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let mut found = BTreeMap::new();
    for (key, value) in entries {
        let at = format!("{field}[{key:?}]");
        if key.is_empty() || !key.chars().all(plain) {
            let fix =
                "is a regular expression; write a module's name, or the end of one such as q_proj";
            return Err(wrong(&at, fix.into()));
        }
        found.insert(key.clone(), read(Some(value), &at)?);
    }
    Ok(found)
}

/// The value of the key that names the module. PEFT takes the first of several that fit, in an order that the file does not
/// keep, so they must agree.
fn picked<T: Copy + PartialEq>(
    field: &'static str,
    pattern: &BTreeMap<String, T>,
    module: &str,
) -> Result<Option<T>, AdapterError> {
    let names = |key: &str| {
        let rest = module.strip_suffix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let mut fitting = pattern.iter().filter(|(key, _)| names(key));
    let Some((first, &value)) = fitting.next() else {
        return Ok(None);
    };
    match fitting.find(|(_, other)| **other != value) {
        None => Ok(Some(value)),
        Some((second, _)) => Err(AdapterError::Patterns {
            field,
            first: first.clone(),
            second: second.clone(),
            module: module.to_owned(),
        }),
    }
}

/// Refuses a field that has a value.
fn idle(
    fields: &Map<String, Value>,
    key: &str,
    at: &str,
    fix: &'static str,
) -> Result<(), AdapterError> {
    let field = match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    };
    match fields.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(Value::Array(list)) if list.is_empty() => Ok(()),
        Some(Value::Object(map)) if map.is_empty() => Ok(()),
        Some(other) => Err(unsupported(field, other, fix)),
    }
}

fn rank(value: Option<&Value>, field: &str) -> Result<usize, AdapterError> {
    let rank = value.and_then(Value::as_u64);
    rank.and_then(|rank| usize::try_from(rank).ok())
        .filter(|rank| (1..=1 << 20).contains(rank))
        .ok_or_else(|| wrong(field, "must be a whole number above 0".into()))
}

fn number(value: Option<&Value>, field: &str) -> Result<f64, AdapterError> {
    let number = value.and_then(Value::as_f64);
    number
        .filter(|number| (*number as f32).is_normal())
        .ok_or_else(|| {
            wrong(
                field,
                "must be a number other than 0 that a float32 can hold".into(),
            )
        })
}

fn wrong(field: &str, problem: String) -> AdapterError {
    AdapterError::Config {
        field: field.to_owned(),
        problem,
    }
}

fn unsupported(field: impl Into<String>, value: &Value, fix: &'static str) -> AdapterError {
    let mut value = value.to_string();
    if let Some((cut, _)) = value.char_indices().nth(100) {
        value.truncate(cut);
    }
    AdapterError::Unsupported {
        field: field.into(),
        value,
        fix,
    }
}
