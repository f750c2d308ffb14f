//! What a program wants to be told of: devices that are set and reset, streams that come and go.
//!
//! Knows names and functions; it must not know devices or streams.

use crate::failure::{Failure, code};
use crate::guard::{call, violation};
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Functions by name, each with its argument.
struct Hooks<F>(Mutex<BTreeMap<String, (F, usize)>>);

static DEVICES: Hooks<unsafe extern "C" fn(i32, aclrtDeviceState, *mut c_void)> =
    Hooks(Mutex::new(BTreeMap::new()));
static STREAMS: Hooks<unsafe extern "C" fn(aclrtStream, aclrtStreamState, *mut c_void)> =
    Hooks(Mutex::new(BTreeMap::new()));

static ABORTS: Hooks<
    unsafe extern "C" fn(i32, aclrtDeviceTaskAbortStage, u32, *mut c_void) -> i32,
> = Hooks(Mutex::new(BTreeMap::new()));

impl<F: Copy> Hooks<F> {
    /// # Safety
    /// `name` must be null or a C string.
    unsafe fn set(
        &self,
        name: *const c_char,
        function: Option<F>,
        argument: *mut c_void,
    ) -> Result<(), Failure> {
        if name.is_null() {
            return Err(Failure::new(code::INVALID_PARAM, "regName is null"));
        }
        // SAFETY: not null, and a C string.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match function {
            _ if name.is_empty() => Err(Failure::new(code::RT_PARAM_INVALID, "regName is empty")),
            Some(_) if all.contains_key(&name) => Err(violation(
                code::RT_PARAM_INVALID,
                format!("{name:?} is registered already"),
            )),
            Some(function) => {
                all.insert(name, (function, argument.expose_provenance()));
                Ok(())
            }
            None => match all.remove(&name) {
                Some(_) => Ok(()),
                None => Err(Failure::new(
                    code::RT_PARAM_INVALID,
                    format!("{name:?} was not registered"),
                )),
            },
        }
    }

    /// Calls all; no lock is held, so that they may register others.
    fn tell(&self, one: impl Fn(F, *mut c_void)) {
        let all: Vec<_> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.values().copied().collect()
        };
        for (function, argument) in all {
            one(function, ptr::with_exposed_provenance_mut(argument));
        }
    }
}

pub(super) const SET_PRE: aclrtDeviceState = 0;
pub(super) const SET_POST: aclrtDeviceState = 1;
pub(super) const RESET_PRE: aclrtDeviceState = 2;
pub(super) const RESET_POST: aclrtDeviceState = 3;
pub(super) const CREATED: aclrtStreamState = 1;
pub(super) const DESTROYING: aclrtStreamState = 2;

pub(super) fn device(id: i32, state: aclrtDeviceState) {
    // SAFETY: the program registered the function for exactly this argument.
    DEVICES.tell(|function, argument| unsafe { function(id, state, argument) });
}

pub(super) fn stream(handle: usize, state: aclrtStreamState) {
    let handle = ptr::without_provenance_mut(handle);
    // SAFETY: as above.
    STREAMS.tell(|function, argument| unsafe { function(handle, state, argument) });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRegDeviceStateCallback(
    regName: *const c_char,
    callback: aclrtDeviceStateCallback,
    args: *mut c_void,
) -> aclError {
    // SAFETY: null or a C string.
    call("aclrtRegDeviceStateCallback", || unsafe {
        DEVICES.set(regName, callback, args)
    })
}

/// Tells of an abort of a device's tasks, before (0) and after it (1).
pub(super) fn abort(id: i32, stage: aclrtDeviceTaskAbortStage, timeout: u32) {
    ABORTS.tell(|function, argument| {
        // SAFETY: the program registered the function for exactly this argument.
        let _ = unsafe { function(id, stage, timeout, argument) };
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetDeviceTaskAbortCallback(
    regName: *const c_char,
    callback: aclrtDeviceTaskAbortCallback,
    args: *mut c_void,
) -> aclError {
    // SAFETY: null or a C string.
    call("aclrtSetDeviceTaskAbortCallback", || unsafe {
        ABORTS.set(regName, callback, args)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRegStreamStateCallback(
    regName: *const c_char,
    callback: aclrtStreamStateCallback,
    args: *mut c_void,
) -> aclError {
    // SAFETY: null or a C string.
    call("aclrtRegStreamStateCallback", || unsafe {
        STREAMS.set(regName, callback, args)
    })
}
