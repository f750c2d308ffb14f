//! Shadow mode: an op that ran on an NPU runs again on the host, and the results are compared.
//!
//! Knows which ops are compared, how two results are compared and what the report says. Must not know any op's mathematics.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::OnceLock;

use smallvec::SmallVec;

use crate::device::Device;
use crate::dispatch::{self, Inputs};
use crate::dtype::DType;
use crate::error::{Error, Mismatch, Result};
use crate::mode::{self, Modes};
use crate::op::{Op, Outputs, Tolerance};
use crate::tensor::Tensor;

/// Settings of [`shadow_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ShadowOptions {
    every: u64,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        ShadowOptions { every: 1 }
    }
}

impl ShadowOptions {
    /// Every op is compared.
    pub fn new() -> Self {
        ShadowOptions::default()
    }

    /// One op in so many is compared, picked by a hash of its number: the same ones in each run, and not always the same op of
    /// a model that repeats itself.
    pub fn every(mut self, count: u64) -> Self {
        self.every = count.max(1);
        self
    }
}

thread_local! {
    static EVERY: Cell<u64> = const { Cell::new(1) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static JUDGED: Cell<ShadowCounts> = const { Cell::new(ShadowCounts { compared: 0, passed_over: 0 }) };
}

/// What shadow mode has done on a thread: a run without a report is worth what was compared in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShadowCounts {
    /// Ops whose results were compared.
    pub compared: u64,
    /// Ops of the sample that the host has no kernel for, so that nothing was compared.
    pub passed_over: u64,
}

impl ShadowCounts {
    /// What was done since an earlier moment.
    pub fn since(self, earlier: ShadowCounts) -> ShadowCounts {
        ShadowCounts {
            compared: self.compared.wrapping_sub(earlier.compared),
            passed_over: self.passed_over.wrapping_sub(earlier.passed_over),
        }
    }
}

/// What shadow mode has done on this thread since it began.
///
/// ```
/// use ascend_tensor::{ShadowCounts, Tensor, shadow, shadow_counts};
/// # fn main() -> ascend_tensor::Result<()> {
/// let before = shadow_counts();
/// shadow(|| Tensor::new([1.0f32, 2.0]).exp())?;
/// // On the CPU there is nothing to compare with.
/// assert_eq!(shadow_counts().since(before), ShadowCounts::default());
/// # Ok(())
/// # }
/// ```
pub fn shadow_counts() -> ShadowCounts {
    JUDGED.get()
}

/// Runs `body` with each op on an NPU also run on the host and compared, those of backward passes and in-place updates too; a
/// difference beyond the op's tolerance is an [`Error::Mismatch`](crate::Error::Mismatch). Slow: all inputs are copied to the
/// host.
///
/// A result may differ by the dtype's relative tolerance of itself, and of what its rounding errors come from: the magnitudes of
/// the terms that are added up in it (products, convolutions, sums, scatters), or the largest result of its line along the last
/// dim (norms, attention, losses, updates). So a small element is judged by what it is made of, not by large ones elsewhere.
///
/// Random numbers that the NPU makes itself, and gradients that read what only its forward kernels keep (masks of maxima), are
/// not compared; what views, copies and creation ops make has nothing to compare. [`shadow_counts`] tells how much was.
pub fn shadow<R>(body: impl FnOnce() -> R) -> R {
    shadow_with(ShadowOptions::new(), body)
}

/// As [`shadow`], for a sample of the ops.
///
/// ```
/// use ascend_tensor::{ShadowOptions, Tensor, shadow_with};
/// # fn main() -> ascend_tensor::Result<()> {
/// let y = shadow_with(ShadowOptions::new().every(100), || Tensor::new([1.0f32, 2.0]).exp())?;
/// assert_eq!(y.dims(), [2]);
/// # Ok(())
/// # }
/// ```
pub fn shadow_with<R>(options: ShadowOptions, body: impl FnOnce() -> R) -> R {
    struct Restore(u64, u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            EVERY.set(self.0);
            COUNT.set(self.1);
        }
    }
    let _restore = Restore(EVERY.replace(options.every), COUNT.replace(0));
    mode::scoped(Modes::SHADOW, true, body)
}

/// Whether the next op is one of the sample.
fn is_due() -> bool {
    let (every, count) = (EVERY.get(), COUNT.get());
    COUNT.set(count.wrapping_add(1));
    let mut mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    mixed.is_multiple_of(every)
}

