//! Marks and ranges for tools that watch a program (`mstx/ms_tools_ext.h`). No tool watches: the trace shows the calls, nothing else happens.
//!
//! Knows numbers of ranges and domains; it must not know streams' work. The types are those of `headers/mstx/ms_tools_ext.h`.

use crate::failure::code;
use crate::guard::{not_null, value};
use crate::registry::{Kind, Registry};
use ascend_sys::aclrtStream;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

static DOMAINS: Registry<()> = Registry::new(Kind::Plain, code::INVALID_PARAM);
static RANGES: AtomicU64 = AtomicU64::new(1);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxMarkA(message: *const c_char, _stream: aclrtStream) {
    value("mstxMarkA", (), || not_null(message, "message"));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxRangeStartA(message: *const c_char, _stream: aclrtStream) -> u64 {
    // A number that no range had before; 0 says that there is none.
    value("mstxRangeStartA", 0, || {
        not_null(message, "message")?;
        Ok(RANGES.fetch_add(1, Ordering::Relaxed))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxRangeEnd(_id: u64) {
    value("mstxRangeEnd", (), || Ok(()));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxDomainCreateA(name: *const c_char) -> *mut c_void {
    value("mstxDomainCreateA", ptr::null_mut(), || {
        not_null(name, "name")?;
        Ok(DOMAINS.insert(()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxDomainDestroy(domain: *mut c_void) {
    value("mstxDomainDestroy", (), || DOMAINS.remove(domain).map(drop));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxDomainMarkA(
    domain: *mut c_void,
    message: *const c_char,
    _stream: aclrtStream,
) {
    value("mstxDomainMarkA", (), || {
        DOMAINS.get(domain)?;
        not_null(message, "message")
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxDomainRangeStartA(
    domain: *mut c_void,
    message: *const c_char,
    _stream: aclrtStream,
) -> u64 {
    value("mstxDomainRangeStartA", 0, || {
        DOMAINS.get(domain)?;
        not_null(message, "message")?;
        Ok(RANGES.fetch_add(1, Ordering::Relaxed))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mstxDomainRangeEnd(domain: *mut c_void, _id: u64) {
    value("mstxDomainRangeEnd", (), || DOMAINS.get(domain).map(drop));
}
