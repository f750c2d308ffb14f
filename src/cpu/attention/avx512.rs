//! The blocks of attention in AVX-512 registers: products by panels, scores that become weights, keys turned and values paired.
//!
//! Knows registers. Must not know heads, masks or where blocks come from.

use std::arch::x86_64::*;

use super::kernels::{Kernels, LANES, Line, PANEL, Product, SLOPES, Slopes};

pub(super) static SINGLES: Kernels = Kernels {
    product: singles::product,
    weigh: singles::weigh,
    slope,
    total,
    turn,
    copy,
};

pub(super) static PAIRS: Kernels = Kernels {
    product: pairs::product,
    weigh: pairs::weigh,
    ..SINGLES
};

/// What a kind of words does on registers of them.
///
/// # Safety
/// The CPU must have the instructions, and what is read and written must be there.
trait Word {
    /// `x y + sum`.
    unsafe fn multiply_add(x: __m512, y: __m512, sum: __m512) -> __m512;
    /// Writes numbers as words.
    unsafe fn keep(x: __m512, to: *mut f32, register: usize);
}

struct Single;
struct Pair;

impl Word for Single {
    #[inline(always)]
    unsafe fn multiply_add(x: __m512, y: __m512, sum: __m512) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_fmadd_ps(x, y, sum) }
    }

    #[inline(always)]
    unsafe fn keep(x: __m512, to: *mut f32, register: usize) {
        // SAFETY: promised by the caller.
        unsafe { _mm512_storeu_ps(to.add(register * LANES), x) }
    }
}

impl Word for Pair {
    #[inline(always)]
    unsafe fn multiply_add(x: __m512, y: __m512, sum: __m512) -> __m512 {
        // SAFETY: promised by the caller; both types are 64 bytes of any bits.
        unsafe {
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512, __m512bh>(x),
                std::mem::transmute::<__m512, __m512bh>(y),
            )
        }
    }

    #[inline(always)]
    unsafe fn keep(x: __m512, to: *mut f32, register: usize) {
        // SAFETY: promised by the caller; both types are 32 bytes of any bits.
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            _mm256_storeu_si256(to.add(register * LANES / 2).cast(), halves);
        }
    }
}

/// The functions of a kind of words, compiled with a set of instructions.
macro_rules! compiled {
    ($module:ident, $word:ty, $features:literal) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As `Kernels::product`.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn product(product: &Product) {
                // SAFETY: promised by the caller.
                unsafe {
                    match product.rows {
                        12 => panels::<$word, 12>(product),
                        11 => panels::<$word, 11>(product),
                        10 => panels::<$word, 10>(product),
                        9 => panels::<$word, 9>(product),
                        8 => panels::<$word, 8>(product),
                        7 => panels::<$word, 7>(product),
                        6 => panels::<$word, 6>(product),
                        5 => panels::<$word, 5>(product),
                        4 => panels::<$word, 4>(product),
                        3 => panels::<$word, 3>(product),
                        2 => panels::<$word, 2>(product),
                        _ => panels::<$word, 1>(product),
                    }
                }
            }

            /// # Safety
            /// As `Kernels::weigh`.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn weigh(line: Line<'_>) -> f32 {
                // SAFETY: promised by the caller.
                unsafe { soften::<$word>(line) }
            }
        }
    };
}

compiled!(
    singles,
    Single,
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma"
);
compiled!(
    pairs,
    Pair,
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,avx2,fma"
);

/// `M` rows of a product.
///
/// # Safety
/// As `Kernels::product`.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "indices of several arrays at once, which must unroll"
)]
unsafe fn panels<W: Word, const M: usize>(product: &Product) {
    // SAFETY: promised by the caller.
    unsafe {
        let whole = product.registers / 2;
        for panel in 0..whole {
            columns::<W, M, 2>(product, panel);
        }
        if !product.registers.is_multiple_of(2) {
            columns::<W, M, 1>(product, whole);
        }
    }
}

