//! Settings of the CPU backend: threads, vector instructions, memory; from the program, else from the environment.
//!
//! Knows which settings there are and when the environment is asked. Must not know what kernels do with them.

use std::sync::atomic::{AtomicU8, Ordering};

use super::simd::{Simd, SimdLevel};
use super::{alloc, par};
use crate::environment::{Environment, SIMD};
use crate::error::{Error, Result};

/// Settings of the CPU backend for the whole process. What is not set stays as it is.
///
/// ```
/// use ascend_tensor::{CpuOptions, SimdLevel, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// CpuOptions::new().threads(1).simd(SimdLevel::Off).apply()?;
/// assert_eq!(Tensor::new([1.0f32, 2.0]).exp()?.dims(), [2]);
/// assert!(CpuOptions::new().threads(0).apply().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct CpuOptions {
    threads: Option<usize>,
    simd: Option<SimdLevel>,
    cache_limit: Option<usize>,
}

impl CpuOptions {
    /// Changes nothing.
    pub fn new() -> Self {
        CpuOptions::default()
    }

    /// How many threads an op may use, the calling one among them; by default rayon's number. With 1 no thread is started.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The vector instructions; by default the best that the CPU has.
    pub fn simd(mut self, level: SimdLevel) -> Self {
        self.simd = Some(level);
        self
    }

    /// How many bytes of freed tensors are kept for new ones; by default an eighth of the computer's memory.
    pub fn cache_limit(mut self, bytes: usize) -> Self {
        self.cache_limit = Some(bytes);
        self
    }

    /// Makes the settings the process's. They go before the environment's.
    ///
    /// # Errors
    /// `Option` for zero threads and for vector instructions that this CPU lacks.
    pub fn apply(self) -> Result<()> {
        const OP: &str = "cpu options";
        if self.threads == Some(0) {
            return Err(Error::option(OP, "threads", "got 0, wanted at least 1"));
        }
        if let Some(level) = self.simd {
            choose(OP, "simd", level)?;
        }
        if let Some(threads) = self.threads {
            par::set_threads(threads);
        }
        if let Some(bytes) = self.cache_limit {
            alloc::set_limit(bytes);
        }
        let set = u8::from(self.threads.is_some()) | u8::from(self.simd.is_some()) << 1;
        SET.fetch_or(set, Ordering::Relaxed);
        Ok(())
    }
}

fn choose(op: &'static str, name: &'static str, level: SimdLevel) -> Result<()> {
    match Simd::choose(level) {
        Some(_) => Ok(()),
        None => {
            let best = SimdLevel::detect();
            let why = format!("got {level}, which this CPU lacks; its best is {best}");
            Err(Error::option(op, name, why))
        }
    }
}

/// Bits: threads set by the program, vector instructions set by the program, environment read.
static SET: AtomicU8 = AtomicU8::new(0);
const READ: u8 = 4;

/// Sees to it that the environment's settings hold, before a host kernel runs.
///
/// # Errors
/// `Option`, on behalf of `op`, for a value of a variable that means nothing or asks for what this CPU lacks.
#[inline]
pub(crate) fn ready(op: &'static str) -> Result<()> {
    if SET.load(Ordering::Relaxed) & READ != 0 {
        return Ok(());
    }
    read(op)
}

#[cold]
fn read(op: &'static str) -> Result<()> {
    let environment = Environment::read(op)?;
    let set = SET.load(Ordering::Relaxed);
    if let Some(level) = environment.simd.filter(|_| set & 2 == 0) {
        choose(op, SIMD, level)?;
    }
    if let Some(threads) = environment.threads.filter(|_| set & 1 == 0) {
        par::set_threads(threads);
    }
    SET.fetch_or(READ, Ordering::Relaxed);
    Ok(())
}
