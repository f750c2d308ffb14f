//! Sweeps: several inputs to several outputs, element by element, in one pass; outputs may be inputs.
//!
//! Knows blocks, strides and threads. Must not know what the function computes.

use super::lane::Lane;
use super::par;
use super::simd::{Simd, vectorised};
use super::strided::Walk;
use super::view::{Host, HostMut};

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
    par::ranges(walk.elements(), par::GRAIN, |range| {
        let mut read = [[T::ZERO; BLOCK]; N];
        let mut made = [[T::ZERO; BLOCK]; M];
        walk.runs(range, BLOCK, |offsets, count| {
            for (index, (input, lane)) in inputs.iter().zip(&mut read).enumerate() {
                let from = input
                    .start()
                    .wrapping_add(offsets[index] * input.dtype().size());
                // SAFETY: the walk names elements of the view, and `T` serves its dtype.
                unsafe { T::gather(from, strides[index], input.dtype(), &mut lane[..count]) };
            }
            vectorised!(simd, {
                for at in 0..count {
                    let results = f(std::array::from_fn(|index| read[index][at]));
                    for (lane, result) in made.iter_mut().zip(results) {
                        lane[at] = result;
                    }
                }
            });
            for (index, (output, lane)) in outputs.iter().zip(&made).enumerate() {
                let to = output
                    .start()
                    .wrapping_add(offsets[N + index] * output.dtype().size());
                // SAFETY: as above; threads have different elements, and the block's inputs have been read.
                unsafe { T::scatter(&lane[..count], to, strides[N + index], output.dtype()) };
            }
        });
    });
}
