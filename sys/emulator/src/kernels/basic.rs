//! Sums: `aclnnAdd`, `aclnnAdds`. Also the pattern for other families.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::{Complex, Number};
use crate::promote::{castable, promote, promote_scalar};
use crate::tensor::Tensor;
use ndarray::{IxDyn, Zip};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] =
    &[("aclnnAdd", add as Prepare), ("aclnnAdds", adds as Prepare)];

/// `out = self + alpha * other`, broadcasting.
fn add(call: &Call) -> Result<Work, Refusal> {
    let (x, y, alpha, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.scalar(2)?,
        call.tensor(3)?,
    );
    let dtype = promote(x.dtype(), y.dtype())
        .ok_or_else(|| call.invalid(format!("{} and {} do not promote", x.dtype(), y.dtype())))?;
    check_result(call, dtype, &out)?;
    if !castable(alpha.dtype(), dtype) {
        return Err(call.invalid(format!("alpha is {}, wanted {dtype}", alpha.dtype())));
    }
    let shape = call.broadcast(&[x.shape(), y.shape()])?;
    call.expect_shape("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float64 => {
            let alpha = alpha.f64();
            Work::new(move || combine::<f64>(&x, &y, &out, |a, b| a + alpha * b))
        }
        Class::Integer => {
            let alpha = alpha.i64();
            Work::new(move || {
                combine::<i64>(&x, &y, &out, |a, b| a.wrapping_add(alpha.wrapping_mul(b)))
            })
        }
        Class::Boolean => {
            let alpha = alpha.i64() != 0;
            Work::new(move || combine::<bool>(&x, &y, &out, |a, b| a || (alpha && b)))
        }
        Class::Complex => {
            let alpha = alpha.complex();
            Work::new(move || combine::<Complex>(&x, &y, &out, |a, b| a + alpha * b))
        }
        _ => {
            let alpha = alpha.f32();
            Work::new(move || combine::<f32>(&x, &y, &out, |a, b| a + alpha * b))
        }
    })
}

/// `out = self + alpha * other` with a scalar `other`, which is rounded to the compute dtype first.
fn adds(call: &Call) -> Result<Work, Refusal> {
    let (x, other, alpha, out) = (
        call.tensor(0)?,
        call.scalar(1)?,
        call.scalar(2)?,
        call.tensor(3)?,
    );
    let dtype = promote_scalar(x.dtype(), other.dtype()).ok_or_else(|| {
        call.invalid(format!(
            "{} and {} do not promote",
            x.dtype(),
            other.dtype()
        ))
    })?;
    check_result(call, dtype, &out)?;
    call.expect_shape("out", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(match dtype.class() {
        Class::Float64 => {
            let term = other.f64() * alpha.f64();
            Work::new(move || map::<f64>(&x, &out, |a| a + term))
        }
        Class::Integer => {
            let term = other.i64().wrapping_mul(alpha.i64());
            Work::new(move || map::<i64>(&x, &out, |a| a.wrapping_add(term)))
        }
        Class::Boolean => {
            let term = other.i64() != 0 && alpha.i64() != 0;
            Work::new(move || map::<bool>(&x, &out, |a| a || term))
        }
        Class::Complex => {
            let term = other.complex() * alpha.complex();
            Work::new(move || map::<Complex>(&x, &out, |a| a + term))
        }
        _ => {
            let term = other.rounded_to::<f32>(dtype) * alpha.rounded_to::<f32>(dtype);
            Work::new(move || map::<f32>(&x, &out, |a| a + term))
        }
    })
}

fn check_result(call: &Call, dtype: DType, out: &Tensor) -> Result<(), Refusal> {
    if castable(dtype, out.dtype()) {
        return Ok(());
    }
    Err(call.invalid(format!(
        "out is {}, to which a result of {dtype} cannot be cast",
        out.dtype()
    )))
}

/// `out = f(x)` element by element.
fn map<T: Number>(x: &Tensor, out: &Tensor, f: impl Fn(T) -> T) -> Result<(), Fault> {
    let values = x.read::<T>().map(|&a| f(a));
    out.store(&values)
}

/// `out = f(x, y)` element by element, broadcasting both to the shape of `out`.
fn combine<T: Number>(
    x: &Tensor,
    y: &Tensor,
    out: &Tensor,
    f: impl Fn(T, T) -> T,
) -> Result<(), Fault> {
    let (a, b) = (x.read::<T>(), y.read::<T>());
    let shape = IxDyn(out.shape());
    let (Some(a), Some(b)) = (a.broadcast(shape.clone()), b.broadcast(shape)) else {
        return Err(Fault::exception(format!(
            "shapes {:?} and {:?} do not broadcast to {:?}",
            x.shape(),
            y.shape(),
            out.shape()
        )));
    };
    let values = Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b));
    out.store(&values)
}
