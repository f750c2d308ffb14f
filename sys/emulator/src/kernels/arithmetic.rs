//! Arithmetic of two operands: sums, differences, products, quotients, remainders, powers, bits and shifts, with tensors or scalars.
//!
//! Knows formulas and the rules of their result types; it must not know strides or memory.

use super::element::{
    Operand, Through, combine, combine_inlined, common, common_float, common_of, expect_castable,
    expect_common_shape, keep, load_spread, no_kernel, output,
};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;
use crate::promote::castable;
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnAdd", add as Prepare),
    ("aclnnAdds", add),
    ("aclnnAddV3", add),
    ("aclnnInplaceAdd", add),
    ("aclnnInplaceAdds", add),
    ("aclnnSub", sub),
    ("aclnnSubs", sub),
    ("aclnnInplaceSub", sub),
    ("aclnnInplaceSubs", sub),
    ("aclnnRsub", rsub),
    ("aclnnRsubs", rsub),
    ("aclnnMul", mul),
    ("aclnnMuls", mul),
    ("aclnnInplaceMul", mul),
    ("aclnnInplaceMuls", mul),
    ("aclnnDiv", div),
    ("aclnnDivs", div),
    ("aclnnInplaceDiv", div),
    ("aclnnInplaceDivs", div),
    ("aclnnDivMod", div_mod),
    ("aclnnDivMods", div_mod),
    ("aclnnInplaceDivMod", div_mod),
    ("aclnnInplaceDivMods", div_mod),
    ("aclnnFloorDivide", floor_divide),
    ("aclnnFloorDivides", floor_divide),
    ("aclnnInplaceFloorDivide", floor_divide),
    ("aclnnInplaceFloorDivides", floor_divide),
    ("aclnnRemainderTensorTensor", remainder),
    ("aclnnRemainderTensorScalar", remainder),
    ("aclnnRemainderScalarTensor", remainder),
    ("aclnnInplaceRemainderTensorTensor", remainder),
    ("aclnnInplaceRemainderTensorScalar", remainder),
    ("aclnnFmodTensor", fmod),
    ("aclnnFmodScalar", fmod),
    ("aclnnInplaceFmodTensor", fmod),
    ("aclnnInplaceFmodScalar", fmod),
    ("aclnnPowTensorTensor", pow),
    ("aclnnPowTensorScalar", pow),
    ("aclnnPowScalarTensor", pow),
    ("aclnnInplacePowTensorTensor", pow),
    ("aclnnInplacePowTensorScalar", pow),
    ("aclnnMaximum", |call| binary(call, &MAXIMUM)),
    ("aclnnMinimum", |call| binary(call, &MINIMUM)),
    ("aclnnAddN", sum_of_list),
    ("aclnnSum", sum_of_list),
    ("aclnnMaxN", |call| {
        fold_list(call, MAXIMUM.float, MAXIMUM.integer)
    }),
    ("aclnnMinN", |call| {
        fold_list(call, MINIMUM.float, MINIMUM.integer)
    }),
    ("aclnnAtan2", |call| real(call, f64::atan2)),
    ("aclnnInplaceAtan2", |call| real(call, f64::atan2)),
    ("aclnnLogAddExp", |call| real(call, log_add_exp)),
    ("aclnnLogAddExp2", |call| real(call, log_add_exp2)),
    ("aclnnXLogYTensor", |call| real(call, x_log_y)),
    ("aclnnXLogYScalarOther", |call| real(call, x_log_y)),
    ("aclnnXLogYScalarSelf", |call| real(call, x_log_y)),
    ("aclnnInplaceXLogYTensor", |call| real(call, x_log_y)),
    ("aclnnInplaceXLogYScalarOther", |call| real(call, x_log_y)),
    ("aclnnXlog1py", |call| real(call, x_log1p_y)),
    ("aclnnHeaviside", |call| binary(call, &HEAVISIDE)),
    ("aclnnGcd", |call| bits(call, gcd, None)),
    ("aclnnBitwiseAndTensor", bitwise_and),
    ("aclnnBitwiseAndTensorOut", bitwise_and),
    ("aclnnBitwiseAndScalar", bitwise_and),
    ("aclnnInplaceBitwiseAndTensor", bitwise_and),
    ("aclnnInplaceBitwiseAndTensorOut", bitwise_and),
    ("aclnnInplaceBitwiseAndScalar", bitwise_and),
    ("aclnnBitwiseOrTensor", bitwise_or),
    ("aclnnBitwiseOrScalar", bitwise_or),
    ("aclnnInplaceBitwiseOrTensor", bitwise_or),
    ("aclnnInplaceBitwiseOrScalar", bitwise_or),
    ("aclnnBitwiseXorTensor", bitwise_xor),
    ("aclnnBitwiseXorScalar", bitwise_xor),
    ("aclnnInplaceBitwiseXorTensor", bitwise_xor),
    ("aclnnInplaceBitwiseXorScalar", bitwise_xor),
    ("aclnnLeftShift", |call| bits(call, shift_left, None)),
    ("aclnnLeftShifts", |call| bits(call, shift_left, None)),
    ("aclnnRightShift", right_shift),
];

