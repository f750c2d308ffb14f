//! The ops of the family `loss`.

use ascend_tensor::ops::loss::{
    BinaryCrossEntropyOptions, CrossEntropyOptions, HuberOptions, KlDivOptions, KlReduction,
    LogitsOptions, NllLossOptions, Reduction, SmoothL1Options,
};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("binary_cross_entropy", binary_cross_entropy),
    ("binary_cross_entropy_with_logits", with_logits),
    ("cross_entropy", cross_entropy),
    ("huber_loss", huber_loss),
    ("kl_div", kl_div),
    ("l1_loss", |args| {
        one(args.tensor(0)?.l1_loss(args.tensor(1)?, reduction(args)?))
    }),
    ("mse_loss", |args| {
        one(args.tensor(0)?.mse_loss(args.tensor(1)?, reduction(args)?))
    }),
    ("nll_loss", nll_loss),
    ("smooth_l1_loss", smooth_l1_loss),
];

fn reduction(args: &Args) -> Result<Reduction> {
    match args.text("reduction").unwrap_or("mean") {
        "none" => Ok(Reduction::None),
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        other => Err(bad("reduction", other)),
    }
}

fn huber_loss(args: &Args) -> Result<Vec<Tensor>> {
    let options = HuberOptions::new()
        .reduction(reduction(args)?)
        .delta(args.float("delta").unwrap_or(1.0));
    one(args.tensor(0)?.huber_loss(args.tensor(1)?, options))
}

fn smooth_l1_loss(args: &Args) -> Result<Vec<Tensor>> {
    let options = SmoothL1Options::new()
        .reduction(reduction(args)?)
        .beta(args.float("beta").unwrap_or(1.0));
    one(args.tensor(0)?.smooth_l1_loss(args.tensor(1)?, options))
}

fn kl_div(args: &Args) -> Result<Vec<Tensor>> {
    let reduction = match args.text("reduction").unwrap_or("mean") {
        "none" => KlReduction::None,
        "mean" => KlReduction::Mean,
        "sum" => KlReduction::Sum,
        "batchmean" => KlReduction::BatchMean,
        other => return Err(bad("reduction", other)),
    };
    let options = KlDivOptions::new().reduction(reduction);
    one(args.tensor(0)?.kl_div(
        args.tensor(1)?,
        if args.bool("log_target") {
            options.log_target()
        } else {
            options
        },
    ))
}

fn binary_cross_entropy(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = BinaryCrossEntropyOptions::new().reduction(reduction(args)?);
    if let Some(weight) = args.optional(2) {
        options = options.weight(weight);
    }
    one(args
        .tensor(0)?
        .binary_cross_entropy(args.tensor(1)?, options))
}

fn with_logits(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = LogitsOptions::new().reduction(reduction(args)?);
    if let Some(weight) = args.optional(2) {
        options = options.weight(weight);
    }
    if let Some(weight) = args.optional(3) {
        options = options.positive_weight(weight);
    }
    one(args
        .tensor(0)?
        .binary_cross_entropy_with_logits(args.tensor(1)?, options))
}

fn nll_loss(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = NllLossOptions::new()
        .reduction(reduction(args)?)
        .ignore_index(args.int("ignore_index").unwrap_or(-100));
    if let Some(weight) = args.optional(2) {
        options = options.weight(weight);
    }
    one(args.tensor(0)?.nll_loss(args.tensor(1)?, options))
}

fn cross_entropy(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = CrossEntropyOptions::new()
        .reduction(reduction(args)?)
        .ignore_index(args.int("ignore_index").unwrap_or(-100))
        .label_smoothing(args.float("label_smoothing").unwrap_or(0.0));
    if let Some(weight) = args.optional(2) {
        options = options.weight(weight);
    }
    one(args.tensor(0)?.cross_entropy(args.tensor(1)?, options))
}
