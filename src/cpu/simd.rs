//! Vector instructions: the best set of this CPU, found at run time.
//!
//! Knows how to run a loop body compiled for that set. Must not know what the loop computes.

use pulp::Arch;

/// The instruction set that loops run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd(Arch);

/// How far the vector instructions of this CPU go, as far as kernels of our own are written for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// None that we know.
    Plain,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with F, VL, BW and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The level of this CPU.
#[cfg(target_arch = "x86_64")]
pub(crate) fn level() -> Level {
    macro_rules! has {
        ($($feature:tt)*) => { $(std::is_x86_feature_detected!($feature))&&* };
    }
    if has!("avx512f" "avx512vl" "avx512bw" "avx512dq" "avx2" "fma") {
        Level::Avx512
    } else if has!("avx2" "fma") {
        Level::Avx2
    } else {
        Level::Plain
    }
}

/// The level of this CPU.
#[cfg(target_arch = "aarch64")]
pub(crate) fn level() -> Level {
    Level::Neon
}

/// The level of this CPU.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn level() -> Level {
    Level::Plain
}

struct Body<F>(F);

impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Body<F> {
    type Output = R;

    #[inline(always)]
    fn call(self) -> R {
        (self.0)()
    }
}

impl Simd {
    /// The best set of this CPU.
    #[inline]
    pub fn best() -> Self {
        Simd(Arch::new())
    }

    /// Runs `body` compiled for the set: the compiler vectorises the loops that are inlined into it.
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        self.0.dispatch(Body(body))
    }
}
