//! The shapes of the stateful operations, checked once so that every dialect may rely on them.

use thiserror::Error;

/// A shape that the kernels cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DimsError {
    /// A dimension is zero or not a multiple of what the inner loops step by.
    #[error("{name} is {value}; it must be a positive multiple of {step}")]
    Multiple {
        /// The dimension's name.
        name: &'static str,
        /// What was given.
        value: usize,
        /// What it must be a multiple of.
        step: usize,
    },
    /// Query or value heads that cannot be shared out evenly.
    #[error("{heads} {what} heads cannot be shared out over {over} heads: they must be a multiple")]
    Heads {
        /// Which heads.
        what: &'static str,
        /// How many there are.
        heads: usize,
        /// How many they are shared out over.
        over: usize,
    },
    /// A convolution that looks further back than the kernels do.
    #[error(
        "conv_kernel is {kernel}; it must not be larger than {}",
        ConvDims::MAX_KERNEL
    )]
    Kernel {
        /// What was given.
        kernel: usize,
    },
    /// A token goes to more experts than there are.
    #[error(
        "num_experts_per_tok is {per_token}; it must not be larger than num_experts, {experts}"
    )]
    PerToken {
        /// Experts of a token.
        per_token: usize,
        /// All experts.
        experts: usize,
    },
    /// More rotated dimensions than a head has.
    #[error("rotary_dim {rotary_dim} is larger than head_dim {head_dim}")]
    Rotary {
        /// Rotated dimensions.
        rotary_dim: usize,
        /// Dimensions of a head.
        head_dim: usize,
    },
}

fn multiple(name: &'static str, value: usize, step: usize) -> Result<(), DimsError> {
    if value == 0 || !value.is_multiple_of(step) {
        return Err(DimsError::Multiple { name, value, step });
    }
    Ok(())
}

fn shared(what: &'static str, heads: usize, over: usize) -> Result<(), DimsError> {
    if heads == 0 || over == 0 || !heads.is_multiple_of(over) {
        return Err(DimsError::Heads { what, heads, over });
    }
    Ok(())
}

/// The shape of a full-attention layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttentionDims {
    /// Query heads, `H`.
    pub heads: usize,
    /// Key and value heads, `Hkv`; query head `h` reads key head `h / (H / Hkv)`.
    pub kv_heads: usize,
    /// Dimensions of a head, `D`.
    pub head_dim: usize,
    /// How many of them are rotated: the first ones.
    pub rotary_dim: usize,
}

impl AttentionDims {
    /// Checks that `heads` is a multiple of `kv_heads`, `head_dim` one of 16 and `rotary_dim` an even number that
    /// is no larger.
    ///
    /// # Errors
    /// Names the dimension that does not fit.
    pub fn new(
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        rotary_dim: usize,
    ) -> Result<Self, DimsError> {
        shared("query", heads, kv_heads)?;
        multiple("head_dim", head_dim, 16)?;
        multiple("rotary_dim", rotary_dim, 2)?;
        if rotary_dim > head_dim {
            return Err(DimsError::Rotary {
                rotary_dim,
                head_dim,
            });
        }
        Ok(Self {
            heads,
            kv_heads,
            head_dim,
            rotary_dim,
        })
    }

    /// Query heads to a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// What scores are multiplied by: `D^-1/2`.
    pub fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// The shape of a short convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvDims {
    /// Channels, `C`.
    pub channels: usize,
    /// Rows that an output row sees, its own included, `K`.
    pub kernel: usize,
}

impl ConvDims {
    /// The most rows that an output row can see.
    pub const MAX_KERNEL: usize = 8;

    /// Checks that neither is zero and that `kernel` is at most [`ConvDims::MAX_KERNEL`].
    ///
    /// # Errors
    /// Names the dimension that does not fit.
    pub fn new(channels: usize, kernel: usize) -> Result<Self, DimsError> {
        multiple("channels", channels, 1)?;
        multiple("conv_kernel", kernel, 1)?;
        if kernel > Self::MAX_KERNEL {
            return Err(DimsError::Kernel { kernel });
        }
        Ok(Self { channels, kernel })
    }

    /// Floats in a sequence's tail `[K - 1, C]`.
    pub fn tail_len(&self) -> usize {
        (self.kernel - 1) * self.channels
    }
}

