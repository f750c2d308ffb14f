//! Vector instructions: the best set of this CPU, found at run time.
//!
//! Knows how to run a loop body compiled for that set. Must not know what the loop computes.

use pulp::Arch;

/// The instruction set that loops run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd(Arch);

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

    /// Runs `op` with the vectors of the set.
    #[inline]
    pub fn vectors<O: pulp::WithSimd>(self, op: O) -> O::Output {
        self.0.dispatch(op)
    }
}
