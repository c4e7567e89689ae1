//! Every operation as its formula reads, one sequence at a time, in f64: the specification that each dialect is
//! tested against. Nothing here is fast, and nothing here is shared with what it checks.

mod attention;
mod experts;
mod logits;
mod packed;
mod pointwise;
mod recurrent;

pub use attention::{KvHistory, attention};
pub use experts::{DenseExpert, experts};
pub use logits::{argmax, log_sum_exp};
pub use packed::packed;
pub use pointwise::{gated_norm, rms_norm, sigmoid, silu, softplus, swiglu};
pub use recurrent::{gated_delta, short_conv};
