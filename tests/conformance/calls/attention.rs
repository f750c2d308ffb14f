//! The ops of the family `attention`.

use ascend_tensor::ops::attention::{AttentionOptions, RotaryMode};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("rotary_embedding", rotary_embedding),
    ("scaled_dot_product_attention", scaled_dot_product_attention),
];

fn rotary_embedding(args: &Args) -> Result<Vec<Tensor>> {
    let mode = match args.text("mode").unwrap_or("half") {
        "half" => RotaryMode::Half,
        "interleave" => RotaryMode::Interleave,
        other => return Err(bad("mode", other)),
    };
    one(args
        .tensor(0)?
        .rotary_embedding(args.tensor(1)?, args.tensor(2)?, mode))
}

fn scaled_dot_product_attention(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = AttentionOptions::new();
    if let Some(mask) = args.optional(3) {
        options = options.mask(mask);
    }
    if args.bool("is_causal") {
        options = options.causal();
    }
    if let Some(scale) = args.float("scale") {
        options = options.scale(scale);
    }
    if args.bool("enable_gqa") {
        options = options.grouped();
    }
    one(args
        .tensor(0)?
        .scaled_dot_product_attention(args.tensor(1)?, args.tensor(2)?, options))
}
