//! Dense operands of kernels: views as slices of lanes, outputs cut into chunks among threads.
//!
//! Knows lanes, workspace and chunks. Must not know what a kernel computes.

use super::alloc::workspace;
use super::lane::Lane;
use super::view::{Host, HostMut};
use super::{map, par};
use crate::dtype::DType;
use crate::error::Result;

/// The elements of a view row-major as lanes: its own memory where that is so already, else `held`.
pub(crate) fn dense<'a, T: Lane>(
    op: &'static str,
    x: &Host<'a>,
    held: &'a mut Vec<T>,
) -> Result<&'a [T]> {
    if let Some(own) = x.as_slice::<T>() {
        return Ok(own);
    }
    *held = workspace(op, T::ZERO, x.elements())?;
    if let Some(mut target) = HostMut::from_slice(held, x.shape()) {
        map::map1::<T, T>(x, &mut target, |x| x);
    }
    Ok(held)
}

/// The elements of a view row-major as lanes of their own.
pub(crate) fn lanes<T: Lane>(op: &'static str, x: &Host<'_>) -> Result<Vec<T>> {
    let mut values = workspace(op, T::ZERO, x.elements())?;
    if let Some(mut target) = HostMut::from_slice(&mut values, x.shape()) {
        map::copy(x, &mut target);
    }
    Ok(values)
}

/// Runs `body` over an output as a row-major slice of lanes, and rounds the lanes into the output where its memory holds none.
pub(crate) fn into_dense<T: Lane>(
    op: &'static str,
    y: &mut HostMut<'_>,
    body: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    if let Some(own) = y.as_mut_slice::<T>() {
        return body(own);
    }
    let mut wide = workspace(op, T::ZERO, y.elements())?;
    body(&mut wide)?;
    if let Some(wide) = Host::from_slice(&wide, y.shape()) {
        map::map1::<T, T>(&wide, y, |x| x);
    }
    Ok(())
}

/// The numbers as `f32`s, if that is what they are.
pub(crate) fn as_f32<T: Lane>(values: &[T]) -> Option<&[f32]> {
    // SAFETY: the lane of this dtype is `f32` itself.
    (T::DTYPE == DType::F32)
        .then(|| unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) })
}

/// The numbers to write as `f32`s, if that is what they are.
pub(crate) fn as_f32_mut<T: Lane>(values: &mut [T]) -> Option<&mut [f32]> {
    // SAFETY: as above.
    (T::DTYPE == DType::F32).then(|| unsafe {
        std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len())
    })
}

/// The start of a slice that threads cut among themselves.
pub(crate) struct Start<T>(*mut T);

// SAFETY: each thread takes other chunks of the slice.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    /// Of a slice, which nobody uses otherwise while this is used.
    pub fn of(values: &mut [T]) -> Self {
        Start(values.as_mut_ptr())
    }

    /// The address of an element.
    pub fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

    /// # Safety
    /// The range must lie in the slice, and nobody else may use it.
    #[allow(clippy::mut_from_ref, reason = "the caller promises disjoint ranges")]
    pub unsafe fn range(&self, start: usize, count: usize) -> &mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }
}

/// Runs `body` with the number and the elements of each whole chunk of `size` elements, at least `grain` chunks to a thread.
pub(crate) fn chunks<T: Send>(
    values: &mut [T],
    size: usize,
    grain: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let Some(count) = values.len().checked_div(size) else {
        return;
    };
    let start = Start::of(values);
    par::ranges(count, grain, |range| {
        for index in range {
            // SAFETY: chunk `index` of `count` lies in the slice, and only this thread has it.
            body(index, unsafe { start.range(index * size, size) });
        }
    });
}

/// As [`chunks`], with the same chunks of a second slice of the same length.
pub(crate) fn chunk_pairs<T: Send, U: Send>(
    first: &mut [T],
    second: &mut [U],
    size: usize,
    grain: usize,
    body: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let Some(count) = first.len().min(second.len()).checked_div(size) else {
        return;
    };
    let (first, second) = (Start::of(first), Start::of(second));
    par::ranges(count, grain, |range| {
        for index in range {
            // SAFETY: chunk `index` of `count` lies in both slices, and only this thread has it.
            let (first, second) = unsafe {
                (
                    first.range(index * size, size),
                    second.range(index * size, size),
                )
            };
            body(index, first, second);
        }
    });
}
