//! Arguments of phase 1: from what C passes to what kernels see.
//!
//! Knows handles and C numbers; it must not know ops or executors.

use crate::failure::Refusal;
use crate::kernel::Arg;
use crate::meta;
use crate::tensor::Tensor;
use ascend_sys as sys;
use std::ffi::{CStr, c_char, c_void};

/// An argument as C passes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw {
    Tensor(*const c_void),
    Tensors(*const c_void),
    Scalar(*const c_void),
    Scalars(*const c_void),
    Ints(*const c_void),
    Floats(*const c_void),
    Bools(*const c_void),
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(*const c_char),
}

macro_rules! raw_handle {
    ($($handle:ty => $variant:ident;)*) => {$(
        impl From<*const $handle> for Raw {
            fn from(handle: *const $handle) -> Raw { Raw::$variant(handle.cast()) }
        }
        impl From<*mut $handle> for Raw {
            fn from(handle: *mut $handle) -> Raw { Raw::$variant(handle.cast_const().cast()) }
        }
    )*};
}

raw_handle! {
    sys::aclTensor => Tensor; sys::aclTensorList => Tensors; sys::aclScalar => Scalar; sys::aclScalarList => Scalars;
    sys::aclIntArray => Ints; sys::aclFloatArray => Floats; sys::aclBoolArray => Bools; c_char => Text;
}

macro_rules! raw_number {
    ($($number:ty => $variant:ident as $target:ty;)*) => {$(
        impl From<$number> for Raw {
            fn from(value: $number) -> Raw { Raw::$variant(value as $target) }
        }
    )*};
}

raw_number! {
    i8 => Int as i64; i32 => Int as i64; i64 => Int as i64; u32 => Int as i64; u64 => Int as i64;
    f32 => Float as f64; f64 => Float as f64; bool => Bool as bool;
}

/// The argument behind a handle or a number.
///
/// # Safety
/// A text must be null or end in a zero byte.
pub(crate) unsafe fn convert(raw: Raw, name: &str) -> Result<Arg, Refusal> {
    let present = |handle: *const c_void| (!handle.is_null()).then_some(handle);
    Ok(match raw {
        Raw::Tensor(handle) => Arg::Tensor(match present(handle) {
            Some(handle) => Some(Tensor::snapshot(&meta::TENSORS.get(handle)?, name)?),
            None => None,
        }),
        Raw::Tensors(handle) => Arg::Tensors(match present(handle) {
            Some(handle) => {
                let list = meta::TENSOR_LISTS.get(handle)?;
                let snapshot = |element: &Option<_>| match element {
                    Some((_, object)) => Tensor::snapshot(object, name).map(Some),
                    None => Ok(None),
                };
                Some(
                    list.elements
                        .iter()
                        .map(snapshot)
                        .collect::<Result<_, _>>()?,
                )
            }
            None => None,
        }),
        Raw::Scalar(handle) => Arg::Scalar(match present(handle) {
            Some(handle) => Some(meta::SCALARS.get(handle)?.value),
            None => None,
        }),
        Raw::Scalars(handle) => Arg::Scalars(match present(handle) {
            Some(handle) => {
                let list = meta::SCALAR_LISTS.get(handle)?;
                Some(
                    list.elements
                        .iter()
                        .map(|(_, scalar)| scalar.value)
                        .collect(),
                )
            }
            None => None,
        }),
        Raw::Ints(handle) => Arg::Ints(match present(handle) {
            Some(handle) => Some(meta::INTS.get(handle)?.to_vec()),
            None => None,
        }),
        Raw::Floats(handle) => Arg::Floats(match present(handle) {
            Some(handle) => Some(meta::FLOATS.get(handle)?.to_vec()),
            None => None,
        }),
        Raw::Bools(handle) => Arg::Bools(match present(handle) {
            Some(handle) => Some(meta::BOOLS.get(handle)?.to_vec()),
            None => None,
        }),
        Raw::Int(value) => Arg::Int(value),
        Raw::Float(value) => Arg::Float(value),
        Raw::Bool(value) => Arg::Bool(value),
        // SAFETY: not null, and ends in a zero byte by this function's contract.
        Raw::Text(text) => Arg::Text(
            (!text.is_null())
                .then(|| unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }),
        ),
    })
}
