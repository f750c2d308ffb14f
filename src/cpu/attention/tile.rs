//! Small products in vector registers: the inner loops of attention.
//!
//! Knows vectors of the instruction set and panels of rows. Must not know heads, masks or softmax. Right factors and results
//! are row-major with strides that are multiples of [`PAD`], so no panel has a ragged edge.

use pulp::Simd;

use crate::cpu::lane::Lane;
use crate::cpu::number::Float;

/// Strides of right factors and results are multiples of this many elements.
pub(super) const PAD: usize = 32;

/// The next multiple of [`PAD`], at least one.
pub(super) fn padded(size: usize) -> usize {
    size.max(1).next_multiple_of(PAD)
}

/// A float lane with the vectors of an instruction set.
pub(super) trait Vector<S: Simd>: Lane + Float {
    type Packed: Copy;

    /// The slice as whole vectors; what is left over is not in it.
    fn vectors(values: &[Self]) -> &[Self::Packed];
    fn vectors_mut(values: &mut [Self]) -> &mut [Self::Packed];
    fn splat(simd: S, value: Self) -> Self::Packed;
    /// `a b + c`.
    fn multiply_add(simd: S, a: Self::Packed, b: Self::Packed, c: Self::Packed) -> Self::Packed;
    /// The sum of a vector's lanes.
    fn total(simd: S, a: Self::Packed) -> Self;
    fn added(simd: S, a: Self::Packed, b: Self::Packed) -> Self::Packed;
}

macro_rules! vector {
    ($type:ty, $packed:ident, $split:ident, $split_mut:ident, $splat:ident, $fma:ident, $sum:ident, $plus:ident) => {
        impl<S: Simd> Vector<S> for $type {
            type Packed = S::$packed;

            #[inline(always)]
            fn vectors(values: &[Self]) -> &[S::$packed] {
                S::$split(values).0
            }

            #[inline(always)]
            fn vectors_mut(values: &mut [Self]) -> &mut [S::$packed] {
                S::$split_mut(values).0
            }

            #[inline(always)]
            fn splat(simd: S, value: Self) -> S::$packed {
                simd.$splat(value)
            }

            #[inline(always)]
            fn multiply_add(simd: S, a: S::$packed, b: S::$packed, c: S::$packed) -> S::$packed {
                simd.$fma(a, b, c)
            }

            #[inline(always)]
            fn total(simd: S, a: S::$packed) -> Self {
                simd.$sum(a)
            }

            #[inline(always)]
            fn added(simd: S, a: S::$packed, b: S::$packed) -> S::$packed {
                simd.$plus(a, b)
            }
        }
    };
}

vector!(
    f32,
    f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    mul_add_e_f32s,
    reduce_sum_f32s,
    add_f32s
);
vector!(
    f64,
    f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    mul_add_e_f64s,
    reduce_sum_f64s,
    add_f64s
);

/// A left factor: element `(i, p)` lies at `i * row + p * inner`, and one of the two strides is 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a, T> {
    pub values: &'a [T],
    pub row: usize,
    pub inner: usize,
}

/// The sizes of a product: `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

/// Whether a product replaces its target or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Replace,
    Add,
}

/// A matrix of row-major elements and its row stride.
pub(super) type Rows<'a, T> = (&'a [T], usize);
pub(super) type RowsMut<'a, T> = (&'a mut [T], usize);

/// `z = x y` or `z += x y`. The columns are rounded up to whole vectors.
///
/// A function of its own for each instruction set, so that its many forms are compiled once and not at each call.
#[inline(always)]
pub(super) fn product<S: Simd, T: Vector<S>>(
    simd: S,
    x: Left<'_, T>,
    y: Rows<'_, T>,
    z: RowsMut<'_, T>,
    extent: Extent,
    target: Target,
) {
    simd.vectorize(Product {
        simd,
        x,
        y,
        z,
        extent,
        target,
    });
}

struct Product<'a, S, T> {
    simd: S,
    x: Left<'a, T>,
    y: Rows<'a, T>,
    z: RowsMut<'a, T>,
    extent: Extent,
    target: Target,
}

