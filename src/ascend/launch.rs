//! Launches: the only place where kernels start.
//!
//! Knows the two phases of an operator, the workspace, and the temporaries of an op. Must not know any operator's arguments.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;

use ascend_sys::{Function, aclOpExecutor, aclnnStatus, aclrtStream};

use super::aclnn;
use super::cann::name_of;
use super::context::Context;
use super::counters::{count_call, count_launch};
use super::determinism;
use super::executor::Executor;
use super::memory::Buffer;
use super::refusal;
use super::runtime::current_stream;
use super::stream::Stream;
use super::tensor::{Dev, Ready, Temporary};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::shape::Shape;

/// The second phase: the same for every operator.
pub(super) type Second =
    unsafe extern "C" fn(*mut c_void, u64, *mut aclOpExecutor, aclrtStream) -> aclnnStatus;

/// The first phase of an operator, its arguments given: it writes the workspace's size and the executor.
type Begin<'a> = dyn FnMut(*mut u64, *mut *mut aclOpExecutor) -> aclnnStatus + 'a;

/// One op's run on an NPU: the op's name for errors, and the stream that its kernels go to.
///
/// Belongs to the thread that made it.
#[derive(Debug)]
pub struct Launch {
    op: &'static str,
    stream: Arc<Stream>,
    kernels: Cell<u32>,
}

impl Launch {
    /// Opens the device if need be, and takes the thread's stream on it.
    ///
    /// # Errors
    /// Failures of opening the device; an earlier failure that surfaces; a lost device.
    pub fn new(op: &'static str, device: u32) -> Result<Self> {
        Ok(Launch {
            op,
            stream: current_stream(op, device)?,
            kernels: Cell::new(0),
        })
    }

    /// The op's name.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// The number of the device.
    pub fn device(&self) -> u32 {
        self.stream.device()
    }

