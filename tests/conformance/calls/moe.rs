//! The ops of the family `moe`.

use ascend_tensor::ops::moe::{GatingOptions, GroupList, GroupedMatmulOptions};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("grouped_matmul", grouped_matmul),
    ("moe_gating_top_k_softmax", gating),
    ("moe_token_permute", permute),
    ("moe_token_unpermute", |args| {
        one(args
            .tensor(0)?
            .moe_token_unpermute(args.tensor(1)?, args.optional(2)))
    }),
];

fn grouped_matmul(args: &Args) -> Result<Vec<Tensor>> {
    let list = match args.int("group_list_type").unwrap_or(0) {
        0 => GroupList::Ends,
        1 => GroupList::Counts,
        other => return Err(bad("group_list_type", other)),
    };
    let mut options = GroupedMatmulOptions::new().list(list);
    if let Some(bias) = args.optional(2) {
        options = options.bias(bias);
    }
    one(args
        .tensor(0)?
        .grouped_matmul(args.tensor(1)?, args.tensor(3)?, options))
}

fn gating(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = GatingOptions::new(args.need_int("k")?);
    if args.bool("renormalize") {
        options = options.renormalize();
    }
    if let Some(finished) = args.optional(1) {
        options = options.finished(finished);
    }
    let gating = args.tensor(0)?.moe_gating_top_k_softmax(options)?;
    Ok(vec![gating.weights, gating.experts, gating.rows])
}

fn permute(args: &Args) -> Result<Vec<Tensor>> {
    let limit = args.size("num_out_tokens")?;
    let permuted = args.tensor(0)?.moe_token_permute(args.tensor(1)?, limit)?;
    Ok(vec![permuted.tokens, permuted.places])
}