/// `M` rows by the first `V` registers of a panel.
///
/// # Safety
/// As `Kernels::product`.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "indices of several arrays at once, which must unroll"
)]
unsafe fn columns<W: Word, const M: usize, const V: usize>(product: &Product, panel: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; M];
        let (mut left, step) = (product.left.start, product.left.step);
        let mut right = product.right.start.add(panel * product.right.step);
        for _ in 0..product.depth {
            let mut line = [_mm512_setzero_ps(); V];
            for v in 0..V {
                line[v] = _mm512_loadu_ps(right.add(v * LANES));
            }
            for i in 0..M {
                let factor = _mm512_set1_ps(*left.add(i * step));
                for v in 0..V {
                    sums[i][v] = W::multiply_add(factor, line[v], sums[i][v]);
                }
            }
            left = left.wrapping_add(product.left.inner);
            right = right.wrapping_add(product.right.inner);
        }
        for i in 0..M {
            let factor = _mm512_set1_ps(product.finish.factor(i));
            for v in 0..V {
                let to = product
                    .to
                    .add(i * product.to_step + panel * PANEL + v * LANES);
                let value = if product.finish.adds() {
                    _mm512_fmadd_ps(_mm512_loadu_ps(to), factor, sums[i][v])
                } else {
                    _mm512_mul_ps(sums[i][v], factor)
                };
                _mm512_storeu_ps(to, value);
            }
        }
    }
}

/// As `function::exp_term`, with the same bits.
///
/// # Safety
/// The CPU must have AVX-512.
#[inline(always)]
unsafe fn exp_term(x: __m512) -> __m512 {
    // SAFETY: promised by the caller.
    unsafe {
        // What is no number stays so: the second operand is the answer then.
        let x = _mm512_max_ps(_mm512_set1_ps(-88.03), x);
        let rounder = _mm512_set1_ps(12_582_912.0);
        let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), rounder);
        let whole = _mm512_sub_ps(shifted, rounder);
        let r = _mm512_fmadd_ps(whole, _mm512_set1_ps(-0.693_145_75), x);
        let r = _mm512_fmadd_ps(whole, _mm512_set1_ps(-1.428_606_8e-6), r);
        let mut p = _mm512_set1_ps(0.001_392_625_1);
        for coefficient in [0.008_363_233, 0.041_666_555, 0.166_665_77, 0.5] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
        }
        let near = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
        let near = _mm512_add_ps(near, _mm512_set1_ps(1.0));
        let n = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
        _mm512_mul_ps(near, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n)))
    }
}

/// The body of `Kernels::weigh`.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn soften<W: Word>(line: Line<'_>) -> f32 {
    // SAFETY: promised by the caller.
    unsafe {
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let whole = line.seen / LANES;
        let mask = ((1u32 << (line.seen % LANES)) - 1) as __mmask16;
        let count = whole + usize::from(mask != 0);
        // The scores of a register, the lowest number for those that are masked.
        let scores = |v: usize| {
            let from = line.scores.add(v * LANES);
            if v < whole {
                _mm512_loadu_ps(from)
            } else {
                _mm512_mask_loadu_ps(lowest, mask, from)
            }
        };
        let mut high = lowest;
        for v in 0..count {
            high = _mm512_max_ps(high, scores(v));
        }
        let high = _mm512_reduce_max_ps(high);
        let high = if high > *line.top { high } else { *line.top };
        // What is subtracted from the scores of a row with this maximum.
        let zero = if high == f32::NEG_INFINITY { 0.0 } else { high };
        let factor = if high == *line.top {
            1.0
        } else if *line.top == f32::NEG_INFINITY {
            0.0
        } else {
            crate::cpu::function::exp(*line.top - zero)
        };
        *line.top = high;
        let zero = _mm512_set1_ps(zero);
        let mut sum = _mm512_mul_ps(_mm512_loadu_ps(line.sums), _mm512_set1_ps(factor));
        for v in 0..count {
            let weight = exp_term(_mm512_sub_ps(scores(v), zero));
            sum = _mm512_add_ps(sum, weight);
            W::keep(weight, line.weights, v);
        }
        for v in count..line.until.div_ceil(LANES) {
            W::keep(_mm512_setzero_ps(), line.weights, v);
        }
        _mm512_storeu_ps(line.sums, sum);
        factor
    }
}

