//! Comparisons, logical ops and tests for closeness: their results are truth values, cast to the output's type.
//!
//! Knows orderings; it must not know strides or memory.

use super::element::{
    Operand, combine, common, expect_castable, expect_common_shape, no_kernel, output,
};
use crate::dtype::{Class, DType};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;
use std::cmp::Ordering;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnEqTensor", equal as Prepare),
    ("aclnnEqScalar", equal),
    ("aclnnInplaceEqTensor", equal),
    ("aclnnInplaceEqScalar", equal),
    ("aclnnNeTensor", not_equal),
    ("aclnnNeScalar", not_equal),
    ("aclnnInplaceNeTensor", not_equal),
    ("aclnnInplaceNeScalar", not_equal),
    ("aclnnLtTensor", less),
    ("aclnnLtScalar", less),
    ("aclnnInplaceLtTensor", less),
    ("aclnnInplaceLtScalar", less),
    ("aclnnLeTensor", less_or_equal),
    ("aclnnLeScalar", less_or_equal),
    ("aclnnInplaceLeTensor", less_or_equal),
    ("aclnnInplaceLeScalar", less_or_equal),
    ("aclnnGtTensor", greater),
    ("aclnnGtScalar", greater),
    ("aclnnInplaceGtTensor", greater),
    ("aclnnInplaceGtScalar", greater),
    ("aclnnGeTensor", greater_or_equal),
    ("aclnnGeScalar", greater_or_equal),
    ("aclnnInplaceGeTensor", greater_or_equal),
    ("aclnnInplaceGeScalar", greater_or_equal),
    ("aclnnLogicalAnd", logical_and),
    ("aclnnInplaceLogicalAnd", logical_and),
    ("aclnnLogicalOr", logical_or),
    ("aclnnInplaceLogicalOr", logical_or),
    ("aclnnLogicalXor", |call| logical(call, |a, b| a != b)),
    ("aclnnEqual", all_equal),
    ("aclnnIsClose", is_close),
];

/// Which orderings count as true; `None` is what a NaN gives.
type Accepts = fn(Option<Ordering>) -> bool;

fn equal(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order == Some(Ordering::Equal))
}

fn not_equal(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order != Some(Ordering::Equal))
}

fn less(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order == Some(Ordering::Less))
}

fn less_or_equal(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order.is_some_and(Ordering::is_le))
}

fn greater(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order == Some(Ordering::Greater))
}

fn greater_or_equal(call: &Call) -> Result<Work, Refusal> {
    compare(call, |order| order.is_some_and(Ordering::is_ge))
}

/// The operands are promoted before they are compared.
fn compare(call: &Call, accepts: Accepts) -> Result<Work, Refusal> {
    let (x, y, out) = (
        Operand::of(call, 0)?,
        Operand::of(call, 1)?,
        output(call, 2)?,
    );
    let dtype = common(call, &x, &y)?;
    expect_castable(call, DType::Bool, &out)?;
    expect_common_shape(call, &[x.shape(), y.shape()], &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let truth = DType::Bool;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => {
            combine::<f64, bool>(x, y, dtype, out, truth, move |a, b| {
                accepts(a.partial_cmp(&b))
            })
        }
        Class::Integer if dtype == DType::U64 => {
            combine::<i64, bool>(x, y, dtype, out, truth, move |a, b| {
                accepts(Some((a as u64).cmp(&(b as u64))))
            })
        }
        Class::Integer => combine::<i64, bool>(x, y, dtype, out, truth, move |a, b| {
            accepts(Some(a.cmp(&b)))
        }),
        Class::Boolean => combine::<bool, bool>(x, y, dtype, out, truth, move |a, b| {
            accepts(Some(a.cmp(&b)))
        }),
        Class::Complex => combine::<Complex, bool>(x, y, dtype, out, truth, move |a, b| {
            accepts((a == b).then_some(Ordering::Equal))
        }),
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

fn logical_and(call: &Call) -> Result<Work, Refusal> {
    logical(call, |a, b| a && b)
}

fn logical_or(call: &Call) -> Result<Work, Refusal> {
    logical(call, |a, b| a || b)
}

/// Each operand counts as true where it differs from zero.
fn logical(call: &Call, f: fn(bool, bool) -> bool) -> Result<Work, Refusal> {
    let (x, y, out) = (
        Operand::of(call, 0)?,
        Operand::of(call, 1)?,
        output(call, 2)?,
    );
    expect_castable(call, DType::Bool, &out)?;
    expect_common_shape(call, &[x.shape(), y.shape()], &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let truth = DType::Bool;
    Ok(combine::<bool, bool>(x, y, truth, out, truth, f))
}

/// One truth value: same shape and same elements.
fn all_equal(call: &Call) -> Result<Work, Refusal> {
    let (x, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if out.count() != 1 {
        return Err(call.invalid(format!(
            "out has shape {:?}, wanted one element",
            out.shape()
        )));
    }
    call.expect_dtype("other", &y, &[x.dtype()])?;
    let exact = x.dtype().class() == Class::Integer;
    Ok(Work::new(move || {
        let same = x.shape() == y.shape()
            && if exact {
                x.read::<i64>() == y.read::<i64>()
            } else {
                x.read::<f64>() == y.read::<f64>()
            };
        out.fill(same)
    }))
}

/// `|self - other| <= atol + rtol * |other|`; equal infinities are close.
fn is_close(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let (relative, absolute, nan_is_equal) = (call.float(2)?, call.float(3)?, call.bool(4)?);
    let out = call.tensor(5)?;
    if relative < 0.0 || absolute < 0.0 {
        return Err(call.invalid(format!(
            "rtol {relative} and atol {absolute}, wanted neither below 0"
        )));
    }
    let dtype = common(call, &x, &y)?;
    expect_common_shape(call, &[x.shape(), y.shape()], &out)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    if dtype.is_complex() || dtype.class() == Class::Other {
        return Err(no_kernel(call, dtype));
    }
    Ok(combine::<f64, bool>(
        x,
        y,
        dtype,
        out,
        DType::Bool,
        move |a, b| {
            a == b
                || (nan_is_equal && a.is_nan() && b.is_nan())
                || (a.is_finite()
                    && b.is_finite()
                    && (a - b).abs() <= absolute + relative * b.abs())
        },
    ))
}
