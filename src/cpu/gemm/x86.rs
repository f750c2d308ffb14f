//! Micro-kernels for x86-64: AVX2 with FMA, AVX-512, and pairs of `bf16` on AVX-512.
//!
//! Knows the registers. Must not know which of them the CPU has: callers ask first.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::kernel::{Finish, Flat, Kernels, Lanes, Pick, Units, keepers, keeping, tile, tiles};
use super::vector::{self, Lines, Streams, Widen};
use crate::dtype::DType;

/// Implements [`Lanes`] for registers of sums of `$number`, given how units are loaded and multiplied.
macro_rules! lanes {
    ($name:ident: $number:ty, $sum:ty, $count:literal, $zero:ident $splat:ident $mul:ident $add:ident $load:ident $store:ident;
     $unit:ty, $factor:ty, $load_units:expr, $splat_unit:expr, $multiply:expr) => {
        struct $name;

        impl Lanes for $name {
            type Unit = $unit;
            type Number = $number;
            type Sum = $sum;
            type Factor = $factor;
            const COUNT: usize = $count;

            #[inline(always)]
            unsafe fn zero() -> $sum {
                // SAFETY: the caller promised the registers.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn load(from: *const $unit) -> $factor {
                // SAFETY: the caller promised the registers and the units.
                unsafe { $load_units(from) }
            }
            #[inline(always)]
            unsafe fn splat(from: *const $unit) -> $factor {
                // SAFETY: the caller promised the registers and the unit.
                unsafe { $splat_unit(*from) }
            }
            #[inline(always)]
            unsafe fn multiply_add(x: $factor, y: $factor, sum: $sum) -> $sum {
                // SAFETY: the caller promised the registers.
                unsafe { $multiply(x, y, sum) }
            }
            #[inline(always)]
            unsafe fn scaled(sum: $sum, scale: $number) -> $sum {
                // SAFETY: the caller promised the registers.
                unsafe { $mul(sum, $splat(scale)) }
            }
            #[inline(always)]
            unsafe fn plus(sum: $sum, from: *const $number) -> $sum {
                // SAFETY: the caller promised the registers and the numbers.
                unsafe { $add(sum, $load(from)) }
            }
            #[inline(always)]
            unsafe fn read(from: *const $number) -> $sum {
                // SAFETY: the caller promised the registers and the numbers.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn fill(value: $number) -> $sum {
                // SAFETY: the caller promised the registers.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            unsafe fn store(sum: $sum, to: *mut $number) {
                // SAFETY: the caller promised the registers and the room.
                unsafe { $store(to, sum) }
            }
        }
    };
}

pub(super) use lanes;

lanes! {
    F32x8: f32, __m256, 8, _mm256_setzero_ps _mm256_set1_ps _mm256_mul_ps _mm256_add_ps _mm256_loadu_ps _mm256_storeu_ps;
    f32, __m256, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps
}

lanes! {
    F64x4: f64, __m256d, 4, _mm256_setzero_pd _mm256_set1_pd _mm256_mul_pd _mm256_add_pd _mm256_loadu_pd _mm256_storeu_pd;
    f64, __m256d, _mm256_loadu_pd, _mm256_set1_pd, _mm256_fmadd_pd
}

lanes! {
    F32x16: f32, __m512, 16, _mm512_setzero_ps _mm512_set1_ps _mm512_mul_ps _mm512_add_ps _mm512_loadu_ps _mm512_storeu_ps;
    f32, __m512, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps
}

lanes! {
    F64x8: f64, __m512d, 8, _mm512_setzero_pd _mm512_set1_pd _mm512_mul_pd _mm512_add_pd _mm512_loadu_pd _mm512_storeu_pd;
    f64, __m512d, _mm512_loadu_pd, _mm512_set1_pd, _mm512_fmadd_pd
}

// Two neighbours along the inner size in one unit: both products are added to the sum in f32.
lanes! {
    Bf16x32: f32, __m512, 16, _mm512_setzero_ps _mm512_set1_ps _mm512_mul_ps _mm512_add_ps _mm512_loadu_ps _mm512_storeu_ps;
    u32, __m512i, load_pairs, splat_pair, multiply_pairs
}

