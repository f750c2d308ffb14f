//! Matrix products: one driver over strided matrices for every lane type.
//!
//! Knows rows, columns and strides; floats go to the `gemm` crate, integers to a plain loop that wraps. Must not know batching
//! rules or shapes of ops.

use super::lane::Lane;
use super::view::{Host, HostMut};
use crate::dtype::DType;
use crate::layout::Layout;

/// The sizes of a product: `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

/// A matrix of lanes in row-major order, gathered where memory does not hold lanes.
struct Matrix<T> {
    start: *const T,
    row: usize,
    column: usize,
    _held: Vec<T>,
}

impl<T: Lane> Matrix<T> {
    fn new(x: &Host<'_>, layout: &Layout) -> Self {
        let (rows, columns) = (layout.dims()[0], layout.dims()[1]);
        if x.dtype() == T::DTYPE {
            let start = x.start().cast::<T>().wrapping_add(layout.offset());
            return Matrix { start, row: layout.strides()[0], column: layout.strides()[1], _held: Vec::new() };
        }
        // Halves are widened once; whichever dim is contiguous is kept so.
        let flip = layout.strides()[0] == 1 && layout.strides()[1] != 1;
        let (outer, inner) = if flip { (columns, rows) } else { (rows, columns) };
        let (jump, step) = if flip { (layout.strides()[1], 1) } else { (layout.strides()[0], layout.strides()[1]) };
        let mut held = vec![T::ZERO; rows * columns];
        for (index, run) in held.chunks_mut(inner.max(1)).enumerate().take(outer) {
            let from = x.start().wrapping_add((layout.offset() + index * jump) * x.dtype().size());
            // SAFETY: row `index` of the layout, which lies within the view; the lane serves its dtype.
            unsafe { T::gather(from, step, x.dtype(), run) };
        }
        let (row, column) = if flip { (1, inner) } else { (inner, 1) };
        Matrix { start: held.as_ptr(), row, column, _held: held }
    }

    /// # Safety
    /// The position must lie in the matrix.
    unsafe fn at(&self, row: usize, column: usize) -> T {
        // SAFETY: promised by the caller.
        unsafe { *self.start.add(row * self.row + column * self.column) }
    }
}

/// `z = x y` for one pair of matrices given by two-dim layouts over the views.
pub(crate) fn product<T: Lane>(sizes: Sizes, x: (&Host<'_>, &Layout), y: (&Host<'_>, &Layout), z: (&mut HostMut<'_>, &Layout)) {
    let (a, b) = (Matrix::<T>::new(x.0, x.1), Matrix::<T>::new(y.0, y.1));
    let (out, layout) = z;
    let dtype = out.dtype();
    if dtype == T::DTYPE {
        let start = out.start().cast::<T>().wrapping_add(layout.offset());
        // SAFETY: the layouts lie within their views, whose elements are `T`s (or are held widened); `start` is writable there.
        return unsafe { multiply(sizes, &a, &b, start, (layout.strides()[0], layout.strides()[1])) };
    }
    let mut wide = vec![T::ZERO; sizes.rows * sizes.columns];
    // SAFETY: as above; `wide` holds the whole product.
    unsafe { multiply(sizes, &a, &b, wide.as_mut_ptr(), (sizes.columns, 1)) };
    for (row, run) in wide.chunks(sizes.columns.max(1)).enumerate().take(sizes.rows) {
        let to = out.start().wrapping_add((layout.offset() + row * layout.strides()[0]) * dtype.size());
        // SAFETY: row `row` of the output's layout; the lane serves its dtype.
        unsafe { T::scatter(run, to, layout.strides()[1], dtype) };
    }
}

/// # Safety
/// The matrices must have the sizes, and `z` must be writable at every `row * strides.0 + column * strides.1`.
unsafe fn multiply<T: Lane>(sizes: Sizes, a: &Matrix<T>, b: &Matrix<T>, z: *mut T, strides: (usize, usize)) {
    match T::DTYPE {
        // SAFETY: `T` is `f32` here; sizes and strides as promised by the caller.
        DType::F32 => unsafe { float(sizes, a, b, z, strides, 0.0f32, 1.0f32) },
        // SAFETY: `T` is `f64` here; the rest as above.
        DType::F64 => unsafe { float(sizes, a, b, z, strides, 0.0f64, 1.0f64) },
        _ => {
            for row in 0..sizes.rows {
                for column in 0..sizes.columns {
                    let mut sum = T::ZERO;
                    for index in 0..sizes.inner {
                        // SAFETY: promised by the caller.
                        sum = sum.plus(unsafe { a.at(row, index).times(b.at(index, column)) });
                    }
                    // SAFETY: promised by the caller.
                    unsafe { *z.add(row * strides.0 + column * strides.1) = sum };
                }
            }
        }
    }
}

/// # Safety
/// As `multiply`, and `T` must be `F`.
unsafe fn float<T: Lane, F: 'static>(sizes: Sizes, a: &Matrix<T>, b: &Matrix<T>, z: *mut T, strides: (usize, usize), zero: F, one: F) {
    let work = sizes.rows.saturating_mul(sizes.inner).saturating_mul(sizes.columns);
    let parallel = if work < 64 * 64 * 64 { gemm::Parallelism::None } else { parallelism() };
    // SAFETY: promised by the caller.
    unsafe {
        gemm::gemm::<F>(
            sizes.rows,
            sizes.columns,
            sizes.inner,
            z.cast::<F>(),
            strides.1 as isize,
            strides.0 as isize,
            false,
            a.start.cast::<F>(),
            a.column as isize,
            a.row as isize,
            b.start.cast::<F>(),
            b.column as isize,
            b.row as isize,
            zero,
            one,
            false,
            false,
            false,
            parallel,
        );
    }
}

#[cfg(feature = "rayon")]
fn parallelism() -> gemm::Parallelism {
    gemm::Parallelism::Rayon(0)
}

#[cfg(not(feature = "rayon"))]
fn parallelism() -> gemm::Parallelism {
    gemm::Parallelism::None
}
