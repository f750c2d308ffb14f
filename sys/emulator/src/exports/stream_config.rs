//! Streams made from a configuration object, and attributes of streams.
//!
//! Knows options by number; it must not know queues.

use super::stream::{create, resolve, set_failure_mode};
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, value};
use crate::registry::{Kind, Registry};
use crate::state::context;
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

static CONFIGURATIONS: Registry<Options> = Registry::new(Kind::StreamOptions, code::INVALID_PARAM);

#[derive(Default)]
struct Options {
    flags: AtomicU32,
    priority: AtomicU32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStreamConfigHandle() -> *mut aclrtStreamConfigHandle {
    value("aclrtCreateStreamConfigHandle", ptr::null_mut(), || {
        Ok(CONFIGURATIONS.insert(Options::default()).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyStreamConfigHandle(
    handle: *mut aclrtStreamConfigHandle,
) -> aclError {
    call("aclrtDestroyStreamConfigHandle", || {
        CONFIGURATIONS.remove(handle).map(drop)
    })
}

/// Work memory of the caller's is accepted and not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetStreamConfigOpt(
    handle: *mut aclrtStreamConfigHandle,
    attr: aclrtStreamConfigAttr,
    attrValue: *const c_void,
    valueSize: usize,
) -> aclError {
    call("aclrtSetStreamConfigOpt", || {
        let options = CONFIGURATIONS.get(handle)?;
        not_null(attrValue, "attrValue")?;
        let (size, target) = match attr {
            ACL_RT_STREAM_WORK_ADDR_PTR | ACL_RT_STREAM_WORK_SIZE => (8, None),
            ACL_RT_STREAM_FLAG => (8, Some(&options.flags)),
            ACL_RT_STREAM_PRIORITY => (4, Some(&options.priority)),
            other => {
                return Err(Failure::new(
                    code::INVALID_PARAM,
                    format!("stream option is {other}, wanted 0 to 3"),
                ));
            }
        };
        if valueSize != size {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("option {attr} has {valueSize} bytes, wanted {size}"),
            ));
        }
        if let Some(target) = target {
            // SAFETY: not null, valid for `valueSize` bytes, of which the low four come first.
            let value = unsafe { attrValue.cast::<u32>().read_unaligned() };
            target.store(value, Ordering::Release);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStreamV2(
    stream: *mut aclrtStream,
    handle: *const aclrtStreamConfigHandle,
) -> aclError {
    call("aclrtCreateStreamV2", || {
        let options = CONFIGURATIONS.get(handle)?;
        let flags = options.flags.load(Ordering::Acquire);
        let priority = options.priority.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { create(stream, priority, flags) }
    })
}

/// The tag of a stream, and whether what it runs is cached for profiling: set and read back, nothing else.
static NOTES: Mutex<BTreeMap<usize, [u32; 2]>> = Mutex::new(BTreeMap::new());

fn unknown(attribute: aclrtStreamAttr) -> Failure {
    Failure::new(
        code::RT_PARAM_INVALID,
        format!("stream attribute is {attribute}, wanted 1 to 5"),
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetStreamAttribute(
    stream: aclrtStream,
    stmAttrType: aclrtStreamAttr,
    value: *mut aclrtStreamAttrValue,
) -> aclError {
    call("aclrtSetStreamAttribute", || {
        let found = resolve(&*context()?, stream)?;
        not_null(value, "value")?;
        // SAFETY: not null, valid for a read; each member is a plain integer from the same place.
        let number = unsafe { value.cast::<u32>().read_unaligned() };
        let note = |at: usize| {
            let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
            notes.entry(found.handle).or_default()[at] = number;
        };
        match stmAttrType {
            ACL_STREAM_ATTR_FAILURE_MODE => {
                return set_failure_mode(stream, u64::from(number));
            }
            ACL_STREAM_ATTR_FLOAT_OVERFLOW_CHECK => {
                let switch = u64::from(number);
                found.overflow_switch.store(switch, Ordering::Release);
            }
            ACL_STREAM_ATTR_USER_CUSTOM_TAG => note(0),
            ACL_STREAM_ATTR_CACHE_OP_INFO => note(1),
            ACL_STREAM_ATTR_PRIORITY => {}
            other => return Err(unknown(other)),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetStreamAttribute(
    stream: aclrtStream,
    stmAttrType: aclrtStreamAttr,
    value: *mut aclrtStreamAttrValue,
) -> aclError {
    call("aclrtGetStreamAttribute", || {
        let found = resolve(&*context()?, stream)?;
        let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
        let [tag, cached] = notes.get(&found.handle).copied().unwrap_or_default();
        let mut answer = aclrtStreamAttrValue { reserve: [0; 4] };
        match stmAttrType {
            ACL_STREAM_ATTR_FAILURE_MODE => {
                answer.failureMode = found.failure_mode.load(Ordering::Acquire);
            }
            ACL_STREAM_ATTR_FLOAT_OVERFLOW_CHECK => {
                answer.overflowSwitch = found.overflow_switch.load(Ordering::Acquire) as u32;
            }
            ACL_STREAM_ATTR_USER_CUSTOM_TAG => answer.userCustomTag = tag,
            ACL_STREAM_ATTR_CACHE_OP_INFO => answer.cacheOpInfoSwitch = cached,
            ACL_STREAM_ATTR_PRIORITY => answer.streamPriority = found.priority,
            other => return Err(unknown(other)),
        }
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", answer) }
    })
}
