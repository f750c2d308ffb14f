//! Matrix products: one front over batches of strided matrices for every lane type.
//!
//! Knows batches, rows, columns and strides, and which of its rooms a product goes to. Must not know the shape rules of ops.

pub(crate) mod block;
mod bytes;
#[cfg(target_arch = "aarch64")]
mod bytes_neon;
#[cfg(target_arch = "x86_64")]
mod bytes_x86;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pack;
mod plain;
mod select;
mod small;
mod vector;
mod weights;
mod wrapping;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use smallvec::SmallVec;

use self::block::Left;
pub(crate) use self::block::Target;
pub(crate) use self::bytes::{Scales, scaled};
use self::kernel::Units;
pub(crate) use self::pack::Matrix;
use self::pack::Pairs;
pub(crate) use self::select::Sums;
pub(crate) use self::weights::{Each, FEW, Weights, weighed};
use self::wrapping::Whole;
use super::alloc::Block;
use super::lane::Lane;
use super::reduce::offset_at;
use super::view::{Host, HostMut};
use super::{map, par};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::Layout;
use crate::shape::{MAX_RANK, Shape};

/// The sizes of a product: `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

impl Sizes {
    fn work(&self) -> usize {
        self.rows
            .saturating_mul(self.inner)
            .saturating_mul(self.columns)
    }
}

/// Products of fewer multiplications than this stay on one thread.
const SERIAL: usize = 96 * 96 * 96;

