//! Running sums of rows that lie one after the other: eight rows side by side, so that each is a lane of a register.
//!
//! Knows row-major memory of singles and squares of it. Must not know ops. Other layouts go line by line.

use super::par;
use super::simd::{self, Simd, vectorised};
use super::transpose::{SIDE, square};
use super::view::{Host, HostMut};

/// Columns that are taken at once.
const COLUMNS: usize = 64;
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
    let grain = (par::GRAIN / (SIDE * length)).max(1);
    par::ranges(rows.div_ceil(SIDE), grain, |groups| {
        let start = &start;
        let mut sheet = Sheet {
            columns: [[0.0; SIDE]; COLUMNS],
            rows: [[0.0; COLUMNS]; SIDE],
        };
        for first in groups.map(|group| group * SIDE) {
            let count = SIDE.min(rows - first);
            let mut sums = [0.0f64; SIDE];
            for column in (0..length).step_by(COLUMNS) {
                let width = COLUMNS.min(length - column);
                let place = first * length + column;
                sheet.read(&from[place..], length, [count, width]);
                vectorised!(simd, add_up(&mut sums, &mut sheet.columns[..width]));
                sheet.turn(width);
                for (index, row) in sheet.rows[..count].iter().enumerate() {
                    let to = start.0.wrapping_add(place + index * length);
                    // SAFETY: the row's columns lie in the output, and only this thread has them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn sums_run_along_each_row() {
        for (rows, length) in [(8, 8), (9, 64), (19, 131), (40, 65), (1000, 3300)] {
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