    /// How many kernels this launch has started.
    pub fn kernels(&self) -> u32 {
        self.kernels.get()
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(super) fn context(&self) -> &Context {
        self.stream.context()
    }

    /// A function of this CANN.
    #[inline]
    pub(super) fn function<F: Function>(&self, function: F) -> Result<F::Pointer> {
        self.context().runtime().cann.function(self.op, function)
    }

    /// Whether this CANN has a function, by its marker in `ascend_sys::f`.
    pub fn has<F: Function>(&self, function: F) -> bool {
        self.context().runtime().cann.has(function)
    }

    /// Memory of unspecified content for the op itself.
    ///
    /// # Errors
    /// Too large a shape; no memory.
    pub fn temporary(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Temporary> {
        let shape = shape.into();
        shape.check(self.op)?;
        let bytes = shape.elements().saturating_mul(dtype.size());
        let buffer = Buffer::on(self.op, Arc::clone(&self.stream), bytes)?;
        Ok(Temporary::new(buffer, Layout::contiguous(shape), dtype))
    }

    /// A small tensor with the given bytes, row-major.
    ///
    /// # Errors
    /// A count of bytes that is not the shape's; no memory; failures of the copy.
    pub fn constant(
        &self,
        bytes: &[u8],
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Temporary> {
        let shape = shape.into();
        let made = self.temporary(shape, dtype)?;
        let wanted = made.dev().buffer().len();
        if bytes.len() != wanted {
            let got = format!("{} bytes", bytes.len());
            return Err(Error::shape(
                self.op,
                got,
                format!("{wanted} bytes for {dtype} of {shape}"),
            ));
        }
        made.dev().buffer().write(self.op, 0, bytes)?;
        Ok(made)
    }

    /// A small vector of f32.
    ///
    /// # Errors
    /// No memory; failures of the copy.
    pub fn constant_f32(&self, values: &[f32]) -> Result<Temporary> {
        let bytes: smallvec::SmallVec<[u8; 64]> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        self.constant(&bytes, [values.len()], DType::F32)
    }

    /// A small vector of i64.
    ///
    /// # Errors
    /// No memory; failures of the copy.
    pub fn constant_i64(&self, values: &[i64]) -> Result<Temporary> {
        let bytes: smallvec::SmallVec<[u8; 64]> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        self.constant(&bytes, [values.len()], DType::I64)
    }

    /// The tensor row-major without gaps: itself, or a copy.
    ///
    /// # Errors
    /// No memory; failures of the copy.
    pub fn contiguous<'a>(&self, x: &Dev<'a>) -> Result<Ready<'a>> {
        if x.layout().is_contiguous() {
            return Ok(Ready::Given(*x));
        }
        let made = self.temporary(*x.shape(), x.dtype())?;
        if !x.is_empty() {
            aclnn::inplace_copy(self, &made.dev(), x)?;
        }
        Ok(Ready::Made(made))
    }

    /// The tensor in a dtype: itself, or a copy.
    ///
    /// # Errors
    /// No memory; failures of the cast.
    pub fn cast<'a>(&self, x: &Dev<'a>, dtype: DType) -> Result<Ready<'a>> {
        if x.dtype() == dtype {
            return Ok(Ready::Given(*x));
        }
        let made = self.temporary(*x.shape(), dtype)?;
        if !x.is_empty() {
            aclnn::cast(self, x, dtype, &made.dev())?;
        }
        Ok(Ready::Made(made))
    }

    /// Whether all the tensors are empty, so that no kernel need run.
    pub fn is_empty(&self, outputs: &[&Dev<'_>]) -> bool {
        outputs.iter().all(|output| output.is_empty())
    }

    /// Runs one operator: the first phase through `begin`, then the second.
    ///
    /// A first phase that finds no memory is tried once more after the pool gave back what it does not use.
    pub(super) fn run<F, S>(
        &self,
        first: F,
        second: S,
        dtypes: &[Option<DType>],
        mut begin: impl FnMut(F::Pointer, *mut u64, *mut *mut aclOpExecutor) -> aclnnStatus,
    ) -> Result<()>
    where
        F: Function,
        S: Function<Pointer = Second>,
    {
        determinism::permit(self.op, self.context(), name_of(second))?;
        let starting = self.function(second)?;
        let first_phase = self.function(first)?;
        self.phases(
            [name_of(first), name_of(second)],
            dtypes,
            &mut |size, executor| begin(first_phase, size, executor),
            starting,
        )
    }

    /// Both phases, by the names of their functions: one body for all operators.
    fn phases(
        &self,
        [first, second]: [&'static str; 2],
        dtypes: &[Option<DType>],
        begin: &mut Begin<'_>,
        starting: Second,
    ) -> Result<()> {
        let context = self.context();
        let mut begun = self.begin(first, begin);
        if begun.as_ref().is_err_and(Error::is_out_of_memory) {
            context.empty_cache(self.op)?;
            begun = self.begin(first, begin);
        }
        let (size, executor) = begun.map_err(|error| self.explained(error, second, dtypes))?;
        let mut workspace = self.stream.workspace();
        let address = workspace.at_least(self.op, size)?;
        count_call();
        count_launch(second);
        self.kernels.set(self.kernels.get().saturating_add(1));
        // SAFETY: the executor is fresh and used once; the workspace has at least `size` bytes and is shared only with other
        // work of this stream, whose submission the held lock keeps apart; the stream is alive and its context bound.
        let code = unsafe { starting(address, size, executor.consume(), self.stream.raw()) };
        drop(workspace);
        if code == 0 {
            Ok(())
        } else {
            let cann = &context.runtime().cann;
            Err(context.noted(cann.failure(self.op, second, code)))
        }
    }

    /// A refusal of the first phase, explained by the dtype table where that rules a dtype out.
    #[cold]
    fn explained(&self, error: Error, kernel: &str, dtypes: &[Option<DType>]) -> Error {
        match self.context().runtime().cann.soc_name(self.op) {
            Ok(soc) => refusal::explain(error, self.device(), &soc, kernel, dtypes),
            Err(_) => error,
        }
    }

    /// The first phase: the size of the workspace and the executor.
    fn begin(&self, name: &'static str, begin: &mut Begin<'_>) -> Result<(u64, Executor<'_>)> {
        let (mut size, mut raw) = (0, std::ptr::null_mut());
        count_call();
        let code = begin(&mut size, &mut raw);
        let context = self.context();
        if code != 0 {
            let cann = &context.runtime().cann;
            return Err(context.noted(cann.failure(self.op, name, code)));
        }
        Ok((size, Executor::new(context, raw)))
    }

    /// Waits for the launch's stream.
    ///
    /// # Errors
    /// The first failure of the work queued on it.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize_for(self.op)
    }
}
