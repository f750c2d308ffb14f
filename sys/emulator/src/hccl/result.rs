//! HCCL's results, their texts, and what goes wrong between ranks.
//!
//! Knows codes of HCCL and of the runtime; it must not know sockets or streams.

use crate::failure::{Failure, code};
use crate::guard;
use std::borrow::Cow;
use std::ffi::CStr;

pub(crate) const PARA: i32 = 1;
pub(crate) const PTR: i32 = 2;
pub(crate) const MEMORY: i32 = 3;
pub(crate) const INTERNAL: i32 = 4;
pub(crate) const NOT_SUPPORT: i32 = 5;
pub(crate) const NOT_FOUND: i32 = 6;
pub(crate) const UNAVAIL: i32 = 7;
pub(crate) const TIMEOUT: i32 = 9;
pub(crate) const OPEN_FILE_FAILURE: i32 = 10;
pub(crate) const TCP_CONNECT: i32 = 11;
pub(crate) const RUNTIME: i32 = 15;
pub(crate) const REMOTE: i32 = 21;
pub(crate) const SUSPENDING: i32 = 22;

/// What `HcclGetErrorString` says.
pub(crate) fn text(result: u32) -> &'static CStr {
    match result {
        0 => c"no error",
        1 => c"parameter error",
        2 => c"empty pointer",
        3 => c"memory error",
        4 => c"internal error",
        5 => c"feature not supported",
        6 => c"resource not found",
        7 => c"resource unavailable",
        8 => c"system call error",
        9 => c"timeout",
        10 => c"open file failure",
        11 => c"tcp connect failure",
        12 => c"roce connect failure",
        13 => c"tcp transfer failure",
        14 => c"roce transfer failure",
        15 => c"runtime api failure",
        16 => c"driver api failure",
        17 => c"profiling api failure",
        18 => c"cce api failure",
        19 => c"network api failure",
        20 => c"operation should be tried again",
        21 => c"error of a remote rank",
        22 => c"communicator is suspending",
        23 => c"retry of an operation failed",
        24 => c"out of memory",
        _ => c"unknown error",
    }
}

/// A parameter is wrong.
pub(crate) fn wrong(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(PARA, text)
}

/// A dtype, operation or chip does not go together.
pub(crate) fn unsupported(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(NOT_SUPPORT, text)
}

/// A failure of the runtime inside of a call of HCCL, as HCCL reports it.
pub(crate) fn translate(failure: Failure) -> Failure {
    let result = match failure.code {
        0..=999 => return failure,
        code::RT_MEMORY_ALLOCATION => MEMORY,
        _ => RUNTIME,
    };
    Failure::new(result, format!("{} ({})", failure.text, failure.code))
}

/// Why a collective ended without its result: the code that its stream gets, and the asynchronous error of the communicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub code: i32,
    pub result: i32,
    pub text: String,
}

impl Trouble {
    /// A rank did not come in time.
    pub fn timeout(text: String) -> Trouble {
        Trouble {
            code: code::RT_TASK_TIMEOUT,
            result: TIMEOUT,
            text: format!("EI0002: {text}"),
        }
    }

    /// A rank is gone.
    pub fn remote(text: String) -> Trouble {
        Trouble {
            code: code::RT_SUSPECT_REMOTE,
            result: REMOTE,
            text,
        }
    }

    /// Ranks do not call the same thing: hardware would hang until its time-out, so the stream gets that code.
    pub fn mismatch(text: String) -> Trouble {
        let text = guard::violation(PARA, text).text;
        Trouble {
            code: code::RT_TASK_TIMEOUT,
            result: PARA,
            text: format!("EI0005: {text}"),
        }
    }

    /// The stream was aborted while its task waited.
    pub fn aborted() -> Trouble {
        Trouble {
            code: code::RT_STREAM_ABORT,
            result: 0,
            text: String::from("the stream was aborted"),
        }
    }

    pub fn into_failure(self) -> Failure {
        Failure::new(self.code, self.text)
    }
}
