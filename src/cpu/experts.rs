//! Rows between tokens and experts: ranks of a stable sort, weighted sums of rows, products of rows with rows.
//!
//! Knows rows of matrices and lists of them. Must not know who routes what.

use super::alloc::{collected, filled, lacks, workspace};
use super::dense::{chunks, into_dense};
use super::lane::Lane;
use super::simd::{self, Simd, vectorised};
use super::total::total2;
use super::view::{Host, HostMut};
use super::{par, rows};
use crate::error::Result;

/// The rank of each key in a stable sort.
pub(crate) fn ranks(op: &'static str, keys: &[i64]) -> Result<Vec<i32>> {
    let (low, high) = keys.iter().fold((i64::MAX, i64::MIN), |(low, high), key| {
        (low.min(*key), high.max(*key))
    });
    let span = high
        .checked_sub(low)
        .and_then(|span| usize::try_from(span).ok());
    match span.filter(|span| *span <= 4 * keys.len()) {
        Some(span) => by_counting(op, keys, low, span + 1),
        None => by_comparing(op, keys),
    }
}

/// Where the slots of each value begin in a list sorted by value; values are below `count`.
fn starts(
    op: &'static str,
    values: impl Iterator<Item = usize>,
    count: usize,
) -> Result<Vec<usize>> {
    let mut starts = workspace(op, 0, count + 1)?;
    for value in values {
        if let Some(next) = starts.get_mut(value + 1) {
            *next += 1;
        }
    }
    for value in 0..count {
        starts[value + 1] += starts[value];
    }
    Ok(starts)
}

/// For keys from `low` on, of which there are `values`.
fn by_counting(op: &'static str, keys: &[i64], low: i64, values: usize) -> Result<Vec<i32>> {
    let mut starts = starts(op, keys.iter().map(|key| (key - low) as usize), values)?;
    let rank = |key: &i64| {
        let start = &mut starts[(key - low) as usize];
        *start += 1;
        (*start - 1) as i32
    };
    collected(op, keys.iter().map(rank))
}

fn by_comparing(op: &'static str, keys: &[i64]) -> Result<Vec<i32>> {
    let mut order = collected(op, 0..keys.len())?;
    order.sort_unstable_by_key(|slot| (keys.get(*slot).copied(), *slot));
    let mut ranks = workspace(op, 0, keys.len())?;
    for (rank, slot) in order.into_iter().enumerate() {
        ranks[slot] = rank as i32;
    }
    Ok(ranks)
}

/// Rows of one matrix, read as lanes.
struct Reader<'a, T> {
    x: &'a Host<'a>,
    row: usize,
    column: usize,
    width: usize,
    buffer: Vec<T>,
}

impl<'a, T: Lane> Reader<'a, T> {
    fn new(x: &'a Host<'a>) -> Self {
        let (dims, strides) = (x.layout().dims(), x.layout().strides());
        let (row, column, width) = match (dims, strides) {
            ([_, width], [row, column]) => (*row, *column, *width),
            _ => (0, 0, 0),
        };
        let direct = x.dtype() == T::DTYPE && column == 1;
        Reader {
            x,
            row,
            column,
            width,
            buffer: filled(T::ZERO, if direct { 0 } else { width }),
        }
    }

    /// Asks for a row that will be read soon, if it lies without gaps; any number will do.
    fn ask(&self, row: usize) {
        if self.column == 1 {
            let size = self.x.dtype().size();
            let offset = row.wrapping_mul(self.row).wrapping_mul(size);
            let start = self.x.layout().offset() * size;
            let from = self.x.start().wrapping_add(start.wrapping_add(offset));
            simd::prefetch(from, self.width * size);
        }
    }

    fn row(&mut self, row: usize) -> &[T] {
        debug_assert!(row < self.x.shape().size(0));
        let offset = self.x.layout().offset() + row * self.row;
        let size = self.x.dtype().size();
        let from = self.x.start().wrapping_add(offset * size);
        if self.buffer.len() == self.width {
            // SAFETY: callers name rows of the matrix, whose elements `Host::new` promised; the lane serves the dtype.
            unsafe { T::gather(from, self.column, self.x.dtype(), &mut self.buffer) };
            return &self.buffer;
        }
        // SAFETY: as above, and the elements are `T`s in a row.
        unsafe { std::slice::from_raw_parts(from.cast(), self.width) }
    }
}