/// One formula in the types that have it.
struct Rules {
    float: fn(f64, f64) -> f64,
    integer: fn(i64, i64) -> i64,
    boolean: Option<fn(bool, bool) -> bool>,
}

const MAXIMUM: Rules = Rules {
    float: |a, b| if a > b || a.is_nan() { a } else { b },
    integer: i64::max,
    boolean: Some(|a, b| a || b),
};

const MINIMUM: Rules = Rules {
    float: |a, b| if a < b || a.is_nan() { a } else { b },
    integer: i64::min,
    boolean: Some(|a, b| a && b),
};

const HEAVISIDE: Rules = Rules {
    float: |x, at_zero| match x {
        _ if x.is_nan() => x,
        _ if x == 0.0 => at_zero,
        _ => f64::from(u8::from(x > 0.0)),
    },
    integer: |x, at_zero| if x == 0 { at_zero } else { i64::from(x > 0) },
    boolean: Some(|x, at_zero| x || at_zero),
};

/// Checks the types and shapes of `out = f(x, y)`; `None` where there is nothing to compute.
fn check(
    call: &Call,
    x: &Operand,
    y: &Operand,
    dtype: DType,
    out: &Tensor,
) -> Result<bool, Refusal> {
    expect_castable(call, dtype, out)?;
    expect_common_shape(call, &[x.shape(), y.shape()], out)?;
    Ok(!out.is_empty())
}

fn binary(call: &Call, rules: &'static Rules) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let out = output(call, call.count() - 1)?;
    let dtype = common(call, &x, &y)?;
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    match (dtype.class(), rules.boolean) {
        (Class::Float32 | Class::Float64, _) => {
            Ok(combine::<f64, f64>(x, y, dtype, out, dtype, rules.float))
        }
        (Class::Integer, _) => Ok(combine::<i64, i64>(x, y, dtype, out, dtype, rules.integer)),
        (Class::Boolean, Some(f)) => Ok(combine::<bool, bool>(x, y, dtype, out, dtype, f)),
        _ => Err(no_kernel(call, dtype)),
    }
}

/// Functions of two reals: integers compute in f32.
fn real(call: &Call, f: fn(f64, f64) -> f64) -> Result<Work, Refusal> {
    let (x, y, out) = (
        Operand::of(call, 0)?,
        Operand::of(call, 1)?,
        output(call, 2)?,
    );
    let dtype = common_float(call, &x, &y)?;
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    Ok(combine::<f64, f64>(x, y, dtype, out, dtype, f))
}

/// `out = self + alpha * other`.
fn add(call: &Call) -> Result<Work, Refusal> {
    linear(call, Operand::of(call, 0)?, Operand::of(call, 1)?, false)
}

