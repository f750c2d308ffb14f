//! Lanes: how elements of a storage become numbers that kernels compute with, and back.
//!
//! Knows which lane type each dtype computes in (halves widen to `f32`) and moves runs between memory and lanes.
//! Must not know what is computed.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::number::Number;
use super::simd::{self, Simd, vectorised};
use crate::dtype::{DType, Element};

/// Runs `$body` with `$T` bound to the lane type that a dtype computes in.
macro_rules! with_lane {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::F32 | $crate::DType::F16 | $crate::DType::BF16 => {
                type $T = f32;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::DType::I16 => {
                type $T = i16;
                $body
            }
            $crate::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::Bool => {
                type $T = bool;
                $body
            }
        }
    };
}

/// Runs `$body` with `$T` bound to `f64` for that dtype and to `f32` for every other.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}

pub(crate) use {with_float, with_lane};

/// A number that runs of memory can be read into and written from.
pub(crate) trait Lane: Number {
    /// Whether memory of this dtype is read and written as this lane.
    fn serves(dtype: DType) -> bool {
        dtype == Self::DTYPE
    }

    /// Reads `lane.len()` elements that lie `stride` apart from `from` on.
    ///
    /// # Safety
    /// All of them must be readable elements of `dtype`, which this lane serves.
    unsafe fn gather(from: *const u8, stride: usize, dtype: DType, lane: &mut [Self]) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe { gather_plain(from.cast::<Self>(), stride, lane) }
    }

    /// Writes `lane.len()` elements that lie `stride` apart from `to` on.
    ///
    /// # Safety
    /// All of them must be writable elements of `dtype`, which this lane serves.
    unsafe fn scatter(lane: &[Self], to: *mut u8, stride: usize, dtype: DType) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe { scatter_plain(lane, to.cast::<Self>(), stride) }
    }

    /// The number whose `bf16` has these bits, where the lane serves that dtype.
    #[inline(always)]
    fn from_bf16(_bits: i16) -> Self {
        Self::ZERO
    }

    /// The bits as `bf16`, rounded to nearest even, where the lane serves that dtype.
    #[inline(always)]
    fn to_bf16(self) -> i16 {
        0
    }

    /// Writes a lane to elements in a row, past the caches; a `simd::fence` has to follow.
    ///
    /// # Safety
    /// As `scatter` with a stride of 1; the lane must not be there.
    unsafe fn stream(lane: &[Self], to: *mut u8, dtype: DType) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe { simd::stream(lane.as_ptr().cast(), to, size_of_val(lane)) }
    }
}

/// # Safety
/// As `Lane::gather`.
unsafe fn gather_plain<T: Element>(from: *const T, stride: usize, lane: &mut [T]) {
    if stride == 1 {
        // SAFETY: the caller promised `lane.len()` elements from `from` on.
        unsafe { std::ptr::copy_nonoverlapping(from, lane.as_mut_ptr(), lane.len()) };
    } else if stride == 0 {
        // SAFETY: the caller promised the element; an empty lane reads nothing.
        if let Some(value) = (!lane.is_empty()).then(|| unsafe { *from }) {
            lane.fill(value);
        }
    } else {
        for (index, slot) in lane.iter_mut().enumerate() {
            // SAFETY: promised by the caller.
            *slot = unsafe { *from.add(index * stride) };
        }
    }
}

/// # Safety
/// As `Lane::scatter`.
unsafe fn scatter_plain<T: Element>(lane: &[T], to: *mut T, stride: usize) {
    if stride == 1 {
        // SAFETY: the caller promised `lane.len()` elements from `to` on.
        unsafe { std::ptr::copy_nonoverlapping(lane.as_ptr(), to, lane.len()) };
    } else {
        for (index, value) in lane.iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe { *to.add(index * stride) = *value };
        }
    }
}

/// How many halves are converted at a time.
const CHUNK: usize = 512;

/// A 16-bit float that widens to `f32`.
trait Half: Element {
    fn widen(narrow: &[Self], wide: &mut [f32]);
    fn narrow(wide: &[f32], narrow: &mut [Self]);

    /// Writes elements in a row past the caches.
    ///
    /// # Safety
    /// As `Lane::stream`.
    unsafe fn stream(wide: &[f32], to: *mut Self) {
        // SAFETY: promised by the caller.
        unsafe { stream_chunks(wide, to) }
    }
}

