//! Transposed squares: small blocks of elements turned about their diagonal in registers.
//!
//! Knows sizes of elements and steps. Must not know dtypes, layouts or threads.

use std::mem::MaybeUninit;

use super::simd;
#[cfg(target_arch = "x86_64")]
use super::simd::Level;

/// The side of the squares.
pub(crate) const SIDE: usize = 8;

/// Turns one square: element `(i, j)` of `from`, whose rows lie `step` bytes apart, goes to `(j, i)` of `to`, whose rows
/// lie so many elements apart.
pub(crate) type Square<T> = unsafe fn(from: *const u8, step: usize, to: *mut T, across: usize);

/// The fastest way to turn squares of `T` on this CPU.
pub(crate) fn square<T: Copy>() -> Square<T> {
    #[cfg(target_arch = "x86_64")]
    match size_of::<T>() {
        2 if simd::level() >= Level::Avx2 => return x86::halves::<T>,
        4 if simd::level() >= Level::Avx2 => return x86::words::<T>,
        8 if simd::level() >= Level::Avx2 => return x86::doubles::<T>,
        _ => {}
    }
    plain::<T>
}

/// A line of the cache.
pub(crate) const LINE: usize = 64;

/// The fastest way to turn squares whose rows are whole lines of the cache, on both sides if the source begins with one. With
/// `streamed`, the turned rows have to begin with lines and are written past the caches: a fence has to follow.
pub(crate) fn line_square<T: Copy>(streamed: bool) -> Square<T> {
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == 4 && simd::level() >= Level::Avx512 {
        return if streamed {
            x86::sixteen::<T, true>
        } else {
            x86::sixteen::<T, false>
        };
    }
    if streamed { held::<T> } else { squares::<T> }
}

/// # Safety
/// The square of lines must be readable at `from` and writable at `to`.
unsafe fn squares<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
    let (turn, side) = (square::<T>(), LINE / size_of::<T>());
    for row in (0..side).step_by(SIDE) {
        for column in (0..side).step_by(SIDE) {
            let from = from.wrapping_add(row * step + column * size_of::<T>());
            // SAFETY: a part of the square that the caller promised.
            unsafe { turn(from, step, to.add(column * across + row), across) };
        }
    }
}

/// As `squares`, past the caches by way of a buffer.
///
/// # Safety
/// As `squares`; the rows at `to` begin with lines of the cache.
unsafe fn held<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
    let mut buffer = MaybeUninit::<[Line; LINE]>::uninit();
    let lines = buffer.as_mut_ptr().cast::<Line>();
    let side = LINE / size_of::<T>();
    // SAFETY: promised by the caller; the buffer has a line for each row of any square.
    unsafe {
        squares::<T>(from, step, lines.cast(), side);
        for row in 0..side {
            simd::stream(lines.add(row).cast(), to.add(row * across).cast(), LINE);
        }
    }
}

/// The bytes of a line of the cache.
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "room")] [u8; LINE]);

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
pub(super) mod x86 {
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

