//! Modes: scoped, thread-local settings that change how ops run.
//!
//! Knows the mode bits of the calling thread and how to scope them. Must not know what the modes do to an op (that is `dispatch`).

use std::cell::Cell;

use crate::dtype::DType;

/// A set of modes, as bits; zero is the usual state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Modes(u16);

impl Modes {
    /// The tape does not record.
    pub const NO_GRAD: Modes = Modes(1);
    /// Indices and divisors are checked before a launch on the NPU.
    pub const CHECK_DATA: Modes = Modes(2);
    /// Ops on the NPU also run on the host and are compared.
    pub const SHADOW: Modes = Modes(4);
    /// Ops without an NPU kernel run on the host.
    pub const FALLBACK: Modes = Modes(8);
    /// Ops run in a lower precision where that is safe.
    pub const AUTOCAST: Modes = Modes(16);
    /// What each op did is kept.
    pub const TRACE: Modes = Modes(32);
    /// Gradients are checked op by op.
    pub const ANOMALY: Modes = Modes(64);
    /// An observer sees each op.
    pub const OBSERVE: Modes = Modes(128);
    /// Nothing is computed: ops make tensors that have a shape but no memory.
    pub const DRY: Modes = Modes(256);
    /// What runs is part of another op: its composition.
    pub const INNER: Modes = Modes(512);

    pub const fn has(self, mode: Modes) -> bool {
        self.0 & mode.0 != 0
    }

    /// The same, whether or not it is inside another op.
    pub const fn outer(self) -> Self {
        self.with(Modes::INNER, false)
    }

    const fn with(self, mode: Modes, on: bool) -> Self {
        Modes(if on {
            self.0 | mode.0
        } else {
            self.0 & !mode.0
        })
    }
}

thread_local! {
    static MODES: Cell<Modes> = const { Cell::new(Modes(0)) };
    static AUTOCAST: Cell<DType> = const { Cell::new(DType::BF16) };
}

/// The modes of the calling thread.
#[inline]
pub(crate) fn current() -> Modes {
    MODES.with(Cell::get)
}

/// The dtype of the innermost autocast.
pub(crate) fn autocast_dtype() -> DType {
    AUTOCAST.with(Cell::get)
}

/// Restores the modes when dropped, on unwinding too.
struct Restore(Modes, DType);

impl Drop for Restore {
    fn drop(&mut self) {
        MODES.with(|modes| modes.set(self.0));
        AUTOCAST.with(|dtype| dtype.set(self.1));
    }
}

pub(crate) fn scoped<R>(mode: Modes, on: bool, body: impl FnOnce() -> R) -> R {
    let _restore = Restore(current(), autocast_dtype());
    MODES.with(|modes| modes.set(modes.get().with(mode, on)));
    body()
}

/// Runs with the modes that an inner computation (a composition, a gradient) needs: no autocast, no shadow.
pub(crate) fn inner<R>(grad: bool, body: impl FnOnce() -> R) -> R {
    let body = || scoped(Modes::NO_GRAD, !grad, body);
    let body = || scoped(Modes::SHADOW, false, body);
    scoped(Modes::AUTOCAST, false, || scoped(Modes::INNER, true, body))
}

/// Runs with the modes that a backward pass needs: as [`inner`], but an NPU's results are compared as in the forward pass.
pub(crate) fn backward<R>(grad: bool, body: impl FnOnce() -> R) -> R {
    without_autocast(|| scoped(Modes::NO_GRAD, !grad, body))
}

/// Runs `body` in the tensors' own precision, also inside an [`autocast`].
pub(crate) fn without_autocast<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::AUTOCAST, false, body)
}

/// Runs `body` without recording gradients.
///
/// ```
/// use ascend_tensor::{Tensor, no_grad};
/// # fn main() -> ascend_tensor::Result<()> {
/// let w = Tensor::new([1.0f32, 2.0]).requires_grad()?;
/// let y = no_grad(|| w.mul(2.0))?;
/// assert!(!y.is_tracked());
/// # Ok(())
/// # }
/// ```
pub fn no_grad<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::NO_GRAD, true, body)
}

/// Runs `body` recording gradients, also inside a [`no_grad`].
pub fn enable_grad<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::NO_GRAD, false, body)
}

/// Runs `body` with what only data can tell (indices, labels, integer divisors) checked on the host before each launch on
/// an NPU. The CPU always checks. Costs a copy of the index tensor to the host, and so a wait, per checked op.
pub fn check_data<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::CHECK_DATA, true, body)
}

/// Runs `body` with ops that have no NPU kernel computed on the host instead of failing. Each such op is counted in
/// [`fallbacks`].
pub fn host_fallback<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::FALLBACK, true, body)
}

/// Runs `body` with matrix products and convolutions in `dtype` (`F16` or `BF16`) and sums, exponentials and losses in f32.
pub fn autocast<R>(dtype: DType, body: impl FnOnce() -> R) -> R {
    let _restore = Restore(current(), autocast_dtype());
    AUTOCAST.with(|own| own.set(dtype));
    scoped(Modes::AUTOCAST, true, body)
}

/// Runs `body` with the backward passes in it checked: a gradient that is not finite is an error that names the op of the
/// forward pass. Each op's gradients are read back, so this is for finding a fault, not for training. PyTorch:
/// `torch.autograd.set_detect_anomaly`.
pub fn anomaly<R>(body: impl FnOnce() -> R) -> R {
    scoped(Modes::ANOMALY, true, body)
}

thread_local! {
    static FALLBACKS: Cell<u64> = const { Cell::new(0) };
}

/// How many ops of NPU tensors ran on the host on this thread, under [`host_fallback`].
pub fn fallbacks() -> u64 {
    FALLBACKS.with(Cell::get)
}

pub(crate) fn count_fallback() {
    FALLBACKS.with(|count| count.set(count.get().wrapping_add(1)));
}
