//! The ops of the family `reduce`.

use ascend_tensor::ops::reduce::{
    ArgOptions, DiffOptions, LineOptions, NormOptions, ProdOptions, ReduceOptions, ScanOptions,
    VarOptions,
};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, one};

pub const CALLS: &[(&str, Call)] = &[
    ("all", |args| one(args.tensor(0)?.all(options(args)?))),
    ("amax", |args| one(args.tensor(0)?.amax(options(args)?))),
    ("amin", |args| one(args.tensor(0)?.amin(options(args)?))),
    ("any", |args| one(args.tensor(0)?.any(options(args)?))),
    ("argmax", |args| one(args.tensor(0)?.argmax(arg(args)))),
    ("argmin", |args| one(args.tensor(0)?.argmin(arg(args)))),
    ("count_nonzero", |args| {
        one(args.tensor(0)?.count_nonzero(options(args)?))
    }),
    ("cummax", |args| {
        two(args.tensor(0)?.cummax(args.need_int("dim")?))
    }),
    ("cummin", |args| {
        two(args.tensor(0)?.cummin(args.need_int("dim")?))
    }),
    ("cumprod", |args| one(args.tensor(0)?.cumprod(scan(args)?))),
    ("cumsum", |args| one(args.tensor(0)?.cumsum(scan(args)?))),
    ("diff", diff),
    ("kthvalue", |args| {
        two(args.tensor(0)?.kthvalue(args.need_int("k")?, line(args)))
    }),
    ("logsumexp", |args| {
        one(args.tensor(0)?.logsumexp(options(args)?))
    }),
    ("max_dim", |args| two(args.tensor(0)?.max_dim(line(args)))),
    ("mean", |args| one(args.tensor(0)?.mean(options(args)?))),
    ("median_dim", |args| {
        two(args.tensor(0)?.median_dim(line(args)))
    }),
    ("min_dim", |args| two(args.tensor(0)?.min_dim(line(args)))),
    ("nansum", |args| one(args.tensor(0)?.nansum(options(args)?))),
    ("norm", norm),
    ("prod", prod),
    ("std", |args| one(args.tensor(0)?.std(var(args)))),
    ("sum", |args| one(args.tensor(0)?.sum(options(args)?))),
    ("var", |args| one(args.tensor(0)?.var(var(args)))),
    ("var_mean", |args| two(args.tensor(0)?.var_mean(var(args)))),
];

fn two(outputs: Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    outputs.map(|(first, second)| vec![first, second])
}

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

/// One `dim` (the last where none is given) and `keepdim`.
fn line(args: &Args) -> LineOptions {
    let options = LineOptions::new(args.int("dim").unwrap_or(-1));
    if args.bool("keepdim") {
        options.keepdim()
    } else {
        options
    }
}

/// `dim` or none, and `keepdim`.
fn arg(args: &Args) -> ArgOptions {
    let options = args
        .int("dim")
        .map_or(ArgOptions::new(), |dim| ArgOptions::new().dim(dim));
    if args.bool("keepdim") {
        options.keepdim()
    } else {
        options
    }
}

/// `dim` and `dtype`.
fn scan(args: &Args) -> Result<ScanOptions> {
    let options = ScanOptions::new(args.need_int("dim")?);
    Ok(args
        .dtype("dtype")?
        .map_or(options, |dtype| options.dtype(dtype)))
}

/// `dim`, `correction` and `keepdim`.
fn var(args: &Args) -> VarOptions {
    let options = VarOptions::new()
        .dim(args.ints("dim").unwrap_or_default())
        .correction(args.float("correction").unwrap_or(1.0));
    if args.bool("keepdim") {
        options.keepdim()
    } else {
        options
    }
}

fn norm(args: &Args) -> Result<Vec<Tensor>> {
    let options = NormOptions::new()
        .dim(args.ints("dim").unwrap_or_default())
        .power(args.float("p").unwrap_or(2.0));
    one(args.tensor(0)?.norm(if args.bool("keepdim") {
        options.keepdim()
    } else {
        options
    }))
}

fn prod(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = args
        .int("dim")
        .map_or(ProdOptions::new(), |dim| ProdOptions::new().dim(dim));
    if args.bool("keepdim") {
        options = options.keepdim();
    }
    if let Some(dtype) = args.dtype("dtype")? {
        options = options.dtype(dtype);
    }
    one(args.tensor(0)?.prod(options))
}

fn diff(args: &Args) -> Result<Vec<Tensor>> {
    one(args.tensor(0)?.diff(
        DiffOptions::new()
            .dim(args.int("dim").unwrap_or(-1))
            .times(args.int("n").unwrap_or(1)),
    ))
}
