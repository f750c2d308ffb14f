//! Ops over lists of tensors (`aclnnForeach...`): one formula per op, one driver for all.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use crate::dtype::Class;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Prepare, Scalar, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnForeachAbs", |call| {
        unary(call, f32::abs, Some(i64::wrapping_abs))
    }),
    ("aclnnForeachNeg", |call| {
        unary(call, |x| -x, Some(i64::wrapping_neg))
    }),
    ("aclnnForeachSign", |call| {
        unary(call, sign, Some(i64::signum))
    }),
    ("aclnnForeachCopy", |call| unary(call, |x| x, Some(|x| x))),
    ("aclnnForeachZeroInplace", |call| {
        unary(call, |_| 0.0, Some(|_| 0))
    }),
    ("aclnnForeachAcos", |call| unary(call, f32::acos, None)),
    ("aclnnForeachACosInplace", |call| {
        unary(call, f32::acos, None)
    }),
    ("aclnnForeachAsin", |call| unary(call, f32::asin, None)),
    ("aclnnForeachAtan", |call| unary(call, f32::atan, None)),
    ("aclnnForeachCos", |call| unary(call, f32::cos, None)),
    ("aclnnForeachCosh", |call| unary(call, f32::cosh, None)),
    ("aclnnForeachErf", |call| unary(call, libm::erff, None)),
    ("aclnnForeachErfc", |call| unary(call, libm::erfcf, None)),
    ("aclnnForeachExp", |call| unary(call, f32::exp, None)),
    ("aclnnForeachExpm1", |call| unary(call, f32::exp_m1, None)),
    ("aclnnForeachLog", |call| unary(call, f32::ln, None)),
    ("aclnnForeachLogInplace", |call| unary(call, f32::ln, None)),
    ("aclnnForeachLog10", |call| unary(call, f32::log10, None)),
    ("aclnnForeachLog1p", |call| unary(call, f32::ln_1p, None)),
    ("aclnnForeachLog2", |call| unary(call, f32::log2, None)),
    ("aclnnForeachReciprocal", |call| {
        unary(call, f32::recip, None)
    }),
    ("aclnnForeachSigmoid", |call| {
        unary(call, |x| 1.0 / (1.0 + (-x).exp()), None)
    }),
    ("aclnnForeachSin", |call| unary(call, f32::sin, None)),
    ("aclnnForeachSinh", |call| unary(call, f32::sinh, None)),
    ("aclnnForeachSqrt", |call| unary(call, f32::sqrt, None)),
    ("aclnnForeachTan", |call| unary(call, f32::tan, None)),
    ("aclnnForeachTanh", |call| unary(call, f32::tanh, None)),
    ("aclnnForeachRoundOffNumber", round_off),
    ("aclnnForeachRoundOffNumberV2", round_off),
    ("aclnnForeachAddList", add_lists),
    ("aclnnForeachAddListInplace", add_lists),
    ("aclnnForeachAddListV2", add_lists),
    ("aclnnForeachSubList", subtract_lists),
    ("aclnnForeachSubListInplace", subtract_lists),
    ("aclnnForeachSubListV2", subtract_lists),
    ("aclnnForeachMulList", multiply_lists),
    ("aclnnForeachMulListInplace", multiply_lists),
    ("aclnnForeachDivList", |call| {
        pairs(call, None, |[a, b], _| a / b, None)
    }),
    ("aclnnForeachDivListInplace", |call| {
        pairs(call, None, |[a, b], _| a / b, None)
    }),
    ("aclnnForeachPowList", |call| {
        pairs(call, None, |[a, b], _| a.powf(b), None)
    }),
    ("aclnnForeachMaximumList", |call| {
        pairs(
            call,
            None,
            |[a, b], _| larger(a, b),
            Some(|[a, b], _| a.max(b)),
        )
    }),
    ("aclnnForeachMinimumList", |call| {
        pairs(
            call,
            None,
            |[a, b], _| smaller(a, b),
            Some(|[a, b], _| a.min(b)),
        )
    }),
    ("aclnnForeachAddScalar", add_scalar),
    ("aclnnForeachAddScalarV2", add_scalar),
    ("aclnnForeachAddScalarList", add_scalar),
    ("aclnnForeachSubScalar", subtract_scalar),
    ("aclnnForeachSubScalarInplace", subtract_scalar),
    ("aclnnForeachSubScalarV2", subtract_scalar),
    ("aclnnForeachSubScalarList", subtract_scalar),
    ("aclnnForeachMulScalar", multiply_scalar),
    ("aclnnForeachMulScalarInplace", multiply_scalar),
    ("aclnnForeachMulScalarV2", multiply_scalar),
    ("aclnnForeachMulScalarList", multiply_scalar),
    ("aclnnForeachDivScalar", |call| {
        with_scalar(call, |x, s| x / s, None)
    }),
    ("aclnnForeachDivScalarV2", |call| {
        with_scalar(call, |x, s| x / s, None)
    }),
    ("aclnnForeachDivScalarList", |call| {
        with_scalar(call, |x, s| x / s, None)
    }),
    ("aclnnForeachPowScalar", |call| {
        with_scalar(call, f32::powf, None)
    }),
    ("aclnnForeachPowScalarV2", |call| {
        with_scalar(call, f32::powf, None)
    }),
    ("aclnnForeachPowScalarList", |call| {
        with_scalar(call, f32::powf, None)
    }),
    ("aclnnForeachMaximumScalar", |call| {
        with_scalar(call, larger, Some(i64::max))
    }),
    ("aclnnForeachMaximumScalarV2", |call| {
        with_scalar(call, larger, Some(i64::max))
    }),
    ("aclnnForeachMaximumScalarList", |call| {
        with_scalar(call, larger, Some(i64::max))
    }),
    ("aclnnForeachMinimumScalar", |call| {
        with_scalar(call, smaller, Some(i64::min))
    }),
    ("aclnnForeachMinimumScalarV2", |call| {
        with_scalar(call, smaller, Some(i64::min))
    }),
    ("aclnnForeachMinimumScalarList", |call| {
        with_scalar(call, smaller, Some(i64::min))
    }),
    ("aclnnForeachPowScalarAndTensor", power_of_scalar),
    ("aclnnForeachAddcmulList", add_products),
    ("aclnnForeachAddcmulScalar", add_products),
    ("aclnnForeachAddcmulScalarList", add_products),
    ("aclnnForeachAddcmulScalarV2", add_products),
    ("aclnnForeachAddcdivList", add_quotients),
    ("aclnnForeachAddcdivScalar", add_quotients),
    ("aclnnForeachAddcdivScalarList", add_quotients),
    ("aclnnForeachAddcdivScalarV2", add_quotients),
    ("aclnnForeachLerpList", lerp_lists),
    ("aclnnForeachLerpScalar", |call| {
        pairs(call, Some(2), |[a, b], w| lerp(a, b, w), None)
    }),
    ("aclnnForeachNorm", norm),
    ("aclnnForeachNonFiniteCheckAndUnscale", unscale),
];

