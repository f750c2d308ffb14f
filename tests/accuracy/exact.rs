//! The functions in double precision, from their definitions.
//!
//! Knows formulas without cancellation. Must not know the crate under test.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x sigmoid(u)`.
fn times_sigmoid(x: f64, u: f64) -> f64 {
    x * sigmoid(u)
}

pub fn silu(x: f64) -> f64 {
    times_sigmoid(x, x)
}

/// `s (1 + x (1 - s))` with `s = sigmoid(x)`.
pub fn silu_slope(x: f64) -> f64 {
    sigmoid(x) + times_sigmoid(silu(x), -x)
}

/// The share of the normal distribution below `x`.
fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

pub fn gelu(x: f64) -> f64 {
    x * below(x)
}

pub fn gelu_slope(x: f64) -> f64 {
    below(x) + x * (-0.5 * x * x).exp() * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * 0.5
}

/// `2 sqrt(2 / pi) (x + 0.044715 x^3)`: half of it is what the hyperbolic tangent is taken of.
fn twice_inner(x: f64) -> f64 {
    2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044_715 * x * x * x)
}

/// `x / 2 (1 + tanh(u)) = x / (1 + e^(-2 u))`.
pub fn gelu_tanh(x: f64) -> f64 {
    times_sigmoid(x, twice_inner(x))
}

pub fn gelu_tanh_slope(x: f64) -> f64 {
    let u = twice_inner(x);
    let steep = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (1.0 + 3.0 * 0.044_715 * x * x);
    sigmoid(u) + times_sigmoid(times_sigmoid(x * steep, u), -u)
}

/// By Newton's method on whichever of `erf` and `erfc` is the smaller, from the asymptotic estimate of the tail.
pub fn erfinv(y: f64) -> f64 {
    let a = y.abs();
    if a < 1e-9 {
        return y / FRAC_2_SQRT_PI;
    }
    if a >= 1.0 || a.is_nan() {
        return if a == 1.0 {
            f64::INFINITY.copysign(y)
        } else {
            f64::NAN
        };
    }
    let mut x = if a < 0.9 {
        a / FRAC_2_SQRT_PI * (1.0 + PI / 12.0 * a * a)
    } else {
        let log = -(1.0 - a).ln();
        (log - 0.5 * (PI * log).ln()).sqrt()
    };
    for _ in 0..60 {
        let off = if a < 0.5 {
            libm::erf(x) - a
        } else {
            (1.0 - a) - libm::erfc(x)
        };
        let step = off * (x * x).exp() / FRAC_2_SQRT_PI;
        x -= step;
        if step.abs() <= x * 1e-13 {
            break;
        }
    }
    x.copysign(y)
}

/// `ln(x / (1 - x))`, near a half by its distance from there.
pub fn logit(x: f64) -> f64 {
    if (0.25..0.75).contains(&x) {
        ((2.0 * x - 1.0) / (1.0 - x)).ln_1p()
    } else {
        (x / (1.0 - x)).ln()
    }
}

/// The library's is not NaN far below 1.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

pub fn mish(x: f64) -> f64 {
    let e = x.min(300.0).exp();
    let n = e * (e + 2.0);
    x * if n > 1e17 { 1.0 } else { n / (n + 2.0) }
}

/// `t + x sigmoid(x) (1 - t^2)` with `t = tanh(softplus(x))`; `1 - t^2 = 4 w^2 / (w^2 + 1)^2` with `w = 1 + e^x`.
pub fn mish_slope(x: f64) -> f64 {
    if x > 60.0 {
        return 1.0;
    }
    let e = x.exp();
    let (n, w) = (e * (e + 2.0), 1.0 + e);
    let flat = 2.0 * w / (n + 2.0);
    n / (n + 2.0) + times_sigmoid(x, x) * flat * flat
}

pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub fn logsigmoid(x: f64) -> f64 {
    -softplus(-x)
}

pub fn elu(x: f64, alpha: f64, inner: f64) -> f64 {
    if x > 0.0 {
        x
    } else {
        alpha * (x * inner).exp_m1()
    }
}

pub fn elu_slope(x: f64, alpha: f64, inner: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else {
        alpha * inner * (x * inner).exp()
    }
}

