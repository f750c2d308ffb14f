//! Columns: softmax along a dim whose lines lie side by side in memory, by blocks of lines that stay in the cache.
//!
//! Knows how to cut, read and write blocks of lines, and the sums over them. Must not know ops. Other layouts go line by line.

use super::alloc::{filled, lacks};
use super::lane::Lane;
use super::number::Float;
use super::par;
use super::simd::{self, Simd, vectorised};
use super::strided::Walk;
use super::view::{Host, HostMut};
use crate::dtype::DType;
use crate::layout::Layout;

/// What a softmax gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Shares that sum to 1.
    Shares,
    /// Their logarithms.
    Logarithms,
}

/// The bytes of a block: few enough for the cache.
const BYTES: usize = 256 << 10;
/// Lines of a block at most, and what their number is a multiple of: a line of the cache for elements of four bytes.
const WIDEST: usize = 64;
const NARROWEST: usize = 16;
/// Rows that are added up before their sum is added to that of all.
const ROWS: usize = 64;
/// Rows that are asked for before they are read.
const AHEAD: usize = 32;
/// Outputs of at least so many bytes are written past the caches.
const STREAMED: usize = 12 << 20;

/// The addresses of views, made shareable between threads.
struct Shared(*const u8, *mut u8);

// SAFETY: the input is only read; threads write disjoint lines of the output.
unsafe impl Sync for Shared {}

/// Softmax along `dim` for inputs and outputs whose elements lie side by side across it. False, with nothing done, for others.
pub(crate) fn softmax<T: Lane + Float>(
    x: &Host<'_>,
    y: &mut HostMut<'_>,
    dim: usize,
    form: Form,
) -> bool {
    let length = x.shape().dims().get(dim).copied().unwrap_or(0);
    let width = (BYTES / size_of::<T>() / length.max(1)).min(WIDEST) / NARROWEST * NARROWEST;
    if length < 2 || width == 0 {
        return false;
    }
    let first = |layout: &Layout| layout.slice(dim, 0, 1, 1);
    let walk = Walk::new([&first(x.layout()), &first(y.layout())]);
    let across = walk.dims().last().map_or(0, |(size, _)| size);
    if walk.inner() != [1, 1] || across < NARROWEST {
        return false;
    }
    let task = Task {
        steps: [x.layout().strides()[dim], y.layout().strides()[dim]],
        dtypes: [x.dtype(), y.dtype()],
        form,
        streamed: y.elements() * y.dtype().size() >= STREAMED,
        simd: Simd::best(),
    };
    let shared = Shared(x.start(), y.start());
    let parts = across.div_ceil(width);
    let grain = (par::GRAIN / (length * width)).max(1);
    par::ranges(walk.elements() / across * parts, grain, |range| {
        let Shared(from, to) = &shared;
        let mut block = filled(T::ZERO, length * width);
        if lacks() {
            return;
        }
        for number in range {
            let start = number % parts * width;
            let first = number / parts * across + start;
            let count = width.min(across - start);
            walk.runs(first..first + count, usize::MAX, |[ox, oy], count| {
                let from = from.wrapping_add(ox * task.dtypes[0].size());
                let to = to.wrapping_add(oy * task.dtypes[1].size());
                // SAFETY: the walk names the first elements of lines of both views; blocks have different lines.
                unsafe { task.run(from, to, &mut block[..length * count], count) };
            });
        }
        if task.streamed {
            simd::fence();
        }
    });
    true
}

/// What is done with each block.
struct Task {
    /// From an element of a line to the next, in the input and in the output.
    steps: [usize; 2],
    dtypes: [DType; 2],
    form: Form,
    streamed: bool,
    simd: Simd,
}

impl Task {
    /// # Safety
    /// The elements of `count` lines must be readable at `from` and writable at `to`; the block has room for all of them.
    unsafe fn run<T: Lane + Float>(
        &self,
        from: *const u8,
        to: *mut u8,
        block: &mut [T],
        count: usize,
    ) {
        let (mut tops, mut sums) = ([T::LOWEST; WIDEST], [T::ZERO; WIDEST]);
        let (tops, sums) = (&mut tops[..count], &mut sums[..count]);
        // SAFETY: promised by the caller.
        vectorised!(self.simd, unsafe { self.read(from, block, tops) });
        match self.form {
            Form::Shares => vectorised!(self.simd, powers(block, tops, sums)),
            Form::Logarithms => vectorised!(self.simd, add_powers(block, tops, sums)),
        }
        // SAFETY: promised by the caller.
        vectorised!(self.simd, unsafe { self.write(to, block, tops, sums) });
    }

    /// Reads a block and finds the largest element of each line.
    ///
    /// # Safety
    /// The elements of the lines must be readable at `from`.
    #[inline(always)]
    unsafe fn read<T: Lane + Float>(&self, from: *const u8, block: &mut [T], tops: &mut [T]) {
        let ([step, _], [dtype, _]) = (self.steps, self.dtypes);
        for (index, row) in block.chunks_exact_mut(tops.len()).enumerate() {
            let from = from.wrapping_add(index * step * dtype.size());
            let ahead = from.wrapping_add(AHEAD * step * dtype.size());
            simd::prefetch(ahead, row.len() * dtype.size());
            if dtype == T::DTYPE {
                // SAFETY: an element of each line, side by side.
                let from = unsafe { std::slice::from_raw_parts(from.cast::<T>(), row.len()) };
                for ((top, slot), x) in tops.iter_mut().zip(row).zip(from) {
                    *slot = *x;
                    *top = x.larger(*top);
                }
                continue;
            }
            // SAFETY: as above.
            unsafe { T::gather(from, 1, dtype, row) };
            for (top, x) in tops.iter_mut().zip(row) {
                *top = x.larger(*top);
            }
        }
    }

