//! Counters of what a thread asked of CANN, for trace mode and tests.
//!
//! Knows three numbers per thread, and the names of kernels where somebody wants them. Must not know what the calls did.

use std::cell::{Cell, RefCell};

/// How many C calls and kernel launches the current thread made since it began.
///
/// Take one before and one after, and look at [`Counters::since`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counters {
    /// Calls of C functions of CANN.
    pub calls: u64,
    /// Kernels started (second phases of `aclnn` operators).
    pub launches: u64,
    /// Waits of the host for a device: reads back, synchronisations.
    pub syncs: u64,
}

impl Counters {
    /// What was added since an earlier reading on the same thread.
    #[must_use]
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            calls: self.calls.wrapping_sub(earlier.calls),
            launches: self.launches.wrapping_sub(earlier.launches),
            syncs: self.syncs.wrapping_sub(earlier.syncs),
        }
    }
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LAUNCHES: Cell<u64> = const { Cell::new(0) };
    static SYNCS: Cell<u64> = const { Cell::new(0) };
    static NAMED: Cell<bool> = const { Cell::new(false) };
    static NAMES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// What the current thread has asked of CANN so far.
pub fn counters() -> Counters {
    Counters {
        calls: CALLS.get(),
        launches: LAUNCHES.get(),
        syncs: SYNCS.get(),
    }
}

pub(super) fn count_call() {
    CALLS.set(CALLS.get().wrapping_add(1));
}

pub(super) fn count_sync() {
    SYNCS.set(SYNCS.get().wrapping_add(1));
}

pub(super) fn count_launch(kernel: &'static str) {
    LAUNCHES.set(LAUNCHES.get().wrapping_add(1));
    if NAMED.get() {
        NAMES.with_borrow_mut(|names| names.push(kernel));
    }
}

/// Runs a function with the names of the kernels kept that this thread starts.
pub(crate) fn with_kernel_names<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool, Vec<&'static str>);
    impl Drop for Restore {
        fn drop(&mut self) {
            NAMED.set(self.0);
            NAMES.replace(std::mem::take(&mut self.1));
        }
    }
    let _restore = Restore(NAMED.replace(true), NAMES.take());
    body()
}

/// How many names are kept.
pub(crate) fn kernels_so_far() -> usize {
    NAMES.with_borrow(Vec::len)
}

/// The names kept since there were `earlier` of them.
pub(crate) fn kernels_since(earlier: usize) -> Vec<&'static str> {
    NAMES.with_borrow(|names| names.get(earlier..).unwrap_or_default().to_vec())
}