/// `selu`'s two factors: of the right side, and of the exponential.
pub const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);

pub fn selu(x: f64) -> f64 {
    SELU.0 * elu(x, SELU.1, 1.0)
}

pub fn selu_slope(x: f64) -> f64 {
    SELU.0 * elu_slope(x, SELU.1, 1.0)
}

/// `x - tanh(x)`, by its series near 0.
pub fn tanhshrink(x: f64) -> f64 {
    if x.abs() > 0.1 {
        return x - x.tanh();
    }
    let u = x * x;
    let terms = [
        1.0 / 3.0,
        -2.0 / 15.0,
        17.0 / 315.0,
        -62.0 / 2835.0,
        1382.0 / 155_925.0,
        -21_844.0 / 6_081_075.0,
    ];
    x * u * terms.iter().rev().fold(0.0, |sum, term| sum * u + term)
}

pub fn softsign(x: f64) -> f64 {
    x / (1.0 + x.abs())
}

pub fn softsign_slope(x: f64) -> f64 {
    (1.0 + x.abs()).powi(-2)
}

pub fn hardsigmoid(x: f64) -> f64 {
    held(x + 3.0, 0.0, 6.0) / 6.0
}

/// The product is one of `f32`: beyond its numbers it is infinite.
pub fn hardswish(x: f64) -> f64 {
    let product = x * held(x + 3.0, 0.0, 6.0);
    if product > f64::from(f32::MAX) {
        f64::INFINITY
    } else {
        product / 6.0
    }
}

pub fn hardswish_slope(x: f64) -> f64 {
    match x {
        _ if x <= -3.0 => 0.0,
        _ if x >= 3.0 => 1.0,
        _ => x / 3.0 + 0.5,
    }
}

/// Within limits; NaN stays.
pub fn held(x: f64, low: f64, high: f64) -> f64 {
    if x.is_nan() { x } else { x.max(low).min(high) }
}

/// 0 from `-limit` to `limit`, else `x` less `less` toward 0.
pub fn shrunk(x: f64, limit: f64, less: f64) -> f64 {
    if x.abs() <= limit {
        0.0
    } else {
        x - less.copysign(x)
    }
}

pub fn sign(x: f64) -> f64 {
    match x {
        _ if x > 0.0 => 1.0,
        _ if x < 0.0 => -1.0,
        _ => 0.0,
    }
}

pub fn logaddexp(x: f64, y: f64) -> f64 {
    if x == y {
        return x + std::f64::consts::LN_2;
    }
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    x.max(y) + (-(x - y).abs()).exp().ln_1p()
}

pub fn xlogy(x: f64, y: f64) -> f64 {
    if x == 0.0 && !y.is_nan() {
        0.0
    } else {
        x * y.ln()
    }
}

pub fn remainder(x: f64, y: f64) -> f64 {
    let rest = x % y;
    if rest != 0.0 && (rest < 0.0) != (y < 0.0) {
        rest + y
    } else {
        rest
    }
}

#[test]
fn formulas_agree_with_their_definitions() {
    let close = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
    for x in [-4.0f64, -0.7, -0.2, 0.3, 0.55, 0.9] {
        close(
            gelu_tanh(x),
            x / 2.0 * (1.0 + (twice_inner(x) / 2.0).tanh()),
        );
        close(mish(x), x * (1.0 + x.exp()).ln().tanh());
        close(softplus(x), (1.0 + x.exp()).ln());
        close(logsigmoid(x), sigmoid(x).ln());
        close(tanhshrink(x), x - x.tanh());
        close(logaddexp(x, 0.5), (x.exp() + 0.5f64.exp()).ln());
        let y = libm::erf(x);
        close(erfinv(y), x);
        close(logit(sigmoid(x)), x);
        let slope = |f: fn(f64) -> f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
        for (formula, of) in [
            (silu_slope as fn(f64) -> f64, silu as fn(f64) -> f64),
            (gelu_slope, gelu),
            (gelu_tanh_slope, gelu_tanh),
            (mish_slope, mish),
            (selu_slope, selu),
            (softsign_slope, softsign),
        ] {
            assert!((formula(x) - slope(of)).abs() < 1e-9, "{x}: {}", formula(x));
        }
    }
}
