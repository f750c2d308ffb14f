//! Elementwise ops of three operands: choice by a mask, bounds, interpolation, fused products and quotients.
//!
//! Knows formulas and the rules of their result types; it must not know strides or memory.

use super::common::{by_class, expect_broadcast};
use super::element::{
    Operand, Through, combine_three, common, common_of, expect_castable, expect_common_shape,
    fetch, keep, no_kernel, output, spread,
};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Prepare, Scalar, Work};
use crate::number::Complex;
use crate::promote::{promote, promote_scalar};
use crate::tensor::Tensor;
use ndarray::Zip;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnSWhere", choose as Prepare),
    ("aclnnInplaceMaskedFillScalar", masked_fill),
    ("aclnnInplaceMaskedFillTensor", masked_fill),
    ("aclnnClamp", clamp),
    ("aclnnClampTensor", clamp),
    ("aclnnClampMin", clamp_low),
    ("aclnnClampMinTensor", clamp_low),
    ("aclnnInplaceClampMinTensor", clamp_low),
    ("aclnnClampMax", clamp_high),
    ("aclnnClampMaxTensor", clamp_high),
    ("aclnnInplaceClampMax", clamp_high),
    ("aclnnInplaceClampMaxTensor", clamp_high),
    ("aclnnHardtanh", hardtanh),
    ("aclnnInplaceHardtanh", hardtanh),
    ("aclnnLerp", lerp),
    ("aclnnLerps", lerp),
    ("aclnnInplaceLerp", lerp),
    ("aclnnInplaceLerps", lerp),
    ("aclnnAddcmul", addcmul),
    ("aclnnInplaceAddcmul", addcmul),
    ("aclnnAddcdiv", addcdiv),
    ("aclnnInplaceAddcdiv", addcdiv),
];

