//! Halves on ARM: conversion between `f16` and `f32` by instructions that every 64-bit ARM CPU has, but no stable intrinsic.
//!
//! Knows the instructions. Must not know who computes with the numbers.

use std::arch::aarch64::{
    float32x4_t, uint16x4_t, vdupq_n_f32, vld1_u16, vld1q_f32, vst1_u16, vst1q_f32,
};
use std::arch::asm;

use half::f16;

/// Four halves as numbers.
///
/// # Safety
/// They must be readable.
#[inline(always)]
pub(crate) unsafe fn widen_four(from: *const f16) -> float32x4_t {
    // SAFETY: promised by the caller; the instruction touches registers only.
    unsafe {
        let narrow = vld1_u16(from.cast());
        let mut wide = vdupq_n_f32(0.0);
        asm!(
            "fcvtl {wide:v}.4s, {narrow:v}.4h",
            wide = inout(vreg) wide,
            narrow = in(vreg) narrow,
            options(pure, nomem, nostack, preserves_flags)
        );
        wide
    }
}

/// Four numbers as halves, rounded to nearest even.
///
/// # Safety
/// The halves must be writable.
#[inline(always)]
unsafe fn narrow_four(wide: float32x4_t, to: *mut f16) {
    // SAFETY: promised by the caller; the instruction touches registers only.
    unsafe {
        let narrow: uint16x4_t;
        asm!(
            "fcvtn {narrow:v}.4h, {wide:v}.4s",
            narrow = lateout(vreg) narrow,
            wide = in(vreg) wide,
            options(pure, nomem, nostack, preserves_flags)
        );
        vst1_u16(to.cast(), narrow);
    }
}

/// A run of halves as numbers, as many as both slices have.
pub(crate) fn widen(narrow: &[f16], wide: &mut [f32]) {
    let (fours, rest) = narrow.as_chunks::<4>();
    let (whole, tail) = wide.split_at_mut((fours.len() * 4).min(wide.len()));
    for (narrow, wide) in fours.iter().zip(whole.chunks_exact_mut(4)) {
        // SAFETY: four elements on both sides.
        unsafe { vst1q_f32(wide.as_mut_ptr(), widen_four(narrow.as_ptr())) };
    }
    for (narrow, wide) in rest.iter().zip(tail) {
        *wide = narrow.to_f32();
    }
}

/// A run of numbers as halves, as many as both slices have.
pub(crate) fn narrow(wide: &[f32], narrow: &mut [f16]) {
    let (fours, rest) = wide.as_chunks::<4>();
    let (whole, tail) = narrow.split_at_mut((fours.len() * 4).min(narrow.len()));
    for (wide, narrow) in fours.iter().zip(whole.chunks_exact_mut(4)) {
        // SAFETY: four elements on both sides.
        unsafe { narrow_four(vld1q_f32(wide.as_ptr()), narrow.as_mut_ptr()) };
    }
    for (wide, narrow) in rest.iter().zip(tail) {
        *narrow = f16::from_f32(*wide);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_convert_as_one_by_one() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0.0; all.len()];
        widen(&all[..65_533], &mut wide[..65_533]);
        for (wide, narrow) in wide.iter().zip(&all[..65_533]) {
            let same = *wide == narrow.to_f32() || wide.is_nan() && narrow.is_nan();
            assert!(same, "{narrow:?} {wide}");
        }
        let numbers: Vec<f32> = (0..=u32::MAX).step_by(9973).map(f32::from_bits).collect();
        let mut halves = vec![f16::ZERO; numbers.len()];
        narrow(&numbers, &mut halves);
        for (x, half) in numbers.iter().zip(&halves) {
            let want = f16::from_f32(*x);
            let same = half.to_bits() == want.to_bits() || half.is_nan() && want.is_nan();
            assert!(same, "{x} {half:?} {want:?}");
        }
    }
}