    /// Makes results of the powers, or of the elements, and writes them.
    ///
    /// # Safety
    /// The elements of the lines must be writable at `to`.
    #[inline(always)]
    unsafe fn write<T: Lane + Float>(
        &self,
        to: *mut u8,
        block: &mut [T],
        tops: &[T],
        sums: &mut [T],
    ) {
        let ([_, step], [_, dtype]) = (self.steps, self.dtypes);
        for sum in sums.iter_mut() {
            *sum = match self.form {
                Form::Shares => T::ONE.over(*sum),
                Form::Logarithms => sum.ln(),
            };
        }
        for (index, row) in block.chunks_exact_mut(tops.len()).enumerate() {
            match self.form {
                Form::Shares => {
                    for (x, share) in row.iter_mut().zip(&*sums) {
                        *x = x.times(*share);
                    }
                }
                Form::Logarithms => {
                    for ((x, top), sum) in row.iter_mut().zip(tops).zip(&*sums) {
                        *x = x.minus(*top).minus(*sum);
                    }
                }
            }
            let to = to.wrapping_add(index * step * dtype.size());
            // SAFETY: an element of each line.
            unsafe {
                if self.streamed {
                    T::stream(row, to, dtype);
                } else {
                    T::scatter(row, to, 1, dtype);
                }
            }
        }
    }
}

/// Replaces each element by its power above the line's largest, and adds those up.
#[inline(always)]
fn powers<T: Float>(block: &mut [T], tops: &[T], sums: &mut [T]) {
    for rows in block.chunks_mut(ROWS * tops.len()) {
        let mut recent = [T::ZERO; WIDEST];
        for row in rows.chunks_exact_mut(tops.len()) {
            for ((x, top), recent) in row.iter_mut().zip(tops).zip(&mut recent) {
                *x = x.minus(*top).exp_term();
                *recent = recent.plus(*x);
            }
        }
        for (sum, recent) in sums.iter_mut().zip(recent) {
            *sum = sum.plus(recent);
        }
    }
}

/// Adds up the powers and leaves the elements as they are.
#[inline(always)]
fn add_powers<T: Float>(block: &[T], tops: &[T], sums: &mut [T]) {
    for rows in block.chunks(ROWS * tops.len()) {
        let mut recent = [T::ZERO; WIDEST];
        for row in rows.chunks_exact(tops.len()) {
            for ((x, top), recent) in row.iter().zip(tops).zip(&mut recent) {
                *recent = recent.plus(x.minus(*top).exp_term());
            }
        }
        for (sum, recent) in sums.iter_mut().zip(recent) {
            *sum = sum.plus(recent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    /// Checks against exponentials and sums in double precision.
    fn check(sizes: [usize; 3], dim: usize, form: Form) {
        let shape = Shape::from(sizes);
        let x: Vec<f32> = (0..sizes.iter().product::<usize>())
            .map(|index| (index * 7919 % 1013) as f32 * 0.02 - 10.0)
            .collect();
        let mut y = vec![f32::NAN; x.len()];
        let views = (
            Host::from_slice(&x, &shape),
            HostMut::from_slice(&mut y, &shape),
        );
        let (Some(from), Some(mut to)) = views else {
            unreachable!("slices of that many elements");
        };
        assert!(softmax::<f32>(&from, &mut to, dim, form));
        let (length, step) = (sizes[dim], sizes[dim + 1..].iter().product::<usize>());
        for first in (0..x.len()).filter(|index| index / step % length == 0) {
            let line = (0..length).map(|index| first + index * step);
            let sum: f64 = line.clone().map(|index| f64::from(x[index]).exp()).sum();
            for index in line {
                let share = f64::from(x[index]).exp() / sum;
                // A logarithm near 0 has the error of the sum, which is near 1.
                let (want, least) = match form {
                    Form::Shares => (share, 0.0),
                    Form::Logarithms => (share.ln(), 1.0),
                };
                let error = (f64::from(y[index]) - want).abs() / want.abs().max(least);
                assert!(error < 2e-6, "{sizes:?}, {index}: {error}");
            }
        }
    }

    #[test]
    fn lines_side_by_side_are_shared_out() {
        for form in [Form::Shares, Form::Logarithms] {
            check([2, 3, 16], 1, form);
            check([3, 100, 77], 1, form);
            check([70, 5, 33], 0, form);
            check([1000, 1, 3300], 0, form);
        }
    }

    #[test]
    fn other_layouts_are_refused() {
        let shape = Shape::from([4, 8]);
        let (x, mut y) = ([0.0f32; 32], [0.0f32; 32]);
        for dim in 0..3 {
            let views = (
                Host::from_slice(&x, &shape),
                HostMut::from_slice(&mut y, &shape),
            );
            let (Some(from), Some(mut to)) = views else {
                unreachable!("slices of that many elements");
            };
            assert!(!softmax::<f32>(&from, &mut to, dim, Form::Shares));
        }
    }
}
