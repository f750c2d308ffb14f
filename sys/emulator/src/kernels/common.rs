//! What several families share: real arithmetic in one of two widths, shapes split at an axis, index checks, reduction codes.
//!
//! Knows numbers, shapes and the kernel interface; it must not know single ops.

use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::Call;
use crate::number::{Complex, Number};
use crate::tensor::Tensor;
use half::{bf16, f16};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// The two widths in which real functions are computed.
pub(crate) trait Real:
    Number
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// 0.
    const ZERO: Self;
    /// Minus infinity.
    const LOWEST: Self;
    /// e to the power of this.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
}

macro_rules! real {
    ($($kind:ty),*) => {$(
        impl Real for $kind {
            const ZERO: Self = 0.0;
            const LOWEST: Self = <$kind>::NEG_INFINITY;
            fn exp(self) -> Self { <$kind>::exp(self) }
            fn ln(self) -> Self { <$kind>::ln(self) }
        }
    )*};
}

real!(f32, f64);

/// Runs `$body` with `$number` naming the type in which a dtype is computed.
macro_rules! by_class {
    ($dtype:expr, $number:ident => $body:expr, $otherwise:expr) => {
        match $dtype.class() {
            $crate::dtype::Class::Float32 => {
                type $number = f32;
                $body
            }
            $crate::dtype::Class::Float64 => {
                type $number = f64;
                $body
            }
            $crate::dtype::Class::Integer => {
                type $number = i64;
                $body
            }
            $crate::dtype::Class::Boolean => {
                type $number = bool;
                $body
            }
            $crate::dtype::Class::Complex => {
                type $number = $crate::number::Complex;
                $body
            }
            $crate::dtype::Class::Other => $otherwise,
        }
    };
}

pub(crate) use by_class;

/// Number of elements of a shape.
pub(crate) fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A shape seen from one axis: `outer` blocks of `length` rows of `inner` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lanes {
    /// Product of the dims before the axis.
    pub outer: usize,
    /// The axis.
    pub length: usize,
    /// Product of the dims after the axis.
    pub inner: usize,
}

impl Lanes {
    /// Splits `shape` at `axis`; a scalar is one lane of one element.
    pub fn new(shape: &[usize], axis: usize) -> Lanes {
        match shape.get(axis) {
            Some(&length) => Lanes {
                outer: volume(&shape[..axis]),
                length,
                inner: volume(&shape[axis + 1..]),
            },
            None => Lanes {
                outer: 1,
                length: 1,
                inner: 1,
            },
        }
    }

    /// The first position of each lane; its elements follow in steps of `inner`.
    pub fn starts(self) -> impl Iterator<Item = usize> {
        let block = self.length * self.inner;
        (0..self.outer)
            .flat_map(move |outer| (0..self.inner).map(move |inner| outer * block + inner))
    }
}

/// How a loss is reduced, as the C interface numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// Element by element.
    None,
    /// Mean.
    Mean,
    /// Sum.
    Sum,
}

impl Reduction {
    /// From the code of parameter `index`.
    pub fn of(call: &Call, index: usize) -> Result<Reduction, Refusal> {
        match call.int(index)? {
            0 => Ok(Reduction::None),
            1 => Ok(Reduction::Mean),
            2 => Ok(Reduction::Sum),
            other => Err(call.invalid(format!("reduction is {other}, wanted 0, 1 or 2"))),
        }
    }

    /// From the text of parameter `index`; null means the mean.
    pub fn of_text(call: &Call, index: usize) -> Result<Reduction, Refusal> {
        match call.text(index).unwrap_or("mean") {
            "none" => Ok(Reduction::None),
            "mean" => Ok(Reduction::Mean),
            "sum" => Ok(Reduction::Sum),
            other => Err(call.invalid(format!("reduction is {other:?}, wanted none, mean or sum"))),
        }
    }
}

/// An index of a table of `limit` rows; anything else faults on the device.
pub(crate) fn checked_index(op: &str, index: i64, limit: usize) -> Result<usize, Fault> {
    usize::try_from(index)
        .ok()
        .filter(|&index| index < limit)
        .ok_or_else(|| out_of_range(op, index, limit))
}

/// As [`checked_index`], with negative indices counted from the end.
pub(crate) fn wrapped_index(op: &str, index: i64, limit: usize) -> Result<usize, Fault> {
    let from_start = if index < 0 {
        index.saturating_add(limit as i64)
    } else {
        index
    };
    usize::try_from(from_start)
        .ok()
        .filter(|&index| index < limit)
        .ok_or_else(|| out_of_range(op, index, limit))
}

fn out_of_range(op: &str, index: i64, limit: usize) -> Fault {
    Fault::exception(format!("{op}: index {index} is outside a dim of {limit}"))
}

