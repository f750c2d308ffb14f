//! Dry runs: ops that make tensors with a shape but without memory, so that the memory of a model is known before it is there.
//!
//! Knows how much memory tensors would take at each moment. Must not know any op, nor what a model is.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use crate::ascend::pool;
use crate::cpu::alloc;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mode::{self, Modes};
use crate::op::{Meta, Op, OutputPlan, Outputs, Plan};
use crate::storage::Data;
use crate::tensor::Tensor;

/// What tensors of one device take, in bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    device: Device,
    in_use: usize,
    peak: usize,
}

/// The book of one dry run.
#[derive(Debug, Default)]
struct Book(Mutex<Vec<Entry>>);

impl Book {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, device: Device, bytes: usize) {
        let mut entries = self.entries();
        let at = entries.iter().position(|entry| entry.device == device);
        let at = at.unwrap_or_else(|| {
            entries.push(Entry {
                device,
                in_use: 0,
                peak: 0,
            });
            entries.len() - 1
        });
        if let Some(entry) = entries.get_mut(at) {
            entry.in_use = entry.in_use.saturating_add(bytes);
            entry.peak = entry.peak.max(entry.in_use);
        }
    }

    fn give_back(&self, device: Device, bytes: usize) {
        let mut entries = self.entries();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.device == device) {
            entry.in_use = entry.in_use.saturating_sub(bytes);
        }
    }
}

/// Memory that is only counted.
#[derive(Debug)]
pub(crate) struct Ghost {
    device: Device,
    len: usize,
    counted: usize,
    book: Arc<Book>,
}

impl Ghost {
    pub fn device(&self) -> Device {
        self.device
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        self.book.give_back(self.device, self.counted);
    }
}

thread_local! {
    static BOOK: RefCell<Option<Arc<Book>>> = const { RefCell::new(None) };
}

/// What a dry run found.
#[derive(Debug)]
#[non_exhaustive]
pub struct DryRun<R> {
    /// What the function gave. Tensors in it have a shape and a dtype, but no values.
    pub value: R,
    entries: Vec<Entry>,
}

impl<R> DryRun<R> {
    /// The most bytes that the run's tensors would take on a device at one time.
    pub fn peak(&self, device: Device) -> usize {
        self.entry(device).map_or(0, |entry| entry.peak)
    }

    /// The bytes that are still in use at the end, by tensors in `value` or that the function left elsewhere.
    pub fn kept(&self, device: Device) -> usize {
        self.entry(device).map_or(0, |entry| entry.in_use)
    }

    fn entry(&self, device: Device) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.device == device)
    }
}

/// Runs `body` without computing: each op makes tensors of the right shape and dtype that have no memory, and their sizes are
/// added up. Neither the memory nor the device need be there.
///
/// What is counted are tensors, with the sizes that the device's allocator would give them; not the kernels' own temporary
/// memory, nor tensors made from values on the host. Nothing can be read back in `body`; an op whose extent depends on data
/// counts with its largest, and on an NPU a kernel counts as if it took every call. A mixture of experts takes the same memory however its tokens are routed, since the rows of all
/// experts lie in one tensor: the even and the worst routing have one peak.
///
/// ```
/// use ascend_tensor::{DType, Device, Tensor, dry_run};
/// # fn main() -> ascend_tensor::Result<()> {
/// let device = Device::ascend(0);                    // which need not exist
/// let run = dry_run(|| {
///     let x = Tensor::zeros([1 << 20, 1 << 10], DType::BF16, device)?;
///     x.matmul(&x.transpose(0, 1)?.narrow(1, 0, 8)?)
/// })?;
/// assert_eq!(run.value.dims(), [1 << 20, 8]);
/// assert!(run.peak(device) >= (1 << 31) + (1 << 24) && run.kept(device) < 1 << 25);
/// assert!(run.value.to_vec::<u8>().is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `body`.
pub fn dry_run<R>(body: impl FnOnce() -> Result<R>) -> Result<DryRun<R>> {
    struct Restore(Option<Arc<Book>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            BOOK.set(self.0.take());
        }
    }
    let book = Arc::new(Book::default());
    let _restore = Restore(BOOK.replace(Some(Arc::clone(&book))));
    let value = mode::scoped(Modes::DRY, true, body)?;
    let entries = book.entries().clone();
    Ok(DryRun { value, entries })
}

/// A tensor that is only counted.
pub(crate) fn ghost(device: Device, meta: &Meta) -> Tensor {
    let len = meta.shape.elements().saturating_mul(meta.dtype.size());
    let counted = match device {
        Device::Cpu => alloc::rounded(len),
        Device::Ascend(_) => pool::rounded(len),
    };
    let book = BOOK.with_borrow_mut(|book| Arc::clone(book.get_or_insert_default()));
    book.take(device, counted);
    let ghost = Ghost {
        device,
        len,
        counted,
        book,
    };
    let layout = Layout::contiguous(meta.shape);
    Tensor::fresh(Data::Ghost(ghost), &layout, meta.dtype)
}

/// Whether a call is made of other ops.
fn is_composed(op: &dyn Op, inputs: &[Tensor], plan: &Plan, device: Device) -> bool {
    let metas: SmallVec<[Meta; 4]> = inputs.iter().map(Tensor::meta).collect();
    if plan.outputs.is_empty() && op.writes().is_nothing() || op.is_composed(&metas, device) {
        return true;
    }
    device.is_ascend() && without_kernels().contains(op.name())
}

/// Ops of the catalog that CANN has no kernel for.
fn without_kernels() -> &'static HashSet<&'static str> {
    static NAMES: OnceLock<HashSet<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let lacking = crate::ops::catalog().filter(|info| info.kernels.is_empty());
        lacking.map(|info| info.name).collect()
    })
}

/// What a call's kernel would make; `None` for an op that is made of others.
pub(crate) fn outputs(
    op: &dyn Op,
    inputs: &[Tensor],
    plan: &Plan,
    device: Device,
) -> Option<Outputs> {
    if is_composed(op, inputs, plan, device) {
        return None;
    }
    let fresh = |output: &OutputPlan| ghost(device, &output.meta);
    let writes = op.writes();
    let written = inputs.iter().enumerate();
    let written = written.filter(|(index, _)| writes.has(*index));
    let written = written.map(|(_, input)| input.clone());
    Some(written.chain(plan.outputs.iter().map(fresh)).collect())
}

/// Refuses inputs of a dry run, which a kernel has no view of.
#[inline]
pub(crate) fn all_there<T>(op: &dyn Op, inputs: &[T], views: usize) -> Result<()> {
    if views == inputs.len() {
        Ok(())
    } else {
        Err(no_values(op.name(), op.device(), DType::F32))
    }
}

/// The error of a tensor without values where values are wanted.
#[cold]
pub(crate) fn no_values(op: &'static str, device: Device, dtype: DType) -> Error {
    Error::unsupported(op, device, dtype, "a tensor of a dry run has no values")
}
