//! The ops of the family `elementwise`, and casts.

use ascend_tensor::ops::elementwise::AddOptions;
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("add", add),
    ("mul", |args| one(args.tensor(0)?.mul(args.operand(1, "other")?))),
    ("to_dtype", |args| one(args.tensor(0)?.to_dtype(args.dtype("dtype")?.ok_or_else(|| bad("dtype", "required"))?))),
];

fn add(args: &Args) -> Result<Vec<Tensor>> {
    let options = args.scalar("alpha").map_or(AddOptions::new(), |alpha| AddOptions::new().alpha(alpha));
    one(args.tensor(0)?.add_with(args.operand(1, "other")?, options))
}
