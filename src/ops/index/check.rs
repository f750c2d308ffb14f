//! Checks of indices: their dtype without data, their range with it.
//!
//! Knows ranges and how an index on an NPU is read back. Must not know what is indexed.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::alloc::{collected, workspace};
use crate::cpu::dense::lanes;
use crate::cpu::gather::are_below;
use crate::cpu::par;
use crate::mode::{Modes, current};
use crate::ops::prelude::*;

/// Whether negative indices count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Negative {
    /// They are out of range.
    Refused,
    /// They count from the end.
    FromEnd,
}

/// Refuses indices that are not `i32` or `i64`.
pub(crate) fn index_dtype(op: &'static str, index: &Meta) -> Result<()> {
    match index.dtype {
        DType::I64 | DType::I32 => Ok(()),
        other => Err(Error::dtype(
            op,
            format!("{other} for an index"),
            "i64 or i32",
        )),
    }
}

/// The indices in row-major order, each in `0..len`.
pub(crate) fn host_indices<'a>(
    op: &'static str,
    index: &Host<'a>,
    len: usize,
    negative: Negative,
) -> Result<Cow<'a, [i64]>> {
    in_range(op, any_indices(op, index)?, len, negative)
}

/// The indices in row-major order, whatever they are.
pub(crate) fn any_indices<'a>(op: &'static str, index: &Host<'a>) -> Result<Cow<'a, [i64]>> {
    match index.as_slice::<i64>() {
        Some(indices) => Ok(Cow::Borrowed(indices)),
        None => Ok(Cow::Owned(lanes(op, index)?)),
    }
}

fn in_range<'a>(
    op: &'static str,
    indices: Cow<'a, [i64]>,
    len: usize,
    negative: Negative,
) -> Result<Cow<'a, [i64]>> {
    let count = len as i64;
    let (stray, simd) = (AtomicBool::new(false), Simd::best());
    par::ranges(indices.len(), par::GRAIN, |range| {
        let indices = &indices[range];
        if !vectorised!(simd, are_below(indices, len as u64)) {
            stray.store(true, Ordering::Relaxed);
        }
    });
    if !stray.into_inner() {
        return Ok(indices);
    }
    let lowest = if negative == Negative::FromEnd {
        -count
    } else {
        0
    };
    if let Some(index) = indices
        .iter()
        .find(|index| !(lowest..count).contains(index))
    {
        return Err(Error::Index {
            op,
            index: *index,
            len,
        });
    }
    let from_start = |index: &i64| if *index < 0 { index + count } else { *index };
    Ok(Cow::Owned(collected(op, indices.iter().map(from_start))?))
}

/// Under `check_data`: reads an index on an NPU back and refuses what is out of range.
pub(crate) fn on_device(
    cx: &Launch,
    index: &Dev<'_>,
    len: usize,
    negative: Negative,
) -> Result<()> {
    if !current().has(Modes::CHECK_DATA) || index.elements() == 0 {
        return Ok(());
    }
    let indices = read_back(cx, index)?;
    in_range(cx.op(), Cow::Owned(indices), len, negative).map(|_| ())
}

/// The integers of a tensor on an NPU, in row-major order.
pub(crate) fn read_back(cx: &Launch, index: &Dev<'_>) -> Result<Vec<i64>> {
    let wide = cx.cast(index, DType::I64)?;
    let wide = wide.dev();
    let ready = cx.contiguous(&wide)?;
    let dev = ready.dev();
    let mut bytes = workspace(cx.op(), 0u8, dev.elements() * size_of::<i64>())?;
    dev.buffer().read(
        cx.op(),
        dev.layout().offset() * size_of::<i64>(),
        &mut bytes,
    )?;
    let (words, _) = bytes.as_chunks::<8>();
    collected(cx.op(), words.iter().map(|word| i64::from_ne_bytes(*word)))
}
