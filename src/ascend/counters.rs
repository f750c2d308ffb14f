//! Counters of what a thread asked of CANN, for trace mode and tests.
//!
//! Knows two numbers per thread. Must not know what the calls did.

use std::cell::Cell;

/// How many C calls and kernel launches the current thread made since it began.
///
/// Take one before and one after, and look at [`Counters::since`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counters {
    /// Calls of C functions of CANN.
    pub calls: u64,
    /// Kernels started (second phases of `aclnn` operators).
    pub launches: u64,
}

impl Counters {
    /// What was added since an earlier reading on the same thread.
    #[must_use]
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            calls: self.calls.wrapping_sub(earlier.calls),
            launches: self.launches.wrapping_sub(earlier.launches),
        }
    }
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LAUNCHES: Cell<u64> = const { Cell::new(0) };
}

/// What the current thread has asked of CANN so far.
pub fn counters() -> Counters {
    Counters {
        calls: CALLS.get(),
        launches: LAUNCHES.get(),
    }
}

pub(super) fn count_call() {
    CALLS.set(CALLS.get().wrapping_add(1));
}

pub(super) fn count_launch() {
    LAUNCHES.set(LAUNCHES.get().wrapping_add(1));
}
