//! Elementwise functions: errors in units in the last place, and the same bits with every set of vector instructions.
//!
//! The default run takes every 9973rd of the 2^32 numbers of `f32`, all numbers of the halves, and pairs by chance. All numbers, with
//! the errors found printed (minutes): `cargo test --release --test accuracy -- --ignored --nocapture`;
//! `ASCEND_TENSOR_ACCURACY_ONLY=exp,erf` picks functions.

#[path = "accuracy/exact.rs"]
mod exact;
#[path = "accuracy/functions.rs"]
mod functions;
#[path = "accuracy/halves.rs"]
mod halves;
#[path = "accuracy/pairs.rs"]
mod pairs;
#[path = "accuracy/stated.rs"]
mod stated;

use std::num::NonZero;
use std::sync::Mutex;

use ascend_tensor::{BackwardOptions, CpuOptions, Result, SimdLevel, Tensor};
use functions::{Bound, FUNCTIONS, Function};

/// The sets that this CPU has.
fn levels() -> Vec<SimdLevel> {
    use SimdLevel::{Avx2, Avx512, Neon, Off};
    let all = [Off, Neon, Avx2, Avx512];
    all.into_iter()
        .filter(|level| level.is_available())
        .collect()
}

/// Numbers as a float dtype has them: up to the largest, with a unit in the last place that depends on the exponent.
#[derive(Clone, Copy)]
struct Format {
    /// Bits of the fraction.
    digits: i32,
    /// The exponent of the smallest normal number; subnormal ones count as that.
    least: i32,
    /// The exponent of the largest numbers.
    most: i32,
}

const SINGLE: Format = Format {
    digits: 23,
    least: -126,
    most: 127,
};

/// `2^n`.
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((1023 + n) as u64) << 52)
}

impl Format {
    /// The distance in units in the last place of the exact value.
    fn units(self, got: f64, exact: f64) -> f64 {
        // What is half a unit above the largest number, or more, rounds to infinity.
        let limit = (2.0 - power_of_two(-self.digits - 1)) * power_of_two(self.most);
        let want = if exact.abs() >= limit {
            f64::INFINITY.copysign(exact)
        } else {
            exact
        };
        if !want.is_finite() || !got.is_finite() {
            let same = want == got || (want.is_nan() && got.is_nan());
            // The largest numbers may round to infinity, and back.
            let near = 4.0 * power_of_two(-self.digits);
            let edge = (exact.abs() / limit - 1.0).abs() < near
                && got.abs() >= limit * (1.0 - near)
                && got.is_sign_negative() == exact.is_sign_negative();
            return if same || edge { 0.0 } else { f64::INFINITY };
        }
        let exponent = ((want.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        let unit = exponent.max(self.least) - self.digits;
        (got - exact).abs() * power_of_two(-unit)
    }
}

/// What was found over some numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Worst {
    /// The largest error in units of those that are beyond the absolute bound, and where.
    units: f64,
    at: f64,
    /// The largest absolute error of those that are more units than stated, and where.
    beyond: f64,
    beyond_at: f64,
}

impl Worst {
    fn take(&mut self, x: f64, got: f64, exact: f64, format: Format, stated: Bound) {
        let units = format.units(got, exact);
        if units <= self.units && units <= stated.units {
            return;
        }
        let difference = if units == f64::INFINITY {
            units
        } else {
            (got - exact).abs()
        };
        if difference > stated.absolute && units > self.units {
            (self.units, self.at) = (units, x);
        }
        if units > stated.units && difference > self.beyond {
            (self.beyond, self.beyond_at) = (difference, x);
        }
    }

    /// Takes numbers that follow each other in memory as on the line. Five exact values give a parabola and confirm it; where it
    /// says that a result is clearly better than the worst, the exact value is not needed.
    fn take_near(&mut self, function: &Function, numbers: &[f32; NEAR], got: &[f32; NEAR]) {
        let stated = function.stated;
        let exact = |index: usize| (function.exact)(f64::from(numbers[index]));
        let known = [0, 16, 32, 48, 63].map(exact);
        let slope = (known[2] - known[0]) / 32.0;
        let bend = ((known[4] - known[0]) / 63.0 - slope) / 31.0;
        let at = |index: usize| {
            let step = index as f64;
            known[0] + step * (slope + (step - 32.0) * bend)
        };
        const SLACK: f64 = 1.0 / 64.0;
        let confirmed = known.iter().all(|value| value.is_finite())
            && SINGLE.units(at(16), known[1]) < SLACK / 2.0
            && SINGLE.units(at(48), known[3]) < SLACK / 2.0;
        let enough = self.units.min(stated.units) - SLACK;
        for (index, (x, got)) in numbers.iter().zip(got).enumerate() {
            let (near, got) = (at(index), f64::from(*got));
            if !confirmed || SINGLE.units(got, near) > enough {
                self.take(f64::from(*x), got, exact(index), SINGLE, stated);
            }
        }
    }

    fn and(self, other: Worst) -> Worst {
        let (units, at) = if other.units > self.units {
            (other.units, other.at)
        } else {
            (self.units, self.at)
        };
        let (beyond, beyond_at) = if other.beyond > self.beyond {
            (other.beyond, other.beyond_at)
        } else {
            (self.beyond, self.beyond_at)
        };
        Worst {
            units,
            at,
            beyond,
            beyond_at,
        }
    }

