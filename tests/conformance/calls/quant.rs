//! The ops of the family `quant`.

use ascend_tensor::ops::quant::{
    DequantizeOptions, Int8MatmulOptions, QuantizeChannelsOptions, QuantizeOptions,
    WeightMatmulOptions,
};
use ascend_tensor::{DType, Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("dequantize", dequantize),
    ("dynamic_quant", |args| {
        let quantized = args.tensor(0)?.dynamic_quant()?;
        Ok(vec![quantized.values, quantized.scales])
    }),
    ("int8_matmul", int8_matmul),
    ("quantize_per_channel", per_channel),
    ("quantize_per_tensor", per_tensor),
    ("weight_int4_matmul", |args| {
        let options = weight_options(args)?;
        let (x, weight, scale) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        one(x.weight_int4_matmul(weight, scale, options))
    }),
    ("weight_int8_matmul", |args| {
        let options = weight_options(args)?;
        let (x, weight, scale) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        one(x.weight_int8_matmul(weight, scale, options))
    }),
];

fn dtype(args: &Args, default: DType) -> Result<DType> {
    Ok(args.dtype("dtype")?.unwrap_or(default))
}

fn scale(args: &Args) -> Result<f64> {
    args.float("scale").ok_or_else(|| bad("scale", "required"))
}

fn per_tensor(args: &Args) -> Result<Vec<Tensor>> {
    let options = QuantizeOptions::new(scale(args)?)
        .zero_point(args.int("zero_point").unwrap_or(0))
        .dtype(dtype(args, DType::I8)?);
    one(args.tensor(0)?.quantize_per_tensor(options))
}

fn per_channel(args: &Args) -> Result<Vec<Tensor>> {
    let options = QuantizeChannelsOptions::new()
        .axis(args.int("axis").unwrap_or(0))
        .dtype(dtype(args, DType::I8)?);
    one(args
        .tensor(0)?
        .quantize_per_channel(args.tensor(1)?, args.tensor(2)?, options))
}

fn dequantize(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = match args.optional(1) {
        Some(scales) => DequantizeOptions::per_channel(scales),
        None => DequantizeOptions::new(scale(args)?),
    };
    if let Some(zero_points) = args.optional(2) {
        options = options.zero_points(zero_points);
    }
    options = options
        .zero_point(args.int("zero_point").unwrap_or(0))
        .axis(args.int("axis").unwrap_or(0))
        .dtype(dtype(args, DType::F32)?);
    one(args.tensor(0)?.dequantize(options))
}

fn int8_matmul(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = Int8MatmulOptions::new().dtype(dtype(args, DType::F32)?);
    if let Some(bias) = args.optional(4) {
        options = options.bias(bias);
    }
    one(args
        .tensor(0)?
        .int8_matmul(args.tensor(1)?, args.tensor(2)?, args.tensor(3)?, options))
}

fn weight_options<'a>(args: &Args<'a>) -> Result<WeightMatmulOptions<'a>> {
    let size = args.size("group_size")?.unwrap_or(0);
    let mut options = WeightMatmulOptions::new().group_size(size);
    if let Some(zero_point) = args.optional(3) {
        options = options.zero_point(zero_point);
    }
    if let Some(bias) = args.optional(4) {
        options = options.bias(bias);
    }
    Ok(options)
}