/// An op's inputs on the host, as they were before it ran.
pub(crate) struct Comparison {
    host: Inputs,
}

impl Comparison {
    /// What an op's results on an NPU are to be compared with; `None` if they are not.
    pub fn begin(op: &dyn Op, inputs: &Inputs) -> Result<Option<Self>> {
        let copies = matches!(op.name(), "to_device" | "checkpoint");
        if inputs.is_empty() || copies || of_families(&["random"], op.name()) || !is_due() {
            return Ok(None);
        }
        let host = mode::no_grad(|| {
            let host = inputs.iter().map(|input| input.to_device(Device::Cpu));
            host.collect::<Result<_>>()
        })?;
        Ok(Some(Comparison { host }))
    }

    /// Compares what an NPU made with what the host makes of the same inputs.
    ///
    /// # Errors
    /// `Mismatch` with the worst element of the first output that differs.
    pub fn end(self, op: &dyn Op, outputs: &Outputs) -> Result<()> {
        mode::scoped(Modes::SHADOW, false, || {
            mode::no_grad(|| {
                let host: SmallVec<[&Tensor; 4]> = self.host.iter().collect();
                let wanted = match dispatch::run(op, &host) {
                    // A gradient that reads what only an NPU's kernel keeps, such as its masks.
                    Err(Error::Unsupported { .. }) => {
                        let passed_over = JUDGED.get().passed_over + 1;
                        JUDGED.set(ShadowCounts {
                            passed_over,
                            ..JUDGED.get()
                        });
                        return Ok(());
                    }
                    other => other?,
                };
                for (index, (got, want)) in outputs.iter().zip(&wanted).enumerate() {
                    difference(op, &host, index, [got, want])?;
                }
                let compared = JUDGED.get().compared + 1;
                JUDGED.set(ShadowCounts {
                    compared,
                    ..JUDGED.get()
                });
                Ok(())
            })
        })
    }
}

/// Whether an op is of one of the families.
fn of_families(families: &'static [&'static str], op: &str) -> bool {
    static ALL: OnceLock<HashSet<(&'static str, &'static str)>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let catalog = crate::ops::catalog();
        catalog.map(|info| (info.family, info.name)).collect()
    });
    families.iter().any(|family| all.contains(&(*family, op)))
}

/// What an error of an op's results is measured by, beside the result itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Nothing: a result is made of few numbers.
    Own,
    /// The magnitudes of the terms of the sum that a result is: what the op makes of absolute values.
    Terms,
    /// The largest result of its line along the last dim.
    Line,
}

impl Measure {
    fn of(op: &'static str) -> Self {
        const OWN: &[&str] = &["activation", "creation", "elementwise", "sort", "view"];
        const TERMS: &[&str] = &["conv", "index", "linear", "moe", "pool", "reduce"];
        if of_families(OWN, op) {
            Measure::Own
        } else if of_families(TERMS, op) {
            Measure::Terms
        } else {
            Measure::Line
        }
    }
}

/// What each result of an op may differ by.
#[derive(Debug)]
struct Limits<'a> {
    rtol: f64,
    atol: f64,
    want: &'a [f64],
    /// The measure of each result; empty where it is the result itself.
    scale: Vec<f64>,
}

impl<'a> Limits<'a> {
    /// Without a measure: a multiple of the rounding of each result. Most pass, and need no other.
    fn tight(want: &'a [f64], dtype: DType) -> Self {
        Limits {
            rtol: Tolerance::of(dtype).rtol,
            atol: spacing(dtype),
            want,
            scale: Vec::new(),
        }
    }

    /// With the op's measure. Where an op is a sum of products, the same op of absolute values makes the sum of magnitudes;
    /// factors of its own may be negative, and two terms of other signs hide each other, so that the first input is tried with
    /// both signs.
    fn measured(self, op: &dyn Op, inputs: &[&Tensor], output: usize, want: &Tensor) -> Self {
        let own = Tolerance::of(want.dtype());
        let lines = lines(self.want, want);
        let largest = lines.iter().copied().fold(0.0, f64::max);
        let small = own.atol.min(own.rtol * largest);
        let measure = Measure::of(op.name());
        let terms = || {
            let [plus, minus] = [false, true].map(|flip| magnitudes(op, inputs, output, flip));
            let (plus, minus) = (plus.ok()?, minus.ok()?);
            let both = plus.iter().zip(&minus);
            Some(both.map(|(a, b)| a.max(*b)).collect::<Vec<f64>>())
        };
        let terms = match measure {
            Measure::Terms if op.writes().is_nothing() => terms(),
            _ => None,
        };
        match (measure, terms) {
            // Functions of the processor's own are exact to an absolute error near their zeros.
            (Measure::Own, _) if want.dtype().is_half() => Limits {
                atol: small,
                ..self
            },
            (Measure::Own, _) => Limits {
                atol: own.atol,
                ..self
            },
            (Measure::Terms, Some(terms)) if terms.len() == self.want.len() => Limits {
                scale: terms,
                ..self
            },
            _ => Limits {
                atol: small,
                scale: lines,
                ..self
            },
        }
    }