#[inline(always)]
unsafe fn load_pairs(from: *const u32) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline(always)]
unsafe fn splat_pair(pair: u32) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_set1_epi32(pair.cast_signed()) }
}

#[inline(always)]
unsafe fn multiply_pairs(x: __m512i, y: __m512i, sum: __m512) -> __m512 {
    // SAFETY: promised by the caller; both types are 64 bytes of any bits.
    unsafe {
        _mm512_dpbf16_ps(
            sum,
            std::mem::transmute::<__m512i, __m512bh>(x),
            std::mem::transmute::<__m512i, __m512bh>(y),
        )
    }
}

/// Implements [`Pick`] for elements of a type.
macro_rules! pick {
    ($name:ident, $element:ty, $store:ident, ($from:ident, $step:ident) => $pick:expr) => {
        impl Pick<$element> for $name {
            #[inline(always)]
            unsafe fn pick($from: *const u8, $step: usize) -> [Self::Factor; 2] {
                // SAFETY: the caller promised the registers and the elements.
                unsafe { $pick }
            }
            #[inline(always)]
            unsafe fn put(factor: Self::Factor, to: *mut Self::Unit) {
                // SAFETY: the caller promised the registers and the room.
                unsafe { $store(to.cast(), factor) }
            }
        }
    };
}

pick!(F32x8, f32, _mm256_storeu_ps, (from, _step) => {
    let from = from.cast::<f32>();
    [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
});
pick!(F32x16, f32, _mm512_storeu_ps, (from, _step) => {
    let from = from.cast::<f32>();
    [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))]
});
pick!(F32x16, f16, _mm512_storeu_ps, (from, _step) => {
    let from = from.cast::<__m256i>();
    [_mm512_cvtph_ps(_mm256_loadu_si256(from)), _mm512_cvtph_ps(_mm256_loadu_si256(from.add(1)))]
});
// Two lines of halves become pairs: each word takes one half from either line.
pick!(Bf16x32, bf16, _mm512_storeu_si512, (from, step) => {
    let (low, high) = (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(step).cast()));
    let wide = |half: __m256i| _mm512_cvtepu16_epi32(half);
    let pairs = |low: __m256i, high: __m256i| _mm512_or_si512(wide(low), _mm512_slli_epi32::<16>(wide(high)));
    [
        pairs(_mm512_castsi512_si256(low), _mm512_castsi512_si256(high)),
        pairs(_mm512_extracti64x4_epi64::<1>(low), _mm512_extracti64x4_epi64::<1>(high)),
    ]
});

/// Implements [`Widen`] for elements of a type.
macro_rules! widen {
    ($name:ident, $element:ty, $fma:ident, $from:ident => $widen:expr, $single:expr) => {
        impl Widen<$element> for $name {
            #[inline(always)]
            unsafe fn widen($from: *const $element) -> Self::Sum {
                // SAFETY: the caller promised the registers and the elements.
                unsafe { $widen }
            }
            #[inline(always)]
            unsafe fn single($from: *const $element) -> Self::Number {
                // SAFETY: the caller promised the element.
                unsafe { $single }
            }
            #[inline(always)]
            unsafe fn fused(x: Self::Sum, y: Self::Sum, sum: Self::Sum) -> Self::Sum {
                // SAFETY: the caller promised the registers.
                unsafe { $fma(x, y, sum) }
            }
        }
    };
}

widen!(F32x8, f32, _mm256_fmadd_ps, from => _mm256_loadu_ps(from), *from);
widen!(F64x4, f64, _mm256_fmadd_pd, from => _mm256_loadu_pd(from), *from);
widen!(F32x16, f32, _mm512_fmadd_ps, from => _mm512_loadu_ps(from), *from);
widen!(F64x8, f64, _mm512_fmadd_pd, from => _mm512_loadu_pd(from), *from);
widen!(F32x8, f16, _mm256_fmadd_ps, from => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())), (*from).to_f32());
widen!(F32x16, f16, _mm512_fmadd_ps, from => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())), (*from).to_f32());
widen!(F32x8, bf16, _mm256_fmadd_ps,
    from => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))), (*from).to_f32());
