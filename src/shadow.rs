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
}

/// Runs `body` with each op on an NPU also run on the host and compared, those of backward passes and in-place updates too; a
/// difference beyond the op's tolerance is an [`Error::Mismatch`](crate::Error::Mismatch). Slow: all inputs are copied to the
/// host.
///
/// Random numbers that the NPU makes itself are not compared; what views, copies and creation ops make has nothing to compare.
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
                let wanted = dispatch::run(op, &host)?;
                for (index, (got, want)) in outputs.iter().zip(&wanted).enumerate() {
                    difference(op.name(), &host, index, [got, want])?;
                }
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

/// Families whose ops make each element of few others: no rounding adds up.
const EXACT: &[&str] = &["activation", "elementwise", "sort", "view"];

/// What an op's results may differ by. Sums may cancel, so that their error is measured by the largest result.
fn tolerance(op: &'static str, want: &[f64], dtype: DType) -> Tolerance {
    let own = Tolerance::of(dtype);
    if of_families(EXACT, op) {
        return own;
    }
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(0.0f64, |largest, x| largest.max(x.abs()));
    Tolerance {
        rtol: own.rtol,
        atol: own.atol.max(own.rtol * largest),
    }
}

fn difference(
    op: &'static str,
    inputs: &[&Tensor],
    output: usize,
    [got, want]: [&Tensor; 2],
) -> Result<()> {
    let (device, dtype) = (got.device(), want.dtype());
    let (got, want) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let tolerance = tolerance(op, &want, dtype);
    let mut worst: Option<(f64, usize)> = None;
    let mut count = 0;
    for (position, (g, w)) in got.iter().zip(&want).enumerate() {
        let close = g == w
            || g.is_nan() && w.is_nan()
            || w.is_finite() && (g - w).abs() <= tolerance.atol + tolerance.rtol * w.abs();
        if !close {
            count += 1;
            let error = if (g - w).is_finite() {
                (g - w).abs()
            } else {
                f64::INFINITY
            };
            if worst.is_none_or(|(own, _)| error > own) {
                worst = Some((error, position));
            }
        }
    }
    let Some((_, position)) = worst else {
        return Ok(());
    };
    let at = |values: &[f64]| values.get(position).copied().unwrap_or(f64::NAN);
    let inputs: Vec<String> = inputs
        .iter()
        .map(|x| format!("{} {}", x.dtype(), x.shape()))
        .collect();
    Err(Error::Mismatch(Box::new(Mismatch {
        op,
        inputs: inputs.join(", ").into(),
        output,
        position,
        device,
        got: at(&got),
        want: at(&want),
        rtol: tolerance.rtol,
        atol: tolerance.atol,
        count,
    })))
}
