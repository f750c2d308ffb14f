//! Lists of buffers for models, and models themselves, which the emulator cannot run: an offline model holds code for an NPU.
//!
//! Knows lists of buffer handles; it must not know what the buffers hold.

use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use crate::registry::{Kind, Registry};
use ascend_sys::*;
use std::ptr;
use std::sync::{Mutex, PoisonError};

static DATASETS: Registry<Mutex<Vec<usize>>> = Registry::new(Kind::Dataset, code::INVALID_PARAM);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlCreateDataset() -> *mut aclmdlDataset {
    value("aclmdlCreateDataset", ptr::null_mut(), || {
        Ok(DATASETS.insert(Mutex::new(Vec::new())).cast())
    })
}

/// The buffers stay their makers'.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlDestroyDataset(dataset: *const aclmdlDataset) -> aclError {
    call("aclmdlDestroyDataset", || {
        not_null(dataset, "dataset")?;
        DATASETS.remove(dataset).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlAddDatasetBuffer(
    dataset: *mut aclmdlDataset,
    dataBuffer: *mut aclDataBuffer,
) -> aclError {
    call("aclmdlAddDatasetBuffer", || {
        not_null(dataset, "dataset")?;
        not_null(dataBuffer, "dataBuffer")?;
        let found = DATASETS.get(dataset)?;
        let mut buffers = found.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.push(dataBuffer.expose_provenance());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlGetDatasetNumBuffers(dataset: *const aclmdlDataset) -> usize {
    value("aclmdlGetDatasetNumBuffers", 0, || {
        not_null(dataset, "dataset")?;
        let found = DATASETS.get(dataset)?;
        let buffers = found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(buffers.len())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlGetDatasetBuffer(
    dataset: *const aclmdlDataset,
    index: usize,
) -> *mut aclDataBuffer {
    value("aclmdlGetDatasetBuffer", ptr::null_mut(), || {
        not_null(dataset, "dataset")?;
        let found = DATASETS.get(dataset)?;
        let buffers = found.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffers.get(index).copied().ok_or_else(|| {
            let text = format!(
                "index is {index}, the dataset has {} buffers",
                buffers.len()
            );
            Failure::new(code::INVALID_PARAM, text)
        })?;
        Ok(ptr::with_exposed_provenance_mut(buffer))
    })
}