widen!(F32x16, bf16, _mm512_fmadd_ps,
    from => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))), (*from).to_f32());

/// Defines `$run`, `$keeping`, `$dots` and `$rows`, the kernels compiled with a set of instructions.
macro_rules! compiled {
    ($run:ident, $keeping:ident, $dots:ident, $rows:ident, $features:literal) => {
        /// # Safety
        /// As `vector::dots`, on a CPU with the features.
        #[target_feature(enable = $features)]
        unsafe fn $dots<L: Widen<E>, E, const LINES: usize>(
            x: *const L::Number,
            count: usize,
            lines: Lines,
            sums: *mut L::Number,
        ) {
            // SAFETY: promised by the caller.
            unsafe { vector::dots::<L, E, LINES>(x, count, lines, sums) }
        }

        /// # Safety
        /// As `vector::rows`, on a CPU with the features.
        #[target_feature(enable = $features)]
        unsafe fn $rows<L: Widen<E>, E, const TOGETHER: usize, const AHEAD: usize>(
            x: *const L::Number,
            count: usize,
            lines: Lines,
            sums: *mut L::Number,
        ) {
            // SAFETY: promised by the caller.
            unsafe { vector::rows::<L, E, TOGETHER, AHEAD>(x, count, lines, sums) }
        }

        /// # Safety
        /// As `keeping`, on a CPU with the features.
        #[target_feature(enable = $features)]
        unsafe fn $keeping<L: Pick<E>, E, const ROWS: usize>(
            depth: usize,
            left: Units<L::Unit>,
            right: Flat,
            keep: *mut L::Unit,
            finish: &Finish<L::Number>,
        ) {
            // SAFETY: promised by the caller.
            unsafe { keeping::<L, E, ROWS>(depth, left, right, keep, finish) }
        }

        /// # Safety
        /// As `tile`, on a CPU with the features.
        #[target_feature(enable = $features)]
        unsafe fn $run<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
            depth: usize,
            left: Units<L::Unit>,
            right: Units<L::Unit>,
            finish: &Finish<L::Number>,
        ) {
            // SAFETY: promised by the caller.
            unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
        }
    };
}

compiled!(avx2, keeping_avx2, dots_avx2, rows_avx2, "avx2,fma,f16c");
compiled!(
    avx512,
    keeping_avx512,
    dots_avx512,
    rows_avx512,
    "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"
);
/// # Safety
/// As `tile`, on a CPU with the features.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
unsafe fn avx512_bf16<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

/// # Safety
/// As `keeping`, on a CPU with the features.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
unsafe fn keeping_bf16<L: Pick<E>, E, const ROWS: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Flat,
    keep: *mut L::Unit,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { keeping::<L, E, ROWS>(depth, left, right, keep, finish) }
}

/// Dot products of lines of `bf16` with a vector of `bf16`, by pairs: one line after the other, so that memory is read in order,
/// into eight registers of sums.
///
/// # Safety
/// As `vector::Dots`, on a CPU with the features; `x` is where the vector's `bf16` are.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
pub(super) unsafe fn dots_of_pairs(x: *const f32, count: usize, lines: Lines, sums: *mut f32) {
    const STEP: usize = 32;
    const AHEAD: usize = 8192;
    let x = x.cast::<bf16>();
    // SAFETY: the caller promised the registers, the vector, the lines and the sums.
    unsafe {
        let pairs = |from: *const bf16| -> __m512bh {
            std::mem::transmute(_mm512_loadu_si512(from.cast()))
        };
        for index in 0..lines.count {
            let line = lines.start.add(index * lines.step).cast::<bf16>();
            let mut totals = [_mm512_setzero_ps(); 8];
            let mut at = 0;
            while at + 8 * STEP <= count {
                for (part, total) in totals.iter_mut().enumerate() {
                    let at = at + part * STEP;
                    let from = line.add(at);
                    _mm_prefetch::<_MM_HINT_T0>(from.cast::<i8>().wrapping_add(AHEAD));
                    *total = _mm512_dpbf16_ps(*total, pairs(from), pairs(x.add(at)));
                }
                at += 8 * STEP;
            }
            while at + STEP <= count {
                totals[0] = _mm512_dpbf16_ps(totals[0], pairs(line.add(at)), pairs(x.add(at)));
                at += STEP;
            }
            let [a, b, c, d, e, f, g, h] = totals;
            let half = |a, b, c, d| _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
            let mut sum = _mm512_reduce_add_ps(_mm512_add_ps(half(a, b, c, d), half(e, f, g, h)));
            for rest in at..count {
                sum += (*line.add(rest)).to_f32() * (*x.add(rest)).to_f32();
            }
            *sums.add(index) = sum;
        }
    }
}

