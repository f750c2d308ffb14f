//! Conversions: host values, vectors and ndarray arrays to tensors and back, and moves between devices.
//!
//! Knows host memory and devices' copies. Must not know ops.

use std::sync::Arc;

use crate::ascend::Buffer;
use crate::cpu::alloc::Block;
use crate::cpu::alloc::{collected, told, workspace};
use crate::device::Device;
use crate::dispatch;
use crate::dry_run;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mode::Modes;
use crate::op::Meta;
use crate::shape::Shape;
use crate::storage::{Data, Locks, Storage};
use crate::tensor::{Tensor, wants};

/// Host values with a shape: what [`Tensor::new`] takes. Made from numbers, nested arrays, vectors and slices.
#[derive(Debug)]
pub struct NdArray {
    shape: Shape,
    dtype: DType,
    block: Block,
}

impl NdArray {
    fn new<T: Element>(values: Vec<T>, shape: Shape) -> Self {
        NdArray {
            shape,
            dtype: T::DTYPE,
            block: Block::from_vec(values),
        }
    }
}

impl<T: Element> From<T> for NdArray {
    fn from(value: T) -> Self {
        NdArray::new(vec![value], Shape::SCALAR)
    }
}

impl<T: Element> From<Vec<T>> for NdArray {
    fn from(values: Vec<T>) -> Self {
        let shape = Shape::from([values.len()]);
        NdArray::new(values, shape)
    }
}

impl<T: Element> From<&[T]> for NdArray {
    fn from(values: &[T]) -> Self {
        values.to_vec().into()
    }
}

impl<T: Element, const N: usize> From<[T; N]> for NdArray {
    fn from(values: [T; N]) -> Self {
        NdArray::new(values.to_vec(), Shape::from([N]))
    }
}

impl<T: Element, const M: usize, const N: usize> From<[[T; N]; M]> for NdArray {
    fn from(values: [[T; N]; M]) -> Self {
        NdArray::new(values.as_flattened().to_vec(), Shape::from([M, N]))
    }
}

impl<T: Element, const L: usize, const M: usize, const N: usize> From<[[[T; N]; M]; L]>
    for NdArray
{
    fn from(values: [[[T; N]; M]; L]) -> Self {
        NdArray::new(
            values.as_flattened().as_flattened().to_vec(),
            Shape::from([L, M, N]),
        )
    }
}

impl<T: Element, const K: usize, const L: usize, const M: usize, const N: usize>
    From<[[[[T; N]; M]; L]; K]> for NdArray
{
    fn from(values: [[[[T; N]; M]; L]; K]) -> Self {
        NdArray::new(
            values.as_flattened().as_flattened().as_flattened().to_vec(),
            Shape::from([K, L, M, N]),
        )
    }
}

impl Tensor {
    /// A tensor on the host from a number, a nested array, a vector or a slice.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// assert_eq!(Tensor::new([[1i64, 2, 3], [4, 5, 6]]).dims(), [2, 3]);
    /// assert_eq!(Tensor::new(1.5f32).rank(), 0);
    /// ```
    pub fn new(values: impl Into<NdArray>) -> Tensor {
        let values = values.into();
        Tensor::fresh(
            Data::Cpu(values.block),
            &Layout::contiguous(values.shape),
            values.dtype,
        )
    }

