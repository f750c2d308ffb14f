//! Orders: sorting, searching, counting and distinct elements.
//!
//! Knows how sorted results get their gradient. Must not know any single op.

rooms! {
    isin,
    searchsorted,
    sort,
    topk,
    unique,
}

mod bincount;

pub use bincount::BincountOptions;

use crate::ops::prelude::*;

/// The gradient of elements that were picked along a dim: each to the place it came from.
pub(super) fn picked_gradient(cx: &GradCx<'_>, dim: i64, op: &'static str) -> Result<Grads> {
    let dy = cx.gradient()?;
    let shape = cx.meta(0)?.shape;
    shape.axis_or_scalar(op, dim)?;
    let zeros = Tensor::zeros(shape, dy.dtype(), dy.device())?;
    Ok(smallvec![cx.want(0, || zeros.scatter(
        dim,
        cx.output(1)?,
        dy
    ))?])
}