/// The kernels for lines of elements of a type: how many `dots` reads at the same time, and how many `rows` does and asks for
/// ahead. A Zen 3, for which those of AVX2 are measured, takes a third longer with eight lines and the next ones asked for.
macro_rules! streams {
    ($dots:ident $rows:ident[$lines:literal, $ahead:literal] $lanes:ty: $($element:ty, $together:literal);*) => {
        [$(Streams {
            together: $together,
            dots: $dots::<$lanes, $element, $together>,
            rows: $rows::<$lanes, $element, $lines, $ahead>,
        }),*]
    };
}

pub(super) static F32_LINES_AVX2: [Streams<f32>; 3] =
    streams!(dots_avx2 rows_avx2[4, 0] F32x8: f32, 4; f16, 4; bf16, 4);
pub(super) static F64_LINES_AVX2: [Streams<f64>; 1] =
    streams!(dots_avx2 rows_avx2[4, 0] F64x4: f64, 4);
pub(super) static F32_LINES_AVX512: [Streams<f32>; 3] =
    streams!(dots_avx512 rows_avx512[8, 8] F32x16: f32, 4; f16, 8; bf16, 8);
pub(super) static F64_LINES_AVX512: [Streams<f64>; 1] =
    streams!(dots_avx512 rows_avx512[8, 8] F64x8: f64, 4);

pub(super) static F32_AVX2: Kernels<f32, f32> = Kernels {
    columns: 16,
    rows: 8,
    packed: tiles!(avx2, F32x8, 8; 1 2 3 4 5 6),
    strided: tiles!(avx2, F32x8, 0; 1 2 3 4 5 6),
    keeping: &[(DType::F32, keepers!(keeping_avx2, F32x8, f32; 1 2 3 4 5 6))],
};

pub(super) static F64_AVX2: Kernels<f64, f64> = Kernels {
    columns: 8,
    rows: 8,
    packed: tiles!(avx2, F64x4, 8; 1 2 3 4 5 6),
    strided: tiles!(avx2, F64x4, 0; 1 2 3 4 5 6),
    keeping: &[],
};

pub(super) static F32_AVX512: Kernels<f32, f32> = Kernels {
    columns: 32,
    rows: 16,
    packed: tiles!(avx512, F32x16, 16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    strided: tiles!(avx512, F32x16, 0; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    keeping: &[
        (
            DType::F32,
            keepers!(keeping_avx512, F32x16, f32; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        ),
        (
            DType::F16,
            keepers!(keeping_avx512, F32x16, f16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        ),
    ],
};

pub(super) static F64_AVX512: Kernels<f64, f64> = Kernels {
    columns: 16,
    rows: 16,
    packed: tiles!(avx512, F64x8, 16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    strided: tiles!(avx512, F64x8, 0; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    keeping: &[],
};

pub(super) static BF16_AVX512: Kernels<u32, f32> = Kernels {
    columns: 32,
    rows: 16,
    packed: tiles!(avx512_bf16, Bf16x32, 16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    strided: &[],
    keeping: &[(
        DType::BF16,
        keepers!(keeping_bf16, Bf16x32, bf16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    )],
};
