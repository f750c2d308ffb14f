//! The blocks of attention in AVX2 registers: products by panels, scores that become weights, keys turned.
//!
//! Knows registers. Must not know heads, masks or where blocks come from. Loops over a line are left to the compiler, which has
//! the instructions here; products and turns are not, for it would not keep their sums and words in registers.

use std::arch::x86_64::*;

use super::kernels::{Kernels, LANES, Line, PANEL, Product, Slopes};
use crate::cpu::function::{exp, exp_term};

/// Numbers of a register.
const HALF: usize = LANES / 2;
/// Rows whose sums fit in registers, two for each.
const ROWS: usize = 6;

pub(super) static SINGLES: Kernels = Kernels {
    product,
    weigh,
    slope,
    total,
    turn,
    copy,
};

/// # Safety
/// As `Kernels::product`.
#[target_feature(enable = "avx2,fma")]
unsafe fn product(product: &Product) {
    let groups = product.rows.div_ceil(ROWS).max(1);
    let share = product.rows.div_ceil(groups).max(1);
    for register in 0..product.registers {
        for first in (0..product.rows).step_by(share) {
            let place = [first, register];
            // SAFETY: promised by the caller.
            unsafe {
                match share.min(product.rows - first) {
                    6 => columns::<6>(product, place),
                    5 => columns::<5>(product, place),
                    4 => columns::<4>(product, place),
                    3 => columns::<3>(product, place),
                    2 => columns::<2>(product, place),
                    _ => columns::<1>(product, place),
                }
            }
        }
    }
}

/// `M` rows from one on by [`LANES`] columns.
///
/// # Safety
/// As `Kernels::product`.
#[inline]
#[target_feature(enable = "avx2,fma")]
#[allow(
    clippy::needless_range_loop,
    reason = "indices of several arrays at once, which must unroll"
)]
unsafe fn columns<const M: usize>(product: &Product, [first, register]: [usize; 2]) {
    let column = register * LANES;
    let (step, panel) = (product.left.step, column / PANEL);
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        let mut left = product.left.start.add(first * step);
        let right = product.right.start.add(panel * product.right.step);
        let mut right = right.add(column % PANEL);
        for _ in 0..product.depth {
            let line = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(HALF))];
            for i in 0..M {
                let factor = _mm256_set1_ps(*left.add(i * step));
                for v in 0..2 {
                    sums[i][v] = _mm256_fmadd_ps(factor, line[v], sums[i][v]);
                }
            }
            left = left.wrapping_add(product.left.inner);
            right = right.wrapping_add(product.right.inner);
        }
        for i in 0..M {
            let row = first + i;
            let factor = _mm256_set1_ps(product.finish.factor(row));
            for v in 0..2 {
                let to = product.to.add(row * product.to_step + column + v * HALF);
                let value = if product.finish.adds() {
                    _mm256_fmadd_ps(_mm256_loadu_ps(to), factor, sums[i][v])
                } else {
                    _mm256_mul_ps(sums[i][v], factor)
                };
                _mm256_storeu_ps(to, value);
            }
        }
    }
}

/// So many numbers that follow a pointer, in whole [`LANES`].
///
/// # Safety
/// They must be there, and nobody else's for the lifetime.
#[inline(always)]
unsafe fn lanes<'a>(from: *mut f32, count: usize) -> &'a mut [[f32; LANES]] {
    // SAFETY: promised by the caller; an array has the alignment of its elements.
    unsafe { std::slice::from_raw_parts_mut(from.cast(), count.div_ceil(LANES)) }
}

/// Writes a value from an index on.
#[inline(always)]
fn fill(line: &mut [[f32; LANES]], from: usize, value: f32) {
    line.as_flattened_mut()[from..].fill(value);
}

/// # Safety
/// As `Kernels::weigh`; the weights must go to the place of the scores.
#[target_feature(enable = "avx2,fma")]
unsafe fn weigh(line: Line<'_>) -> f32 {
    debug_assert!(line.weights == line.scores);
    // SAFETY: promised by the caller.
    let (scores, sums) = unsafe { (lanes(line.scores, line.until), lanes(line.sums, LANES)) };
    let (seen, rest) = scores.split_at_mut(line.seen.div_ceil(LANES));
    fill(seen, line.seen, f32::NEG_INFINITY);
    let mut highest = [f32::NEG_INFINITY; LANES];
    for scores in &*seen {
        for lane in 0..LANES {
            // What is no number is passed on to the next, and shows in the sum.
            highest[lane] = if highest[lane] > scores[lane] {
                highest[lane]
            } else {
                scores[lane]
            };
        }
    }
    let mut high = *line.top;
    for x in highest {
        high = if x > high { x } else { high };
    }
    // What is subtracted from the scores of a row with this maximum.
    let zero = if high == f32::NEG_INFINITY { 0.0 } else { high };
    let factor = if high == *line.top {
        1.0
    } else if *line.top == f32::NEG_INFINITY {
        0.0
    } else {
        exp(*line.top - zero)
    };
    *line.top = high;
    let [sum] = sums else { return factor };
    let mut parts = *sum;
    for part in &mut parts {
        *part *= factor;
    }
    for scores in seen {
        for lane in 0..LANES {
            scores[lane] = exp_term(scores[lane] - zero);
            parts[lane] += scores[lane];
        }
    }
    *sum = parts;
    rest.fill([0.0; LANES]);
    factor
}

