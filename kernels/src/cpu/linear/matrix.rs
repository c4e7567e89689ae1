//! Weight matrices as they lie in a checkpoint: borrowed bytes, checked once. Only codes of other widths than 4 and 8 bits were
//! packed again before (`widen`).
//!
//! The bytes usually come from a memory-mapped safetensors file, so nothing is assumed of their alignment.

use thiserror::Error;

/// How a floating-point value is stored, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl Float {
    /// Bytes a value.
    pub const fn size(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::Bf16 => 2,
        }
    }

    /// The value with the given index in `bytes`.
    #[inline(always)]
    pub(super) fn read(self, bytes: &[u8], index: usize) -> f32 {
        match self {
            Float::F32 => {
                let b = &bytes[index * 4..][..4];
                f32::from_le_bytes([b[0], b[1], b[2], b[3]])
            }
            Float::F16 => f16_to_f32(read_u16(bytes, index)),
            Float::Bf16 => f32::from_bits(u32::from(read_u16(bytes, index)) << 16),
        }
    }
}

#[inline(always)]
pub(super) fn read_u16(bytes: &[u8], index: usize) -> u16 {
    let b = &bytes[index * 2..][..2];
    u16::from_le_bytes([b[0], b[1]])
}

/// Half to single precision without a branch, so that a loop over it becomes vector code on every target.
///
/// The exponent is moved into place and the bias made up for by an exact multiplication, which also normalises
/// subnormal halves; what then lies beyond the largest half was an infinity or a NaN.
#[inline(always)]
pub(super) fn f16_to_f32(half: u16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23); // 2^(127 - 15)
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * REBIAS;
    let special = if magnitude >= 65536.0 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(half & 0x8000) << 16)
}

/// Why bytes cannot be the matrix that they are said to be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MatrixError {
    /// Only 4 and 8 bits a weight are multiplied as they are.
    #[error(
        "{0} bits a weight: only 4 and 8 are multiplied; widen_codes makes them of 2, 3, 5 and 6"
    )]
    Bits(u8),
    /// Only the group sizes that MLX writes are supported.
    #[error(
        "quantisation groups of {0} weights: only 32, 64 and 128 are supported; quantise the checkpoint to one of them"
    )]
    Group(usize),
    /// A row must consist of whole groups.
    #[error("rows of {cols} weights do not divide into groups of {group}")]
    RaggedGroups {
        /// Weights a row.
        cols: usize,
        /// Weights a group.
        group: usize,
    },
    /// A part has the wrong length for the shape.
    #[error(
        "{part} hold {actual} bytes where the shape [{rows}, {cols}] needs {expected}: the checkpoint's configuration and its tensors disagree"
    )]
    Length {
        /// Which part of the matrix: `weights`, `scales` or `biases`.
        part: &'static str,
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
}

/// A weight matrix `[rows, cols]`: `rows` output features of `cols` inputs each.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a> {
    /// Group-affine quantised.
    Affine(Affine<'a>),
    /// Stored as plain floats.
    Dense(Dense<'a>),
}

impl Matrix<'_> {
    /// Output features.
    pub fn rows(&self) -> usize {
        match self {
            Matrix::Affine(m) => m.rows,
            Matrix::Dense(m) => m.rows,
        }
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        match self {
            Matrix::Affine(m) => m.cols,
            Matrix::Dense(m) => m.cols,
        }
    }

    /// Bytes that one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        match self {
            Matrix::Affine(m) => m.packed.len() + m.scales.len() + m.biases.len(),
            Matrix::Dense(m) => m.data.len(),
        }
    }
}

impl<'a> From<Affine<'a>> for Matrix<'a> {
    fn from(matrix: Affine<'a>) -> Self {
        Matrix::Affine(matrix)
    }
}

impl<'a> From<Dense<'a>> for Matrix<'a> {
    fn from(matrix: Dense<'a>) -> Self {
        Matrix::Dense(matrix)
    }
}

