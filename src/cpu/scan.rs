//! Running sums of rows that lie one after the other: eight or sixteen rows side by side, so that each is a lane of a register.
//!
//! Knows row-major memory of singles and squares of it. Must not know ops. Other layouts go line by line.

use super::par;
use super::simd::{self, Simd, SimdLevel, vectorised};
use super::transpose::{SIDE, square};
use super::view::{Host, HostMut};

/// Columns that are taken at once.
const COLUMNS: usize = 64;
/// Rows that AVX-512 takes at once.
const TALL: usize = 16;
/// Outputs of at least so many bytes are written past the caches.
const STREAMED: usize = 12 << 20;

/// The same columns of a few rows: column by column, and row by row.
struct Sheet {
    columns: [[f32; SIDE]; COLUMNS],
    rows: [[f32; COLUMNS]; SIDE],
}

/// The address of the output, made shareable between threads.
struct Start(*mut f32);

// SAFETY: threads write disjoint rows.
unsafe impl Sync for Start {}

/// `y[.., i] = x[.., 0] + .. + x[.., i]` in double precision, which sums of singles cannot leave. False, with nothing done, if the
/// two are not row-major singles of several rows.
pub(crate) fn running_sums(x: &Host<'_>, y: &mut HostMut<'_>) -> bool {
    let length = x.shape().dims().last().copied().unwrap_or(0);
    let (Some(from), Some(to)) = (x.as_slice::<f32>(), y.as_mut_slice::<f32>()) else {
        return false;
    };
    if length < SIDE || from.len() != to.len() || from.len() / length < SIDE {
        return false;
    }
    let rows = from.len() / length;
    let streamed = size_of_val(to) >= STREAMED;
    let (start, simd) = (Start(to.as_mut_ptr()), Simd::best());
    let tall = if simd.level() == SimdLevel::Avx512 {
        TALL
    } else {
        SIDE
    };
    let grain = (par::GRAIN / (tall * length)).max(1);
    par::ranges(rows.div_ceil(tall), grain, |groups| {
        let start = &start;
        let mut sheet = Sheet {
            columns: [[0.0; SIDE]; COLUMNS],
            rows: [[0.0; COLUMNS]; SIDE],
        };
        for group in groups {
            let range = group * tall..rows.min((group + 1) * tall);
            #[cfg(target_arch = "x86_64")]
            if range.len() == TALL {
                let from = &from[range.start * length..range.end * length];
                let to = start.0.wrapping_add(range.start * length);
                // SAFETY: the group's rows lie in both, only this thread has them, and the CPU has AVX-512: else no group is
                // so tall.
                unsafe { x86::sixteen_rows(from, to, length, streamed) };
                continue;
            }
            for first in range.clone().step_by(SIDE) {
                let count = SIDE.min(range.end - first);
                let from = &from[first * length..];
                let to = start.0.wrapping_add(first * length);
                // SAFETY: the rows lie in the output, and only this thread has them.
                unsafe { sheet.rows_of(simd, from, to, [count, length], streamed) };
            }
        }
        if streamed {
            simd::fence();
        }
    });
    true
}

/// Replaces each column by the sums up to it.
#[inline(always)]
fn add_up(sums: &mut [f64; SIDE], columns: &mut [[f32; SIDE]]) {
    for column in columns {
        for lane in 0..SIDE {
            sums[lane] += f64::from(column[lane]);
            column[lane] = sums[lane] as f32;
        }
    }
}

impl Sheet {
    /// The sums of a few rows.
    ///
    /// # Safety
    /// The rows must be writable at `to`, which is other memory.
    unsafe fn rows_of(
        &mut self,
        simd: Simd,
        from: &[f32],
        to: *mut f32,
        [count, length]: [usize; 2],
        streamed: bool,
    ) {
        let mut sums = [0.0f64; SIDE];
        for column in (0..length).step_by(COLUMNS) {
            let width = COLUMNS.min(length - column);
            self.read(&from[column..], length, [count, width]);
            vectorised!(simd, add_up(&mut sums, &mut self.columns[..width]));
            self.turn(width);
            for (index, row) in self.rows[..count].iter().enumerate() {
                let to = to.wrapping_add(column + index * length);
                // SAFETY: the row's columns lie in the output.
                unsafe {
                    if streamed {
                        simd::stream(row.as_ptr().cast(), to.cast(), 4 * width);
                    } else {
                        std::ptr::copy_nonoverlapping(row.as_ptr(), to, width);
                    }
                }
            }
        }
    }