/// Refuses two tensors of different dtypes.
pub(crate) fn same_dtype(
    call: &Call,
    what: &str,
    tensor: &Tensor,
    like: &Tensor,
) -> Result<(), Refusal> {
    call.expect_dtype(what, tensor, &[like.dtype()])
}

/// An integer that must be at least `lowest`, as a size.
pub(crate) fn size_of(
    call: &Call,
    what: &str,
    value: i64,
    lowest: usize,
) -> Result<usize, Refusal> {
    usize::try_from(value)
        .ok()
        .filter(|&size| size >= lowest)
        .ok_or_else(|| call.invalid(format!("{what} is {value}, wanted at least {lowest}")))
}

/// Positions of a broadcast operand: for each element of `shape` in row-major order, where it lies in a contiguous array of
/// shape `from`. The caller has checked that `from` broadcasts to `shape`.
pub(crate) fn broadcast_positions(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let lead = shape.len().saturating_sub(from.len());
    let mut positions = vec![0usize];
    let mut step = volume(from);
    for (axis, &dim) in shape.iter().enumerate() {
        let own = if axis < lead { 1 } else { from[axis - lead] };
        step = step.checked_div(own).unwrap_or(0);
        let stride = if axis < lead || own == 1 { 0 } else { step };
        positions = positions
            .iter()
            .flat_map(|&start| (0..dim).map(move |index| start + index * stride))
            .collect();
    }
    positions
}

/// A tensor's values broadcast to `shape`, in row-major order.
pub(crate) fn load_broadcast<T: Number>(tensor: &Tensor, shape: &[usize]) -> Vec<T> {
    let values = tensor.load_vec::<T>();
    if tensor.shape() == shape {
        return values;
    }
    broadcast_positions(tensor.shape(), shape)
        .into_iter()
        .map(|position| values[position])
        .collect()
}

/// Refuses a tensor that does not broadcast to `shape`.
pub(crate) fn expect_broadcast(
    call: &Call,
    what: &str,
    tensor: &Tensor,
    shape: &[usize],
) -> Result<(), Refusal> {
    let fits = tensor.rank() <= shape.len()
        && tensor
            .shape()
            .iter()
            .rev()
            .zip(shape.iter().rev())
            .all(|(&dim, &target)| dim == 1 || dim == target);
    if fits {
        return Ok(());
    }
    Err(call.invalid(format!(
        "{what} has shape {:?}, which does not broadcast to {shape:?}",
        tensor.shape()
    )))
}

/// Sums and products in every type that kernels compute with: integers wrap, bools are "or" and "and".
pub(crate) trait Arithmetic: Number + PartialEq {
    /// The neutral element of the sum.
    const NOTHING: Self;
    /// The neutral element of the product.
    const UNIT: Self;
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The product.
    fn times(self, other: Self) -> Self;
}

macro_rules! arithmetic {
    ($($kind:ty, $zero:expr, $one:expr, |$a:ident, $b:ident| $plus:expr, $times:expr;)*) => {$(
        impl Arithmetic for $kind {
            const NOTHING: Self = $zero;
            const UNIT: Self = $one;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { let ($a, $b) = (self, other); $plus }
            #[inline(always)]
            fn times(self, other: Self) -> Self { let ($a, $b) = (self, other); $times }
        }
    )*};
}

arithmetic! {
    f32, 0.0, 1.0, |a, b| a + b, a * b;
    f64, 0.0, 1.0, |a, b| a + b, a * b;
    i64, 0, 1, |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    bool, false, true, |a, b| a || b, a && b;
    Complex, Complex { re: 0.0, im: 0.0 }, Complex { re: 1.0, im: 0.0 }, |a, b| a + b, a * b;
}

/// The values that a tensor of `dtype` would hold.
pub(crate) fn rounded_to(mut values: Vec<f32>, dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F16 => values
            .iter_mut()
            .for_each(|value| *value = f16::from_f32(*value).to_f32()),
        DType::Bf16 => values
            .iter_mut()
            .for_each(|value| *value = bf16::from_f32(*value).to_f32()),
        _ => {}
    }
    values
}

/// All sums of one entry of each list, the last list running fastest: positions in row-major order.
pub(crate) fn cartesian(parts: &[Vec<usize>]) -> Vec<usize> {
    let mut positions = vec![0usize];
    for part in parts {
        positions = positions
            .iter()
            .flat_map(|&start| part.iter().map(move |&step| start + step))
            .collect();
    }
    positions
}

/// Positions of a view of `shape` with `strides`, in row-major order.
pub(crate) fn strided_positions(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let parts: Vec<Vec<usize>> = shape
        .iter()
        .zip(strides)
        .map(|(&dim, &stride)| (0..dim).map(|index| index * stride).collect())
        .collect();
    cartesian(&parts)
}
