//! The tensor: a handle of shared memory with a layout, a dtype and, under the tape, a history.
//!
//! Knows handles, views and the way to kernels' views of them. Must not know any op: those are methods in `ops`.

mod convert;
mod display;
mod operators;

use std::sync::Arc;

pub use convert::NdArray;

use crate::ascend::Dev;
use crate::autograd::tape::NodeRef;
use crate::cpu::{Host, HostMut};
use crate::device::Device;
use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::layout::Layout;
use crate::op::Meta;
use crate::shape::Shape;
use crate::storage::{Data, Storage};

/// An n-dimensional array of numbers on a device.
///
/// Clones and views share memory; no clone copies data. Ops never change their inputs, except those whose name ends in `_`.
///
/// ```
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
/// let y = (&x + &x)?;
/// assert_eq!(y.to_vec::<f32>()?, [2.0, 4.0, 6.0, 8.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    /// For a view: its layout, which is not the storage's own. So a tensor is a few words, and a fresh one a single allocation
    /// beside its data.
    view: Option<Arc<Layout>>,
    dtype: DType,
    node: Option<NodeRef>,
    /// The storage's version that this handle's history accounts for.
    seen: u64,
}

impl Tensor {
    /// The tensor of fresh data.
    #[inline(always)]
    pub(crate) fn fresh(data: Data, layout: &Layout, dtype: DType) -> Self {
        Tensor {
            storage: Storage::new(data, layout),
            view: None,
            dtype,
            node: None,
            seen: 0,
        }
    }

    pub(crate) fn from_storage(storage: Arc<Storage>, layout: Layout, dtype: DType) -> Self {
        let seen = storage.version();
        let view = (layout != *storage.layout()).then(|| Arc::new(layout));
        Tensor {
            storage,
            view,
            dtype,
            node: None,
            seen,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        self.layout().shape()
    }

    /// The sizes of the dims.
    pub fn dims(&self) -> &[usize] {
        self.layout().dims()
    }

    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.layout().shape().rank()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.layout().elements()
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// The strides and the offset, in elements.
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.view.as_deref().unwrap_or(self.storage.layout())
    }

    /// Whether the elements lie row-major without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Whether the tape follows this tensor: it requires a gradient or was computed from one that does.
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    /// The same data without history.
    #[must_use]
    pub fn detach(&self) -> Tensor {
        self.detached_handle()
    }

    /// Whether two tensors are views of the same memory.
    pub fn shares_storage(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// Whether two tensors may share elements without being exactly the same ones in the same places.
    pub(crate) fn overlaps(&self, other: &Tensor) -> bool {
        if !self.shares_storage(other) || self.elements() == 0 || other.elements() == 0 {
            return false;
        }
        let (own, its) = (self.layout(), other.layout());
        let same = own == its && self.dtype == other.dtype;
        !same && own.offset() < its.end() && its.offset() < own.end()
    }

    #[inline]
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            shape: *self.layout().shape(),
            dtype: self.dtype,
        }
    }

    /// Whether this handle alone has the storage, on the host, whole and contiguous, and has no history.
    pub(crate) fn is_sole(&self) -> bool {
        self.view.is_none()
            && self.node.is_none()
            && self.device().is_cpu()
            && Arc::strong_count(&self.storage) == 1
            && self.is_contiguous()
    }

    /// This tensor if it may be changed in place, else a copy.
    pub(crate) fn into_sole(self) -> Result<Tensor> {
        if self.is_sole() {
            Ok(self)
        } else {
            self.copy()
        }
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    pub(crate) fn node(&self) -> Option<&NodeRef> {
        self.node.as_ref()
    }

    pub(crate) fn into_storage(self) -> Arc<Storage> {
        self.storage
    }

    pub(crate) fn into_node(self) -> Option<NodeRef> {
        self.node
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// The same data under another layout of its storage, without history.
    pub(crate) fn with_layout(&self, layout: Layout) -> Tensor {
        let view = (layout != *self.storage.layout()).then(|| Arc::new(layout));
        Tensor {
            storage: Arc::clone(&self.storage),
            view,
            dtype: self.dtype,
            node: None,
            seen: self.seen,
        }
    }

    /// The same data without history, up to date with the storage's version.
    pub(crate) fn detached_handle(&self) -> Tensor {
        Tensor {
            node: None,
            seen: self.storage.version(),
            storage: Arc::clone(&self.storage),
            view: self.view.clone(),
            dtype: self.dtype,
        }
    }

    pub(crate) fn with_node(mut self, node: NodeRef) -> Tensor {
        self.seen = self.storage.version();
        self.node = Some(node);
        self
    }

    /// A kernel's view, if the data is on the host. The caller holds the storage's lock.
    #[inline]
    pub(crate) fn host(&self) -> Option<Host<'_>> {
        self.storage.host(self.layout(), self.dtype)
    }

    /// As `host`; without elements if it is not.
    #[inline]
    pub(crate) fn host_or_empty(&self) -> Host<'_> {
        self.storage.host_or_empty(self.layout(), self.dtype)
    }

    /// A kernel's view to write, if the data is on the host. The caller holds the storage's lock or has the only handle.
    #[inline]
    pub(crate) fn host_mut(&self) -> Option<HostMut<'_>> {
        self.storage.host_mut(self.layout(), self.dtype)
    }

    /// A kernel's view, if the data is on an NPU.
    pub(crate) fn dev(&self) -> Option<Dev<'_>> {
        match self.storage.data() {
            Data::Cpu(_) | Data::Ghost(_) => None,
            Data::Ascend(buffer) => Some(Dev::new(buffer, *self.layout(), self.dtype)),
        }
    }
}

/// The other operand of an elementwise op: a tensor or a number.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// A tensor, which broadcasts.
    Tensor(&'a Tensor),
    /// A number; its kind takes part in type promotion below tensors.
    Scalar(Scalar),
}

impl<'a> Operand<'a> {
    /// The tensor, if it is one.
    pub fn tensor(self) -> Option<&'a Tensor> {
        match self {
            Operand::Tensor(tensor) => Some(tensor),
            Operand::Scalar(_) => None,
        }
    }

    /// The number, if it is one.
    pub fn scalar(self) -> Option<Scalar> {
        match self {
            Operand::Tensor(_) => None,
            Operand::Scalar(scalar) => Some(scalar),
        }
    }
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Operand::Tensor(tensor)
    }
}

impl<T: Into<Scalar>> From<T> for Operand<'_> {
    fn from(value: T) -> Self {
        Operand::Scalar(value.into())
    }
}

/// A dtype check that several conversions share.
pub(crate) fn wants(op: &'static str, got: DType, want: DType) -> Result<()> {
    if got == want {
        Ok(())
    } else {
        Err(crate::Error::dtype(op, got, want))
    }
}
