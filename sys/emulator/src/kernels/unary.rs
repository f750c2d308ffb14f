//! Functions of one operand: elementary functions, roundings, signs, and tests of a number's kind.
//!
//! Knows formulas and the rules of their result types; it must not know strides or memory.

use super::element::{apply, expect_castable, map, no_kernel, output};
use super::functions::{digamma, erf_inverse, sigmoid};
use crate::dtype::{Class, DType};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;
use crate::promote::to_float;
use crate::tensor::Tensor;
use ndarray::Zip;
use std::f64::consts::{LN_2, LN_10, PI};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnExp", exp as Prepare),
    ("aclnnInplaceExp", exp),
    ("aclnnExp2", |call| real(call, f64::exp2)),
    ("aclnnInplaceExp2", |call| real(call, f64::exp2)),
    ("aclnnExpm1", |call| real(call, f64::exp_m1)),
    ("aclnnInplaceExpm1", |call| real(call, f64::exp_m1)),
    ("aclnnLog", log),
    ("aclnnInplaceLog", log),
    ("aclnnLog1p", |call| real(call, f64::ln_1p)),
    ("aclnnInplaceLog1p", |call| real(call, f64::ln_1p)),
    ("aclnnLog2", log2),
    ("aclnnInplaceLog2", log2),
    ("aclnnLog10", log10),
    ("aclnnInplaceLog10", log10),
    ("aclnnSqrt", sqrt),
    ("aclnnInplaceSqrt", sqrt),
    ("aclnnRsqrt", rsqrt),
    ("aclnnInplaceRsqrt", rsqrt),
    ("aclnnReciprocal", reciprocal),
    ("aclnnInplaceReciprocal", reciprocal),
    ("aclnnSin", sin),
    ("aclnnInplaceSin", sin),
    ("aclnnCos", cos),
    ("aclnnInplaceCos", cos),
    ("aclnnTan", tan),
    ("aclnnInplaceTan", tan),
    ("aclnnAsin", |call| real(call, f64::asin)),
    ("aclnnInplaceAsin", |call| real(call, f64::asin)),
    ("aclnnAcos", |call| real(call, f64::acos)),
    ("aclnnInplaceAcos", |call| real(call, f64::acos)),
    ("aclnnAtan", |call| real(call, f64::atan)),
    ("aclnnInplaceAtan", |call| real(call, f64::atan)),
    ("aclnnSinh", sinh),
    ("aclnnInplaceSinh", sinh),
    ("aclnnCosh", cosh),
    ("aclnnInplaceCosh", cosh),
    ("aclnnTanh", tanh),
    ("aclnnInplaceTanh", tanh),
    ("aclnnAsinh", |call| real(call, libm::asinh)),
    ("aclnnInplaceAsinh", |call| real(call, libm::asinh)),
    ("aclnnAcosh", |call| real(call, acosh)),
    ("aclnnInplaceAcosh", |call| real(call, acosh)),
    ("aclnnAtanh", |call| real(call, libm::atanh)),
    ("aclnnInplaceAtanh", |call| real(call, libm::atanh)),
    ("aclnnErf", |call| real(call, libm::erf)),
    ("aclnnInplaceErf", |call| real(call, libm::erf)),
    ("aclnnErfc", |call| real(call, libm::erfc)),
    ("aclnnInplaceErfc", |call| real(call, libm::erfc)),
    ("aclnnErfinv", |call| real(call, erf_inverse)),
    ("aclnnInplaceErfinv", |call| real(call, erf_inverse)),
    ("aclnnSinc", |call| real(call, sinc)),
    ("aclnnInplaceSinc", |call| real(call, sinc)),
    ("aclnnLgamma", |call| real(call, libm::lgamma)),
    ("aclnnDigamma", |call| real(call, digamma)),
    ("aclnnSigmoid", |call| {
        analytic(call, sigmoid, complex_sigmoid)
    }),
    ("aclnnInplaceSigmoid", |call| {
        analytic(call, sigmoid, complex_sigmoid)
    }),
    ("aclnnLogit", logit),
    ("aclnnFloor", |call| rounding(call, f64::floor)),
    ("aclnnInplaceFloor", |call| rounding(call, f64::floor)),
    ("aclnnCeil", |call| rounding(call, f64::ceil)),
    ("aclnnInplaceCeil", |call| rounding(call, f64::ceil)),
    ("aclnnTrunc", |call| rounding(call, f64::trunc)),
    ("aclnnInplaceTrunc", |call| rounding(call, f64::trunc)),
    ("aclnnRound", |call| rounding(call, f64::round_ties_even)),
    ("aclnnInplaceRound", |call| {
        rounding(call, f64::round_ties_even)
    }),
    ("aclnnRoundDecimals", round_decimals),
    ("aclnnInplaceRoundDecimals", round_decimals),
    ("aclnnFrac", frac),
    ("aclnnInplaceFrac", frac),
    ("aclnnAbs", abs),
    ("aclnnNeg", neg),
    ("aclnnInplaceNeg", neg),
    ("aclnnSign", sign),
    ("aclnnSquare", square),
    ("aclnnNanToNum", nan_to_num),
    ("aclnnInplaceNanToNum", nan_to_num),
    ("aclnnIsFinite", |call| kind(call, f64::is_finite, true)),
    ("aclnnIsInf", |call| kind(call, f64::is_infinite, false)),
    ("aclnnIsPosInf", |call| {
        kind(call, |x| x == f64::INFINITY, false)
    }),
    ("aclnnIsNegInf", |call| {
        kind(call, |x| x == f64::NEG_INFINITY, false)
    }),
    ("aclnnSignbit", sign_bit),
    ("aclnnLogicalNot", logical_not),
    ("aclnnInplaceLogicalNot", logical_not),
    ("aclnnBitwiseNot", bitwise_not),
    ("aclnnReal", real_part),
    ("aclnnAngleV2", angle),
    ("aclnnComplex", complex),
    ("aclnnPolar", polar),
];

