//! Pooling over planes: the maximum and the mean of windows, and their gradients.
//!
//! Knows windows of rows and columns and row-major slices. Must not know how an op describes its windows.

use std::ops::Range;

use super::conv_dense::{chunk_pairs, chunks};
use super::lane::Lane;
use super::simd::{Simd, vectorised};

/// A window along one dim: the positions `start, start + step, ..` before `end`, which lie inside the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub start: usize,
    pub end: usize,
    pub step: usize,
    /// The length with the padding that counts in a mean.
    pub padded: usize,
}

impl Window {
    /// The positions.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (self.start..self.end).step_by(self.step)
    }

    /// Folds the elements of a line at the positions.
    #[inline(always)]
    fn fold<T: Lane>(self, line: &[T], start: T, join: impl Fn(T, T) -> T) -> T {
        if self.step == 1 {
            let line = line.get(self.start..self.end).unwrap_or(&[]);
            return line.iter().fold(start, |sum, x| join(*x, sum));
        }
        self.positions()
            .fold(start, |sum, place| join(line[place], sum))
    }

    /// The number of positions.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start).div_ceil(self.step)
    }
}

/// The windows of a plane: every window of rows with every window of columns.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    pub size: [usize; 2],
    pub rows: Vec<Window>,
    pub columns: Vec<Window>,
}

/// What the sum over a window is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Divisor {
    /// The number of its positions.
    Inside,
    /// Its positions and the padding that it covers.
    Padded,
    /// This number.
    Fixed(i64),
}

/// Windows further apart than this are folded one by one.
const SPARSE: usize = 4;
/// Elements of windows that are worth a thread.
const GRAIN: usize = 32 * 1024;

/// Joins the elements of a line to those before.
#[inline(always)]
fn join_line<T: Lane>(joined: &mut [T], line: &[T], join: impl Fn(T, T) -> T) {
    for (joined, x) in joined.iter_mut().zip(line) {
        *joined = join(*x, *joined);
    }
}

/// The first of each `APART` elements.
#[inline(always)]
fn firsts<T: Lane, const APART: usize>(line: &[T], to: &mut [T]) {
    for (to, group) in to.iter_mut().zip(line.as_chunks::<APART>().0) {
        *to = group[0];
    }
}

impl Windows {
    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    fn grain(&self) -> usize {
        (GRAIN / self.plane().max(self.count()).max(1)).max(1)
    }

    /// The sum over each window's divisor, as numbers of lanes.
    fn divisor<T: Lane>(divisor: Divisor, row: Window, column: Window) -> T {
        T::from_i64(match divisor {
            Divisor::Inside => (row.len() * column.len()) as i64,
            Divisor::Padded => (row.padded * column.padded) as i64,
            Divisor::Fixed(number) => number,
        })
    }

    /// The largest element of each window, NaN above all; and where it stands in its plane, the first of equals.
    pub fn max<T: Lane>(&self, x: &[T], y: &mut [T], indices: Option<&mut [i64]>) {
        let (plane, simd) = (self.plane(), Simd::best());
        match indices {
            Some(indices) => chunk_pairs(
                y,
                indices,
                self.count(),
                self.grain(),
                |index, y, indices| {
                    vectorised!(
                        simd,
                        self.max_plane(&x[index * plane..][..plane], y, indices)
                    );
                },
            ),
            None => chunks(y, self.count(), self.grain(), |index, y| {
                self.folded(&x[index * plane..][..plane], y, T::LOWEST, T::larger);
            }),
        }
    }

    /// The windows of columns that follow each other at one distance and have one length: which, and both numbers.
    fn regular(&self) -> (Range<usize>, [usize; 2]) {
        let middle = self.columns.len() / 2;
        let near = self.columns.get(middle).zip(self.columns.get(middle + 1));
        let Some((one, next)) = near.filter(|(one, next)| one.step == 1 && one.start < next.start)
        else {
            return (0..0, [1, 1]);
        };
        let (apart, long) = (next.start - one.start, one.len());
        let fits = |index: usize| {
            let window = &self.columns[index];
            let start = (one.start + index * apart).checked_sub(middle * apart);
            window.step == 1 && window.len() == long && start == Some(window.start)
        };
        let first = (0..middle).rev().take_while(|index| fits(*index)).last();
        let last = (middle..self.columns.len())
            .take_while(|index| fits(*index))
            .last();
        let range = first.unwrap_or(middle)..last.map_or(middle, |last| last + 1);
        if apart > SPARSE {
            (0..0, [1, 1])
        } else {
            (range, [apart, long])
        }
    }

