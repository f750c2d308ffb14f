//! The ops of the family `view`.

use ascend_tensor::ops::view::{
    DiagonalOptions, PadMode, Repeats, SliceOptions, SplitSizes, UnfoldOptions, WindowOptions,
};
use ascend_tensor::{Error, Result, Scalar, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("reshape", |args| {
        one(args
            .tensor(0)?
            .reshape_infer(&args.ints("shape").unwrap_or_default()))
    }),
    ("expand", expand),
    ("transpose", |args| {
        one(args
            .tensor(0)?
            .transpose(args.need_int("dim0")?, args.need_int("dim1")?))
    }),
    ("permute", |args| {
        one(args
            .tensor(0)?
            .permute(args.ints("dims").unwrap_or_default()))
    }),
    ("movedim", |args| {
        one(args
            .tensor(0)?
            .movedim(needed(args, "source")?, needed(args, "destination")?))
    }),
    ("squeeze", |args| {
        one(args
            .tensor(0)?
            .squeeze(args.ints("dim").unwrap_or_default()))
    }),
    ("unsqueeze", |args| {
        one(args.tensor(0)?.unsqueeze(args.need_int("dim")?))
    }),
    ("narrow", |args| {
        one(args.tensor(0)?.narrow(
            args.need_int("dim")?,
            args.need_int("start")?,
            args.need_int("length")?,
        ))
    }),
    ("slice", slice),
    ("select", |args| {
        one(args
            .tensor(0)?
            .select(args.need_int("dim")?, args.need_int("index")?))
    }),
    ("cat", |args| {
        one(Tensor::cat(&args.list(0), args.int("dim").unwrap_or(0)))
    }),
    ("stack", |args| {
        one(Tensor::stack(&args.list(0), args.int("dim").unwrap_or(0)))
    }),
    ("flatten", |args| {
        one(args.tensor(0)?.flatten(
            args.int("start_dim").unwrap_or(0),
            args.int("end_dim").unwrap_or(-1),
        ))
    }),
    ("unflatten", |args| {
        one(args
            .tensor(0)?
            .unflatten(args.need_int("dim")?, &needed(args, "sizes")?))
    }),
    ("unbind", |args| {
        args.tensor(0)?.unbind(args.int("dim").unwrap_or(0))
    }),
    ("split", split),
    ("chunk", |args| {
        args.tensor(0)?
            .chunk(args.need_int("chunks")?, args.int("dim").unwrap_or(0))
    }),
    ("flip", |args| {
        one(args.tensor(0)?.flip(needed(args, "dims")?))
    }),
    ("roll", |args| {
        one(args.tensor(0)?.roll(
            &needed(args, "shifts")?,
            args.ints("dims").unwrap_or_default(),
        ))
    }),
    ("repeat", |args| {
        one(args.tensor(0)?.repeat(args.shape("repeats")?))
    }),
    ("tile", |args| {
        one(args.tensor(0)?.tile(args.shape("dims")?))
    }),
    ("repeat_interleave", repeat_interleave),
    ("tril", |args| {
        one(args.tensor(0)?.tril(args.int("diagonal").unwrap_or(0)))
    }),
    ("triu", |args| {
        one(args.tensor(0)?.triu(args.int("diagonal").unwrap_or(0)))
    }),
    ("diag", |args| {
        one(args.tensor(0)?.diag(args.int("diagonal").unwrap_or(0)))
    }),
    ("diagonal", |args| {
        one(args.tensor(0)?.diagonal(diagonal(args, [0, 1])))
    }),
    ("diag_embed", |args| {
        one(args.tensor(0)?.diag_embed(diagonal(args, [-2, -1])))
    }),
    ("trace", |args| one(args.tensor(0)?.trace())),
    ("pad", pad),
    ("unfold", unfold),
    ("im2col", |args| one(args.tensor(0)?.im2col(windows(args)?))),
    ("fold", fold),
    ("one_hot", |args| {
        one(args
            .tensor(0)?
            .one_hot(if args.int("num_classes") == Some(-1) {
                None
            } else {
                args.size("num_classes")?
            }))
    }),
    ("pixel_shuffle", |args| {
        one(args
            .tensor(0)?
            .pixel_shuffle(args.need_int("upscale_factor")?))
    }),
    ("pixel_unshuffle", |args| {
        one(args
            .tensor(0)?
            .pixel_unshuffle(args.need_int("downscale_factor")?))
    }),
];

