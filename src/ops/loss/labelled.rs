//! Losses of labels on the NPU: how inputs are laid out for CANN's kernels, and labels checked.
//!
//! Knows the kernels' shapes and dtypes (halves go in as f32). Must not know what a loss is.

use super::nll_loss::class_dim;
use crate::ascend::Ready;
use crate::mode::{Modes, current};
use crate::ops::index::read_back;
use crate::ops::prelude::*;

/// An input and its labels in the shape of the kernel for their rank: `[n, c]` and `[n]`, or `[n, c, h, w]` and `[n, h, w]`.
pub(super) fn folded(shape: &Shape) -> [Shape; 2] {
    let input = match shape.dims() {
        [classes] => Shape::from([1, *classes]),
        [n, c, h, rest @ ..] => Shape::from([*n, *c, *h, rest.iter().product()]),
        _ => *shape,
    };
    [input, input.without(class_dim(&input))]
}

/// A tensor in a dtype, without gaps.
pub(super) fn ready<'a>(cx: &Launch, x: &Dev<'a>, dtype: DType) -> Result<Ready<'a>> {
    if x.dtype() == dtype {
        cx.contiguous(x)
    } else {
        cx.cast(x, dtype)
    }
}

/// A tensor without gaps in another shape.
pub(super) fn shaped<'a>(x: &Dev<'a>, shape: &Shape) -> Dev<'a> {
    x.with_layout(Layout::contiguous(*shape).with_offset(x.layout().offset()))
}

/// The weights of classes, or ones.
pub(super) fn weights<'a>(
    cx: &Launch,
    weight: Option<&Dev<'a>>,
    classes: usize,
    dtype: DType,
) -> Result<Ready<'a>> {
    if let Some(weight) = weight {
        return ready(cx, weight, dtype);
    }
    let ones = cx.temporary([classes], dtype)?;
    aclnn::inplace_one(cx, &ones.dev())?;
    Ok(Ready::Made(ones))
}

/// Runs a kernel whose result has the dtype that it computes in: straight into an output of that dtype, else cast into it.
pub(super) fn narrowed(
    cx: &Launch,
    y: &Dev<'_>,
    dtype: DType,
    kernel: impl FnOnce(&Dev<'_>) -> Result<()>,
) -> Result<()> {
    if y.dtype() == dtype {
        return kernel(y);
    }
    let wide = cx.temporary(*y.shape(), dtype)?;
    kernel(&wide.dev())?;
    aclnn::cast(cx, &wide.dev(), y.dtype(), y)
}

/// Under `check_data`: reads labels back and refuses those out of range.
pub(super) fn check(cx: &Launch, target: &Dev<'_>, classes: usize, ignore: i64) -> Result<()> {
    if !current().has(Modes::CHECK_DATA) || target.is_empty() {
        return Ok(());
    }
    let out = |label: &i64| *label != ignore && !(0..classes as i64).contains(label);
    match read_back(cx, target)?.into_iter().find(out) {
        None => Ok(()),
        Some(index) => Err(Error::Index {
            op: cx.op(),
            index,
            len: classes,
        }),
    }
}

/// The kernels take no empty inputs.
pub(super) fn refuse_empty(cx: &Launch, x: &Dev<'_>) -> Result<()> {
    if !x.is_empty() {
        return Ok(());
    }
    let why = "the kernel takes no empty input";
    let device = Device::Ascend(cx.device());
    Err(Error::unsupported(cx.op(), device, x.dtype(), why))
}
