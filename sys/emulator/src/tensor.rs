//! The tensor that a kernel sees: a snapshot of a handle's dtype, shape and strides, read and written at execution time.
//!
//! Knows strides and element conversion; it must not know ops, streams or where memory comes from (the runtime has checked
//! before a kernel runs that the bytes of each tensor belong to a live allocation).

use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::guard;
use crate::number::{Byte, Number, Pair, Stored};
use crate::settings::Strictness;
use half::{bf16, f16};
use ndarray::{Array, ArrayD, ArrayRef, ArrayView, CowArray, Dimension, IxDyn, ShapeBuilder};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

thread_local! {
    static SATURATION: Cell<bool> = const { Cell::new(false) };
    static CLIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that a store of this thread had to saturate.
pub(crate) fn note_clipping() {
    CLIPPED.with(|cell| cell.set(true));
}

/// Whether a store of this thread had to saturate since the last question.
pub(crate) fn take_clipping() -> bool {
    CLIPPED.with(|cell| cell.replace(false))
}

/// Whether stores on this thread replace infinities and NaN; a stream's worker sets it before each task.
pub(crate) fn set_saturation(on: bool) {
    SATURATION.with(|cell| cell.set(on));
}

/// Whether the running kernel's stores saturate.
pub(crate) fn saturation() -> bool {
    SATURATION.with(Cell::get)
}

/// What the creator of an `aclTensor` said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub dtype: i32,
    pub format: i32,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    pub offset: i64,
    pub storage: Vec<i64>,
}

/// The object behind an `aclTensor` handle.
#[derive(Debug)]
pub(crate) struct TensorObject {
    pub description: Mutex<Description>,
    pub address: AtomicUsize,
    /// Owned by a tensor list.
    pub listed: AtomicBool,
    /// False once its handle is destroyed.
    pub alive: AtomicBool,
}

impl TensorObject {
    pub fn new(description: Description, address: usize) -> TensorObject {
        TensorObject {
            description: Mutex::new(description),
            address: AtomicUsize::new(address),
            listed: AtomicBool::new(false),
            alive: AtomicBool::new(true),
        }
    }

