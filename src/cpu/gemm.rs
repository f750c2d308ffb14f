//! Matrix products: one driver over batches of strided matrices for every lane type.
//!
//! Knows batches, rows, columns and strides; floats go to the `gemm` crate, integers to a plain loop that wraps. Must not know
//! the shape rules of ops.

use smallvec::SmallVec;

use super::lane::Lane;
use super::reduce::offset_at;
use super::simd::Simd;
use super::view::{Host, HostMut};
use super::{map, par};
use crate::dtype::DType;
use crate::layout::Layout;
use crate::shape::{MAX_RANK, Shape};

/// The sizes of a product: `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

/// `z = scale * (x y)`, plus `factor * start` where a start is given, over the matrices in the last two dims. The dims before
/// them are batches, alike in all layouts (broadcast by strides of 0, which copies nothing). `start` has the shape of `z`.
pub(crate) fn products<T: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: T,
    start: Option<(&Host<'_>, T)>,
) {
    if z.elements() == 0 || z.shape().rank() < 2 {
        return;
    }
    if z.dtype() != T::DTYPE {
        return through_lanes(x, y, z, scale, start);
    }
    match start {
        Some((start, factor)) => map::map1::<T, T>(start, z, |start| start.times(factor)),
        None if x.elements() == 0 => map::fill(z, T::ZERO),
        None => {}
    }
    if x.elements() == 0 {
        return;
    }
    let (mut left, mut right) = (Vec::<T>::new(), Vec::<T>::new());
    let (Some(x), Some(y)) = (lanes(x, &mut left), lanes(y, &mut right)) else {
        return;
    };
    let keep = start.is_some();
    if let Some([a, b, c]) = folded(x.layout(), y.layout(), z.layout()) {
        let task = Task::new((&x, &a), (&y, &b), (z.start(), &c), scale, keep);
        // SAFETY: the layouts lie within their views, whose elements are `T`s; `z` is borrowed mutably.
        return unsafe { task.run(a.offset(), b.offset(), c.offset(), true) };
    }
    let task = Task::new(
        (&x, x.layout()),
        (&y, y.layout()),
        (z.start(), z.layout()),
        scale,
        keep,
    );
    let ((a, _), (b, _), (c, _)) = (cut(x.layout()), cut(y.layout()), cut(z.layout()));
    let count = c.elements();
    let alone = count < 2 * par::threads() && task.work() > SERIAL;
    let grain = if alone {
        usize::MAX
    } else {
        (SERIAL / task.work().max(1)).max(1)
    };
    par::ranges(count, grain, |range| {
        for batch in range {
            // SAFETY: as above; every batch has its own part of `z`.
            unsafe {
                task.run(
                    offset_at(&a, batch),
                    offset_at(&b, batch),
                    offset_at(&c, batch),
                    alone,
                )
            };
        }
    });
}

/// Products of fewer multiplications than this stay on one thread.
const SERIAL: usize = 64 * 64 * 64;

/// For outputs that memory does not hold as lanes: the product in a buffer, rounded once.
fn through_lanes<T: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    scale: T,
    start: Option<(&Host<'_>, T)>,
) {
    let mut wide = vec![T::ZERO; z.elements()];
    let shape = *z.shape();
    if let Some(mut target) = view_mut(&mut wide, Layout::contiguous(shape)) {
        products(x, y, &mut target, scale, start);
    }
    if let Some(wide) = view(&wide, Layout::contiguous(shape)) {
        map::map1::<T, T>(&wide, z, |x| x);
    }
}

fn view<T: Lane>(values: &[T], layout: Layout) -> Option<Host<'_>> {
    // SAFETY: the layout ends within the slice, which is borrowed.
    (layout.end() <= values.len())
        .then(|| unsafe { Host::new(values.as_ptr().cast(), layout, T::DTYPE) })
}

