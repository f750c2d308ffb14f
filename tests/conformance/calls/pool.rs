//! The ops of the family `pool`.

use ascend_tensor::ops::pool::{
    AvgPoolOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions, OutputSize,
};
use ascend_tensor::{Result, Tensor};
use serde_json::Value;

use super::conv::per_dim;
use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("adaptive_avg_pool1d", |args| {
        let size = args.size("output_size")?;
        let size = size.ok_or_else(|| bad("output_size", "required"))?;
        one(args.tensor(0)?.adaptive_avg_pool1d(size))
    }),
    ("adaptive_avg_pool2d", |args| {
        one(args.tensor(0)?.adaptive_avg_pool2d(output_size(args)?))
    }),
    ("adaptive_max_pool2d", |args| {
        let (x, size) = (args.tensor(0)?, output_size(args)?);
        if args.bool("return_indices") {
            return x.adaptive_max_pool2d_with_indices(size).map(pair);
        }
        one(x.adaptive_max_pool2d(size))
    }),
    ("avg_pool1d", |args| {
        one(args.tensor(0)?.avg_pool1d(mean(args)?))
    }),
    ("avg_pool2d", |args| {
        one(args.tensor(0)?.avg_pool2d(mean(args)?))
    }),
    ("interpolate", interpolate),
    ("max_pool1d", |args| {
        let (x, options) = (args.tensor(0)?, maximum(args)?);
        if args.bool("return_indices") {
            return x.max_pool1d_with_indices(options).map(pair);
        }
        one(x.max_pool1d(options))
    }),
    ("max_pool2d", |args| {
        let (x, options) = (args.tensor(0)?, maximum(args)?);
        if args.bool("return_indices") {
            return x.max_pool2d_with_indices(options).map(pair);
        }
        one(x.max_pool2d(options))
    }),
];

fn pair((values, indices): (Tensor, Tensor)) -> Vec<Tensor> {
    vec![values, indices]
}

/// An integer, or a list in which null keeps a size.
fn output_size(args: &Args) -> Result<OutputSize> {
    let Some(Value::Array(list)) = args.raw("output_size") else {
        let size = args.size("output_size")?;
        return Ok(OutputSize::from(
            size.ok_or_else(|| bad("output_size", "required"))?,
        ));
    };
    let size = |value: &Value| match value.as_i64() {
        None => Ok(None),
        Some(size) => usize::try_from(size)
            .map(Some)
            .map_err(|_| bad("output_size", "negative")),
    };
    match list.as_slice() {
        [rows, columns] => Ok(OutputSize::from([size(rows)?, size(columns)?])),
        _ => Err(bad("output_size", "not two sizes")),
    }
}

fn maximum<const N: usize>(args: &Args) -> Result<MaxPoolOptions<N>> {
    let kernel = per_dim(args, "kernel_size")?;
    let mut options =
        MaxPoolOptions::<N>::new(kernel.ok_or_else(|| bad("kernel_size", "required"))?);
    if let Some(stride) = per_dim(args, "stride")? {
        options = options.stride(stride);
    }
    if let Some(padding) = per_dim(args, "padding")? {
        options = options.padding(padding);
    }
    if let Some(dilation) = per_dim(args, "dilation")? {
        options = options.dilation(dilation);
    }
    Ok(if args.bool("ceil_mode") {
        options.ceil_mode()
    } else {
        options
    })
}

fn mean<const N: usize>(args: &Args) -> Result<AvgPoolOptions<N>> {
    let kernel = per_dim(args, "kernel_size")?;
    let mut options =
        AvgPoolOptions::<N>::new(kernel.ok_or_else(|| bad("kernel_size", "required"))?);
    if let Some(stride) = per_dim(args, "stride")? {
        options = options.stride(stride);
    }
    if let Some(padding) = per_dim(args, "padding")? {
        options = options.padding(padding);
    }
    if args.bool("ceil_mode") {
        options = options.ceil_mode();
    }
    if !args.bool_or("count_include_pad", true) {
        options = options.exclude_padding();
    }
    Ok(match args.int("divisor_override") {
        Some(divisor) => options.divisor_override(divisor),
        None => options,
    })
}

fn interpolate(args: &Args) -> Result<Vec<Tensor>> {
    let mode = match args.text("mode").unwrap_or("nearest") {
        "nearest" => InterpolateMode::Nearest,
        "nearest-exact" => InterpolateMode::NearestExact,
        "linear" => InterpolateMode::Linear,
        "bilinear" => InterpolateMode::Bilinear,
        "bicubic" => InterpolateMode::Bicubic,
        other => return Err(bad("mode", other)),
    };
    let mut options = InterpolateOptions::new().mode(mode);
    if args.has("size") {
        options = options.size(args.shape("size")?);
    }
    if let Some(factors) = args.floats("scale_factor") {
        options = options.scale_factors(&factors);
    } else if let Some(factor) = args.float("scale_factor") {
        options = options.scale_factor(factor);
    }
    if args.bool("align_corners") {
        options = options.align_corners();
    }
    one(args.tensor(0)?.interpolate(options))
}
