//! Vector instructions: the sets that loops are compiled for, and the choice of one at run time.
//!
//! Knows how to run a loop compiled for a set, and what this CPU has. Must not know what the loop computes.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// A set of vector instructions that the CPU backend computes with.
///
/// Elementwise functions give the same bits with every set; sums of many elements may differ in their last bits, for they
/// are added up in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SimdLevel {
    /// What every CPU of the architecture has.
    Off,
    /// ARM's 128-bit vectors, which every 64-bit ARM CPU has.
    Neon,
    /// 256-bit vectors and fused multiplication and addition of x86-64.
    Avx2,
    /// 512-bit vectors of x86-64 (F, BW, CD, DQ and VL).
    Avx512,
}

impl SimdLevel {
    const ALL: [SimdLevel; 4] = [
        SimdLevel::Off,
        SimdLevel::Neon,
        SimdLevel::Avx2,
        SimdLevel::Avx512,
    ];

    fn name(self) -> &'static str {
        match self {
            SimdLevel::Off => "off",
            SimdLevel::Neon => "neon",
            SimdLevel::Avx2 => "avx2",
            SimdLevel::Avx512 => "avx512",
        }
    }

    /// Whether this CPU has the set.
    pub fn is_available(self) -> bool {
        match self {
            SimdLevel::Off => true,
            SimdLevel::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => has_avx2() && has_avx512(),
            #[cfg(not(target_arch = "x86_64"))]
            SimdLevel::Avx2 | SimdLevel::Avx512 => false,
        }
    }

    /// The best set that this CPU has.
    pub fn detect() -> Self {
        let mut levels = SimdLevel::ALL.into_iter().rev();
        levels
            .find(|level| level.is_available())
            .unwrap_or(SimdLevel::Off)
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SimdLevel {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        SimdLevel::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| {
                let why = format!("got {name:?}, wanted off, neon, avx2 or avx512");
                Error::option("simd level", "name", why)
            })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2")
        && has!("fma")
        && has!("f16c")
        && has!("bmi1")
        && has!("bmi2")
        && has!("lzcnt")
        && has!("popcnt")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl")
}

/// The set in use as a number, or 0 before the first question.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// The instruction set that loops run with. There is none of a set that this CPU lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Simd(SimdLevel);

/// Proof that this CPU has a set; the loops of `vectorised!` go through it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Plain,
}

/// AVX-512 is there.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// AVX2 is there, and maybe more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// Runs a body compiled for the set, if it is inlined: it must have no other caller, and `compiled` must be a function of
    /// the unit that the body is in, which `#[inline]` makes it.
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(
            enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"
        )]
        fn compiled<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        // SAFETY: the token says that the CPU has these.
        unsafe { compiled(body) }
    }
}

impl Avx2 {
    /// Runs a body compiled for the set, if it is inlined: it must have no other caller, and `compiled` must be a function of
    /// the unit that the body is in, which `#[inline]` makes it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        fn compiled<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        // SAFETY: the token says that the CPU has these.
        unsafe { compiled(body) }
    }

    /// There is no such token here.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        body()
    }
}

impl Simd {
    /// The set in use: the best of this CPU, or the one that the process chose.
    #[inline]
    pub fn best() -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            0 => Simd::choose(SimdLevel::detect()).unwrap_or(Simd(SimdLevel::Off)),
            1 => Simd(SimdLevel::Off),
            2 => Simd(SimdLevel::Neon),
            3 => Simd(SimdLevel::Avx2),
            _ => Simd(SimdLevel::Avx512),
        }
    }

    /// Makes a set the one in use from here on; none if this CPU lacks it.
    #[cold]
    pub fn choose(level: SimdLevel) -> Option<Self> {
        level.is_available().then(|| {
            CHOSEN.store(level as u8 + 1, Ordering::Relaxed);
            Simd(level)
        })
    }

    /// Which set it is.
    #[inline]
    #[allow(dead_code, reason = "for kernels that are written for one set")]
    pub fn level(self) -> SimdLevel {
        self.0
    }

    /// Runs `op` with the vectors of the set.
    #[inline]
    #[allow(dead_code, reason = "for kernels written with explicit vectors")]
    pub fn vectors<O: pulp::WithSimd>(self, op: O) -> O::Output {
        #[cfg(target_arch = "x86_64")]
        {
            if self.0 == SimdLevel::Avx512
                && let Some(set) = pulp::x86::V4::try_new()
            {
                return pulp::Simd::vectorize(set, op);
            }
            if self.0 >= SimdLevel::Avx2
                && let Some(set) = pulp::x86::V3::try_new()
            {
                return pulp::Simd::vectorize(set, op);
            }
            pulp::Simd::vectorize(pulp::Scalar::new(), op)
        }
        #[cfg(not(target_arch = "x86_64"))]
        pulp::Arch::new().dispatch(op)
    }

    /// The proof of AVX2, for loops that longer vectors would not make faster.
    #[inline(always)]
    pub fn avx2(self) -> Option<Avx2> {
        (self.0 >= SimdLevel::Avx2).then_some(Avx2(()))
    }

    /// The set with its proof.
    #[inline(always)]
    pub fn set(self) -> Set {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => Set::Avx512(Avx512(())),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => Set::Avx2(Avx2(())),
            _ => Set::Plain,
        }
    }
}

pub(crate) use SimdLevel as Level;

/// Which set is in use, for kernels that are written for one.
pub(crate) fn level() -> SimdLevel {
    Simd::best().level()
}

