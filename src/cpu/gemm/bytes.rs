//! Products of bytes, exact in 32 bits (beyond that they wrap), by instructions that multiply four pairs at a time.
//!
//! Knows quads of bytes along the inner size, and which micro-kernels this CPU runs on them. Must not know what the sums are for.

use std::ops::Range;
use std::sync::OnceLock;

use super::block::{self, Left, Target};
use super::kernel::{Finish, Flat, Kernels, Lanes, Units, tile, tiles};
use super::pack::{Matrix, Panel, Read, Source, pack};
use super::{SERIAL, Sizes, cut, folded, sizes, steps};
use crate::cpu::alloc::Block;
use crate::cpu::reduce::offset_at;
use crate::cpu::simd::{Level, Simd, level, vectorised};
use crate::cpu::view::{Host, HostMut};
use crate::cpu::{par, rows};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::Layout;

/// Micro-kernels for quads, and what they take the right factor's bytes for.
pub(super) struct Bytes {
    pub kernels: Kernels<u32, i32>,
    /// Whether they are numbers from 0 to 255, so that 128 has to be added to what they stand for.
    pub raised: bool,
}

/// The micro-kernels of this CPU.
fn bytes() -> &'static Bytes {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if std::is_x86_feature_detected!("avx512vnni") => &super::bytes_x86::VNNI,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => &super::bytes_x86::AVX2,
        #[cfg(target_arch = "aarch64")]
        Level::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => {
            &super::bytes_neon::DOT_PRODUCT
        }
        #[cfg(target_arch = "aarch64")]
        Level::Neon => &super::bytes_neon::NEON,
        _ => &PLAIN,
    }
}

/// A matrix of bytes, read in quads of neighbours along the inner size; what the last quad lacks is zeros.
struct Quads<'a> {
    matrix: Matrix<'a>,
    /// What every quad is changed by: its highest bits where 128 is added to each byte.
    flip: u32,
}

/// The bits that add 128 to four bytes.
const RAISE: u32 = 0x8080_8080;

impl Source<u32> for Quads<'_> {
    unsafe fn pack(&self, depth: Range<usize>, lanes: Range<usize>, panel: Panel, to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe { pack(self, depth, lanes, panel, to) }
    }

    fn in_place(&self, _depth: Range<usize>, _lane: usize) -> Option<Flat> {
        None
    }

    fn ask(&self, depth: Range<usize>, lanes: Range<usize>, part: (usize, usize)) {
        self.matrix
            .ask_part(4 * depth.start..4 * depth.end, lanes, part);
    }
}

impl Quads<'_> {
    /// How many bytes of a quad exist.
    #[inline(always)]
    fn count(&self, depth: usize) -> usize {
        self.matrix.inner.saturating_sub(4 * depth).min(4)
    }

    /// # Safety
    /// The first `count` bytes of the quad must exist.
    #[inline(always)]
    unsafe fn quad(&self, at: *const u8, count: usize) -> u32 {
        let mut quad = [0; 4];
        for (index, byte) in quad.iter_mut().enumerate().take(count) {
            // SAFETY: promised by the caller.
            *byte = unsafe { *at.wrapping_add(index * self.matrix.depth) };
        }
        u32::from_ne_bytes(quad) ^ self.flip
    }
}

impl Read<u32> for Quads<'_> {
    const ZERO: u32 = 0;

    unsafe fn along(&self, lane: usize, depth: usize, to: &mut [u32]) {
        for (index, to) in to.iter_mut().enumerate() {
            let at = self.matrix.at(lane, 4 * (depth + index));
            let count = self.count(depth + index);
            // SAFETY: promised by the caller.
            *to = unsafe {
                if count == 4 && self.matrix.depth == 1 {
                    at.cast::<u32>().read_unaligned() ^ self.flip
                } else {
                    self.quad(at, count)
                }
            };
        }
    }

    #[inline(always)]
    unsafe fn across(&self, lane: usize, depth: usize, to: &mut [u32]) {
        let (start, count) = (self.matrix.at(lane, 4 * depth), self.count(depth));
        // SAFETY: the caller promised the quads of these lanes, whose bytes lie side by side where the step is 1.
        unsafe {
            if self.matrix.lane == 1 && count == 4 {
                let line = |index: usize| {
                    let at = start.wrapping_add(index * self.matrix.depth);
                    std::slice::from_raw_parts(at, to.len())
                };
                let [a, b, c, d] = [line(0), line(1), line(2), line(3)];
                for (index, to) in to.iter_mut().enumerate() {
                    *to = u32::from_ne_bytes([a[index], b[index], c[index], d[index]]) ^ self.flip;
                }
                return;
            }
            for (index, to) in to.iter_mut().enumerate() {
                *to = self.quad(start.wrapping_add(index * self.matrix.lane), count);
            }
        }
    }

    fn lines(&self, lane: usize, depth: Range<usize>) -> Option<(*const u8, usize)> {
        (self.flip == 0 && self.matrix.depth == 1 && 4 * depth.end <= self.matrix.inner)
            .then(|| (self.matrix.at(lane, 4 * depth.start), self.matrix.lane))
    }

    fn line(&self, _lane: usize, _depth: usize) -> Option<*const u32> {
        None
    }

    #[inline(always)]
    fn ask(&self, lane: usize, depth: usize, count: usize) {
        for index in 0..4 {
            self.matrix.ask(lane, 4 * depth + index, count);
        }
    }

    fn flat(&self) -> bool {
        self.matrix.lane <= self.matrix.depth && self.matrix.depth != 1
    }
}

