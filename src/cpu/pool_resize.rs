//! Resizing of planes: each output is a weighted sum of a few taps along the rows and along the columns.
//!
//! Knows taps and row-major slices. Must not know how an op finds its taps.

use super::dense::chunks;
use super::lane::Lane;
use super::simd::{Simd, vectorised};

/// The taps of each output position along one dim: how many there are to a position, where they stand, what they weigh.
#[derive(Debug, Clone)]
pub(crate) struct Taps<T> {
    /// The size that is read.
    pub size: usize,
    /// Taps per output position, at least 1.
    pub each: usize,
    pub places: Vec<usize>,
    pub weights: Vec<T>,
}

impl<T: Lane> Taps<T> {
    /// The number of output positions.
    pub fn count(&self) -> usize {
        self.places.len() / self.each.max(1)
    }

    /// The taps of each output position in order.
    fn positions(&self) -> impl Iterator<Item = (&[usize], &[T])> {
        let each = self.each.max(1);
        self.places
            .chunks_exact(each)
            .zip(self.weights.chunks_exact(each))
    }
}

/// Output elements that are worth a thread.
const GRAIN: usize = 16 * 1024;

/// Each plane resized. One tap is a copy; several are summed, each times its weights.
pub(crate) fn resize<T: Lane>(rows: &Taps<T>, columns: &Taps<T>, x: &[T], y: &mut [T]) {
    let (plane, width) = (rows.size * columns.size, columns.size);
    let (count, across) = (rows.count() * columns.count(), columns.count());
    let (grain, simd) = ((GRAIN / count.max(1)).max(1), Simd::best());
    chunks(y, count, grain, |index, y| {
        let x = &x[index * plane..][..plane];
        vectorised!(simd, {
            for (y, (lines, factors)) in y.chunks_exact_mut(across).zip(rows.positions()) {
                for (y, (places, weights)) in y.iter_mut().zip(columns.positions()) {
                    *y = match (lines, places) {
                        ([line], [place]) => x[line * width + place],
                        _ => lines
                            .iter()
                            .zip(factors)
                            .fold(T::ZERO, |sum, (line, factor)| {
                                let taps = places.iter().zip(weights);
                                let inner = taps.fold(T::ZERO, |sum, (place, weight)| {
                                    sum.plus(weight.times(x[line * width + place]))
                                });
                                sum.plus(factor.times(inner))
                            }),
                    };
                }
            }
        });
    });
}

/// Each gradient spread over its taps, each times its weights.
pub(crate) fn resize_gradient<T: Lane>(rows: &Taps<T>, columns: &Taps<T>, dy: &[T], dx: &mut [T]) {
    let (plane, width) = (rows.size * columns.size, columns.size);
    let (count, across) = (rows.count() * columns.count(), columns.count());
    let grain = (GRAIN / count.max(1)).max(1);
    chunks(dx, plane, grain, |index, dx| {
        dx.fill(T::ZERO);
        let dy = &dy[index * count..][..count];
        for (dy, (lines, factors)) in dy.chunks_exact(across).zip(rows.positions()) {
            for (dy, (places, weights)) in dy.iter().zip(columns.positions()) {
                for (line, factor) in lines.iter().zip(factors) {
                    for (place, weight) in places.iter().zip(weights) {
                        let dx = &mut dx[line * width + place];
                        *dx = dx.plus(factor.times(weight.times(*dy)));
                    }
                }
            }
        }
    });
}
