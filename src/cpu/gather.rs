//! Gathers and scatters: results whose elements come from, or go to, places told by tables of offsets.
//!
//! Knows paths (a stride or a table per dim), runs and threads. Must not know ops, nor who made the tables.

mod along;

use std::borrow::Cow;

use half::{bf16, f16};
use smallvec::SmallVec;

pub(crate) use self::along::{are_below, gather_along, scatter_along};
use super::alloc::Block;
use super::alloc::{collected, filled, lacks};
use super::lane::Lane;
use super::view::{Host, HostMut};
use super::{par, simd};
use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::layout::Layout;
use crate::shape::MAX_RANK;

/// Bytes of a later line that are asked for while one is copied.
const SOON: usize = 4096;
/// Results of so many bytes are written past the caches where they come in runs of so many.
const STREAMED: usize = 24 << 20;
const RUN: usize = 256;
/// So many lines before a line is read its beginning is asked for: the CPU does not see where the next one lies.
const AHEAD: usize = 8;
/// Lines of at most so many bytes are asked for as a whole.
const REACH: usize = 32 << 10;

/// In a table: no element lies there, the fill stands for it.
pub(crate) const NOWHERE: usize = usize::MAX;

/// How an index along one dim becomes an offset in elements.
#[derive(Debug, Clone)]
pub(crate) enum Path {
    /// `index * stride`, for so many indices.
    Stride(usize, usize),
    /// By a table, which may name an element several times or [`NOWHERE`].
    Offsets(Vec<usize>),
}

impl Path {
    fn size(&self) -> usize {
        match self {
            Path::Stride(size, _) => *size,
            Path::Offsets(offsets) => offsets.len(),
        }
    }

    /// How many bytes the offsets reach over, where they are so many that they hit most of the cache lines there; else 0.
    fn reach(&self, size: usize) -> usize {
        let Path::Offsets(offsets) = self else {
            return 0;
        };
        let real = offsets.iter().filter(|offset| **offset != NOWHERE);
        let bytes = real
            .max()
            .map_or(0, |last| last.saturating_add(1).saturating_mul(size));
        if bytes <= REACH.min(offsets.len() * 64) {
            bytes
        } else {
            0
        }
    }

    /// Whether some index leads nowhere.
    fn has_gaps(&self) -> bool {
        matches!(self, Path::Offsets(offsets) if offsets.contains(&NOWHERE))
    }

    /// The offset of an index, [`NOWHERE`] where there is none.
    fn at(&self, index: usize) -> usize {
        match self {
            Path::Stride(_, stride) => index * stride,
            Path::Offsets(offsets) => offsets.get(index).copied().unwrap_or(NOWHERE),
        }
    }
}

/// The paths of all dims, and the offset that they start from.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub dims: SmallVec<[Path; MAX_RANK]>,
    pub base: usize,
}

impl Paths {
    /// The plain paths of a layout.
    pub fn of(layout: &Layout) -> Self {
        Paths {
            dims: layout
                .pairs()
                .map(|(size, stride)| Path::Stride(size, stride))
                .collect(),
            base: layout.offset(),
        }
    }

    /// Another path for a dim: the entries of `indices` times the dim's stride.
    pub fn with_indices(
        mut self,
        op: &'static str,
        dim: usize,
        indices: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Self> {
        if let Some(Path::Stride(_, stride)) = self.dims.get(dim) {
            let stride = *stride;
            let offset = |index| {
                if index == NOWHERE {
                    NOWHERE
                } else {
                    index * stride
                }
            };
            self.dims[dim] = Path::Offsets(collected(op, indices.map(offset))?);
        }
        Ok(self)
    }
}

/// One dim of a merged walk: its path on one side, its stride on the other.
type Dim<'a> = (Cow<'a, Path>, usize);

/// Dims of size 1 dropped, neighbouring strided dims merged where both sides allow it.
fn merged<'a>(paths: &'a Paths, other: &Layout) -> SmallVec<[Dim<'a>; MAX_RANK]> {
    let mut dims: SmallVec<[Dim<'a>; MAX_RANK]> = SmallVec::new();
    for (path, stride) in paths.dims.iter().zip(other.strides()) {
        let strided = |(path, stride): &Dim<'_>| match path.as_ref() {
            Path::Stride(size, step) => Some((*size, *step, *stride)),
            Path::Offsets(_) => None,
        };
        match (path, dims.last().and_then(strided)) {
            (Path::Stride(1, _), _) => {}
            (Path::Stride(size, step), Some((count, outer, beside)))
                if outer == step * size && beside == stride * size =>
            {
                dims.pop();
                dims.push((Cow::Owned(Path::Stride(count * size, *step)), *stride));
            }
            _ => dims.push((Cow::Borrowed(path), *stride)),
        }
    }
    if dims.is_empty() {
        dims.push((Cow::Owned(Path::Stride(1, 0)), 0));
    }
    dims
}

