//! Argument handles of aclnn ops, and what can be done with executors.
//!
//! Knows C signatures; it must not know what the objects hold.

use crate::executor::{EXECUTORS, make_repeatable};
use crate::failure::{Failure, code};
use crate::guard::{call, value};
use crate::meta::{self, MOST_DIMS, MOST_VALUES, copied, describe};
use crate::tensor::TensorObject;
use ascend_sys::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Writes through a caller's pointer; null is refused with 161001.
unsafe fn hand<T>(target: *mut T, value: T) -> Result<(), Failure> {
    if target.is_null() {
        return Err(Failure::null("a result pointer is null"));
    }
    // SAFETY: not null, valid by the contract of the C function.
    unsafe { target.write(value) };
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateTensor(
    viewDims: *const i64,
    viewDimsNum: u64,
    dataType: aclDataType,
    stride: *const i64,
    offset: i64,
    format: aclFormat,
    storageDims: *const i64,
    storageDimsNum: u64,
    tensorData: *mut c_void,
) -> *mut aclTensor {
    value("aclCreateTensor", ptr::null_mut(), || {
        if (viewDims.is_null() && viewDimsNum > 0) || (storageDims.is_null() && storageDimsNum > 0)
        {
            return Err(Failure::null(
                "viewDims or storageDims is null although its length is not 0",
            ));
        }
        // SAFETY: null or valid for their lengths by the contract of the C function.
        let (shape, strides, storage) = unsafe {
            (
                copied(viewDims, viewDimsNum, MOST_DIMS)?,
                copied(stride, viewDimsNum, MOST_DIMS)?,
                copied(storageDims, storageDimsNum, MOST_DIMS)?,
            )
        };
        let strides = (!stride.is_null()).then_some(strides);
        let description = describe(shape, dataType, strides, offset, format, storage);
        Ok(meta::TENSORS
            .insert(TensorObject::new(
                description,
                tensorData.expose_provenance(),
            ))
            .cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclInitTensor(
    tensor: *mut aclTensor,
    viewDims: *const i64,
    viewDimsNum: u64,
    dataType: aclDataType,
    stride: *const i64,
    offset: i64,
    format: aclFormat,
    storageDims: *const i64,
    storageDimsNum: u64,
    tensorDataAddr: *mut c_void,
) -> aclnnStatus {
    call("aclInitTensor", || {
        let object = meta::TENSORS.get(tensor)?;
        // SAFETY: null or valid for their lengths by the contract of the C function.
        let (shape, strides, storage) = unsafe {
            (
                copied(viewDims, viewDimsNum, MOST_DIMS)?,
                copied(stride, viewDimsNum, MOST_DIMS)?,
                copied(storageDims, storageDimsNum, MOST_DIMS)?,
            )
        };
        let strides = (!stride.is_null()).then_some(strides);
        let description = describe(shape, dataType, strides, offset, format, storage);
        *object
            .description
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = description;
        object
            .address
            .store(tensorDataAddr.expose_provenance(), Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateScalar(
    value: *mut c_void,
    dataType: aclDataType,
) -> *mut aclScalar {
    crate::guard::value("aclCreateScalar", ptr::null_mut(), || {
        // SAFETY: null or valid for the dtype's width by the contract of the C function.
        let made = unsafe { meta::scalar(value, dataType) };
        made.map(<*mut c_void>::cast).ok_or_else(|| {
            Failure::invalid(format!(
                "value is null, or no scalar can have data type {dataType}"
            ))
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateIntArray(value: *const i64, size: u64) -> *mut aclIntArray {
    crate::guard::value("aclCreateIntArray", ptr::null_mut(), || {
        // SAFETY: null or valid for `size` reads.
        let values = unsafe { copied(value, size, MOST_VALUES) }?;
        Ok(meta::INTS.insert(values).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateFloatArray(value: *const f32, size: u64) -> *mut aclFloatArray {
    crate::guard::value("aclCreateFloatArray", ptr::null_mut(), || {
        // SAFETY: null or valid for `size` reads.
        let values = unsafe { copied(value, size, MOST_VALUES) }?;
        Ok(meta::FLOATS.insert(values).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateBoolArray(value: *const bool, size: u64) -> *mut aclBoolArray {
    crate::guard::value("aclCreateBoolArray", ptr::null_mut(), || {
        // SAFETY: null or valid for `size` reads.
        let values = unsafe { copied(value, size, MOST_VALUES) }?;
        Ok(meta::BOOLS.insert(values).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateTensorList(
    value: *const *const aclTensor,
    size: u64,
) -> *mut aclTensorList {
    crate::guard::value("aclCreateTensorList", ptr::null_mut(), || {
        // SAFETY: null or valid for `size` reads.
        let handles: Vec<usize> = unsafe { copied(value, size, MOST_VALUES) }?
            .into_iter()
            .map(<*const aclTensor>::addr)
            .collect();
        meta::tensor_list(&handles).map(<*mut c_void>::cast)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateScalarList(
    value: *const *const aclScalar,
    size: u64,
) -> *mut aclScalarList {
    crate::guard::value("aclCreateScalarList", ptr::null_mut(), || {
        // SAFETY: null or valid for `size` reads.
        let handles: Vec<usize> = unsafe { copied(value, size, MOST_VALUES) }?
            .into_iter()
            .map(<*const aclScalar>::addr)
            .collect();
        meta::scalar_list(&handles).map(<*mut c_void>::cast)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyTensor(tensor: *const aclTensor) -> aclnnStatus {
    call("aclDestroyTensor", || meta::destroy_tensor(tensor.cast()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyScalar(scalar: *const aclScalar) -> aclnnStatus {
    call("aclDestroyScalar", || meta::destroy_scalar(scalar.cast()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyTensorList(array: *const aclTensorList) -> aclnnStatus {
    call("aclDestroyTensorList", || {
        meta::destroy_tensor_list(array.cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyScalarList(array: *const aclScalarList) -> aclnnStatus {
    call("aclDestroyScalarList", || {
        meta::destroy_scalar_list(array.cast())
    })
}

fn unless_null<P>(
    handle: *const P,
    destroy: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    if handle.is_null() { Ok(()) } else { destroy() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyIntArray(array: *const aclIntArray) -> aclnnStatus {
    call("aclDestroyIntArray", || {
        unless_null(array, || meta::INTS.remove(array).map(drop))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyFloatArray(array: *const aclFloatArray) -> aclnnStatus {
    call("aclDestroyFloatArray", || {
        unless_null(array, || meta::FLOATS.remove(array).map(drop))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyBoolArray(array: *const aclBoolArray) -> aclnnStatus {
    call("aclDestroyBoolArray", || {
        unless_null(array, || meta::BOOLS.remove(array).map(drop))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyAclOpExecutor(executor: *mut aclOpExecutor) -> aclnnStatus {
    call("aclDestroyAclOpExecutor", || {
        unless_null(executor, || EXECUTORS.remove(executor).map(drop))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetAclOpExecutorRepeatable(
    executor: *mut aclOpExecutor,
) -> aclnnStatus {
    call("aclSetAclOpExecutorRepeatable", || {
        make_repeatable(executor)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetIntArraySize(
    array: *const aclIntArray,
    size: *mut u64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetIntArraySize", || unsafe {
        hand(size, meta::INTS.get(array)?.len() as u64)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetFloatArraySize(
    array: *const aclFloatArray,
    size: *mut u64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetFloatArraySize", || unsafe {
        hand(size, meta::FLOATS.get(array)?.len() as u64)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetBoolArraySize(
    array: *const aclBoolArray,
    size: *mut u64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetBoolArraySize", || unsafe {
        hand(size, meta::BOOLS.get(array)?.len() as u64)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorListSize(
    tensorList: *const aclTensorList,
    size: *mut u64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetTensorListSize", || unsafe {
        hand(
            size,
            meta::TENSOR_LISTS.get(tensorList)?.elements.len() as u64,
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetScalarListSize(
    scalarList: *const aclScalarList,
    size: *mut u64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetScalarListSize", || unsafe {
        hand(
            size,
            meta::SCALAR_LISTS.get(scalarList)?.elements.len() as u64,
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetDataType(
    tensor: *const aclTensor,
    dataType: *mut aclDataType,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetDataType", || unsafe {
        hand(dataType, meta::TENSORS.get(tensor)?.describe().dtype)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetFormat(
    tensor: *const aclTensor,
    format: *mut aclFormat,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetFormat", || unsafe {
        hand(format, meta::TENSORS.get(tensor)?.describe().format)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetViewOffset(
    tensor: *const aclTensor,
    offset: *mut i64,
) -> aclnnStatus {
    // SAFETY: null or valid for a write.
    call("aclGetViewOffset", || unsafe {
        hand(offset, meta::TENSORS.get(tensor)?.describe().offset)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetRawTensorAddr(
    tensor: *const aclTensor,
    addr: *mut *mut c_void,
) -> aclnnStatus {
    call("aclGetRawTensorAddr", || {
        let address = meta::TENSORS.get(tensor)?.address.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { hand(addr, ptr::with_exposed_provenance_mut(address)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetRawTensorAddr(
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetRawTensorAddr", || {
        meta::TENSORS
            .get(tensor)?
            .address
            .store(addr.expose_provenance(), Ordering::Release);
        Ok(())
    })
}

/// Hands out an array that the caller releases: `malloc` is what C++'s default `delete[]` releases on Linux.
unsafe fn hand_array(values: &[i64], array: *mut *mut i64, count: *mut u64) -> Result<(), Failure> {
    if array.is_null() || count.is_null() {
        return Err(Failure::null("a result pointer is null"));
    }
    // SAFETY: any size is allowed.
    let copy = unsafe { libc::malloc(size_of_val(values).max(8)) }.cast::<i64>();
    if copy.is_null() {
        return Err(Failure::new(
            code::ACLNN_INNER,
            "the host has no memory for a shape",
        ));
    }
    // SAFETY: the copy has room for all values; both results are not null and valid for a write.
    unsafe {
        ptr::copy_nonoverlapping(values.as_ptr(), copy, values.len());
        array.write(copy);
        count.write(values.len() as u64);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetViewShape(
    tensor: *const aclTensor,
    viewDims: *mut *mut i64,
    viewDimsNum: *mut u64,
) -> aclnnStatus {
    call("aclGetViewShape", || {
        let shape = meta::TENSORS.get(tensor)?.describe().shape;
        // SAFETY: null or valid for a write.
        unsafe { hand_array(&shape, viewDims, viewDimsNum) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetViewStrides(
    tensor: *const aclTensor,
    stridesValue: *mut *mut i64,
    stridesNum: *mut u64,
) -> aclnnStatus {
    call("aclGetViewStrides", || {
        let strides = meta::TENSORS.get(tensor)?.describe().strides;
        // SAFETY: null or valid for a write.
        unsafe { hand_array(&strides, stridesValue, stridesNum) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetStorageShape(
    tensor: *const aclTensor,
    storageDims: *mut *mut i64,
    storageDimsNum: *mut u64,
) -> aclnnStatus {
    call("aclGetStorageShape", || {
        let storage = meta::TENSORS.get(tensor)?.describe().storage;
        // SAFETY: null or valid for a write.
        unsafe { hand_array(&storage, storageDims, storageDimsNum) }
    })
}
