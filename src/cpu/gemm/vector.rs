//! Matrix by vector: each element of the matrix is read once, so memory's speed is the limit.
//!
//! Knows matrices whose lanes or depths are contiguous, and how they are shared out. Must not know micro-kernels for tiles.

use super::block::{Target, cut};
use super::kernel::{Finish, Lanes, scatter};
use super::pack::Matrix;
use super::select::Sums;
use crate::cpu::alloc::Block;
use crate::cpu::lane::Lane;
use crate::cpu::number::Number;
use crate::cpu::par;
use crate::cpu::simd::prefetch;
use crate::dtype::DType;
use crate::error::Result;

/// Registers that also read elements of memory as the numbers that they stand for.
pub(super) trait Widen<E>: Lanes {
    /// # Safety
    /// The CPU must have the registers, and `COUNT` elements must be readable.
    unsafe fn widen(from: *const E) -> Self::Sum;
    /// # Safety
    /// As `widen`, for one element.
    unsafe fn single(from: *const E) -> Self::Number;
    /// `x y + sum`.
    ///
    /// # Safety
    /// The CPU must have the registers.
    unsafe fn fused(x: Self::Sum, y: Self::Sum, sum: Self::Sum) -> Self::Sum;
}

/// Lines of a matrix: the first one's address and the step in bytes to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    pub start: *const u8,
    pub step: usize,
    pub count: usize,
}

/// `sums[i] = x . line i`, for up to so many lines as the kernel reads at the same time, of so many elements. A kernel for lines
/// of a vector's own dtype finds the vector's elements of that dtype at `x`.
pub(crate) type Dots<T> = unsafe fn(*const T, usize, Lines, *mut T);

/// `sums[j] += x[i] * (line i)[j]` for the lines `i`, of so many elements.
pub(crate) type Rows<T> = unsafe fn(*const T, usize, Lines, *mut T);

/// The kernels for one dtype of a matrix.
pub(crate) struct Streams<T> {
    /// Lines that `dots` reads at the same time: as many as there are registers for their sums.
    pub together: usize,
    pub dots: Dots<T>,
    pub rows: Rows<T>,
}

/// The body of [`Dots`] for up to `LINES` lines at the same time.
///
/// # Safety
/// The CPU must have `L`'s registers; `x`, the lines and the sums must be there.
#[inline(always)]
pub(super) unsafe fn dots<L: Widen<E>, E, const LINES: usize>(
    x: *const L::Number,
    count: usize,
    lines: Lines,
    sums: *mut L::Number,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let line = |index: usize| {
            let index = index.min(lines.count - 1);
            lines.start.add(index * lines.step).cast::<E>()
        };
        let at: [*const E; LINES] = std::array::from_fn(line);
        let mut totals = [[L::zero(); 2]; LINES];
        let whole = count / (2 * L::COUNT) * (2 * L::COUNT);
        for start in (0..whole).step_by(2 * L::COUNT) {
            for half in 0..2 {
                let start = start + half * L::COUNT;
                let factor = L::read(x.add(start));
                for (totals, line) in totals.iter_mut().zip(at) {
                    totals[half] = L::fused(L::widen(line.add(start)), factor, totals[half]);
                }
            }
        }
        for index in 0..lines.count {
            let mut lanes = [<L::Number as Number>::ZERO; 32];
            L::store(totals[index][0], lanes.as_mut_ptr());
            L::store(totals[index][1], lanes.as_mut_ptr().add(L::COUNT));
            let mut width = L::COUNT;
            while width > 0 {
                for lane in 0..width {
                    lanes[lane] = lanes[lane].plus(lanes[lane + width]);
                }
                width /= 2;
            }
            let mut sum = lanes[0];
            for rest in whole..count {
                sum = sum.plus(L::single(at[index].add(rest)).times(*x.add(rest)));
            }
            *sums.add(index) = sum;
        }
    }
}