impl<S: Simd, T: Vector<S>> pulp::NullaryFnOnce for Product<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let lanes = size_of::<T::Packed>() / size_of::<T>();
        let (extent, (z, stride)) = (self.extent, self.z);
        let mut column = 0;
        while column < extent.columns {
            if extent.rows <= 2 && extent.columns - column >= 4 * lanes {
                // Few rows: four vectors at once, for each sum waits for its last addition.
                let to = (&mut z[column..], stride);
                let from = (&self.y.0[column..], self.y.1);
                match extent.rows {
                    0 => {}
                    1 => {
                        panel::<S, T, 1, 4>(self.simd, self.x, from, to, extent.inner, self.target)
                    }
                    _ => {
                        panel::<S, T, 2, 4>(self.simd, self.x, from, to, extent.inner, self.target)
                    }
                }
                column += 4 * lanes;
                continue;
            }
            let wide = extent.columns - column > lanes;
            for row in (0..extent.rows).step_by(6) {
                let sizes = [(extent.rows - row).min(6), extent.inner];
                let to = (&mut z[row * stride + column..], stride);
                let from = (&self.y.0[column..], self.y.1);
                let left = Left {
                    values: &self.x.values[row * self.x.row..],
                    ..self.x
                };
                if wide {
                    stripe::<S, T, 2>(self.simd, left, from, to, sizes, self.target);
                } else {
                    stripe::<S, T, 1>(self.simd, left, from, to, sizes, self.target);
                }
            }
            column += if wide { 2 * lanes } else { lanes };
        }
    }
}

/// Up to six rows of a product, `W` vectors wide.
#[inline(always)]
fn stripe<S: Simd, T: Vector<S>, const W: usize>(
    simd: S,
    x: Left<'_, T>,
    y: Rows<'_, T>,
    z: RowsMut<'_, T>,
    [rows, inner]: [usize; 2],
    target: Target,
) {
    match rows {
        6 => panel::<S, T, 6, W>(simd, x, y, z, inner, target),
        5 => panel::<S, T, 5, W>(simd, x, y, z, inner, target),
        4 => panel::<S, T, 4, W>(simd, x, y, z, inner, target),
        3 => panel::<S, T, 3, W>(simd, x, y, z, inner, target),
        2 => panel::<S, T, 2, W>(simd, x, y, z, inner, target),
        _ => panel::<S, T, 1, W>(simd, x, y, z, inner, target),
    }
}

/// `M` rows of a product, `W` vectors wide: the sums stay in registers.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "indices of several arrays at once, which must unroll"
)]
fn panel<S: Simd, T: Vector<S>, const M: usize, const W: usize>(
    simd: S,
    x: Left<'_, T>,
    y: Rows<'_, T>,
    z: RowsMut<'_, T>,
    inner: usize,
    target: Target,
) {
    let lanes = size_of::<T::Packed>() / size_of::<T>();
    let mut sums = [[T::splat(simd, T::ZERO); W]; M];
    if x.inner == 1 {
        let rows: [&[T]; M] = std::array::from_fn(|i| &x.values[i * x.row..i * x.row + inner]);
        for p in 0..inner {
            let right = T::vectors(&y.0[p * y.1..p * y.1 + W * lanes]);
            for i in 0..M {
                let left = T::splat(simd, rows[i][p]);
                for w in 0..W {
                    sums[i][w] = T::multiply_add(simd, left, right[w], sums[i][w]);
                }
            }
        }
    } else {
        for p in 0..inner {
            let right = T::vectors(&y.0[p * y.1..p * y.1 + W * lanes]);
            let column = &x.values[p * x.inner..p * x.inner + M];
            for i in 0..M {
                let left = T::splat(simd, column[i]);
                for w in 0..W {
                    sums[i][w] = T::multiply_add(simd, left, right[w], sums[i][w]);
                }
            }
        }
    }
    let (z, stride) = z;
    for (i, sums) in sums.iter().enumerate() {
        let to = T::vectors_mut(&mut z[i * stride..i * stride + W * lanes]);
        for w in 0..W {
            to[w] = match target {
                Target::Replace => sums[w],
                Target::Add => T::added(simd, to[w], sums[w]),
            };
        }
    }
}

/// `sum(x y)`, in four independent parts.
#[inline(always)]
pub(super) fn dot<S: Simd, T: Vector<S>>(simd: S, x: &[T], y: &[T]) -> T {
    let lanes = size_of::<T::Packed>() / size_of::<T>();
    let (xs, ys) = (T::vectors(x), T::vectors(y));
    let mut sums = [T::splat(simd, T::ZERO); 4];
    let (xs, ys) = (&xs[..xs.len().min(ys.len())], &ys[..xs.len().min(ys.len())]);
    let ((x_fours, x_rest), (y_fours, y_rest)) = (xs.as_chunks::<4>(), ys.as_chunks::<4>());
    for (x, y) in x_fours.iter().zip(y_fours) {
        for part in 0..4 {
            sums[part] = T::multiply_add(simd, x[part], y[part], sums[part]);
        }
    }
    for (x, y) in x_rest.iter().zip(y_rest) {
        sums[0] = T::multiply_add(simd, *x, *y, sums[0]);
    }
    let halves = [
        T::added(simd, sums[0], sums[1]),
        T::added(simd, sums[2], sums[3]),
    ];
    let whole = T::total(simd, T::added(simd, halves[0], halves[1]));
    let done = xs.len() * lanes;
    x.iter()
        .zip(y)
        .skip(done)
        .fold(whole, |sum, (x, y)| sum.plus(x.times(*y)))
}
