//! Running sums and products along one dim.
//!
//! Knows lanes; it must not know strides or memory.

use super::common::Lanes;
use super::element::{Through, fetch, no_kernel};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnCumsum", cumsum as Prepare),
    ("aclnnCumsumV2", cumsum_v2),
    ("aclnnCumprod", cumprod),
    ("aclnnInplaceCumprod", cumprod),
];

/// Which elements each result covers.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// The element itself is left out.
    exclusive: bool,
    /// From the end.
    reverse: bool,
}

const PLAIN: Order = Order {
    exclusive: false,
    reverse: false,
};

fn scan<T: Through>(
    x: &Tensor,
    dtype: DType,
    out: &Tensor,
    lanes: Lanes,
    order: Order,
    start: T,
    f: impl Fn(T, T) -> T,
) -> Result<(), Fault> {
    let mut values: Vec<T> = fetch::<T>(x, dtype).iter().copied().collect();
    for lane in lanes.starts() {
        let mut total = start;
        for step in 0..lanes.length {
            let index = if order.reverse {
                lanes.length - 1 - step
            } else {
                step
            };
            if let Some(slot) = values.get_mut(lane + index * lanes.inner) {
                let next = f(total, *slot);
                *slot = if order.exclusive { total } else { next };
                total = next;
            }
        }
    }
    out.store_slice(&values)
}

fn check(call: &Call, x: &Tensor, dim: i64, dtype: DType, out: &Tensor) -> Result<Lanes, Refusal> {
    call.expect_shape("out", out, x.shape())?;
    call.expect_dtype("out", out, &[dtype])?;
    Ok(Lanes::new(x.shape(), call.axis(dim, x.rank())?))
}

fn sums(
    call: &Call,
    x: Tensor,
    dtype: DType,
    out: Tensor,
    lanes: Lanes,
    order: Order,
) -> Result<Work, Refusal> {
    match dtype.class() {
        Class::Float32 | Class::Float64 => Ok(Work::new(move || {
            scan::<f64>(&x, dtype, &out, lanes, order, 0.0, |sum, value| sum + value)
        })),
        Class::Integer => Ok(Work::new(move || {
            scan::<i64>(&x, dtype, &out, lanes, order, 0, i64::wrapping_add)
        })),
        Class::Complex => Ok(Work::new(move || {
            let zero = Complex::default();
            scan::<Complex>(&x, dtype, &out, lanes, order, zero, |sum, value| {
                sum + value
            })
        })),
        _ => Err(no_kernel(call, dtype)),
    }
}

/// The input is cast to the dtype parameter first.
fn cumsum(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = (call.tensor(0)?, call.dtype(2)?, call.tensor(3)?);
    let lanes = check(call, &x, call.int(1)?, dtype, &out)?;
    sums(call, x, dtype, out, lanes, PLAIN)
}

/// No dtype parameter; exclusive and reversed sums on demand.
fn cumsum_v2(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let dtype = x.dtype();
    let lanes = check(call, &x, call.int(1)?, dtype, &out)?;
    let order = Order {
        exclusive: call.bool(2)?,
        reverse: call.bool(3)?,
    };
    sums(call, x, dtype, out, lanes, order)
}

/// The dim is a scalar handle; the form in place has no dtype parameter.
fn cumprod(call: &Call) -> Result<Work, Refusal> {
    let (x, dim) = (call.tensor(0)?, call.scalar(1)?.i64());
    let (dtype, out) = if call.count() > 2 {
        (call.dtype(2)?, call.tensor(3)?)
    } else {
        (x.dtype(), x.clone())
    };
    let lanes = check(call, &x, dim, dtype, &out)?;
    match dtype.class() {
        Class::Float32 | Class::Float64 => Ok(Work::new(move || {
            scan::<f64>(&x, dtype, &out, lanes, PLAIN, 1.0, |all, value| all * value)
        })),
        Class::Integer => Ok(Work::new(move || {
            scan::<i64>(&x, dtype, &out, lanes, PLAIN, 1, i64::wrapping_mul)
        })),
        Class::Complex => Ok(Work::new(move || {
            let one = Complex::new(1.0, 0.0);
            scan::<Complex>(&x, dtype, &out, lanes, PLAIN, one, |all, value| all * value)
        })),
        _ => Err(no_kernel(call, dtype)),
    }
}
