//! How the next token is chosen.

/// The parameters of a request, already checked against their ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 chooses the likeliest token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Nucleus: keep the likeliest tokens up to this share of the (untempered) probability; 1 keeps all.
    pub top_p: f32,
    /// Keep at most this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Drop tokens less likely than this share of the likeliest one's probability; 0 keeps all.
    pub min_p: f32,
    /// Divide positive and multiply negative logits of recent tokens by it; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many recent tokens, prompt included, the repetition penalty looks at.
    pub repetition_window: usize,
    /// Subtracted once from the logit of every token generated so far.
    pub presence_penalty: f32,
    /// Subtracted from the logit of every token once for each time it was generated.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the choice repeatable.
    pub seed: u64,
}
