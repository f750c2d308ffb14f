//! Environment variables: all that this crate reads, once, in this place.
//!
//! Knows names and values. Must not know what they are for.
//!
//! | variable | value | meaning |
//! |---|---|---|
//! | `ASCEND_TENSOR_THREADS` | a number from 1 on | how many threads a CPU op may use; by default rayon's number |
//! | `ASCEND_TENSOR_SIMD` | `off`, `avx2`, `avx512` or `neon` | the vector instructions of CPU ops; by default the best |
//!
//! Where CANN's libraries are looked for is `ascend_sys`'s to say.

use crate::cpu::SimdLevel;
use crate::error::{Error, Result};

/// The number of threads of a CPU op.
pub(crate) const THREADS: &str = "ASCEND_TENSOR_THREADS";
/// The vector instructions of CPU ops.
pub(crate) const SIMD: &str = "ASCEND_TENSOR_SIMD";

/// The values of the variables that are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Environment {
    pub threads: Option<usize>,
    pub simd: Option<SimdLevel>,
}

impl Environment {
    /// Reads the variables.
    ///
    /// # Errors
    /// `Option`, on behalf of `op`, for a value that means nothing.
    pub fn read(op: &'static str) -> Result<Self> {
        Self::from_lookup(op, |name| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    fn from_lookup(
        op: &'static str,
        lookup: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self> {
        let number = |text: String| match text.trim().parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => {
                let why = format!("got {text:?}, wanted a whole number from 1 on");
                Err(Error::option(op, THREADS, why))
            }
        };
        let level = |text: String| {
            text.trim().parse().map_err(|_| {
                let why = format!("got {text:?}, wanted off, avx2, avx512 or neon");
                Error::option(op, SIMD, why)
            })
        };
        Ok(Environment {
            threads: lookup(THREADS).map(number).transpose()?,
            simd: lookup(SIMD).map(level).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(threads: &str, simd: &str) -> Result<Environment> {
        Environment::from_lookup("add", |name| {
            let text = if name == THREADS { threads } else { simd };
            (!text.is_empty()).then(|| text.to_string())
        })
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        assert!(read("", "").is_ok_and(|got| got.threads.is_none() && got.simd.is_none()));
        assert!(
            read("3", "avx2")
                .is_ok_and(|got| { got.threads == Some(3) && got.simd == Some(SimdLevel::Avx2) })
        );
        for (threads, simd) in [
            ("0", ""),
            ("-1", ""),
            ("two", ""),
            ("", "sse9"),
            ("", "AVX2"),
        ] {
            let error = read(threads, simd).map_err(|error| error.to_string());
            assert!(error.is_err_and(|text| text.starts_with("add: ASCEND_TENSOR_")));
        }
    }
}