/// `out = self - alpha * other`.
fn sub(call: &Call) -> Result<Work, Refusal> {
    linear(call, Operand::of(call, 0)?, Operand::of(call, 1)?, true)
}

/// `out = other - alpha * self`.
fn rsub(call: &Call) -> Result<Work, Refusal> {
    linear(call, Operand::of(call, 1)?, Operand::of(call, 0)?, true)
}

/// `out = x + alpha * y`, or minus that product.
fn linear(call: &Call, x: Operand, y: Operand, minus: bool) -> Result<Work, Refusal> {
    let (alpha, out) = (call.scalar(2)?, output(call, 3)?);
    let dtype = common(call, &x, &y)?;
    // Bools take a whole alpha, as PyTorch's client passes it.
    let whole =
        dtype == DType::Bool && matches!(alpha.dtype().class(), Class::Integer | Class::Boolean);
    if !whole && !castable(alpha.dtype(), dtype) {
        return Err(call.invalid(format!("alpha is {}, wanted {dtype}", alpha.dtype())));
    }
    if dtype == DType::Bool && minus {
        return Err(call.invalid("bool has no difference"));
    }
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float32 => {
            let alpha = alpha.rounded_to::<f32>(dtype) * if minus { -1.0 } else { 1.0 };
            combine_inlined::<f32, f32>(x, y, dtype, out, dtype, move |a, b| a + alpha * b)
        }
        Class::Float64 => {
            let alpha = alpha.f64() * if minus { -1.0 } else { 1.0 };
            combine::<f64, f64>(x, y, dtype, out, dtype, move |a, b| a + alpha * b)
        }
        Class::Integer => {
            let alpha = alpha.i64().wrapping_mul(if minus { -1 } else { 1 });
            combine::<i64, i64>(x, y, dtype, out, dtype, move |a, b| {
                a.wrapping_add(alpha.wrapping_mul(b))
            })
        }
        Class::Boolean => {
            let alpha = alpha.i64() != 0;
            combine::<bool, bool>(x, y, dtype, out, dtype, move |a, b| a || (alpha && b))
        }
        Class::Complex => {
            let alpha = if minus {
                -alpha.complex()
            } else {
                alpha.complex()
            };
            combine::<Complex, Complex>(x, y, dtype, out, dtype, move |a, b| a + alpha * b)
        }
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

/// The sum of a list of tensors of one shape.
fn sum_of_list(call: &Call) -> Result<Work, Refusal> {
    fold_list(call, |a, b| a + b, i64::wrapping_add)
}

/// Element by element over a list of tensors of one dtype, which broadcast.
fn fold_list(
    call: &Call,
    float: fn(f64, f64) -> f64,
    integer: fn(i64, i64) -> i64,
) -> Result<Work, Refusal> {
    let (parts, out) = (call.tensors(0)?, call.tensor(1)?);
    let dtype = common_of(call, &parts.iter().collect::<Vec<_>>())?;
    let shapes: Vec<&[usize]> = parts.iter().map(Tensor::shape).collect();
    expect_castable(call, dtype, &out)?;
    expect_common_shape(call, &shapes, &out)?;
    match dtype.class() {
        Class::Float32 | Class::Float64 => {
            Ok(Work::new(move || folded::<f64>(&parts, dtype, &out, float)))
        }
        Class::Integer => Ok(Work::new(move || {
            folded::<i64>(&parts, dtype, &out, integer)
        })),
        _ => Err(no_kernel(call, dtype)),
    }
}

fn folded<T: Through>(
    parts: &[Tensor],
    dtype: DType,
    out: &Tensor,
    f: fn(T, T) -> T,
) -> Result<(), Fault> {
    let mut rest = parts.iter();
    let Some(first) = rest.next() else {
        return Ok(());
    };
    let mut total = load_spread::<T>(first, dtype, out.shape())?;
    for part in rest {
        let values = load_spread::<T>(part, dtype, out.shape())?;
        total.zip_mut_with(&values, |a, &b| *a = f(*a, b));
    }
    keep(out, dtype, total.view())
}

/// `out = self * other`.
fn mul(call: &Call) -> Result<Work, Refusal> {
    let (x, y, out) = (
        Operand::of(call, 0)?,
        Operand::of(call, 1)?,
        output(call, 2)?,
    );
    let dtype = common(call, &x, &y)?;
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float32 => combine_inlined::<f32, f32>(x, y, dtype, out, dtype, |a, b| a * b),
        Class::Float64 => combine::<f64, f64>(x, y, dtype, out, dtype, |a, b| a * b),
        Class::Integer => combine::<i64, i64>(x, y, dtype, out, dtype, i64::wrapping_mul),
        Class::Boolean => combine::<bool, bool>(x, y, dtype, out, dtype, |a, b| a && b),
        Class::Complex => combine::<Complex, Complex>(x, y, dtype, out, dtype, |a, b| a * b),
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

/// `out = self / other`, the true quotient.
fn div(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let out = output(call, call.count() - 1)?;
    let dtype = common_float(call, &x, &y)?;
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float32 => combine::<f32, f32>(x, y, dtype, out, dtype, |a, b| a / b),
        Class::Float64 => combine::<f64, f64>(x, y, dtype, out, dtype, |a, b| a / b),
        Class::Complex => combine::<Complex, Complex>(x, y, dtype, out, dtype, |a, b| a / b),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// Quotient by mode: 0 true, 1 rounded toward zero, 2 rounded down.
fn div_mod(call: &Call) -> Result<Work, Refusal> {
    match call.int(2)? {
        0 => div(call),
        1 => truncated(call),
        2 => floor_divide(call),
        other => Err(call.invalid(format!("mode is {other}, wanted 0, 1 or 2"))),
    }
}

fn truncated(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let out = output(call, call.count() - 1)?;
    let dtype = common(call, &x, &y)?;
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float32 => combine::<f32, f32>(x, y, dtype, out, dtype, |a, b| (a / b).trunc()),
        Class::Float64 => combine::<f64, f64>(x, y, dtype, out, dtype, |a, b| (a / b).trunc()),
        Class::Integer => combine::<i64, i64>(x, y, dtype, out, dtype, |a, b| {
            if b == 0 { 0 } else { a.wrapping_div(b) }
        }),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// `out = floor(self / other)`. The quotient of an integer and zero is unspecified; it is 0 here.
fn floor_divide(call: &Call) -> Result<Work, Refusal> {
    const RULES: Rules = Rules {
        float: floor_quotient,
        integer: |a, b| match b {
            0 => 0,
            -1 => a.wrapping_neg(),
            _ => a.div_euclid(b) - i64::from(b < 0 && a.rem_euclid(b) != 0),
        },
        boolean: None,
    };
    binary(call, &RULES)
}

fn floor_quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    let rest = a % b;
    let quotient = (a - rest) / b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        return (quotient - 1.0).round();
    }
    quotient.round()
}

/// `out = self - other * floor(self / other)`: the sign of the divisor. Integers by zero give 0 here.
fn remainder(call: &Call) -> Result<Work, Refusal> {
    const RULES: Rules = Rules {
        float: |a, b| {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            }
        },
        integer: |a, b| match b {
            0 | -1 => 0,
            _ => {
                let rest = a % b;
                rest + if rest != 0 && (rest < 0) != (b < 0) {
                    b
                } else {
                    0
                }
            }
        },
        boolean: None,
    };
    binary(call, &RULES)
}

/// The remainder with the sign of the dividend. Integers by zero give 0 here.
fn fmod(call: &Call) -> Result<Work, Refusal> {
    const RULES: Rules = Rules {
        float: |a, b| a % b,
        integer: |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) },
        boolean: None,
    };
    binary(call, &RULES)
}