/// The body of [`Rows`], which reads `TOGETHER` lines at the same time and asks for those that come `AHEAD` lines later, if any.
///
/// # Safety
/// As `dots`.
#[inline(always)]
pub(super) unsafe fn rows<L: Widen<E>, E, const TOGETHER: usize, const AHEAD: usize>(
    x: *const L::Number,
    count: usize,
    lines: Lines,
    sums: *mut L::Number,
) {
    let whole = count / L::COUNT * L::COUNT;
    let mut first = 0;
    // SAFETY: promised by the caller.
    unsafe {
        let line = |index: usize| lines.start.add(index * lines.step).cast::<E>();
        while first + TOGETHER <= lines.count {
            let at: [*const E; TOGETHER] = std::array::from_fn(|index| line(first + index));
            let factors: [L::Number; TOGETHER] = std::array::from_fn(|index| *x.add(first + index));
            let wide = factors.map(|factor| L::fill(factor));
            for start in (0..whole).step_by(L::COUNT) {
                let mut sum = L::read(sums.add(start));
                let fresh = (start * size_of::<E>()).is_multiple_of(64);
                for index in 0..TOGETHER {
                    let from = at[index].add(start);
                    if fresh && AHEAD > 0 {
                        prefetch(from.cast::<u8>().wrapping_add(AHEAD * lines.step), 1);
                    }
                    sum = L::fused(L::widen(from), wide[index], sum);
                }
                L::store(sum, sums.add(start));
            }
            for (line, factor) in at.into_iter().zip(factors) {
                for rest in whole..count {
                    let sum = sums.add(rest);
                    *sum = (*sum).plus(L::single(line.add(rest)).times(factor));
                }
            }
            first += TOGETHER;
        }
        for index in first..lines.count {
            let factor = *x.add(index);
            for start in 0..count {
                let sum = sums.add(start);
                *sum = (*sum).plus(L::single(line(index).add(start)).times(factor));
            }
        }
    }
}

/// A piece of the matrix of about this many bytes is one task.
const PIECE: usize = 1 << 20;
/// Columns whose sums are held at a time: half a first-level cache.
const COLUMNS: usize = 4096;
/// The most parts that the inner size is cut into.
const PARTS: usize = 32;

/// Whether these kernels serve: a single row, and a matrix of contiguous lines.
pub(super) fn serves<T: Sums>(rows: usize, left: &Matrix<'_>, right: &Matrix<'_>) -> bool {
    rows == 1
        && (right.depth == 1 || right.lane == 1)
        && T::serves(left.dtype)
        && T::streams(right.dtype).is_some()
        && right.inner > 0
}

/// The product of a row and a matrix of `columns` lanes.
///
/// # Safety
/// As `gemm::multiply`, for factors that [`serves`] has accepted.
pub(super) unsafe fn multiply<T: Sums>(
    op: &'static str,
    columns: usize,
    (left, right): (&Matrix<'_>, &Matrix<'_>),
    target: &Target<T>,
    threads: usize,
) -> Result<()> {
    let Some(streams) = T::streams(right.dtype) else {
        return Ok(());
    };
    let inner = right.inner;
    let along = right.depth == 1;
    let parts = if along {
        0
    } else {
        let bytes = inner.saturating_mul(columns.min(COLUMNS)) * right.dtype.size();
        bytes.div_ceil(PIECE).min(PARTS).min(inner).max(1)
    };
    let own = if along && left.dtype == right.dtype {
        T::own_dots(right.dtype)
    } else {
        None
    };
    let more = if own.is_some() { inner } else { 0 };
    let numbers = inner.saturating_add(parts.saturating_mul(columns).max(more));
    let held = Block::allocate(op, numbers.saturating_mul(size_of::<T>()))?;
    let x = held.start().cast::<T>();
    let sums = x.wrapping_add(inner);
    let product = Product {
        x: if own.is_some() { sums } else { x },
        sums,
        right: *right,
        columns,
        parts,
        target: *target,
    };
    // SAFETY: promised by the caller; the block has room for the vector and for all parts' sums.
    unsafe {
        x.write_bytes(0, numbers);
        let vector = std::slice::from_raw_parts_mut(x, inner);
        T::gather(left.start, left.depth, left.dtype, vector);
        if let Some(dots) = own {
            T::scatter(vector, sums.cast(), 1, right.dtype);
            product.dots((1, dots), threads);
        } else if along {
            product.dots((streams.together, streams.dots), threads);
        } else {
            product.rows(streams, threads);
        }
    }
    Ok(())
}

/// What the threads of a product share.
struct Product<'a, T> {
    /// The vector, in the form that the kernel reads.
    x: *const T,
    sums: *mut T,
    right: Matrix<'a>,
    columns: usize,
    parts: usize,
    target: Target<T>,
}

