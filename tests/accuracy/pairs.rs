//! Functions of two numbers: pairs by chance and special ones, against exact values.
//!
//! Knows calls, figures and how pairs are drawn. Must not know how errors are measured.

use ascend_tensor::{Result, Tensor};

use super::functions::Bound;
use super::{ONE, SINGLE, Worst, exact, levels};

/// A function of two numbers.
pub struct Pair {
    pub name: &'static str,
    call: fn(&Tensor, &Tensor) -> Result<Tensor>,
    exact: fn(f64, f64) -> f64,
    /// The absolute bound holds per unit of the larger operand, if that is above 1.
    pub stated: Bound,
    /// Whether the units are those of the larger operand where the result is smaller: terms cancel.
    pub cancels: bool,
}

const fn pair(
    name: &'static str,
    call: fn(&Tensor, &Tensor) -> Result<Tensor>,
    exact: fn(f64, f64) -> f64,
    units: f64,
    absolute: f64,
) -> Pair {
    Pair {
        name,
        call,
        exact,
        stated: Bound { units, absolute },
        cancels: false,
    }
}

pub const PAIRS: &[Pair] = &[
    pair("pow", |x, y| x.pow(y), f64::powf, 1.0, 0.0),
    pair("atan2", |x, y| x.atan2(y), f64::atan2, 1.5, 0.0),
    pair("hypot", |x, y| x.hypot(y), f64::hypot, 1.0, 0.0),
    pair("fmod", |x, y| x.fmod(y), |x, y| x % y, 0.0, 0.0),
    pair(
        "remainder",
        |x, y| x.remainder(y),
        exact::remainder,
        0.5,
        0.0,
    ),
    pair("xlogy", |x, y| x.xlogy(y), exact::xlogy, 2.0, 0.0),
    Pair {
        cancels: true,
        ..pair(
            "logaddexp",
            |x, y| x.logaddexp(y),
            exact::logaddexp,
            3.0,
            1e-7,
        )
    },
    pair(
        "glu",
        |x, y| Tensor::cat(&[x, y], 0)?.glu(0),
        |x, y| x * exact::sigmoid(y),
        4.0,
        1e-37,
    ),
    pair(
        "swiglu",
        |x, y| Tensor::cat(&[x, y], 0)?.swiglu(0),
        |x, y| exact::silu(x) * y,
        4.0,
        1e-36,
    ),
];

/// Numbers that are special somewhere.
const SPECIAL: &[f32] = &[
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    f32::MIN_POSITIVE,
    1e-20,
    -1e-20,
    0.5,
    -0.5,
    0.999_999_94,
    1.0,
    -1.0,
    1.000_000_1,
    2.0,
    -2.0,
    3.0,
    -3.0,
    2.5,
    10.0,
    -88.7,
    104.0,
    1e20,
    -1e20,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// A small generator of the test's own: the same pairs in every run.
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From `-range` to `range`.
    fn within(&mut self, range: f32) -> f32 {
        self.bits() as i32 as f32 / 2f32.powi(31) * range
    }

    /// Any bits; small and usual numbers; one near 1 beside a large one, whose power is neither 0 nor infinite; two close ones.
    fn pair(&mut self, kind: usize) -> (f32, f32) {
        match kind % 5 {
            0 => (f32::from_bits(self.bits()), f32::from_bits(self.bits())),
            1 => (self.within(2.0), self.within(2.0)),
            2 => (self.within(40.0), self.within(40.0)),
            3 => (1.0 + self.within(0.1), self.within(900.0)),
            _ => {
                let x = self.within(8.0);
                (x, x * (1.0 + self.within(1e-3)))
            }
        }
    }
}

/// All pairs of special numbers, and so many by chance.
fn pairs(count: usize) -> (Vec<f32>, Vec<f32>) {
    let mut chance = Chance(1);
    let special = SPECIAL
        .iter()
        .flat_map(|x| SPECIAL.iter().map(move |y| (*x, *y)));
    special
        .chain((0..count).map(|index| chance.pair(index)))
        .unzip()
}

fn check(count: usize) -> Result<()> {
    let one = ONE.lock();
    let (left, right) = pairs(count);
    let (x, y) = (Tensor::new(left.clone()), Tensor::new(right.clone()));
    let mut failed = Vec::new();
    for pair in PAIRS {
        let got = (pair.call)(&x, &y)?.to_vec::<f32>()?;
        for level in levels() {
            ascend_tensor::CpuOptions::new().simd(level).apply()?;
            let own = (pair.call)(&x, &y)?.to_vec::<f32>()?;
            let differs = (0..own.len()).find(|index| {
                let (own, got) = (own[*index], got[*index]);
                own.to_bits() != got.to_bits() && !(own.is_nan() && got.is_nan())
            });
            assert!(differs.is_none(), "{} with {level}: {differs:?}", pair.name);
        }
        let mut worst = Worst::default();
        for ((x, y), got) in left.iter().zip(&right).zip(&got) {
            let (x, y, got) = (f64::from(*x), f64::from(*y), f64::from(*got));
            let exact = (pair.exact)(x, y);
            let largest = x.max(y);
            // Measured at the larger operand, as if that were the exact value.
            let shift = if pair.cancels && exact.abs() < largest.abs() && largest.is_finite() {
                largest - exact
            } else {
                0.0
            };
            let mut stated = pair.stated;
            if stated.absolute > 0.0 {
                stated.absolute *= x.abs().max(y.abs()).max(1.0);
            }
            worst.take(x, got + shift, exact + shift, SINGLE, stated);
        }
        worst.tell(pair.name, pair.stated, &mut failed);
    }
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[test]
fn errors_of_pairs_are_as_stated() -> Result<()> {
    check(50_000)
}

#[test]
#[ignore = "many pairs; run it in release"]
fn errors_of_many_pairs_are_as_stated() -> Result<()> {
    check(20_000_000)
}