/// A formula of a row of operands and a number, in f32.
type Floats<const N: usize> = fn([f32; N], f32) -> f32;
/// The same in integers, which wrap.
type Integers<const N: usize> = fn([i64; N], i64) -> i64;

/// The numbers of a call, one for all tensors or one for each.
#[derive(Debug, Clone)]
enum Numbers {
    Device(Tensor),
    Host(Vec<Scalar>),
    None,
}

impl Numbers {
    fn of(call: &Call, index: usize) -> Result<Numbers, Refusal> {
        Ok(match call.arg(index) {
            Some(Arg::Tensor(_)) => Numbers::Device(call.tensor(index)?),
            Some(Arg::Scalars(_)) => Numbers::Host(call.scalars(index)?.to_vec()),
            _ => Numbers::Host(vec![call.scalar(index)?]),
        })
    }

    fn count(&self) -> usize {
        match self {
            Numbers::Device(tensor) => tensor.count(),
            Numbers::Host(list) => list.len(),
            Numbers::None => 1,
        }
    }

    fn floats(&self) -> Vec<f32> {
        match self {
            Numbers::Device(tensor) => tensor.load_vec(),
            Numbers::Host(list) => list.iter().map(Scalar::f32).collect(),
            Numbers::None => Vec::new(),
        }
    }

    fn integers(&self) -> Vec<i64> {
        match self {
            Numbers::Device(tensor) => tensor.load_vec(),
            Numbers::Host(list) => list.iter().map(Scalar::i64).collect(),
            Numbers::None => Vec::new(),
        }
    }
}

/// The number of tensor `index`: its own, or the only one.
fn pick<T: Copy + Default>(numbers: &[T], index: usize) -> T {
    numbers
        .get(index)
        .or(numbers.first())
        .copied()
        .unwrap_or_default()
}