fn split(args: &Args) -> Result<Vec<Tensor>> {
    let name = "split_size_or_sections";
    let sizes = if args.int(name).is_some() {
        SplitSizes::Every(args.need_int(name)?)
    } else {
        SplitSizes::Exact(needed(args, name)?)
    };
    args.tensor(0)?.split(sizes, args.int("dim").unwrap_or(0))
}

fn repeat_interleave(args: &Args) -> Result<Vec<Tensor>> {
    let repeats = match args.optional(1) {
        Some(counts) => Repeats::Each(counts),
        None => Repeats::All(args.need_int("repeats")?),
    };
    one(args.tensor(0)?.repeat_interleave(repeats, args.int("dim")))
}

fn diagonal(args: &Args, default: [i64; 2]) -> DiagonalOptions {
    let dims = [
        args.int("dim1").unwrap_or(default[0]),
        args.int("dim2").unwrap_or(default[1]),
    ];
    DiagonalOptions::new()
        .offset(args.int("offset").unwrap_or(0))
        .dims(dims)
}

fn pad(args: &Args) -> Result<Vec<Tensor>> {
    let mode = match args.text("mode").unwrap_or("constant") {
        "constant" => PadMode::Constant(args.scalar("value").unwrap_or(Scalar::Float(0.0))),
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Replicate,
        "circular" => PadMode::Circular,
        other => return Err(bad("mode", other)),
    };
    one(args.tensor(0)?.pad(&needed(args, "pad")?, mode))
}

fn unfold(args: &Args) -> Result<Vec<Tensor>> {
    let options = UnfoldOptions::new(args.need_int("size")?).step(args.need_int("step")?);
    one(args.tensor(0)?.unfold(args.need_int("dimension")?, options))
}

/// An attribute that is one number for both dims, or two.
fn pair(args: &Args, name: &'static str, default: i64) -> Result<[i64; 2]> {
    match args.ints(name).as_deref() {
        None => Ok([default; 2]),
        Some([both]) => Ok([*both; 2]),
        Some([rows, columns]) => Ok([*rows, *columns]),
        Some(_) => Err(bad(name, "one or two numbers")),
    }
}

fn windows(args: &Args) -> Result<WindowOptions> {
    let options =
        WindowOptions::new(pair(args, "kernel_size", 0)?).dilation(pair(args, "dilation", 1)?);
    Ok(options
        .padding(pair(args, "padding", 0)?)
        .stride(pair(args, "stride", 1)?))
}

fn fold(args: &Args) -> Result<Vec<Tensor>> {
    let [rows, columns] = pair(args, "output_size", 0)?;
    let size = |size: i64| usize::try_from(size).map_err(|_| bad("output_size", "negative"));
    one(args
        .tensor(0)?
        .fold([size(rows)?, size(columns)?], windows(args)?))
}

fn needed(args: &Args, name: &'static str) -> Result<Vec<i64>> {
    args.ints(name).ok_or_else(|| bad(name, "required"))
}

/// `expand` with -1 for a size that stays.
fn expand(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let sizes = needed(args, "size")?;
    let lead = sizes.len().saturating_sub(x.rank());
    let size = |(dim, size): (usize, &i64)| match size {
        -1 => dim
            .checked_sub(lead)
            .and_then(|own| x.dims().get(own).copied()),
        size => usize::try_from(*size).ok(),
    };
    let all: Option<Vec<usize>> = sizes.iter().enumerate().map(size).collect();
    let misfit = || Error::Shape {
        op: "expand",
        got: format!("{sizes:?}").into(),
        want: "-1 for dims that the tensor has".into(),
    };
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
