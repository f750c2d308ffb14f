//! Descriptions of tensors and buffers in the runtime's own form, which programs hand to models and single operators.
//!
//! Knows what a description says; it must not know aclnn's tensors, and never touches what a buffer points at.

use crate::dtype::DType;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use crate::meta::{self, MOST_DIMS, copied};
use crate::registry::{Kind, Registry};
use crate::single::Operand;
use crate::tensor;
use ascend_sys::*;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Default)]
struct Description {
    dtype: aclDataType,
    format: aclFormat,
    dims: Vec<i64>,
    ranges: Vec<[i64; 2]>,
    name: CString,
    /// The layout in memory, where it is not that of `format`.
    storage_format: Option<aclFormat>,
    /// Data that the host knows.
    constant: Option<Vec<u8>>,
    /// Whether the buffer lies in host memory.
    on_host: bool,
}

struct Buffer {
    address: usize,
    size: usize,
}

static DESCRIPTIONS: Registry<Mutex<Description>> =
    Registry::new(Kind::Description, code::INVALID_PARAM);
static BUFFERS: Registry<Mutex<Buffer>> = Registry::new(Kind::Buffer, code::INVALID_PARAM);

/// The greatest operand in host memory.
const MOST_HOST_BYTES: u64 = 1 << 20;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(text: String) -> Failure {
    Failure::new(code::INVALID_PARAM, text)
}

/// What a description says, in the form of aclnn's tensors.
pub(crate) fn describe(desc: *const aclTensorDesc) -> Result<tensor::Description, Failure> {
    let found = DESCRIPTIONS.get(desc)?;
    let said = locked(&found);
    Ok(meta::describe(
        said.dims.clone(),
        said.dtype,
        None,
        0,
        said.storage_format.unwrap_or(said.format),
        said.dims.clone(),
    ))
}

/// An input or output of a single operator; `None` for one that is left out: null, or without a data type.
pub(crate) fn operand(
    desc: *const aclTensorDesc,
    buffer: *const aclDataBuffer,
) -> Result<Option<Operand>, Failure> {
    if desc.is_null() {
        return Ok(None);
    }
    let description = describe(desc)?;
    if description.dtype < 0 {
        return Ok(None);
    }
    let found = BUFFERS.get(buffer)?;
    let Buffer { address, size } = *locked(&found);
    let said = DESCRIPTIONS.get(desc)?;
    let said = locked(&said);
    let mut constant = said.constant.clone();
    if constant.is_none() && said.on_host && address != 0 {
        let bytes = ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the caller said that its buffer of this size lies in host memory.
        let bytes = unsafe { copied(bytes, size as u64, MOST_HOST_BYTES) };
        constant = Some(bytes.map_err(|failure| invalid(failure.text.into_owned()))?);
    }
    Ok(Some(Operand {
        description,
        address,
        size,
        constant,
    }))
}

