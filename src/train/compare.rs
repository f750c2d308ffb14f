//! Parity of two runs, or of two devices: the first op whose results differ.
//!
//! Knows recordings of passes. Must not know what the ops mean.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::device::Device;
use crate::error::Result;
use crate::observe::observe;
use crate::op::Tolerance;
use crate::tensor::Tensor;

/// The results of every op of a pass, on the host.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    calls: Vec<(&'static str, Vec<Tensor>)>,
}

/// Runs `body` and keeps what each op made. An op that is made of others on one device, but not on another, counts as one, so
/// that recordings of two devices can be compared; backward passes are to be recorded by themselves.
///
/// ```
/// use ascend_tensor::Tensor;
/// use ascend_tensor::train::{Difference, record};
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([1.0f32, 4.0]);
/// let (_, first) = record(|| x.sqrt()?.sum(()))?;
/// let (_, second) = record(|| x.sqrt()?.mul(2.0)?.sum(()))?;
/// let found = first.compare(&second, None)?;
/// assert!(matches!(found, Some(Difference::Order { call: 1, first: "sum", second: "mul" })));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `body`, and of reading results back.
pub fn record<R>(body: impl FnOnce() -> Result<R>) -> Result<(R, Recording)> {
    let kept = Rc::new(RefCell::new(Recording::default()));
    let list = Rc::clone(&kept);
    let answer = observe(
        move |call| {
            if call.inner || call.op == "to_device" {
                return Ok(());
            }
            let host = |x: &Tensor| {
                let x = x.detach();
                if x.device().is_cpu() {
                    x.copy()
                } else {
                    x.to_device(Device::Cpu)
                }
            };
            let outputs = call.outputs.iter().map(host).collect::<Result<_>>()?;
            list.borrow_mut().calls.push((call.op, outputs));
            Ok(())
        },
        body,
    )?;
    let recording = kept.borrow().clone();
    Ok((answer, recording))
}

/// Where two runs part.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Difference {
    /// From this op on they do not run the same ops.
    Order {
        /// The number of the op, from 0.
        call: usize,
        /// The op of the first run.
        first: &'static str,
        /// The op of the second run; empty at its end.
        second: &'static str,
    },
    /// An op's results differ beyond the tolerance.
    Values {
        /// The op.
        op: &'static str,
        /// The number of the op, from 0.
        call: usize,
        /// Which of its outputs.
        output: usize,
        /// The row-major position of the worst element.
        position: usize,
        /// Its value in the first run.
        first: f64,
        /// Its value in the second run.
        second: f64,
        /// The share of elements that differ.
        share: f64,
    },
    /// An op's results have other shapes or dtypes.
    Meta {
        /// The op.
        op: &'static str,
        /// The number of the op, from 0.
        call: usize,
        /// What the two runs made.
        made: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Order {
                call,
                first,
                second,
            } => write!(
                f,
                "op {call} is {first} in one run and {second:?} in the other"
            ),
            Difference::Values {
                op,
                call,
                output,
                position,
                first,
                second,
                share,
            } => write!(
                f,
                "op {call}, {op}: output {output} at {position} is {first} in one run and {second} in the other ({:.2} % of its elements differ)",
                100.0 * share
            ),
            Difference::Meta { op, call, made } => write!(f, "op {call}, {op}: made {made}"),
        }
    }
}

impl Recording {
    /// The number of ops.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no op ran.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The first op in which another run differs; `None` if they agree. Without a tolerance, that of each dtype is taken.
    ///
    /// # Errors
    /// Memory errors only.
    pub fn compare(
        &self,
        other: &Recording,
        tolerance: impl Into<Option<Tolerance>>,
    ) -> Result<Option<Difference>> {
        let tolerance = tolerance.into();
        for call in 0..self.calls.len().max(other.calls.len()) {
            let (first, second) = (self.calls.get(call), other.calls.get(call));
            let name = |call: Option<&(&'static str, Vec<Tensor>)>| call.map_or("", |call| call.0);
            let (Some((op, ours)), Some((_, theirs)), true) =
                (first, second, name(first) == name(second))
            else {
                return Ok(Some(Difference::Order {
                    call,
                    first: name(first),
                    second: name(second),
                }));
            };
            for (output, (a, b)) in ours.iter().zip(theirs).enumerate() {
                if (a.shape(), a.dtype()) != (b.shape(), b.dtype()) {
                    let made = format!(
                        "{} {} and {} {}",
                        a.dtype(),
                        a.shape(),
                        b.dtype(),
                        b.shape()
                    );
                    return Ok(Some(Difference::Meta { op, call, made }));
                }
                let tolerance = tolerance.unwrap_or_else(|| Tolerance::of(a.dtype()));
                if let Some((position, first, second, share)) = worst(a, b, tolerance)? {
                    return Ok(Some(Difference::Values {
                        op,
                        call,
                        output,
                        position,
                        first,
                        second,
                        share,
                    }));
                }
            }
        }
        Ok(None)
    }
}

/// The worst element: its position and values, and the share of elements beyond the tolerance.
fn worst(a: &Tensor, b: &Tensor, tolerance: Tolerance) -> Result<Option<(usize, f64, f64, f64)>> {
    let (a, b) = (a.to_f64_vec()?, b.to_f64_vec()?);
    let excess = |(a, b): (&f64, &f64)| {
        let same = a == b || a.is_nan() && b.is_nan();
        let over = (a - b).abs() - tolerance.atol - tolerance.rtol * b.abs();
        match same {
            true => -1.0,
            false if over.is_nan() => f64::INFINITY,
            false => over,
        }
    };
    let over: Vec<f64> = a.iter().zip(&b).map(excess).collect();
    let count = over.iter().filter(|over| **over > 0.0).count();
    let position = (0..over.len()).max_by(|i, j| over[*i].total_cmp(&over[*j]));
    Ok(position
        .filter(|_| count > 0)
        .map(|at| (at, a[at], b[at], count as f64 / over.len() as f64)))
}