fn in_place(call: &Call) -> bool {
    call.name().ends_with("Inplace")
}

/// The driver: lists at the given parameters, the outputs last (or the first list, in place).
fn each<const N: usize>(
    call: &Call,
    lists: [usize; N],
    numbers: Numbers,
    floats: Floats<N>,
    integers: Option<Integers<N>>,
) -> Result<Work, Refusal> {
    let inputs = lists
        .iter()
        .map(|&index| call.tensors(index))
        .collect::<Result<Vec<_>, _>>()?;
    let out = if in_place(call) {
        inputs.first().cloned().unwrap_or_default()
    } else {
        call.tensors(call.count().saturating_sub(1))?
    };
    let many = numbers.count();
    if many != 1 && many != out.len() {
        return Err(call.invalid(format!("{many} scalars for {} tensors", out.len())));
    }
    for list in &inputs {
        if list.len() != out.len() {
            return Err(call.invalid(format!("lists of {} and {} tensors", list.len(), out.len())));
        }
        for (tensor, target) in list.iter().zip(&out) {
            call.expect_shape("a tensor", tensor, target.shape())?;
            call.expect_dtype("a tensor", tensor, &[target.dtype()])?;
        }
    }
    let whole = out
        .iter()
        .any(|tensor| tensor.dtype().class() == Class::Integer);
    if whole && integers.is_none() {
        return Err(call.unsupported("no kernel for integers"));
    }
    Ok(Work::new(move || {
        let (numbers_f, numbers_i) = (numbers.floats(), numbers.integers());
        for (index, target) in out.iter().enumerate() {
            let operands = inputs.iter().map(|list| &list[index]);
            match integers.filter(|_| target.dtype().class() == Class::Integer) {
                Some(f) => {
                    let columns: Vec<Vec<i64>> = operands.map(Tensor::load_vec).collect();
                    target.store_slice(&rows(&columns, target.count(), |row| {
                        f(row, pick(&numbers_i, index))
                    }))?;
                }
                None => {
                    let columns: Vec<Vec<f32>> = operands.map(Tensor::load_vec).collect();
                    target.store_slice(&rows(&columns, target.count(), |row| {
                        floats(row, pick(&numbers_f, index))
                    }))?;
                }
            }
        }
        Ok(())
    }))
}

/// f of each row of the columns.
fn rows<T: Copy + Default, const N: usize>(
    columns: &[Vec<T>],
    count: usize,
    f: impl Fn([T; N]) -> T,
) -> Vec<T> {
    (0..count)
        .map(|at| {
            let mut row = [T::default(); N];
            for (value, column) in row.iter_mut().zip(columns) {
                *value = column[at];
            }
            f(row)
        })
        .collect()
}

fn sign(x: f32) -> f32 {
    if x == 0.0 || x.is_nan() {
        x
    } else {
        x.signum()
    }
}

fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

fn smaller(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}

fn unary(
    call: &Call,
    floats: fn(f32) -> f32,
    integers: Option<fn(i64) -> i64>,
) -> Result<Work, Refusal> {
    let inputs = call.tensors(0)?;
    let out = if in_place(call) {
        inputs.clone()
    } else {
        call.tensors(1)?
    };
    if inputs.len() != out.len() {
        return Err(call.invalid(format!(
            "lists of {} and {} tensors",
            inputs.len(),
            out.len()
        )));
    }
    for (tensor, target) in inputs.iter().zip(&out) {
        call.expect_shape("a tensor", tensor, target.shape())?;
        if tensor.dtype().class() == Class::Integer && integers.is_none() {
            return Err(call.unsupported(format!("no kernel for {}", tensor.dtype())));
        }
    }
    Ok(Work::new(move || {
        for (tensor, target) in inputs.iter().zip(&out) {
            match integers.filter(|_| tensor.dtype().class() == Class::Integer) {
                Some(f) => {
                    let values: Vec<i64> = tensor.load_vec().into_iter().map(f).collect();
                    target.store_slice(&values)?;
                }
                None => {
                    let values: Vec<f32> = tensor.load_vec().into_iter().map(floats).collect();
                    target.store_slice(&values)?;
                }
            }
        }
        Ok(())
    }))
}

/// Two lists, and perhaps a number.
fn pairs(
    call: &Call,
    number: Option<usize>,
    floats: Floats<2>,
    integers: Option<Integers<2>>,
) -> Result<Work, Refusal> {
    let numbers = match number {
        Some(index) => Numbers::of(call, index)?,
        None => Numbers::None,
    };
    each(call, [0, 1], numbers, floats, integers)
}