    /// Joins the elements of each window, its rows first, line by line; regular windows of columns all at once.
    fn folded<T: Lane>(&self, x: &[T], y: &mut [T], start: T, join: impl Fn(T, T) -> T + Copy) {
        let (width, simd) = (self.size[1], Simd::best());
        let mut held = vec![start; width];
        let (regular, [apart, long]) = self.regular();
        let from = self
            .columns
            .get(regular.start)
            .map_or(0, |column| column.start);
        let mut joined = vec![start; regular.len() * apart];
        let lines = y.chunks_exact_mut(self.columns.len().max(1));
        for (row, y) in self.rows.iter().zip(lines) {
            held.fill(start);
            for line in row.positions() {
                let x = &x[line * width..][..width];
                vectorised!(simd, join_line(&mut held, x, join));
            }
            joined.fill(start);
            for offset in from..from + long {
                vectorised!(simd, join_line(&mut joined, &held[offset..], join));
            }
            let inside = &mut y[regular.clone()];
            vectorised!(simd, {
                match apart {
                    1 => inside.copy_from_slice(&joined),
                    2 => firsts::<T, 2>(&joined, inside),
                    3 => firsts::<T, 3>(&joined, inside),
                    _ => firsts::<T, SPARSE>(&joined, inside),
                }
            });
            let (before, after) = (0..regular.start, regular.end..self.columns.len());
            for index in before.chain(after) {
                y[index] = self.columns[index].fold(&held, start, join);
            }
        }
    }

    #[inline(always)]
    fn max_plane<T: Lane>(&self, x: &[T], y: &mut [T], indices: &mut [i64]) {
        let width = self.size[1];
        let last = x.len().saturating_sub(1);
        let mut count = 0;
        for row in &self.rows {
            for column in &self.columns {
                let mut at = (row.start * width + column.start).min(last);
                let mut best = T::LOWEST;
                for line in row.positions() {
                    for place in column.positions() {
                        let now = x[line * width + place];
                        if now > best || now.is_nan() {
                            (best, at) = (now, line * width + place);
                        }
                    }
                }
                y[count] = best;
                if let Some(index) = indices.get_mut(count) {
                    *index = at as i64;
                }
                count += 1;
            }
        }
    }

    /// Each gradient to the element that its index names; indices outside a plane name none.
    pub fn max_gradient<T: Lane>(&self, dy: &[T], indices: &[i64], dx: &mut [T]) {
        let count = self.count();
        chunks(dx, self.plane(), self.grain(), |index, dx| {
            dx.fill(T::ZERO);
            let range = index * count..(index + 1) * count;
            for (dy, at) in dy[range.clone()].iter().zip(&indices[range]) {
                if let Some(dx) = usize::try_from(*at).ok().and_then(|at| dx.get_mut(at)) {
                    *dx = dx.plus(*dy);
                }
            }
        });
    }

    /// The mean of each window.
    pub fn mean<T: Lane>(&self, x: &[T], divisor: Divisor, y: &mut [T]) {
        let (plane, simd) = (self.plane(), Simd::best());
        chunks(y, self.count(), self.grain(), |index, y| {
            let x = &x[index * plane..][..plane];
            self.folded(x, y, T::ZERO, T::plus);
            vectorised!(simd, {
                let mut y = y.iter_mut();
                for row in &self.rows {
                    for (column, y) in self.columns.iter().zip(y.by_ref()) {
                        *y = y.over(Self::divisor(divisor, *row, *column));
                    }
                }
            });
        });
    }

    /// Each gradient shared out among the elements of its window.
    pub fn mean_gradient<T: Lane>(&self, dy: &[T], divisor: Divisor, dx: &mut [T]) {
        let (count, width, simd) = (self.count(), self.size[1], Simd::best());
        chunks(dx, self.plane(), self.grain(), |index, dx| {
            dx.fill(T::ZERO);
            let mut dy = dy[index * count..][..count].iter();
            vectorised!(simd, {
                for row in &self.rows {
                    for (column, dy) in self.columns.iter().zip(dy.by_ref()) {
                        let share = dy.over(Self::divisor(divisor, *row, *column));
                        for line in row.positions() {
                            for place in column.positions() {
                                let dx = &mut dx[line * width + place];
                                *dx = dx.plus(share);
                            }
                        }
                    }
                }
            });
        });
    }
}
