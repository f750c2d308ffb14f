//! Micro-kernels of convolutions in `f32`: small tiles of sums that stay in vector registers.
//!
//! Knows vectors and tiles. Must not know geometry, batches or threads.

use pulp::{Simd, WithSimd};

/// The registers of channels in a tile.
pub(crate) const VECTORS: usize = 2;
/// The most positions in a tile.
pub(crate) const MOST: usize = 14;

/// Runs `op` with the vectors of this CPU.
#[inline(always)]
fn vectors<O: WithSimd>(op: O) -> O::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(set) = pulp::x86::V4::try_new() {
            return Simd::vectorize(set, op);
        }
        if let Some(set) = pulp::x86::V3::try_new() {
            return Simd::vectorize(set, op);
        }
        Simd::vectorize(pulp::Scalar::new(), op)
    }
    #[cfg(not(target_arch = "x86_64"))]
    pulp::Arch::new().dispatch(op)
}

/// How many `f32`s are in a vector, and how many positions a tile of [`VECTORS`] registers has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub lanes: usize,
    pub most: usize,
}

impl Shape {
    /// Of this CPU.
    pub fn of_cpu() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = Shape;
            fn with_simd<S: Simd>(self, _simd: S) -> Shape {
                Shape {
                    lanes: S::F32_LANES,
                    most: if S::REGISTER_COUNT >= 32 { MOST } else { 6 },
                }
            }
        }
        vectors(Ask)
    }

    /// The channels of a tile.
    pub fn width(self) -> usize {
        VECTORS * self.lanes
    }
}

/// Sums of `P` neighbouring positions: `to[p][o] = sum over k of w[k][o] x[offsets[k] + p]`.
struct Spread<'a, const P: usize> {
    offsets: &'a [usize],
    x: *const f32,
    w: *const f32,
    to: *mut f32,
}

impl<const P: usize> WithSimd for Spread<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; P];
        let mut w = self.w;
        for offset in self.offsets {
            // SAFETY: `spread` promised a row of weights for each offset, and `P` positions from each offset on.
            unsafe {
                let x = self.x.add(*offset);
                let factors: [S::f32s; VECTORS] =
                    std::array::from_fn(|v| w.add(v * lanes).cast::<S::f32s>().read_unaligned());
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = simd.splat_f32s(*x.add(p));
                    for (sum, factor) in sums.iter_mut().zip(factors) {
                        *sum = simd.mul_add_e_f32s(factor, x, *sum);
                    }
                }
                w = w.add(VECTORS * lanes);
            }
        }
        for (index, sum) in sums.iter().flatten().enumerate() {
            // SAFETY: `spread` promised room for the tile.
            unsafe {
                self.to
                    .add(index * lanes)
                    .cast::<S::f32s>()
                    .write_unaligned(*sum)
            };
        }
    }
}

/// Adds products over rows of positions: `to[p][o] += sum over r, j of dy[r][j][o] x[offsets[p] + r * row + j]`.
struct Gather<'a, const P: usize> {
    offsets: &'a [usize],
    /// The rows, the positions of each, and the step from row to row in `x`.
    rows: usize,
    columns: usize,
    row: usize,
    x: *const f32,
    dy: *const f32,
    to: *mut f32,
}

impl<const P: usize> WithSimd for Gather<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; P];
        let mut dy = self.dy;
        for row in 0..self.rows {
            let from: [*const f32; P] = std::array::from_fn(|p| {
                self.x
                    .wrapping_add(self.offsets[p.min(self.offsets.len() - 1)] + row * self.row)
            });
            for column in 0..self.columns {
                // SAFETY: `gather` promised the positions of each row from each offset on, and a vector tile of `dy` for each.
                unsafe {
                    let factors: [S::f32s; VECTORS] = std::array::from_fn(|v| {
                        dy.add(v * lanes).cast::<S::f32s>().read_unaligned()
                    });
                    for (from, sums) in from.iter().zip(&mut sums) {
                        let x = simd.splat_f32s(*from.add(column));
                        for (sum, factor) in sums.iter_mut().zip(factors) {
                            *sum = simd.mul_add_e_f32s(factor, x, *sum);
                        }
                    }
                    dy = dy.add(VECTORS * lanes);
                }
            }
        }
        for (p, sums) in sums.iter().enumerate().take(self.offsets.len()) {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: `gather` promised a row of sums for each offset.
                unsafe {
                    let to = self.to.add((p * VECTORS + v) * lanes).cast::<S::f32s>();
                    to.write_unaligned(simd.add_f32s(to.read_unaligned(), *sum));
                }
            }
        }
    }
}

/// Runs the body with `$P` bound to the number of positions, rounded up to an even one.
macro_rules! with_positions {
    ($count:expr, $P:ident => $body:expr; $($number:literal)*) => {
        match $count.next_multiple_of(2) {
            $($number => {
                const $P: usize = $number;
                $body
            })*
            _ => {}
        }
    };
}

/// The sums of a tile of `count` positions, up to [`Shape::most`]; rounded up to an even number, of which the last is no use.
///
/// # Safety
/// `w` must have a row of [`Shape::width`] for each offset, `to` room for such rows of all positions (rounded up), and each
/// offset as many positions of `x` from it on.
pub(crate) unsafe fn spread(
    count: usize,
    offsets: &[usize],
    x: *const f32,
    w: *const f32,
    to: *mut f32,
) {
    with_positions!(count, P => vectors(Spread::<P> { offsets, x, w, to }); 2 4 6 8 10 12 14);
}

/// Rows of positions that products are summed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub rows: usize,
    pub columns: usize,
    /// The step from row to row in `x`; in `dy` they follow each other.
    pub row: usize,
}

/// Adds to the sums of up to [`Shape::most`] offsets.
///
/// # Safety
/// Each offset must have all rows' positions of `x` from it on, `dy` a row of [`Shape::width`] for each position, and `to`
/// one for each offset.
pub(crate) unsafe fn gather(
    offsets: &[usize],
    over: Rows,
    x: *const f32,
    dy: *const f32,
    to: *mut f32,
) {
    let Rows { rows, columns, row } = over;
    if offsets.is_empty() {
        return;
    }
    with_positions!(offsets.len(), P => vectors(Gather::<P> { offsets, rows, columns, row, x, dy, to }); 2 4 6 8 10 12 14);
}