/// # Safety
/// As `Kernels::slope`.
#[target_feature(enable = "avx512f,avx512dq")]
#[allow(
    clippy::needless_range_loop,
    reason = "arrays of registers, which must unroll"
)]
unsafe fn slope(line: Slopes) {
    const REGISTERS: usize = SLOPES / LANES;
    // SAFETY: promised by the caller.
    unsafe {
        let (log, nothing) = (_mm512_set1_ps(line.log), _mm512_setzero_ps());
        let (mut weights, mut slopes) = ([nothing; REGISTERS], [nothing; REGISTERS]);
        let mut sum = nothing;
        for v in 0..REGISTERS {
            if v * LANES < line.seen {
                let left = (line.seen - v * LANES).min(LANES);
                let mask = ((1u32 << left) - 1) as __mmask16;
                let scores = _mm512_maskz_loadu_ps(mask, line.scores.add(v * LANES));
                let weight = exp_term(_mm512_sub_ps(scores, log));
                weights[v] = _mm512_maskz_mov_ps(mask, weight);
                slopes[v] = _mm512_maskz_loadu_ps(mask, line.slopes.add(v * LANES));
                sum = _mm512_add_ps(sum, weights[v]);
            }
        }
        let delta = line.delta.unwrap_or_else(|| {
            let sum = _mm512_reduce_add_ps(sum);
            let inverse = _mm512_set1_ps(if sum > 0.0 { 1.0 / sum } else { 1.0 });
            let mut products = nothing;
            for v in 0..REGISTERS {
                weights[v] = _mm512_mul_ps(weights[v], inverse);
                products = _mm512_fmadd_ps(weights[v], slopes[v], products);
            }
            _mm512_reduce_add_ps(products)
        });
        let (delta, scale) = (_mm512_set1_ps(delta), _mm512_set1_ps(line.scale));
        for v in 0..REGISTERS {
            if v * LANES < line.keys {
                let slope = _mm512_mul_ps(weights[v], _mm512_sub_ps(slopes[v], delta));
                let slope = _mm512_mul_ps(slope, scale);
                _mm512_storeu_ps(line.scores.add(v * LANES), weights[v]);
                let seen = line.seen.saturating_sub(v * LANES).min(LANES);
                let mask = ((1u32 << seen) - 1) as __mmask16;
                _mm512_storeu_ps(line.slopes.add(v * LANES), _mm512_maskz_mov_ps(mask, slope));
            }
        }
    }
}

/// # Safety
/// As `Kernels::total`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn total(from: *const f32) -> f32 {
    // SAFETY: promised by the caller.
    unsafe { _mm512_reduce_add_ps(_mm512_loadu_ps(from)) }
}

/// # Safety
/// As `Kernels::turn`.
#[target_feature(enable = "avx512f")]
unsafe fn turn(from: *const u8, step: usize, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut lines = [_mm512_setzero_ps(); LANES];
        for (index, line) in lines.iter_mut().enumerate() {
            *line = _mm512_loadu_ps(from.wrapping_add(index * step).cast());
        }
        for (index, line) in turned(lines).into_iter().enumerate() {
            _mm512_storeu_ps(to.add(index * PANEL), line);
        }
    }
}

/// Sixteen registers turned: words in pairs, pairs in quarters, quarters in registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned(lines: [__m512; LANES]) -> [__m512; LANES] {
    let mut twos = lines;
    for (two, line) in twos.chunks_exact_mut(2).zip(lines.chunks_exact(2)) {
        two[0] = _mm512_unpacklo_ps(line[0], line[1]);
        two[1] = _mm512_unpackhi_ps(line[0], line[1]);
    }
    let mut fours = twos;
    for (four, two) in fours.chunks_exact_mut(4).zip(twos.chunks_exact(4)) {
        let (a, b) = (_mm512_castps_pd(two[0]), _mm512_castps_pd(two[1]));
        let (c, d) = (_mm512_castps_pd(two[2]), _mm512_castps_pd(two[3]));
        four[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        four[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        four[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        four[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    let mut whole = fours;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let even = [
            _mm512_shuffle_f32x4::<0x88>(a, b),
            _mm512_shuffle_f32x4::<0x88>(c, d),
        ];
        let odd = [
            _mm512_shuffle_f32x4::<0xdd>(a, b),
            _mm512_shuffle_f32x4::<0xdd>(c, d),
        ];
        whole[j] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
        whole[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
        whole[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
        whole[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
    }
    whole
}

/// # Safety
/// As `Kernels::copy`.
#[target_feature(enable = "avx512f")]
unsafe fn copy(from: *const u8, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe {
        for v in 0..PANEL / LANES {
            let words = _mm512_loadu_ps(from.cast::<f32>().add(v * LANES));
            _mm512_storeu_ps(to.add(v * LANES), words);
        }
    }
}

/// A panel's row of words from the halves of two neighbouring lines.
///
/// # Safety
/// The CPU must have AVX-512; [`PANEL`] halves must be readable from both, and as many words writable.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pair(even: *const u8, odd: *const u8, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe {
        for v in 0..PANEL / LANES {
            let low = _mm256_loadu_si256(even.add(v * LANES * 2).cast());
            let high = _mm256_loadu_si256(odd.add(v * LANES * 2).cast());
            let low = _mm512_cvtepu16_epi32(low);
            let high = _mm512_cvtepu16_epi32(high);
            let words = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            _mm512_storeu_si512(to.add(v * LANES).cast(), words);
        }
    }
}
