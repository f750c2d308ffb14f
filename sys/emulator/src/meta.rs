//! The objects behind aclnn's argument handles: tensors, scalars, arrays and lists, with their ownership.
//!
//! Knows what creators said; it must not know ops, executors or device memory.

use crate::dtype::DType;
use crate::failure::{Failure, code};
use crate::guard;
use crate::kernel::Scalar;
use crate::registry::{Kind, Registry};
use crate::tensor::{Description, TensorObject};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const STALE: i32 = code::ACLNN_PARAM_INVALID;

pub(crate) static TENSORS: Registry<TensorObject> = Registry::new(Kind::Tensor, STALE);
pub(crate) static SCALARS: Registry<ScalarObject> = Registry::new(Kind::Scalar, STALE);
pub(crate) static INTS: Registry<Vec<i64>> = Registry::new(Kind::IntArray, STALE);
pub(crate) static FLOATS: Registry<Vec<f32>> = Registry::new(Kind::FloatArray, STALE);
pub(crate) static BOOLS: Registry<Vec<bool>> = Registry::new(Kind::BoolArray, STALE);
pub(crate) static TENSOR_LISTS: Registry<TensorList> = Registry::new(Kind::TensorList, STALE);
pub(crate) static SCALAR_LISTS: Registry<ScalarList> = Registry::new(Kind::ScalarList, STALE);

pub(crate) fn clear() {
    TENSORS.clear();
    SCALARS.clear();
    INTS.clear();
    FLOATS.clear();
    BOOLS.clear();
    TENSOR_LISTS.clear();
    SCALAR_LISTS.clear();
}

/// A scalar behind a handle.
pub(crate) struct ScalarObject {
    pub value: Scalar,
    listed: AtomicBool,
}

/// Tensors that a list owns, null ones as `None`.
pub(crate) struct TensorList {
    pub elements: Vec<Option<(usize, Arc<TensorObject>)>>,
}

/// Scalars that a list owns.
pub(crate) struct ScalarList {
    pub elements: Vec<(usize, Arc<ScalarObject>)>,
}

/// The greatest rank that a shape can say; ops take less.
pub(crate) const MOST_DIMS: u64 = 25;
/// The greatest length of an argument array: longer ones are errors of their caller, and would be read past their end.
pub(crate) const MOST_VALUES: u64 = 1 << 20;

/// Copies a caller's array of at most so many values.
///
/// # Safety
/// `values` must be null or valid for `count` reads.
pub(crate) unsafe fn copied<T: Copy>(
    values: *const T,
    count: u64,
    most: u64,
) -> Result<Vec<T>, Failure> {
    if values.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    if count > most {
        return Err(Failure::invalid(format!(
            "an array has {count} values, wanted at most {most}"
        )));
    }
    // SAFETY: not null, and valid for `count` reads by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(values, count as usize) }.to_vec())
}

/// Makes a tensor from what its creator said; strides of a contiguous tensor where none are given.
pub(crate) fn describe(
    shape: Vec<i64>,
    dtype: i32,
    strides: Option<Vec<i64>>,
    offset: i64,
    format: i32,
    storage: Vec<i64>,
) -> Description {
    let strides = strides.unwrap_or_else(|| {
        let mut step = 1i64;
        let mut strides: Vec<i64> = shape
            .iter()
            .rev()
            .map(|&dim| {
                let stride = step;
                step = step.saturating_mul(dim.max(1));
                stride
            })
            .collect();
        strides.reverse();
        strides
    });
    Description {
        dtype,
        format,
        shape,
        strides,
        offset,
        storage,
    }
}

/// A scalar's handle; `None` for types that scalars cannot have.
///
/// # Safety
/// `value` must be null or valid for a read of the dtype's width.
pub(crate) unsafe fn scalar(value: *const c_void, dtype: i32) -> Option<*mut c_void> {
    let dtype = DType::from_code(dtype)?;
    let refused = matches!(
        dtype,
        DType::Undefined | DType::Text | DType::I4 | DType::U1 | DType::C32
    );
    if value.is_null() || refused {
        return None;
    }
    let mut bits = [0u8; 16];
    let width = (dtype.bits() / 8).clamp(1, 16);
    // SAFETY: not null, valid for the dtype's width by this function's contract; `bits` has 16 bytes.
    unsafe { std::ptr::copy_nonoverlapping(value.cast::<u8>(), bits.as_mut_ptr(), width) };
    Some(SCALARS.insert(ScalarObject {
        value: Scalar::new(dtype, bits),
        listed: AtomicBool::new(false),
    }))
}

/// A list that owns its elements from now on.
pub(crate) fn tensor_list(handles: &[usize]) -> Result<*mut c_void, Failure> {
    let mut elements = Vec::with_capacity(handles.len());
    for &handle in handles {
        if handle == 0 {
            elements.push(None);
            continue;
        }
        let tensor = TENSORS.get(std::ptr::without_provenance::<()>(handle))?;
        if tensor.listed.swap(true, Ordering::AcqRel) {
            return Err(guard::violation(
                STALE,
                format!("tensor {handle:#x} is in two lists"),
            ));
        }
        elements.push(Some((handle, tensor)));
    }
    Ok(TENSOR_LISTS.insert(TensorList { elements }))
}

/// A scalar list that owns its elements from now on.
pub(crate) fn scalar_list(handles: &[usize]) -> Result<*mut c_void, Failure> {
    let mut elements = Vec::with_capacity(handles.len());
    for &handle in handles {
        let scalar = SCALARS.get(std::ptr::without_provenance::<()>(handle))?;
        if scalar.listed.swap(true, Ordering::AcqRel) {
            return Err(guard::violation(
                STALE,
                format!("scalar {handle:#x} is in two lists"),
            ));
        }
        elements.push((handle, scalar));
    }
    Ok(SCALAR_LISTS.insert(ScalarList { elements }))
}

pub(crate) fn destroy_tensor(handle: *const c_void) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    if TENSORS.get(handle)?.listed.load(Ordering::Acquire) {
        return Err(guard::violation(
            STALE,
            format!(
                "tensor {:#x} is destroyed although a list owns it",
                handle.addr()
            ),
        ));
    }
    TENSORS
        .remove(handle)?
        .alive
        .store(false, Ordering::Release);
    Ok(())
}

pub(crate) fn destroy_scalar(handle: *const c_void) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    if SCALARS.get(handle)?.listed.load(Ordering::Acquire) {
        return Err(guard::violation(
            STALE,
            format!(
                "scalar {:#x} is destroyed although a list owns it",
                handle.addr()
            ),
        ));
    }
    SCALARS.remove(handle).map(drop)
}

pub(crate) fn destroy_tensor_list(handle: *const c_void) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    let list = TENSOR_LISTS.remove(handle)?;
    for (element, tensor) in list.elements.iter().flatten() {
        TENSORS.remove(std::ptr::without_provenance::<()>(*element))?;
        tensor.alive.store(false, Ordering::Release);
    }
    Ok(())
}

pub(crate) fn destroy_scalar_list(handle: *const c_void) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    let list = SCALAR_LISTS.remove(handle)?;
    for (element, _) in &list.elements {
        SCALARS.remove(std::ptr::without_provenance::<()>(*element))?;
    }
    Ok(())
}
