//! Functions that no public header declares, but that the libraries export and known programs link or look up: hooks of the
//! operator library's cache and memory, the older runtime interface, and reports to the profiler.
//!
//! Knows their signatures as programs use them; it must not know executors or streams.

use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use ascend_sys::*;
use std::ffi::{c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hasher};
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A hook that gives nothing back: booked as a call, and without effect.
fn hook(name: &'static str) {
    call(name, || Ok(()));
}

// Huge memory: a pool that the operator library keeps for its workspaces; here each phase 2 says what it needs.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn InitHugeMemThreadLocal(_arg: *mut c_void, _sync: bool) -> c_int {
    call("InitHugeMemThreadLocal", || Ok(()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn UnInitHugeMemThreadLocal(_arg: *mut c_void, _sync: bool) {
    hook("UnInitHugeMemThreadLocal");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ReleaseHugeMem(_arg: *mut c_void, _sync: bool) {
    hook("ReleaseHugeMem");
}

// The cache of executors: no op is cached, which the library says of ops that copy host data; programs then go through phase 1.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn InitPTACacheThreadLocal() {
    hook("InitPTACacheThreadLocal");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn UnInitPTACacheThreadLocal() {
    hook("UnInitPTACacheThreadLocal");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CanUsePTACache(_api: *const c_char) -> bool {
    value("CanUsePTACache", false, || Ok(false))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn SetPTAHashKey(_hash: u64) {
    hook("SetPTAHashKey");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn SetPTACacheHashKey(_key: *mut u8, _len: usize) {
    hook("SetPTACacheHashKey");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn PTAGetExecCache(
    _hash: u64,
    _workspaceSize: *mut u64,
) -> *mut aclOpExecutor {
    value("PTAGetExecCache", ptr::null_mut(), || Ok(ptr::null_mut()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn PTAFindExecCache(
    _buf: *mut u8,
    _len: usize,
    _workspaceSize: *mut u64,
) -> *mut aclOpExecutor {
    value("PTAFindExecCache", ptr::null_mut(), || Ok(ptr::null_mut()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn AddTensorAddrToCachedList(_addr: *mut c_void) {
    hook("AddTensorAddrToCachedList");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnReselectStaticKernel() -> aclnnStatus {
    call("aclnnReselectStaticKernel", || Ok(()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnReselectStaticKernelWithPath(
    staticKernelPath: *const c_char,
) -> aclnnStatus {
    call("aclnnReselectStaticKernelWithPath", || {
        not_null(staticKernelPath, "staticKernelPath")
    })
}

// The older runtime interface: binaries of device code cannot run on a host.

fn no_device_code(name: &'static str) -> i32 {
    call(name, || {
        Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            format!("{name}: the emulator runs no device code"),
        ))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtDevBinaryRegister(
    _binary: *const c_void,
    _handle: *mut *mut c_void,
) -> i32 {
    no_device_code("rtDevBinaryRegister")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtFunctionRegister(
    _binary: *mut c_void,
    _stub: *const c_void,
    _name: *const c_char,
    _extra: *const c_void,
    _mode: u32,
) -> i32 {
    no_device_code("rtFunctionRegister")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtKernelLaunch(
    _stub: *const c_void,
    _blocks: u32,
    _args: *mut c_void,
    _size: u32,
    _description: *mut c_void,
    _stream: *mut c_void,
) -> i32 {
    no_device_code("rtKernelLaunch")
}

// Reports to the profiler: accepted and ignored.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn MsprofSysCycleTime() -> u64 {
    value("MsprofSysCycleTime", 0, || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(since.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn MsprofGetHashId(text: *const c_char, length: usize) -> u64 {
    value("MsprofGetHashId", u64::MAX, || {
        not_null(text, "hashInfo")?;
        let mut hasher = DefaultHasher::new();
        // SAFETY: not null, and valid for `length` reads by the contract of the C function.
        hasher.write(unsafe { std::slice::from_raw_parts(text.cast(), length) });
        Ok(hasher.finish())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn MsprofReportApi(_aging: u32, api: *const c_void) -> i32 {
    call("MsprofReportApi", || not_null(api, "api"))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn MsprofReportCompactInfo(
    _aging: u32,
    data: *const c_void,
    _length: u32,
) -> i32 {
    call("MsprofReportCompactInfo", || not_null(data, "data"))
}
