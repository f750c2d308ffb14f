//! Micro-kernels: one tile of a product, held in registers while it runs down the inner size.
//!
//! Knows vector lanes, tiles and how a finished tile meets memory. Must not know how factors are cut or packed.

use super::pack::prefetch;
use crate::cpu::lane::Lane;
use crate::cpu::number::Number;
use crate::cpu::simd::{Simd, prefetch_to_write, vectorised};
use crate::dtype::{DType, Element};

/// What a micro-kernel needs of a set of vector registers.
///
/// A *unit* is what one multiplication of the kernel takes from a factor: a number, or a pair of halves along the inner size.
pub(super) trait Lanes {
    type Unit: Copy + 'static;
    type Number: Lane;
    /// A register of sums.
    type Sum: Copy;
    /// A register of units.
    type Factor: Copy;
    /// The sums in a register.
    const COUNT: usize;

    /// # Safety
    /// The CPU must have the registers; so for all functions here.
    unsafe fn zero() -> Self::Sum;
    /// # Safety
    /// `COUNT` units must be readable.
    unsafe fn load(from: *const Self::Unit) -> Self::Factor;
    /// # Safety
    /// One unit must be readable.
    unsafe fn splat(from: *const Self::Unit) -> Self::Factor;
    /// `x y + sum`.
    ///
    /// # Safety
    /// As `zero`.
    unsafe fn multiply_add(x: Self::Factor, y: Self::Factor, sum: Self::Sum) -> Self::Sum;
    /// # Safety
    /// As `zero`.
    unsafe fn scaled(sum: Self::Sum, scale: Self::Number) -> Self::Sum;
    /// `sum` plus `COUNT` numbers of memory.
    ///
    /// # Safety
    /// `COUNT` numbers must be readable.
    unsafe fn plus(sum: Self::Sum, from: *const Self::Number) -> Self::Sum;
    /// A register of `COUNT` numbers of memory.
    ///
    /// # Safety
    /// `COUNT` numbers must be readable.
    unsafe fn read(from: *const Self::Number) -> Self::Sum;
    /// A register filled with a number.
    ///
    /// # Safety
    /// As `zero`.
    unsafe fn fill(value: Self::Number) -> Self::Sum;
    /// # Safety
    /// `COUNT` numbers must be writable.
    unsafe fn store(sum: Self::Sum, to: *mut Self::Number);
}

/// Registers that read two of units from lines of elements of a type, as they lie in memory.
pub(super) trait Pick<E>: Lanes {
    /// The units of `2 * COUNT` neighbouring lanes at one inner index, whose elements along the inner size lie `step` bytes apart.
    ///
    /// # Safety
    /// The CPU must have the registers, and the elements must be readable.
    unsafe fn pick(from: *const u8, step: usize) -> [Self::Factor; 2];
    /// # Safety
    /// `COUNT` units must be writable.
    unsafe fn put(factor: Self::Factor, to: *mut Self::Unit);
}

/// Lines of memory with the units of neighbouring lanes side by side: the first one, the dtype of the elements, and the step in
/// bytes from one element to the next along the inner size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flat {
    pub start: *const u8,
    pub dtype: DType,
    pub step: usize,
    /// The elements of a unit.
    pub together: usize,
}

impl Flat {
    /// From `count` lanes further on.
    pub fn lanes_on(self, count: usize) -> Self {
        Flat {
            start: self.start.wrapping_add(count * self.dtype.size()),
            ..self
        }
    }
}

/// Where a tile's units lie: the first one, and the steps to the next row or column and to the next inner index.
#[derive(Debug)]
pub(crate) struct Units<U> {
    pub start: *const U,
    pub lane: usize,
    pub depth: usize,
}

impl<U> Clone for Units<U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<U> Copy for Units<U> {}

/// Where a finished tile goes: `to = scale * sums + from`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish<T> {
    /// The first element, of `dtype`, and the steps between rows and between columns.
    pub to: *mut u8,
    pub dtype: DType,
    pub row: usize,
    pub column: usize,
    /// What is added, with the steps between its rows and columns; null for nothing.
    pub from: *const T,
    pub from_row: usize,
    pub from_column: usize,
    pub scale: T,
    /// The columns of the tile that exist.
    pub columns: usize,
}

/// A micro-kernel: `depth` steps over the left units (its rows) and the right ones (vectors of columns).
pub(crate) type Tile<U, T> = unsafe fn(usize, Units<U>, Units<U>, &Finish<T>);

/// A micro-kernel that reads the right units (two registers of columns) from lines, and leaves them packed at an address.
pub(crate) type Keeping<U, T> = unsafe fn(usize, Units<U>, Flat, *mut U, &Finish<T>);

