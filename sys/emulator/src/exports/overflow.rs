//! The status words of overflow on chips that saturate: read and cleared in a stream's order, under their old and new names.
//!
//! Knows a device's one flag; it must not know what overflowed.

use super::copy::{fill, set_bytes};
use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, violation};
use crate::state::context;
use crate::stream::Task;
use ascend_sys::*;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The overflow words that `aclrtGetOverflowStatus` writes: all zero unless something overflowed since the reset.
fn overflow_status(output: *mut c_void, size: usize, stream: aclrtStream) -> Result<(), Failure> {
    let context = context()?;
    let stream = resolve(&context, stream)?;
    if size < 64 {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("size is {size}, wanted at least 64"),
        ));
    }
    let Some(side) = fill(output, size, 64)? else {
        return Ok(());
    };
    if side.device().is_none() {
        return Err(violation(
            code::RT_PARAM_INVALID,
            "the status goes to device memory, got host memory",
        ));
    }
    let device = Arc::clone(&context.device);
    let blocks: Vec<_> = side.block.iter().cloned().collect();
    let run = move || {
        set_bytes(&side, 0, 64);
        if device.overflow.load(Ordering::Acquire) {
            set_bytes(&side, 1, 1);
        }
        Ok(())
    };
    stream.submit(Task::new(run).holding(&blocks))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetOverflowStatus(
    outputAddr: *mut c_void,
    outputSize: usize,
    stream: aclrtStream,
) -> aclError {
    call("aclrtGetOverflowStatus", || {
        overflow_status(outputAddr, outputSize, stream)
    })
}

fn clear_status(stream: aclrtStream) -> Result<(), Failure> {
    let context = context()?;
    let stream = resolve(&context, stream)?;
    let device = Arc::clone(&context.device);
    stream.submit(Task::new(move || {
        device.overflow.store(false, Ordering::Release);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetOverflowStatus(stream: aclrtStream) -> aclError {
    call("aclrtResetOverflowStatus", || clear_status(stream))
}

/// An older name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetFloatOverflowStatus(
    outputAddr: *mut c_void,
    outputSize: u64,
    stream: aclrtStream,
) -> aclError {
    call("aclrtGetFloatOverflowStatus", || {
        overflow_status(outputAddr, outputSize as usize, stream)
    })
}

/// An older name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetFloatOverflowStatus(stream: aclrtStream) -> aclError {
    call("aclrtResetFloatOverflowStatus", || clear_status(stream))
}

fn expect_mode(mode: u32) -> Result<(), Failure> {
    match mode {
        0 => Ok(()),
        _ => Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("checkMode is {mode}, wanted 0"),
        )),
    }
}

/// An older name; the mode is reserved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNpuGetFloatOverFlowStatus(
    outputAddr: *mut c_void,
    outputSize: u64,
    checkMode: u32,
    stream: aclrtStream,
) -> aclError {
    call("aclrtNpuGetFloatOverFlowStatus", || {
        expect_mode(checkMode)?;
        overflow_status(outputAddr, outputSize as usize, stream)
    })
}

/// An older name; the mode is reserved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNpuClearFloatOverFlowStatus(
    checkMode: u32,
    stream: aclrtStream,
) -> aclError {
    call("aclrtNpuClearFloatOverFlowStatus", || {
        expect_mode(checkMode)?;
        clear_status(stream)
    })
}
