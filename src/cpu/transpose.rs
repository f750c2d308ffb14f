//! Transposed squares: small blocks of elements turned about their diagonal in registers.
//!
//! Knows sizes of elements and steps. Must not know dtypes, layouts or threads.

/// The side of the squares.
pub(crate) const SIDE: usize = 8;

/// Turns one square: element `(i, j)` of `from`, whose rows lie `step` bytes apart, goes to `(j, i)` of `to`, whose rows
/// lie so many elements apart.
pub(crate) type Square<T> = unsafe fn(from: *const u8, step: usize, to: *mut T, across: usize);

/// The fastest way to turn squares of `T` on this CPU.
pub(crate) fn square<T: Copy>() -> Square<T> {
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == 4 && crate::cpu::simd::level() >= crate::cpu::simd::Level::Avx2 {
        return x86::words::<T>;
    }
    plain::<T>
}

/// # Safety
/// The square must be readable at `from` and writable at `to`.
unsafe fn plain<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
    for row in 0..SIDE {
        for column in 0..SIDE {
            // SAFETY: promised by the caller; elements of `from` may lie unaligned.
            unsafe {
                *to.add(column * across + row) = from
                    .add(row * step)
                    .cast::<T>()
                    .add(column)
                    .read_unaligned()
            };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// As `plain`, for elements of four bytes, on a CPU with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn words<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
        let half = |row: usize, column: usize| {
            // SAFETY: four elements of a row of the square.
            unsafe { _mm_loadu_ps(from.add(row * step).cast::<f32>().add(column)) }
        };
        // Rows r and r + 4 share a register, so that the last shuffles stay within its halves.
        let both =
            |row: usize, column: usize| _mm256_set_m128(half(row + 4, column), half(row, column));
        for side in [0, 4] {
            let [a, b, c, d] = [both(0, side), both(1, side), both(2, side), both(3, side)];
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (high_ab, high_cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let rows = [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xee>(ab, cd),
                _mm256_shuffle_ps::<0x44>(high_ab, high_cd),
                _mm256_shuffle_ps::<0xee>(high_ab, high_cd),
            ];
            for (index, row) in rows.into_iter().enumerate() {
                // SAFETY: a row of the turned square.
                unsafe { _mm256_storeu_ps(to.add((side + index) * across).cast(), row) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_turn() {
        let from: Vec<u32> = (0..200).collect();
        let mut to = vec![0u32; 8 * 11];
        // SAFETY: the square with rows of 20 elements, and the one with rows of 11, lie in the vectors.
        unsafe { square::<u32>()(from.as_ptr().add(3).cast(), 80, to.as_mut_ptr(), 11) };
        for row in 0..SIDE {
            for column in 0..SIDE {
                assert_eq!(to[row * 11 + column] as usize, 3 + column * 20 + row);
            }
        }
    }
}
