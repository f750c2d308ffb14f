//! Host views: a tensor's host memory with its layout and dtype, as kernels see it.
//!
//! Knows pointers and layouts. Must not know what is computed. The lock of the storage is held while a view lives.

use std::marker::PhantomData;

use super::alloc::{filled, lacks, noted};
use crate::dtype::{DType, Element};
use crate::layout::Layout;
use crate::shape::Shape;

/// The layout of a view: a tensor's own, or one made for a kernel. A layout is large beside the work of a small kernel.
#[derive(Debug, Clone, Copy)]
enum Lent<'a> {
    Of(&'a Layout),
    Own(Layout),
}

impl Lent<'_> {
    #[inline(always)]
    fn get(&self) -> &Layout {
        match self {
            Lent::Of(layout) => layout,
            Lent::Own(layout) => layout,
        }
    }
}

/// An input of a host kernel.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    start: *const u8,
    layout: Lent<'a>,
    dtype: DType,
    life: PhantomData<&'a u8>,
}

/// An output of a host kernel.
#[derive(Debug)]
pub struct HostMut<'a> {
    start: *mut u8,
    layout: Lent<'a>,
    dtype: DType,
    life: PhantomData<&'a mut u8>,
}

// SAFETY: a view is a borrow of memory whose readers and writers are kept apart by the storage's lock.
unsafe impl Send for Host<'_> {}
// SAFETY: as above.
unsafe impl Sync for Host<'_> {}
// SAFETY: as above; kernels that write from several threads write disjoint elements.
unsafe impl Send for HostMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for HostMut<'_> {}

impl<'a> Host<'a> {
    /// A view of `layout` over the memory that begins at `start`.
    ///
    /// # Safety
    /// Every element of the layout must lie in initialised memory that stays readable for `'a`, aligned for the dtype.
    #[inline]
    pub(crate) unsafe fn new(start: *const u8, layout: Layout, dtype: DType) -> Self {
        Host {
            start,
            layout: Lent::Own(layout),
            dtype,
            life: PhantomData,
        }
    }

    /// As `new`, with a layout that somebody else holds.
    ///
    /// # Safety
    /// As `new`.
    #[inline]
    pub(crate) unsafe fn lent(start: *const u8, layout: &'a Layout, dtype: DType) -> Self {
        Host {
            start,
            layout: Lent::Of(layout),
            dtype,
            life: PhantomData,
        }
    }

    /// A view without elements.
    pub(crate) fn empty(dtype: DType) -> Self {
        Host {
            start: std::ptr::dangling(),
            layout: Lent::Own(Layout::contiguous([0])),
            dtype,
            life: PhantomData,
        }
    }

    /// A view of a single value, broadcast to a shape.
    pub(crate) fn splat<T: Element>(value: &'a T, shape: &Shape) -> Self {
        let layout = Layout::contiguous(())
            .expand("splat", shape)
            .unwrap_or_else(|_| Layout::contiguous(()));
        Host {
            start: std::ptr::from_ref(value).cast(),
            layout: Lent::Own(layout),
            dtype: T::DTYPE,
            life: PhantomData,
        }
    }

    /// A view of a row-major slice.
    pub(crate) fn from_slice<T: Element>(values: &'a [T], shape: &Shape) -> Option<Self> {
        (values.len() >= shape.elements()).then(|| Host {
            start: values.as_ptr().cast(),
            layout: Lent::Own(Layout::contiguous(*shape)),
            dtype: T::DTYPE,
            life: PhantomData,
        })
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The layout.
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.layout.get()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        self.layout().shape()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.layout().elements()
    }

    /// The elements as a slice, if they lie row-major without gaps and `T` is the dtype's type.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if T::DTYPE != self.dtype || !self.layout().is_contiguous() {
            return None;
        }
        // SAFETY: `new` promised the layout's elements; they lie contiguously from the offset on.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.start.cast::<T>().add(self.layout().offset()),
                self.layout().elements(),
            )
        })
    }

    /// The elements in row-major order, converted to `T` where `T` is the dtype's type (else an empty vector; so too where there
    /// is no memory for them, which the call whose kernel this is then answers with `OutOfMemory`).
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        if T::DTYPE != self.dtype {
            return Vec::new();
        }
        if let Some(slice) = self.as_slice() {
            let mut values = noted(slice.len());
            if !lacks() {
                values.extend_from_slice(slice);
            }
            return values;
        }
        let mut values = filled(T::default(), self.elements());
        if lacks() {
            return values;
        }
        if let Some(mut out) = HostMut::from_slice(&mut values, self.shape()) {
            super::map::copy(self, &mut out);
        }
        values
    }

    /// The same memory under another layout whose elements all lie within this one's storage.
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        debug_assert!(
            layout.shape().is_empty() || layout.end() <= self.layout().end().max(layout.end())
        );
        Host {
            layout: Lent::Own(layout),
            ..*self
        }
    }

    /// The elements as 16-bit integers, if they are of this 16-bit dtype.
    pub(crate) fn as_bits(&self, dtype: DType) -> Option<Self> {
        debug_assert_eq!(dtype.size(), DType::I16.size());
        (self.dtype == dtype).then_some(Host {
            dtype: DType::I16,
            ..*self
        })
    }

    /// The elements two by two, neighbours along the last dim, as 32-bit integers, if they are of this 16-bit dtype and lie so.
    pub(crate) fn as_words(&self, dtype: DType) -> Option<Self> {
        debug_assert_eq!(dtype.size(), DType::I16.size());
        let aligned = self.dtype == dtype && self.start.addr().is_multiple_of(DType::I32.size());
        let layout = aligned.then(|| self.layout().halved())??;
        Some(Host {
            layout: Lent::Own(layout),
            dtype: DType::I32,
            ..*self
        })
    }

    /// The same memory broadcast to a shape (unchanged where it does not broadcast; shape rules have checked before).
    pub(crate) fn broadcast(&self, shape: &Shape) -> Self {
        if self.layout().shape() == shape {
            return *self;
        }
        match self.layout().expand("broadcast", shape) {
            Ok(layout) => Host {
                layout: Lent::Own(layout),
                ..*self
            },
            Err(_) => *self,
        }
    }

    /// The address that element offset 0 of the storage has.
    pub(crate) fn start(&self) -> *const u8 {
        self.start
    }
}