fn view_mut<T: Lane>(values: &mut [T], layout: Layout) -> Option<HostMut<'_>> {
    // SAFETY: the layout ends within the slice, which is borrowed mutably.
    (layout.end() <= values.len())
        .then(|| unsafe { HostMut::new(values.as_mut_ptr().cast(), layout, T::DTYPE) })
}

/// The matrices as lanes: the view itself, or each distinct element (dims of stride 0 once) widened into `held`, with
/// whichever of the last two dims is contiguous kept so.
fn lanes<'a, T: Lane>(x: &Host<'a>, held: &'a mut Vec<T>) -> Option<Host<'a>> {
    if x.dtype() == T::DTYPE {
        return Some(*x);
    }
    let layout = x.layout();
    let rank = layout.shape().rank();
    let one = |(size, stride): (usize, usize)| if stride == 0 { 1 } else { size };
    let once: Shape = layout.pairs().map(one).collect();
    let mut distinct = *layout;
    for dim in 0..rank {
        distinct = distinct.slice(dim, 0, once.size(dim), 1);
    }
    let flip = rank >= 2 && layout.strides()[rank - 2] == 1 && layout.strides()[rank - 1] != 1;
    let turn = |layout: Layout| {
        if flip {
            layout.transpose(rank - 2, rank - 1)
        } else {
            layout
        }
    };
    let distinct = turn(distinct);
    held.resize(distinct.elements(), T::ZERO);
    let dense = Layout::contiguous(*distinct.shape());
    map::map1::<T, T>(&x.with_layout(distinct), &mut view_mut(held, dense)?, |x| x);
    view(held, turn(dense).expand("matmul", layout.shape()).ok()?)
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

/// One matrix for all batches of `y`: then the batches of `x` and `z` are rows of one product.
fn folded(x: &Layout, y: &Layout, z: &Layout) -> Option<[Layout; 3]> {
    let (batches, matrix) = cut(y);
    if batches.shape().rank() == 0 {
        return Some([*x, *y, *z]);
    }
    if batches
        .pairs()
        .any(|(size, stride)| size != 1 && stride != 0)
    {
        return None;
    }
    let two = |layout: &Layout| {
        let columns = layout.dims().last().copied().unwrap_or(1);
        layout.reshape(&Shape::from([layout.elements() / columns.max(1), columns]))
    };
    Some([two(x)?, matrix, two(z)?])
}

/// What one product reads and writes; addresses are those of the first batch.
struct Task<T> {
    sizes: Sizes,
    a: *const T,
    b: *const T,
    z: *mut T,
    /// The row and column strides of the three.
    strides: [(usize, usize); 3],
    scale: T,
    /// Whether the product is added to what `z` holds.
    keep: bool,
}

// SAFETY: threads read the factors and write disjoint batches or rows of `z`.
unsafe impl<T> Sync for Task<T> {}

impl<T: Lane> Task<T> {
    fn new(
        x: (&Host<'_>, &Layout),
        y: (&Host<'_>, &Layout),
        z: (*mut u8, &Layout),
        scale: T,
        keep: bool,
    ) -> Self {
        let last = |layout: &Layout| {
            let (_, matrix) = cut(layout);
            (
                (matrix.dims()[0], matrix.dims()[1]),
                (matrix.strides()[0], matrix.strides()[1]),
            )
        };
        let (((rows, inner), first), ((_, columns), second), (_, third)) =
            (last(x.1), last(y.1), last(z.1));
        Task {
            sizes: Sizes {
                rows,
                inner,
                columns,
            },
            a: x.0.start().cast(),
            b: y.0.start().cast(),
            z: z.0.cast(),
            strides: [first, second, third],
            scale,
            keep,
        }
    }

    fn work(&self) -> usize {
        self.sizes
            .rows
            .saturating_mul(self.sizes.inner)
            .saturating_mul(self.sizes.columns)
    }

    /// The product of the matrices at these element offsets.
    ///
    /// # Safety
    /// The matrices must lie within the views, and nobody else may touch the part of `z`.
    unsafe fn run(&self, a: usize, b: usize, z: usize, parallel: bool) {
        let (a, b, z) = (
            self.a.wrapping_add(a),
            self.b.wrapping_add(b),
            self.z.wrapping_add(z),
        );
        match T::DTYPE {
            // SAFETY: `T` is `f32` here; the rest as promised by the caller.
            DType::F32 => unsafe {
                self.float::<f32>((a, b, z), self.scale.to_f64() as f32, 1.0, parallel)
            },
            // SAFETY: `T` is `f64` here; the rest as above.
            DType::F64 => unsafe {
                self.float::<f64>((a, b, z), self.scale.to_f64(), 1.0, parallel)
            },
            // SAFETY: as promised by the caller.
            _ => unsafe { self.integer((a, b, z), parallel) },
        }
    }

    /// # Safety
    /// As `run`, and `T` must be `F`.
    unsafe fn float<F: 'static + Copy>(
        &self,
        (a, b, z): (*const T, *const T, *mut T),
        scale: F,
        one: F,
        parallel: bool,
    ) {
        let parallel = if parallel && self.work() >= SERIAL {
            parallelism()
        } else {
            gemm::Parallelism::None
        };
        let Sizes {
            rows,
            inner,
            columns,
        } = self.sizes;
        let [a_at, b_at, z_at] = self
            .strides
            .map(|(row, column)| (row as isize, column as isize));
        // SAFETY: promised by the caller.
        unsafe {
            gemm::gemm::<F>(
                rows,
                columns,
                inner,
                z.cast(),
                z_at.1,
                z_at.0,
                self.keep,
                a.cast(),
                a_at.1,
                a_at.0,
                b.cast(),
                b_at.1,
                b_at.0,
                one,
                scale,
                false,
                false,
                false,
                parallel,
            );
        }
    }

    /// Row by row, each a wrapping sum of rows of `b`.
    ///
    /// # Safety
    /// As `run`.
    unsafe fn integer(&self, (a, b, z): (*const T, *const T, *mut T), parallel: bool) {
        let Sizes {
            rows,
            inner,
            columns,
        } = self.sizes;
        let [a_at, b_at, z_at] = self.strides;
        let simd = Simd::best();
        let cells = Cells(a, b, z);
        let grain = if parallel {
            (SERIAL / (inner * columns).max(1)).max(1)
        } else {
            usize::MAX
        };
        par::ranges(rows, grain, |range| {
            let Cells(a, b, z) = *{ &cells };
            let mut sums = vec![T::ZERO; columns];
            let mut line = vec![T::ZERO; columns];
            for row in range {
                sums.fill(T::ZERO);
                for index in 0..inner {
                    // SAFETY: row `row` and column `index` of `a`, and row `index` of `b`, lie within their matrices.
                    let factor = unsafe {
                        T::gather(
                            b.wrapping_add(index * b_at.0).cast(),
                            b_at.1,
                            T::DTYPE,
                            &mut line,
                        );
                        *a.add(row * a_at.0 + index * a_at.1)
                    };
                    simd.run(|| {
                        for (sum, y) in sums.iter_mut().zip(&line) {
                            *sum = sum.plus(factor.times(*y));
                        }
                    });
                }
                for (column, sum) in sums.iter().enumerate() {
                    let to = z.wrapping_add(row * z_at.0 + column * z_at.1);
                    let sum = sum.times(self.scale);
                    // SAFETY: the element lies within `z`, and only this thread has its row.
                    unsafe { *to = if self.keep { (*to).plus(sum) } else { sum } };
                }
            }
        });
    }
}

/// Addresses that threads share.
#[derive(Clone, Copy)]
struct Cells<T>(*const T, *const T, *mut T);

// SAFETY: threads read the factors and write disjoint rows.
unsafe impl<T> Sync for Cells<T> {}

#[cfg(feature = "rayon")]
fn parallelism() -> gemm::Parallelism {
    gemm::Parallelism::Rayon(0)
}

#[cfg(not(feature = "rayon"))]
fn parallelism() -> gemm::Parallelism {
    gemm::Parallelism::None
}
