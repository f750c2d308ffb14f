//! Which micro-kernels this CPU runs.
//!
//! Knows levels of vector instructions. Must not know products.

use super::kernel::Kernels;
use super::plain;
use super::vector::{Dots, Streams, place};
use crate::cpu::lane::Lane;
use crate::cpu::simd::{Level, level};
use crate::dtype::DType;

/// A float that products are summed in.
pub(crate) trait Sums: Lane {
    /// The micro-kernels for factors of this type.
    fn kernels() -> &'static Kernels<Self, Self>;

    /// The kernels for matrices of a dtype by vectors.
    fn streams(dtype: DType) -> Option<&'static Streams<Self>>;

    /// A kernel for dot products of lines of a dtype with a vector of the same dtype, if this CPU multiplies such as they are.
    fn own_dots(dtype: DType) -> Option<Dots<Self>>;
}

#[cfg(target_arch = "x86_64")]
use super::x86 as registers;

#[cfg(target_arch = "aarch64")]
use super::neon as registers;

/// Implements [`Sums`] with the tables of plain arithmetic and NEON (one name), of AVX2 and of AVX-512: for tiles, then for lines.
macro_rules! sums {
    ($number:ty; $plain:ident, $avx2:ident, $avx512:ident; $lines:ident, $lines_avx2:ident, $lines_avx512:ident; $own:expr) => {
        impl Sums for $number {
            fn kernels() -> &'static Kernels<Self, Self> {
                match level() {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => &registers::$avx512,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => &registers::$avx2,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => &registers::$plain,
                    _ => &plain::$plain,
                }
            }

            fn streams(dtype: DType) -> Option<&'static Streams<Self>> {
                if !Self::serves(dtype) {
                    return None;
                }
                let lines: &'static [Streams<Self>] = match level() {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => &registers::$lines_avx512,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => &registers::$lines_avx2,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => &registers::$lines,
                    _ => &plain::$lines,
                };
                lines.get(place(dtype))
            }

            fn own_dots(dtype: DType) -> Option<Dots<Self>> {
                ($own)(dtype)
            }
        }
    };
}

sums!(f32; F32, F32_AVX2, F32_AVX512; F32_LINES, F32_LINES_AVX2, F32_LINES_AVX512; dots_of_pairs);
sums!(f64; F64, F64_AVX2, F64_AVX512; F64_LINES, F64_LINES_AVX2, F64_LINES_AVX512; |_| None);

/// Whether this CPU has instructions for pairs of `bf16`.
#[cfg(target_arch = "x86_64")]
fn has_pairs() -> bool {
    level() >= Level::Avx512 && std::is_x86_feature_detected!("avx512bf16")
}

/// The micro-kernels for pairs of `bf16`, if this CPU has instructions for them.
pub(super) fn pairs() -> Option<&'static Kernels<u32, f32>> {
    #[cfg(target_arch = "x86_64")]
    if has_pairs() {
        return Some(&registers::BF16_AVX512);
    }
    None
}

fn dots_of_pairs(_dtype: DType) -> Option<Dots<f32>> {
    #[cfg(target_arch = "x86_64")]
    if _dtype == DType::BF16 && has_pairs() {
        return Some(registers::dots_of_pairs);
    }
    None
}