/// `z = scale * (x y)`, plus `factor * start` where a start is given, over the matrices in the last two dims. The dims before
/// them are batches, alike in all layouts (broadcast by strides of 0, which copies nothing). `start` has the shape of `z`.
pub(crate) fn products<T: Lane>(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: T,
    start: Option<(&Host<'_>, T)>,
) -> Result<()> {
    if z.elements() == 0 || z.shape().rank() < 2 {
        return Ok(());
    }
    match T::DTYPE {
        DType::F64 => {
            let start = start.map(|(start, factor)| (start, factor.to_f64()));
            floats::<f64>(op, x, y, z, scale.to_f64(), start)
        }
        DType::F32 => {
            let start = start.map(|(start, factor)| (start, factor.to_f64() as f32));
            floats::<f32>(op, x, y, z, scale.to_f64() as f32, start)
        }
        DType::I8 | DType::U8 => small_integers(op, x, y, z, scale, start),
        _ => {
            integers(x, y, z, scale, start);
            Ok(())
        }
    }
}

/// The batch dims and the matrix dims of a layout.
fn cut(layout: &Layout) -> (Layout, Layout) {
    let rank = layout.shape().rank();
    let part = |dims: std::ops::Range<usize>| {
        let order: SmallVec<[usize; MAX_RANK]> = dims.collect();
        layout.permute(&order)
    };
    (
        part(0..rank.saturating_sub(2)),
        part(rank.saturating_sub(2)..rank),
    )
}

/// One matrix for all batches of the second: then the batches of the others are rows of one product.
fn folded<const N: usize>(layouts: [&Layout; N]) -> Option<[Layout; N]> {
    let mut flat = layouts.map(|layout| *layout);
    if layouts.iter().all(|layout| layout.shape().rank() == 2) {
        return Some(flat);
    }
    let (batches, matrix) = cut(layouts[1]);
    if batches
        .pairs()
        .any(|(size, stride)| size != 1 && stride != 0)
    {
        return None;
    }
    flat[1] = matrix;
    for (index, layout) in flat.iter_mut().enumerate() {
        if index != 1 {
            let (columns, outer) = layout.dims().split_last()?;
            let rows = outer.iter().product();
            *layout = layout.reshape(&Shape::from([rows, *columns]))?;
        }
    }
    Some(flat)
}

/// The row and column strides of a layout's matrices.
fn steps(layout: &Layout) -> (usize, usize) {
    match layout.strides() {
        [.., row, column] => (*row, *column),
        _ => (0, 0),
    }
}

/// The sizes of the products of two layouts' matrices.
fn sizes(x: &Layout, y: &Layout) -> Sizes {
    let last = |layout: &Layout, back: usize| layout.dims().iter().rev().nth(back).copied();
    Sizes {
        rows: last(x, 1).unwrap_or(1),
        inner: last(x, 0).unwrap_or(1),
        columns: last(y, 0).unwrap_or(1),
    }
}

/// Products of floats, summed in `F`s and rounded once.
fn floats<F: Sums>(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: F,
    start: Option<(&Host<'_>, F)>,
) -> Result<()> {
    let shape = *z.shape();
    let (mut from, mut from_layout, mut held) = (std::ptr::null(), *z.layout(), None);
    if let Some((start, factor)) = start {
        let times = |x: F| x.times(factor);
        let lies = start.dtype() == F::DTYPE && start.layout().strides().last() == Some(&1);
        if lies && factor.to_f64() == 1.0 {
            (from, from_layout) = (start.start().cast::<F>(), *start.layout());
        } else if z.dtype() == F::DTYPE {
            map::map1::<F, F>(start, z, times);
            from = z.start().cast_const().cast::<F>();
        } else {
            let wide = Block::allocate(op, z.elements().saturating_mul(size_of::<F>()))?;
            from_layout = Layout::contiguous(shape);
            // SAFETY: the block has room for as many numbers as `z` has elements.
            let mut view = unsafe { HostMut::new(wide.start(), from_layout, F::DTYPE) };
            map::map1::<F, F>(start, &mut view, times);
            from = wide.start().cast_const().cast();
            held = Some(wide);
        }
    }
    let layouts = [x.layout(), y.layout(), z.layout(), &from_layout];
    let plain = layouts.iter().all(|layout| layout.shape().rank() == 2);
    let flat = if plain { None } else { folded(layouts) };
    let [a, b, c, d] = flat.as_ref().map_or(layouts, |flat| flat.each_ref());
    let task = Floats {
        op,
        sizes: sizes(a, b),
        factors: (*x, *y),
        steps: [steps(a), steps(b), steps(c), steps(d)],
        z: (z.start(), z.dtype()),
        from,
        scale,
    };
    let layouts = [a, b, c, d];
    // SAFETY: the layouts lie within their views, and `z` is borrowed mutably.
    let result = unsafe {
        if !plain && flat.is_none() {
            task.batches(layouts)
        } else if task.sizes.work() < SERIAL {
            task.run(layouts.map(Layout::offset), 1)
        } else {
            task.run(layouts.map(Layout::offset), par::threads())
        }
    };
    drop(held);
    result
}

/// What the batches of one call share.
struct Floats<'a, F> {
    op: &'static str,
    sizes: Sizes,
    factors: (Host<'a>, Host<'a>),
    /// The row and column strides of the factors, of the result and of what is added.
    steps: [(usize, usize); 4],
    z: (*mut u8, DType),
    from: *const F,
    scale: F,
}

// SAFETY: threads read the factors and write disjoint batches or rows of `z`.
unsafe impl<F> Sync for Floats<'_, F> {}

impl<F: Sums> Floats<'_, F> {
    /// All batches, shared out to threads, or one after the other on all threads where they are few and large.
    ///
    /// # Safety
    /// The layouts must be those of the task's views, and nobody else may touch `z`.
    unsafe fn batches(&self, layouts: [&Layout; 4]) -> Result<()> {
        let layouts = layouts.map(|layout| cut(layout).0);
        let count = layouts[2].elements();
        let work = self.sizes.work();
        let alone = count < 2 * par::threads() && work > SERIAL;
        let (grain, threads) = if alone {
            (usize::MAX, par::threads())
        } else {
            ((SERIAL / work.max(1)).max(1), 1)
        };
        let failed = OnceLock::new();
        par::ranges(count, grain, |range| {
            for batch in range {
                let offsets = layouts.each_ref().map(|layout| offset_at(layout, batch));
                // SAFETY: every batch has its own part of `z`.
                if let Err(error) = unsafe { self.run(offsets, threads) } {
                    failed.get_or_init(|| error);
                    break;
                }
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// The product of the matrices at these element offsets.
    ///
    /// # Safety
    /// They must lie within the views, and nobody else may touch the part of `z`.
    unsafe fn run(&self, offsets: [usize; 4], threads: usize) -> Result<()> {
        let ([a, b, c, d], inner) = (self.steps, self.sizes.inner);
        let left = Matrix::new(&self.factors.0, offsets[0], a, inner);
        let right = Matrix::new(&self.factors.1, offsets[1], (b.1, b.0), inner);
        let target = Target {
            to: self.z.0.wrapping_add(offsets[2] * self.z.1.size()),
            dtype: self.z.1,
            row: c.0,
            column: c.1,
            scale: self.scale,
            from: if self.from.is_null() {
                self.from
            } else {
                self.from.wrapping_add(offsets[3])
            },
            from_row: d.0,
            from_column: d.1,
        };
        // SAFETY: as promised by the caller.
        unsafe { multiply(self.op, self.sizes, left, right, target, threads) }
    }
}

/// One product of matrices on at most `threads` threads: `left` has the rows as lanes, `right` the columns.
///
/// # Safety
/// The matrices must have these sizes, and the target its rows and columns, touched by nobody else.
pub(crate) unsafe fn multiply<F: Sums>(
    op: &'static str,
    sizes: Sizes,
    left: Matrix<'_>,
    right: Matrix<'_>,
    target: Target<F>,
    threads: usize,
) -> Result<()> {
    let kernels = F::kernels();
    let narrow = sizes.columns < kernels.columns / 2 && sizes.rows >= 2 * sizes.columns;
    let turned = target.row == 1 && target.column != 1;
    let column = sizes.columns == 1 && sizes.rows > 1;
    if turned || narrow || column {
        let (sizes, target) = (sizes.turned(), target.turned());
        // SAFETY: the same product with rows and columns exchanged.
        return unsafe { straight(op, sizes, (right, left), target, threads) };
    }
    // SAFETY: as promised by the caller.
    unsafe { straight(op, sizes, (left, right), target, threads) }
}

/// # Safety
/// As `multiply`.
unsafe fn straight<F: Sums>(
    op: &'static str,
    sizes: Sizes,
    (left, right): (Matrix<'_>, Matrix<'_>),
    target: Target<F>,
    threads: usize,
) -> Result<()> {
    let kernels = F::kernels();
    // SAFETY: as promised by the caller.
    unsafe {
        if vector::serves::<F>(sizes.rows, &left, &right) {
            return vector::multiply(op, sizes.columns, (&left, &right), &target, threads);
        }
        if small::is_small(kernels, sizes, &left, &right) {
            small::multiply(kernels, sizes, (&left, &right), &target);
            return Ok(());
        }
        if (left.dtype, right.dtype) == (DType::BF16, DType::BF16)
            && let Some((pairs, target)) = select::pairs().zip(target.single())
        {
            let sizes = Sizes {
                inner: sizes.inner.div_ceil(2),
                ..sizes
            };
            let left = Pairs(left);
            let sources = (Left::Packed(&left), &Pairs(right) as _);
            return block::multiply(op, pairs, sizes, sources, target, threads);
        }
        let factors = (near::<F>(&left, sizes.columns), &right as _);
        block::multiply(op, kernels, sizes, factors, target, threads)
    }
}

/// The bytes of a line of a cache that the neighbours of a panel must fill, for them to be read where they lie: those of a panel of
/// AVX-512 do, and with fewer, reading the lines again costs up to twice what packing does.
const BESIDE: usize = 56;

/// Rows that are read few times, and do not fall on the same lines of a cache, are not worth packing; nor are neighbours that
/// fill most of a line of it.
fn near<'a, F: Sums>(left: &'a Matrix<'_>, columns: usize) -> Left<'a, F> {
    let apart = left.depth == 1 && !(left.lane * size_of::<F>()).is_multiple_of(4096);
    let beside = left.lane == 1 && F::kernels().packed.len() * size_of::<F>() >= BESIDE;
    if left.dtype == F::DTYPE && (apart && columns <= 2048 || beside && columns <= 4096) {
        Left::Straight(Units {
            start: left.start.cast(),
            lane: left.lane,
            depth: left.depth,
        })
    } else {
        Left::Packed(left)
    }
}

impl Sizes {
    fn turned(self) -> Self {
        Sizes {
            rows: self.columns,
            columns: self.rows,
            ..self
        }
    }
}

/// Products of bytes, whose lowest eight bits do not depend on the sign: summed in `i32`, then cut off.
fn small_integers<T: Lane>(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: T,
    start: Option<(&Host<'_>, T)>,
) -> Result<()> {
    let wide = Block::allocate(op, z.elements().saturating_mul(size_of::<i32>()))?;
    let layout = Layout::contiguous(*z.shape());
    // SAFETY: the block has room for as many numbers as `z` has elements.
    let mut sums = unsafe { HostMut::new(wide.start(), layout, DType::I32) };
    bytes::products(op, x, y, &mut sums)?;
    let sums = sums.as_host();
    let product = |sum: i32| map::convert::<i32, T>(sum).times(scale);
    match start {
        None => map::map1::<i32, T>(&sums, z, product),
        Some((start, factor)) => map::map2::<i32, T, T>(&sums, start, z, |sum, start| {
            product(sum).plus(start.times(factor))
        }),
    }
    Ok(())
}

/// Products of integers.
fn integers<T: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: T,
    start: Option<(&Host<'_>, T)>,
) {
    if let Some((start, factor)) = start {
        map::map1::<T, T>(start, z, |start| start.times(factor));
    }
    let layouts = [x.layout(), y.layout(), z.layout()];
    let flat = folded(layouts);
    let [a, b, c] = flat.as_ref().map_or(layouts, |flat| flat.each_ref());
    let whole = Whole::<T> {
        sizes: sizes(a, b),
        a: x.start().cast(),
        b: y.start().cast(),
        z: z.start().cast(),
        strides: [steps(a), steps(b), steps(c)],
        scale,
        keep: start.is_some(),
    };
    let batches = if flat.is_some() {
        [a, b, c].map(|layout| Layout::contiguous(()).with_offset(layout.offset()))
    } else {
        [a, b, c].map(|layout| cut(layout).0)
    };
    let count = batches[2].elements();
    let alone = count < 2 * par::threads();
    let grain = (SERIAL / whole.sizes.work().max(1)).max(1);
    par::ranges(count, if alone { usize::MAX } else { grain }, |range| {
        for batch in range {
            let [a, b, c] = batches.each_ref().map(|layout| offset_at(layout, batch));
            let whole = &whole;
            let one = Whole {
                a: whole.a.wrapping_add(a),
                b: whole.b.wrapping_add(b),
                z: whole.z.wrapping_add(c),
                ..*whole
            };
            // SAFETY: the layouts lie within their views, `z` is borrowed mutably, and every batch has its own part of it.
            unsafe { one.run(alone) };
        }
    });
}

#[cfg(test)]
mod tests;
