//! Quantisation: floats as small integers and back, and matrix products with quantised factors.
//!
//! Knows what the family's rooms share: integer ranges, scales along a dim, groups of rows. Must not know any single op.

rooms! {
    dequantize,
    dynamic_quant,
    int8_matmul,
    quantize_per_channel,
    quantize_per_tensor,
    weight_int4_matmul,
    weight_int8_matmul,
}

mod weight;

pub use weight::WeightMatmulOptions;

use crate::ops::prelude::*;

/// The least and the greatest value of a quantised dtype.
fn range(op: &'static str, dtype: DType) -> Result<[i64; 2]> {
    match dtype {
        DType::I8 => Ok([-128, 127]),
        DType::U8 => Ok([0, 255]),
        DType::I32 => Ok([i64::from(i32::MIN), i64::from(i32::MAX)]),
        other => Err(Error::dtype(op, other, "i8, u8 or i32 to quantise to")),
    }
}

/// One value for each index along a dim.
fn along(op: &'static str, what: &'static str, x: &Meta, dim: usize, own: &Meta) -> Result<()> {
    if own.shape == Shape::from([x.shape.size(dim)]) {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!("{what} of {}", own.shape),
        format!("one for each of {} along dim {dim}", x.shape.size(dim)),
    ))
}

/// The shape in which a vector broadcasts along a dim.
fn spread(rank: usize, dim: usize, count: usize) -> Shape {
    (0..rank)
        .map(|own| if own == dim { count } else { 1 })
        .collect()
}

/// A number's nearest integer (ties to even) on a grid, held to a range.
#[inline(always)]
fn nearest(x: f32, scale: f32, zero_point: i64, [low, high]: [i64; 2]) -> i64 {
    let rounded = (x / scale).round_ties_even();
    // Far values would overflow: they end at the range's end all the same.
    let whole = rounded.clamp(-9e9, 9e9) as i64;
    (whole + zero_point).clamp(low, high)
}

/// The same in ops: `clamp(round(x / scale) + zero_point)`.
fn quantised(
    x: &Tensor,
    scale: Operand<'_>,
    zero_point: Operand<'_>,
    dtype: DType,
) -> Result<Tensor> {
    let [low, high] = range("quantize", dtype)?;
    let limits = crate::ops::elementwise::ClampOptions::new()
        .min(-9e9f64)
        .max(9e9f64);
    let whole = x.div(scale)?.round()?.clamp(limits)?.to_dtype(DType::I64)?;
    let limits = crate::ops::elementwise::ClampOptions::new()
        .min(low)
        .max(high);
    whole.add(zero_point)?.clamp(limits)?.to_dtype(dtype)
}
