//! Numbers: the arithmetic that kernels are generic over.
//!
//! Knows what `+`, `<` or `exp` mean for each lane type (integers wrap, truth values are or/and). Must not know dtypes of storages.

use super::function;
use crate::dtype::{Element, Scalar};

/// A type that kernels compute in: `f64 f32 i64 i32 i16 i8 u8 bool` (halves compute in `f32`).
pub(crate) trait Number: Element + PartialOrd {
    /// Zero, or false.
    const ZERO: Self;
    /// One, or true.
    const ONE: Self;
    /// Whether division gives fractions.
    const IS_FLOAT: bool;
    /// The least value: minus infinity for floats.
    const LOWEST: Self;
    /// The greatest value: infinity for floats.
    const HIGHEST: Self;

    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// Division: true for floats, truncated for integers (0 for a divisor of 0, which kernels refuse before).
    fn over(self, other: Self) -> Self;
    fn negate(self) -> Self;
    fn absolute(self) -> Self;
    fn is_nan(self) -> bool;
    fn from_scalar(value: Scalar) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn to_f64(self) -> f64;
    /// Truncated toward zero; integers wrap into `i64` without loss.
    fn to_i64(self) -> i64;

    /// Whether the value is not zero (NaN is not zero).
    #[inline(always)]
    fn is_true(self) -> bool {
        self != Self::ZERO
    }

    /// The larger of two, NaN if either is.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        let beyond = if self > other { self } else { other };
        if self.is_nan() { self } else { beyond }
    }

    /// The smaller of two, NaN if either is.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        let beyond = if self < other { self } else { other };
        if self.is_nan() { self } else { beyond }
    }
}

macro_rules! float {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const IS_FLOAT: bool = true;
            const LOWEST: Self = <$type>::NEG_INFINITY;
            const HIGHEST: Self = <$type>::INFINITY;
            #[inline(always)] fn plus(self, other: Self) -> Self { self + other }
            #[inline(always)] fn minus(self, other: Self) -> Self { self - other }
            #[inline(always)] fn times(self, other: Self) -> Self { self * other }
            #[inline(always)] fn over(self, other: Self) -> Self { self / other }
            #[inline(always)] fn negate(self) -> Self { -self }
            #[inline(always)] fn absolute(self) -> Self { self.abs() }
            #[inline(always)] fn is_nan(self) -> bool { self != self }
            #[inline(always)] fn from_scalar(value: Scalar) -> Self { value.to_f64() as $type }
            #[inline(always)] fn from_f64(value: f64) -> Self { value as $type }
            #[inline(always)] fn from_i64(value: i64) -> Self { value as $type }
            #[inline(always)] fn to_f64(self) -> f64 { f64::from(self) }
            #[inline(always)] fn to_i64(self) -> i64 { self as i64 }
        }
    )*};
}

macro_rules! int {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const IS_FLOAT: bool = false;
            const LOWEST: Self = <$type>::MIN;
            const HIGHEST: Self = <$type>::MAX;
            #[inline(always)] fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)] fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)] fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)] fn over(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            #[inline(always)] fn negate(self) -> Self { self.wrapping_neg() }
            #[inline(always)] fn absolute(self) -> Self { if self < Self::ZERO { self.wrapping_neg() } else { self } }
            #[inline(always)] fn is_nan(self) -> bool { false }
            #[inline(always)] fn from_scalar(value: Scalar) -> Self { value.to_i64() as $type }
            #[inline(always)] fn from_f64(value: f64) -> Self { value as i64 as $type }
            #[inline(always)] fn from_i64(value: i64) -> Self { value as $type }
            #[inline(always)] fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)] fn to_i64(self) -> i64 { i64::from(self) }
        }
    )*};
}

float!(f64, f32);
int!(i64, i32, i16, i8, u8);

impl Number for bool {
    const ZERO: Self = false;
    const ONE: Self = true;
    const IS_FLOAT: bool = false;
    const LOWEST: Self = false;
    const HIGHEST: Self = true;
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self | other
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self & other
    }
    #[inline(always)]
    fn over(self, other: Self) -> Self {
        self & other
    }
    #[inline(always)]
    fn negate(self) -> Self {
        self
    }
    #[inline(always)]
    fn absolute(self) -> Self {
        self
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        false
    }
    #[inline(always)]
    fn from_scalar(value: Scalar) -> Self {
        value.to_bool()
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        value != 0
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
}

/// The float lanes: `f32` and `f64`, with the elementary functions (for `f32`, ones that vectorise).
pub(crate) trait Float: Number {
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    /// `e^self` for `self <= 0`; what is smaller than a normal number may be 0.
    fn exp_term(self) -> Self;
    /// As `exp_term`, for sums: what is far below 1 may be off by its own logarithm times the usual error, or not be 0.
    fn exp_addend(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn floor(self) -> Self;
}

macro_rules! elementary {
    ($($type:ty => $exp:path, $term:path, $addend:path, $ln:path, $tanh:path;)*) => {$(
        impl Float for $type {
            #[inline(always)] fn sqrt(self) -> Self { self.sqrt() }
            #[inline(always)] fn exp(self) -> Self { $exp(self) }
            #[inline(always)] fn exp_term(self) -> Self { $term(self) }
            #[inline(always)] fn exp_addend(self) -> Self { $addend(self) }
            #[inline(always)] fn ln(self) -> Self { $ln(self) }
            #[inline(always)] fn tanh(self) -> Self { $tanh(self) }
            #[inline(always)] fn floor(self) -> Self { self.floor() }
        }
    )*};
}

elementary! {
    f32 => function::exp, function::exp_term, function::exp_addend, function::ln, function::tanh;
    f64 => f64::exp, f64::exp, f64::exp, f64::ln, f64::tanh;
}
