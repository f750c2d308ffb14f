//! The ops of the family `sort`.

use ascend_tensor::ops::sort::{BincountOptions, SearchOptions, SortOptions, TopkOptions};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("sort", |args| {
        args.tensor(0)?
            .sort(order(args))
            .map(|(values, indices)| vec![values, indices])
    }),
    ("argsort", |args| one(args.tensor(0)?.argsort(order(args)))),
    ("topk", topk),
    ("searchsorted", searchsorted),
    ("bincount", bincount),
    ("unique", unique),
    ("isin", isin),
];

fn order(args: &Args) -> SortOptions {
    let mut options = SortOptions::new().dim(args.int("dim").unwrap_or(-1));
    if args.bool("descending") {
        options = options.descending();
    }
    if args.bool("stable") {
        options.stable()
    } else {
        options
    }
}

fn topk(args: &Args) -> Result<Vec<Tensor>> {
    let options = TopkOptions::new().dim(args.int("dim").unwrap_or(-1));
    let options = if args.bool_or("largest", true) {
        options
    } else {
        options.smallest()
    };
    let k = args.size("k")?.ok_or_else(|| bad("k", "required"))?;
    args.tensor(0)?
        .topk(k, options)
        .map(|(values, indices)| vec![values, indices])
}

fn searchsorted(args: &Args) -> Result<Vec<Tensor>> {
    let options = if args.bool("right") {
        SearchOptions::new().right()
    } else {
        SearchOptions::new()
    };
    let options = if args.bool("out_int32") {
        options.i32()
    } else {
        options
    };
    one(args.tensor(0)?.searchsorted(args.tensor(1)?, options))
}

fn bincount(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = BincountOptions::new().min_length(args.size("minlength")?.unwrap_or(0));
    if let Some(weights) = args.optional(1) {
        options = options.weights(weights);
    }
    one(args.tensor(0)?.bincount(options))
}

fn unique(args: &Args) -> Result<Vec<Tensor>> {
    let found = args.tensor(0)?.unique(args.int("dim"))?;
    let inverse = args.bool("return_inverse").then_some(found.inverse);
    let counts = args.bool("return_counts").then_some(found.counts);
    Ok([found.values]
        .into_iter()
        .chain(inverse)
        .chain(counts)
        .collect())
}

fn isin(args: &Args) -> Result<Vec<Tensor>> {
    let found = args.tensor(0)?.isin(args.tensor(1)?)?;
    one(if args.bool("invert") {
        found.logical_not()
    } else {
        Ok(found)
    })
}