/// A matrix in MLX's affine quantisation: `weight = scale · q + bias`, with one scale and one bias a group of
/// consecutive weights of a row.
///
/// `packed` holds little-endian 32-bit words, lowest bits first: at 4 bits element `2j` is the low nibble of byte
/// `j` and element `2j + 1` the high one, at 8 bits a byte is an element.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bits: Bits,
    pub(super) group: usize,
    pub(super) packed: &'a [u8],
    pub(super) scales: &'a [u8],
    pub(super) biases: &'a [u8],
    pub(super) float: Float,
}

/// Bits a quantised weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bits {
    Four,
    Eight,
}

/// What an [`Affine`] matrix is made of, before it is checked.
#[derive(Clone, Copy, Debug)]
pub struct AffineParts<'a> {
    /// Bits a weight: 4 or 8.
    pub bits: u8,
    /// Weights a group: 32, 64 or 128.
    pub group: usize,
    /// The weights, `[rows, cols · bits / 8]` bytes.
    pub packed: &'a [u8],
    /// `[rows, cols / group]` values of type `float`.
    pub scales: &'a [u8],
    /// `[rows, cols / group]` values of type `float`.
    pub biases: &'a [u8],
    /// How scales and biases are stored.
    pub float: Float,
}

impl<'a> Affine<'a> {
    /// Checks that the parts have the lengths that the shape `[rows, cols]` asks for.
    pub fn new(rows: usize, cols: usize, parts: AffineParts<'a>) -> Result<Self, MatrixError> {
        let AffineParts {
            bits,
            group,
            packed,
            scales,
            biases,
            float,
        } = parts;
        let kind = match bits {
            4 => Bits::Four,
            8 => Bits::Eight,
            _ => return Err(MatrixError::Bits(bits)),
        };
        if !matches!(group, 32 | 64 | 128) {
            return Err(MatrixError::Group(group));
        }
        if !cols.is_multiple_of(group) {
            return Err(MatrixError::RaggedGroups { cols, group });
        }
        let of = |per_row: usize| rows.saturating_mul(per_row);
        let packed_row = cols / 8 * usize::from(bits);
        check("weights", rows, cols, of(packed_row), packed)?;
        let float_row = cols / group * float.size();
        check("scales", rows, cols, of(float_row), scales)?;
        check("biases", rows, cols, of(float_row), biases)?;
        Ok(Self {
            rows,
            cols,
            bits: kind,
            group,
            packed,
            scales,
            biases,
            float,
        })
    }

    /// Groups a row.
    pub(super) fn groups(&self) -> usize {
        self.cols / self.group
    }

    /// Bytes of packed weights a row.
    pub(super) fn packed_row(&self) -> usize {
        match self.bits {
            Bits::Four => self.cols / 2,
            Bits::Eight => self.cols,
        }
    }

    /// Columns of 16 packed bytes in a group: 1, 2 or 4 at four bits, 2, 4 or 8 at eight.
    pub(super) fn columns_per_group(&self) -> usize {
        match self.bits {
            Bits::Four => self.group / 32,
            Bits::Eight => self.group / 16,
        }
    }

    /// Writes one row as `scale · q + bias`, rounded once.
    #[inline(always)]
    pub(super) fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        let packed = &self.packed[row * self.packed_row()..][..self.packed_row()];
        let columns = packed.as_chunks::<16>().0;
        for group in 0..self.groups() {
            let (scale, bias) = self.group_parameters(row, group);
            let out = &mut out[group * self.group..][..self.group];
            let count = self.columns_per_group();
            let columns = &columns[group * count..][..count];
            match self.bits {
                Bits::Four => {
                    for (out, column) in out.as_chunks_mut::<32>().0.iter_mut().zip(columns) {
                        let mut nibbles = [0; 32];
                        for i in 0..16 {
                            nibbles[2 * i] = column[i] & 15;
                            nibbles[2 * i + 1] = column[i] >> 4;
                        }
                        for i in 0..32 {
                            out[i] = f32::from(nibbles[i]).mul_add(scale, bias);
                        }
                    }
                }
                Bits::Eight => {
                    for (out, column) in out.as_chunks_mut::<16>().0.iter_mut().zip(columns) {
                        for i in 0..16 {
                            out[i] = f32::from(column[i]).mul_add(scale, bias);
                        }
                    }
                }
            }
        }
    }

    /// Scale and bias of one group of one row.
    #[inline(always)]
    pub(super) fn group_parameters(&self, row: usize, group: usize) -> (f32, f32) {
        let index = row * self.groups() + group;
        (
            self.float.read(self.scales, index),
            self.float.read(self.biases, index),
        )
    }
}