impl<'a> HostMut<'a> {
    /// A view of `layout` over the memory that begins at `start`.
    ///
    /// # Safety
    /// Every element of the layout must lie in memory that stays writable for `'a`, aligned for the dtype, and nobody
    /// else may read or write it meanwhile but through views of the same kernel call.
    #[inline]
    pub(crate) unsafe fn new(start: *mut u8, layout: Layout, dtype: DType) -> Self {
        HostMut {
            start,
            layout: Lent::Own(layout),
            dtype,
            life: PhantomData,
        }
    }

    /// As `new`, with a layout that somebody else holds.
    ///
    /// # Safety
    /// As `new`.
    #[inline]
    pub(crate) unsafe fn lent(start: *mut u8, layout: &'a Layout, dtype: DType) -> Self {
        HostMut {
            start,
            layout: Lent::Of(layout),
            dtype,
            life: PhantomData,
        }
    }

    /// A view of a row-major slice.
    pub(crate) fn from_slice<T: Element>(values: &'a mut [T], shape: &Shape) -> Option<Self> {
        (values.len() >= shape.elements()).then(|| HostMut {
            start: values.as_mut_ptr().cast(),
            layout: Lent::Own(Layout::contiguous(*shape)),
            dtype: T::DTYPE,
            life: PhantomData,
        })
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The layout.
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.layout.get()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        self.layout().shape()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.layout().elements()
    }

    /// The elements as a slice to write, if they lie row-major without gaps and `T` is the dtype's type.
    ///
    /// The memory of a fresh output holds unspecified values.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        if T::DTYPE != self.dtype || !self.layout().is_contiguous() {
            return None;
        }
        // SAFETY: `new` promised the layout's elements; they lie contiguously from the offset on, and `self` is borrowed mutably.
        Some(unsafe {
            std::slice::from_raw_parts_mut(
                self.start.cast::<T>().add(self.layout().offset()),
                self.layout().elements(),
            )
        })
    }

    /// The elements as 16-bit integers, if they are of this 16-bit dtype.
    pub(crate) fn as_bits(&mut self, dtype: DType) -> Option<HostMut<'_>> {
        debug_assert_eq!(dtype.size(), DType::I16.size());
        (self.dtype == dtype).then_some(HostMut {
            start: self.start,
            layout: self.layout,
            dtype: DType::I16,
            life: PhantomData,
        })
    }

    /// The elements two by two, neighbours along the last dim, as 32-bit integers, if they are of this 16-bit dtype and lie so.
    pub(crate) fn as_words(&mut self, dtype: DType) -> Option<HostMut<'_>> {
        let words = self.as_host().as_words(dtype)?;
        Some(HostMut {
            start: self.start,
            layout: words.layout,
            dtype: words.dtype,
            life: PhantomData,
        })
    }

    /// The output read back, for kernels of several passes.
    pub(crate) fn as_host(&self) -> Host<'_> {
        Host {
            start: self.start,
            layout: self.layout,
            dtype: self.dtype,
            life: PhantomData,
        }
    }

    /// The indices of a dim before one, and those from it on: two views of an output, which never overlaps itself.
    pub(crate) fn split(&mut self, dim: usize, at: usize) -> (HostMut<'_>, HostMut<'_>) {
        let whole = *self.layout();
        let part = |start: usize, length: usize| HostMut {
            start: self.start,
            layout: Lent::Own(whole.slice(dim, start, length, 1)),
            dtype: self.dtype,
            life: PhantomData,
        };
        let size = whole.shape().size(dim);
        let at = at.min(size);
        (part(0, at), part(at, size - at))
    }

    /// The same memory under another layout whose elements all lie within this one.
    pub(crate) fn with_layout(&mut self, layout: Layout) -> HostMut<'_> {
        HostMut {
            start: self.start,
            layout: Lent::Own(layout),
            dtype: self.dtype,
            life: PhantomData,
        }
    }

    /// The address that element offset 0 of the storage has.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }
}
