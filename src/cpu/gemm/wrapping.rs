//! Products of integers, which wrap.
//!
//! Knows matrices of strides. Must not know batches.

use super::Sizes;
use crate::cpu::lane::Lane;
use crate::cpu::par;
use crate::cpu::simd::{Simd, vectorised};

/// One product of integers: addresses and strides of both factors and of the result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<T> {
    pub sizes: Sizes,
    pub a: *const T,
    pub b: *const T,
    pub z: *mut T,
    /// The row and column strides of the three.
    pub strides: [(usize, usize); 3],
    pub scale: T,
    /// Whether the product is added to what `z` holds.
    pub keep: bool,
}

// SAFETY: threads read the factors and write disjoint rows of `z`.
unsafe impl<T> Sync for Whole<T> {}

/// Columns whose sums are held at a time.
const COLUMNS: usize = 512;

impl<T: Lane> Whole<T> {
    /// Row by row, each a wrapping sum of rows of `b`.
    ///
    /// # Safety
    /// The matrices must lie in memory, and nobody else may touch `z`.
    pub unsafe fn run(&self, parallel: bool) {
        let Sizes {
            rows,
            inner,
            columns,
        } = self.sizes;
        let grain = if parallel {
            (super::SERIAL / inner.saturating_mul(columns).max(1)).max(1)
        } else {
            usize::MAX
        };
        par::ranges(rows, grain, |range| {
            for row in range {
                for start in (0..columns).step_by(COLUMNS) {
                    let count = COLUMNS.min(columns - start);
                    // SAFETY: as promised by the caller; only this thread has the row.
                    unsafe { self.row(row, start, count) };
                }
            }
        });
    }

    /// # Safety
    /// As `run`; the columns from `start` on must exist.
    unsafe fn row(&self, row: usize, start: usize, count: usize) {
        let [a_at, b_at, z_at] = self.strides;
        let (mut sums, mut line) = ([T::ZERO; COLUMNS], [T::ZERO; COLUMNS]);
        let (sums, line) = (&mut sums[..count], &mut line[..count]);
        let simd = Simd::best();
        for index in 0..self.sizes.inner {
            let from = self.b.wrapping_add(index * b_at.0 + start * b_at.1);
            // SAFETY: row `row` and column `index` of `a`, and row `index` of `b`, lie within their matrices.
            let factor = unsafe {
                T::gather(from.cast(), b_at.1, T::DTYPE, line);
                *self.a.add(row * a_at.0 + index * a_at.1)
            };
            vectorised!(simd, {
                for (sum, y) in sums.iter_mut().zip(line.iter()) {
                    *sum = sum.plus(factor.times(*y));
                }
            });
        }
        for (column, sum) in sums.iter().enumerate() {
            let at = row * z_at.0 + (start + column) * z_at.1;
            let to = self.z.wrapping_add(at);
            let sum = sum.times(self.scale);
            // SAFETY: the element lies within `z`, and only this thread has its row.
            unsafe { *to = if self.keep { (*to).plus(sum) } else { sum } };
        }
    }
}
