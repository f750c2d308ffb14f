//! Overflow: what an NPU makes of numbers that are too large, and what it tells of them.
//!
//! Knows CANN's two modes and the chip's overflow status. Must not know steps or loss scales.

use std::sync::atomic::{AtomicU8, Ordering};

use ascend_sys::{ACL_RT_OVERFLOW_MODE_INFNAN, ACL_RT_OVERFLOW_MODE_SATURATION, f};

use super::context::Context;
use super::memory::Buffer;
use super::runtime::{current_stream, process};
use crate::error::{Error, Result};

/// What an NPU makes of a number that is too large for its dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OverflowMode {
    /// Infinity, and NaN from it, as IEEE 754 has it: CANN's INF_NAN mode, and the CPU.
    #[default]
    Infinite,
    /// The largest finite number, and 0 for NaN: CANN's saturation mode, the only one of the first Ascend 910, 310P and 310B.
    Saturate,
}

const UNSET: u8 = 0;
const INFINITE: u8 = 1;
const SATURATE: u8 = 2;

static SETTING: AtomicU8 = AtomicU8::new(UNSET);

/// The bytes of the chip's overflow status.
const STATUS: usize = 64;

/// Sets what NPUs make of numbers that are too large, from the time they are opened on. Ascend 910B and 910_93 know both modes,
/// and have `Infinite` unless it is set.
///
/// # Errors
/// `Option` if an NPU is open already: CANN's mode holds for streams that are made afterwards. A chip without the mode fails when
/// it is opened.
pub fn set_overflow_mode(mode: OverflowMode) -> Result<()> {
    if !process().devices.is_empty() {
        let why = "got it after the first use of a device, wanted it before or after a reset";
        return Err(Error::option(OP, "mode", why));
    }
    let setting = match mode {
        OverflowMode::Infinite => INFINITE,
        OverflowMode::Saturate => SATURATE,
    };
    SETTING.store(setting, Ordering::Release);
    Ok(())
}

const OP: &str = "overflow_mode";

/// What an NPU makes of numbers that are too large. Opens it.
///
/// # Errors
/// Failures of opening the device or of the question.
pub fn overflow_mode(number: u32) -> Result<OverflowMode> {
    let stream = current_stream(OP, number)?;
    let mut mode = ACL_RT_OVERFLOW_MODE_INFNAN;
    // SAFETY: the number is writable for the call.
    let asked = stream
        .context()
        .call(OP, f::aclrtGetDeviceSatMode, |get| unsafe {
            get(&mut mode)
        });
    match asked {
        Ok(()) if mode == ACL_RT_OVERFLOW_MODE_SATURATION => Ok(OverflowMode::Saturate),
        // Where CANN knows no modes, numbers are as IEEE 754 has them.
        Ok(()) | Err(Error::Symbol { .. }) => Ok(OverflowMode::Infinite),
        Err(error) => Err(error),
    }
}

/// Gives the setting to a context that was just opened and is bound, before it has streams of ours.
pub(super) fn carry_over(context: &Context) -> Result<()> {
    let mode = match SETTING.load(Ordering::Acquire) {
        UNSET => return Ok(()),
        SATURATE => ACL_RT_OVERFLOW_MODE_SATURATION,
        _ => ACL_RT_OVERFLOW_MODE_INFNAN,
    };
    // SAFETY: the call takes a number only.
    context.call(OP, f::aclrtSetDeviceSatMode, |set| unsafe { set(mode) })
}

/// Lets the chip forget overflows, in the order of the thread's stream.
pub(crate) fn forget_overflow(number: u32) -> Result<()> {
    let stream = current_stream(OP, number)?;
    let context = stream.context();
    // SAFETY: the stream is alive and its context bound.
    context.call(OP, f::aclrtResetOverflowStatus, |reset| unsafe {
        reset(stream.raw())
    })
}

/// The chip's words on overflows since they were last forgotten, after the work queued so far: one is not zero after an overflow.
pub(crate) fn overflow_words(number: u32) -> Result<Buffer> {
    let words = Buffer::allocate(OP, number, STATUS)?;
    words.take_overflow_status(OP)?;
    Ok(words)
}
