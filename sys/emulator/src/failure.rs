//! Failures: a code of the C interface together with the text that `aclGetRecentErrMsg` will hand out.
//!
//! Knows codes and texts; it must not know calls, tensors or streams.

use std::borrow::Cow;

/// Codes of the three families, as the documents number them.
pub mod code {
    #![allow(missing_docs)]
    pub const SUCCESS: i32 = 0;
    pub const INVALID_PARAM: i32 = 100000;
    pub const REPEAT_INITIALIZE: i32 = 100002;
    pub const INVALID_FILE: i32 = 100003;
    pub const PARSE_FILE: i32 = 100006;
    pub const ATTR_INVALID: i32 = 100008;
    pub const REPEAT_FINALIZE: i32 = 100037;
    pub const PROF_ALREADY_RUN: i32 = 100042;
    pub const PROF_NOT_RUN: i32 = 100043;
    pub const DUMP_ALREADY_RUN: i32 = 100044;
    pub const DUMP_NOT_RUN: i32 = 100045;
    pub const RT_PARAM_INVALID: i32 = 107000;
    pub const RT_INVALID_DEVICEID: i32 = 107001;
    pub const RT_CONTEXT_NULL: i32 = 107002;
    pub const RT_STREAM_CONTEXT: i32 = 107003;
    pub const RT_EVENT_TIMESTAMP_INVALID: i32 = 107006;
    pub const RT_EVENT_TIMESTAMP_REVERSAL: i32 = 107007;
    pub const RT_STREAM_SUBSCRIBE: i32 = 107011;
    pub const RT_THREAD_SUBSCRIBE: i32 = 107012;
    pub const RT_STREAM_NO_CB_REG: i32 = 107015;
    pub const RT_INVALID_HANDLE: i32 = 107017;
    pub const RT_WAIT_TIMEOUT: i32 = 107019;
    pub const RT_TASK_TIMEOUT: i32 = 107020;
    pub const RT_SYSPARAMOPT_NOT_SET: i32 = 107021;
    pub const RT_DEVICE_TASK_ABORT: i32 = 107022;
    pub const RT_STREAM_ABORT: i32 = 107023;
    pub const RT_CAPTURE_DEPENDENCY: i32 = 107024;
    pub const RT_STREAM_UNJOINED: i32 = 107025;
    pub const RT_STREAM_CAPTURED: i32 = 107027;
    pub const RT_EVENT_CAPTURED: i32 = 107028;
    pub const RT_STREAM_NOT_CAPTURED: i32 = 107029;
    pub const RT_CAPTURE_MODE_NOT_SUPPORT: i32 = 107030;
    pub const RT_STREAM_CAPTURE_IMPLICIT: i32 = 107031;
    pub const RT_STREAM_CAPTURE_CONFLICT: i32 = 107032;
    pub const RT_STREAM_TASK_GROUP_STATUS: i32 = 107033;
    pub const RT_TASK_ABORT_STOP: i32 = 107035;
    pub const RT_STREAM_CAPTURE_UNMATCHED: i32 = 107036;
    pub const RT_MODEL_RUNNING: i32 = 107037;
    pub const RT_CAPTURE_WRONG_THREAD: i32 = 107038;
    pub const RT_INSUFFICIENT_INPUT_ARRAY: i32 = 107039;
    pub const RT_MODEL_UPDATE_FAILED: i32 = 107040;
    pub const RT_CAPTURE_MODE_BLOCK_ASYNC: i32 = 107041;
    pub const ACLNN_PARAM_NULLPTR: i32 = 161001;
    pub const ACLNN_PARAM_INVALID: i32 = 161002;
    pub const API_NOT_SUPPORT: i32 = 200001;
    pub const RT_FEATURE_NOT_SUPPORT: i32 = 207000;
    pub const FEATURE_UNSUPPORTED: i32 = 200006;
    pub const RT_QUEUE_EMPTY: i32 = 207013;
    pub const RT_QUEUE_FULL: i32 = 207014;
    pub const RT_NO_PERMISSION: i32 = 207006;
    pub const RT_MEMORY_ALLOCATION: i32 = 207001;
    pub const RT_MEMORY_FREE: i32 = 207002;
    pub const RT_NO_EVENT_RESOURCE: i32 = 207007;
    pub const RT_NO_STREAM_RESOURCE: i32 = 207008;
    pub const INTERNAL_ERROR: i32 = 500000;
    pub const FAILURE: i32 = 500001;
    pub const RT_INTERNAL: i32 = 507000;
    pub const RT_REPORT_TIMEOUT: i32 = 507012;
    pub const RT_AICORE_EXCEPTION: i32 = 507015;
    pub const RT_STREAM_SYNC_TIMEOUT: i32 = 507046;
    pub const RT_EVENT_SYNC_TIMEOUT: i32 = 507047;
    pub const RT_SUSPECT_REMOTE: i32 = 507057;
    pub const RT_CAPTURE_INVALIDATED: i32 = 507903;
    pub const RT_HOST_MEMORY_REGISTERED: i32 = 507910;
    pub const RT_HOST_MEMORY_NOT_REGISTERED: i32 = 507911;
    pub const ACLNN_INNER: i32 = 561000;
    pub const ACLNN_INNER_FIND_KERNEL: i32 = 561003;
    pub const ACLNN_INNER_NULLPTR: i32 = 561103;
}

/// A code and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code that the C function returns.
    pub code: i32,
    /// What happened, got and wanted.
    pub text: Cow<'static, str>,
}

/// Phase 1 says no.
pub type Refusal = Failure;

/// A task fails on the device.
pub type Fault = Failure;

impl Failure {
    /// Any code with its text.
    pub fn new(code: i32, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            code,
            text: text.into(),
        }
    }

    /// Phase 1: 161001, a required pointer is null.
    pub fn null(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure::new(code::ACLNN_PARAM_NULLPTR, text)
    }

    /// Phase 1: 161002, a dtype, shape, format or attribute is refused.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure::new(code::ACLNN_PARAM_INVALID, text)
    }

    /// Phase 1: 561003, no kernel for this combination.
    pub fn unsupported(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure::new(code::ACLNN_INNER_FIND_KERNEL, text)
    }

    /// On the device: 507015, what an index out of range or a bad address gives.
    pub fn exception(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure::new(code::RT_AICORE_EXCEPTION, text)
    }

    /// The layer's prefix of the text, by code family.
    pub fn prefix(&self) -> &'static str {
        match self.code {
            1 | 2 | 5 => "EI0003",
            9 | 11 => "EI0006",
            3 => "EI0007",
            0..=999 => "EI9999",
            160000..=169999 => "EZ1001",
            560000..=569999 => "EZ9999",
            361001 => "EZ9903",
            107024..=107038 | 507903 => "EE1016",
            207005 | 207007..=207010 => "EE1023",
            207001 | 207012 | 207018 => "EE1021",
            507012 | 507046 | 507047 => "EE1002",
            100000..=199999 => "EE1001",
            _ => "EE9999",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.text, self.code)
    }
}

impl std::error::Error for Failure {}
