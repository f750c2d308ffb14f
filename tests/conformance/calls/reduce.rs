//! The ops of the family `reduce`.

use ascend_tensor::Result;
use ascend_tensor::ops::reduce::ReduceOptions;

use super::{Args, Call, one};

pub const CALLS: &[(&str, Call)] = &[
    ("mean", |args| one(args.tensor(0)?.mean(options(args)?))),
    ("sum", |args| one(args.tensor(0)?.sum(options(args)?))),
];

/// `dim`, `keepdim` and `dtype`.
fn options(args: &Args) -> Result<ReduceOptions> {
    let mut options = ReduceOptions::new().dim(args.ints("dim").unwrap_or_default());
    if args.bool("keepdim") {
        options = options.keepdim();
    }
    if let Some(dtype) = args.dtype("dtype")? {
        options = options.dtype(dtype);
    }
    Ok(options)
}