/// NaN below 1: the library's is not, far below.
fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

/// Input and output of the same shape; the output takes results of `dtype`.
fn pair(call: &Call, dtype: impl Fn(DType) -> DType) -> Result<(Tensor, DType, Tensor), Refusal> {
    let (x, out) = (call.tensor(0)?, output(call, call.count() - 1)?);
    let dtype = dtype(x.dtype());
    expect_castable(call, dtype, &out)?;
    call.expect_shape("out", &out, x.shape())?;
    Ok((x, dtype, out))
}

/// A real function; integers and bool compute in f32.
fn real(call: &Call, f: fn(f64) -> f64) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, to_float)?;
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    Ok(map::<f64>(x, dtype, out, f))
}

/// A function of reals and of complex numbers.
fn analytic(
    call: &Call,
    f: fn(f64) -> f64,
    complex: fn(Complex) -> Complex,
) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, to_float)?;
    match dtype.class() {
        Class::Complex => Ok(map::<Complex>(x, dtype, out, complex)),
        _ => real(call, f),
    }
}

fn complex_sigmoid(z: Complex) -> Complex {
    let one = Complex::new(1.0, 0.0);
    one / (one + complex_exp(-z))
}

fn complex_exp(z: Complex) -> Complex {
    let (sin, cos) = z.im.sin_cos();
    Complex::new(z.re.exp() * cos, z.re.exp() * sin)
}

fn complex_log(z: Complex) -> Complex {
    Complex::new(z.norm().ln(), z.im.atan2(z.re))
}

fn complex_sqrt(z: Complex) -> Complex {
    let norm = z.norm();
    let re = ((norm + z.re) / 2.0).max(0.0).sqrt();
    let im = ((norm - z.re) / 2.0).max(0.0).sqrt();
    Complex::new(re, im.copysign(z.im))
}

fn complex_inverse(z: Complex) -> Complex {
    Complex::new(1.0, 0.0) / z
}

fn scaled(z: Complex, factor: f64) -> Complex {
    Complex::new(z.re * factor, z.im * factor)
}

fn complex_sinh(z: Complex) -> Complex {
    let (sin, cos) = z.im.sin_cos();
    Complex::new(z.re.sinh() * cos, z.re.cosh() * sin)
}

fn complex_cosh(z: Complex) -> Complex {
    let (sin, cos) = z.im.sin_cos();
    Complex::new(z.re.cosh() * cos, z.re.sinh() * sin)
}

/// sin z = -i sinh(i z).
fn complex_sin(z: Complex) -> Complex {
    let turned = complex_sinh(Complex::new(-z.im, z.re));
    Complex::new(turned.im, -turned.re)
}

/// cos z = cosh(i z).
fn complex_cos(z: Complex) -> Complex {
    complex_cosh(Complex::new(-z.im, z.re))
}

fn exp(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::exp, complex_exp)
}

fn log(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::ln, complex_log)
}

fn log2(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::log2, |z| scaled(complex_log(z), 1.0 / LN_2))
}

fn log10(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::log10, |z| scaled(complex_log(z), 1.0 / LN_10))
}

fn sqrt(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::sqrt, complex_sqrt)
}

