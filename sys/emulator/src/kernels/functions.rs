//! Real functions that the standard library lacks, in double precision.
//!
//! Knows mathematics only; it must not know tensors or ops.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

/// The logistic function, without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + e^x), without overflow.
pub(crate) fn softplus(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// x times the logistic function.
pub(crate) fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// Derivative of [`silu`].
pub(crate) fn silu_slope(x: f64) -> f64 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// x times the normal distribution function.
pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Derivative of [`gelu`]: the distribution function plus x times the density.
pub(crate) fn gelu_slope(x: f64) -> f64 {
    let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp();
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2) + x * density
}

const GELU_SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const GELU_CUBE: f64 = 0.044715;

/// The approximation of [`gelu`] by a hyperbolic tangent.
pub(crate) fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + (GELU_SCALE * (x + GELU_CUBE * x * x * x)).tanh())
}

/// Derivative of [`gelu_tanh`].
pub(crate) fn gelu_tanh_slope(x: f64) -> f64 {
    let t = (GELU_SCALE * (x + GELU_CUBE * x * x * x)).tanh();
    let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * x * x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
}

/// Inverse of the error function: a rational first guess, then Newton steps.
pub(crate) fn erf_inverse(y: f64) -> f64 {
    if y.abs() >= 1.0 || y.is_nan() {
        return if y.abs() == 1.0 {
            y * f64::INFINITY
        } else {
            f64::NAN
        };
    }
    // Winitzki: x² = sqrt(t² - ln(1-y²)/a) - t with t = 2/(πa) + ln(1-y²)/2.
    const A: f64 = 0.147;
    let log = (-y * y).ln_1p();
    let t = 2.0 / (PI * A) + 0.5 * log;
    let mut x = ((t * t - log / A).sqrt() - t).max(0.0).sqrt();
    let target = y.abs();
    for _ in 0..4 {
        // erf(x) - y; near 1, where erf has lost its digits, from erfc and the exact 1 - y.
        let error = if target > 0.5 {
            (1.0 - target) - libm::erfc(x)
        } else {
            libm::erf(x) - target
        };
        let step = error / (FRAC_2_SQRT_PI * (-x * x).exp());
        // Halley's correction of a Newton step.
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

/// Derivative of ln Γ(x): the recurrence up to 10, then the asymptotic series.
pub(crate) fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY.copysign(-x);
    }
    if x < 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        return digamma(1.0 - x) - PI / (PI * x).tan();
    }
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = square
        * (1.0 / 12.0
            - square
                * (1.0 / 120.0 - square * (1.0 / 252.0 - square * (1.0 / 240.0 - square / 132.0))));
    shift + x.ln() - 0.5 / x - series
}