/// The micro-kernels of one kind of unit on one set of registers.
pub(crate) struct Kernels<U: 'static, T: 'static> {
    /// Columns of a panel of the right factor: two registers.
    pub columns: usize,
    /// Room for the rows of a panel of the left factor.
    pub rows: usize,
    /// By rows less one, and by registers of columns less one; both factors packed in panels.
    pub packed: &'static [[Tile<U, T>; 2]],
    /// The same with any steps, the right factor's columns contiguous.
    pub strided: &'static [[Tile<U, T>; 2]],
    /// By dtype of the lines, then by rows less one; any steps of the left factor.
    pub keeping: &'static [(DType, &'static [Keeping<U, T>])],
}

impl<U, T> Kernels<U, T> {
    /// The kernels that pack lines of this dtype while they multiply, if there are any.
    pub fn keeping(&self, dtype: DType) -> Option<&'static [Keeping<U, T>]> {
        let found = self.keeping.iter().find(|(known, _)| *known == dtype);
        found.map(|(_, kernels)| *kernels)
    }
}

/// The most numbers of a tile: 14 rows of two registers of 16.
const MOST: usize = 14 * 32;

/// The body of all micro-kernels: `ROWS` rows of `VECTORS` registers. `STEP` is the step from one inner index to the next of
/// a packed left panel, 0 for factors that are not packed.
///
/// # Safety
/// The CPU must have `L`'s registers; `depth` steps must be readable from both factors, and the tile writable.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        let (mut a, mut b) = (left.start, right.start);
        let (row, down, across) = if STEP > 0 {
            (1, STEP, 2 * L::COUNT)
        } else {
            (left.lane, left.depth, right.depth)
        };
        for next in 0..=ROWS {
            if next < ROWS {
                soon::<L, VECTORS>(next, finish);
            }
            for _ in 0..steps::<ROWS>(depth, next) {
                if STEP == 0 {
                    let soon = a.wrapping_add(AHEAD * down);
                    prefetch(soon.cast());
                    prefetch(soon.wrapping_add((ROWS - 1) * row).cast());
                }
                let mut columns = [L::load(b); VECTORS];
                for (vector, column) in columns.iter_mut().enumerate().skip(1) {
                    *column = L::load(b.add(vector * L::COUNT));
                }
                for (index, sums) in sums.iter_mut().enumerate() {
                    let factor = L::splat(a.add(index * row));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = L::multiply_add(factor, column, *sum);
                    }
                }
                a = a.wrapping_add(down);
                b = b.wrapping_add(across);
            }
        }
        end::<L, ROWS, VECTORS>(&sums, finish);
    }
}

/// Inner indices whose left units are asked for before they are read, where those of one lie side by side and the next ones far.
const AHEAD: usize = 16;

/// Lines of the right factor that are asked for before they are read.
const LINES: usize = 6;

/// The body of the micro-kernels that pack the right factor: `ROWS` rows of two registers, from lines of `E`s.
///
/// # Safety
/// As `tile`; the lines must hold two registers of lanes, and `keep` must have room for them packed.
#[inline(always)]
pub(super) unsafe fn keeping<L: Pick<E>, E, const ROWS: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Flat,
    keep: *mut L::Unit,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[L::zero(); 2]; ROWS];
        let (mut a, mut b, mut keep) = (left.start, right.start, keep);
        let unit = right.step * right.together;
        for next in 0..=ROWS {
            if next < ROWS {
                soon::<L, 2>(next, finish);
            }
            for _ in 0..steps::<ROWS>(depth, next) {
                let columns = L::pick(b, right.step);
                prefetch(b.wrapping_add(LINES * unit));
                prefetch(b.wrapping_add(LINES * unit + 64));
                let soon = a.wrapping_add(AHEAD * left.depth);
                prefetch(soon.cast());
                prefetch(soon.wrapping_add((ROWS - 1) * left.lane).cast());
                for (vector, column) in columns.into_iter().enumerate() {
                    L::put(column, keep.add(vector * L::COUNT));
                }
                for (index, sums) in sums.iter_mut().enumerate() {
                    let factor = L::splat(a.add(index * left.lane));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = L::multiply_add(factor, column, *sum);
                    }
                }
                a = a.wrapping_add(left.depth);
                b = b.wrapping_add(unit);
                keep = keep.wrapping_add(2 * L::COUNT);
            }
        }
        end::<L, ROWS, 2>(&sums, finish);
    }
}

