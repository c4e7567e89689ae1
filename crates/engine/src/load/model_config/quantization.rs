//! `quantization` of `config.json`, as MLX writes it.

use std::collections::BTreeMap;
use std::fmt;

use sanctum_kernels::cpu::BlockFormat;
use serde_json::{Map, Value};

use super::error::{ConfigError, unsupported};
use super::fields::Fields;

/// How matrices that have scales are quantised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    /// What the file says of the model as a whole; none where it says nothing, and nothing may be quantised. As in
    /// mlx-lm its numbers do not matter: a module that is not named has what its tensors' shapes say.
    pub default: Option<ModuleQuantization>,
    /// Modules that are named, prefixes removed as for tensors; `None`: not quantised.
    pub modules: BTreeMap<String, Option<ModuleQuantization>>,
}

/// How a matrix is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleQuantization {
    /// MLX's affine form: `w = scale * q + bias` a group.
    Affine(AffineQuantization),
    /// Small floating-point elements with a scale a block.
    Blocks(BlockFormat),
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
    Named(ModuleQuantization),
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
                "only MLX's own quantisations are supported; convert with mlx_lm.convert",
            ));
        }
        let Some(values) = config.object("quantization")?.or(other) else {
            return Ok(Self::default());
        };
        let default = ModuleQuantization::parse("quantization", &values)?;
        let mut modules = BTreeMap::new();
        for (name, value) in values {
            let module = match value {
                Value::Object(fields) => Some(ModuleQuantization::parse(
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
            (Some(Some(named)), _) => Packing::Named(*named),
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

    /// An object's parameters. As in MLX, 4 bits in groups of 64 where nothing else is said.
    fn parse(fields: &Fields) -> Result<Self, ConfigError> {
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

impl fmt::Display for AffineQuantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits in groups of {}", self.bits, self.group)
    }
}

impl ModuleQuantization {
    /// An object's parameters. As in MLX a missing mode is affine, whatever the model's is.
    fn parse(name: &str, values: &Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = Fields::named(name, values.clone());
        let mode = fields.text("mode")?.unwrap_or("affine");
        if mode == "affine" {
            return AffineQuantization::parse(&fields).map(Self::Affine);
        }
        let mut formats = BlockFormat::ALL.into_iter();
        let Some(format) = formats.find(|format| format.to_string() == mode) else {
            let wanted =
                "affine, mxfp4, mxfp8 and nvfp4 are supported; convert with mlx_lm.convert -q";
            return Err(unsupported(fields.path("mode"), mode, wanted));
        };
        for (key, only) in [
            ("bits", usize::from(format.bits())),
            ("group_size", format.block()),
        ] {
            if fields.size(key)?.is_some_and(|size| size != only) {
                return Err(fields.wrong(key, &format!("{format} has {only}")));
            }
        }
        if fields.flag("global_scale")? == Some(true) {
            let wanted = "a scale of a whole tensor is not supported; convert without it";
            return Err(fields.wrong("global_scale", wanted));
        }
        Ok(Self::Blocks(format))
    }
}

impl fmt::Display for ModuleQuantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Affine(affine) => fmt::Display::fmt(affine, f),
            Self::Blocks(format) => fmt::Display::fmt(format, f),
        }
    }
}
