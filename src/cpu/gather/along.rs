//! Gathers and scatters along one dim: indices with the result's or the source's shape.
//!
//! Knows layouts that stand still along a dim, and which indices are valid. Must not know ops.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Bits, REACH, Shared, beside};
use crate::cpu::lane::Lane;
use crate::cpu::par;
use crate::cpu::simd::{Simd, vectorised};
use crate::cpu::strided::Walk;
use crate::cpu::view::{Host, HostMut};
use crate::layout::Layout;
use crate::shape::Shape;

/// `y[i] = x[i with index[i] at dim]`. `index` is row-major with `y`'s shape. False if an entry is no index of `x`: then it means
/// nothing what `y` holds.
#[must_use]
pub(crate) fn gather_along(x: &Host<'_>, dim: usize, index: &[i64], y: &mut HostMut<'_>) -> bool {
    debug_assert_eq!(x.dtype(), y.dtype());
    match x.dtype().size() {
        1 => gather_along_bits::<u8>(x, dim, index, y),
        2 => gather_along_bits::<u16>(x, dim, index, y),
        4 => gather_along_bits::<u32>(x, dim, index, y),
        _ => gather_along_bits::<u64>(x, dim, index, y),
    }
}

/// For lines along the last dim of a layout that are read out of order: the elements from one to the next, and the bytes of one
/// if `count` picks hit most of its cache lines, else 0.
fn next_line(layout: &Layout, count: usize, size: usize) -> (usize, usize) {
    let next = layout.strides().iter().rev().nth(1).copied().unwrap_or(0);
    let bytes = layout
        .dims()
        .last()
        .copied()
        .unwrap_or(0)
        .saturating_mul(size);
    let most = next > 0 && bytes <= REACH.min(count.saturating_mul(64));
    (next, if most { bytes } else { 0 })
}

/// Whether all are below a length.
#[inline(always)]
pub(crate) fn are_below(index: &[i64], length: u64) -> bool {
    // An index as an unsigned number is too large if it is negative, too.
    !index
        .iter()
        .fold(false, |any, index| any | (*index as u64 >= length))
}

fn gather_along_bits<T: Bits>(
    x: &Host<'_>,
    dim: usize,
    index: &[i64],
    y: &mut HostMut<'_>,
) -> bool {
    let shape = *y.shape();
    if shape.elements() == 0 {
        return true;
    }
    let (places, step) = along(x.layout(), dim, &shape);
    let table = Layout::contiguous(shape);
    if index.len() < table.elements() {
        return false;
    }
    let length = x.shape().size(dim) as u64;
    let (stray, simd) = (AtomicBool::new(false), Simd::best());
    let walk = Walk::new([&table, &places, y.layout()]);
    let [si, sx, sy] = walk.inner();
    let (source, target) = (
        Shared(x.start().cast::<T>().cast_mut()),
        Shared(y.start().cast::<T>()),
    );
    par::ranges(walk.elements(), par::GRAIN, |range| {
        walk.runs(range, usize::MAX, |[oi, ox, oy], count| {
            let (next, bytes) = next_line(x.layout(), count, size_of::<T>());
            let valid = if si == 1 {
                vectorised!(simd, are_below(&index[oi..oi + count], length))
            } else {
                let own = index[oi..].iter().step_by(si.max(1)).take(count);
                own.fold(true, |all, index| all & ((*index as u64) < length))
            };
            if !valid {
                return stray.store(true, Ordering::Relaxed);
            }
            // SAFETY: the walk names elements of `y` and, with a valid index, of `x`; elements of `y` are written once.
            unsafe {
                let (from, to) = (source.get().add(ox), target.get().add(oy));
                if (si, sx, sy, step) == (1, 0, 1, 1) {
                    let to = std::slice::from_raw_parts_mut(to, count);
                    let index = &index[oi..oi + count];
                    beside(count, from.wrapping_add(next).cast(), bytes, |part| {
                        for (to, index) in to[part.clone()].iter_mut().zip(&index[part]) {
                            *to = *from.add(*index as usize);
                        }
                    });
                    return;
                }
                for (at, index) in index[oi..]
                    .iter()
                    .step_by(si.max(1))
                    .take(count)
                    .enumerate()
                {
                    *to.add(at * sy) = *from.add(at * sx + *index as usize * step);
                }
            }
        });
    });
    !stray.into_inner()
}

