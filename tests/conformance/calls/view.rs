//! The ops of the family `view`.

use ascend_tensor::ops::view::SliceOptions;
use ascend_tensor::{Error, Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("reshape", |args| one(args.tensor(0)?.reshape_infer(&args.ints("shape").unwrap_or_default()))),
    ("expand", expand),
    ("transpose", |args| one(args.tensor(0)?.transpose(args.need_int("dim0")?, args.need_int("dim1")?))),
    ("permute", |args| one(args.tensor(0)?.permute(args.ints("dims").unwrap_or_default()))),
    ("movedim", |args| one(args.tensor(0)?.movedim(needed(args, "source")?, needed(args, "destination")?))),
    ("squeeze", |args| one(args.tensor(0)?.squeeze(args.ints("dim").unwrap_or_default()))),
    ("unsqueeze", |args| one(args.tensor(0)?.unsqueeze(args.need_int("dim")?))),
    ("narrow", |args| one(args.tensor(0)?.narrow(args.need_int("dim")?, args.need_int("start")?, args.need_int("length")?))),
    ("slice", slice),
    ("select", |args| one(args.tensor(0)?.select(args.need_int("dim")?, args.need_int("index")?))),
    ("cat", |args| one(Tensor::cat(&args.list(0), args.int("dim").unwrap_or(0)))),
    ("stack", |args| one(Tensor::stack(&args.list(0), args.int("dim").unwrap_or(0)))),
];

fn needed(args: &Args, name: &'static str) -> Result<Vec<i64>> {
    args.ints(name).ok_or_else(|| bad(name, "required"))
}

/// `expand` with -1 for a size that stays.
fn expand(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let sizes = needed(args, "size")?;
    let lead = sizes.len().saturating_sub(x.rank());
    let size = |(dim, size): (usize, &i64)| match size {
        -1 => dim.checked_sub(lead).and_then(|own| x.dims().get(own).copied()),
        size => usize::try_from(*size).ok(),
    };
    let all: Option<Vec<usize>> = sizes.iter().enumerate().map(size).collect();
    let misfit = || Error::Shape { op: "expand", got: format!("{sizes:?}").into(), want: "-1 for dims that the tensor has".into() };
    one(x.expand(all.ok_or_else(misfit)?))
}

fn slice(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = SliceOptions::new().step(args.int("step").unwrap_or(1));
    if let Some(start) = args.int("start") {
        options = options.start(start);
    }
    if let Some(end) = args.int("end") {
        options = options.end(end);
    }
    one(args.tensor(0)?.slice(args.int("dim").unwrap_or(0), options))
}
