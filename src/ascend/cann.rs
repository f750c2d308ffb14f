//! The loaded CANN: how one C function is called and its status turned into an error.
//!
//! Knows function pointers and status codes. Must not know devices, streams, memory or operators.

use std::ffi::CStr;

use ascend_sys::{Api, Function, f};

use super::counters::count_call;
use super::error_codes;
use crate::error::{Error, Result};

/// The functions of one loaded CANN.
#[derive(Debug)]
pub(super) struct Cann {
    api: Api,
}

/// The name of a C function.
pub(super) fn name_of<F: Function>(_: F) -> &'static str {
    const {
        match F::NAME.to_str() {
            Ok(name) => name,
            Err(_) => "a function of CANN",
        }
    }
}

/// The text that a C function returned, or an empty one.
///
/// # Safety
/// `text` is null or points to a string that ends in zero and lives until the next call of CANN on this thread.
unsafe fn copied(text: *const core::ffi::c_char) -> Box<str> {
    if text.is_null() {
        return Box::default();
    }
    // SAFETY: the caller vouches for the pointer; it is not null.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().trim().into()
}

impl Cann {
    pub fn new(api: Api) -> Self {
        Cann { api }
    }

    /// The pointer of a function, or the error that this CANN lacks it.
    #[inline]
    pub fn function<F: Function>(&self, op: &'static str, function: F) -> Result<F::Pointer> {
        self.api
            .function(function)
            .map_err(|missing| Error::Symbol {
                op,
                symbol: missing.symbol,
                library: missing.library,
            })
    }

    pub fn has<F: Function>(&self, function: F) -> bool {
        self.api.has(function)
    }

    /// Calls a function that answers with a status.
    #[inline]
    pub fn call<F: Function>(
        &self,
        op: &'static str,
        function: F,
        body: impl FnOnce(F::Pointer) -> i32,
    ) -> Result<()> {
        let pointer = self.function(op, function)?;
        count_call();
        match body(pointer) {
            0 => Ok(()),
            code => Err(self.failure(op, name_of(function), code)),
        }
    }

    /// The error of a failed call, with the text that CANN has for it on this thread.
    #[cold]
    pub fn failure(&self, op: &'static str, call: &'static str, code: i32) -> Error {
        let detail = match self.api.function(f::aclGetRecentErrMsg) {
            // SAFETY: the function takes nothing; its text lives until the next call on this thread, and is copied at once.
            Ok(recent) => unsafe { copied(recent()) },
            Err(_) => Box::default(),
        };
        Error::Acl(Box::new(error_codes::describe(op, call, code, detail)))
    }

    /// The name of the chip, of device 0 when there are several.
    pub fn soc_name(&self, op: &'static str) -> Result<Box<str>> {
        let name = self.function(op, f::aclrtGetSocName)?;
        count_call();
        // SAFETY: the function takes nothing and answers null or a string that lives as long as the library.
        Ok(unsafe { copied(name()) })
    }
}