    /// One line about what was found, and whether it is as stated.
    fn tell(&self, name: &str, stated: Bound, failed: &mut Vec<String>) {
        let Worst {
            units,
            at,
            beyond,
            beyond_at,
        } = self;
        let line = format!(
            "{name}: {units:.3} at {at:e} (stated {}), where it is more {beyond:e} at {beyond_at:e} (stated {:e})",
            stated.units, stated.absolute
        );
        println!("{line}");
        if *units > stated.units {
            failed.push(line);
        }
    }
}

/// Numbers of a parabola.
const NEAR: usize = 64;

/// Compares results with exact values on all cores; `worst` is what was found before.
fn compare(function: &Function, numbers: &[f32], got: &[f32], worst: Worst, step: u64) -> Worst {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let piece = numbers.len().div_ceil(threads).next_multiple_of(NEAR);
    let one = |numbers: &[f32], got: &[f32]| {
        let mut worst = worst;
        if step == 1 {
            let groups = numbers.as_chunks().0.iter().zip(got.as_chunks().0);
            groups.for_each(|(numbers, got)| worst.take_near(function, numbers, got));
            return worst;
        }
        for (x, got) in numbers.iter().zip(got) {
            let (x, got) = (f64::from(*x), f64::from(*got));
            worst.take(x, got, (function.exact)(x), SINGLE, function.stated);
        }
        worst
    };
    std::thread::scope(|scope| {
        let pieces: Vec<_> = numbers
            .chunks(piece)
            .zip(got.chunks(piece))
            .map(|(numbers, got)| scope.spawn(move || one(numbers, got)))
            .collect();
        pieces
            .into_iter()
            .map(|piece| piece.join().unwrap_or_else(|_| panic!("a comparison")))
            .fold(worst, Worst::and)
    })
}

/// Checks that each set gives the same bits for every `step`th number.
fn compare_levels(function: &Function, numbers: &[f32], got: &[f32], step: usize) -> Result<()> {
    let some: Vec<f32> = numbers.iter().copied().step_by(step).collect();
    let x = Tensor::new(some.clone());
    for level in levels() {
        CpuOptions::new().simd(level).apply()?;
        let own = (function.call)(&x)?.to_vec::<f32>()?;
        for ((x, own), got) in some.iter().zip(&own).zip(got.iter().step_by(step)) {
            let same = own.to_bits() == got.to_bits() || (own.is_nan() && got.is_nan());
            let name = function.name;
            assert!(same, "{name} of {x:e} with {level}: {own:e}, not {got:e}");
        }
    }
    CpuOptions::new().simd(SimdLevel::detect()).apply()
}

/// The largest errors of a function over every `step`th number. The sets are compared for all of them, or for every sixteenth.
fn worst(function: &Function, step: u64) -> Result<Worst> {
    const BLOCK: u64 = 1 << 20;
    let count = (1u64 << 32).div_ceil(step);
    let mut worst = Worst::default();
    for start in (0..count).step_by(BLOCK as usize) {
        let block: Vec<f32> = (start..count.min(start + BLOCK))
            .map(|index| f32::from_bits((index * step) as u32))
            .collect();
        let got = (function.call)(&Tensor::new(block.clone()))?.to_vec::<f32>()?;
        compare_levels(function, &block, &got, if step == 1 { 16 } else { 1 })?;
        worst = compare(function, &block, &got, worst, step);
    }
    Ok(worst)
}

/// The set in use is the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The functions that the environment picks.
fn picked() -> impl Iterator<Item = &'static Function> {
    let only = std::env::var("ASCEND_TENSOR_ACCURACY_ONLY").unwrap_or_default();
    let wanted = move |name: &str| only.is_empty() || only.split(',').any(|own| own == name);
    FUNCTIONS
        .iter()
        .filter(move |function| wanted(function.name))
}

fn check(step: u64) -> Result<()> {
    let one = ONE.lock();
    let mut failed = Vec::new();
    for function in picked() {
        worst(function, step)?.tell(function.name, function.stated, &mut failed);
    }
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[test]
fn errors_are_as_stated_over_the_whole_range() -> Result<()> {
    check(9973)
}

#[test]
#[ignore = "all numbers take minutes; run it in release"]
fn errors_are_as_stated_for_every_number() -> Result<()> {
    check(1)
}

/// The gradients of sums, over the finite ones of every 9973rd number.
#[test]
fn errors_of_gradients_are_as_stated() -> Result<()> {
    let one = ONE.lock();
    let numbers: Vec<f32> = (0..=u32::MAX)
        .step_by(9973)
        .map(f32::from_bits)
        .filter(|x| x.is_finite())
        .collect();
    let mut failed = Vec::new();
    for function in picked() {
        let Some((exact, stated)) = function.slope else {
            continue;
        };
        let x = Tensor::new(numbers.clone()).requires_grad()?;
        let y = (function.call)(&x)?;
        let seed = y.ones_like()?;
        let gradients = y.backward_with(BackwardOptions::new().gradient(&seed))?;
        let name = format!("the gradient of {}", function.name);
        let got = gradients.get(&x).map(|dx| dx.to_vec::<f32>()).transpose()?;
        let mut worst = Worst::default();
        for (x, got) in numbers.iter().zip(got.unwrap_or_default()) {
            let x = f64::from(*x);
            worst.take(x, f64::from(got), exact(x), SINGLE, stated);
        }
        worst.tell(&name, stated, &mut failed);
    }
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}
