//! The ops of the family `creation`.

use ascend_tensor::ops::creation::{ArangeOptions, Indexing};
use ascend_tensor::{DType, Result, Scalar, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("arange", arange),
    ("eye", eye),
    ("full", full),
    ("full_like", full_like),
    ("linspace", linspace),
    ("meshgrid", meshgrid),
    ("ones", |args| {
        one(Tensor::ones(
            args.shape("size")?,
            args.dtype("dtype")?.unwrap_or(DType::F32),
            args.device,
        ))
    }),
    ("zeros", |args| {
        one(Tensor::zeros(
            args.shape("size")?,
            args.dtype("dtype")?.unwrap_or(DType::F32),
            args.device,
        ))
    }),
];

fn need(args: &Args, name: &'static str) -> Result<Scalar> {
    args.scalar(name).ok_or_else(|| bad(name, "required"))
}

fn full(args: &Args) -> Result<Vec<Tensor>> {
    let (shape, value) = (args.shape("size")?, need(args, "fill_value")?);
    match args.dtype("dtype")? {
        Some(dtype) => one(Tensor::full_of(shape, value, dtype, args.device)),
        None => one(Tensor::full(shape, value, args.device)),
    }
}

fn full_like(args: &Args) -> Result<Vec<Tensor>> {
    let (x, value) = (args.tensor(0)?, need(args, "fill_value")?);
    match args.dtype("dtype")? {
        Some(dtype) => one(Tensor::full_of(*x.shape(), value, dtype, x.device())),
        None => one(x.full_like(value)),
    }
}

fn arange(args: &Args) -> Result<Vec<Tensor>> {
    let start = args.scalar("start").unwrap_or(Scalar::Int(0));
    let mut options = ArangeOptions::new(start, need(args, "end")?);
    if let Some(step) = args.scalar("step") {
        options = options.step(step);
    }
    if let Some(dtype) = args.dtype("dtype")? {
        options = options.dtype(dtype);
    }
    one(Tensor::arange(options, args.device))
}

fn linspace(args: &Args) -> Result<Vec<Tensor>> {
    let range = need(args, "start")?..=need(args, "end")?;
    one(Tensor::linspace(
        range,
        args.need_int("steps")?,
        args.dtype("dtype")?.unwrap_or(DType::F32),
        args.device,
    ))
}

fn eye(args: &Args) -> Result<Vec<Tensor>> {
    let rows = args.size("n")?.ok_or_else(|| bad("n", "required"))?;
    let columns = args.size("m")?.unwrap_or(rows);
    one(Tensor::eye(
        [rows, columns],
        args.dtype("dtype")?.unwrap_or(DType::F32),
        args.device,
    ))
}

fn meshgrid(args: &Args) -> Result<Vec<Tensor>> {
    let indexing = match args.text("indexing") {
        None | Some("ij") => Indexing::Ij,
        Some("xy") => Indexing::Xy,
        Some(other) => return Err(bad("indexing", other)),
    };
    Tensor::meshgrid(&args.list(0), indexing)
}