fn rsqrt(call: &Call) -> Result<Work, Refusal> {
    analytic(
        call,
        |x| 1.0 / x.sqrt(),
        |z| complex_inverse(complex_sqrt(z)),
    )
}

fn reciprocal(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::recip, complex_inverse)
}

fn sin(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::sin, complex_sin)
}

fn cos(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::cos, complex_cos)
}

fn tan(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::tan, |z| complex_sin(z) / complex_cos(z))
}

fn sinh(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::sinh, complex_sinh)
}

fn cosh(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::cosh, complex_cosh)
}

fn tanh(call: &Call) -> Result<Work, Refusal> {
    analytic(call, f64::tanh, |z| complex_sinh(z) / complex_cosh(z))
}

/// sin(pi x) / (pi x).
fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        (PI * x).sin() / (PI * x)
    }
}

/// ln(z / (1 - z)), z clamped to [eps, 1 - eps]; a negative eps clamps nothing.
fn logit(call: &Call) -> Result<Work, Refusal> {
    let eps = call.float(1)?;
    let (x, dtype, out) = pair(call, to_float)?;
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    Ok(map::<f64>(x, dtype, out, move |x| {
        let z = if eps < 0.0 || x.is_nan() {
            x
        } else {
            x.max(eps).min(1.0 - eps)
        };
        (z / (1.0 - z)).ln()
    }))
}

/// Roundings leave integers as they are.
fn rounding(call: &Call, f: fn(f64) -> f64) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    match dtype.class() {
        Class::Float32 | Class::Float64 => Ok(map::<f64>(x, dtype, out, f)),
        Class::Integer => Ok(map::<i64>(x, dtype, out, |x| x)),
        _ => Err(no_kernel(call, dtype)),
    }
}

/// Half to even after a shift by powers of ten; f32 and narrower round in f32.
fn round_decimals(call: &Call) -> Result<Work, Refusal> {
    let decimals = call.int(1)?;
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    let digits = i32::try_from(decimals.unsigned_abs()).unwrap_or(i32::MAX);
    let (factor, grows) = (10f64.powi(digits), decimals >= 0);
    let wide = move |x: f64| match grows {
        true if decimals == 0 => x.round_ties_even(),
        true => (x * factor).round_ties_even() / factor,
        false => (x / factor).round_ties_even() * factor,
    };
    Ok(match dtype.class() {
        Class::Float32 => {
            let factor = factor as f32;
            map::<f32>(x, dtype, out, move |x| match grows {
                true if decimals == 0 => x.round_ties_even(),
                true => (x * factor).round_ties_even() / factor,
                false => (x / factor).round_ties_even() * factor,
            })
        }
        Class::Float64 => map::<f64>(x, dtype, out, wide),
        Class::Integer if grows => map::<i64>(x, dtype, out, |x| x),
        Class::Integer => map::<i64>(x, dtype, out, move |x| wide(x as f64) as i64),
        _ => return Err(no_kernel(call, dtype)),
    })
}

fn frac(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    match dtype.class() {
        Class::Float32 | Class::Float64 => Ok(map::<f64>(x, dtype, out, |x| x - x.trunc())),
        Class::Integer => Ok(map::<i64>(x, dtype, out, |_| 0)),
        _ => Err(no_kernel(call, dtype)),
    }
}

