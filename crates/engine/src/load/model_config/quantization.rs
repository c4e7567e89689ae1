//! `quantization` of `config.json`, as MLX writes it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{ConfigError, unsupported};
use super::fields::Fields;

/// How matrices that have scales are quantised (MLX's affine form): `w = scale * q + bias` a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    /// What the file says of the model as a whole; none where it says nothing, and nothing may be quantised. As in
    /// mlx-lm its numbers do not matter: a module that is not named has what its tensors' shapes say.
    pub default: Option<AffineQuantization>,
    /// Modules that are named, prefixes removed as for tensors; `None`: not quantised.
    pub modules: BTreeMap<String, Option<AffineQuantization>>,
}

/// Parameters of an affine quantisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffineQuantization {
    /// 2, 3, 4, 5, 6 or 8.
    pub bits: u8,
    /// Consecutive weights of a row that share a scale and a bias: 32, 64 or 128.
    pub group: usize,
}

/// What `config.json` says about a module that has scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// It is quantised like this.
    Named(AffineQuantization),
    /// It is quantised as the shapes of its tensors say.
    FromShapes,
    /// It is not quantised.
    Plain,
}

impl Quantization {
    /// From `quantization`; `quantization_config` is its copy, or another tool's scheme.
    pub(super) fn parse(config: &Fields) -> Result<Self, ConfigError> {
        let other = config.object("quantization_config")?;
        if let Some(method) = other.as_ref().and_then(|other| other.get("quant_method")) {
            return Err(unsupported(
                "quantization_config.quant_method",
                method,
                "only MLX's affine quantisation is supported; convert with mlx_lm.convert",
            ));
        }
        let Some(values) = config.object("quantization")?.or(other) else {
            return Ok(Self::default());
        };
        let default = AffineQuantization::parse("quantization", &values)?;
        let mut modules = BTreeMap::new();
        for (name, value) in values {
            let module = match value {
                Value::Object(fields) => Some(AffineQuantization::parse(
                    &format!("quantization.{name}"),
                    &fields,
                )?),
                Value::Bool(false) => None,
                _ => continue, // group_size, bits, mode; or true, which says no more than the shapes
            };
            modules.insert(crate::load::checkpoint::canonical_name(&name), module);
        }
        Ok(Self {
            default: Some(default),
            modules,
        })
    }

    /// How a module's matrix is quantised if it has scales.
    pub fn of(&self, module: &str) -> Packing {
        match (self.modules.get(module), self.default) {
            (Some(Some(affine)), _) => Packing::Named(*affine),
            (None, Some(_)) => Packing::FromShapes,
            (Some(None), _) | (None, None) => Packing::Plain,
        }
    }
}

impl AffineQuantization {
    /// Whether this engine computes with so many bits and such groups.
    pub fn is_supported(self) -> bool {
        matches!(self.bits, 2..=6 | 8) && matches!(self.group, 32 | 64 | 128)
    }

    /// An object's parameters. As in MLX a missing mode is affine, with 4 bits in groups of 64 where nothing else is said.
    fn parse(name: &str, values: &Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = Fields::named(name, values.clone());
        let mode = fields.text("mode")?.unwrap_or("affine");
        if mode != "affine" {
            let wanted = "only affine is supported; convert with mlx_lm.convert -q";
            return Err(unsupported(fields.path("mode"), mode, wanted));
        }
        let bits = fields.size("bits")?.unwrap_or(4);
        if !matches!(bits, 2..=6 | 8) {
            return Err(fields.wrong("bits", "2, 3, 4, 5, 6 and 8 are supported"));
        }
        let group = fields.size("group_size")?.unwrap_or(64);
        if !matches!(group, 32 | 64 | 128) {
            return Err(fields.wrong("group_size", "32, 64 and 128 are supported"));
        }
        Ok(Self {
            bits: bits as u8,
            group,
        })
    }
}
