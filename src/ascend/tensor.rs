//! What kernels are given: views of device memory, numbers, and the small tensors that an op needs for itself.
//!
//! Knows buffers, layouts and how dtypes are numbered in CANN. Must not know operators.

use ascend_sys::aclDataType;

use super::memory::Buffer;
use crate::dtype::{DType, Scalar};
use crate::layout::Layout;
use crate::shape::Shape;

/// A tensor on an NPU, as kernels see it: an input or an output.
#[derive(Debug, Clone, Copy)]
pub struct Dev<'a> {
    buffer: &'a Buffer,
    layout: Layout,
    dtype: DType,
}

impl<'a> Dev<'a> {
    /// A view of a buffer.
    pub fn new(buffer: &'a Buffer, layout: Layout, dtype: DType) -> Self {
        Dev {
            buffer,
            layout,
            dtype,
        }
    }

    /// The memory.
    pub fn buffer(&self) -> &'a Buffer {
        self.buffer
    }

    /// Where the elements lie in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        self.layout.shape()
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.layout.elements()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.elements() == 0
    }

    /// The same memory in another layout.
    #[must_use]
    pub fn with_layout(&self, layout: Layout) -> Dev<'a> {
        Dev { layout, ..*self }
    }
}

/// Device memory that lives for the rest of a launch; afterwards the pool may hand it out again on the same stream.
#[derive(Debug)]
pub struct Temporary {
    buffer: Buffer,
    layout: Layout,
    dtype: DType,
}

impl Temporary {
    pub(super) fn new(buffer: Buffer, layout: Layout, dtype: DType) -> Self {
        Temporary {
            buffer,
            layout,
            dtype,
        }
    }

    /// The tensor for kernels.
    pub fn dev(&self) -> Dev<'_> {
        Dev::new(&self.buffer, self.layout, self.dtype)
    }
}

/// A tensor in the form that was asked for: the one given if it has it already, else a temporary copy.
#[derive(Debug)]
pub enum Ready<'a> {
    /// The tensor as given.
    Given(Dev<'a>),
    /// A copy.
    Made(Temporary),
}

impl Ready<'_> {
    /// The tensor for kernels.
    pub fn dev(&self) -> Dev<'_> {
        match self {
            Ready::Given(given) => *given,
            Ready::Made(made) => made.dev(),
        }
    }
}

/// A number for a kernel, with the dtype that it is handed over in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// The value.
    pub value: Scalar,
    /// The dtype that CANN sees.
    pub dtype: DType,
}

impl Number {
    /// A number that goes with a tensor of a dtype, in the form CANN wants: f32 for floats (f64 for f64), i64 for integers.
    pub fn of(value: impl Into<Scalar>, tensor: DType) -> Self {
        let dtype = match tensor {
            DType::F64 => DType::F64,
            DType::Bool => DType::Bool,
            float if float.is_float() => DType::F32,
            _ => DType::I64,
        };
        Number {
            value: value.into(),
            dtype,
        }
    }

    /// The value's bytes in its dtype, at the front.
    pub(super) fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let mut put = |source: &[u8]| {
            bytes
                .iter_mut()
                .zip(source)
                .for_each(|(to, from)| *to = *from)
        };
        match self.dtype {
            DType::F64 => put(&self.value.to_f64().to_ne_bytes()),
            DType::F32 => put(&(self.value.to_f64() as f32).to_ne_bytes()),
            DType::F16 => put(&half::f16::from_f64(self.value.to_f64()).to_ne_bytes()),
            DType::BF16 => put(&half::bf16::from_f64(self.value.to_f64()).to_ne_bytes()),
            DType::I64 => put(&self.value.to_i64().to_ne_bytes()),
            DType::I32 => put(&(self.value.to_i64() as i32).to_ne_bytes()),
            DType::I16 => put(&(self.value.to_i64() as i16).to_ne_bytes()),
            DType::I8 => put(&(self.value.to_i64() as i8).to_ne_bytes()),
            DType::U8 => put(&[self.value.to_i64() as u8]),
            DType::Bool => put(&[u8::from(self.value.to_bool())]),
        }
        bytes
    }
}

/// CANN's number of a dtype.
pub(super) const fn code(dtype: DType) -> aclDataType {
    match dtype {
        DType::F64 => ascend_sys::ACL_DOUBLE,
        DType::F32 => ascend_sys::ACL_FLOAT,
        DType::F16 => ascend_sys::ACL_FLOAT16,
        DType::BF16 => ascend_sys::ACL_BF16,
        DType::I64 => ascend_sys::ACL_INT64,
        DType::I32 => ascend_sys::ACL_INT32,
        DType::I16 => ascend_sys::ACL_INT16,
        DType::I8 => ascend_sys::ACL_INT8,
        DType::U8 => ascend_sys::ACL_UINT8,
        DType::Bool => ascend_sys::ACL_BOOL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_form_that_cann_wants() {
        assert_eq!(Number::of(1.5, DType::BF16).dtype, DType::F32);
        assert_eq!(Number::of(1.5, DType::F64).dtype, DType::F64);
        assert_eq!(Number::of(3, DType::U8).dtype, DType::I64);
        assert_eq!(&Number::of(-2, DType::I32).bytes(), &(-2i64).to_ne_bytes());
        assert_eq!(
            &Number::of(1.5, DType::F32).bytes()[..4],
            &1.5f32.to_ne_bytes()
        );
        assert_eq!(
            Number::of(true, DType::Bool).bytes(),
            [1, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            &Number {
                value: 1.0.into(),
                dtype: DType::F16
            }
            .bytes()[..2],
            &[0x00, 0x3c]
        );
    }
}