    fn at(&self, position: usize) -> f64 {
        let want = self.want[position].abs();
        let scale = self.scale.get(position).copied().unwrap_or(0.0);
        self.atol + self.rtol * (want + if scale.is_finite() { scale } else { 0.0 })
    }

    fn fits(&self, position: usize, got: f64) -> bool {
        let want = self.want[position];
        got == want
            || got.is_nan() && want.is_nan()
            || want.is_finite() && (got - want).abs() <= self.at(position)
    }
}

/// The distance of a dtype's smallest numbers, which a device may take for 0.
fn spacing(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-14),
        DType::F32 | DType::BF16 => f64::from(f32::MIN_POSITIVE),
        _ => 0.0,
    }
}

/// For each result the largest finite one of its line along the last dim.
fn lines(values: &[f64], tensor: &Tensor) -> Vec<f64> {
    let length = tensor.dims().last().copied().unwrap_or(1).max(1);
    let largest = |line: &[f64]| {
        let finite = line.iter().filter(|x| x.is_finite());
        finite.fold(0.0f64, |largest, x| largest.max(x.abs()))
    };
    let lines = values.chunks(length);
    lines
        .flat_map(|line| std::iter::repeat_n(largest(line), line.len()))
        .collect()
}

/// The magnitudes of what the op makes of the inputs' absolute values, those of the first float input negative if asked for.
fn magnitudes(op: &dyn Op, inputs: &[&Tensor], output: usize, flip: bool) -> Result<Vec<f64>> {
    let mut flip = flip;
    let mut absolute: Inputs = Inputs::new();
    for input in inputs {
        let input = match input.dtype().is_float() {
            true if std::mem::take(&mut flip) => input.abs()?.neg()?,
            true => input.abs()?,
            false => (*input).clone(),
        };
        absolute.push(input);
    }
    let absolute: SmallVec<[&Tensor; 4]> = absolute.iter().collect();
    let made = dispatch::run(op, &absolute)?;
    let made = made
        .get(output)
        .ok_or(Error::NoGradient { op: op.name() })?;
    Ok(made.to_f64_vec()?.into_iter().map(f64::abs).collect())
}

fn difference(
    op: &dyn Op,
    inputs: &[&Tensor],
    output: usize,
    [made, wanted]: [&Tensor; 2],
) -> Result<()> {
    let (got, want) = (made.to_f64_vec()?, wanted.to_f64_vec()?);
    let all = 0..got.len().min(want.len());
    let mut limits = Limits::tight(&want, wanted.dtype());
    if all
        .clone()
        .all(|position| limits.fits(position, got[position]))
    {
        return Ok(());
    }
    limits = limits.measured(op, inputs, output, wanted);
    let wrong: Vec<usize> = all.filter(|at| !limits.fits(*at, got[*at])).collect();
    let error = |at: usize| match (got[at] - want[at]).abs() {
        error if error.is_finite() => error,
        _ => f64::INFINITY,
    };
    let worst = wrong.iter().copied().max_by(|a, b| {
        let later = b.cmp(a);
        error(*a).total_cmp(&error(*b)).then(later)
    });
    let Some(position) = worst else {
        return Ok(());
    };
    let inputs: Vec<String> = inputs
        .iter()
        .map(|x| format!("{} {}", x.dtype(), x.shape()))
        .collect();
    Err(Error::Mismatch(Box::new(Mismatch {
        op: op.name(),
        inputs: inputs.join(", ").into(),
        output,
        position,
        device: made.device(),
        got: got[position],
        want: want[position],
        rtol: limits.rtol,
        atol: limits.at(position) - limits.rtol * want[position].abs(),
        count: wrong.len(),
    })))
}