/// A complex number gives its absolute value, a real.
fn abs(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| match dtype {
        DType::C32 => DType::F16,
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        other => other,
    })?;
    Ok(match x.dtype().class() {
        Class::Float32 | Class::Float64 => map::<f64>(x, dtype, out, f64::abs),
        Class::Integer if dtype == DType::U64 => map::<i64>(x, dtype, out, |x| x),
        Class::Integer => map::<i64>(x, dtype, out, i64::wrapping_abs),
        Class::Boolean => map::<bool>(x, dtype, out, |x| x),
        Class::Complex => {
            Work::new(move || apply::<Complex, f64>(&x, x.dtype(), &out, dtype, &Complex::norm))
        }
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

fn neg(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => map::<f64>(x, dtype, out, |x| -x),
        Class::Integer => map::<i64>(x, dtype, out, i64::wrapping_neg),
        Class::Complex => map::<Complex>(x, dtype, out, |x| -x),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// -1, 0 or 1; NaN gives 0.
fn sign(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => map::<f64>(x, dtype, out, |x| {
            f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
        }),
        Class::Integer if dtype == DType::U64 => map::<i64>(x, dtype, out, |x| i64::from(x != 0)),
        Class::Integer => map::<i64>(x, dtype, out, i64::signum),
        Class::Boolean => map::<bool>(x, dtype, out, |x| x),
        _ => return Err(no_kernel(call, dtype)),
    })
}

fn square(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => map::<f64>(x, dtype, out, |x| x * x),
        Class::Integer => map::<i64>(x, dtype, out, |x| x.wrapping_mul(x)),
        Class::Complex => map::<Complex>(x, dtype, out, |x| x * x),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// Replaces NaN and the infinities; integers stay.
fn nan_to_num(call: &Call) -> Result<Work, Refusal> {
    let (nan, high, low) = (call.float(1)?, call.float(2)?, call.float(3)?);
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => map::<f64>(x, dtype, out, move |x| match x {
            _ if x.is_nan() => nan,
            f64::INFINITY => high,
            f64::NEG_INFINITY => low,
            _ => x,
        }),
        Class::Integer => map::<i64>(x, dtype, out, |x| x),
        Class::Boolean => map::<bool>(x, dtype, out, |x| x),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// A test of floats; `other` is the answer for all other numbers.
fn kind(call: &Call, test: fn(f64) -> bool, other: bool) -> Result<Work, Refusal> {
    let (x, truth, out) = pair(call, |_| DType::Bool)?;
    match x.dtype().class() {
        Class::Float32 | Class::Float64 => Ok(Work::new(move || {
            apply::<f64, bool>(&x, x.dtype(), &out, truth, &test)
        })),
        Class::Integer | Class::Boolean => Ok(Work::new(move || out.fill(other))),
        _ => Err(no_kernel(call, x.dtype())),
    }
}

fn sign_bit(call: &Call) -> Result<Work, Refusal> {
    let (x, truth, out) = pair(call, |_| DType::Bool)?;
    match x.dtype() {
        dtype if dtype.is_float() => Ok(Work::new(move || {
            apply::<f64, bool>(&x, x.dtype(), &out, truth, &f64::is_sign_negative)
        })),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Ok(Work::new(move || {
            apply::<i64, bool>(&x, x.dtype(), &out, truth, &i64::is_negative)
        })),
        dtype if dtype.is_complex() => Err(no_kernel(call, dtype)),
        _ => Ok(Work::new(move || out.fill(false))),
    }
}

fn logical_not(call: &Call) -> Result<Work, Refusal> {
    let (x, truth, out) = pair(call, |_| DType::Bool)?;
    Ok(Work::new(move || {
        apply::<bool, bool>(&x, truth, &out, truth, &|x| !x)
    }))
}

fn bitwise_not(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = pair(call, |dtype| dtype)?;
    match dtype.class() {
        Class::Integer => Ok(map::<i64>(x, dtype, out, |x| !x)),
        Class::Boolean => Ok(map::<bool>(x, dtype, out, |x| !x)),
        _ => Err(call.invalid(format!("self is {dtype}, wanted an integer or bool"))),
    }
}

fn real_part(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    call.expect_shape("out", &out, x.shape())?;
    Ok(Work::new(move || {
        apply::<Complex, f64>(&x, x.dtype(), &out, out.dtype(), &|z| z.re)
    }))
}

/// The argument of a number; that of a real is 0 or pi.
fn angle(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    call.expect_shape("out", &out, x.shape())?;
    let polar = |z: Complex| {
        if z.re.is_nan() {
            z.re
        } else {
            z.im.atan2(z.re)
        }
    };
    let dtype = x.dtype();
    Ok(Work::new(move || match dtype.is_complex() {
        true => apply::<Complex, f64>(&x, dtype, &out, out.dtype(), &polar),
        false => apply::<f64, f64>(&x, dtype, &out, out.dtype(), &|x| match x {
            _ if x.is_nan() => x,
            _ if x < 0.0 => PI,
            _ => 0.0,
        }),
    }))
}

fn complex(call: &Call) -> Result<Work, Refusal> {
    two_parts(call, Complex::new)
}

fn polar(call: &Call) -> Result<Work, Refusal> {
    two_parts(call, |norm, angle| {
        Complex::new(norm * angle.cos(), norm * angle.sin())
    })
}

/// A complex number from two reals, which broadcast.
fn two_parts(call: &Call, f: fn(f64, f64) -> Complex) -> Result<Work, Refusal> {
    let (a, b, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    super::element::expect_common_shape(call, &[a.shape(), b.shape()], &out)?;
    if !out.dtype().is_complex() {
        return Err(call.invalid(format!("out is {}, wanted a complex type", out.dtype())));
    }
    Ok(Work::new(move || {
        let (a, b) = (a.read::<f64>(), b.read::<f64>());
        let a = super::element::spread(&a, out.shape())?;
        let b = super::element::spread(&b, out.shape())?;
        let values = Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b));
        out.store(&values)
    }))
}