/// The layout of `x` with the sizes of `shape` that stands still along `dim`, and the stride there.
fn along(x: &Layout, dim: usize, shape: &Shape) -> (Layout, usize) {
    let step = x.strides().get(dim).copied().unwrap_or(0);
    let still = x.slice(dim, 0, 1, 1).with_offset(x.offset());
    let mut places = still;
    for (other, size) in shape
        .dims()
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != dim)
    {
        places = places.slice(other, 0, *size, 1);
    }
    (places.expand("gather", shape).unwrap_or(still), step)
}

/// `target[i with index[i] at dim] = combine(that, source[i])`, in the row-major order of `i` for each element of the target.
///
/// `target` is row-major with `shape`; `index` is row-major with `source`'s shape, and each entry valid.
pub(crate) fn scatter_along<T: Lane>(
    source: &Host<'_>,
    dim: usize,
    index: &[i64],
    (target, shape): (&mut [T], &Shape),
    combine: impl Fn(T, T) -> T + Sync,
) {
    let sizes = *source.shape();
    if sizes.elements() == 0 || index.len() < sizes.elements() || target.len() < shape.elements() {
        return;
    }
    let (places, step) = along(&Layout::contiguous(*shape), dim, &sizes);
    let table = Layout::contiguous(sizes);
    let cells = Shared(target.as_mut_ptr());
    let picks = sizes.dims().last().copied().unwrap_or(1).max(1);
    let (width, bytes) = next_line(&Layout::contiguous(*shape), picks, size_of::<T>());
    let body = |cut: Option<(usize, std::ops::Range<usize>)>| {
        let part = |layout: &Layout| {
            cut.as_ref().map_or(*layout, |(dim, range)| {
                layout.slice(*dim, range.start, range.len(), 1)
            })
        };
        let (source, places, table) = (
            source.with_layout(part(source.layout())),
            part(&places),
            part(&table),
        );
        let walk = Walk::new([&table, &places, source.layout()]);
        let [si, sp, ss] = walk.inner();
        let mut buffer = [T::ZERO; 256];
        walk.runs(0..walk.elements(), buffer.len(), |[oi, op, os], count| {
            let values = &mut buffer[..count];
            // SAFETY: the walk names elements of `source`, and `T` serves its dtype.
            unsafe {
                T::gather(
                    source.start().wrapping_add(os * source.dtype().size()),
                    ss,
                    source.dtype(),
                    values,
                )
            };
            let put = |at: usize, value: T, index: i64| {
                // SAFETY: a valid index leads to an element of the target; threads differ in a dim other than `dim`.
                unsafe {
                    let cell = cells.get().add(op + at * sp + index as usize * step);
                    *cell = combine(*cell, value);
                }
            };
            if si == 1 {
                let index = &index[oi..oi + count];
                let next = cells.get().wrapping_add(op + width).cast::<u8>();
                // The run's share of the next line.
                let bytes = if (sp, step) == (0, 1) { bytes } else { 0 };
                let (done, share) = (bytes * (oi % picks) / picks, bytes * count / picks);
                beside(count, next.wrapping_add(done), share, |part| {
                    let pairs = values[part.clone()].iter().zip(&index[part.clone()]);
                    for (at, (value, index)) in part.zip(pairs) {
                        put(at, *value, *index);
                    }
                });
                return;
            }
            let index = index[oi..].iter().step_by(si.max(1));
            for (at, (value, index)) in values.iter().zip(index).enumerate() {
                put(at, *value, *index);
            }
        });
    };
    let cut = (0..sizes.rank())
        .filter(|other| *other != dim)
        .max_by_key(|other| sizes.size(*other));
    match cut {
        Some(cut) if sizes.elements() >= 2 * par::GRAIN => {
            par::ranges(sizes.size(cut), 1, |range| body(Some((cut, range))))
        }
        _ => body(None),
    }
}
