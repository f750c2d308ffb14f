//! Checks of settings that constructors share: sizes, probabilities, numbers that are not negative.
//!
//! Knows limits and how a refusal reads. Must not know what a setting means.

use crate::error::{Error, Result};

/// The largest size of a module's dim: products of two of them stay in range, and CANN counts in 32 bits.
const LARGEST: usize = i32::MAX as usize;

/// More layers than any model has; each costs time to make, so that a slip of a digit would never end.
const LAYERS: usize = 1 << 16;

fn refuse(op: &'static str, name: &'static str, got: impl ToString, wanted: &str) -> Result<()> {
    let why = format!("got {}, wanted {wanted}", got.to_string());
    Err(Error::option(op, name, why))
}

/// Refuses a size of 0, and one beyond 32 bits.
pub(crate) fn sizes(op: &'static str, sizes: &[(&'static str, usize)]) -> Result<()> {
    for (name, size) in sizes {
        if !(1..=LARGEST).contains(size) {
            return refuse(op, name, size, &format!("one of 1 to {LARGEST}"));
        }
    }
    Ok(())
}

/// Refuses more layers than can be meant.
pub(crate) fn layers(op: &'static str, name: &'static str, count: usize) -> Result<()> {
    if count > LAYERS {
        return refuse(op, name, count, &format!("at most {LAYERS}"));
    }
    Ok(())
}

/// Refuses a negative number, or NaN.
pub(crate) fn not_negative(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    if value >= 0.0 {
        Ok(())
    } else {
        refuse(op, name, value, "one that is not negative")
    }
}

/// Refuses what is not above 0 and finite.
pub(crate) fn positive(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        refuse(op, name, value, "a finite number above 0")
    }
}

/// Refuses what is no finite number.
pub(crate) fn finite(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() {
        Ok(())
    } else {
        refuse(op, name, value, "a finite number")
    }
}

/// Refuses what is no probability.
pub(crate) fn probability(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        refuse(op, name, value, "one of 0 to 1")
    }
}
