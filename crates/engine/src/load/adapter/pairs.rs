//! The pairs of an adapter, by module.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::Dtype;

use super::AdapterError;
use super::config::{AdapterLayout, Config};
use crate::load::checkpoint::{Tensor, canonical_name, shard_tensors};
use sanctum_manifest::Bytes;

/// The pair for one matrix, as the file has it. It is decoded when its matrix is merged, one pair at a time.
#[derive(Debug)]
pub(super) struct LoraPair {
    /// Both halves.
    halves: [Tensor; 2],
    /// Whether the file has them transposed: `[in, r]` and `[r, out]`.
    transposed: bool,
    rank: usize,
    inputs: usize,
    outputs: usize,
    scale: f32,
}

/// `scale · b · a`, ready to be added.
pub(super) struct Decoded {
    pub rank: usize,
    pub inputs: usize,
    pub scale: f32,
    /// `[rank, inputs]`.
    pub a: Vec<f32>,
    /// `[outputs, rank]`.
    pub b: Vec<f32>,
}

/// A half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PairHalf {
    A,
    B,
}

/// The pairs of a file, by canonical module name.
pub(super) fn read(
    config: &Config,
    file: &'static str,
    bytes: Bytes,
) -> Result<BTreeMap<String, LoraPair>, AdapterError> {
    // By the module's name in the file: patterns name it so.
    let mut halves = BTreeMap::<String, BTreeMap<PairHalf, Tensor>>::new();
    for tensor in shard_tensors(file, bytes)? {
        let (module, half) = parse(config.layout, file, &tensor.name)?;
        halves.entry(module).or_default().insert(half, tensor);
    }
    let mut pairs = BTreeMap::<String, LoraPair>::new();
    for (module, mut halves) in halves {
        let (a, b) = match (halves.remove(&PairHalf::A), halves.remove(&PairHalf::B)) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => return Err(half(config.layout, file, a.or(b))),
        };
        let pair = LoraPair::new(config, file, &module, a, b)?;
        let name = canonical_name(&module);
        if let Some(first) = pairs.get(&name) {
            return Err(AdapterError::Twice {
                first: first.tensors()[0].clone(),
                second: pair.tensors()[0].clone(),
                file,
            });
        }
        pairs.insert(name, pair);
    }
    match pairs.is_empty() {
        true => Err(AdapterError::Empty(file)),
        false => Ok(pairs),
    }
}

/// The module of a tensor, and which half of the pair it is.
fn parse(
    layout: AdapterLayout,
    file: &'static str,
    name: &str,
) -> Result<(String, PairHalf), AdapterError> {
    let other = |what, fix| {
        Err(AdapterError::Tensor {
            tensor: name.to_owned(),
            file,
            what,
            fix,
        })
    };
    let retrain = "train without it";
    let (module, half) = match layout {
        AdapterLayout::Mlx => match name.rsplit_once('.') {
            Some((module, "lora_a")) => (module, PairHalf::A),
            Some((module, "lora_b")) => (module, PairHalf::B),
            Some((_, "m")) => return other("a DoRA magnitude", "train it as plain LoRA"),
            _ => return other("no half of a LoRA pair", retrain),
        },
        AdapterLayout::Peft => {
            let inner = name.strip_prefix("base_model.model.");
            let Some(inner) = inner else {
                let fix = "save the adapter with PEFT's save_pretrained";
                return other("not under base_model.model", fix);
            };
            if let Some(module) = inner.strip_suffix(".lora_A.weight") {
                (module, PairHalf::A)
            } else if let Some(module) = inner.strip_suffix(".lora_B.weight") {
                (module, PairHalf::B)
            } else if inner.contains(".lora_magnitude_vector") {
                return other("a DoRA magnitude", "train it as plain LoRA");
            } else if inner.contains(".lora_embedding_") {
                return other("half of an embedding's pair", retrain);
            } else if inner.ends_with(".lora_B.bias") {
                return other("a pair's bias", retrain);
            } else {
                return other(
                    "a whole tensor of the model or no half of a LoRA pair",
                    retrain,
                );
            }
        }
    };
    if module
        .split('.')
        .any(|part| matches!(part, "experts" | "switch_mlp"))
    {
        return other(
            "half of a pair of routed experts",
            "train it without the experts",
        );
    }
    if module.ends_with("embed_tokens") {
        return other("half of an embedding's pair", retrain);
    }
    Ok((module.to_owned(), half))
}