/// What is added to a row, or the place of the row, lies far from the other rows: it is on its way while the sums are made. One
/// row at a time, for all of them at once would keep what the sums need waiting.
#[inline(always)]
fn soon<L: Lanes, const VECTORS: usize>(row: usize, finish: &Finish<L::Number>) {
    if !finish.from.is_null() {
        if finish.from_column == 1 {
            let line = finish.from.wrapping_add(row * finish.from_row);
            for vector in 0..VECTORS {
                prefetch(line.wrapping_add(vector * L::COUNT).cast());
            }
        }
    } else if finish.column == 1 {
        let size = finish.dtype.size();
        let line = finish.to.wrapping_add(row * finish.row * size);
        prefetch_to_write(line, VECTORS * L::COUNT * size);
    }
}

/// The steps over the inner size before the next row is asked for; the last ones are the rest.
#[inline(always)]
fn steps<const ROWS: usize>(depth: usize, row: usize) -> usize {
    if row < ROWS {
        depth / ROWS
    } else {
        depth % ROWS
    }
}

/// Writes a finished tile.
///
/// # Safety
/// As `tile`.
#[inline(always)]
unsafe fn end<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    sums: &[[L::Sum; VECTORS]; ROWS],
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let straight = finish.column == 1
            && finish.from_column == 1
            && finish.dtype == <L::Number as Element>::DTYPE
            && finish.columns == VECTORS * L::COUNT;
        if !straight {
            return by_way::<L, ROWS, VECTORS>(sums, finish);
        }
        let to = finish.to.cast::<L::Number>();
        for (index, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let mut sum = L::scaled(*sum, finish.scale);
                if !finish.from.is_null() {
                    let from = finish.from.add(index * finish.from_row + vector * L::COUNT);
                    sum = L::plus(sum, from);
                }
                L::store(sum, to.add(index * finish.row + vector * L::COUNT));
            }
        }
    }
}

/// A tile that is narrower than its registers, or whose elements are no lanes or lie apart, goes through a buffer.
///
/// # Safety
/// As `tile`.
#[inline(always)]
unsafe fn by_way<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    sums: &[[L::Sum; VECTORS]; ROWS],
    finish: &Finish<L::Number>,
) {
    let mut buffer = [<L::Number as Number>::ZERO; MOST];
    // SAFETY: a tile has at most `MOST` numbers; the rest as promised by the caller.
    unsafe {
        for (index, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let at = (index * VECTORS + vector) * L::COUNT;
                L::store(L::scaled(*sum, finish.scale), buffer.as_mut_ptr().add(at));
            }
        }
        scatter(&mut buffer, VECTORS * L::COUNT, ROWS, finish);
    }
}

/// Adds and writes the rows of a finished tile, which lie `width` apart.
///
/// # Safety
/// The tile must be writable.
#[inline(never)]
pub(super) unsafe fn scatter<T: Lane>(
    tile: &mut [T],
    width: usize,
    rows: usize,
    finish: &Finish<T>,
) {
    let size = finish.dtype.size();
    vectorised!(Simd::best(), {
        for (index, line) in tile.chunks_mut(width.max(1)).take(rows).enumerate() {
            let line = &mut line[..finish.columns];
            // SAFETY: promised by the caller.
            unsafe {
                if !finish.from.is_null() {
                    let from = finish.from.add(index * finish.from_row);
                    for (column, value) in line.iter_mut().enumerate() {
                        *value = value.plus(*from.add(column * finish.from_column));
                    }
                }
                let to = finish.to.add(index * finish.row * size);
                if finish.dtype == DType::BF16 && finish.column == 1 {
                    let to = std::slice::from_raw_parts_mut(to.cast::<u16>(), line.len());
                    for (to, value) in to.iter_mut().zip(line.iter()) {
                        *to = brain(value.to_f64() as f32);
                    }
                } else {
                    T::scatter(line, to, finish.column, finish.dtype);
                }
            }
        }
    });
}

/// The bits of the nearest `bf16`, ties to even.
#[inline(always)]
fn brain(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

/// The table of a kind of kernel: `$run` for each number of rows, with one and with two registers.
macro_rules! tiles {
    ($run:ident, $lanes:ty, $step:literal; $($rows:literal)*) => {
        &[$([$run::<$lanes, $rows, 1, $step>, $run::<$lanes, $rows, 2, $step>]),*]
    };
}

/// The table of the kernels that pack while they multiply.
macro_rules! keepers {
    ($run:ident, $lanes:ty, $element:ty; $($rows:literal)*) => {
        &[$($run::<$lanes, $element, $rows>),*]
    };
}

pub(super) use {keepers, tiles};
