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
    let [low, high] = pairs(seed, counter);
    [
        low as u32,
        (low >> 32) as u32,
        high as u32,
        (high >> 32) as u32,
    ]
}

/// The four random words of a counter, two in each number: the first one in the lower half.
///
/// A loop over counters becomes vectors: words stand in the low halves of 64 bits, where products of 32 bits are made, and what
/// is above them does not count.
#[inline(always)]
fn pairs(seed: u64, counter: u64) -> [u64; 2] {
    const LOW: u64 = 0xffff_ffff;
    let mut key = [seed as u32, (seed >> 32) as u32];
    let (mut a, mut b, mut c, mut d) = (counter, counter >> 32, 0, 0);
    for _ in 0..10 {
        let first = (a & LOW) * 0xD251_1F53;
        let second = (c & LOW) * 0xCD9E_8D57;
        a = (second >> 32) ^ b ^ u64::from(key[0]);
        b = second;
        c = (first >> 32) ^ d ^ u64::from(key[1]);
        d = first;
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    [a & LOW | b << 32, c & LOW | d << 32]
}

/// The counters that so many elements of 32 bits use.
pub(crate) fn counters(elements: usize) -> u64 {
    elements.div_ceil(4) as u64
}

/// The words of the elements `first ..`, where `first` is a multiple of 4.
#[inline(always)]
fn words(seed: u64, offset: u64, first: usize, block: &mut [u32; BLOCK]) {
    let counter = offset.wrapping_add(first as u64 / 4);
    for (at, words) in block.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *words = philox(seed, counter.wrapping_add(at as u64));
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
    blocks(y, |first, out, block| {
        vectorised!(simd, words(seed, offset, first, block));
        for (index, (out, word)) in out.iter_mut().zip(block).enumerate() {
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
    // Of words up to the last one, so that 32 bits can be compared; nothing is below 0.
    let last = bound.saturating_sub(1) as u32;
    let (low, high) = (if bound == 0 { scale } else { C::ZERO }, scale);
    blocks(y, |first, out: &mut [C], block| {
        let x = x.get(first..).unwrap_or_default();
        vectorised!(simd, {
            // Copies, so that one of two values is picked and not one of two places.
            let (last, low, high) = (last, low, high);
            words(seed, offset, first, block);
            for ((out, word), x) in out.iter_mut().zip(&*block).zip(x) {
                let factor = if *word <= last { low } else { high };
                *out = x.times(factor);
            }
        });
    });
}

/// Two independent standard normal numbers from 64 bits, by Box and Muller, in single precision.
#[inline(always)]
fn normals(first: u32, second: u32) -> [f32; 2] {
    let radius = (-2.0 * function::ln((first as f32 + 0.5) * (1.0 / 4_294_967_296.0))).sqrt();
    let (sin, cos) = function::sin_cos_pi(second as i32 as f32 * (1.0 / 2_147_483_648.0));
    [radius * cos, radius * sin]
}

/// Standard normal numbers, in single precision, for a row-major `y`.
pub(crate) fn fill_normal(y: &mut HostMut<'_>, seed: u64, offset: u64) {
    let simd = Simd::best();
    blocks(y, |first, out: &mut [f32], block| {
        vectorised!(simd, {
            words(seed, offset, first, block);
            let (pairs, last) = out.as_chunks_mut::<2>();
            let words = block.as_chunks::<2>().0;
            for (out, [low, high]) in pairs.iter_mut().zip(words) {
                *out = normals(*high, *low);
            }
            for (out, [low, high]) in last.iter_mut().zip(&words[pairs.len().min(words.len())..]) {
                [*out, _] = normals(*high, *low);
            }
        });
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
    blocks(y, |first, out, block| {
        for (part, out) in out.chunks_mut(BLOCK / 2).enumerate() {
            vectorised!(simd, words(seed, offset, 2 * first + part * BLOCK, block));
            for (out, [low, high]) in out.iter_mut().zip(block.as_chunks::<2>().0) {
                *out = make(u64::from(*high) << 32 | u64::from(*low));
            }
        }
    });
}

/// Makes a row-major output block by block, on several threads, each with room for the words of a block.
fn blocks<C: Lane>(y: &mut HostMut<'_>, make: impl Fn(usize, &mut [C], &mut [u32; BLOCK]) + Sync) {
    struct Start(*mut u8);
    // SAFETY: threads write disjoint elements.
    unsafe impl Sync for Start {}
    let (count, dtype) = (y.elements(), y.dtype());
    let start = Start(y.start().wrapping_add(y.layout().offset() * dtype.size()));
    let streamed = count * dtype.size() >= STREAMED;
    par::ranges(count.div_ceil(BLOCK), par::GRAIN / BLOCK, |range| {
        let start = &start;
        let (mut lane, mut words) = ([C::ZERO; BLOCK], [0; BLOCK]);
        for block in range {
            let first = block * BLOCK;
            let lane = &mut lane[..BLOCK.min(count - first)];
            make(first, lane, &mut words);
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
    use super::*;

    /// Known answers of Philox 4x32-10 (Random123).
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox(0, 0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        // In vectors as one by one, also where the counter's lower half overflows.
        let (mut block, offset) = ([0; BLOCK], 0xffff_fff0);
        vectorised!(Simd::best(), words(7, offset, 8, &mut block));
        for (at, words) in block.as_chunks::<4>().0.iter().enumerate() {
            assert_eq!(*words, philox(7, offset + 2 + at as u64));
        }
    }
}
