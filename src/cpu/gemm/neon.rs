//! Micro-kernels for NEON.
//!
//! Knows the registers, which every 64-bit ARM CPU has. Must not know anything else.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::kernel::{Finish, Flat, Kernels, Lanes, Pick, Units, keepers, keeping, tile, tiles};
use super::vector::{Streams, Widen, dots, rows};
use crate::cpu::half_neon::widen_four;
use crate::dtype::DType;

/// Implements [`Lanes`] for registers of `$number`.
macro_rules! lanes {
    ($name:ident: $number:ty, $register:ty, $count:literal, $splat:ident $fma:ident $mul:ident $add:ident $load:ident $store:ident) => {
        struct $name;

        impl Lanes for $name {
            type Unit = $number;
            type Number = $number;
            type Sum = $register;
            type Factor = $register;
            const COUNT: usize = $count;

            #[inline(always)]
            unsafe fn zero() -> $register {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { $splat(0.0) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $number) -> $register {
                // SAFETY: the caller promised the units.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn splat(from: *const $number) -> $register {
                // SAFETY: the caller promised the unit.
                unsafe { $splat(*from) }
            }
            #[inline(always)]
            unsafe fn multiply_add(x: $register, y: $register, sum: $register) -> $register {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { $fma(sum, x, y) }
            }
            #[inline(always)]
            unsafe fn scaled(sum: $register, scale: $number) -> $register {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { $mul(sum, $splat(scale)) }
            }
            #[inline(always)]
            unsafe fn plus(sum: $register, from: *const $number) -> $register {
                // SAFETY: the caller promised the numbers.
                unsafe { $add(sum, $load(from)) }
            }
            #[inline(always)]
            unsafe fn read(from: *const $number) -> $register {
                // SAFETY: the caller promised the numbers.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn fill(value: $number) -> $register {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            unsafe fn store(sum: $register, to: *mut $number) {
                // SAFETY: the caller promised the room.
                unsafe { $store(to, sum) }
            }
        }
    };
}

lanes!(F32x4: f32, float32x4_t, 4, vdupq_n_f32 vfmaq_f32 vmulq_f32 vaddq_f32 vld1q_f32 vst1q_f32);

/// Implements [`Widen`] for elements of a type.
macro_rules! widen {
    ($element:ty, $from:ident => $widen:expr, $single:expr) => {
        impl Widen<$element> for F32x4 {
            #[inline(always)]
            unsafe fn widen($from: *const $element) -> float32x4_t {
                // SAFETY: the caller promised the elements.
                unsafe { $widen }
            }
            #[inline(always)]
            unsafe fn single($from: *const $element) -> f32 {
                // SAFETY: the caller promised the element.
                unsafe { $single }
            }
            #[inline(always)]
            unsafe fn fused(x: float32x4_t, y: float32x4_t, sum: float32x4_t) -> float32x4_t {
                // SAFETY: every 64-bit ARM CPU has NEON.
                unsafe { vfmaq_f32(sum, x, y) }
            }
        }
    };
}

widen!(f32, from => vld1q_f32(from), *from);
widen!(f16, from => widen_four(from), (*from).to_f32());
widen!(bf16, from => vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))), (*from).to_f32());

impl<E> Pick<E> for F32x4
where
    F32x4: Widen<E>,
{
    #[inline(always)]
    unsafe fn pick(from: *const u8, _step: usize) -> [float32x4_t; 2] {
        let from = from.cast::<E>();
        // SAFETY: the caller promised the elements.
        unsafe { [Self::widen(from), Self::widen(from.add(4))] }
    }
    #[inline(always)]
    unsafe fn put(factor: float32x4_t, to: *mut f32) {
        // SAFETY: the caller promised the room.
        unsafe { vst1q_f32(to, factor) }
    }
}

/// # Safety
/// As `keeping`.
unsafe fn keep<L: Pick<E>, E, const ROWS: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Flat,
    packed: *mut L::Unit,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { keeping::<L, E, ROWS>(depth, left, right, packed, finish) }
}

/// # Safety
/// As `tile`.
unsafe fn run<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

pub(super) static F32: Kernels<f32, f32> = Kernels {
    columns: 8,
    rows: 16,
    packed: tiles!(run, F32x4, 16; 1 2 3 4 5 6 7 8 9 10 11 12),
    strided: tiles!(run, F32x4, 0; 1 2 3 4 5 6 7 8 9 10 11 12),
    keeping: &[
        (
            DType::F32,
            keepers!(keep, F32x4, f32; 1 2 3 4 5 6 7 8 9 10 11 12),
        ),
        (
            DType::F16,
            keepers!(keep, F32x4, f16; 1 2 3 4 5 6 7 8 9 10 11 12),
        ),
        (
            DType::BF16,
            keepers!(keep, F32x4, bf16; 1 2 3 4 5 6 7 8 9 10 11 12),
        ),
    ],
};

// Two registers of two doubles are too narrow for a panel; plain arithmetic on four is compiled to the same instructions.
pub(super) use super::plain::{F64, F64_LINES};

pub(super) static F32_LINES: [Streams<f32>; 3] = [
    Streams {
        together: 4,
        dots: dots::<F32x4, f32, 4>,
        rows: rows::<F32x4, f32, 8, 8>,
    },
    Streams {
        together: 4,
        dots: dots::<F32x4, f16, 4>,
        rows: rows::<F32x4, f16, 8, 8>,
    },
    Streams {
        together: 4,
        dots: dots::<F32x4, bf16, 4>,
        rows: rows::<F32x4, bf16, 8, 8>,
    },
];