/// # Safety
/// As `Kernels::slope`.
#[target_feature(enable = "avx2,fma")]
unsafe fn slope(line: Slopes) {
    // SAFETY: promised by the caller.
    let (weights, slopes) =
        unsafe { (lanes(line.scores, line.keys), lanes(line.slopes, line.keys)) };
    fill(weights, line.seen, f32::NEG_INFINITY);
    fill(slopes, line.seen, 0.0);
    let mut sum = [0.0; LANES];
    for weights in &mut *weights {
        for (weight, sum) in weights.iter_mut().zip(&mut sum) {
            *weight = exp_term(*weight - line.log);
            *sum += *weight;
        }
    }
    let delta = line.delta.unwrap_or_else(|| {
        let sum: f32 = sum.iter().sum();
        let inverse = if sum > 0.0 { 1.0 / sum } else { 1.0 };
        let mut products = [0.0; LANES];
        for (weights, slopes) in weights.iter_mut().zip(&*slopes) {
            for lane in 0..LANES {
                weights[lane] *= inverse;
                products[lane] = weights[lane].mul_add(slopes[lane], products[lane]);
            }
        }
        products.iter().sum()
    });
    for (weights, slopes) in weights.iter().zip(&mut *slopes) {
        for (weight, slope) in weights.iter().zip(slopes) {
            *slope = weight * (*slope - delta) * line.scale;
        }
    }
    // What is no number in the row is not passed on to keys that it does not see.
    fill(weights, line.seen, 0.0);
    fill(slopes, line.seen, 0.0);
}

/// # Safety
/// As `Kernels::total`.
#[target_feature(enable = "avx2,fma")]
unsafe fn total(from: *const f32) -> f32 {
    // SAFETY: promised by the caller.
    unsafe { from.cast::<[f32; LANES]>().read() }.iter().sum()
}

/// # Safety
/// As `Kernels::turn`.
#[target_feature(enable = "avx2,fma")]
unsafe fn turn(from: *const u8, step: usize, to: *mut f32) {
    for line in [0, HALF] {
        for word in [0, HALF] {
            // SAFETY: promised by the caller.
            unsafe {
                let from = from
                    .wrapping_add(line * step)
                    .cast::<f32>()
                    .wrapping_add(word);
                quarter(from.cast(), step, to.add(word * PANEL + line));
            }
        }
    }
}

/// A square of [`HALF`] lines: words in pairs, pairs in quarters, quarters in registers.
///
/// # Safety
/// As `Kernels::turn`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn quarter(from: *const u8, step: usize, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut lines = [_mm256_setzero_ps(); HALF];
        for (index, line) in lines.iter_mut().enumerate() {
            *line = _mm256_loadu_ps(from.wrapping_add(index * step).cast());
        }
        let mut twos = lines;
        for (two, line) in twos.chunks_exact_mut(2).zip(lines.chunks_exact(2)) {
            two[0] = _mm256_unpacklo_ps(line[0], line[1]);
            two[1] = _mm256_unpackhi_ps(line[0], line[1]);
        }
        let mut fours = twos;
        for (four, two) in fours.chunks_exact_mut(4).zip(twos.chunks_exact(4)) {
            four[0] = _mm256_shuffle_ps::<0x44>(two[0], two[2]);
            four[1] = _mm256_shuffle_ps::<0xee>(two[0], two[2]);
            four[2] = _mm256_shuffle_ps::<0x44>(two[1], two[3]);
            four[3] = _mm256_shuffle_ps::<0xee>(two[1], two[3]);
        }
        for index in 0..4 {
            let (low, high) = (fours[index], fours[4 + index]);
            let whole = _mm256_permute2f128_ps::<0x20>(low, high);
            _mm256_storeu_ps(to.add(index * PANEL), whole);
            let whole = _mm256_permute2f128_ps::<0x31>(low, high);
            _mm256_storeu_ps(to.add((4 + index) * PANEL), whole);
        }
    }
}

/// # Safety
/// As `Kernels::copy`.
#[target_feature(enable = "avx2,fma")]
unsafe fn copy(from: *const u8, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe { std::ptr::copy_nonoverlapping(from, to.cast(), PANEL * size_of::<f32>()) };
}
