//! Copies within a device whose addresses stand in memory themselves: in a descriptor, or behind a second pointer.
//!
//! Knows where addresses stand; what a copy may do is `copy`'s to say.

use super::copy::{copy_async, copy_now};
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::memory;
use ascend_sys::*;
use std::ffi::c_void;
use std::ptr;

/// What a descriptor in device memory holds.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Descriptor {
    mark: u64,
    source: u64,
    target: u64,
    bytes: u64,
    rest: [u64; 4],
}

/// Tells a descriptor from other bytes.
const MARK: u64 = 0x6465_7363_7269_6265;

fn within(kind: aclrtMemcpyKind) -> Result<(), Failure> {
    if kind == ACL_MEMCPY_INNER_DEVICE_TO_DEVICE {
        return Ok(());
    }
    Err(Failure::new(
        code::RT_FEATURE_NOT_SUPPORT,
        format!(
            "kind is {kind}, wanted {ACL_MEMCPY_INNER_DEVICE_TO_DEVICE}: copies within a device"
        ),
    ))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetMemcpyDescSize(
    kind: aclrtMemcpyKind,
    descSize: *mut usize,
) -> aclError {
    call("aclrtGetMemcpyDescSize", || {
        within(kind)?;
        // SAFETY: null or valid for a write by the contract of the C function.
        unsafe { give(descSize, "descSize", size_of::<Descriptor>()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetMemcpyDesc(
    desc: *mut c_void,
    kind: aclrtMemcpyKind,
    srcAddr: *mut c_void,
    dstAddr: *mut c_void,
    count: usize,
    config: *mut c_void,
) -> aclError {
    call("aclrtSetMemcpyDesc", || {
        within(kind)?;
        not_null(desc, "desc")?;
        not_null(srcAddr, "srcAddr")?;
        not_null(dstAddr, "dstAddr")?;
        if !config.is_null() || count == 0 {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("count is {count}, config {config:p}, wanted a number above 0 and null"),
            ));
        }
        let made = Descriptor {
            mark: MARK,
            source: srcAddr.expose_provenance() as u64,
            target: dstAddr.expose_provenance() as u64,
            bytes: count as u64,
            ..Descriptor::default()
        };
        let size = size_of::<Descriptor>();
        copy_now(desc, size, (&raw const made).cast(), size)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyAsyncWithDesc(
    desc: *mut c_void,
    kind: aclrtMemcpyKind,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemcpyAsyncWithDesc", || {
        within(kind)?;
        not_null(desc, "desc")?;
        let mut said = Descriptor::default();
        let size = size_of::<Descriptor>();
        copy_now((&raw mut said).cast(), size, desc, size)?;
        if said.mark != MARK {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "desc holds no descriptor: call aclrtSetMemcpyDesc first",
            ));
        }
        let [source, target] = [said.source, said.target]
            .map(|at| ptr::with_exposed_provenance_mut::<c_void>(at as usize));
        let bytes = said.bytes as usize;
        copy_async(
            target,
            bytes,
            source,
            bytes,
            ACL_MEMCPY_DEVICE_TO_DEVICE,
            stream,
        )
    })
}

/// The address that stands at a place in device or host memory.
///
/// # Safety
/// A place that is no device memory must be valid for a read.
unsafe fn behind(place: *const *const c_void, what: &str) -> Result<*mut c_void, Failure> {
    not_null(place, what)?;
    let mut address: *const c_void = ptr::null();
    let size = size_of::<*const c_void>();
    if memory::find(place.addr(), size).is_ok() {
        copy_now((&raw mut address).cast(), size, place.cast(), size)?;
    } else {
        // SAFETY: not null, no device memory, so valid for a read by this function's contract.
        address = unsafe { place.read_unaligned() };
    }
    not_null(address, what)?;
    Ok(address.cast_mut())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyAsyncWithOffset(
    dst: *mut *mut c_void,
    destMax: usize,
    dstDataOffset: usize,
    src: *mut *const c_void,
    count: usize,
    srcDataOffset: usize,
    kind: aclrtMemcpyKind,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemcpyAsyncWithOffset", || {
        within(kind)?;
        // SAFETY: device memory, or valid for a read by the contract of the C function.
        let (target, source) = unsafe { (behind(dst.cast(), "dst")?, behind(src, "src")?) };
        let room = destMax.checked_sub(dstDataOffset).ok_or_else(|| {
            let text = format!("dstDataOffset is {dstDataOffset} of {destMax} bytes");
            Failure::new(code::RT_PARAM_INVALID, text)
        })?;
        let (target, source) = (
            target.wrapping_byte_add(dstDataOffset),
            source.wrapping_byte_add(srcDataOffset),
        );
        copy_async(
            target,
            room,
            source,
            count,
            ACL_MEMCPY_DEVICE_TO_DEVICE,
            stream,
        )
    })
}
