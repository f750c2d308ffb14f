//! Creation: zeros, ones, fills, arithmetic sequences and the identity matrix.
//!
//! Knows how each sequence is counted; it must not know memory.

use super::common::{by_class, size_of};
use super::element::{Through, fetch, no_kernel};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Scalar, Work};
use crate::number::Number;
use crate::tensor::Tensor;
use ndarray::Array2;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnInplaceZero", zero as Prepare),
    ("aclnnInplaceOne", one),
    ("aclnnInplaceFillScalar", fill_scalar),
    ("aclnnInplaceFillTensor", fill_tensor),
    ("aclnnInplaceFillDiagonal", fill_diagonal),
    ("aclnnArange", arange),
    ("aclnnRange", range),
    ("aclnnLinspace", linspace),
    ("aclnnLogSpace", log_space),
    ("aclnnEye", eye),
];

fn zero(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    Ok(Work::new(move || x.fill(0u8)))
}

fn one(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    Ok(Work::new(move || x.fill(1u8)))
}

/// The scalar is cast to the tensor's dtype.
fn fill_scalar(call: &Call) -> Result<Work, Refusal> {
    let (x, value) = (call.tensor(0)?, call.scalar(1)?);
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => {
        let number = converted::<T>(&value, &x);
        Ok(Work::new(move || x.fill(number)))
    }, Err(refused))
}

/// A float scalar becomes an integer by truncation, and any number a truth value by comparing with zero.
fn converted<T: Number>(value: &Scalar, x: &Tensor) -> T {
    value.rounded_to::<T>(x.dtype())
}

/// The value is a tensor of one element.
fn fill_tensor(call: &Call) -> Result<Work, Refusal> {
    let (x, value) = (call.tensor(0)?, call.tensor(1)?);
    if value.count() != 1 || value.rank() > 1 {
        return Err(call.invalid(format!(
            "value has shape {:?}, wanted one element",
            value.shape()
        )));
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || fill_from::<T>(&x, &value))), Err(refused))
}

fn fill_from<T: Through>(x: &Tensor, value: &Tensor) -> Result<(), Fault> {
    let first = fetch::<T>(value, x.dtype()).iter().next().copied();
    match first {
        Some(first) => x.fill(first),
        None => Ok(()),
    }
}

/// Writes the main diagonal; with `wrap`, a tall matrix starts it again below each square.
fn fill_diagonal(call: &Call) -> Result<Work, Refusal> {
    let (x, value, wrap) = (call.tensor(0)?, call.scalar(1)?, call.bool(2)?);
    let shape = x.shape();
    if shape.len() < 2 {
        return Err(call.invalid(format!("self has shape {shape:?}, wanted at least 2 dims")));
    }
    if shape.len() > 2 && shape.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(call.invalid(format!("self has shape {shape:?}, wanted equal dims")));
    }
    let columns = shape.last().copied().unwrap_or(1);
    let step: usize = (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product::<usize>())
        .sum();
    let limit = if shape.len() == 2 && !wrap {
        columns.saturating_mul(columns).min(x.count())
    } else {
        x.count()
    };
    let step = if shape.len() == 2 { columns + 1 } else { step };
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => {
        let number = converted::<T>(&value, &x);
        Ok(Work::new(move || {
            let mut values = x.load_vec::<T>();
            values.iter_mut().take(limit).step_by(step).for_each(|slot| *slot = number);
            x.store_slice(&values)
        }))
    }, Err(refused))
}

/// `start, start + step, ...` while before `end`.
fn arange(call: &Call) -> Result<Work, Refusal> {
    sequence(call, |distance, step| (distance / step).ceil())
}

/// `start, start + step, ...` up to and including `end`.
fn range(call: &Call) -> Result<Work, Refusal> {
    sequence(call, |distance, step| (distance / step).floor() + 1.0)
}

fn sequence(call: &Call, length: fn(f64, f64) -> f64) -> Result<Work, Refusal> {
    let (start, end, step) = (call.scalar(0)?, call.scalar(1)?, call.scalar(2)?);
    let out = call.tensor(3)?;
    // Whole numbers are asked for: the bounds are cut to such first, as PyTorch's client relies on.
    let whole = !out.dtype().is_float()
        || [start, end, step]
            .iter()
            .all(|scalar| !scalar.dtype().is_float());
    let value = |scalar: crate::kernel::Scalar| match whole {
        true => scalar.i64() as f64,
        false => scalar.f64(),
    };
    let (first, last, stride) = (value(start), value(end), value(step));
    if stride == 0.0 || (last - first) * stride.signum() < 0.0 {
        return Err(call.invalid(format!(
            "step {stride} does not lead from {first} to {last}"
        )));
    }
    // The kernel fills whatever output it is given, of any rank (ggml's backend passes four dims). Clients count from the bounds
    // as they are or as they are cut: either is right.
    let counts = [
        length(last - first, stride),
        length(end.f64() - start.f64(), step.f64()),
    ];
    if !counts.contains(&(out.count() as f64)) {
        return Err(call.invalid(format!(
            "out has shape {:?}, wanted {} elements",
            out.shape(),
            counts[0]
        )));
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    if whole {
        let (first, stride) = (start.i64(), step.i64());
        return Ok(Work::new(move || {
            let values: Vec<i64> = (0..out.count() as i64)
                .map(|index| first.wrapping_add(stride.wrapping_mul(index)))
                .collect();
            out.store_slice(&values)
        }));
    }
    Ok(Work::new(move || {
        let values: Vec<f64> = (0..out.count())
            .map(|index| first + stride * index as f64)
            .collect();
        out.store_slice(&values)
    }))
}

/// `steps` evenly spaced values, both ends included.
fn linspace(call: &Call) -> Result<Work, Refusal> {
    let out = call.tensor(3)?;
    spaced(call, out, |value| value)
}

/// `base` to the power of evenly spaced values.
fn log_space(call: &Call) -> Result<Work, Refusal> {
    let (base, out) = (call.float(3)?, call.tensor(4)?);
    spaced(call, out, move |value| base.powf(value))
}

/// Counted from both ends, so that the last value is exact.
fn spaced(
    call: &Call,
    out: Tensor,
    f: impl Fn(f64) -> f64 + Send + 'static,
) -> Result<Work, Refusal> {
    let (first, last) = (call.scalar(0)?.f64(), call.scalar(1)?.f64());
    let steps = size_of(call, "steps", call.int(2)?, 0)?;
    call.expect_shape("out", &out, &[steps])?;
    Ok(Work::new(move || {
        let stride = (last - first) / (steps.max(2) - 1) as f64;
        let values: Vec<f64> = (0..steps)
            .map(|index| {
                f(if steps == 1 || index < steps.div_ceil(2) {
                    first + stride * index as f64
                } else {
                    last - stride * (steps - 1 - index) as f64
                })
            })
            .collect();
        out.store_slice(&values)
    }))
}

/// Ones on the main diagonal of an n x m matrix.
fn eye(call: &Call) -> Result<Work, Refusal> {
    let rows = size_of(call, "n", call.int(0)?, 0)?;
    let columns = size_of(call, "m", call.int(1)?, 0)?;
    let out = call.tensor(2)?;
    call.expect_shape("out", &out, &[rows, columns])?;
    Ok(Work::new(move || {
        let values = Array2::from_shape_fn((rows, columns), |(row, column)| row == column);
        out.store(&values)
    }))
}