/// The shape of a gated delta rule layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeltaDims {
    /// Query and key heads, `Hk`.
    pub key_heads: usize,
    /// Value heads, `Hv`; value head `h` uses key head `h / (Hv / Hk)`.
    pub value_heads: usize,
    /// Dimensions of a query or key, `Dk`.
    pub key_dim: usize,
    /// Dimensions of a value, `Dv`.
    pub value_dim: usize,
}

impl DeltaDims {
    /// Checks that `value_heads` is a multiple of `key_heads` that `key_dim` is a multiple of 16
    /// and `value_dim` one of 8.
    ///
    /// # Errors
    /// Names the dimension that does not fit.
    pub fn new(
        key_heads: usize,
        value_heads: usize,
        key_dim: usize,
        value_dim: usize,
    ) -> Result<Self, DimsError> {
        shared("value", value_heads, key_heads)?;
        multiple("key_dim", key_dim, 16)?;
        multiple("value_dim", value_dim, 8)?;
        Ok(Self {
            key_heads,
            value_heads,
            key_dim,
            value_dim,
        })
    }

    /// Value heads to a key head.
    pub fn group(&self) -> usize {
        self.value_heads / self.key_heads
    }

    /// Floats in a row of q, k and v laid end to end: `2·Hk·Dk + Hv·Dv`.
    pub fn qkv_len(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// Floats in a sequence's state `[Hv, Dv, Dk]`.
    pub fn state_len(&self) -> usize {
        self.value_heads * self.value_dim * self.key_dim
    }
}

/// The shape of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpertDims {
    /// Experts, `E`.
    pub experts: usize,
    /// Experts that a token goes to.
    pub per_token: usize,
    /// Width of an expert.
    pub intermediate: usize,
    /// Width of the expert that all tokens go to; 0 if there is none.
    pub shared: usize,
}

impl ExpertDims {
    /// Checks that no dimension but `shared` is zero and that there are `per_token` experts.
    ///
    /// # Errors
    /// Names the dimension that does not fit.
    pub fn new(
        experts: usize,
        per_token: usize,
        intermediate: usize,
        shared: usize,
    ) -> Result<Self, DimsError> {
        multiple("num_experts", experts, 1)?;
        multiple("num_experts_per_tok", per_token, 1)?;
        multiple("moe_intermediate_size", intermediate, 1)?;
        if per_token > experts {
            return Err(DimsError::PerToken { per_token, experts });
        }
        Ok(Self {
            experts,
            per_token,
            intermediate,
            shared,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        assert!(AttentionDims::new(8, 2, 256, 64).is_ok());
        assert_eq!(
            AttentionDims::new(8, 3, 256, 64).unwrap_err().to_string(),
            "8 query heads cannot be shared out over 3 heads: they must be a multiple"
        );
        assert_eq!(
            AttentionDims::new(8, 2, 40, 8).unwrap_err().to_string(),
            "head_dim is 40; it must be a positive multiple of 16"
        );
        assert!(AttentionDims::new(8, 2, 32, 64).is_err());
        assert!(AttentionDims::new(8, 0, 32, 16).is_err());
        assert!(DeltaDims::new(16, 16, 128, 0).is_err());
        assert!(ConvDims::new(64, 0).is_err());
        assert!(ExpertDims::new(256, 8, 512, 0).is_ok());
        assert_eq!(
            ExpertDims::new(4, 8, 512, 0).unwrap_err().to_string(),
            "num_experts_per_tok is 8; it must not be larger than num_experts, 4"
        );
        assert!(ExpertDims::new(4, 0, 512, 0).is_err());
        assert_eq!(
            ConvDims::new(64, 9).unwrap_err().to_string(),
            "conv_kernel is 9; it must not be larger than 8"
        );
    }

    #[test]
    fn row_and_state_lengths_follow_the_shape() {
        let dims = DeltaDims::new(16, 32, 128, 64).unwrap();
        assert_eq!(dims.qkv_len(), 2 * 16 * 128 + 32 * 64);
        assert_eq!(dims.state_len(), 32 * 64 * 128);
        assert_eq!(ConvDims::new(10, 4).unwrap().tail_len(), 30);
    }
}