/// The error that a pair has one half only.
fn half(layout: AdapterLayout, file: &'static str, alone: Option<Tensor>) -> AdapterError {
    let tensor = alone.map(|tensor| tensor.name).unwrap_or_default();
    let (a, b) = match layout {
        AdapterLayout::Mlx => (".lora_a", ".lora_b"),
        AdapterLayout::Peft => (".lora_A.weight", ".lora_B.weight"),
    };
    let missing = match tensor.strip_suffix(a) {
        Some(module) => format!("{module}{b}"),
        None => format!("{}{a}", tensor.strip_suffix(b).unwrap_or(&tensor)),
    };
    AdapterError::Half {
        tensor,
        file,
        missing,
    }
}

impl LoraPair {
    fn new(
        config: &Config,
        file: &'static str,
        module: &str,
        a: Tensor,
        b: Tensor,
    ) -> Result<Self, AdapterError> {
        let (rank, scale) = config.of(module)?;
        let transposed = config.layout == AdapterLayout::Mlx;
        let inputs = width(file, &a, rank, usize::from(!transposed))?;
        let outputs = width(file, &b, rank, usize::from(transposed))?;
        for half in [&a, &b] {
            if !matches!(half.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(AdapterError::Type {
                    tensor: half.name.clone(),
                    file,
                    found: half.dtype,
                });
            }
        }
        Ok(Self {
            halves: [a, b],
            transposed,
            rank,
            inputs,
            outputs,
            scale,
        })
    }

    /// The names of both halves in the file, for messages.
    pub(super) fn tensors(&self) -> [&String; 2] {
        self.halves.each_ref().map(|half| &half.name)
    }

    /// Its numbers, both halves in PEFT's orientation.
    pub(super) fn decoded(&self, file: &'static str) -> Result<Decoded, AdapterError> {
        let [a, b] = &self.halves;
        let (mut down, mut up) = (values(file, a)?, values(file, b)?);
        if self.transposed {
            down = transpose(&down, self.inputs, self.rank);
            up = transpose(&up, self.rank, self.outputs);
        }
        Ok(Decoded {
            rank: self.rank,
            inputs: self.inputs,
            scale: self.scale,
            a: down,
            b: up,
        })
    }

    /// Checks that it is for a matrix of this shape.
    pub(super) fn fit(
        &self,
        file: &'static str,
        rows: usize,
        cols: usize,
    ) -> Result<(), AdapterError> {
        let halves = [(self.inputs, cols, 0), (self.outputs, rows, 1)];
        for (has, wanted, which) in halves {
            if has != wanted {
                // A is [r, in] and B is [out, r], or both are transposed.
                let rank_first = (which == 0) != self.transposed;
                let shape = |width| match rank_first {
                    true => vec![self.rank, width],
                    false => vec![width, self.rank],
                };
                return Err(AdapterError::Shape {
                    tensor: self.tensors()[which].clone(),
                    file,
                    found: shape(has),
                    expected: shape(wanted),
                    why: "the model",
                });
            }
        }
        Ok(())
    }
}

/// The side of a half that is not its rank.
fn width(
    file: &'static str,
    tensor: &Tensor,
    rank: usize,
    at: usize,
) -> Result<usize, AdapterError> {
    match tensor.shape.as_slice() {
        &[first, second] if [first, second][1 - at] == rank && [first, second][at] > 0 => {
            Ok([first, second][at])
        }
        shape => {
            let side = shape.get(at).copied().unwrap_or_default().max(1);
            let mut expected = vec![rank, rank];
            expected[at] = side;
            Err(AdapterError::Shape {
                tensor: tensor.name.clone(),
                file,
                found: shape.to_vec(),
                expected,
                why: "its rank in adapter_config.json",
            })
        }
    }
}

fn values(file: &'static str, tensor: &Tensor) -> Result<Vec<f32>, AdapterError> {
    let bytes = &tensor.bytes;
    let values: Vec<f32> = match tensor.dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes),
        Dtype::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        found => {
            return Err(AdapterError::Type {
                tensor: tensor.name.clone(),
                file,
                found,
            });
        }
    };
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(AdapterError::NotFinite {
            tensor: tensor.name.clone(),
            file,
        }),
    }
}

fn numbers<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| number(b)).collect()
}

/// `[rows, cols]` as `[cols, rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols)
        .map(|i| values[(i % rows) * cols + i / rows])
        .collect()
}
