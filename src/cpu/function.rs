//! Elementary functions of `f32` without branches or tables, so that loops over them become vector instructions.
//!
//! Knows polynomials (fits over the reduced ranges). Must not know who calls them.
//!
//! Largest errors over all numbers, in units in the last place: `exp` 1.1, `ln` 1, `tanh` 1.5, `erf` 2.5, `erfc` 6. Each step
//! is rounded alike with every instruction set (`mul_add` is one rounding everywhere), so the results are the same bits.
//! `tests/accuracy.rs` holds the ops made of them to the figures of their documentation.

/// `p[0] x^n + p[1] x^(n-1) + ... + p[n]`, each step rounded once.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let [first, rest @ ..] = &coefficients[..] else {
        return 0.0;
    };
    rest.iter()
        .fold(*first, |sum, coefficient| sum.mul_add(x, *coefficient))
}

/// `2^n` for an integer `n` from -126 to 127; 0 for -127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// Adding it rounds a small float to an integer, which then stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// `e^x`: `2^n e^r` with `|r| <= ln(2) / 2`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.5 { -104.5 } else { x };
    let (n, r) = reduced(x);
    exp_reduced(n, r)
}

/// `e^x` for `x <= 0` in two thirds of the time: what is smaller than a normal number is 0.
#[inline(always)]
pub(crate) fn exp_term(x: f32) -> f32 {
    let (n, r) = reduced(if x < NOTHING { NOTHING } else { x });
    let power = f32::from_bits(n << 23);
    exp_near(r).mul_add(power, power)
}

/// `e^x` for `x <= 0`, with steps for a sum of such powers, of which the largest is 1: an error of `x` counts as little as the
/// power does. What is smaller than a normal number is 2^-126.
#[inline(always)]
pub(crate) fn exp_addend(x: f32) -> f32 {
    let x = if x < -87.3 { -87.3 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let f = x.mul_add(std::f32::consts::LOG2_E, ROUNDER - shifted);
    // The fit of 2^f for |f| <= 1/2 whose largest relative error is least.
    let coefficients = [
        0.001_327_951_7,
        0.009_670_753,
        0.055_506_61,
        0.240_222_59,
        0.693_147_06,
        1.0,
    ];
    // The integer stands in the lowest bits; all others leave at the top.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    polynomial(f, coefficients) * power
}

/// `e` to it is 2^-127, which `exp_term` takes for 0.
const NOTHING: f32 = -88.03;

/// `e^(x + low)` for a `low` far below `x`, which is from -104.5 to 89.
#[inline(always)]
fn exp_of(x: f32, low: f32) -> f32 {
    let (n, r) = reduced(x);
    exp_reduced(n, r + low)
}

/// Adding it rounds as `ROUNDER` does; the lowest nine bits then are the exponent of `2^n`.
const BIASED: f32 = ROUNDER + 127.0;

/// The bits of `n + BIASED`, and `r`, with `x = n ln(2) + r`.
#[inline(always)]
fn reduced(x: f32) -> (u32, f32) {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, BIASED);
    let whole = shifted - BIASED;
    let r = whole.mul_add(-0.693_145_75, x);
    (shifted.to_bits(), whole.mul_add(-1.428_606_8e-6, r))
}

/// `2^n e^r`. The first power is that of a normal number, whose product with `1 + ..` is rounded as the sum alone would be.
#[inline(always)]
fn exp_reduced(n: u32, r: f32) -> f32 {
    const NORMAL: [i32; 2] = [ROUNDER.to_bits() as i32 + 2, ROUNDER.to_bits() as i32 + 254];
    let n = n as i32;
    let normal = n.max(NORMAL[0]).min(NORMAL[1]);
    let power = f32::from_bits((normal as u32) << 23);
    exp_near(r).mul_add(power, power) * power_of_two(n - normal)
}

/// `e^r - 1` for `|r| <= ln(2) / 2`.
#[inline(always)]
fn exp_near(r: f32) -> f32 {
    let p = polynomial(
        r,
        [
            0.001_392_625_1,
            0.008_363_233,
            0.041_666_555,
            0.166_665_77,
            0.5,
        ],
    );
    (r * r).mul_add(p, r)
}

/// The natural logarithm: `x = 2^e m` with `m` between the roots of 1/2 and 2, `ln m = 2 atanh((m - 1) / (m + 1))`.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let normal = if tiny { x * 8_388_608.0 } else { x };
    let bits = (normal.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let e = (bits >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let m = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let v = s * s;
    let series = v * polynomial(v, [0.116_711_55, 0.142_751_92, 0.200_000_63, 0.333_333_33]);
    let half_square = 0.5 * f * f;
    let near = f - (half_square - s * 2.0f32.mul_add(series, half_square));
    let value = e.mul_add(0.693_145_75, e.mul_add(1.428_606_8e-6, near));
    let value = if x == f32::INFINITY { x } else { value };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x >= 0.0 { value } else { f32::NAN }
}

/// The hyperbolic tangent: a polynomial near 0, else `1 - 2 e / (1 + e)` with `e = e^(-2 |x|)`: errors of `e` and of the quotient
/// count less than in `(1 - e) / (1 + e)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let (cube, p) = tanh_near(x);
    let near = cube.mul_add(p, x);
    let e = exp_term(-2.0 * x.abs());
    let far = (e * (1.0 / (1.0 + e))).mul_add(-2.0, 1.0);
    if x.abs() < NEAR {
        near
    } else {
        far.copysign(x)
    }
}