/// `out = self ^ exponent`.
fn pow(call: &Call) -> Result<Work, Refusal> {
    const RULES: Rules = Rules {
        float: f64::powf,
        integer: integer_power,
        boolean: None,
    };
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    if x.dtype() == DType::Bool && y.dtype() == DType::Bool {
        return Err(call.invalid("base and exponent are both bool"));
    }
    if let (Operand::Scalar(exponent), true) = (&y, common(call, &x, &y)?.is_integer())
        && exponent.i64() < 0
    {
        return Err(call.invalid(format!(
            "integer base with the negative exponent {}",
            exponent.i64()
        )));
    }
    binary(call, &RULES)
}

fn integer_power(base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut left) = (1i64, base, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left /= 2;
    }
    result
}

fn log_add_exp(a: f64, b: f64) -> f64 {
    if a == b && a.is_infinite() {
        return a;
    }
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

fn log_add_exp2(a: f64, b: f64) -> f64 {
    if a == b && a.is_infinite() {
        return a;
    }
    a.max(b) + (-(a - b).abs()).exp2().ln_1p() / std::f64::consts::LN_2
}

fn x_log_y(x: f64, y: f64) -> f64 {
    if y.is_nan() {
        return y;
    }
    if x == 0.0 { 0.0 } else { x * y.ln() }
}

fn x_log1p_y(x: f64, y: f64) -> f64 {
    if y.is_nan() {
        return y;
    }
    if x == 0.0 { 0.0 } else { x * y.ln_1p() }
}

/// Functions of bits: integers, and bool where `boolean` is given.
fn bits(
    call: &Call,
    integer: fn(i64, i64) -> i64,
    boolean: Option<fn(bool, bool) -> bool>,
) -> Result<Work, Refusal> {
    let (x, y, out) = (
        Operand::of(call, 0)?,
        Operand::of(call, 1)?,
        output(call, 2)?,
    );
    let dtype = common(call, &x, &y)?;
    let wanted = dtype.is_integer() || (dtype == DType::Bool && boolean.is_some());
    if !wanted {
        return Err(call.invalid(format!("operands are {dtype}, wanted integers")));
    }
    if !check(call, &x, &y, dtype, &out)? {
        return Ok(Work::nothing());
    }
    Ok(match boolean {
        Some(f) if dtype == DType::Bool => combine::<bool, bool>(x, y, dtype, out, dtype, f),
        _ => combine::<i64, i64>(x, y, dtype, out, dtype, integer),
    })
}

fn bitwise_and(call: &Call) -> Result<Work, Refusal> {
    bits(call, |a, b| a & b, Some(|a, b| a && b))
}

fn bitwise_or(call: &Call) -> Result<Work, Refusal> {
    bits(call, |a, b| a | b, Some(|a, b| a || b))
}

fn bitwise_xor(call: &Call) -> Result<Work, Refusal> {
    bits(call, |a, b| a ^ b, Some(|a, b| a != b))
}

/// Arithmetic shift of signed types, logical shift of unsigned ones.
fn right_shift(call: &Call) -> Result<Work, Refusal> {
    let unsigned = Operand::of(call, 0)?.dtype() == DType::U64;
    bits(
        call,
        if unsigned {
            shift_right_bits
        } else {
            shift_right
        },
        None,
    )
}

/// Counts outside the word give 0.
fn shift_left(value: i64, count: i64) -> i64 {
    u32::try_from(count)
        .ok()
        .and_then(|count| value.checked_shl(count))
        .unwrap_or(0)
}

fn shift_right(value: i64, count: i64) -> i64 {
    let past_the_end = if value < 0 { -1 } else { 0 };
    u32::try_from(count)
        .ok()
        .and_then(|count| value.checked_shr(count))
        .unwrap_or(past_the_end)
}

fn shift_right_bits(value: i64, count: i64) -> i64 {
    u32::try_from(count)
        .ok()
        .and_then(|count| (value as u64).checked_shr(count))
        .unwrap_or(0) as i64
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a as i64
}
