//! Real functions: what the elementary functions beyond `Float`'s mean for `f32` and `f64`.
//!
//! Knows which implementation each function and width uses. Must not know dtypes of storages, or what ops use them.

use super::function;
use super::number::Float;

/// A float lane with the functions of a mathematics library. NaN goes through all of them.
pub(crate) trait Real: Float {
    fn exp_m1(self) -> Self;
    fn exp2(self) -> Self;
    fn ln_1p(self) -> Self;
    fn log2(self) -> Self;
    fn log10(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn erfinv(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;
    fn round_even(self) -> Self;
    fn power(self, exponent: Self) -> Self;
    fn atan2(self, x: Self) -> Self;
    fn hypot(self, other: Self) -> Self;
    /// The remainder of a division rounded toward zero.
    fn fmod(self, divisor: Self) -> Self;
    fn copysign(self, sign: Self) -> Self;
    /// Whether the sign bit is set.
    fn is_negative(self) -> bool;
    fn is_infinite(self) -> bool;

    /// The share of the normal distribution beyond `|self|`, and `e^(-self^2 / 2)`.
    fn normal_tail(self) -> (Self, Self);

    /// `x - tanh(x)`.
    fn tanhshrink(self) -> Self;

    /// `1 / (1 + e^-x)`, as `e^x / (1 + e^x)` on the left.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = self.absolute().negate().exp_term();
        let above = if self < Self::ZERO { e } else { Self::ONE };
        above.over(Self::ONE.plus(e))
    }

    /// The logistic function of the number and of its negative, which add up to 1.
    #[inline(always)]
    fn sigmoids(self) -> (Self, Self) {
        let e = self.absolute().negate().exp_term();
        let large = Self::ONE.over(Self::ONE.plus(e));
        let small = e.times(large);
        if self < Self::ZERO {
            (small, large)
        } else {
            (large, small)
        }
    }

    /// `x * y` where `x` is a constant of the formula.
    #[inline(always)]
    fn scaled(self, factor: f64) -> Self {
        self.times(Self::from_f64(factor))
    }

    /// The number with a constant of the formula added.
    #[inline(always)]
    fn shifted(self, term: f64) -> Self {
        self.plus(Self::from_f64(term))
    }

    /// Whether the number is neither NaN nor infinite.
    #[inline(always)]
    fn is_finite(self) -> bool {
        !self.is_nan() && !Real::is_infinite(self)
    }
}

macro_rules! real {
    ($type:ident, $tail:path; $($name:ident = $call:path),*; $($pair:ident = $call2:path),*) => {
        impl Real for $type {
            $(#[inline(always)] fn $name(self) -> Self { $call(self) })*
            $(#[inline(always)] fn $pair(self, other: Self) -> Self { $call2(self, other) })*
            #[inline(always)] fn normal_tail(self) -> (Self, Self) { $tail(self) }
            #[inline(always)] fn fmod(self, divisor: Self) -> Self { self % divisor }
            #[inline(always)] fn is_negative(self) -> bool { self.is_sign_negative() }
            #[inline(always)] fn is_infinite(self) -> bool { self.abs() == $type::INFINITY }
        }
    };
}

real! {
    f32, function::normal_tail;
    exp_m1 = f32::exp_m1, exp2 = f32::exp2, ln_1p = f32::ln_1p, log2 = f32::log2, log10 = f32::log10,
    sin = f32::sin, cos = f32::cos, tan = f32::tan, asin = f32::asin, acos = f32::acos, atan = f32::atan,
    sinh = f32::sinh, cosh = f32::cosh, asinh = libm::asinhf, acosh = libm::acoshf, atanh = libm::atanhf,
    erf = function::erf, erfc = function::erfc, erfinv = erfinv_single, tanhshrink = function::tanhshrink,
    ceil = f32::ceil, trunc = f32::trunc, round_even = f32::round_ties_even;
    power = f32::powf, atan2 = f32::atan2, hypot = f32::hypot, copysign = f32::copysign
}

real! {
    f64, normal_tail;
    exp_m1 = f64::exp_m1, exp2 = f64::exp2, ln_1p = f64::ln_1p, log2 = f64::log2, log10 = f64::log10,
    sin = f64::sin, cos = f64::cos, tan = f64::tan, asin = f64::asin, acos = f64::acos, atan = f64::atan,
    sinh = f64::sinh, cosh = f64::cosh, asinh = libm::asinh, acosh = libm::acosh, atanh = libm::atanh,
    erf = libm::erf, erfc = libm::erfc, erfinv = erfinv, tanhshrink = tanhshrink,
    ceil = f64::ceil, trunc = f64::trunc, round_even = f64::round_ties_even;
    power = f64::powf, atan2 = f64::atan2, hypot = f64::hypot, copysign = f64::copysign
}

/// The share of the normal distribution beyond `|x|`, and `e^(-x^2 / 2)`.
fn normal_tail(x: f64) -> (f64, f64) {
    let tail = 0.5 * libm::erfc(x.abs() * std::f64::consts::FRAC_1_SQRT_2);
    (tail, (-0.5 * x * x).exp())
}

fn tanhshrink(x: f64) -> f64 {
    x - x.tanh()
}

fn erfinv_single(y: f32) -> f32 {
    erfinv(f64::from(y)) as f32
}

/// The inverse of the error function: Winitzki's estimate, then Newton's method (with Halley's correction) on `erfc`, so that
/// nothing cancels near 1.
fn erfinv(y: f64) -> f64 {
    let a = y.abs();
    if a >= 1.0 || a.is_nan() {
        return if a == 1.0 {
            f64::INFINITY.copysign(y)
        } else {
            f64::NAN
        };
    }
    if a < 1e-8 {
        return y * (std::f64::consts::PI.sqrt() / 2.0);
    }
    let log = (-y * y).ln_1p();
    let t = 2.0 / (std::f64::consts::PI * 0.147) + log / 2.0;
    let mut x = (((t * t - log / 0.147).sqrt()) - t).sqrt();
    for _ in 0..3 {
        let error = if a < 0.5 {
            libm::erf(x) - a
        } else {
            (1.0 - a) - libm::erfc(x)
        };
        let step = error * (x * x).exp() * (std::f64::consts::PI.sqrt() / 2.0);
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfinv_inverts_erf() {
        for y in [
            1e-12,
            1e-6,
            0.1,
            0.25,
            0.5,
            0.75,
            0.9,
            0.999,
            0.999_999,
            1.0 - 1e-12,
        ] {
            assert!((libm::erf(erfinv(y)) - y).abs() <= 4e-16, "{y}");
            assert_eq!(erfinv(-y), -erfinv(y));
        }
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert!(erfinv(1.5).is_nan() && erfinv(f64::NAN).is_nan());
    }
}
