//! Sweeps: several inputs to several outputs, element by element, in one pass; outputs may be inputs.
//!
//! Knows blocks, strides and threads. Must not know what the function computes.

use super::lane::Lane;
use super::par;
use super::simd::{Simd, vectorised};
use super::strided::Walk;
use super::view::{Host, HostMut};
use crate::dtype::DType;

/// Elements of a block: all of a block's inputs are read before its outputs are written.
const BLOCK: usize = 256;

/// `outputs[j][i] = f(inputs[..][i])[j]` for `N` inputs and `M` outputs of one shape, `K = N + M`; `T` serves all dtypes.
///
/// An output may have exactly the place of an input, but must not overlap one otherwise.
pub(crate) fn sweep<T: Lane, const N: usize, const M: usize, const K: usize>(
    inputs: [&Host<'_>; N],
    outputs: [&HostMut<'_>; M],
    f: impl Fn([T; N]) -> [T; M] + Sync,
) {
    const { assert!(K == N + M) };
    let layout = |index: usize| {
        if index < N {
            inputs[index].layout()
        } else {
            outputs[index - N].layout()
        }
    };
    let walk = Walk::<K>::new(std::array::from_fn(layout));
    let strides = walk.inner();
    let simd = Simd::best();
    let shared = Shared(
        inputs.map(|input| (input.start().cast_mut(), input.dtype())),
        outputs.map(|output| (output.start(), output.dtype())),
    );
    let direct = strides.iter().all(|stride| *stride == 1)
        && shared
            .0
            .iter()
            .chain(&shared.1)
            .all(|(_, dtype)| *dtype == T::DTYPE);
    par::ranges(walk.elements(), par::GRAIN, |range| {
        let shared = &shared;
        if direct {
            walk.runs(range, usize::MAX, |offsets, count| {
                vectorised!(simd, shared.straight::<T, K>(&f, offsets, count));
            });
            return;
        }
        let mut read = [[T::ZERO; BLOCK]; N];
        let mut made = [[T::ZERO; BLOCK]; M];
        walk.runs(range, BLOCK, |offsets, count| {
            for (index, ((start, dtype), lane)) in shared.0.iter().zip(&mut read).enumerate() {
                let from = start.wrapping_add(offsets[index] * dtype.size());
                // SAFETY: the walk names elements of the view, and `T` serves its dtype.
                unsafe { T::gather(from, strides[index], *dtype, &mut lane[..count]) };
            }
            vectorised!(simd, {
                for at in 0..count {
                    let results = f(std::array::from_fn(|index| read[index][at]));
                    for (lane, result) in made.iter_mut().zip(results) {
                        lane[at] = result;
                    }
                }
            });
            for (index, ((start, dtype), lane)) in shared.1.iter().zip(&made).enumerate() {
                let to = start.wrapping_add(offsets[N + index] * dtype.size());
                // SAFETY: as above; threads have different elements, and the block's inputs have been read.
                unsafe { T::scatter(&lane[..count], to, strides[N + index], *dtype) };
            }
        });
    });
}

/// The addresses and dtypes of views, made shareable between threads.
struct Shared<const N: usize, const M: usize>([(*mut u8, DType); N], [(*mut u8, DType); M]);

// SAFETY: threads read and write disjoint elements.
unsafe impl<const N: usize, const M: usize> Sync for Shared<N, M> {}

/// Elements that the straight loop reads before it writes: a few vectors.
const STEP: usize = 32;

impl<const N: usize, const M: usize> Shared<N, M> {
    /// A run whose elements all lie in a row, as lanes.
    #[inline(always)]
    fn straight<T: Lane, const K: usize>(
        &self,
        f: &impl Fn([T; N]) -> [T; M],
        offsets: [usize; K],
        count: usize,
    ) {
        let from: [*mut T; N] =
            std::array::from_fn(|index| self.0[index].0.cast::<T>().wrapping_add(offsets[index]));
        let to: [*mut T; M] = std::array::from_fn(|index| {
            self.1[index].0.cast::<T>().wrapping_add(offsets[N + index])
        });
        let mut at = 0;
        while at + STEP <= count {
            // SAFETY: the walk names `count` elements of each view from its offset on, which are `T`s in a row.
            let read: [[T; STEP]; N] = std::array::from_fn(|index| unsafe {
                from[index].add(at).cast::<[T; STEP]>().read()
            });
            let mut made = [[T::ZERO; STEP]; M];
            for step in 0..STEP {
                let results = f(std::array::from_fn(|index| read[index][step]));
                for (lane, result) in made.iter_mut().zip(results) {
                    lane[step] = result;
                }
            }
            for (to, lane) in to.iter().zip(made) {
                // SAFETY: as above; the step's inputs have been read.
                unsafe { to.add(at).cast::<[T; STEP]>().write(lane) };
            }
            at += STEP;
        }
        for at in at..count {
            // SAFETY: as above.
            let results = f(std::array::from_fn(|index| unsafe { *from[index].add(at) }));
            for (to, result) in to.iter().zip(results) {
                // SAFETY: as above.
                unsafe { *to.add(at) = result };
            }
        }
    }
}
