//! Micro-kernels of plain arithmetic, for CPUs without vector instructions that we know.
//!
//! Knows arrays as registers. Must not know anything else.

use half::{bf16, f16};

use super::kernel::{Finish, Kernels, Lanes, Units, tile, tiles};
use super::vector::{Streams, Widen, dots, rows};
use crate::cpu::lane::Lane;
use crate::dtype::Element;

/// An array of four numbers as a register.
struct Four<T>(std::marker::PhantomData<T>);

impl<T: Lane> Lanes for Four<T> {
    type Unit = T;
    type Number = T;
    type Sum = [T; 4];
    type Factor = [T; 4];
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> [T; 4] {
        [T::ZERO; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> [T; 4] {
        // SAFETY: promised by the caller; an array is aligned as its elements.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const T) -> [T; 4] {
        // SAFETY: promised by the caller.
        [unsafe { *from }; 4]
    }

    #[inline(always)]
    unsafe fn multiply_add(x: [T; 4], y: [T; 4], sum: [T; 4]) -> [T; 4] {
        std::array::from_fn(|index| sum[index].plus(x[index].times(y[index])))
    }

    #[inline(always)]
    unsafe fn scaled(sum: [T; 4], scale: T) -> [T; 4] {
        sum.map(|sum| sum.times(scale))
    }

    #[inline(always)]
    unsafe fn plus(sum: [T; 4], from: *const T) -> [T; 4] {
        // SAFETY: promised by the caller.
        let more = unsafe { Self::load(from) };
        std::array::from_fn(|index| sum[index].plus(more[index]))
    }

    #[inline(always)]
    unsafe fn read(from: *const T) -> [T; 4] {
        // SAFETY: promised by the caller.
        unsafe { Self::load(from) }
    }

    #[inline(always)]
    unsafe fn fill(value: T) -> [T; 4] {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn store(sum: [T; 4], to: *mut T) {
        // SAFETY: promised by the caller.
        unsafe { *to.cast() = sum }
    }
}

/// Reads elements that a float lane serves.
impl<T: Lane, E: Element> Widen<E> for Four<T> {
    #[inline(always)]
    unsafe fn widen(from: *const E) -> [T; 4] {
        let mut lane = [T::ZERO; 4];
        // SAFETY: promised by the caller.
        unsafe { T::gather(from.cast(), 1, E::DTYPE, &mut lane) };
        lane
    }

    #[inline(always)]
    unsafe fn single(from: *const E) -> T {
        let mut lane = [T::ZERO];
        // SAFETY: promised by the caller.
        unsafe { T::gather(from.cast(), 1, E::DTYPE, &mut lane) };
        lane[0]
    }

    #[inline(always)]
    unsafe fn fused(x: [T; 4], y: [T; 4], sum: [T; 4]) -> [T; 4] {
        // SAFETY: plain arithmetic.
        unsafe { Self::multiply_add(x, y, sum) }
    }
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
    rows: 8,
    packed: tiles!(run, Four<f32>, 8; 1 2 3 4),
    strided: tiles!(run, Four<f32>, 0; 1 2 3 4),
    keeping: &[],
};

pub(super) static F64: Kernels<f64, f64> = Kernels {
    columns: 8,
    rows: 8,
    packed: tiles!(run, Four<f64>, 8; 1 2 3 4),
    strided: tiles!(run, Four<f64>, 0; 1 2 3 4),
    keeping: &[],
};

pub(super) static F32_LINES: [Streams<f32>; 3] = [
    Streams {
        together: 4,
        dots: dots::<Four<f32>, f32, 4>,
        rows: rows::<Four<f32>, f32, 8, 8>,
    },
    Streams {
        together: 4,
        dots: dots::<Four<f32>, f16, 4>,
        rows: rows::<Four<f32>, f16, 8, 8>,
    },
    Streams {
        together: 4,
        dots: dots::<Four<f32>, bf16, 4>,
        rows: rows::<Four<f32>, bf16, 8, 8>,
    },
];

pub(super) static F64_LINES: [Streams<f64>; 1] = [Streams {
    together: 4,
    dots: dots::<Four<f64>, f64, 4>,
    rows: rows::<Four<f64>, f64, 8, 8>,
}];
