//! Trace mode: what each op did, in the order in which they ran.
//!
//! Knows how to count around one op's run. Must not know any op, nor decide anything about how it runs.

use std::cell::RefCell;
use std::fmt;

use crate::ascend::{self, Counters};
use crate::device::Device;
use crate::error::Result;
use crate::mode::{self, Modes};
use crate::op::{Meta, Op, Outputs};
use crate::tensor::Tensor;

/// What one op did under [`trace`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traced {
    /// The op's name.
    pub op: &'static str,
    /// How many ops it ran inside of: 0 for one that was called, more for the casts and compositions of another.
    pub depth: usize,
    /// The device of the inputs.
    pub device: Device,
    /// The inputs' shapes and dtypes.
    pub inputs: Vec<Meta>,
    /// The outputs' shapes and dtypes; empty if the op failed.
    pub outputs: Vec<Meta>,
    /// How many C functions of CANN were called, by ops within this one too.
    pub calls: u64,
    /// The kernels that were started, in order, by ops within this one too.
    pub kernels: Vec<&'static str>,
    /// How many ops ran on the host for tensors on an NPU, this one or ones within it.
    pub fallbacks: u64,
    /// Whether the op failed.
    pub failed: bool,
}

/// What the ops of a [`trace`] did, in the order in which they were called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Trace {
    /// The ops, each before those that it ran itself.
    pub ops: Vec<Traced>,
}

impl Trace {
    /// The ops that were called, without those that ran within others.
    pub fn called(&self) -> impl Iterator<Item = &Traced> {
        self.ops.iter().filter(|op| op.depth == 0)
    }

    /// The number of kernels started.
    pub fn launches(&self) -> usize {
        self.called().map(|op| op.kernels.len()).sum()
    }

    /// The number of C functions called.
    pub fn calls(&self) -> u64 {
        self.called().map(|op| op.calls).sum()
    }
}

impl fmt::Display for Traced {
    /// `linear f32[2, 3] f32[4, 3] -> f32[2, 4] on ascend:0: 9 calls, aclnnMatmul`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metas = |metas: &[Meta]| -> String {
            let all = metas
                .iter()
                .map(|meta| format!(" {}{}", meta.dtype, meta.shape));
            all.collect()
        };
        write!(f, "{:width$}{}", "", self.op, width = 2 * self.depth)?;
        write!(f, "{} ->{}", metas(&self.inputs), metas(&self.outputs))?;
        write!(f, " on {}: {} calls", self.device, self.calls)?;
        for (at, kernel) in self.kernels.iter().enumerate() {
            write!(f, "{} {kernel}", if at == 0 { "," } else { "" })?;
        }
        if self.fallbacks > 0 {
            write!(f, ", {} on the host", self.fallbacks)?;
        }
        f.write_str(if self.failed { ", failed" } else { "" })
    }
}

impl fmt::Display for Trace {
    /// One line per op, those within others indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

/// The trace under way on a thread, and how deep the op that runs lies.
#[derive(Debug, Default)]
struct Running {
    trace: Trace,
    depth: usize,
}

thread_local! {
    static RUNNING: RefCell<Running> = RefCell::default();
}

/// Puts the outer trace back when dropped, on unwinding too.
struct Outer(Option<Running>);

impl Drop for Outer {
    fn drop(&mut self) {
        if let Some(outer) = self.0.take() {
            RUNNING.replace(outer);
        }
    }
}

/// Runs `body` and tells what each op of this thread did in it: shapes, dtypes, device, C calls, kernels, host fallbacks.
///
/// A trace within another one keeps its ops to itself. Not traced, an op pays nothing for this.
///
/// ```
/// use ascend_tensor::{Tensor, trace};
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([[1.0f32, 2.0]]);
/// let (y, trace) = trace(|| x.matmul(&x.transpose(0, 1)?));
/// assert_eq!(y?.to_vec::<f32>()?, [5.0]);
/// let ops: Vec<&str> = trace.called().map(|op| op.op).collect();
/// assert_eq!(ops, ["transpose", "matmul"]);
/// assert_eq!(trace.launches(), 0, "the CPU starts no kernels of CANN");
/// # Ok(())
/// # }
/// ```
pub fn trace<R>(body: impl FnOnce() -> R) -> (R, Trace) {
    let outer = Outer(Some(RUNNING.take()));
    let result = ascend::with_kernel_names(|| mode::scoped(Modes::TRACE, true, body));
    let own = RUNNING.take();
    drop(outer);
    (result, own.trace)
}

/// Runs one op and keeps what it did.
#[cold]
pub(crate) fn record(
    op: &dyn Op,
    inputs: &[&Tensor],
    run: impl FnOnce() -> Result<Outputs>,
) -> Result<Outputs> {
    let metas = |tensors: &mut dyn Iterator<Item = &Tensor>| tensors.map(Tensor::meta).collect();
    let place = RUNNING.with_borrow_mut(|running| {
        running.trace.ops.push(Traced {
            op: op.name(),
            depth: running.depth,
            device: inputs.first().map_or(op.device(), |input| input.device()),
            inputs: metas(&mut inputs.iter().copied()),
            outputs: Vec::new(),
            calls: 0,
            kernels: Vec::new(),
            fallbacks: 0,
            failed: false,
        });
        running.depth += 1;
        running.trace.ops.len() - 1
    });
    let before: (Counters, u64, usize) = (
        ascend::counters(),
        mode::fallbacks(),
        ascend::kernels_so_far(),
    );
    let outputs = run();
    let calls = ascend::counters().since(before.0).calls;
    RUNNING.with_borrow_mut(|running| {
        running.depth = running.depth.saturating_sub(1);
        if let Some(traced) = running.trace.ops.get_mut(place) {
            traced.calls = calls;
            traced.kernels = ascend::kernels_since(before.2);
            traced.fallbacks = mode::fallbacks().wrapping_sub(before.1);
            traced.failed = outputs.is_err();
            traced.outputs = outputs
                .as_ref()
                .map_or_else(|_| Vec::new(), |outputs| metas(&mut outputs.iter()));
        }
    });
    outputs
}
