//! New addresses for the tensors of executors that run more than once.
//!
//! Knows C signatures; it must not know executors.

use crate::executor::set_address;
use crate::guard::call;
use crate::meta;
use ascend_sys::*;
use std::ffi::c_void;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetInputTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetInputTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetOutputTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetOutputTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetInputTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetInputTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetOutputTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetOutputTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetTensorAddr(
    executor: *mut aclOpExecutor,
    index: usize,
    tensor: *mut aclTensor,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetTensorAddr", || {
        set_address(
            executor,
            index,
            Some(tensor.cast_const().cast()),
            None,
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetDynamicInputTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetDynamicInputTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetDynamicOutputTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetDynamicOutputTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetDynamicTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("aclSetDynamicTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetDynamicInputTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetDynamicInputTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetDynamicOutputTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetDynamicOutputTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AclSetDynamicTensorAddr(
    executor: *mut aclOpExecutor,
    irIndex: usize,
    relativeIndex: usize,
    tensors: *mut aclTensorList,
    addr: *mut c_void,
) -> aclnnStatus {
    call("AclSetDynamicTensorAddr", || {
        meta::TENSOR_LISTS.get(tensors)?;
        set_address(
            executor,
            irIndex,
            None,
            Some(relativeIndex),
            addr.expose_provenance(),
        )
    })
}