/// Below it `tanh_near` serves.
const NEAR: f32 = 0.625;

/// `x^3`, and `p` with `tanh(x) = x + x^3 p`.
#[inline(always)]
fn tanh_near(x: f32) -> (f32, f32) {
    let u = x * x;
    let coefficients = [
        -0.006_096_714,
        0.020_997_18,
        -0.053_850_91,
        0.133_327_7,
        -0.333_333_3,
    ];
    (x * u, polynomial(u, coefficients))
}

/// `x - tanh(x)`; near 0, where both are alike, without the difference.
#[inline(always)]
pub(crate) fn tanhshrink(x: f32) -> f32 {
    let (cube, p) = tanh_near(x);
    if x.abs() < NEAR {
        0.0 - cube * p
    } else {
        x - tanh(x)
    }
}

/// `sin(pi x)` and `cos(pi x)` for `|x| <= 1`: the cosine is the sine of what is left to a half.
#[inline(always)]
pub(crate) fn sin_cos_pi(x: f32) -> (f32, f32) {
    let left = 0.5 - x.abs();
    let near = (0.5 - left.abs()).copysign(x);
    (sin_pi_near(near), sin_pi_near(left))
}

/// `sin(pi x)` for `|x| <= 1/2`.
#[inline(always)]
fn sin_pi_near(x: f32) -> f32 {
    let coefficients = [
        0.077_560_39,
        -0.598_242_1,
        2.550_069_8,
        -5.167_71,
        std::f32::consts::PI,
    ];
    x * polynomial(x * x, coefficients)
}

/// `erf(x)` for `|x| < 1`: `x` and a smaller part, whose errors count less.
#[inline(always)]
fn erf_near(x: f32) -> f32 {
    let coefficients = [
        7.875_875e-5,
        -0.000_801_686_43,
        0.005_189_087_4,
        -0.026_854_212,
        0.112_835_95,
        -0.376_126_27,
        std::f32::consts::FRAC_2_SQRT_PI - 1.0,
    ];
    x.mul_add(polynomial(x * x, coefficients), x)
}

/// `erfc(x)` for `x >= 0`: `e^(-x^2) / (1 + 2 x)` times a polynomial in `v = (x - 2) / (x + 2)`; the square is exact in two
/// parts, and one division does for both.
#[inline(always)]
fn erfc_right(x: f32) -> f32 {
    let x = if x > 10.1 { 10.1 } else { x };
    let square = x * x;
    let rest = x.mul_add(x, -square);
    let (a, b) = (x + 2.0, 2.0f32.mul_add(x, 1.0));
    let inverse = 1.0 / (a * b);
    let v = (x - 2.0) * b * inverse;
    let coefficients = [
        -0.000_400_576_97,
        -0.001_229_927_6,
        0.001_313_522_8,
        0.008_631_681,
        -0.008_059_875,
        -0.054_204_3,
        0.164_055_35,
        -0.166_031_42,
        -0.092_763_98,
        1.276_978_4,
    ];
    exp_of(-square, -rest) * (a * inverse * polynomial(v, coefficients))
}

/// The share of the normal distribution beyond `|x|`, and `e^(-x^2 / 2)`; both are 0 where they are below the normal numbers. The
/// power is that of a polynomial in what is left of the square, the share the power times a quotient of polynomials in `|x|` whose
/// coefficients are all positive, so that nothing cancels.
#[inline(always)]
pub(crate) fn normal_tail(x: f32) -> (f32, f32) {
    let a = x.abs();
    // Half of its square gives the power 2^-127, which is 0.
    let a = if a > 13.27 { 13.27 } else { a };
    let shifted = (a * a).mul_add(-0.5 * std::f32::consts::LOG2_E, BIASED);
    let whole = shifted - BIASED;
    // The first product is exact, and so is the square in the sum.
    let left = a.mul_add(a, whole * 1.386_291_5);
    let left = whole.mul_add(2.857_213_6e-6, left);
    let near = [
        -0.000_259_072_05,
        0.002_618_623_4,
        -0.020_834_547,
        0.124_997_88,
        -0.499_999_85,
    ];
    let power = f32::from_bits(shifted.to_bits() << 23);
    let e = (left * polynomial(left, near)).mul_add(power, power);
    let above = [0.398_947_95, 3.967_871_4, 17.992_165, 43.235_78, 49.618_01];
    let below = [
        1.0, 9.946_712, 46.083_263, 118.535_87, 165.650_48, 99.236_02,
    ];
    (e * polynomial(a, above) / polynomial(a, below), e)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let far = (1.0 - erfc_right(x.abs())).copysign(x);
    if x.abs() < 1.0 { erf_near(x) } else { far }
}