/// `z = x y` over the matrices in the last two dims, of bytes with a sign, summed in `i32`. The dims before them are batches,
/// alike in all layouts. The workspace is that of the packed factors, and a number for each row.
///
/// # Errors
/// `OutOfMemory` for the workspace.
pub(super) fn products(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
) -> Result<()> {
    if z.elements() == 0 {
        return Ok(());
    }
    let layouts = [x.layout(), y.layout(), z.layout()];
    let flat = folded(layouts);
    let [a, b, c] = flat.as_ref().map_or(layouts, |flat| flat.each_ref());
    let sizes = sizes(a, b);
    let steps = [steps(a), steps(b), steps(c)];
    let batches = if flat.is_some() {
        [a, b, c].map(|layout| Layout::contiguous(()).with_offset(layout.offset()))
    } else {
        [a, b, c].map(|layout| cut(layout).0)
    };
    let (count, work) = (batches[2].elements(), sizes.work());
    let alone = count < 2 * par::threads() && work > SERIAL;
    let (grain, threads) = if alone {
        (usize::MAX, par::threads())
    } else {
        ((SERIAL / work.max(1)).max(1), 1)
    };
    let (failed, start) = (OnceLock::new(), Shared(z.start()));
    par::ranges(count, grain, |range| {
        for batch in range {
            let [a, b, c] = batches.each_ref().map(|layout| offset_at(layout, batch));
            let factors = (
                Matrix::new(x, a, steps[0], sizes.inner),
                Matrix::new(y, b, (steps[1].1, steps[1].0), sizes.inner),
            );
            let to = start.at(c * size_of::<i32>());
            // SAFETY: the layouts lie within their views, `z` is borrowed mutably, and every batch has its own part of it.
            if let Err(error) = unsafe { product(op, sizes, factors, (to, steps[2]), threads) } {
                failed.get_or_init(|| error);
                break;
            }
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// An address that threads share while they write disjoint parts.
struct Shared(*mut u8);

// SAFETY: the threads of `products` write disjoint batches.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, bytes: usize) -> *mut u8 {
        self.0.wrapping_add(bytes)
    }
}

/// One product; the target has these row and column steps.
///
/// # Safety
/// The matrices must have these sizes, and nobody else may touch the target, which is of `i32`.
unsafe fn product(
    op: &'static str,
    sizes: Sizes,
    (left, right): (Matrix<'_>, Matrix<'_>),
    (to, (row, column)): (*mut u8, (usize, usize)),
    threads: usize,
) -> Result<()> {
    let Bytes { kernels, raised } = bytes();
    let mut target = Target {
        to,
        dtype: DType::I32,
        row,
        column,
        scale: 1,
        from: std::ptr::null(),
        from_row: 1,
        from_column: 0,
    };
    let mut held = None;
    if *raised {
        let block = Block::allocate(op, sizes.rows.saturating_mul(size_of::<i32>()))?;
        let starts = block.start().cast::<i32>();
        for row in 0..sizes.rows {
            // SAFETY: the row exists, and the block has room for its sum.
            unsafe { *starts.add(row) = row_sum(&left, row).wrapping_mul(-128) };
        }
        target.from = starts.cast_const();
        held = Some(block);
    }
    let units = Sizes {
        inner: sizes.inner.div_ceil(4),
        ..sizes
    };
    let quads = |matrix, flip| Quads { matrix, flip };
    let left = quads(left, 0);
    let right = quads(right, if *raised { RAISE } else { 0 });
    let factors = (Left::Packed(&left), &right as _);
    // SAFETY: promised by the caller; what is added has a number for each row.
    let result = unsafe { block::multiply(op, kernels, units, factors, target, threads) };
    drop(held);
    result
}

/// The sum of a row of bytes.
///
/// # Safety
/// The row must exist.
unsafe fn row_sum(x: &Matrix<'_>, row: usize) -> i32 {
    let start = x.at(row, 0).cast::<i8>();
    let add = |sum: i32, byte: i8| sum.wrapping_add(i32::from(byte));
    // SAFETY: promised by the caller.
    unsafe {
        if x.depth == 1 {
            let line = std::slice::from_raw_parts(start, x.inner);
            return vectorised!(Simd::best(), line.iter().copied().fold(0, add));
        }
        (0..x.inner).fold(0, |sum, at| add(sum, *start.add(at * x.depth)))
    }
}

/// What the exact sums of a product are multiplied by, and what is added: a factor of each row `[.., m, 1]`, one of each column,
/// and a term of each column, all `f32` that broadcast to the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales<'a> {
    pub rows: Host<'a>,
    pub columns: Host<'a>,
    pub bias: Option<Host<'a>>,
}

/// `z = (x y) rows columns + bias`: the product exactly, the rest step by step in `f32`, then rounded to the dtype of `z`. The
/// workspace is four bytes for each element of `z`, besides what the product takes.
///
/// # Errors
/// `OutOfMemory` for the workspace.
pub(crate) fn scaled(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    scales: Scales<'_>,
    z: &mut HostMut<'_>,
) -> Result<()> {
    let shape = *z.shape();
    let sums = Block::allocate(op, z.elements().saturating_mul(size_of::<i32>()))?;
    let layout = Layout::contiguous(shape);
    // SAFETY: the block has room for as many numbers as `z` has elements.
    let mut view = unsafe { HostMut::new(sums.start(), layout, DType::I32) };
    products(op, x, y, &mut view)?;
    // SAFETY: the product has written every number; any bits are an f32, which the loop turns back.
    let whole = unsafe { Host::new(sums.start(), layout, DType::F32) };
    let lines = rows::last(shape.rank(), 1);
    let term = scales.bias.unwrap_or(Host::splat(&-0.0f32, &shape));
    let inputs = [scales.rows, scales.columns, term].map(|input| input.broadcast(&shape));
    let [rows, columns, term] = inputs.each_ref();
    rows::rows::<f32, 4, 1>(
        [&whole, rows, columns, term],
        [z],
        &lines,
        |_, [sums, rows, columns, terms], [z]| {
            let factors = rows.iter().zip(columns).zip(terms);
            for ((z, sum), ((row, column), term)) in z.iter_mut().zip(sums).zip(factors) {
                *z = sum.to_bits().cast_signed() as f32 * row * column + term;
            }
        },
    );
    Ok(())
}

/// Registers of plain arithmetic: four quads.
struct Four;

impl Lanes for Four {
    type Unit = u32;
    type Number = i32;
    type Sum = [i32; 4];
    type Factor = [u32; 4];
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> [u32; 4] {
        // SAFETY: promised by the caller.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> [u32; 4] {
        // SAFETY: promised by the caller.
        [unsafe { *from }; 4]
    }

    #[inline(always)]
    unsafe fn multiply_add(x: [u32; 4], y: [u32; 4], sum: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| {
            let pairs = x[lane].to_ne_bytes().into_iter().zip(y[lane].to_ne_bytes());
            pairs.fold(sum[lane], |sum, (x, y)| {
                sum.wrapping_add(i32::from(x.cast_signed()) * i32::from(y.cast_signed()))
            })
        })
    }

    #[inline(always)]
    unsafe fn scaled(sum: [i32; 4], scale: i32) -> [i32; 4] {
        sum.map(|sum| sum.wrapping_mul(scale))
    }

    #[inline(always)]
    unsafe fn plus(sum: [i32; 4], from: *const i32) -> [i32; 4] {
        // SAFETY: promised by the caller.
        let more = unsafe { Self::read(from) };
        std::array::from_fn(|lane| sum[lane].wrapping_add(more[lane]))
    }

    #[inline(always)]
    unsafe fn read(from: *const i32) -> [i32; 4] {
        // SAFETY: promised by the caller.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn fill(value: i32) -> [i32; 4] {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn store(sum: [i32; 4], to: *mut i32) {
        // SAFETY: promised by the caller.
        unsafe { *to.cast() = sum }
    }
}

/// # Safety
/// As `tile`.
unsafe fn run<L: Lanes, const ROWS: usize, const VECTORS: usize, const STEP: usize>(
    depth: usize,
    left: Units<L::Unit>,
    right: Units<L::Unit>,
    finish: &Finish<L::Number>,
) {
    // SAFETY: promised by the caller.
    unsafe { tile::<L, ROWS, VECTORS, STEP>(depth, left, right, finish) }
}

static PLAIN: Bytes = Bytes {
    kernels: Kernels {
        columns: 8,
        rows: 8,
        packed: tiles!(run, Four, 8; 1 2 3 4),
        strided: &[],
        keeping: &[],
    },
    raised: false,
};
