//! Faults: what a failed step means for the steps after it.
//!
//! Knows errors. Must not know how a step is repeated.

use crate::error::{Error, ErrorKind, Usable};

/// What can be done after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The device works on: the step can be repeated.
    Transient,
    /// Memory ran out: with the pool emptied the step may fit.
    OutOfMemory,
    /// The device's context is poisoned: it has to be reset, and all tensors on it are lost.
    DeviceLost,
    /// Repeating would fail in the same way: a wrong argument, a missing library, a file, broken hardware.
    Fatal,
}

/// Codes in the range of refused calls that tell of a wait or an abort instead.
const PASSING: [i32; 6] = [107_019, 107_020, 107_022, 107_023, 107_035, 107_037];

/// What can be done after an error.
///
/// ```
/// use ascend_tensor::Tensor;
/// use ascend_tensor::train::{Fault, classify};
/// let refused = Tensor::new([1.0f32, 2.0]).add(&Tensor::new([1.0f32, 2.0, 3.0])).unwrap_err();
/// assert_eq!(classify(&refused), Fault::Fatal);
/// ```
pub fn classify(error: &Error) -> Fault {
    if error.is_out_of_memory() {
        return Fault::OutOfMemory;
    }
    match error {
        Error::Deferred { cause, .. } => classify(cause),
        Error::Acl(failed) => match (failed.usable, failed.code) {
            // A device that does not answer may do so after a reset.
            (Usable::NotContext, _) | (Usable::NotHardware, 500_000..) => Fault::DeviceLost,
            (Usable::NotProcess | Usable::NotHardware, _) => Fault::Fatal,
            (_, code) if PASSING.contains(&code) => Fault::Transient,
            (_, 100_000..=199_999) => Fault::Fatal,
            _ => Fault::Transient,
        },
        other if other.kind() == ErrorKind::OutOfMemory => Fault::OutOfMemory,
        _ => Fault::Fatal,
    }
}
