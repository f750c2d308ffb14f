//! Room for a kernel's own numbers: vectors whose memory may be refused.
//!
//! Knows sizes and the reserve. Must not know what kernels keep in their vectors.
//!
//! A kernel that can return an error asks for [`room`] or a [`workspace`]. In pieces of work that threads share there is no way
//! to return one: [`filled`] notes there that memory was lacking, the kernel goes home as soon as [`lacks`] says so, `par` hands
//! the note on to the calling thread, and [`told`] makes an error of it before anybody sees the outputs.

use std::cell::Cell;

use super::cache::{RESERVE, has_reserve, trim_cpu_memory};
use crate::device::Device;
use crate::error::{Error, Result};

thread_local! {
    /// The bytes that a kernel of this thread did not get; 0 if there was no lack.
    static LACK: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread's kernel did not get memory that it asked for.
#[inline]
pub(crate) fn lacks() -> bool {
    LACK.get() > 0
}

/// Notes that so many bytes were refused; 0 for none.
#[inline]
pub(crate) fn note_lack(bytes: usize) {
    if bytes > 0 {
        LACK.set(bytes.max(LACK.get()));
    }
}

/// Takes the note of this thread.
#[inline]
pub(crate) fn take_lack() -> usize {
    let bytes = LACK.get();
    if bytes > 0 {
        LACK.set(0);
    }
    bytes
}

/// What a kernel returned, or that it lacked memory.
#[inline]
pub(crate) fn told<T>(op: &'static str, result: Result<T>) -> Result<T> {
    match take_lack() {
        0 => result,
        asked => Err(refusal(op, asked)),
    }
}

#[cold]
fn refusal(op: &'static str, asked: usize) -> Error {
    Error::OutOfMemory {
        op,
        device: Device::Cpu,
        asked,
        free: 0,
    }
}

/// Sees to it that a vector has room for so many values more, and the program its reserve.
fn grow<T>(values: &mut Vec<T>, count: usize) -> bool {
    let mut grown = || {
        let large = count.saturating_mul(size_of::<T>()) >= RESERVE / 64;
        values.try_reserve_exact(count).is_ok() && (!large || has_reserve())
    };
    if grown() {
        return true;
    }
    trim_cpu_memory();
    grown()
}

/// Room for so many values.
///
/// # Errors
/// `OutOfMemory` if there is no memory.
pub(crate) fn room<T>(op: &'static str, count: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    if grow(&mut values, count) {
        Ok(values)
    } else {
        Err(refusal(op, count.saturating_mul(size_of::<T>())))
    }
}

/// So many values, all the same.
///
/// # Errors
/// `OutOfMemory` if there is no memory.
pub(crate) fn workspace<T: Clone>(op: &'static str, value: T, count: usize) -> Result<Vec<T>> {
    let mut values = room(op, count)?;
    values.resize(count, value);
    Ok(values)
}

/// The values of an iterator that knows how many they are.
///
/// # Errors
/// `OutOfMemory` if there is no memory.
pub(crate) fn collected<T>(
    op: &'static str,
    values: impl ExactSizeIterator<Item = T>,
) -> Result<Vec<T>> {
    let mut all = room(op, values.len())?;
    all.extend(values);
    Ok(all)
}

/// So many values, all the same; none, and a note, if there is no memory: ask [`lacks`] before they are used.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Vec<T> {
    let mut values = noted(count);
    if values.capacity() >= count {
        values.resize(count, value);
    }
    values
}

/// Room for so many values; none, and a note, if there is no memory: ask [`lacks`] before it is used.
pub(crate) fn noted<T>(count: usize) -> Vec<T> {
    let mut values = Vec::new();
    if !grow(&mut values, count) {
        note_lack(count.saturating_mul(size_of::<T>()).max(1));
        return Vec::new();
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_or_a_note() {
        let huge = usize::MAX / 16;
        assert!(matches!(
            workspace("test", 1.5f64, huge),
            Err(Error::OutOfMemory { op: "test", asked, .. }) if asked == huge * 8
        ));
        assert_eq!(workspace("test", 2i64, 3).unwrap_or_default(), [2, 2, 2]);
        assert!(!lacks());
        assert!(filled(0u8, huge * 15).is_empty() && lacks());
        let error =
            told("kernel", Ok(())).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(error.contains("kernel") && !lacks(), "{error}");
        assert!(told("kernel", Ok(())).is_ok());
        assert_eq!(filled(7, 2), [7, 7]);
    }
}
