//! Parts of an output that threads fill side by side: for products whose sizes differ from group to group.
//!
//! Knows ranges along the first dim. Must not know what a part holds.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::alloc::collected;
use super::par;
use super::view::HostMut;
use crate::error::Result;

/// An address that threads share while they write disjoint parts.
struct Shared(*mut u8);

// SAFETY: `in_parts` hands out disjoint parts only.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(&self) -> *mut u8 {
        self.0
    }
}

/// Calls `fill` with the number and the view of each part: the indices `ranges[i]` of the first dim. Parts that do not follow
/// one after the other are left out. With `work` operations in all, few of them stay on the calling thread; else the next part
/// goes to whichever thread is free.
///
/// # Errors
/// One of those of `fill`, and `OutOfMemory` for a list as long as `ranges`; then some parts are not filled.
pub(crate) fn in_parts(
    op: &'static str,
    y: &mut HostMut<'_>,
    ranges: &[Range<usize>],
    work: usize,
    fill: impl Fn(usize, &mut HostMut<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let size = y.shape().size(0);
    let mut end = 0;
    let follows = |range: &Range<usize>| {
        let fits = range.start >= end && range.end >= range.start && range.end <= size;
        end = if fits { range.end } else { end };
        fits
    };
    let fits = collected(op, ranges.iter().map(follows))?;
    let (start, layout, dtype) = (Shared(y.start()), *y.layout(), y.dtype());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Ok(())));
    let threads = if work < par::GRAIN {
        1
    } else {
        par::threads().min(ranges.len())
    };
    par::ranges(threads.max(1), 1, |pieces| {
        for _ in pieces {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(range) = ranges.get(index) else {
                    break;
                };
                if !fits[index] {
                    continue;
                }
                let part = layout.slice(0, range.start, range.len(), 1);
                // SAFETY: the part lies within `y`, which is borrowed mutably for the whole call, and no two parts share an
                // index of the first dim; outputs do not overlap themselves.
                let mut part = unsafe { HostMut::new(start.get(), part, dtype) };
                if let Err(error) = fill(index, &mut part) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed = Err(error);
                    break;
                }
            }
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}