    pub fn describe(&self) -> Description {
        self.description
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(Debug)]
struct Inner {
    dtype: DType,
    format: i32,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    count: usize,
    storage: Vec<usize>,
    /// One past the last element that the view reaches, in elements from the address.
    reach: usize,
    contiguous: bool,
    address: AtomicUsize,
    origin: Arc<TensorObject>,
}

/// A tensor argument. Cloning is cheap; the clone in the `run` closure reads device memory when the task runs.
#[derive(Debug, Clone)]
pub struct Tensor {
    inner: Arc<Inner>,
}

/// Calls `$body` with `$stored` naming the stored element type of `$dtype`.
macro_rules! with_stored {
    ($dtype:expr, $stored:ident => $body:expr, $otherwise:expr) => {
        match $dtype {
            DType::F32 => {
                type $stored = f32;
                $body
            }
            DType::F16 => {
                type $stored = f16;
                $body
            }
            DType::Bf16 => {
                type $stored = bf16;
                $body
            }
            DType::F64 => {
                type $stored = f64;
                $body
            }
            DType::I8 => {
                type $stored = i8;
                $body
            }
            DType::I16 => {
                type $stored = i16;
                $body
            }
            DType::I32 => {
                type $stored = i32;
                $body
            }
            DType::I64 => {
                type $stored = i64;
                $body
            }
            DType::U8 => {
                type $stored = u8;
                $body
            }
            DType::U16 => {
                type $stored = u16;
                $body
            }
            DType::U32 => {
                type $stored = u32;
                $body
            }
            DType::U64 => {
                type $stored = u64;
                $body
            }
            DType::Bool => {
                type $stored = Byte;
                $body
            }
            DType::C32 => {
                type $stored = Pair<f16>;
                $body
            }
            DType::C64 => {
                type $stored = Pair<f32>;
                $body
            }
            DType::C128 => {
                type $stored = Pair<f64>;
                $body
            }
            _ => $otherwise,
        }
    };
}

/// The numbers that formats have, from undefined to the newest.
const FORMATS: std::ops::RangeInclusive<i32> =
    ascend_sys::ACL_FORMAT_UNDEFINED..=ascend_sys::ACL_FORMAT_FRACTAL_NZ_C0_8;

impl Tensor {
    /// Takes the snapshot of a handle's object, and checks that the view is one: known dtype, no negative number, inside its storage.
    pub(crate) fn snapshot(origin: &Arc<TensorObject>, name: &str) -> Result<Tensor, Refusal> {
        let said = origin.describe();
        let dtype = DType::from_code(said.dtype).ok_or_else(|| {
            Refusal::invalid(format!("{name}: data type {} is unknown", said.dtype))
        })?;
        if !FORMATS.contains(&said.format) {
            let text = format!("{name}: format {} is unknown", said.format);
            return Err(Refusal::invalid(text));
        }
        let natural = |values: &[i64], what: &str| -> Result<Vec<usize>, Refusal> {
            values
                .iter()
                .map(|&value| {
                    usize::try_from(value).map_err(|_| {
                        Refusal::invalid(format!(
                            "{name}: {what} holds the negative number {value}"
                        ))
                    })
                })
                .collect()
        };
        let shape = natural(&said.shape, "view shape")?;
        let strides = natural(&said.strides, "strides")?;
        let storage = natural(&said.storage, "storage shape")?;
        let offset = natural(&[said.offset], "view offset")?
            .first()
            .copied()
            .unwrap_or(0);
        let too_large = || Refusal::invalid(format!("{name}: shape {shape:?} is too large"));
        let count = product(&shape).ok_or_else(too_large)?;
        let capacity = product(&storage).ok_or_else(too_large)?;
        let reach = reach(&shape, &strides, offset, count).ok_or_else(too_large)?;
        dtype.bytes(reach.max(count)).ok_or_else(too_large)?;
        let beyond = || {
            format!(
                "{name}: a view of shape {shape:?}, strides {strides:?}, offset {offset} reaches element {reach}, but its storage {storage:?} ends at {capacity}"
            )
        };
        let contiguous = strides == natural_strides(&shape) || count <= 1 || {
            let expected = natural_strides(&shape);
            shape
                .iter()
                .zip(strides.iter().zip(&expected))
                .all(|(&dim, (got, want))| dim == 1 || got == want)
        };
        // CANN looks at the storage only where it copies a view that is not contiguous (`Contiguous` in its open sources), and
        // ggml's backend names storages that are too short. Whether the bytes are device memory is checked before a kernel runs.
        let passing: &[Strictness] = match contiguous {
            true => &[Strictness::Report, Strictness::Lenient],
            false => &[Strictness::Lenient],
        };
        if count > 0 && reach > capacity && !guard::tolerates(passing, beyond) {
            return Err(Refusal::invalid(beyond()));
        }
        Ok(Tensor {
            inner: Arc::new(Inner {
                dtype,
                format: said.format,
                shape,
                strides,
                offset,
                count,
                storage,
                reach,
                contiguous,
                address: AtomicUsize::new(origin.address.load(Ordering::Acquire)),
                origin: Arc::clone(origin),
            }),
        })
    }

    /// The data type.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The `aclFormat` code (0 NCHW, 2 ND, 29 FRACTAL_NZ ...).
    pub fn format(&self) -> i32 {
        self.inner.format
    }

    /// The view shape.
    pub fn shape(&self) -> &[usize] {
        &self.inner.shape
    }

    /// The strides in elements.
    pub fn strides(&self) -> &[usize] {
        &self.inner.strides
    }

    /// The storage shape: what private formats are laid out by.
    #[allow(dead_code)] // for kernels of private formats
    pub fn storage_shape(&self) -> &[usize] {
        &self.inner.storage
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.inner.shape.len()
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.inner.count
    }

    /// True where no element exists.
    pub fn is_empty(&self) -> bool {
        self.inner.count == 0
    }

    /// True where the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.inner.contiguous
    }

    /// The device address that the handle names (without the view offset).
    pub(crate) fn address(&self) -> usize {
        self.inner.address.load(Ordering::Acquire)
    }

    pub(crate) fn set_address(&self, address: usize) {
        self.inner.address.store(address, Ordering::Release);
    }

    /// The address of the first element of a whole-byte type.
    pub(crate) fn start(&self) -> usize {
        self.address().wrapping_add(self.lead())
    }

    /// Bytes from [`start`](Self::start) to the end of the last element.
    pub(crate) fn span(&self) -> usize {
        if self.inner.count == 0 {
            return 0;
        }
        (self.inner.reach - self.inner.offset)
            .saturating_mul(self.inner.dtype.bits())
            .div_ceil(8)
    }

