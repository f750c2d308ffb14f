//! Elementary functions: errors in units in the last place, and the same bits with every set of vector instructions.
//!
//! The default run takes every 9973rd of the 2^32 numbers of `f32`. All of them, with the errors found printed (minutes):
//! `cargo test --release --test accuracy -- --ignored --nocapture`; `ASCEND_TENSOR_ACCURACY_ONLY=exp,erf` picks functions.

use std::sync::Mutex;

use ascend_tensor::{CpuOptions, GeluApproximation, Result, SimdLevel, Tensor};

/// A function, its exact values, and the largest error that the documentation states: in units in the last place, unless it is
/// below an absolute one.
struct Function {
    name: &'static str,
    call: fn(&Tensor) -> Result<Tensor>,
    exact: fn(f64) -> f64,
    stated: f64,
    absolute: f64,
}

const fn function(
    name: &'static str,
    call: fn(&Tensor) -> Result<Tensor>,
    exact: fn(f64) -> f64,
    stated: f64,
) -> Function {
    Function {
        name,
        call,
        exact,
        stated,
        absolute: 0.0,
    }
}

impl Function {
    const fn absolute(self, absolute: f64) -> Self {
        Function { absolute, ..self }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The formula with the hyperbolic tangent: `x / 2 (1 + tanh(u)) = x / (1 + e^(-2 u))`.
fn gelu_tanh(x: f64) -> f64 {
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    times_sigmoid(x, 2.0 * scale * (x + 0.044715 * x * x * x))
}

/// `x sigmoid(u)`, 0 where the second factor vanishes.
fn times_sigmoid(x: f64, u: f64) -> f64 {
    match sigmoid(u) {
        0.0 => -0.0,
        factor => x * factor,
    }
}

const FUNCTIONS: &[Function] = &[
    function("exp", |x| x.exp(), f64::exp, 1.1),
    function("log", |x| x.log(), f64::ln, 1.0),
    function("tanh", |x| x.tanh(), f64::tanh, 1.5),
    function("erf", |x| x.erf(), libm::erf, 2.5),
    function("erfc", |x| x.erfc(), libm::erfc, 6.0),
    function("sigmoid", |x| x.sigmoid(), sigmoid, 3.0).absolute(1.2e-38),
    function("silu", |x| x.silu(), |x| times_sigmoid(x, x), 3.5).absolute(3e-37),
    function("gelu", |x| x.gelu(()), gelu, 8.0).absolute(2e-37),
    function(
        "gelu_tanh",
        |x| x.gelu(GeluApproximation::Tanh),
        gelu_tanh,
        8.0,
    )
    .absolute(4e-7),
    function("log1p", |x| x.log1p(), f64::ln_1p, 1.0),
    function("expm1", |x| x.expm1(), f64::exp_m1, 1.0),
    function("exp2", |x| x.exp2(), f64::exp2, 1.0),
    function("log2", |x| x.log2(), f64::log2, 1.0),
    function("log10", |x| x.log10(), f64::log10, 2.5),
    function("sin", |x| x.sin(), f64::sin, 1.0),
    function("cos", |x| x.cos(), f64::cos, 1.0),
    function("rsqrt", |x| x.rsqrt(), |x| 1.0 / x.sqrt(), 1.5),
];

/// The sets that this CPU has.
fn levels() -> Vec<SimdLevel> {
    use SimdLevel::{Avx2, Avx512, Neon, Off};
    let all = [Off, Neon, Avx2, Avx512];
    all.into_iter()
        .filter(|level| level.is_available())
        .collect()
}

/// The distance in units in the last place of the exact value; subnormal ones count as the smallest normal's.
fn units(got: f32, exact: f64) -> f64 {
    let want = exact as f32;
    if !want.is_finite() || !got.is_finite() {
        let same = want == got || (want.is_nan() && got.is_nan());
        // The largest numbers may round to infinity, and back.
        let edge = exact.abs() > f64::from(f32::MAX) * (1.0 - 1e-6) && got.abs() >= f32::MAX;
        return if same || edge { 0.0 } else { f64::INFINITY };
    }
    let exponent = want.abs().max(f32::MIN_POSITIVE).to_bits() >> 23;
    (f64::from(got) - exact).abs() / f64::from(exponent as i32 - 150).exp2()
}

/// The largest error of a function over every `step`th number, with the number where it is.
fn worst(function: &Function, step: u64) -> Result<(f64, f32)> {
    const BLOCK: usize = 1 << 20;
    let mut numbers = (0..=u64::from(u32::MAX)).step_by(step as usize);
    let mut worst = (0.0, 0.0);
    loop {
        let block: Vec<f32> = (&mut numbers)
            .take(BLOCK)
            .map(|bits| f32::from_bits(bits as u32))
            .collect();
        if block.is_empty() {
            return Ok(worst);
        }
        let x = Tensor::new(block.clone());
        let mut first: Option<Vec<f32>> = None;
        for level in levels() {
            CpuOptions::new().simd(level).apply()?;
            let got = (function.call)(&x)?.to_vec::<f32>()?;
            match &first {
                None => first = Some(got),
                Some(first) => {
                    for ((x, got), want) in block.iter().zip(&got).zip(first) {
                        let same = got.to_bits() == want.to_bits();
                        let name = function.name;
                        assert!(same, "{name} of {x:e} with {level}: {got:e}, not {want:e}");
                    }
                }
            }
        }
        for (x, got) in block.iter().zip(first.unwrap_or_default()) {
            let exact = (function.exact)(f64::from(*x));
            let error = units(got, exact);
            let small = (f64::from(got) - exact).abs() <= function.absolute;
            if error > worst.0 && !small {
                worst = (error, *x);
            }
        }
    }
}

/// The set in use is the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn check(step: u64) -> Result<()> {
    let one = ONE.lock();
    let only = std::env::var("ASCEND_TENSOR_ACCURACY_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|own| own == name);
    let sets: Vec<String> = levels().iter().map(ToString::to_string).collect();
    let mut failed = Vec::new();
    for function in FUNCTIONS.iter().filter(|function| wanted(function.name)) {
        let (error, at) = worst(function, step)?;
        let Function {
            name,
            stated,
            absolute,
            ..
        } = function;
        let sets = sets.join(", ");
        println!(
            "{name}: {error:.3} at {at:e}, stated {stated} or {absolute:e}; same bits with {sets}"
        );
        if error > *stated {
            failed.push(format!("{name}: {error} at {at:e}, stated {stated}"));
        }
    }
    CpuOptions::new().simd(SimdLevel::detect()).apply()?;
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
