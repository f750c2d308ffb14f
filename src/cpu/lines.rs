//! Lines straight in memory: many short lines of several tensors at the price of a loop over them.
//!
//! Knows layouts whose last dim is without gaps. Must not know what is computed. The room of rows is for all other layouts.

use super::lane::Lane;
use super::par;
use super::simd::Simd;
use super::strided::Walk;
use super::view::{Host, HostMut};
use crate::layout::Layout;

/// The addresses of views, made shareable between threads.
struct Shared<const I: usize>([*const u8; I], *mut u8);

// SAFETY: inputs are only read; threads write disjoint lines of the output.
unsafe impl<const I: usize> Sync for Shared<I> {}

/// The dims before the last, if the last lies without gaps.
fn outer(layout: &Layout) -> Option<Layout> {
    let rank = layout.shape().rank();
    let last = rank.checked_sub(1)?;
    let order: Vec<usize> = (0..last).collect();
    (layout.strides()[last] == 1 || layout.dims()[last] <= 1).then(|| layout.permute(&order))
}

/// A function of lines of three inputs. Its body is inlined into the loop whatever its size, for which `line` has to be
/// `#[inline(always)]`.
pub(crate) trait LineFormula<T>: Sync {
    /// Computes a line of the output.
    fn line(&self, x: [&[T]; 3], y: &mut [T]);
}

/// Lines that follow one another with the same steps.
struct Run<'f, T, F> {
    formula: &'f F,
    from: [*const T; 3],
    to: *mut T,
    /// From a line to the next.
    steps: [usize; 4],
    /// Of the lines of the inputs, and of the output.
    lengths: [usize; 3],
    width: usize,
    count: usize,
}

impl<T: Lane, F: LineFormula<T>> pulp::WithSimd for Run<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _: S) {
        for _ in 0..self.count {
            let x = std::array::from_fn(|input| {
                // SAFETY: the walk names the first elements of lines of the view, which `Host::new` promised, and each line
                // is that many elements of `T` in a row.
                unsafe { std::slice::from_raw_parts(self.from[input], self.lengths[input]) }
            });
            // SAFETY: as above, of the output; its lines are disjoint, each in one thread's range.
            let y = unsafe { std::slice::from_raw_parts_mut(self.to, self.width) };
            self.formula.line(x, y);
            for (from, step) in self.from.iter_mut().zip(self.steps) {
                *from = from.wrapping_add(step);
            }
            self.to = self.to.wrapping_add(self.steps[3]);
        }
    }
}

/// Calls `formula` with each line along the last dim of three inputs and an output, which have one shape but for the last dim, if
/// all lie straight in memory as `T`s; else answers false.
pub(crate) fn lines<T: Lane>(
    inputs: [&Host<'_>; 3],
    y: &mut HostMut<'_>,
    formula: &impl LineFormula<T>,
) -> bool {
    let width = y.shape().dims().last().copied().unwrap_or(0);
    let typed = inputs.iter().all(|x| x.dtype() == T::DTYPE) && y.dtype() == T::DTYPE;
    let [a, b, c] = inputs.map(|x| outer(x.layout()));
    let (Some(a), Some(b), Some(c), Some(to)) = (a, b, c, outer(y.layout())) else {
        return false;
    };
    // Lines of inputs may be shorter than those of the output: the formula knows how long they are.
    let lengths = inputs.map(|x| x.shape().dims().last().copied().unwrap_or(0));
    let fit = [&a, &b, &c].iter().all(|x| x.shape() == to.shape());
    if !typed || !fit || width == 0 {
        return false;
    }
    let walk = Walk::new([&a, &b, &c, &to]);
    let steps = walk.inner();
    let simd = Simd::best();
    let shared = Shared(inputs.map(Host::start), y.start());
    par::ranges(walk.elements(), (par::GRAIN / width).max(1), |range| {
        let Shared(reads, write) = &shared;
        walk.runs(range, usize::MAX, |starts, count| {
            simd.vectors(Run {
                formula,
                from: std::array::from_fn(|input| {
                    reads[input].cast::<T>().wrapping_add(starts[input])
                }),
                to: write.cast::<T>().wrapping_add(starts[3]),
                steps,
                lengths,
                width,
                count,
            });
        });
    });
    true
}