    /// Bytes of the view offset.
    pub(crate) fn lead(&self) -> usize {
        self.inner.offset.wrapping_mul(self.inner.dtype.bits()) / 8
    }

    pub(crate) fn object(&self) -> &Arc<TensorObject> {
        &self.inner.origin
    }

    /// Changes the view shape that `aclGetViewShape` reports for the caller's handle: how ops with a data-dependent
    /// size (Nonzero, MaskedSelect, Unique) say the true size. Strides become those of a contiguous tensor.
    pub fn report_shape(&self, shape: &[usize]) {
        let mut said = self
            .inner
            .origin
            .description
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        said.shape = shape.iter().map(|&dim| dim as i64).collect();
        said.strides = natural_strides(shape)
            .iter()
            .map(|&stride| stride as i64)
            .collect();
    }

    /// Changes the format that the caller's handle tells: what an op that rearranges in place leaves behind.
    pub fn report_format(&self, format: i32) {
        let description = &self.inner.origin.description;
        let mut said = description.lock().unwrap_or_else(PoisonError::into_inner);
        said.format = format;
    }

    /// So many elements from the start in one row, for private formats, whose padding no view shows. The caller has checked
    /// that they are there.
    pub fn row(&self, count: usize) -> Tensor {
        let origin = Arc::clone(&self.inner.origin);
        Tensor {
            inner: Arc::new(Inner {
                dtype: self.inner.dtype,
                format: self.inner.format,
                shape: vec![count],
                strides: vec![1],
                offset: self.inner.offset,
                count,
                storage: vec![count],
                reach: self.inner.offset + count,
                contiguous: true,
                address: AtomicUsize::new(self.address()),
                origin,
            }),
        }
    }

    /// Copies all elements into an array, converted to `T`.
    pub fn load<T: Number>(&self) -> ArrayD<T> {
        let values: Vec<T> =
            with_stored!(self.dtype(), S => self.gather::<S, T>(), self.gather_packed());
        Array::from_shape_vec(IxDyn(&self.inner.shape), values)
            .unwrap_or_else(|_| Array::from_shape_fn(IxDyn(&[0]), |_| T::get(0u8)))
    }

    /// All elements in row-major order, converted to `T`.
    pub fn load_vec<T: Number>(&self) -> Vec<T> {
        with_stored!(self.dtype(), S => self.gather::<S, T>(), self.gather_packed())
    }