fn add_lists(call: &Call) -> Result<Work, Refusal> {
    let integers: Integers<2> = |[a, b], s| a.wrapping_add(b.wrapping_mul(s));
    pairs(call, Some(2), |[a, b], s| a + s * b, Some(integers))
}

fn subtract_lists(call: &Call) -> Result<Work, Refusal> {
    let integers: Integers<2> = |[a, b], s| a.wrapping_sub(b.wrapping_mul(s));
    pairs(call, Some(2), |[a, b], s| a - s * b, Some(integers))
}

fn multiply_lists(call: &Call) -> Result<Work, Refusal> {
    pairs(
        call,
        None,
        |[a, b], _| a * b,
        Some(|[a, b], _| a.wrapping_mul(b)),
    )
}

/// One list and a number, or one number for each tensor.
fn with_scalar(
    call: &Call,
    floats: fn(f32, f32) -> f32,
    integers: Option<fn(i64, i64) -> i64>,
) -> Result<Work, Refusal> {
    let numbers = Numbers::of(call, 1)?;
    let inputs = call.tensors(0)?;
    let out = if in_place(call) {
        inputs.clone()
    } else {
        call.tensors(2)?
    };
    if inputs.len() != out.len() || (numbers.count() != 1 && numbers.count() != out.len()) {
        return Err(call.invalid(format!(
            "{} tensors, {} outputs, {} scalars",
            inputs.len(),
            out.len(),
            numbers.count()
        )));
    }
    for (tensor, target) in inputs.iter().zip(&out) {
        call.expect_shape("a tensor", tensor, target.shape())?;
        call.expect_dtype("a tensor", tensor, &[target.dtype()])?;
        if tensor.dtype().class() == Class::Integer && integers.is_none() {
            return Err(call.unsupported(format!("no kernel for {}", tensor.dtype())));
        }
    }
    Ok(Work::new(move || {
        let (numbers_f, numbers_i) = (numbers.floats(), numbers.integers());
        for (index, (tensor, target)) in inputs.iter().zip(&out).enumerate() {
            match integers.filter(|_| tensor.dtype().class() == Class::Integer) {
                Some(f) => {
                    let number = pick(&numbers_i, index);
                    let values = tensor.load_vec::<i64>();
                    let values: Vec<i64> = values.into_iter().map(|x| f(x, number)).collect();
                    target.store_slice(&values)?;
                }
                None => {
                    let number = pick(&numbers_f, index);
                    let values = tensor.load_vec::<f32>();
                    let values: Vec<f32> = values.into_iter().map(|x| floats(x, number)).collect();
                    target.store_slice(&values)?;
                }
            }
        }
        Ok(())
    }))
}

fn add_scalar(call: &Call) -> Result<Work, Refusal> {
    with_scalar(call, |x, s| x + s, Some(i64::wrapping_add))
}

fn subtract_scalar(call: &Call) -> Result<Work, Refusal> {
    with_scalar(call, |x, s| x - s, Some(i64::wrapping_sub))
}

fn multiply_scalar(call: &Call) -> Result<Work, Refusal> {
    with_scalar(call, |x, s| x * s, Some(i64::wrapping_mul))
}

/// `out = scalar ^ x`.
fn power_of_scalar(call: &Call) -> Result<Work, Refusal> {
    let numbers = Numbers::of(call, 0)?;
    each(call, [1], numbers, |[x], s| s.powf(x), None)
}

/// `out = x1 + s x2 x3`.
fn add_products(call: &Call) -> Result<Work, Refusal> {
    let numbers = Numbers::of(call, 3)?;
    let integers: Integers<3> = |[a, b, c], s| a.wrapping_add(s.wrapping_mul(b.wrapping_mul(c)));
    each(
        call,
        [0, 1, 2],
        numbers,
        |[a, b, c], s| a + s * b * c,
        Some(integers),
    )
}

/// `out = x1 + s x2 / x3`.
fn add_quotients(call: &Call) -> Result<Work, Refusal> {
    let numbers = Numbers::of(call, 3)?;
    each(call, [0, 1, 2], numbers, |[a, b, c], s| a + s * b / c, None)
}

/// a + w (b − a), from the nearer end.
fn lerp(a: f32, b: f32, w: f32) -> f32 {
    if w.abs() < 0.5 {
        a + w * (b - a)
    } else {
        b - (b - a) * (1.0 - w)
    }
}