impl Half for f16 {
    fn widen(narrow: &[Self], wide: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if simd::level() >= simd::Level::Avx2 {
            // SAFETY: the level says that the CPU has the instructions.
            return unsafe { widen_eights(narrow, wide) };
        }
        #[cfg(target_arch = "aarch64")]
        if simd::level() >= simd::Level::Neon {
            return super::half_neon::widen(narrow, wide);
        }
        narrow.convert_to_f32_slice(wide);
    }

    fn narrow(wide: &[f32], narrow: &mut [Self]) {
        #[cfg(target_arch = "aarch64")]
        if simd::level() >= simd::Level::Neon {
            return super::half_neon::narrow(wide, narrow);
        }
        narrow.convert_from_f32_slice(wide);
    }
}

/// # Safety
/// The CPU must have AVX and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
unsafe fn widen_eights(narrow: &[f16], wide: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (eights, rest) = narrow.as_chunks::<8>();
    let (sums, tail) = wide.split_at_mut(eights.len() * 8);
    for (narrow, wide) in eights.iter().zip(sums.chunks_exact_mut(8)) {
        // SAFETY: eight elements on both sides.
        unsafe {
            let wider = _mm256_cvtph_ps(_mm_loadu_si128(narrow.as_ptr().cast()));
            _mm256_storeu_ps(wide.as_mut_ptr(), wider);
        }
    }
    for (narrow, wide) in rest.iter().zip(tail) {
        *wide = narrow.to_f32();
    }
}

impl Half for bf16 {
    fn widen(narrow: &[Self], wide: &mut [f32]) {
        vectorised!(Simd::best(), {
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
            }
        });
    }

    fn narrow(wide: &[f32], narrow: &mut [Self]) {
        vectorised!(Simd::best(), {
            for (wide, narrow) in wide.iter().zip(narrow.iter_mut()) {
                *narrow = bf16::from_bits(round_bf16(*wide));
            }
        });
    }

    unsafe fn stream(wide: &[f32], to: *mut Self) {
        #[cfg(target_arch = "x86_64")]
        if simd::level() >= simd::Level::Avx512 {
            // SAFETY: the level says that the CPU has the instructions; the rest was promised by the caller.
            return unsafe { stream_lines(wide, to) };
        }
        // SAFETY: promised by the caller.
        unsafe { stream_chunks(wide, to) }
    }
}

/// Rounds and writes vector by vector, so that memory is kept busy all the time.
///
/// # Safety
/// As `Lane::stream`; the CPU must have AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn stream_lines(wide: &[f32], to: *mut bf16) {
    use std::arch::x86_64 as arch;
    /// Two registers of 32 bits make a cache line of 16.
    const LINE: usize = 32;
    let round = |from: &[f32]| {
        let ones = |bits| arch::_mm512_set1_epi32(bits);
        // SAFETY: the slice has the 16 elements of a register.
        let wide = unsafe { arch::_mm512_loadu_ps(from.as_ptr()) };
        let bits = arch::_mm512_castps_si512(wide);
        let odd = arch::_mm512_and_si512(arch::_mm512_srli_epi32::<16>(bits), ones(1));
        let rounded = arch::_mm512_add_epi32(bits, arch::_mm512_add_epi32(odd, ones(0x7fff)));
        let nan = arch::_mm512_cmp_ps_mask::<{ arch::_CMP_UNORD_Q }>(wide, wide);
        let whole = arch::_mm512_mask_or_epi32(rounded, nan, bits, ones(0x0040_0000));
        arch::_mm512_cvtepi32_epi16(arch::_mm512_srli_epi32::<16>(whole))
    };
    let head = to.align_offset(LINE * size_of::<bf16>()).min(wide.len());
    let (head, rest) = wide.split_at(head);
    let (lines, tail) = rest.as_chunks::<LINE>();
    let after = to.wrapping_add(head.len());
    for (index, line) in lines.iter().enumerate() {
        let low = arch::_mm512_castsi256_si512(round(&line[..LINE / 2]));
        let both = arch::_mm512_inserti64x4::<1>(low, round(&line[LINE / 2..]));
        // SAFETY: the caller promised the elements; they begin at a multiple of a line.
        unsafe { arch::_mm512_stream_si512(after.wrapping_add(index * LINE).cast(), both) };
    }
    // SAFETY: the elements before and after those lines.
    unsafe {
        scatter_half(head, to, 1);
        scatter_half(tail, after.wrapping_add(rest.len() - tail.len()), 1);
    }
}