/// # Safety
/// `dims` must be null or valid for `count` reads.
unsafe fn shape(count: c_int, dims: *const i64) -> Result<Vec<i64>, Failure> {
    let count = u64::try_from(count).map_err(|_| invalid(format!("numDims is {count}")))?;
    if count > 0 {
        not_null(dims, "dims")?;
    }
    // SAFETY: not null where something is read, valid by this function's contract.
    unsafe { copied(dims, count, MOST_DIMS) }.map_err(|failure| invalid(failure.text.into_owned()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateTensorDesc(
    dataType: aclDataType,
    numDims: c_int,
    dims: *const i64,
    format: aclFormat,
) -> *mut aclTensorDesc {
    value("aclCreateTensorDesc", ptr::null_mut(), || {
        let made = Description {
            dtype: dataType,
            format,
            // SAFETY: null or valid by the contract of the C function.
            dims: unsafe { shape(numDims, dims) }?,
            ..Description::default()
        };
        Ok(DESCRIPTIONS.insert(Mutex::new(made)).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyTensorDesc(desc: *const aclTensorDesc) {
    call("aclDestroyTensorDesc", || {
        if desc.is_null() {
            return Ok(());
        }
        DESCRIPTIONS.remove(desc).map(drop)
    });
}

/// Reads one thing of a description.
fn said<R>(
    name: &'static str,
    desc: *const aclTensorDesc,
    otherwise: R,
    read: impl FnOnce(&Description) -> Result<R, Failure>,
) -> R {
    value(name, otherwise, || {
        let description = DESCRIPTIONS.get(desc)?;
        let said = locked(&description);
        read(&said)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescType(desc: *const aclTensorDesc) -> aclDataType {
    said("aclGetTensorDescType", desc, -1, |said| Ok(said.dtype))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescFormat(desc: *const aclTensorDesc) -> aclFormat {
    said("aclGetTensorDescFormat", desc, -1, |said| Ok(said.format))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescNumDims(desc: *const aclTensorDesc) -> usize {
    said("aclGetTensorDescNumDims", desc, 0, |said| {
        Ok(said.dims.len())
    })
}

fn dim(said: &Description, index: usize) -> Result<i64, Failure> {
    said.dims.get(index).copied().ok_or_else(|| {
        invalid(format!(
            "index is {index}, but the description has {} dims",
            said.dims.len()
        ))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescDim(desc: *const aclTensorDesc, index: usize) -> i64 {
    said("aclGetTensorDescDim", desc, -1, |said| dim(said, index))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescDimV2(
    desc: *const aclTensorDesc,
    index: usize,
    dimSize: *mut i64,
) -> aclError {
    call("aclGetTensorDescDimV2", || {
        let found = dim(&locked(&*DESCRIPTIONS.get(desc)?), index)?;
        // SAFETY: null or valid for a write.
        unsafe { crate::guard::give(dimSize, "dimSize", found) }
    })
}

/// The number of elements; 0 where a dim is not known yet.
fn count(said: &Description) -> Result<usize, Failure> {
    let mut count = 1usize;
    for &dim in &said.dims {
        let dim = usize::try_from(dim).unwrap_or(0);
        count = count
            .checked_mul(dim)
            .ok_or_else(|| invalid(format!("dims {:?} are too large", said.dims)))?;
    }
    Ok(count)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescElementCount(desc: *const aclTensorDesc) -> usize {
    said("aclGetTensorDescElementCount", desc, 0, count)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescSize(desc: *const aclTensorDesc) -> usize {
    said("aclGetTensorDescSize", desc, 0, |said| {
        let dtype = DType::from_code(said.dtype)
            .ok_or_else(|| invalid(format!("data type {} is unknown", said.dtype)))?;
        dtype
            .bytes(count(said)?)
            .ok_or_else(|| invalid(format!("dims {:?} are too large", said.dims)))
    })
}

/// Changes a description.
fn change(
    name: &'static str,
    desc: *mut aclTensorDesc,
    change: impl FnOnce(&mut Description) -> Result<(), Failure>,
) -> i32 {
    call(name, || {
        let description = DESCRIPTIONS.get(desc)?;
        let mut said = locked(&description);
        change(&mut said)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorDescName(desc: *mut aclTensorDesc, name: *const c_char) {
    change("aclSetTensorDescName", desc, |said| {
        said.name = if name.is_null() {
            CString::default()
        } else {
            // SAFETY: not null, and ends in a zero byte by the contract of the C function.
            unsafe { CStr::from_ptr(name) }.to_owned()
        };
        Ok(())
    });
}

/// The text lives until the name is set again or the description is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescName(desc: *mut aclTensorDesc) -> *const c_char {
    said("aclGetTensorDescName", desc, ptr::null(), |said| {
        Ok(said.name.as_ptr())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorShape(
    desc: *mut aclTensorDesc,
    numDims: c_int,
    dims: *const i64,
) -> aclError {
    change("aclSetTensorShape", desc, |said| {
        // SAFETY: null or valid by the contract of the C function.
        said.dims = unsafe { shape(numDims, dims) }?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorFormat(
    desc: *mut aclTensorDesc,
    format: aclFormat,
) -> aclError {
    change("aclSetTensorFormat", desc, |said| {
        said.format = format;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorShapeRange(
    desc: *mut aclTensorDesc,
    dimsCount: usize,
    dimsRange: *mut [i64; 2],
) -> aclError {
    change("aclSetTensorShapeRange", desc, |said| {
        if dimsCount > 0 {
            not_null(dimsRange, "dimsRange")?;
        }
        // SAFETY: not null where something is read, valid for `dimsCount` pairs by the contract of the C function.
        said.ranges = unsafe { copied(dimsRange, dimsCount as u64, MOST_DIMS) }
            .map_err(|failure| invalid(failure.text.into_owned()))?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetTensorDescDimRange(
    desc: *const aclTensorDesc,
    index: usize,
    dimRangeNum: usize,
    dimRange: *mut i64,
) -> aclError {
    call("aclGetTensorDescDimRange", || {
        not_null(dimRange, "dimRange")?;
        if dimRangeNum < 2 {
            return Err(invalid(format!("dimRangeNum is {dimRangeNum}, wanted 2")));
        }
        let description = DESCRIPTIONS.get(desc)?;
        let said = locked(&description);
        let range = said.ranges.get(index).copied().ok_or_else(|| {
            invalid(format!(
                "index is {index}, but {} ranges are set",
                said.ranges.len()
            ))
        })?;
        // SAFETY: not null, and valid for two writes by the contract of the C function.
        unsafe { dimRange.cast::<[i64; 2]>().write_unaligned(range) };
        Ok(())
    })
}

/// Settings for the compiler of single operators, which the emulator does not need: checked and without effect.
fn ignored(name: &'static str, desc: *mut aclTensorDesc) -> i32 {
    change(name, desc, |_| Ok(()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorOriginFormat(
    desc: *mut aclTensorDesc,
    _format: aclFormat,
) -> aclError {
    ignored("aclSetTensorOriginFormat", desc)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorStorageFormat(
    desc: *mut aclTensorDesc,
    format: aclFormat,
) -> aclError {
    change("aclSetTensorStorageFormat", desc, |said| {
        said.storage_format = Some(format);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorOriginShape(
    desc: *mut aclTensorDesc,
    _numDims: c_int,
    _dims: *const i64,
) -> aclError {
    ignored("aclSetTensorOriginShape", desc)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorStorageShape(
    desc: *mut aclTensorDesc,
    _numDims: c_int,
    _dims: *const i64,
) -> aclError {
    ignored("aclSetTensorStorageShape", desc)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorPlaceMent(
    desc: *mut aclTensorDesc,
    memType: aclMemType,
) -> aclError {
    change("aclSetTensorPlaceMent", desc, |said| {
        // 1 and 2 are host memory; with 2 the operator is compiled once for all values.
        said.on_host = matches!(memType, 1 | 2);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorConst(
    desc: *mut aclTensorDesc,
    dataBuffer: *mut c_void,
    length: usize,
) -> aclError {
    change("aclSetTensorConst", desc, |said| {
        not_null(dataBuffer, "dataBuffer")?;
        if length == 0 {
            return Err(invalid(String::from("length is 0")));
        }
        let bytes = dataBuffer.cast_const().cast::<u8>();
        // SAFETY: not null, and valid for `length` reads by the contract of the C function.
        let bytes = unsafe { copied(bytes, length as u64, MOST_HOST_BYTES) };
        said.constant = Some(bytes.map_err(|failure| invalid(failure.text.into_owned()))?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateDataBuffer(data: *mut c_void, size: usize) -> *mut aclDataBuffer {
    value("aclCreateDataBuffer", ptr::null_mut(), || {
        let address = data.expose_provenance();
        Ok(BUFFERS.insert(Mutex::new(Buffer { address, size })).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDestroyDataBuffer(dataBuffer: *const aclDataBuffer) -> aclError {
    call("aclDestroyDataBuffer", || {
        BUFFERS.remove(dataBuffer).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclUpdateDataBuffer(
    dataBuffer: *mut aclDataBuffer,
    data: *mut c_void,
    size: usize,
) -> aclError {
    call("aclUpdateDataBuffer", || {
        let address = data.expose_provenance();
        *locked(&*BUFFERS.get(dataBuffer)?) = Buffer { address, size };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetDataBufferAddr(dataBuffer: *const aclDataBuffer) -> *mut c_void {
    value("aclGetDataBufferAddr", ptr::null_mut(), || {
        let address = locked(&*BUFFERS.get(dataBuffer)?).address;
        Ok(ptr::with_exposed_provenance_mut(address))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetDataBufferSizeV2(dataBuffer: *const aclDataBuffer) -> usize {
    value("aclGetDataBufferSizeV2", 0, || {
        Ok(locked(&*BUFFERS.get(dataBuffer)?).size)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetDataBufferSize(dataBuffer: *const aclDataBuffer) -> u32 {
    value("aclGetDataBufferSize", 0, || {
        let size = locked(&*BUFFERS.get(dataBuffer)?).size;
        Ok(u32::try_from(size).unwrap_or(u32::MAX))
    })
}