    /// # Safety
    /// As `plain`, for elements of two bytes, on a CPU with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn halves<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
        // SAFETY: the rows of the square.
        let rows: [__m128i; 8] =
            std::array::from_fn(|row| unsafe { _mm_loadu_si128(from.add(row * step).cast()) });
        // Each round lays the elements of two registers by turns; after three of them rows are columns.
        let pairs = |x: [__m128i; 8]| -> [__m128i; 8] {
            std::array::from_fn(|index| {
                let (low, high) = (x[index / 2], x[index / 2 + 4]);
                if index % 2 == 0 {
                    _mm_unpacklo_epi16(low, high)
                } else {
                    _mm_unpackhi_epi16(low, high)
                }
            })
        };
        for (index, row) in pairs(pairs(pairs(rows))).into_iter().enumerate() {
            // SAFETY: a row of the turned square.
            unsafe { _mm_storeu_si128(to.add(index * across).cast(), row) };
        }
    }

    /// # Safety
    /// As `plain`, for elements of eight bytes, on a CPU with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn doubles<T: Copy>(from: *const u8, step: usize, to: *mut T, across: usize) {
        for (down, side) in [(0, 0), (0, 4), (4, 0), (4, 4)] {
            let row = |index: usize| {
                // SAFETY: four elements of a row of the square.
                unsafe { _mm256_loadu_pd(from.add((down + index) * step).cast::<f64>().add(side)) }
            };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let (even_ab, even_cd) = (_mm256_unpacklo_pd(a, b), _mm256_unpacklo_pd(c, d));
            let (odd_ab, odd_cd) = (_mm256_unpackhi_pd(a, b), _mm256_unpackhi_pd(c, d));
            let rows = [
                _mm256_permute2f128_pd::<0x20>(even_ab, even_cd),
                _mm256_permute2f128_pd::<0x20>(odd_ab, odd_cd),
                _mm256_permute2f128_pd::<0x31>(even_ab, even_cd),
                _mm256_permute2f128_pd::<0x31>(odd_ab, odd_cd),
            ];
            for (index, row) in rows.into_iter().enumerate() {
                // SAFETY: a part of a row of the turned square.
                unsafe { _mm256_storeu_pd(to.add((side + index) * across + down).cast(), row) };
            }
        }
    }

    /// # Safety
    /// As `plain`, for squares of sixteen elements of four bytes, on a CPU with AVX-512. Streamed rows begin with lines.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn sixteen<T: Copy, const STREAMED: bool>(
        from: *const u8,
        step: usize,
        to: *mut T,
        across: usize,
    ) {
        // SAFETY: the rows of the square.
        let rows: [__m512; 16] =
            std::array::from_fn(|row| unsafe { _mm512_loadu_ps(from.add(row * step).cast()) });
        for (index, row) in turned(rows).into_iter().enumerate() {
            // SAFETY: a row of the turned square, where a line begins if it is streamed.
            unsafe {
                let to = to.add(index * across).cast();
                if STREAMED {
                    _mm512_stream_ps(to, row);
                } else {
                    _mm512_storeu_ps(to, row);
                }
            }
        }
    }

    /// The columns of a square of sixteen rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn turned(rows: [__m512; 16]) -> [__m512; 16] {
        let pairs: [__m512; 16] = std::array::from_fn(|index| {
            let (a, b) = (rows[index / 2 * 2], rows[index / 2 * 2 + 1]);
            if index % 2 == 0 {
                _mm512_unpacklo_ps(a, b)
            } else {
                _mm512_unpackhi_ps(a, b)
            }
        });
        // Number `4 g + c` has, in its quarter `l`, the elements of column `4 l + c` in rows `4 g` to `4 g + 3`.
        let fours: [__m512; 16] = std::array::from_fn(|index| {
            let first = index / 4 * 4 + index % 4 / 2;
            let (a, b) = (pairs[first], pairs[first + 2]);
            if index % 2 == 0 {
                _mm512_shuffle_ps::<0x44>(a, b)
            } else {
                _mm512_shuffle_ps::<0xee>(a, b)
            }
        });
        std::array::from_fn(|column| {
            let [a, b, c, d] = std::array::from_fn(|group| fours[4 * group + column % 4]);
            let (ab, cd) = if column / 4 % 2 == 0 {
                (
                    _mm512_shuffle_f32x4::<0x88>(a, b),
                    _mm512_shuffle_f32x4::<0x88>(c, d),
                )
            } else {
                (
                    _mm512_shuffle_f32x4::<0xdd>(a, b),
                    _mm512_shuffle_f32x4::<0xdd>(c, d),
                )
            };
            if column < 8 {
                _mm512_shuffle_f32x4::<0x88>(ab, cd)
            } else {
                _mm512_shuffle_f32x4::<0xdd>(ab, cd)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns a square and checks its elements, and that no others were written.
    fn turns<T: Copy + PartialEq + std::fmt::Debug>(
        turn: Square<T>,
        side: usize,
        number: fn(usize) -> T,
    ) {
        let (step, across) = (side + 5, 2 * side);
        let from: Vec<T> = (0..step * side + 3).map(number).collect();
        let mut to = vec![number(0); across * side + LINE];
        // What is streamed has to begin with a line.
        let first = to.as_ptr().align_offset(LINE);
        // SAFETY: both squares lie in the vectors.
        unsafe {
            let (from, to) = (from.as_ptr().add(3).cast(), to.as_mut_ptr().add(first));
            turn(from, step * size_of::<T>(), to, across);
        }
        simd::fence();
        for (index, element) in to[first..].iter().take(across * side).enumerate() {
            let (row, column) = (index / across, index % across);
            let inside = column < side;
            let want = if inside { 3 + column * step + row } else { 0 };
            assert_eq!(*element, number(want), "{row}, {column}");
        }
    }

    #[test]
    fn squares_turn() {
        turns::<u8>(square(), SIDE, |index| index as u8);
        turns::<u16>(square(), SIDE, |index| index as u16);
        turns::<u32>(square(), SIDE, |index| index as u32);
        turns::<u64>(square(), SIDE, |index| index as u64);
    }

    #[test]
    fn squares_of_lines_turn() {
        for streamed in [false, true] {
            turns::<u8>(line_square(streamed), 64, |index| (index % 251) as u8);
            turns::<u16>(line_square(streamed), 32, |index| index as u16);
            turns::<u32>(line_square(streamed), 16, |index| index as u32);
            turns::<u64>(line_square(streamed), 8, |index| index as u64);
            turns::<u64>(held, 8, |index| index as u64);
            turns::<u32>(held, 16, |index| index as u32);
        }
    }
}
