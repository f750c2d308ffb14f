//! Random numbers from counters: Philox 4x32-10, so that element `i` depends on the seed and its counter alone.
//!
//! Knows the generator function and how to fill memory with it on several threads. Must not know distributions' owners.

use super::lane::Lane;
use super::par;
use super::simd::{Simd, vectorised};
use super::view::HostMut;

/// Elements of a block: a whole number of counters.
const BLOCK: usize = 256;

/// Four random words of a counter.
#[inline(always)]
pub(crate) fn philox(seed: u64, counter: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    let mut words = [counter as u32, (counter >> 32) as u32, 0, 0];
    for _ in 0..10 {
        let first = u64::from(words[0]) * 0xD251_1F53;
        let second = u64::from(words[2]) * 0xCD9E_8D57;
        words = [
            (second >> 32) as u32 ^ words[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ words[3] ^ key[1],
            first as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    words
}

/// The counters that so many elements of 32 bits use.
pub(crate) fn counters(elements: usize) -> u64 {
    elements.div_ceil(4) as u64
}

/// The words of the elements `first ..`, where `first` is a multiple of 4.
fn words(seed: u64, offset: u64, first: usize, block: &mut [u32; BLOCK]) {
    let counter = offset.wrapping_add(first as u64 / 4);
    for (index, chunk) in block.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *chunk = philox(seed, counter.wrapping_add(index as u64));
    }
}

/// `y[i] = make(i, 32 random bits)` for a row-major `y`.
pub(crate) fn fill<C: Lane>(
    y: &mut HostMut<'_>,
    seed: u64,
    offset: u64,
    make: impl Fn(usize, u32) -> C + Sync,
) {
    blocks(y, |first, out| {
        let mut block = [0; BLOCK];
        words(seed, offset, first, &mut block);
        for (index, (out, word)) in out.iter_mut().zip(&block).enumerate() {
            *out = make(first + index, *word);
        }
    });
}

/// `y[i] = make(64 random bits)` for a row-major `y`; an element counts as two of 32 bits.
pub(crate) fn fill_wide<C: Lane>(
    y: &mut HostMut<'_>,
    seed: u64,
    offset: u64,
    make: impl Fn(u64) -> C + Sync,
) {
    blocks(y, |first, out| {
        let mut block = [0; BLOCK];
        for (part, out) in out.chunks_mut(BLOCK / 2).enumerate() {
            words(seed, offset, 2 * first + part * BLOCK, &mut block);
            for (out, [low, high]) in out.iter_mut().zip(block.as_chunks::<2>().0) {
                *out = make(u64::from(*high) << 32 | u64::from(*low));
            }
        }
    });
}

/// Makes a row-major output block by block, on several threads.
fn blocks<C: Lane>(y: &mut HostMut<'_>, make: impl Fn(usize, &mut [C]) + Sync) {
    struct Start(*mut u8);
    // SAFETY: threads write disjoint elements.
    unsafe impl Sync for Start {}
    let (count, dtype) = (y.elements(), y.dtype());
    let start = Start(y.start().wrapping_add(y.layout().offset() * dtype.size()));
    let simd = Simd::best();
    par::ranges(count.div_ceil(BLOCK), par::GRAIN / BLOCK, |range| {
        let start = &start;
        let mut lane = [C::ZERO; BLOCK];
        for block in range {
            let first = block * BLOCK;
            let lane = &mut lane[..BLOCK.min(count - first)];
            vectorised!(simd, make(first, lane));
            // SAFETY: the block lies within the row-major output, and `C` serves its dtype.
            unsafe { C::scatter(lane, start.0.wrapping_add(first * dtype.size()), 1, dtype) };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// Known answers of Philox 4x32-10 (Random123).
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox(0, 0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
    }
}