/// A matrix of plain floats, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) data: &'a [u8],
    pub(super) float: Float,
}

impl<'a> Dense<'a> {
    /// Checks that `data` holds `[rows, cols]` values of type `float`.
    pub fn new(
        rows: usize,
        cols: usize,
        data: &'a [u8],
        float: Float,
    ) -> Result<Self, MatrixError> {
        let expected = rows.saturating_mul(cols).saturating_mul(float.size());
        check("weights", rows, cols, expected, data)?;
        Ok(Self {
            rows,
            cols,
            data,
            float,
        })
    }

    /// The bytes of one row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        let size = self.cols * self.float.size();
        &self.data[row * size..][..size]
    }
}

fn check(
    part: &'static str,
    rows: usize,
    cols: usize,
    expected: usize,
    bytes: &[u8],
) -> Result<(), MatrixError> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(MatrixError::Length {
        part,
        rows,
        cols,
        expected,
        actual: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_read_like_the_half_crate_reads_it() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                ours == theirs || ours.is_nan() && theirs.is_nan(),
                "{bits:#x}"
            );
            assert_eq!(ours.is_sign_negative(), theirs.is_sign_negative());
        }
    }

    #[test]
    fn four_bit_rows_unpack_low_nibble_first() {
        let packed: Vec<u8> = (0..32).map(|j| j | (15 - j % 16) << 4 & 0xf0).collect();
        let (scales, biases) = ([2.0_f32.to_le_bytes()].concat(), (-1.0_f32).to_le_bytes());
        let parts = AffineParts {
            bits: 4,
            group: 64,
            packed: &packed,
            scales: &scales,
            biases: &biases,
            float: Float::F32,
        };
        let matrix = Affine::new(1, 64, parts).unwrap();
        let mut row = [0.0; 64];
        matrix.dequantise_row(0, &mut row);
        for (j, pair) in row.chunks(2).enumerate() {
            let byte = packed[j];
            assert_eq!(
                pair,
                [
                    f32::from(byte & 15) * 2.0 - 1.0,
                    f32::from(byte >> 4) * 2.0 - 1.0
                ]
            );
        }
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        let bytes = [0; 4096];
        let parts = AffineParts {
            bits: 4,
            group: 64,
            packed: &bytes[..128],
            scales: &bytes[..8],
            biases: &bytes[..8],
            float: Float::Bf16,
        };
        assert!(Affine::new(2, 128, parts).is_ok());
        let refusal = |rows, cols, parts| Affine::new(rows, cols, parts).unwrap_err();
        assert_eq!(
            refusal(2, 128, AffineParts { bits: 3, ..parts }),
            MatrixError::Bits(3)
        );
        assert_eq!(
            refusal(2, 128, AffineParts { group: 16, ..parts }),
            MatrixError::Group(16)
        );
        assert_eq!(
            refusal(2, 96, parts),
            MatrixError::RaggedGroups {
                cols: 96,
                group: 64
            }
        );
        let short = AffineParts {
            biases: &bytes[..6],
            ..parts
        };
        assert!(
            refusal(2, 128, short)
                .to_string()
                .starts_with("biases hold 6 bytes")
        );
        assert!(
            refusal(usize::MAX, 128, parts)
                .to_string()
                .starts_with("weights")
        );
        assert!(Dense::new(3, 5, &bytes[..30], Float::F16).is_ok());
        assert!(Dense::new(3, 5, &bytes[..31], Float::F16).is_err());
    }
}
