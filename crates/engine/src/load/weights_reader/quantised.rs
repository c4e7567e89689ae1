//! Matrices with scales. With the inputs of a matrix known, the shapes of its tensors leave one quantisation; `config.json` may
//! name it, and must not contradict it.

use safetensors::Dtype;
use sanctum_kernels::cpu::BlockFormat;

use super::{TensorReader, WeightsError, float, wrong_type};
use crate::load::checkpoint::Tensor;
use crate::load::model_config::{AffineQuantization, ModuleQuantization, Packing};
use crate::load::weights::Storage;

impl TensorReader<'_> {
    /// The matrix of a module with scales and `cols` inputs. `shape`: of its tensors with so many numbers a row.
    pub(super) fn quantised(
        &mut self,
        module: &str,
        cols: usize,
        shape: impl Fn(usize) -> Vec<usize>,
    ) -> Result<Storage, WeightsError> {
        let quantization = self.quantization_of(module, cols)?;
        let (bits, group) = match quantization {
            ModuleQuantization::Affine(AffineQuantization { bits, group }) => (bits, group),
            ModuleQuantization::Blocks(format) => (format.bits(), format.block()),
        };
        let words = shape(cols * usize::from(bits) / 32);
        let packed = self.take(&format!("{module}.weight"), &words)?;
        if packed.dtype != Dtype::U32 {
            return Err(wrong_type(&packed, "U32"));
        }
        let groups = shape(cols / group);
        let scales = self.take(&format!("{module}.scales"), &groups)?;
        Ok(match quantization {
            ModuleQuantization::Affine(affine) => {
                let biases = self.take(&format!("{module}.biases"), &groups)?;
                let float = float(&scales)?;
                if biases.dtype != scales.dtype {
                    return Err(wrong_type(&biases, "the type of its scales"));
                }
                Storage::Affine {
                    affine,
                    packed: packed.bytes,
                    float,
                    scales: scales.bytes,
                    biases: biases.bytes,
                }
            }
            ModuleQuantization::Blocks(format) => Storage::Blocks {
                format,
                packed: packed.bytes,
                scales: scales.bytes,
            },
        })
    }

    /// How the matrix of a module with scales is quantised.
    fn quantization_of(
        &self,
        module: &str,
        cols: usize,
    ) -> Result<ModuleQuantization, WeightsError> {
        let tensor = |part: &str| {
            let name = format!("{module}.{part}");
            let found = self.tensors.get(&name);
            found.ok_or(WeightsError::Missing(name))
        };
        let said = match self.quantization.of(module) {
            Packing::Named(said) => Some(said),
            Packing::FromShapes => None,
            Packing::Plain => {
                return Err(WeightsError::NotDescribed {
                    module: module.to_owned(),
                });
            }
        };
        let (weight, scales) = (tensor("weight")?, tensor("scales")?);
        let row = |tensor: &Tensor| tensor.shape.last().copied().unwrap_or(0);
        let (words, groups) = (row(weight), row(scales));
        let whole = |n: usize, d: usize| (d > 0 && n.is_multiple_of(d)).then(|| n / d);
        let sizes = whole(32 * words, cols).zip(whole(cols, groups));
        let found = sizes.and_then(|(bits, group)| {
            let bits = u8::try_from(bits).ok()?;
            match scales.dtype {
                Dtype::U8 => blocks(bits, group),
                _ => Some(AffineQuantization { bits, group })
                    .filter(|affine| affine.is_supported())
                    .map(ModuleQuantization::Affine),
            }
        });
        match (found, said) {
            (Some(found), Some(said)) if found != said => Err(WeightsError::OtherPacking {
                module: module.to_owned(),
                file: weight.file.clone(),
                said,
                found,
            }),
            (Some(found), _) => Ok(found),
            (None, _) => Err(WeightsError::Packing {
                module: module.to_owned(),
                file: weight.file.clone(),
                cols,
                found: match (sizes, scales.dtype) {
                    (Some((bits, group)), Dtype::U8) => {
                        format!("{bits} bits in blocks of {group}")
                    }
                    (Some((bits, group)), _) => format!("{bits} bits in groups of {group}"),
                    (None, _) => format!(
                        "{words} words and {groups} scales a row, which fit no whole number of bits"
                    ),
                },
            }),
        }
    }
}

/// The format with so many bits an element in blocks of so many.
fn blocks(bits: u8, block: usize) -> Option<ModuleQuantization> {
    let mut formats = BlockFormat::ALL.into_iter();
    let format = formats.find(|format| (format.bits(), format.block()) == (bits, block))?;
    Some(ModuleQuantization::Blocks(format))
}
