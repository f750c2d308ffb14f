//! Random numbers from counters: Philox 4x32-10, so that element `i` depends on the seed and its counter alone.
//!
//! Knows the generator function and how to fill memory with it on several threads. Must not know distributions' owners.

use super::function;
use super::lane::Lane;
use super::par;
use super::simd::{self, Simd, vectorised};
use super::view::HostMut;

/// Elements of a block: a whole number of counters.
const BLOCK: usize = 256;
/// Outputs of at least so many bytes are written past the caches.
const STREAMED: usize = 8 << 20;

/// Four random words of a counter.
#[inline(always)]
pub(crate) fn philox(seed: u64, counter: u64) -> [u32; 4] {
    let [a, b, c, d] = philox_of::<1>(seed, [counter]);
    [a[0], b[0], c[0], d[0]]
}

/// The four random words of `N` counters at a time: the first of all, the second of all, and so on.
#[inline(always)]
fn philox_of<const N: usize>(seed: u64, counters: [u64; N]) -> [[u32; N]; 4] {
    // Words stand in the low halves of 64 bits, where products of 32 bits are made; what is above them does not count.
    const LOW: u64 = 0xffff_ffff;
    let mut key = [seed as u32, (seed >> 32) as u32];
    let mut words = [
        counters,
        counters.map(|counter| counter >> 32),
        [0; N],
        [0; N],
    ];
    for _ in 0..10 {
        let [a, b, c, d] = words;
        let keys = key.map(u64::from);
        for at in 0..N {
            let first = (a[at] & LOW) * 0xD251_1F53;
            let second = (c[at] & LOW) * 0xCD9E_8D57;
            words[0][at] = (second >> 32) ^ b[at] ^ keys[0];
            words[1][at] = second;
            words[2][at] = (first >> 32) ^ d[at] ^ keys[1];
            words[3][at] = first;
        }
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    words.map(|word| word.map(|word| word as u32))
}

/// The counters that so many elements of 32 bits use.
pub(crate) fn counters(elements: usize) -> u64 {
    elements.div_ceil(4) as u64
}

/// Counters that are worked on together.
const TOGETHER: usize = 16;

/// The words of the elements `first ..`, where `first` is a multiple of 4.
#[inline(always)]
fn words(seed: u64, offset: u64, first: usize, block: &mut [u32; BLOCK]) {
    let mut counter = offset.wrapping_add(first as u64 / 4);
    for group in block.as_chunks_mut::<{ 4 * TOGETHER }>().0 {
        let counters = std::array::from_fn(|at| counter.wrapping_add(at as u64));
        let [a, b, c, d] = philox_of::<TOGETHER>(seed, counters);
        for (at, chunk) in group.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *chunk = [a[at], b[at], c[at], d[at]];
        }
        counter = counter.wrapping_add(TOGETHER as u64);
    }
}

/// `y[i] = make(i, 32 random bits)` for a row-major `y`.
pub(crate) fn fill<C: Lane>(
    y: &mut HostMut<'_>,
    seed: u64,
    offset: u64,
    make: impl Fn(usize, u32) -> C + Sync,
) {
    let simd = Simd::best();
    blocks(y, |first, out| {
        let mut block = [0; BLOCK];
        vectorised!(simd, words(seed, offset, first, &mut block));
        for (index, (out, word)) in out.iter_mut().zip(&block).enumerate() {
            *out = make(first + index, *word);
        }
    });
}

/// `y[i] = 0` where 32 random bits are below a bound, else `scale x[i]`, for a row-major `y`.
pub(crate) fn thin_out<C: Lane>(
    x: &[C],
    y: &mut HostMut<'_>,
    (seed, offset): (u64, u64),
    bound: u64,
    scale: C,
) {
    let simd = Simd::best();
    blocks(y, |first, out: &mut [C]| {
        let mut block = [0; BLOCK];
        let x = x.get(first..).unwrap_or_default();
        vectorised!(simd, {
            words(seed, offset, first, &mut block);
            for ((out, word), x) in out.iter_mut().zip(&block).zip(x) {
                let factor = if u64::from(*word) < bound {
                    C::ZERO
                } else {
                    scale
                };
                *out = x.times(factor);
            }
        });
    });
}

/// A standard normal number from 64 bits, by Box and Muller, in single precision.
#[inline(always)]
fn normal(first: u32, second: u32) -> f32 {
    let radius = (-2.0 * function::ln((first as f32 + 0.5) * (1.0 / 4_294_967_296.0))).sqrt();
    radius * function::cos_pi(second as i32 as f32 * (1.0 / 2_147_483_648.0))
}

/// Standard normal numbers, in single precision, for a row-major `y`; an element counts as two of 32 bits.
pub(crate) fn fill_normal(y: &mut HostMut<'_>, seed: u64, offset: u64) {
    let simd = Simd::best();
    blocks(y, |first, out: &mut [f32]| {
        let mut block = [0; BLOCK];
        for (part, out) in out.chunks_mut(BLOCK / 2).enumerate() {
            vectorised!(simd, {
                words(seed, offset, 2 * first + part * BLOCK, &mut block);
                for (out, [low, high]) in out.iter_mut().zip(block.as_chunks::<2>().0) {
                    *out = normal(*high, *low);
                }
            });
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
    let simd = Simd::best();
    blocks(y, |first, out| {
        let mut block = [0; BLOCK];
        for (part, out) in out.chunks_mut(BLOCK / 2).enumerate() {
            vectorised!(
                simd,
                words(seed, offset, 2 * first + part * BLOCK, &mut block)
            );
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
    let streamed = count * dtype.size() >= STREAMED;
    par::ranges(count.div_ceil(BLOCK), par::GRAIN / BLOCK, |range| {
        let start = &start;
        let mut lane = [C::ZERO; BLOCK];
        for block in range {
            let first = block * BLOCK;
            let lane = &mut lane[..BLOCK.min(count - first)];
            make(first, lane);
            let to = start.0.wrapping_add(first * dtype.size());
            // SAFETY: the block lies within the row-major output, and `C` serves its dtype.
            unsafe {
                if streamed {
                    C::stream(lane, to, dtype);
                } else {
                    C::scatter(lane, to, 1, dtype);
                }
            }
        }
        if streamed {
            simd::fence();
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
        let many = super::philox_of::<16>(7, std::array::from_fn(|at| at as u64 + 1000));
        for at in 0..16 {
            assert_eq!(many.map(|word| word[at]), philox(7, at as u64 + 1000));
        }
    }
}
