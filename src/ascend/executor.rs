//! The executor: what the first phase of an operator hands to the second.
//!
//! Knows that it serves once and must not leak between the phases. A cache of repeatable executors would live here; none exists
//! yet. Must not know arguments or streams.

use ascend_sys::{aclOpExecutor, f};

use super::context::Context;

/// An executor that no second phase has taken yet.
#[derive(Debug)]
pub(super) struct Executor<'a> {
    raw: *mut aclOpExecutor,
    context: &'a Context,
}

impl<'a> Executor<'a> {
    pub fn new(context: &'a Context, raw: *mut aclOpExecutor) -> Self {
        Executor { raw, context }
    }

    /// The pointer for the second phase, which consumes it even when it fails.
    pub fn consume(self) -> *mut aclOpExecutor {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Executor<'_> {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        // SAFETY: the executor came from a first phase, and no second phase had it.
        let done = self.context.call(
            "end of a launch",
            f::aclDestroyAclOpExecutor,
            |destroy| unsafe { destroy(self.raw) },
        );
        if let Err(error) = done {
            self.context.defer(error);
        }
    }
}
