//! Micro-kernels for quads of bytes on x86-64: AVX2, and AVX-512 with VNNI.
//!
//! Knows the registers. Must not know which of them the CPU has: callers ask first.

use std::arch::x86_64::*;

use super::bytes::Bytes;
use super::kernel::{Finish, Kernels, Lanes, Units, tile, tiles};
use super::x86::lanes;

// Even and odd bytes of the quads, as numbers of 16 bits: two products of them make up a quad's.
lanes! {
    Bytes8: i32, __m256i, 8, _mm256_setzero_si256 _mm256_set1_epi32 _mm256_mullo_epi32 _mm256_add_epi32 load8 store8;
    u32, [__m256i; 2], load_quads8, splat_quad8, multiply_quads8
}

// The second factor's bytes are numbers from 0 to 255.
lanes! {
    Bytes16: i32, __m512i, 16, _mm512_setzero_si512 _mm512_set1_epi32 _mm512_mullo_epi32 _mm512_add_epi32 load16 store16;
    u32, __m512i, load_quads16, splat_quad16, multiply_quads16
}

#[inline(always)]
unsafe fn load8(from: *const i32) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

#[inline(always)]
unsafe fn store8(to: *mut i32, sum: __m256i) {
    // SAFETY: promised by the caller.
    unsafe { _mm256_storeu_si256(to.cast(), sum) }
}

#[inline(always)]
unsafe fn halves(quads: __m256i) -> [__m256i; 2] {
    // SAFETY: promised by the caller.
    unsafe {
        let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quads));
        [even, _mm256_srai_epi16::<8>(quads)]
    }
}

#[inline(always)]
unsafe fn load_quads8(from: *const u32) -> [__m256i; 2] {
    // SAFETY: promised by the caller.
    unsafe { halves(_mm256_loadu_si256(from.cast())) }
}

#[inline(always)]
unsafe fn splat_quad8(quad: u32) -> [__m256i; 2] {
    // SAFETY: promised by the caller.
    unsafe { halves(_mm256_set1_epi32(quad.cast_signed())) }
}

#[inline(always)]
unsafe fn multiply_quads8(x: [__m256i; 2], y: [__m256i; 2], sum: __m256i) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x[0], y[0]));
        _mm256_add_epi32(sum, _mm256_madd_epi16(x[1], y[1]))
    }
}

#[inline(always)]
unsafe fn load16(from: *const i32) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline(always)]
unsafe fn store16(to: *mut i32, sum: __m512i) {
    // SAFETY: promised by the caller.
    unsafe { _mm512_storeu_si512(to.cast(), sum) }
}

#[inline(always)]
unsafe fn load_quads16(from: *const u32) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline(always)]
unsafe fn splat_quad16(quad: u32) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_set1_epi32(quad.cast_signed()) }
}

#[inline(always)]
unsafe fn multiply_quads16(x: __m512i, y: __m512i, sum: __m512i) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe { _mm512_dpbusd_epi32(sum, y, x) }
}

/// # Safety
/// As `tile`, on a CPU with the features.
#[target_feature(enable = "avx2")]
unsafe fn avx2<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

/// # Safety
/// As `tile`, on a CPU with the features.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2")]
unsafe fn vnni<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

pub(super) static AVX2: Bytes = Bytes {
    kernels: Kernels {
        columns: 16,
        rows: 8,
        packed: tiles!(avx2, Bytes8, 8; 1 2 3 4),
        strided: &[],
        keeping: &[],
    },
    raised: false,
};

pub(super) static VNNI: Bytes = Bytes {
    kernels: Kernels {
        columns: 32,
        rows: 16,
        packed: tiles!(vnni, Bytes16, 16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        strided: &[],
        keeping: &[],
    },
    raised: true,
};
