//! Pooling over planes: the maximum and the mean of windows, and their gradients.
//!
//! Knows windows of rows and columns and row-major slices. Must not know how an op describes its windows.

use std::ops::Range;

use super::alloc::{filled, lacks};
use super::dense::{chunk_pairs, chunks};
use super::lane::Lane;
use super::simd::{self, Simd, vectorised};

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
/// Bytes before they are read memory is asked for them, and at most so many lines at a time.
const AHEAD: usize = 4096;
const LINES: usize = 4;
/// Elements of windows that are worth a thread.
const GRAIN: usize = 32 * 1024;

/// Elements that are joined at a time, in registers: a vector or two.
const CHUNK: usize = 16;

/// Joins the elements of lines, one line after another, to those before: three lines at a time, so that what is joined stays in
/// registers.
#[inline(always)]
fn join_lines<'x, T: Lane>(
    joined: &mut [T],
    mut lines: impl Iterator<Item = &'x [T]>,
    join: impl Fn(T, T) -> T + Copy,
) {
    while let Some(a) = lines.next() {
        let next = lines.next();
        if let Some((b, c)) = next.zip(lines.next()) {
            join_three(joined, [a, b, c], |[a, b, c], before| {
                join(c, join(b, join(a, before)))
            });
        } else {
            for line in [Some(a), next].into_iter().flatten() {
                join_three(joined, [line; 3], |[x, _, _], before| join(x, before));
            }
            return;
        }
    }
}

/// Joins the elements of three lines to those before: chunks, then what is left.
#[inline(always)]
fn join_three<T: Lane>(joined: &mut [T], lines: [&[T]; 3], join: impl Fn([T; 3], T) -> T) {
    let (chunks, rest) = joined.as_chunks_mut::<CHUNK>();
    let [a, b, c] = lines.map(|line| line.as_chunks::<CHUNK>().0);
    let done = chunks.len() * CHUNK;
    for (((joined, a), b), c) in chunks.iter_mut().zip(a).zip(b).zip(c) {
        for lane in 0..CHUNK {
            joined[lane] = join([a[lane], b[lane], c[lane]], joined[lane]);
        }
    }
    let [a, b, c] = lines.map(|line| line.get(done..).unwrap_or_default());
    for (((joined, a), b), c) in rest.iter_mut().zip(a).zip(b).zip(c) {
        *joined = join([*a, *b, *c], *joined);
    }
}

/// The first of each `APART` elements.
#[inline(always)]
fn firsts<T: Lane, const APART: usize>(line: &[T], to: &mut [T]) {
    for (to, group) in to.iter_mut().zip(line.as_chunks::<APART>().0) {
        *to = group[0];
    }
}

/// The windows of columns that follow each other at one distance and have one length, and room for a line.
struct Regular<T> {
    /// Which windows.
    range: Range<usize>,
    /// Where the first of them begins.
    from: usize,
    apart: usize,
    long: usize,
    /// The rows of a window joined, with elements behind them that nobody asks for.
    held: Vec<T>,
    /// Elements of `turned` for each place before the next window begins.
    room: usize,
    /// The elements of `held` from `from` on, those that lie `apart` elements from each other in a row.
    turned: Vec<T>,
    /// The results: whole chunks, too.
    made: Vec<T>,
}

impl<T: Lane> Regular<T> {
    fn new(width: usize, range: Range<usize>, from: usize, [apart, long]: [usize; 2]) -> Self {
        let made = range.len().next_multiple_of(CHUNK);
        let room = (made + long / apart).next_multiple_of(CHUNK);
        let held = width.max(from + (room + 1) * apart);
        Regular {
            range,
            from,
            apart,
            long,
            held: filled(T::ZERO, held),
            room,
            turned: filled(T::ZERO, room * apart),
            made: filled(T::ZERO, made),
        }
    }

    /// Joins the elements of each regular window in `held`.
    #[inline(always)]
    fn fold(&mut self, y: &mut [T], (start, join): (T, impl Fn(T, T) -> T + Copy)) {
        let (room, apart) = (self.room, self.apart);
        for (place, to) in self.turned.chunks_exact_mut(room).enumerate() {
            let line = self.held.get(self.from + place..).unwrap_or_default();
            match apart {
                1 => firsts::<T, 1>(line, to),
                2 => firsts::<T, 2>(line, to),
                3 => firsts::<T, 3>(line, to),
                _ => firsts::<T, SPARSE>(line, to),
            }
        }
        self.made.fill(start);
        let (turned, made) = (&self.turned, &mut self.made);
        let count = made.len();
        let lines = (0..self.long).map(|offset| {
            let first = offset % apart * room + offset / apart;
            &turned[first..first + count]
        });
        join_lines(made, lines, join);
        y[self.range.clone()].copy_from_slice(&made[..self.range.len()]);
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
                let (x, mut regular) = (&x[index * plane..][..plane], self.regular());
                let larger = |a: T, b: T| a.larger(b);
                vectorised!(simd, self.folded(x, y, &mut regular, (T::LOWEST, larger)));
            }),
        }
    }

    /// The regular windows, and room for a line of lanes.
    fn regular<T: Lane>(&self) -> Regular<T> {
        let middle = self.columns.len() / 2;
        let near = self.columns.get(middle).zip(self.columns.get(middle + 1));
        let near = near.filter(|(one, next)| {
            one.step == 1 && one.start < next.start && next.start - one.start <= SPARSE
        });
        let (range, apart, long) = near.map_or((0..0, 1, 1), |(one, next)| {
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
            (range, apart, long)
        });
        let from = self.columns.get(range.start).map_or(0, |own| own.start);
        Regular::new(self.size[1], range, from, [apart, long])
    }

    /// Joins the elements of each window of a plane, its rows first, line by line; regular windows of columns all at once.
    #[inline(always)]
    fn folded<T: Lane>(
        &self,
        x: &[T],
        y: &mut [T],
        regular: &mut Regular<T>,
        (start, join): (T, impl Fn(T, T) -> T + Copy),
    ) {
        if lacks() {
            return;
        }
        let width = self.size[1];
        let lines = y.chunks_exact_mut(self.columns.len().max(1));
        let mut asked = 0;
        for (row, y) in self.rows.iter().zip(lines) {
            // The plane's next rows, and the next plane's.
            let fresh = row.end.saturating_sub(asked).min(LINES) * width * size_of::<T>();
            let next = x.as_ptr().wrapping_add(row.end * width).cast::<u8>();
            simd::prefetch(next.wrapping_add(AHEAD), fresh);
            asked = row.end;
            let held = &mut regular.held[..width];
            held.fill(start);
            join_lines(
                held,
                row.positions().map(|line| &x[line * width..][..width]),
                join,
            );
            regular.fold(y, (start, join));
            let (before, after) = (
                0..regular.range.start,
                regular.range.end..self.columns.len(),
            );
            for index in before.chain(after) {
                y[index] = self.columns[index].fold(&regular.held, start, join);
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
            let (x, mut regular) = (&x[index * plane..][..plane], self.regular());
            vectorised!(simd, {
                self.folded(x, y, &mut regular, (T::ZERO, |a: T, b: T| a.plus(b)));
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