/// Terms after those of a row whose sources are asked for while it is summed.
const SOON: usize = 2;

/// For each row of a result, the rows of a source that are summed, and their weights.
#[derive(Debug)]
pub(crate) struct Sums<T> {
    starts: Vec<usize>,
    terms: Vec<(usize, T)>,
}

impl<T: Lane> Sums<T> {
    /// From `each` terms a row in a row; the sources must be rows of the source matrix.
    pub fn in_turn(
        op: &'static str,
        (rows, each): (usize, usize),
        terms: impl ExactSizeIterator<Item = (usize, T)>,
    ) -> Result<Self> {
        Ok(Sums {
            starts: collected(op, (0..rows + 1).map(|row| row * each))?,
            terms: collected(op, terms)?,
        })
    }

    /// From the row that each slot's term goes to, and the terms of the slots, which each row takes in their order.
    pub fn by_place(
        op: &'static str,
        (places, rows): (&[i64], usize),
        term: impl Fn(usize) -> (usize, T),
    ) -> Result<Self> {
        let slots = || places.iter().map(|place| *place as usize).enumerate();
        let starts = starts(op, slots().map(|(_, place)| place), rows)?;
        let mut next = collected(op, starts.iter().copied())?;
        let mut terms = workspace(op, (0, T::ZERO), places.len())?;
        for (slot, place) in slots().filter(|(_, place)| *place < rows) {
            if let Some(to) = terms.get_mut(next[place]) {
                *to = term(slot);
            }
            next[place] += 1;
        }
        Ok(Sums { starts, terms })
    }

    /// `y[r] = sum(weight x[source])`; both are matrices of one width, and the sources are checked against `x`.
    pub fn run(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        let limit = x.shape().size(0);
        let mask = rows::last(2, 1);
        let simd = Simd::best();
        rows::rows::<T, 0, 1>([], [y], &mask, |row, [], [y]| {
            let range = self.starts[row]..self.starts[row + 1];
            let mut reader = Reader::<T>::new(x);
            if lacks() {
                return;
            }
            for (source, _) in self.terms.iter().skip(range.end).take(SOON) {
                reader.ask(*source);
            }
            let terms = self.terms[range].iter();
            let mut terms = terms.filter(|(source, _)| *source < limit);
            match terms.next() {
                None => y.fill(T::ZERO),
                Some((source, weight)) => vectorised!(simd, {
                    for (y, x) in y.iter_mut().zip(reader.row(*source)) {
                        *y = T::ZERO.plus(x.times(*weight));
                    }
                }),
            }
            for (source, weight) in terms {
                let x = reader.row(*source);
                vectorised!(simd, {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = y.plus(x.times(*weight));
                    }
                });
            }
        });
    }
}

/// `z[i] = x[a] . y[b]` for the pairs `(a, b)` in the row-major order of `z`; both are matrices of one width.
pub(crate) fn dots<T: Lane>(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    pairs: &[(usize, usize)],
    z: &mut HostMut<'_>,
) -> Result<()> {
    let limits = (x.shape().size(0), y.shape().size(0));
    let (simd, grain) = (Simd::best(), par::GRAIN / x.shape().size(1).max(1));
    into_dense::<T>(op, z, |z| {
        chunks(z, 1, grain.max(1), |at, z| {
            let Some((a, b)) = pairs
                .get(at)
                .filter(|(a, b)| *a < limits.0 && *b < limits.1)
            else {
                return z.fill(T::ZERO);
            };
            let (mut left, mut right) = (Reader::<T>::new(x), Reader::<T>::new(y));
            if lacks() {
                return;
            }
            if let Some((a, b)) = pairs.get(at + SOON) {
                left.ask(*a);
                right.ask(*b);
            }
            let (x, y) = (left.row(*a), right.row(*b));
            z.fill(vectorised!(simd, total2(x, y, |x, y| x.times(y))));
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_a_stable_sort() {
        for keys in [
            &[3, 1, 3, 0, 1][..],
            &[i64::MAX, i64::MIN, 0, i64::MAX],
            &[],
        ] {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by_key(|at| keys[*at]);
            let ranks = ranks("test", keys).expect("memory");
            for (rank, at) in order.iter().enumerate() {
                assert_eq!(ranks[*at], rank as i32);
            }
        }
    }
}