    /// A tensor on the host over the elements of a vector, in row-major order, without a copy.
    ///
    /// # Errors
    /// `Shape` if the count of elements is not the shape's.
    pub fn from_vec<T: Element>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        shape.check("from_vec")?;
        if values.len() != shape.elements() {
            return Err(Error::shape(
                "from_vec",
                format!("{} elements for {shape}", values.len()),
                "as many elements as the shape has",
            ));
        }
        Ok(Tensor::new(NdArray::new(values, shape)))
    }

    /// A tensor on the host from the elements of a slice, in row-major order.
    ///
    /// # Errors
    /// `Shape` if the count of elements is not the shape's.
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>) -> Result<Tensor> {
        Tensor::from_vec(collected("from_slice", values.iter().copied())?, shape)
    }

    /// A tensor of raw bytes in native order; bool bytes become 0 or 1.
    pub(crate) fn from_block(
        op: &'static str,
        mut block: Block,
        shape: Shape,
        dtype: DType,
    ) -> Result<Tensor> {
        shape.check(op)?;
        if block.len() < shape.elements() * dtype.size() {
            return Err(Error::shape(
                op,
                format!("{} bytes for {shape} of {dtype}", block.len()),
                "as many bytes as the shape needs",
            ));
        }
        if dtype == DType::Bool {
            block.normalize_bools();
        }
        Ok(Tensor::fresh(
            Data::Cpu(block),
            &Layout::contiguous(shape),
            dtype,
        ))
    }

    /// A tensor over memory of an NPU, which has the shape's bytes.
    pub(crate) fn from_buffer(buffer: Buffer, shape: Shape, dtype: DType) -> Tensor {
        Tensor::fresh(Data::Ascend(buffer), &Layout::contiguous(shape), dtype)
    }

    /// A tensor on a device.
    ///
    /// # Errors
    /// If the device cannot be opened or has no memory left.
    pub fn to_device(&self, device: Device) -> Result<Tensor> {
        if self.device() == device {
            return Ok(self.clone());
        }
        dispatch::run_one(&crate::ops::view::ToDevice::new(device), &[self])
    }

    /// The data of this tensor, contiguous, on another device, without history.
    pub(crate) fn moved(&self, op: &'static str, device: Device) -> Result<Tensor> {
        let meta = Meta {
            shape: *self.shape(),
            dtype: self.dtype(),
        };
        if crate::mode::current().has(Modes::DRY) {
            return Ok(dry_run::ghost(device, &meta));
        }
        match (self.device(), device) {
            (Device::Cpu, Device::Ascend(number)) => {
                let source = self.contiguous()?;
                let bytes = source.to_bytes(op)?;
                let buffer = Buffer::upload(op, number, &bytes)?;
                Ok(Tensor::from_buffer(buffer, meta.shape, meta.dtype))
            }
            (Device::Ascend(_), Device::Cpu) => {
                let bytes = self.to_bytes(op)?;
                Tensor::from_block(op, Block::from_bytes(op, &bytes)?, meta.shape, meta.dtype)
            }
            (Device::Ascend(_), Device::Ascend(_)) => {
                self.moved(op, Device::Cpu)?.moved(op, device)
            }
            (Device::Cpu, Device::Cpu) => self.copy(),
        }
    }

    /// The elements' bytes in row-major order, read from whatever device.
    pub(crate) fn to_bytes(&self, op: &'static str) -> Result<Vec<u8>> {
        let source = crate::mode::no_grad(|| self.detach().contiguous())?;
        let size = self.dtype().size();
        let (start, count) = (source.layout().offset() * size, source.elements() * size);
        let mut bytes = workspace(op, 0, count)?;
        match source.storage().data() {
            Data::Cpu(block) => {
                let _locks = Locks::take([(source.storage(), false)].into_iter());
                block.read(start, &mut bytes);
            }
            Data::Ascend(buffer) => {
                if count > 0 {
                    buffer.read(op, start, &mut bytes)?;
                }
            }
            Data::Ghost(_) => return Err(dry_run::no_values(op, self.device(), self.dtype())),
        }
        Ok(bytes)
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// `DType` if `T` is not the tensor's type (cast with [`Tensor::to_dtype`] before); device errors that surface here.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        wants("to_vec", T::DTYPE, self.dtype())?;
        let host = crate::mode::no_grad(|| self.detach().to_device(Device::Cpu))?;
        let _locks = Locks::take([(host.storage(), false)].into_iter());
        let view = host.host();
        let view = view.ok_or_else(|| dry_run::no_values("to_vec", host.device(), T::DTYPE))?;
        told("to_vec", Ok(view.to_vec::<T>()))
    }

    /// The only element.
    ///
    /// # Errors
    /// `Shape` if there is not exactly one element, else as [`Tensor::to_vec`].
    pub fn item<T: Element>(&self) -> Result<T> {
        if self.elements() != 1 {
            return Err(Error::shape(
                "item",
                self.shape(),
                "a tensor with one element",
            ));
        }
        self.to_vec::<T>()?
            .first()
            .copied()
            .ok_or_else(|| Error::shape("item", self.shape(), "a tensor with one element"))
    }

    /// The elements as doubles, whatever the dtype; for printing and comparing.
    ///
    /// # Errors
    /// Device errors that surface here.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        crate::mode::no_grad(|| {
            self.detach()
                .to_device(Device::Cpu)?
                .to_dtype(DType::F64)?
                .to_vec()
        })
    }

    /// A tensor on the host over an ndarray array: without a copy if the array is in standard order.
    ///
    /// # Errors
    /// `Shape` for more than eight dims.
    pub fn from_ndarray<T: Element, D: ndarray::Dimension>(
        array: ndarray::Array<T, D>,
    ) -> Result<Tensor> {
        let shape = Shape::from(array.shape());
        shape.check("from_ndarray")?;
        if array.is_standard_layout() {
            let (values, start) = array.into_raw_vec_and_offset();
            let start = start.unwrap_or(0);
            let block = Block::from_vec(values);
            return Ok(Tensor::fresh(
                Data::Cpu(block),
                &Layout::contiguous(shape).with_offset(start),
                T::DTYPE,
            ));
        }
        Tensor::from_vec(collected("from_ndarray", array.iter().copied())?, shape)
    }

    /// The tensor as an ndarray array: without a copy if it is a contiguous host tensor made from a vector that nobody shares.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn into_ndarray<T: Element>(self) -> Result<ndarray::ArrayD<T>> {
        wants("into_ndarray", T::DTYPE, self.dtype())?;
        let shape = self.dims().to_vec();
        let values = match self.unwrap_vec::<T>() {
            Ok(values) => values,
            Err(tensor) => tensor.to_vec()?,
        };
        ndarray::ArrayD::from_shape_vec(shape, values)
            .map_err(|error| Error::shape("into_ndarray", error, "a shape that ndarray takes"))
    }

    /// The vector behind a contiguous host tensor that is the only user of its storage.
    fn unwrap_vec<T: Element>(self) -> std::result::Result<Vec<T>, Tensor> {
        let whole = self.is_contiguous()
            && self.layout().offset() == 0
            && self.elements() * size_of::<T>() == self.storage().bytes();
        if !whole || !self.device().is_cpu() || Arc::strong_count(self.storage()) > 1 {
            return Err(self);
        }
        let (layout, dtype) = (*self.layout(), self.dtype());
        match Arc::try_unwrap(self.into_storage()).map(Storage::into_data) {
            Ok(Data::Cpu(block)) => block
                .into_vec::<T>()
                .map_err(|block| Tensor::fresh(Data::Cpu(block), &layout, dtype)),
            Ok(data) => Err(Tensor::fresh(data, &layout, dtype)),
            Err(storage) => Err(Tensor::from_storage(storage, layout, dtype)),
        }
    }
}

impl<T: Element, D: ndarray::Dimension> TryFrom<ndarray::Array<T, D>> for Tensor {
    type Error = Error;

    fn try_from(array: ndarray::Array<T, D>) -> Result<Tensor> {
        Tensor::from_ndarray(array)
    }
}