    /// The elements without a copy where the stored type is `T` itself, else as [`load`](Self::load).
    /// Do not store into the same memory while the result lives.
    pub fn read<T: Number>(&self) -> CowArray<'_, T, IxDyn> {
        let start = self.start();
        let direct = T::EXACT == Some(self.dtype())
            && self.inner.count > 0
            && start.is_multiple_of(align_of::<T>());
        if !direct {
            return CowArray::from(self.load::<T>());
        }
        let shape = IxDyn(&self.inner.shape).strides(IxDyn(&self.inner.strides));
        // SAFETY: the runtime checked that the span lies in a live allocation before the kernel started; the address is
        // aligned for T; T is the stored type; the strides are those that the span was computed from.
        let view = unsafe { ArrayView::from_shape_ptr(shape, start as *const T) };
        CowArray::from(view)
    }

    /// The only element of a one-element tensor (the first of several; zero of an empty one).
    pub fn load_one<T: Number>(&self) -> T {
        self.load_vec::<T>()
            .first()
            .copied()
            .unwrap_or_else(|| T::get(0u8))
    }

    /// Writes all elements, each rounded once to the tensor's type. The number of values must be the tensor's.
    pub fn store<T: Number, D: Dimension>(&self, values: &ArrayRef<T, D>) -> Result<(), Fault> {
        match values.as_slice() {
            Some(slice) => self.store_slice(slice),
            None => self.store_slice(&values.iter().copied().collect::<Vec<T>>()),
        }
    }

    /// As [`store`](Self::store), from values in row-major order.
    pub fn store_slice<T: Number>(&self, values: &[T]) -> Result<(), Fault> {
        let count = values.len();
        if count != self.inner.count {
            return Err(Fault::new(
                crate::failure::code::INTERNAL_ERROR,
                format!(
                    "emulated kernel stores {count} values into a tensor of shape {:?}",
                    self.inner.shape
                ),
            ));
        }
        let saturate = saturation();
        with_stored!(self.dtype(), S => self.scatter::<S, T>(values, saturate), self.scatter_packed(values));
        Ok(())
    }

    /// Writes one value to every element.
    pub fn fill<T: Number>(&self, value: T) -> Result<(), Fault> {
        self.store_slice(&vec![value; self.count()])
    }

    fn gather<S: Stored, T: Number>(&self) -> Vec<T> {
        let base = self.start() as *const S;
        if self.inner.contiguous {
            return (0..self.inner.count)
                // SAFETY: the runtime checked the span of this tensor before the kernel started; `read_unaligned` asks no alignment.
                .map(|index| T::get(unsafe { base.add(index).read_unaligned() }))
                .collect();
        }
        let mut values = Vec::with_capacity(self.inner.count);
        each_position(&self.inner.shape, &self.inner.strides, |position| {
            // SAFETY: as above; positions of the view lie inside its span.
            values.push(T::get(unsafe { base.add(position).read_unaligned() }));
        });
        values
    }

    fn scatter<S: Stored, T: Number>(&self, values: &[T], saturate: bool) {
        let base = self.start() as *mut S;
        if self.inner.contiguous {
            for (index, value) in values.iter().take(self.inner.count).enumerate() {
                // SAFETY: the runtime checked the span of this tensor before the kernel started; `write_unaligned` asks no alignment.
                unsafe { base.add(index).write_unaligned(value.put(saturate)) };
            }
            return;
        }
        let mut values = values.iter();
        each_position(&self.inner.shape, &self.inner.strides, |position| {
            if let Some(value) = values.next() {
                // SAFETY: as above; positions of the view lie inside its span.
                unsafe { base.add(position).write_unaligned(value.put(saturate)) };
            }
        });
    }

    /// Four-bit integers; types without a meaning here read as 0.
    fn gather_packed<T: Number>(&self) -> Vec<T> {
        let base = self.address() as *const u8;
        let mut values = Vec::with_capacity(self.inner.count);
        each_position(&self.inner.shape, &self.inner.strides, |position| {
            let element = position + self.inner.offset;
            let value = if self.dtype() == DType::I4 {
                // SAFETY: the runtime checked the span of this tensor before the kernel started.
                let byte = unsafe { base.add(element / 2).read() };
                let half = if element.is_multiple_of(2) {
                    byte << 4
                } else {
                    byte & 0xf0
                };
                (half as i8) >> 4
            } else {
                0
            };
            values.push(T::get(value));
        });
        values
    }

    fn scatter_packed<T: Number>(&self, values: &[T]) {
        let mut values = values.iter();
        let base = self.address() as *mut u8;
        if self.dtype() != DType::I4 {
            return;
        }
        each_position(&self.inner.shape, &self.inner.strides, |position| {
            let element = position + self.inner.offset;
            let Some(value) = values.next() else { return };
            let nibble = (value.put::<i64>(false) & 0xf) as u8;
            // SAFETY: the runtime checked the span of this tensor before the kernel started.
            let byte = unsafe { &mut *base.add(element / 2) };
            *byte = if element.is_multiple_of(2) {
                (*byte & 0xf0) | nibble
            } else {
                (*byte & 0x0f) | (nibble << 4)
            };
        });
    }
}

fn product(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

/// One past the farthest element; 0 for an empty view.
fn reach(shape: &[usize], strides: &[usize], offset: usize, count: usize) -> Option<usize> {
    if count == 0 {
        return Some(offset);
    }
    let farthest = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |sum, (&dim, &stride)| {
            sum.checked_add((dim - 1).checked_mul(stride)?)
        })?;
    farthest.checked_add(1)
}

/// Row-major strides without gaps.
pub fn natural_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    let mut step = 1usize;
    for (stride, &dim) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(dim.max(1));
    }
    strides
}

/// Calls `visit` with the position of each element of the view, in row-major order, counted from the view's start.
fn each_position(shape: &[usize], strides: &[usize], mut visit: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let (Some((&inner, outer)), Some((&step, outer_strides))) =
        (shape.split_last(), strides.split_last())
    else {
        return visit(0);
    };
    let mut index = vec![0usize; outer.len()];
    let mut start = 0usize;
    loop {
        for column in 0..inner {
            visit(start + column * step);
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            start += outer_strides[axis];
            if index[axis] < outer[axis] {
                break;
            }
            start -= outer_strides[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}
