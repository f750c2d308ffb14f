//! CANN's descriptions of tensors, numbers and lists: made for one launch, destroyed after it.
//!
//! Knows one creating and one destroying function per kind. Must not know operators.

use std::ffi::c_char;

use ascend_sys::{
    ACL_FORMAT_NCDHW, ACL_FORMAT_NCHW, ACL_FORMAT_NCL, ACL_FORMAT_ND, Function, aclBoolArray,
    aclFloatArray, aclFormat, aclIntArray, aclScalar, aclScalarList, aclTensor, aclTensorList,
    aclnnStatus, f,
};
use smallvec::SmallVec;

use super::cann::name_of;
use super::context::Context;
use super::counters::count_call;
use super::launch::Launch;
use super::tensor::{Dev, Number, code};
use crate::error::{Error, Result};
use crate::shape::MAX_RANK;

/// A pointer that CANN gave, with the function that takes it back.
#[derive(Debug)]
pub(crate) struct Handle<'a, T> {
    pub raw: *mut T,
    destroy: unsafe extern "C" fn(*const T) -> aclnnStatus,
    /// The name of `destroy`.
    ending: &'static str,
    context: &'a Context,
}

impl<'a, T> Handle<'a, T> {
    /// Makes a handle and takes charge of it; null is the creating function's only way to refuse.
    fn make<C: Function, D>(
        cx: &'a Launch,
        create: C,
        destroy: D,
        make: impl FnOnce(C::Pointer) -> *mut T,
    ) -> Result<Self>
    where
        D: Function<Pointer = unsafe extern "C" fn(*const T) -> aclnnStatus>,
    {
        let ending = name_of(destroy);
        let destroy = cx.function(destroy)?;
        count_call();
        let raw = make(cx.function(create)?);
        let context = cx.context();
        if raw.is_null() {
            let cann = &context.runtime().cann;
            return Err(cann.failure(cx.op(), name_of(create), 200_000));
        }
        Ok(Handle {
            raw,
            destroy,
            ending,
            context,
        })
    }

    /// Hands the pointer over to a new owner.
    fn release(self) -> *mut T {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }
}

impl<T> Drop for Handle<'_, T> {
    fn drop(&mut self) {
        count_call();
        // SAFETY: `raw` came from the creating function that goes with `destroy`, and nobody else destroys it.
        let code = unsafe { (self.destroy)(self.raw) };
        if code != 0 {
            self.context.defer(self.context.runtime().cann.failure(
                "end of a launch",
                self.ending,
                code,
            ));
        }
    }
}

fn too_large(op: &'static str, dev: &Dev<'_>) -> Error {
    Error::shape(
        op,
        dev.shape(),
        "sizes, strides and an offset that fit 64 bits",
    )
}

/// The format that image kernels want for a rank.
fn image_format(rank: usize) -> aclFormat {
    match rank {
        3 => ACL_FORMAT_NCL,
        4 => ACL_FORMAT_NCHW,
        5 => ACL_FORMAT_NCDHW,
        _ => ACL_FORMAT_ND,
    }
}

fn describe<'a>(cx: &'a Launch, dev: &Dev<'_>, format: aclFormat) -> Result<Handle<'a, aclTensor>> {
    let op = cx.op();
    dev.buffer().join(op, cx.stream())?;
    let layout = dev.layout();
    let rank = layout.dims().len();
    let (mut sizes, mut strides) = ([0i64; MAX_RANK], [0i64; MAX_RANK]);
    for (to, from) in sizes
        .iter_mut()
        .zip(layout.dims())
        .chain(strides.iter_mut().zip(layout.strides()))
    {
        *to = i64::try_from(*from).map_err(|_| too_large(op, dev))?;
    }
    let offset = i64::try_from(layout.offset()).map_err(|_| too_large(op, dev))?;
    let elements = dev.buffer().len() / dev.dtype().size();
    if layout.end() > elements && !dev.is_empty() {
        return Err(Error::shape(
            op,
            format!(
                "a view of {} that ends at element {}",
                dev.shape(),
                layout.end()
            ),
            format!("one in a storage of {elements}"),
        ));
    }
    let storage = [i64::try_from(elements).map_err(|_| too_large(op, dev))?];
    let (count, address) = (rank as u64, dev.buffer().address());
    Handle::make(cx, f::aclCreateTensor, f::aclDestroyTensor, |create| {
        // SAFETY: sizes and strides have room for `rank` numbers and storage for one; all are copied by the call. The address
        // is only kept; its block stays the buffer's, or the stream's, until the kernels have run.
        unsafe {
            create(
                sizes.as_ptr(),
                count,
                code(dev.dtype()),
                strides.as_ptr(),
                offset,
                format,
                storage.as_ptr(),
                1,
                address,
            )
        }
    })
}

