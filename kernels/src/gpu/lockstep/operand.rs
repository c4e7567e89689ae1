//! Arrays as the kernels see them: bytes of a number type, with a fence around them.

use half::{bf16, f16};

/// Bytes before and behind an array that no kernel may write, and that read as NaN.
pub(super) const FENCE: usize = 64;

/// The types of numbers in the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F32,
    Bf16,
    F16,
    I32,
    U32,
}

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub number: Number,
    pub shape: Vec<usize>,
    /// Fence, numbers, fence.
    pub bytes: Vec<u8>,
}

impl Number {
    /// Its C++ name.
    pub(super) fn spelling(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::Bf16 => "bfloat16_t",
            Self::F16 => "float16_t",
            Self::I32 => "int",
            Self::U32 => "uint",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
        }
    }

    /// How much a result may differ by when it is stored, relative to the largest.
    pub(super) fn tolerance(self) -> f32 {
        match self {
            Self::Bf16 => 5e-3,
            Self::F16 => 1e-3,
            Self::F32 | Self::I32 | Self::U32 => 2e-5,
        }
    }
}

impl Operand {
    /// An output, not yet written: all NaN.
    pub(super) fn out(number: Number, shape: &[usize]) -> Self {
        let len = shape.iter().product::<usize>() * number.size();
        Self {
            number,
            shape: shape.to_vec(),
            bytes: vec![0xff; FENCE + len + FENCE],
        }
    }

    /// Real numbers, rounded to the type.
    pub(super) fn real(number: Number, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&value| match number {
            Number::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            Number::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        });
        Self::out(number, shape).filled(bytes.collect())
    }

    /// Whole numbers with a sign.
    pub(super) fn ints(shape: &[usize], values: &[i32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self::out(Number::I32, shape).filled(bytes.collect())
    }

    fn filled(mut self, bytes: Vec<u8>) -> Self {
        let end = self.bytes.len() - FENCE;
        self.bytes[FENCE..end].copy_from_slice(&bytes);
        self
    }

    /// The same array with other bytes, fences included.
    pub(super) fn with(&self, bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            ..self.clone()
        }
    }

    /// What no kernel may write.
    pub(super) fn fences(&self) -> [&[u8]; 2] {
        [
            &self.bytes[..FENCE],
            &self.bytes[self.bytes.len() - FENCE..],
        ]
    }

    fn inner(&self) -> &[u8] {
        &self.bytes[FENCE..self.bytes.len() - FENCE]
    }

    /// Its real numbers.
    pub(super) fn values(&self) -> Vec<f32> {
        let two = |b: &[u8]| [b[0], b[1]];
        let of = |b: &[u8]| match self.number {
            Number::Bf16 => bf16::from_le_bytes(two(b)).to_f32(),
            Number::F16 => f16::from_le_bytes(two(b)).to_f32(),
            _ => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        };
        self.inner().chunks(self.number.size()).map(of).collect()
    }

    /// Its words.
    pub(super) fn bits(&self) -> Vec<u32> {
        let of = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        self.inner().chunks(4).map(of).collect()
    }
}