/// Asks for bytes that will be read out of order soon: in order they come several times as fast. The address need not be valid.
/// They come into the second-level cache, for lines at a wide stride fall on few sets of the first.
#[inline(always)]
pub(crate) fn prefetch(from: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 CPU has SSE, and a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line).cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    for line in (0..count).step_by(64) {
        let line = from.wrapping_add(line);
        // SAFETY: a prefetch of any address does no harm, and writes nothing.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (from, count);
}

/// Asks for bytes that will be written soon, into the first-level cache. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch_to_write(to: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count).step_by(64) {
        let line = to.wrapping_add(line);
        // SAFETY: a prefetch of any address does no harm, and writes nothing; for processors without it, it is an empty
        // instruction.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
        }
    }
    #[cfg(target_arch = "aarch64")]
    for line in (0..count).step_by(64) {
        let line = to.wrapping_add(line);
        // SAFETY: a prefetch of any address does no harm, and writes nothing.
        unsafe {
            std::arch::asm!("prfm pstl1keep, [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (to, count);
}

/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Copies bytes past the caches, for memory that is not read again soon. A `fence` has to follow before another thread reads.
///
/// # Safety
/// `count` bytes must be readable from `from` and writable from `to` on, in two places that do not overlap.
pub(crate) unsafe fn stream(from: *const u8, to: *mut u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let head = to.align_offset(LINE).min(count);
        let lines = (count - head) / LINE;
        // SAFETY: all three parts lie within the bytes that the caller promised; the second starts at a multiple of a line. The
        // level says which registers there are.
        unsafe {
            // Calls for no bytes would cost as much as a line.
            if head > 0 {
                std::ptr::copy_nonoverlapping(from, to, head);
            }
            let (begin, start) = (from.add(head), to.add(head));
            match Simd::best().set() {
                Set::Avx512(set) => stream_lines(set, begin, start, lines),
                Set::Avx2(set) => stream_lines(set, begin, start, lines),
                Set::Plain => {
                    for part in (0..lines * LINE).step_by(size_of::<__m128i>()) {
                        let value = _mm_loadu_si128(begin.add(part).cast());
                        _mm_stream_si128(start.add(part).cast(), value);
                    }
                }
            }
            let done = head + lines * LINE;
            if done < count {
                std::ptr::copy_nonoverlapping(from.add(done), to.add(done), count - done);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: promised by the caller.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, count);
    }
}

/// A set whose registers write what a loop has computed past the caches.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Streaming: Copy + Sync {
    /// As [`Avx2::run`].
    fn run<R>(self, body: impl FnOnce() -> R) -> R;

    /// Writes a line, within `run`, where it is no call; a `fence` has to follow.
    ///
    /// # Safety
    /// `line` and `to` are 64 bytes, those at `to` a line of the cache.
    unsafe fn stream_line(self, line: *const u8, to: *mut u8);
}

#[cfg(target_arch = "x86_64")]
impl Streaming for Avx512 {
    #[inline(always)]
    fn run<R>(self, body: impl FnOnce() -> R) -> R {
        Avx512::run(self, body)
    }

    #[inline(always)]
    unsafe fn stream_line(self, line: *const u8, to: *mut u8) {
        use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};
        // SAFETY: promised by the caller; the token says that there are the registers.
        unsafe { _mm512_stream_si512(to.cast(), _mm512_loadu_si512(line.cast())) };
    }
}

#[cfg(target_arch = "x86_64")]
impl Streaming for Avx2 {
    #[inline(always)]
    fn run<R>(self, body: impl FnOnce() -> R) -> R {
        Avx2::run(self, body)
    }

    #[inline(always)]
    unsafe fn stream_line(self, line: *const u8, to: *mut u8) {
        use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
        let (line, to) = (line.cast::<__m256i>(), to.cast::<__m256i>());
        for half in 0..2 {
            // SAFETY: promised by the caller; the token says that there are the registers.
            unsafe { _mm256_stream_si256(to.add(half), _mm256_loadu_si256(line.add(half))) };
        }
    }
}

/// # Safety
/// As `stream`, for lines of the cache; `to` is where one begins.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn stream_lines(set: impl Streaming, from: *const u8, to: *mut u8, lines: usize) {
    set.run(|| {
        for at in (0..lines * LINE).step_by(LINE) {
            // SAFETY: promised by the caller.
            unsafe { set.stream_line(from.add(at), to.add(at)) };
        }
    });
}

/// Orders streamed writes before all that follows.
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Evaluates an expression compiled for the instruction set of a [`Simd`]: the compiler turns the loops in it into that set's
/// vector instructions.
///
/// The expression stands in one closure per set, so that each has a single caller and is inlined whatever its size; what it
/// calls must be inlined too (`#[inline(always)]`, or a closure that is called once).
///
/// With `light`, for loops that memory holds up: compiled for AVX2 and for every CPU only.
macro_rules! vectorised {
    ($simd:expr, light $body:expr) => {
        match $crate::cpu::simd::Simd::avx2($simd) {
            Some(set) => set.run(|| $body),
            None => $body,
        }
    };
    ($simd:expr, $body:expr) => {
        match $crate::cpu::simd::Simd::set($simd) {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Set::Avx512(set) => set.run(|| $body),
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Set::Avx2(set) => set.run(|| $body),
            $crate::cpu::simd::Set::Plain => $body,
        }
    };
}

pub(crate) use vectorised;