/// A tensor in the format that most kernels want.
pub(crate) fn tensor<'a>(cx: &'a Launch, dev: &Dev<'_>) -> Result<Handle<'a, aclTensor>> {
    describe(cx, dev, ACL_FORMAT_ND)
}

/// A tensor in the format of its rank that image kernels want.
pub(crate) fn image<'a>(cx: &'a Launch, dev: &Dev<'_>) -> Result<Handle<'a, aclTensor>> {
    describe(cx, dev, image_format(dev.shape().rank()))
}

/// A list of tensors; it owns its elements.
pub(crate) fn tensors<'a>(cx: &'a Launch, devs: &[Dev<'_>]) -> Result<Handle<'a, aclTensorList>> {
    let elements = devs
        .iter()
        .map(|dev| tensor(cx, dev))
        .collect::<Result<SmallVec<[_; 8]>>>()?;
    let pointers: SmallVec<[*const aclTensor; 8]> = elements
        .iter()
        .map(|element| element.raw.cast_const())
        .collect();
    let list = Handle::make(
        cx,
        f::aclCreateTensorList,
        f::aclDestroyTensorList,
        |create| {
            // SAFETY: the array holds that many live tensors and is copied by the call.
            unsafe { create(pointers.as_ptr(), pointers.len() as u64) }
        },
    )?;
    elements.into_iter().for_each(|element| {
        element.release();
    });
    Ok(list)
}

/// A number.
pub(crate) fn scalar(cx: &Launch, number: Number) -> Result<Handle<'_, aclScalar>> {
    let mut bytes = number.bytes();
    Handle::make(cx, f::aclCreateScalar, f::aclDestroyScalar, |create| {
        // SAFETY: the bytes hold a value of the dtype, which the call copies.
        unsafe { create(bytes.as_mut_ptr().cast(), code(number.dtype)) }
    })
}

/// A list of numbers; it owns its elements.
pub(crate) fn scalars<'a>(cx: &'a Launch, numbers: &[Number]) -> Result<Handle<'a, aclScalarList>> {
    let elements = numbers
        .iter()
        .map(|number| scalar(cx, *number))
        .collect::<Result<SmallVec<[_; 8]>>>()?;
    let pointers: SmallVec<[*const aclScalar; 8]> = elements
        .iter()
        .map(|element| element.raw.cast_const())
        .collect();
    let list = Handle::make(
        cx,
        f::aclCreateScalarList,
        f::aclDestroyScalarList,
        |create| {
            // SAFETY: the array holds that many live scalars and is copied by the call.
            unsafe { create(pointers.as_ptr(), pointers.len() as u64) }
        },
    )?;
    elements.into_iter().for_each(|element| {
        element.release();
    });
    Ok(list)
}

/// An array of integers.
pub(crate) fn ints<'a>(cx: &'a Launch, values: &[i64]) -> Result<Handle<'a, aclIntArray>> {
    Handle::make(cx, f::aclCreateIntArray, f::aclDestroyIntArray, |create| {
        // SAFETY: the array has that many numbers and is copied by the call.
        unsafe { create(values.as_ptr(), values.len() as u64) }
    })
}

/// An array of floats.
pub(crate) fn floats<'a>(cx: &'a Launch, values: &[f32]) -> Result<Handle<'a, aclFloatArray>> {
    Handle::make(
        cx,
        f::aclCreateFloatArray,
        f::aclDestroyFloatArray,
        |create| {
            // SAFETY: the array has that many numbers and is copied by the call.
            unsafe { create(values.as_ptr(), values.len() as u64) }
        },
    )
}

/// An array of truth values.
pub(crate) fn bools<'a>(cx: &'a Launch, values: &[bool]) -> Result<Handle<'a, aclBoolArray>> {
    Handle::make(
        cx,
        f::aclCreateBoolArray,
        f::aclDestroyBoolArray,
        |create| {
            // SAFETY: the array has that many values and is copied by the call.
            unsafe { create(values.as_ptr(), values.len() as u64) }
        },
    )
}

/// A text as C wants it. CANN's signatures differ in `const` only; no kernel writes to it.
pub(crate) fn text(value: &std::ffi::CStr) -> *mut c_char {
    value.as_ptr().cast_mut()
}
