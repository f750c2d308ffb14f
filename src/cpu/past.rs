//! Past the caches: loops over large outputs that write lines of the cache to memory as soon as they are computed, from registers.
//!
//! Knows runs of elements in a row and threads. Must not know what the function computes. Through a buffer, memory would wait while
//! a run is computed, and the CPU while it is written.

use super::lane::Lane;
use super::map::Formula;
use super::real::Real;
use super::view::{Host, HostMut};

/// `y[i] = f(x[i])`, if that takes longer than memory, both lie in a row, `y` is large enough to be written past the caches, and the
/// CPU has AVX2 or AVX-512; else says no.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn formula<T: Lane + Real, F: Formula>(
    _: &Host<'_>,
    _: &mut HostMut<'_>,
    _: &F,
) -> bool {
    let _ = F::LONG;
    false
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::formula;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::map::STREAMED;
    use crate::cpu::par;
    use crate::cpu::simd::{self, Set, Simd, Streaming};
    use crate::dtype::DType;

    /// Elements of four bytes that a line of the cache has.
    const LINE: usize = 16;

    /// Where an output begins, made shareable between threads.
    struct Start<T>(*mut T);

    // SAFETY: threads write disjoint elements of the output.
    unsafe impl<T> Sync for Start<T> {}

    /// `y[i] = f(x[i])`, if that takes longer than memory, both lie in a row, `y` is large enough to be written past the caches, and
    /// the CPU has AVX2 or AVX-512; else says no.
    pub(crate) fn formula<T: Lane + Real, F: Formula>(
        x: &Host<'_>,
        y: &mut HostMut<'_>,
        f: &F,
    ) -> bool {
        if F::LONG
            && T::DTYPE == DType::F32
            && y.elements() * size_of::<T>() >= STREAMED
            && x.start() != y.start().cast_const()
            && let (Some(from), Some(to)) = (x.as_slice::<T>(), y.as_mut_slice::<T>())
            && to.as_ptr().addr().is_multiple_of(LINE * size_of::<T>())
            && from.len() == to.len()
        {
            match Simd::best().set() {
                Set::Avx512(set) => lines(set, from, to, f),
                Set::Avx2(set) => lines(set, from, to, f),
                Set::Plain => return false,
            }
            return true;
        }
        false
    }

    /// The same for slices of one length; the output begins with a line.
    pub(super) fn lines<T: Lane + Real>(
        set: impl Streaming,
        from: &[T],
        to: &mut [T],
        f: &impl Formula,
    ) {
        let target = Start(to.as_mut_ptr());
        par::ranges(from.len().div_ceil(LINE), par::GRAIN / LINE, |range| {
            let (target, first) = (&target, range.start * LINE);
            let from = &from[first..from.len().min(range.end * LINE)];
            // SAFETY: these elements are this range's alone; there are as many as of `from`.
            let to = unsafe { std::slice::from_raw_parts_mut(target.0.add(first), from.len()) };
            set.run(|| {
                let ((from, rest), (to, tail)) =
                    (from.as_chunks::<LINE>(), to.as_chunks_mut::<LINE>());
                for (to, from) in to.iter_mut().zip(from) {
                    let mut line = [T::ZERO; LINE];
                    for (y, x) in line.iter_mut().zip(from) {
                        *y = f.at(*x);
                    }
                    // SAFETY: the elements are a line, and the set is there.
                    unsafe { set.stream_line(line.as_ptr().cast(), to.as_mut_ptr().cast()) };
                }
                for (to, x) in tail.iter_mut().zip(rest) {
                    *to = f.at(*x);
                }
            });
            simd::fence();
        });
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::simd::{Set, Simd, Streaming};

    struct Exponential;

    impl Formula for Exponential {
        const LONG: bool = true;

        #[inline(always)]
        fn at<T: Real>(&self, x: T) -> T {
            x.exp()
        }
    }

    #[test]
    fn lines_and_what_is_left_of_them_are_computed() {
        match Simd::best().set() {
            Set::Avx512(set) => {
                check(set);
                Simd::best().avx2().into_iter().for_each(check);
            }
            Set::Avx2(set) => check(set),
            Set::Plain => {}
        }
    }

    fn check(set: impl Streaming) {
        for length in [0, 1, 15, 16, 17, 1007, 100_003] {
            let x: Vec<f32> = (0..length)
                .map(|index| (index % 1999) as f32 * 0.01 - 10.0)
                .collect();
            let mut y = vec![f32::NAN; length + 32];
            let first = y.as_ptr().align_offset(64);
            x86::lines(set, &x, &mut y[first..first + length], &Exponential);
            for (index, y) in y.iter().enumerate() {
                let place = index.checked_sub(first).and_then(|place| x.get(place));
                match place {
                    Some(x) => assert_eq!(*y, crate::cpu::function::exp(*x), "{x}"),
                    None => assert!(y.is_nan(), "{index} of {length}"),
                }
            }
        }
    }
}