    /// Reads the first columns of rows that begin `length` elements apart.
    fn read(&mut self, from: &[f32], length: usize, [count, width]: [usize; 2]) {
        let whole = if count == SIDE {
            width / SIDE * SIDE
        } else {
            0
        };
        let turn = square::<f32>();
        for column in (0..whole).step_by(SIDE) {
            let (from, to) = (from[column..].as_ptr(), self.columns[column..].as_mut_ptr());
            // SAFETY: there are as many rows and columns as the square has, on both sides.
            unsafe { turn(from.cast(), 4 * length, to.cast(), SIDE) };
        }
        for row in 0..count {
            for column in whole..width {
                self.columns[column][row] = from[row * length + column];
            }
        }
    }

    /// Makes rows of the columns; beyond `width` they hold anything.
    fn turn(&mut self, width: usize) {
        let turn = square::<f32>();
        for column in (0..width).step_by(SIDE) {
            let from = self.columns[column..].as_ptr();
            let to = self.rows.as_mut_ptr().cast::<f32>().wrapping_add(column);
            // SAFETY: both have whole squares, for the number of all columns is a multiple of their side.
            unsafe { turn(from.cast(), 4 * SIDE, to, COLUMNS) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::TALL;
    use crate::cpu::transpose::x86::turned;

    /// How many elements ahead of those that are read the rows are asked for.
    const AHEAD: usize = 32;

    /// The sums of sixteen rows, whose squares are turned in registers both before and after.
    ///
    /// # Safety
    /// `from` has the rows, and so many elements must be writable at `to`, which is other memory; the CPU has AVX-512.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn sixteen_rows(from: &[f32], to: *mut f32, length: usize, streamed: bool) {
        let lined = streamed && to.addr().is_multiple_of(64) && length.is_multiple_of(TALL);
        let (mut low, mut high) = (_mm512_setzero_pd(), _mm512_setzero_pd());
        let whole = length / TALL * TALL;
        for column in (0..whole).step_by(TALL) {
            let rows: [__m512; TALL] = std::array::from_fn(|row| {
                let from = from.as_ptr().wrapping_add(row * length + column);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                // SAFETY: sixteen elements of the row.
                unsafe { _mm512_loadu_ps(from) }
            });
            // A loop, for the compiler does not inline `map`.
            let mut sums = turned(rows);
            for sum in &mut sums {
                low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(*sum)));
                high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(*sum)));
                let lower = _mm512_castps256_ps512(_mm512_cvtpd_ps(low));
                *sum = _mm512_insertf32x8::<1>(lower, _mm512_cvtpd_ps(high));
            }
            for (row, sums) in turned(sums).into_iter().enumerate() {
                let to = to.wrapping_add(row * length + column);
                // SAFETY: sixteen elements of the row, where a line of the cache begins if all rows begin with one.
                unsafe {
                    if lined {
                        _mm512_stream_ps(to, sums);
                    } else {
                        _mm512_storeu_ps(to, sums);
                    }
                }
            }
        }
        let mut sums = [0.0f64; TALL];
        let (halves, _) = sums.as_chunks_mut::<8>();
        for (half, sums) in halves.iter_mut().zip([low, high]) {
            // SAFETY: there are as many numbers as a register has.
            unsafe { _mm512_storeu_pd(half.as_mut_ptr(), sums) };
        }
        for (row, (x, sum)) in from.chunks_exact(length).zip(&mut sums).enumerate() {
            for (column, x) in x.iter().enumerate().skip(whole) {
                *sum += f64::from(*x);
                // SAFETY: an element of the row.
                unsafe { *to.add(row * length + column) = *sum as f32 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn sums_run_along_each_row() {
        for (rows, length) in [
            (8, 8),
            (9, 64),
            (19, 131),
            (40, 65),
            (1000, 3300),
            (1024, 3200),
        ] {
            let shape = Shape::from([rows, length]);
            let x: Vec<f32> = (0..rows * length)
                .map(|index| (index * 7919 % 1013) as f32 * 0.37 - 150.0)
                .collect();
            let mut y = vec![f32::NAN; x.len()];
            let views = (
                Host::from_slice(&x, &shape),
                HostMut::from_slice(&mut y, &shape),
            );
            let (Some(from), Some(mut to)) = views else {
                unreachable!("slices of that many elements");
            };
            assert!(running_sums(&from, &mut to));
            for (x, y) in x.chunks(length).zip(y.chunks(length)) {
                let mut sum = 0.0;
                for (x, y) in x.iter().zip(y) {
                    sum += f64::from(*x);
                    assert_eq!(*y, sum as f32, "{rows} x {length}");
                }
            }
        }
    }
}
