//! Micro-kernels for quads of bytes on ARM: NEON, and the dot product of ARMv8.2.
//!
//! Knows the registers. Must not know which of them the CPU has: callers ask first.

use std::arch::aarch64::*;
use std::arch::asm;

use super::bytes::Bytes;
use super::kernel::{Finish, Kernels, Lanes, Units, tile, tiles};

/// Implements [`Lanes`] for registers of four quads, given how they are multiplied.
macro_rules! quads {
    ($name:ident, $multiply:ident) => {
        struct $name;

        impl Lanes for $name {
            type Unit = u32;
            type Number = i32;
            type Sum = int32x4_t;
            type Factor = int8x16_t;
            const COUNT: usize = 4;

            #[inline(always)]
            unsafe fn zero() -> int32x4_t {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { vdupq_n_s32(0) }
            }
            #[inline(always)]
            unsafe fn load(from: *const u32) -> int8x16_t {
                // SAFETY: the caller promised the units.
                unsafe { vld1q_s8(from.cast()) }
            }
            #[inline(always)]
            unsafe fn splat(from: *const u32) -> int8x16_t {
                // SAFETY: the caller promised the unit.
                unsafe { vreinterpretq_s8_u32(vdupq_n_u32(*from)) }
            }
            #[inline(always)]
            unsafe fn multiply_add(x: int8x16_t, y: int8x16_t, sum: int32x4_t) -> int32x4_t {
                // SAFETY: the caller promised the registers.
                unsafe { $multiply(x, y, sum) }
            }
            #[inline(always)]
            unsafe fn scaled(sum: int32x4_t, scale: i32) -> int32x4_t {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { vmulq_s32(sum, vdupq_n_s32(scale)) }
            }
            #[inline(always)]
            unsafe fn plus(sum: int32x4_t, from: *const i32) -> int32x4_t {
                // SAFETY: the caller promised the numbers.
                unsafe { vaddq_s32(sum, vld1q_s32(from)) }
            }
            #[inline(always)]
            unsafe fn read(from: *const i32) -> int32x4_t {
                // SAFETY: the caller promised the numbers.
                unsafe { vld1q_s32(from) }
            }
            #[inline(always)]
            unsafe fn fill(value: i32) -> int32x4_t {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { vdupq_n_s32(value) }
            }
            #[inline(always)]
            unsafe fn store(sum: int32x4_t, to: *mut i32) {
                // SAFETY: the caller promised the room.
                unsafe { vst1q_s32(to, sum) }
            }
        }
    };
}

quads!(Wide, multiply_wide);
quads!(Dot, multiply_dot);

/// Products of 16 bits, added in pairs of 32.
#[inline(always)]
unsafe fn multiply_wide(x: int8x16_t, y: int8x16_t, sum: int32x4_t) -> int32x4_t {
    // SAFETY: every 64-bit ARM CPU has NEON.
    unsafe {
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        let high = vpaddlq_s16(vmull_high_s8(x, y));
        vaddq_s32(sum, vpaddq_s32(low, high))
    }
}

/// The dot product of ARMv8.2, which has no stable intrinsic.
#[inline(always)]
unsafe fn multiply_dot(x: int8x16_t, y: int8x16_t, mut sum: int32x4_t) -> int32x4_t {
    // SAFETY: the caller promised the instruction, which touches registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {x:v}.16b, {y:v}.16b",
            sum = inout(vreg) sum,
            x = in(vreg) x,
            y = in(vreg) y,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// # Safety
/// As `tile`, on a CPU with the instructions of `L`.
unsafe fn run<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

pub(super) static NEON: Bytes = Bytes {
    kernels: Kernels {
        columns: 8,
        rows: 8,
        packed: tiles!(run, Wide, 8; 1 2 3 4 5 6 7 8),
        strided: &[],
        keeping: &[],
    },
    raised: false,
};

pub(super) static DOT_PRODUCT: Bytes = Bytes {
    kernels: Kernels {
        columns: 8,
        rows: 16,
        packed: tiles!(run, Dot, 16; 1 2 3 4 5 6 7 8 9 10 11 12),
        strided: &[],
        keeping: &[],
    },
    raised: false,
};