/// `1 - erf(x)`.
#[inline(always)]
pub(crate) fn erfc(x: f32) -> f32 {
    let right = erfc_right(x.abs());
    if x < 0.0 { 2.0 - right } else { right }
}

#[cfg(test)]
mod tests {
    /// The distance in units in the last place of the exact value; subnormal ones count as the smallest normal's.
    fn units(got: f32, exact: f64) -> f64 {
        let want = exact as f32;
        if !want.is_finite() || !got.is_finite() {
            let same = want == got || (want.is_nan() && got.is_nan());
            return if same { 0.0 } else { f64::INFINITY };
        }
        let exponent = want.abs().max(f32::MIN_POSITIVE).to_bits() >> 23;
        (f64::from(got) - exact).abs() / f64::from(exponent as i32 - 150).exp2()
    }

    /// The largest distance over every `step`th number, of all 2^32 with `ASCEND_TENSOR_EXHAUSTIVE` set.
    fn worst(fast: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let all = std::env::var_os("ASCEND_TENSOR_EXHAUSTIVE").is_some();
        let numbers = (0..=u32::MAX).step_by(if all { 1 } else { 9973 });
        numbers
            .map(f32::from_bits)
            .map(|x| units(fast(x), exact(f64::from(x))))
            .fold(0.0, f64::max)
    }

    #[test]
    fn errors_over_the_whole_range_are_as_stated() {
        assert!(worst(super::exp, f64::exp) < 1.1);
        assert!(worst(super::ln, f64::ln) < 1.0);
        assert!(worst(super::tanh, f64::tanh) < 1.5);
        assert!(worst(super::erf, libm::erf) < 2.5);
        assert!(worst(super::erfc, libm::erfc) < 6.0);
    }

    #[test]
    fn terms_are_powers_as_far_as_they_are_normal() {
        for step in 0..=873_000 {
            let x = step as f32 * -1e-4;
            assert_eq!(super::exp_term(x), super::exp(x), "{x}");
        }
        for x in [-87.7, -88.0, -88.03, -88.1, -1e30, f32::NEG_INFINITY] {
            assert_eq!(super::exp_term(x), 0.0, "{x}");
        }
        assert!(super::exp_term(f32::NAN).is_nan());
    }

    #[test]
    fn tails_are_close() {
        for step in 0..=129_000 {
            let x = step as f32 * 1e-4;
            let want = libm::erfc(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2) * 0.5;
            let density = (f64::from(x).powi(2) * -0.5).exp();
            for x in [x, -x] {
                let (tail, e) = super::normal_tail(x);
                assert!((f64::from(tail) / want - 1.0).abs() < 4.5e-7, "{x}");
                assert!((f64::from(e) / density - 1.0).abs() < 2e-7, "{x}");
            }
        }
        for x in [13.25, 13.27, 14.0, 1e30, f32::INFINITY] {
            assert_eq!(super::normal_tail(x), (0.0, 0.0), "{x}");
        }
        assert!(super::normal_tail(f32::NAN).0.is_nan());
    }

    #[test]
    fn sines_of_half_turns_are_close() {
        for step in -2000..=2000 {
            let x = step as f32 / 2000.0;
            let (want_sin, want_cos) = (f64::from(x) * std::f64::consts::PI).sin_cos();
            let (sin, cos) = super::sin_cos_pi(x);
            assert!((f64::from(sin) - want_sin).abs() < 3e-7, "{x}");
            assert!((f64::from(cos) - want_cos).abs() < 3e-7, "{x}");
        }
    }

    #[test]
    fn special_values() {
        let inf = f32::INFINITY;
        assert_eq!(
            [super::exp(inf), super::exp(-inf), super::exp(0.0)],
            [inf, 0.0, 1.0]
        );
        assert_eq!(
            [
                super::ln(inf),
                super::ln(0.0),
                super::ln(1.0),
                super::ln(-0.0)
            ],
            [inf, -inf, 0.0, -inf]
        );
        assert_eq!(
            [super::tanh(inf), super::tanh(-inf), super::tanh(0.0)],
            [1.0, -1.0, 0.0]
        );
        assert_eq!(
            [
                super::erf(inf),
                super::erf(-inf),
                super::erfc(inf),
                super::erfc(-inf)
            ],
            [1.0, -1.0, 0.0, 2.0]
        );
        assert!(super::ln(-1.0).is_nan());
        for function in [super::exp, super::ln, super::tanh, super::erf, super::erfc] {
            assert!(function(f32::NAN).is_nan());
        }
        assert_eq!(
            super::ln(f32::from_bits(1)),
            f64::from(f32::from_bits(1)).ln() as f32
        );
        assert!(super::exp(-103.0) > 0.0);
    }
}
