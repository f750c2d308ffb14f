//! The ops of the family `norm`.

use ascend_tensor::Result;
use ascend_tensor::ops::norm::SoftmaxOptions;

use super::{Args, Call, one};

pub const CALLS: &[(&str, Call)] = &[
    ("softmax", |args| one(args.tensor(0)?.softmax(softmax(args)?))),
    ("log_softmax", |args| one(args.tensor(0)?.log_softmax(softmax(args)?))),
];

/// `dim` and `dtype` of a softmax.
fn softmax(args: &Args) -> Result<SoftmaxOptions> {
    let options = SoftmaxOptions::new(args.need_int("dim")?);
    Ok(args.dtype("dtype")?.map_or(options, |dtype| options.dtype(dtype)))
}