/// Rounds a chunk, then copies it past the caches.
///
/// # Safety
/// As `Lane::stream`, for elements of `H`.
unsafe fn stream_chunks<H: Half>(wide: &[f32], to: *mut H) {
    let mut narrow = [H::default(); CHUNK];
    for (index, wide) in wide.chunks(CHUNK).enumerate() {
        let narrow = &mut narrow[..wide.len()];
        H::narrow(wide, narrow);
        // SAFETY: promised by the caller.
        unsafe {
            simd::stream(
                narrow.as_ptr().cast(),
                to.add(index * CHUNK).cast(),
                size_of_val(narrow),
            )
        };
    }
}

/// The bits as `bf16`, rounded to nearest even; a NaN stays one.
#[inline(always)]
fn round_bf16(wide: f32) -> u16 {
    (rounded(wide) >> 16) as u16
}

/// As `round_bf16`, in the upper half of a word; the lower is left over.
#[inline(always)]
fn rounded(wide: f32) -> u32 {
    let bits = wide.to_bits();
    if wide.is_nan() {
        bits | 0x0040_0000
    } else {
        bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
    }
}

/// The two numbers whose `bf16`s are a word, the one in its lower half first.
#[inline(always)]
pub(crate) fn wide_pair(word: i32) -> [f32; 2] {
    let word = word as u32;
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

/// Two numbers as a word of `bf16`s, rounded to nearest even.
#[inline(always)]
pub(crate) fn narrow_pair([low, high]: [f32; 2]) -> i32 {
    ((rounded(low) >> 16) | (rounded(high) & 0xffff_0000)) as i32
}

/// # Safety
/// As `Lane::gather`, for elements of `H`.
unsafe fn gather_half<H: Half>(from: *const H, stride: usize, lane: &mut [f32]) {
    if stride == 1 {
        // SAFETY: the caller promised `lane.len()` elements from `from` on.
        return H::widen(
            unsafe { std::slice::from_raw_parts(from, lane.len()) },
            lane,
        );
    }
    let mut narrow = [H::default(); CHUNK];
    for (index, wide) in lane.chunks_mut(CHUNK).enumerate() {
        let narrow = &mut narrow[..wide.len()];
        // SAFETY: promised by the caller.
        unsafe { gather_plain(from.add(index * CHUNK * stride), stride, narrow) };
        H::widen(narrow, wide);
    }
}

/// # Safety
/// As `Lane::scatter`, for elements of `H`.
unsafe fn scatter_half<H: Half>(lane: &[f32], to: *mut H, stride: usize) {
    if stride == 1 {
        // SAFETY: the caller promised `lane.len()` elements from `to` on; a lane is other memory.
        return H::narrow(lane, unsafe {
            std::slice::from_raw_parts_mut(to, lane.len())
        });
    }
    let mut narrow = [H::default(); CHUNK];
    for (index, wide) in lane.chunks(CHUNK).enumerate() {
        let narrow = &mut narrow[..wide.len()];
        H::narrow(wide, narrow);
        // SAFETY: promised by the caller.
        unsafe { scatter_plain(narrow, to.add(index * CHUNK * stride), stride) };
    }
}

impl Lane for f32 {
    fn serves(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
    }

    #[inline(always)]
    fn from_bf16(bits: i16) -> Self {
        f32::from_bits(u32::from(bits as u16) << 16)
    }

    #[inline(always)]
    fn to_bf16(self) -> i16 {
        round_bf16(self) as i16
    }

    unsafe fn gather(from: *const u8, stride: usize, dtype: DType, lane: &mut [f32]) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe {
            match dtype {
                DType::F16 => gather_half(from.cast::<f16>(), stride, lane),
                DType::BF16 => gather_half(from.cast::<bf16>(), stride, lane),
                _ => gather_plain(from.cast::<f32>(), stride, lane),
            }
        }
    }

    unsafe fn scatter(lane: &[f32], to: *mut u8, stride: usize, dtype: DType) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe {
            match dtype {
                DType::F16 => scatter_half(lane, to.cast::<f16>(), stride),
                DType::BF16 => scatter_half(lane, to.cast::<bf16>(), stride),
                _ => scatter_plain(lane, to.cast::<f32>(), stride),
            }
        }
    }

    unsafe fn stream(lane: &[f32], to: *mut u8, dtype: DType) {
        debug_assert!(Self::serves(dtype));
        // SAFETY: promised by the caller.
        unsafe {
            match dtype {
                DType::F16 => f16::stream(lane, to.cast()),
                DType::BF16 => bf16::stream(lane, to.cast()),
                _ => simd::stream(lane.as_ptr().cast(), to, size_of_val(lane)),
            }
        }
    }
}

impl Lane for f64 {}
impl Lane for i64 {}
impl Lane for i32 {}
impl Lane for i16 {}
impl Lane for i8 {}
impl Lane for u8 {}
impl Lane for bool {}
