//! Rows between tokens and experts: ranks of a stable sort, weighted sums of rows, products of rows with rows.
//!
//! Knows rows of matrices and lists of them. Must not know who routes what.

use super::lane::Lane;
use super::simd::{Simd, vectorised};
use super::total::total2;
use super::view::{Host, HostMut};
use super::{map, rows};
use crate::shape::Shape;

/// The rank of each key in a stable sort.
pub(crate) fn ranks(keys: &[i64]) -> Vec<i32> {
    let (low, high) = keys.iter().fold((i64::MAX, i64::MIN), |(low, high), key| {
        (low.min(*key), high.max(*key))
    });
    let span = high
        .checked_sub(low)
        .and_then(|span| usize::try_from(span).ok());
    match span.filter(|span| *span <= 4 * keys.len()) {
        Some(span) => by_counting(keys, low, span + 1),
        None => by_comparing(keys),
    }
}

/// For keys from `low` on, of which there are `values`.
fn by_counting(keys: &[i64], low: i64, values: usize) -> Vec<i32> {
    let mut starts = vec![0; values + 1];
    for key in keys {
        starts[(key - low) as usize + 1] += 1;
    }
    for value in 0..values {
        starts[value + 1] += starts[value];
    }
    let rank = |key: &i64| {
        let start = &mut starts[(key - low) as usize];
        *start += 1;
        *start - 1
    };
    keys.iter().map(rank).collect()
}

fn by_comparing(keys: &[i64]) -> Vec<i32> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|slot| keys.get(*slot).copied());
    let mut ranks = vec![0; keys.len()];
    for (rank, slot) in order.into_iter().enumerate() {
        ranks[slot] = rank as i32;
    }
    ranks
}

/// The elements as lanes, row-major.
pub(crate) fn lanes<T: Lane>(x: &Host<'_>) -> Vec<T> {
    let mut values = vec![T::ZERO; x.elements()];
    if let Some(mut to) = HostMut::from_slice(&mut values, x.shape()) {
        map::map1::<T, T>(x, &mut to, |x| x);
    }
    values
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
            buffer: vec![T::ZERO; if direct { 0 } else { width }],
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

/// For each row of a result, the rows of a source that are summed, and their weights.
#[derive(Debug)]
pub(crate) struct Sums<T> {
    starts: Vec<usize>,
    terms: Vec<(usize, T)>,
}

impl<T: Lane> Sums<T> {
    /// From the terms of each row, which must be rows of the source.
    pub fn of<R: IntoIterator<Item = (usize, T)>>(rows: impl IntoIterator<Item = R>) -> Self {
        let (mut starts, mut terms) = (vec![0], Vec::new());
        for row in rows {
            terms.extend(row);
            starts.push(terms.len());
        }
        Sums { starts, terms }
    }

    /// `y[r] = sum(weight x[source])`; both are matrices of one width, and the sources are checked against `x`.
    pub fn run(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        let limit = x.shape().size(0);
        let mask = rows::last(2, 1);
        let simd = Simd::best();
        rows::rows::<T, 0, 1>([], [y], &mask, |row, [], [y]| {
            y.fill(T::ZERO);
            let range = self.starts[row]..self.starts[row + 1];
            let mut reader = Reader::<T>::new(x);
            for (source, weight) in &self.terms[range] {
                if *source >= limit {
                    continue;
                }
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
    x: &Host<'_>,
    y: &Host<'_>,
    pairs: &[(usize, usize)],
    z: &mut HostMut<'_>,
) {
    let limits = (x.shape().size(0), y.shape().size(0));
    let Some(layout) = z.layout().reshape(&Shape::from([pairs.len(), 1])) else {
        return;
    };
    let mut z = z.with_layout(layout);
    let simd = Simd::best();
    rows::rows::<T, 0, 1>([], [&mut z], &rows::last(2, 1), |at, [], [z]| {
        let (a, b) = pairs[at];
        let (mut left, mut right) = (Reader::<T>::new(x), Reader::<T>::new(y));
        let sum = if a < limits.0 && b < limits.1 {
            let (x, y) = (left.row(a), right.row(b));
            vectorised!(simd, total2(x, y, |x, y| x.times(y)))
        } else {
            T::ZERO
        };
        z.fill(sum);
    });
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
            for (rank, at) in order.iter().enumerate() {
                assert_eq!(ranks(keys)[*at], rank as i32);
            }
        }
    }
}