fn lerp_lists(call: &Call) -> Result<Work, Refusal> {
    each(
        call,
        [0, 1, 2],
        Numbers::None,
        |[a, b, w], _| lerp(a, b, w),
        None,
    )
}

/// (Σ |x|^p)^(1/p) of each tensor; the largest magnitude for p = ∞.
fn norm(call: &Call) -> Result<Work, Refusal> {
    let (inputs, p, out) = (call.tensors(0)?, call.scalar(1)?.f64(), call.tensors(2)?);
    if inputs.len() != out.len() || out.iter().any(|tensor| tensor.count() != 1) {
        return Err(call.invalid("wanted an output of one element for each tensor"));
    }
    if p.is_nan() || p <= 0.0 {
        return Err(call.invalid(format!("the order is {p}, wanted more than 0")));
    }
    Ok(Work::new(move || {
        inputs.iter().zip(&out).try_for_each(|(tensor, target)| {
            let values = tensor.load_vec::<f32>();
            let magnitudes = values.iter().map(|x| f64::from(x.abs()));
            let norm = if p == f64::INFINITY {
                magnitudes.fold(0.0, |a: f64, b| if a.is_nan() || a > b { a } else { b })
            } else {
                magnitudes.map(|x| x.powf(p)).sum::<f64>().powf(1.0 / p)
            };
            target.store_slice(&[norm])
        })
    }))
}

/// Multiplies the gradients by `invScale` and sets `foundInf` to 1 where one of them is not finite; it is never cleared.
fn unscale(call: &Call) -> Result<Work, Refusal> {
    let (grads, found, scale) = (call.tensors(0)?, call.tensor(1)?, call.tensor(2)?);
    for (what, tensor) in [("foundInf", &found), ("invScale", &scale)] {
        if tensor.count() != 1 {
            return Err(call.invalid(format!("{what} has shape {:?}, wanted [1]", tensor.shape())));
        }
    }
    Ok(Work::new(move || {
        let factor = scale.load_one::<f32>();
        let mut finite = true;
        for grad in &grads {
            let mut values = grad.load_vec::<f32>();
            for value in &mut values {
                finite &= value.is_finite();
                *value *= factor;
            }
            grad.store_slice(&values)?;
        }
        if finite {
            Ok::<(), Fault>(())
        } else {
            found.fill(1f32)
        }
    }))
}

/// Rounding by a mode: to the nearest (ties to even, or away from 0), down, up, towards 0. Integers stay. The first form reads its
/// mode from a tensor when it runs.
fn round_off(call: &Call) -> Result<Work, Refusal> {
    let (inputs, out) = (call.tensors(0)?, call.tensors(2)?);
    if inputs.len() != out.len() {
        return Err(call.invalid(format!(
            "lists of {} and {} tensors",
            inputs.len(),
            out.len()
        )));
    }
    for (tensor, target) in inputs.iter().zip(&out) {
        call.expect_shape("a tensor", tensor, target.shape())?;
    }
    let (fixed, read) = match call.arg(1) {
        Some(Arg::Scalar(Some(mode))) => (Some(mode.i64()), None),
        _ => (None, Some(call.tensor(1)?)),
    };
    let mut pairs = inputs.iter().zip(&out);
    let same = pairs.all(|(tensor, target)| tensor.dtype() == target.dtype());
    let op = call.name();
    Ok(Work::new(move || {
        let mode = fixed.or_else(|| read.as_ref().map(|mode| mode.load_one::<i64>()));
        let round: fn(f32) -> f32 = match mode {
            Some(1) => f32::round_ties_even,
            Some(2) => f32::floor,
            Some(3) => f32::ceil,
            Some(4) => f32::round,
            Some(5) => f32::trunc,
            // Other modes round only where the result has a type that cannot hold the number.
            Some(mode) if mode != 6 && same => |x| x,
            other => {
                return Err(Fault::exception(format!(
                    "{op}: roundMode is {other:?}, the emulator does not have 6"
                )));
            }
        };
        for (tensor, target) in inputs.iter().zip(&out) {
            match tensor.dtype().class() == Class::Integer {
                true => target.store_slice(&tensor.load_vec::<i64>())?,
                false => {
                    let values: Vec<f32> =
                        tensor.load_vec::<f32>().into_iter().map(round).collect();
                    target.store_slice(&values)?;
                }
            }
        }
        Ok(())
    }))
}