/// Visits the rows `range` (all dims but the last) with the offset on both sides, and the first side's of a row that comes soon;
/// those are [`NOWHERE`] for a missing row.
fn rows(
    outer: &[Dim<'_>],
    bases: (usize, usize),
    range: std::ops::Range<usize>,
    mut body: impl FnMut(usize, usize, usize),
) {
    let mut index = [0usize; MAX_RANK];
    let mut rest = range.start;
    for (slot, (path, _)) in index.iter_mut().zip(outer).rev() {
        let size = path.size().max(1);
        *slot = rest % size;
        rest /= size;
    }
    for _ in range {
        let (mut from, mut to) = bases;
        for ((path, stride), index) in outer.iter().zip(index) {
            let step = path.at(index);
            from = if from == NOWHERE || step == NOWHERE {
                NOWHERE
            } else {
                from + step
            };
            to += index * stride;
        }
        let ahead = outer.last().map_or(NOWHERE, |(path, _)| {
            let last = outer.len() - 1;
            let (now, soon) = (path.at(index[last]), path.at(index[last] + AHEAD));
            if from == NOWHERE || soon == NOWHERE {
                NOWHERE
            } else {
                from - now + soon
            }
        });
        body(from, to, ahead);
        for dim in (0..outer.len()).rev() {
            index[dim] += 1;
            if index[dim] < outer[dim].0.size() {
                break;
            }
            index[dim] = 0;
        }
    }
}

/// An address that threads share while they write disjoint elements.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: the users of this file write disjoint elements from each thread.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Calls `body` with `0..count` in short runs, and asks for a share of the bytes from `next` on before each: all at once, they
/// would hold up what is read now.
#[inline(always)]
fn beside(
    count: usize,
    next: *const u8,
    bytes: usize,
    mut body: impl FnMut(std::ops::Range<usize>),
) {
    /// Bytes that are asked for at a time: a few cache lines.
    const SHARE: usize = 256;
    let run = count.div_ceil(bytes.div_ceil(SHARE).max(1)).max(1);
    for (share, start) in (0..count).step_by(run).enumerate() {
        let at = (share * SHARE).min(bytes);
        simd::prefetch(next.wrapping_add(at), SHARE.min(bytes - at));
        body(start..count.min(start + run));
    }
}

/// Unsigned types with the size of an element: copies look at bits only.
trait Bits: Copy + Sync {}
impl Bits for u8 {}
impl Bits for u16 {}
impl Bits for u32 {}
impl Bits for u64 {}

/// The bits of a number in a dtype, lowest first.
pub(crate) fn bits_of(value: Scalar, dtype: DType) -> u64 {
    let float = value.to_f64();
    match dtype {
        DType::F64 => float.to_bits(),
        DType::F32 => u64::from((float as f32).to_bits()),
        DType::F16 => u64::from(f16::from_f64(float).to_bits()),
        DType::BF16 => u64::from(bf16::from_f64(float).to_bits()),
        DType::Bool => u64::from(value.to_bool()),
        _ => value.to_i64() as u64,
    }
}

/// `y[i] = x[paths(i)]`, or the bits `fill` where the paths lead nowhere. `y` has the paths' sizes and `x`'s dtype.
///
/// The paths must lead to elements of `x` (which callers compute from its layout).
pub(crate) fn gather(x: &Host<'_>, paths: &Paths, fill: u64, y: &mut HostMut<'_>) {
    debug_assert_eq!(x.dtype(), y.dtype());
    match x.dtype().size() {
        1 => gather_bits(x, paths, fill as u8, y),
        2 => gather_bits(x, paths, fill as u16, y),
        4 => gather_bits(x, paths, fill as u32, y),
        _ => gather_bits(x, paths, fill, y),
    }
}

fn gather_bits<T: Bits>(x: &Host<'_>, paths: &Paths, fill: T, y: &mut HostMut<'_>) {
    if y.elements() == 0 {
        return;
    }
    let dims = merged(paths, y.layout());
    let Some(((inner, stride), outer)) = dims.split_last() else {
        return;
    };
    let (count, lines) = (
        inner.size(),
        outer.iter().map(|(path, _)| path.size()).product::<usize>(),
    );
    let (from, to) = (x.start().cast::<T>(), Shared(y.start().cast::<T>()));
    let source = Shared(from.cast_mut());
    let bases = (paths.base, y.layout().offset());
    let streamed = y.elements() * size_of::<T>() >= STREAMED;
    let reach = inner.reach(size_of::<T>());
    let dense = *stride == 1 && !inner.has_gaps();
    // From a line to the next, which is asked for while this one is read.
    let next = match outer.last().map(|(path, _)| path.as_ref()) {
        Some(Path::Stride(_, step)) => *step,
        _ => 0,
    };
    let row = |from: usize, to_offset: usize, ahead: usize, part: std::ops::Range<usize>| {
        // SAFETY: the paths lead to elements of `x`, the strides to elements of `y`; each element of `y` is written once.
        unsafe {
            let to = to.get().add(to_offset);
            match inner.as_ref() {
                _ if from == NOWHERE => part.for_each(|index| *to.add(index * stride) = fill),
                Path::Stride(_, 1) if *stride == 1 => {
                    if ahead != NOWHERE && part.len() * size_of::<T>() >= RUN {
                        let soon = source.get().wrapping_add(ahead).cast();
                        simd::prefetch(soon, (part.len() * size_of::<T>()).min(SOON));
                    }
                    let from = source.get().add(from + part.start).cast_const();
                    let to = to.add(part.start);
                    if streamed && part.len() * size_of::<T>() >= RUN {
                        simd::stream(from.cast(), to.cast(), part.len() * size_of::<T>());
                    } else {
                        std::ptr::copy_nonoverlapping(from, to, part.len());
                    }
                }
                Path::Stride(_, step) => part.for_each(|index| {
                    *to.add(index * stride) = *source.get().add(from + index * step)
                }),
                Path::Offsets(offsets) if dense => {
                    let to = std::slice::from_raw_parts_mut(to.add(part.start), part.len());
                    let from = source.get().wrapping_add(from).cast_const();
                    pick(from, &offsets[part], to, (next, reach));
                }
                Path::Offsets(offsets) => {
                    for (index, offset) in part.clone().zip(&offsets[part]) {
                        *to.add(index * stride) = if *offset == NOWHERE {
                            fill
                        } else {
                            *source.get().add(from + offset)
                        };
                    }
                }
            }
        }
    };
    if lines == 1 {
        return par::ranges(count, par::GRAIN, |part| {
            rows(outer, bases, 0..1, |from, to, _| {
                row(from, to, NOWHERE, part.clone())
            });
            simd::fence();
        });
    }
    par::ranges(lines, (par::GRAIN / count.max(1)).max(1), |range| {
        rows(outer, bases, range, |from, to, ahead| {
            row(from, to, ahead, 0..count)
        });
        simd::fence();
    });
}

/// Elements at offsets from `from` on, while the next line is asked for: how far away it lies, and its bytes.
///
/// # Safety
/// The offsets must lead to readable elements.
#[inline(always)]
unsafe fn pick<T: Bits>(from: *const T, offsets: &[usize], to: &mut [T], line: (usize, usize)) {
    let next = from.wrapping_add(line.0).cast();
    beside(to.len(), next, line.1, |part| {
        for (to, offset) in to[part.clone()].iter_mut().zip(&offsets[part]) {
            // SAFETY: promised by the caller.
            *to = unsafe { *from.add(*offset) };
        }
    });
}

/// `target[paths(i)] = combine(target[paths(i)], x[i])`, in the row-major order of `i` for each element of the target.
///
/// `x` has the paths' sizes and converts to `T` lanes; paths that lead nowhere or out of `target` are left out.
pub(crate) fn scatter<T: Lane>(
    x: &Host<'_>,
    paths: &Paths,
    target: &mut [T],
    combine: impl Fn(T, T) -> T + Sync,
) {
    if x.elements() == 0 {
        return;
    }
    let cut = widest(paths);
    let cells = Shared(target.as_mut_ptr());
    let length = target.len();
    let part = |range: std::ops::Range<usize>| {
        let (mut paths, mut layout) = (paths.clone(), *x.layout());
        if let (Some(dim), Some(Path::Stride(_, stride))) =
            (cut, cut.and_then(|dim| paths.dims.get(dim)).cloned())
        {
            paths.base += range.start * stride;
            paths.dims[dim] = Path::Stride(range.len(), stride);
            layout = layout.slice(dim, range.start, range.len(), 1);
        }
        // SAFETY: `length` elements lie there; threads have different indices of a strided dim, and so different elements.
        unsafe {
            scatter_part(
                &x.with_layout(layout),
                &paths,
                (cells.get(), length),
                &combine,
            )
        };
    };
    match cut {
        Some(dim) if x.elements() >= 2 * par::GRAIN => par::ranges(paths.dims[dim].size(), 1, part),
        Some(dim) => part(0..paths.dims[dim].size()),
        None => part(0..1),
    }
}

/// The dim that threads can share out: strided, and the largest.
fn widest(paths: &Paths) -> Option<usize> {
    let strided = |path: &Path| matches!(path, Path::Stride(_, stride) if *stride > 0);
    (0..paths.dims.len())
        .filter(|dim| strided(&paths.dims[*dim]))
        .max_by_key(|dim| paths.dims[*dim].size())
}

/// # Safety
/// `target` must have that many writable elements, and nobody else may touch those that the paths name.
unsafe fn scatter_part<T: Lane>(
    x: &Host<'_>,
    paths: &Paths,
    (target, length): (*mut T, usize),
    combine: &impl Fn(T, T) -> T,
) {
    let dims = merged(paths, x.layout());
    let Some(((inner, stride), outer)) = dims.split_last() else {
        return;
    };
    let (count, lines) = (
        inner.size(),
        outer.iter().map(|(path, _)| path.size()).product::<usize>(),
    );
    let direct = x.dtype() == T::DTYPE && *stride == 1;
    let mut buffer = filled(T::ZERO, if direct { 0 } else { count });
    if lacks() {
        return;
    }
    rows(
        outer,
        (paths.base, x.layout().offset()),
        0..lines,
        |to, from, _| {
            let from = x.start().wrapping_add(from * x.dtype().size());
            let values: &[T] = if direct {
                // SAFETY: the row's elements are `T`s in a row.
                unsafe { std::slice::from_raw_parts(from.cast(), count) }
            } else {
                // SAFETY: the row's elements lie `stride` apart, and `T` serves their dtype.
                unsafe { T::gather(from, *stride, x.dtype(), &mut buffer) };
                &buffer
            };
            let put = |offset: usize, value: T| {
                if offset < length {
                    // SAFETY: within the target, which is ours.
                    unsafe { *target.add(offset) = combine(*target.add(offset), value) };
                }
            };
            match inner.as_ref() {
                _ if to == NOWHERE => {}
                Path::Stride(_, 1) if to.saturating_add(count) <= length => {
                    // SAFETY: the run lies within the target, which is ours.
                    let run = unsafe { std::slice::from_raw_parts_mut(target.add(to), count) };
                    run.iter_mut()
                        .zip(values)
                        .for_each(|(cell, value)| *cell = combine(*cell, *value));
                }
                Path::Stride(_, step) => values
                    .iter()
                    .enumerate()
                    .for_each(|(index, value)| put(to + index * step, *value)),
                Path::Offsets(offsets) => {
                    values
                        .iter()
                        .zip(offsets)
                        .for_each(|(value, offset)| put(to.saturating_add(*offset), *value));
                }
            }
        },
    );
}

/// Runs `body` on the elements of a row-major `y` as lanes: in place where they are lanes, else by way of a wide copy, which
/// is rounded once at the end.
pub(crate) fn in_lanes<T: Lane>(
    op: &'static str,
    y: &mut HostMut<'_>,
    body: impl FnOnce(&mut [T]),
) -> Result<()> {
    if let Some(cells) = y.as_mut_slice::<T>() {
        body(cells);
        return Ok(());
    }
    let (layout, count) = (Layout::contiguous(*y.shape()), y.elements());
    let wide = Block::allocate(op, count.saturating_mul(size_of::<T>()))?;
    // SAFETY: the block has room for as many numbers as `y` has elements; all are written before the body sees them.
    let cells = unsafe {
        let mut cells = HostMut::new(wide.start(), layout, T::DTYPE);
        super::map::map1::<T, T>(&y.as_host(), &mut cells, |x| x);
        std::slice::from_raw_parts_mut(wide.start().cast::<T>(), count)
    };
    body(cells);
    if let Some(cells) = Host::from_slice(cells, layout.shape()) {
        super::map::map1::<T, T>(&cells, y, |x| x);
    }
    Ok(())
}

/// Sets the elements of each row (of `width`) of a row-major `y` that `cleared` names to zero.
pub(crate) fn clear_rows(
    y: &mut HostMut<'_>,
    width: usize,
    cleared: impl Fn(usize) -> std::ops::Range<usize> + Sync,
) {
    if width == 0 || !y.layout().is_contiguous() {
        return;
    }
    let size = y.dtype().size();
    let start = Shared(y.start().wrapping_add(y.layout().offset() * size));
    par::ranges(y.elements() / width, (par::GRAIN / width).max(1), |rows| {
        for row in rows {
            let range = cleared(row);
            let (from, to) = (range.start.min(width), range.end.min(width));
            if from < to {
                // SAFETY: the range lies within a row of `y`, whose elements are contiguous; all zero bits are the number 0.
                unsafe {
                    std::ptr::write_bytes(
                        start.get().add((row * width + from) * size),
                        0,
                        (to - from) * size,
                    )
                };
            }
        }
    });
}

#[cfg(test)]
mod tests;