// SAFETY: threads read the factors and write sums and elements of their own.
unsafe impl<T> Sync for Product<'_, T> {}

/// Runs `body` for every task, on several threads if more than one is to be used.
fn share(tasks: usize, threads: usize, body: impl Fn(usize) + Sync) {
    let grain = if threads > 1 { 1 } else { usize::MAX };
    par::ranges(tasks, grain, |tasks| tasks.for_each(&body));
}

impl<T: Lane> Product<'_, T> {
    fn lines(&self, lane: usize, depth: usize, step: usize, count: usize) -> Lines {
        let size = self.right.dtype.size();
        let offset = lane * self.right.lane + depth * self.right.depth;
        Lines {
            start: self.right.start.wrapping_add(offset * size),
            step: step * size,
            count,
        }
    }

    /// # Safety
    /// The columns must be elements of the target that nobody else touches.
    unsafe fn finish(&self, column: usize, sums: &mut [T]) {
        let target = &self.target;
        for sum in sums.iter_mut() {
            *sum = sum.times(target.scale);
        }
        let (to, from) = (column * target.column, column * target.from_column);
        let finish = Finish {
            to: target.to.wrapping_add(to * target.dtype.size()),
            dtype: target.dtype,
            row: target.row,
            column: target.column,
            from: if target.from.is_null() {
                target.from
            } else {
                target.from.wrapping_add(from)
            },
            from_row: target.from_row,
            from_column: target.from_column,
            scale: target.scale,
            columns: sums.len(),
        };
        // SAFETY: promised by the caller.
        unsafe { scatter(sums, sums.len(), 1, &finish) };
    }

    /// Lines along the inner size: a dot product each.
    ///
    /// # Safety
    /// As `multiply`.
    unsafe fn dots(&self, (together, dots): (usize, Dots<T>), threads: usize) {
        let inner = self.right.inner;
        let piece = PIECE / (inner * self.right.dtype.size()).max(1);
        let piece = (piece / together * together).clamp(together, 256);
        share(self.columns.div_ceil(piece), threads, |task| {
            let start = task * piece;
            let count = piece.min(self.columns - start);
            let mut sums = [T::ZERO; 256];
            for first in (0..count).step_by(together) {
                let lanes = together.min(count - first);
                let lines = self.lines(start + first, 0, self.right.lane, lanes);
                // SAFETY: the lanes exist, and the sums have room for them.
                unsafe { dots(self.x, inner, lines, sums.as_mut_ptr().add(first)) };
            }
            // SAFETY: each task has its own columns.
            unsafe { self.finish(start, &mut sums[..count]) };
        });
    }

    /// Lines across: sums of multiples of them. The inner size is cut into parts that do not depend on the threads, whose sums
    /// are then added in order.
    ///
    /// # Safety
    /// As `multiply`.
    unsafe fn rows(&self, streams: &Streams<T>, threads: usize) {
        let inner = self.right.inner;
        share(
            self.columns.div_ceil(COLUMNS) * self.parts,
            threads,
            |task| {
                let (start, part) = (task / self.parts * COLUMNS, task % self.parts);
                let count = COLUMNS.min(self.columns - start);
                let depth = cut(inner, self.parts, part);
                let lines = self.lines(start, depth.start, self.right.depth, depth.len());
                let sums = self.sums.wrapping_add(part * self.columns + start);
                // SAFETY: the lines exist; every part has its own sums.
                unsafe {
                    let x = self.x.wrapping_add(depth.start);
                    (streams.rows)(x, count, lines, sums);
                }
            },
        );
        for start in (0..self.columns).step_by(256) {
            let count = 256.min(self.columns - start);
            let mut totals = [T::ZERO; 256];
            for part in 0..self.parts {
                let sums = self.sums.wrapping_add(part * self.columns + start);
                for (index, total) in totals[..count].iter_mut().enumerate() {
                    // SAFETY: the part's sums, which no thread writes any more.
                    *total = total.plus(unsafe { *sums.add(index) });
                }
            }
            // SAFETY: promised by the caller.
            unsafe { self.finish(start, &mut totals[..count]) };
        }
    }
}

/// The dtypes that a float lane reads matrices of.
pub(super) fn place(dtype: DType) -> usize {
    match dtype {
        DType::F16 => 1,
        DType::BF16 => 2,
        _ => 0,
    }
}
