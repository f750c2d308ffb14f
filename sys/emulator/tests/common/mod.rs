//! What all tests share: typed functions out of the symbol table, buffers, tensors, and one lock because the state is global.
//!
//! Knows the C interface; it must not know the emulator's inside.
#![allow(dead_code, missing_docs, clippy::macro_metavars_in_unsafe)]

use ascend_emulator::Settings;
use ascend_sys::{self as sys, Function};
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const HOST_TO_DEVICE: u32 = 1;
pub const DEVICE_TO_HOST: u32 = 2;

/// The function that a marker names.
pub fn function<F: Function>(_: F) -> F::Pointer {
    let address = ascend_emulator::resolve(F::NAME).expect("every known function is exported");
    // SAFETY: the table pairs each name with a function of exactly this type.
    unsafe { std::mem::transmute_copy(&address) }
}

/// Calls a function by its C name and gives its result.
#[macro_export]
macro_rules! acl {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the test passes what the C function asks for, or wants to see it refused.
        unsafe { $crate::common::function(ascend_sys::f::$name)($($argument),*) }
    }};
}

/// A fresh emulator with device 0 set on this thread, until the guard is dropped.
pub fn fresh(settings: Settings) -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    ascend_emulator::reset(settings).expect("settings");
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    guard
}

pub fn recent() -> String {
    let text = acl!(aclGetRecentErrMsg());
    if text.is_null() {
        return String::new();
    }
    // SAFETY: a C string that lives until the next call.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

pub fn malloc(size: usize) -> *mut c_void {
    let mut pointer = ptr::null_mut();
    assert_eq!(acl!(aclrtMalloc(&mut pointer, size, 0)), 0, "{}", recent());
    pointer
}

pub fn pinned(size: usize) -> *mut c_void {
    let mut pointer = ptr::null_mut();
    assert_eq!(acl!(aclrtMallocHost(&mut pointer, size)), 0);
    pointer
}

pub fn upload(values: &[f32]) -> *mut c_void {
    let bytes = size_of_val(values);
    let pointer = malloc(bytes.max(4));
    assert_eq!(
        acl!(aclrtMemcpy(
            pointer,
            bytes,
            values.as_ptr().cast(),
            bytes,
            HOST_TO_DEVICE
        )),
        0
    );
    pointer
}

pub fn download(pointer: *mut c_void, count: usize) -> Vec<f32> {
    let mut values = vec![0f32; count];
    let bytes = count * 4;
    assert_eq!(
        acl!(aclrtMemcpy(
            values.as_mut_ptr().cast(),
            bytes,
            pointer,
            bytes,
            DEVICE_TO_HOST
        )),
        0,
        "{}",
        recent()
    );
    values
}

/// A contiguous f32 tensor.
pub fn tensor(shape: &[i64], address: *mut c_void) -> *mut sys::aclTensor {
    typed(shape, sys::ACL_FLOAT, address)
}

pub fn typed(shape: &[i64], dtype: i32, address: *mut c_void) -> *mut sys::aclTensor {
    let rank = shape.len() as u64;
    acl!(aclCreateTensor(
        shape.as_ptr(),
        rank,
        dtype,
        ptr::null(),
        0,
        2,
        shape.as_ptr(),
        rank,
        address
    ))
}

/// A strided f32 view of a buffer with `storage` elements.
pub fn view(
    shape: &[i64],
    strides: &[i64],
    offset: i64,
    storage: i64,
    address: *mut c_void,
) -> *mut sys::aclTensor {
    acl!(aclCreateTensor(
        shape.as_ptr(),
        shape.len() as u64,
        sys::ACL_FLOAT,
        strides.as_ptr(),
        offset,
        2,
        &storage,
        1,
        address
    ))
}

pub fn scalar(mut value: f32) -> *mut sys::aclScalar {
    acl!(aclCreateScalar((&raw mut value).cast(), sys::ACL_FLOAT))
}

/// Phase 1 of aclnnAdd: status, workspace, executor.
pub fn plan_add(
    x: *mut sys::aclTensor,
    y: *mut sys::aclTensor,
    out: *mut sys::aclTensor,
) -> (i32, u64, *mut sys::aclOpExecutor) {
    let (mut workspace, mut executor) = (0, ptr::null_mut());
    let alpha = scalar(1.0);
    let status = acl!(aclnnAddGetWorkspaceSize(
        x,
        y,
        alpha,
        out,
        &mut workspace,
        &mut executor
    ));
    assert_eq!(acl!(aclDestroyScalar(alpha)), 0);
    (status, workspace, executor)
}

/// `out = x + y` on a stream.
pub fn add(
    x: *mut c_void,
    y: *mut c_void,
    out: *mut c_void,
    count: i64,
    stream: sys::aclrtStream,
) -> i32 {
    let (x, y, out) = (
        tensor(&[count], x),
        tensor(&[count], y),
        tensor(&[count], out),
    );
    let (status, workspace, executor) = plan_add(x, y, out);
    let status = if status == 0 {
        acl!(aclnnAdd(ptr::null_mut(), workspace, executor, stream))
    } else {
        status
    };
    for tensor in [x, y, out] {
        assert_eq!(acl!(aclDestroyTensor(tensor)), 0);
    }
    status
}

pub fn stream() -> sys::aclrtStream {
    let mut stream = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateStream(&mut stream)), 0);
    stream
}

pub fn synchronize(stream: sys::aclrtStream) -> i32 {
    acl!(aclrtSynchronizeStream(stream))
}