/// `out = self` where the condition is true, else `other`; all three broadcast.
fn choose(call: &Call) -> Result<Work, Refusal> {
    let (condition, x, y, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    call.expect_dtype("condition", &condition, &[DType::Bool, DType::U8])?;
    let dtype = common_of(call, &[&x, &y])?;
    if dtype != out.dtype() {
        expect_castable(call, dtype, &out)?;
    }
    expect_common_shape(call, &[condition.shape(), x.shape(), y.shape()], &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let refused = no_kernel(call, dtype);
    by_class!(dtype, T => Ok(Work::new(move || {
        choose_values::<T>(&condition, &x, &y, dtype, &out)
    })), Err(refused))
}

fn choose_values<T: Through>(
    condition: &Tensor,
    x: &Tensor,
    y: &Tensor,
    dtype: DType,
    out: &Tensor,
) -> Result<(), Fault> {
    let shape = out.shape();
    let truth = condition.read::<bool>();
    let (a, b) = (fetch::<T>(x, dtype), fetch::<T>(y, dtype));
    let (truth, a, b) = (
        spread(&truth, shape)?,
        spread(&a, shape)?,
        spread(&b, shape)?,
    );
    let values = Zip::from(&truth)
        .and(&a)
        .and(&b)
        .map_collect(|&truth, &a, &b| if truth { a } else { b });
    keep(out, dtype, values.view())
}

/// `selfRef = value` where the mask is true; the mask broadcasts to self.
fn masked_fill(call: &Call) -> Result<Work, Refusal> {
    let (x, mask, value) = (call.tensor(0)?, call.tensor(1)?, Operand::of(call, 2)?);
    call.expect_dtype("mask", &mask, &[DType::Bool])?;
    expect_broadcast(call, "mask", &mask, x.shape())?;
    if !value.shape().is_empty() && value.shape() != [1] {
        return Err(call.invalid(format!(
            "value has shape {:?}, wanted no dims",
            value.shape()
        )));
    }
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let dtype = x.dtype();
    let refused = no_kernel(call, dtype);
    by_class!(dtype, T => Ok(Work::new(move || fill_values::<T>(&x, &mask, &value))), Err(refused))
}

fn fill_values<T: Through>(x: &Tensor, mask: &Tensor, value: &Operand) -> Result<(), Fault> {
    let dtype = x.dtype();
    let values = value.fetch::<T>(dtype);
    let (mask, value) = (mask.read::<bool>(), spread(&values, x.shape())?);
    let mask = spread(&mask, x.shape())?;
    let mut result = x.load::<T>();
    Zip::from(&mut result)
        .and(&mask)
        .and(&value)
        .for_each(|result, &mask, &value| {
            if mask {
                *result = value;
            }
        });
    x.store(&result)
}

/// Parameter `index`, which may be null.
fn optional(call: &Call, index: usize) -> Result<Option<Operand>, Refusal> {
    match call.arg(index) {
        Some(Arg::Scalar(None) | Arg::Tensor(None)) => Ok(None),
        _ => Operand::of(call, index).map(Some),
    }
}

fn clamp(call: &Call) -> Result<Work, Refusal> {
    let (low, high) = (optional(call, 1)?, optional(call, 2)?);
    if low.is_none() && high.is_none() {
        return Err(call.invalid("neither a lower nor an upper bound"));
    }
    bounded(call, low, high, output(call, 3)?)
}

fn clamp_low(call: &Call) -> Result<Work, Refusal> {
    bounded(call, Some(Operand::of(call, 1)?), None, output(call, 2)?)
}

fn clamp_high(call: &Call) -> Result<Work, Refusal> {
    bounded(call, None, Some(Operand::of(call, 1)?), output(call, 2)?)
}

/// Bounds must be in order.
fn hardtanh(call: &Call) -> Result<Work, Refusal> {
    let (low, high) = (call.scalar(1)?, call.scalar(2)?);
    if low.f64() > high.f64() {
        return Err(call.invalid(format!(
            "lower bound {} is above the upper bound {}",
            low.f64(),
            high.f64()
        )));
    }
    let wrap = |scalar: Scalar| Some(Operand::Scalar(scalar));
    bounded(call, wrap(low), wrap(high), output(call, 3)?)
}

/// `min(max(x, low), high)`: bounds in the wrong order give `high`; NaN stays.
fn bounded(
    call: &Call,
    low: Option<Operand>,
    high: Option<Operand>,
    out: Tensor,
) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let mut dtype = x.dtype();
    let mut shapes = vec![x.shape()];
    for bound in low.iter().chain(&high) {
        dtype = match bound {
            Operand::Tensor(_) => promote(dtype, bound.dtype()),
            Operand::Scalar(_) => promote_scalar(dtype, bound.dtype()),
        }
        .ok_or_else(|| call.invalid(format!("{dtype} and {} do not promote", bound.dtype())))?;
        shapes.push(bound.shape());
    }
    expect_castable(call, dtype, &out)?;
    expect_common_shape(call, &shapes, &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let (has_low, has_high) = (low.is_some(), high.is_some());
    let x = Operand::Tensor(x);
    let operands = [
        x.clone(),
        low.unwrap_or_else(|| x.clone()),
        high.unwrap_or(x),
    ];
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => {
            combine_three::<f64>(operands, dtype, out, move |x, low, high| {
                let raised = if has_low && !(x > low || x.is_nan()) {
                    low
                } else {
                    x
                };
                let keeps = raised < high || raised.is_nan() || !has_high;
                if keeps { raised } else { high }
            })
        }
        Class::Integer => combine_three::<i64>(operands, dtype, out, move |x, low, high| {
            let raised = if has_low { x.max(low) } else { x };
            if has_high { raised.min(high) } else { raised }
        }),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// `out = self + weight * (end - self)`; all of one float dtype.
fn lerp(call: &Call) -> Result<Work, Refusal> {
    let (x, end, weight) = (call.tensor(0)?, call.tensor(1)?, Operand::of(call, 2)?);
    let out = output(call, 3)?;
    call.expect_dtype("end", &end, &[x.dtype()])?;
    let dtype = common(call, &Operand::Tensor(x.clone()), &weight)?;
    if let Operand::Tensor(weight) = &weight {
        call.expect_dtype("weight", weight, &[x.dtype()])?;
    }
    if !dtype.is_float() {
        return Err(call.invalid(format!("self is {dtype}, wanted a float")));
    }
    expect_castable(call, dtype, &out)?;
    expect_common_shape(call, &[x.shape(), end.shape(), weight.shape()], &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let operands = [Operand::Tensor(x), Operand::Tensor(end), weight];
    Ok(combine_three::<f64>(
        operands,
        dtype,
        out,
        |x, end, weight| {
            if weight.abs() < 0.5 {
                x + weight * (end - x)
            } else {
                end - (end - x) * (1.0 - weight)
            }
        },
    ))
}

/// `out = self + value * tensor1 * tensor2`.
fn addcmul(call: &Call) -> Result<Work, Refusal> {
    let (operands, dtype, value, out) = fused(call)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => {
            let value = value.rounded_to::<f64>(dtype);
            combine_three::<f64>(operands, dtype, out, move |x, a, b| x + value * a * b)
        }
        Class::Integer => {
            let value = value.i64();
            combine_three::<i64>(operands, dtype, out, move |x, a, b| {
                x.wrapping_add(value.wrapping_mul(a).wrapping_mul(b))
            })
        }
        Class::Complex => {
            let value = value.complex();
            combine_three::<Complex>(operands, dtype, out, move |x, a, b| x + value * a * b)
        }
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// `out = self + value * tensor1 / tensor2`.
fn addcdiv(call: &Call) -> Result<Work, Refusal> {
    let (operands, dtype, value, out) = fused(call)?;
    if !dtype.is_float() {
        return Err(call.invalid(format!("operands are {dtype}, wanted floats")));
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let value = value.rounded_to::<f64>(dtype);
    Ok(combine_three::<f64>(
        operands,
        dtype,
        out,
        move |x, a, b| x + value * a / b,
    ))
}

fn fused(call: &Call) -> Result<([Operand; 3], DType, Scalar, Tensor), Refusal> {
    let (x, a, b) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (value, out) = (call.scalar(3)?, output(call, 4)?);
    let dtype = common_of(call, &[&x, &a, &b])?;
    expect_castable(call, dtype, &out)?;
    expect_common_shape(call, &[x.shape(), a.shape(), b.shape()], &out)?;
    Ok(([x, a, b].map(Operand::Tensor), dtype, value, out))
}
