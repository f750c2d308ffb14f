//! Elementwise ops: one or several inputs that broadcast, one output.
//!
//! Knows the shape and dtype rules that the family shares. Must not know any single op.

pub(crate) mod binary;
pub(crate) mod unary;

rooms! {
    abs,
    acos,
    acosh,
    add,
    addcdiv,
    addcmul,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    ceil,
    clamp,
    copysign,
    cos,
    cosh,
    div,
    eq,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    floor,
    fmax,
    fmin,
    fmod,
    frac,
    ge,
    gt,
    hypot,
    isclose,
    isfinite,
    isinf,
    isnan,
    le,
    lerp,
    log,
    log10,
    log1p,
    log2,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logit,
    lt,
    masked_fill,
    maximum,
    minimum,
    mul,
    nan_to_num,
    ne,
    neg,
    pow,
    reciprocal,
    remainder,
    round,
    rsqrt,
    sigmoid,
    sign,
    signbit,
    sin,
    sinh,
    sqrt,
    square,
    sub,
    tan,
    tanh,
    to_dtype,
    trunc,
    where_cond,
    xlogy,
}

use crate::cpu::Host;
use crate::dispatch::broadcast;
use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::op::{Meta, Plan, result_type};

/// Plans an elementwise op whose inputs are cast to the dtype that they and a scalar promote to; that is the output's too.
pub(crate) fn plan_promoted(
    op: &'static str,
    inputs: &[Meta],
    scalars: &[Scalar],
    plan: &mut Plan,
) -> Result<DType> {
    let dtype = result_type(inputs, scalars);
    plan_as(op, inputs, dtype, dtype, plan)?;
    Ok(dtype)
}

/// Plans an elementwise op whose inputs are cast to `compute` and whose output is `result`.
pub(crate) fn plan_as(
    op: &'static str,
    inputs: &[Meta],
    compute: DType,
    result: DType,
    plan: &mut Plan,
) -> Result<()> {
    let shape = broadcast(op, inputs)?;
    for (index, input) in inputs.iter().enumerate() {
        if input.dtype != compute {
            plan.cast(index, compute);
        }
    }
    plan.output(shape, result);
    Ok(())
}

/// The second operand on the host: the second input, or the number, which `room` holds then.
pub(crate) fn second<'x, 'a>(
    inputs: &'x [Host<'a>],
    number: impl FnOnce() -> Host<'a>,
    room: &'x mut Option<Host<'a>>,
) -> &'x Host<'a> {
    match inputs.get(1) {
        Some(input) => input,
        None => room.insert(number()),
    }
}

/// Plans an in-place elementwise op: the first input is the destination, which keeps its shape and dtype.
pub(crate) fn plan_in_place(
    op: &'static str,
    inputs: &[Meta],
    compute: DType,
    plan: &mut Plan,
) -> Result<()> {
    let Some((target, others)) = inputs.split_first() else {
        return Ok(());
    };
    if compute.category() > target.dtype.category() {
        return Err(crate::Error::dtype(
            op,
            format!(
                "a result of {compute} for a destination of {}",
                target.dtype
            ),
            "a dtype that the destination can hold",
        ));
    }
    let shape = broadcast(op, inputs)?;
    if shape != target.shape {
        return Err(crate::Error::shape(
            op,
            format!("a destination of {} for a result of {shape}", target.shape),
            "a destination with the shape of the result",
        ));
    }
    for (index, other) in others.iter().enumerate() {
        if other.dtype != target.dtype {
            plan.cast(index + 1, target.dtype);
        }
    }
    Ok(())
}
