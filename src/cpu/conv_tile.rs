//! Micro-kernels of convolutions in `f32`: small tiles of sums that stay in vector registers.
//!
//! Knows vectors and tiles. Must not know geometry, batches or threads.

use pulp::{Simd, WithSimd};

use super::simd::{self, SimdLevel};

/// The registers of channels in a tile.
pub(crate) const VECTORS: usize = 2;
/// The most positions in a tile.
pub(crate) const MOST: usize = 14;
/// The most registers of positions of one channel.
const ALONG: usize = 4;
/// How many numbers past a box's last position may be read.
pub(crate) const SLACK: usize = ALONG * 16;

/// A set of vectors that this CPU has.
#[derive(Debug, Clone, Copy)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    Other(pulp::Arch),
}

/// The vectors in use: how many `f32`s one has, and how many positions a tile of [`VECTORS`] registers has at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    pub lanes: usize,
    pub most: usize,
    set: Set,
}

impl Vectors {
    /// Those in use, if they are worth kernels of their own.
    pub fn in_use() -> Option<Self> {
        let level = simd::level();
        struct Ask;
        impl WithSimd for Ask {
            type Output = (usize, usize);
            fn with_simd<S: Simd>(self, _simd: S) -> (usize, usize) {
                (S::F32_LANES, if S::REGISTER_COUNT >= 32 { MOST } else { 6 })
            }
        }
        let mut vectors = Vectors {
            lanes: 1,
            most: 6,
            set: Set::Other(pulp::Arch::new()),
        };
        #[cfg(target_arch = "x86_64")]
        match (pulp::x86::V4::try_new(), pulp::x86::V3::try_new()) {
            (Some(set), _) if level == SimdLevel::Avx512 => vectors.set = Set::V4(set),
            (_, Some(set)) if level >= SimdLevel::Avx2 => vectors.set = Set::V3(set),
            _ => return None,
        }
        if level == SimdLevel::Off {
            return None;
        }
        (vectors.lanes, vectors.most) = vectors.run(Ask);
        Some(vectors).filter(|vectors| vectors.lanes >= 4)
    }

    /// The channels of a tile.
    pub fn width(self) -> usize {
        VECTORS * self.lanes
    }

    /// The most positions of one channel.
    pub fn reach(self) -> usize {
        ALONG * self.lanes
    }

    /// The positions of a tile, an even number, that leave the fewest of a count of positions idle.
    pub fn fitting(self, count: usize) -> usize {
        let even = (self.most / 2..=self.most)
            .rev()
            .filter(|high| high % 2 == 0);
        even.min_by_key(|high| count.next_multiple_of(*high))
            .unwrap_or(2)
    }

    /// Runs `op` compiled for the set; all that it does must be inlined.
    #[inline(always)]
    pub fn run<O: WithSimd>(self, op: O) -> O::Output {
        match self.set {
            #[cfg(target_arch = "x86_64")]
            Set::V4(set) => Simd::vectorize(set, op),
            #[cfg(target_arch = "x86_64")]
            Set::V3(set) => Simd::vectorize(set, op),
            Set::Other(arch) => arch.dispatch(op),
        }
    }
}

/// Sums of neighbouring positions of one channel, `C` registers of them: `to[p] = sum over k of w[k] x[offsets[k] + p]`.
struct Along<'a, const C: usize> {
    offsets: &'a [usize],
    x: *const f32,
    w: &'a [f32],
    to: *mut f32,
}

impl<const C: usize> WithSimd for Along<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut sums = [simd.splat_f32s(0.0); C];
        for (offset, w) in self.offsets.iter().zip(self.w) {
            let factor = simd.splat_f32s(*w);
            for (c, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `Vectors::along` promised as many positions from each offset on.
                let x = unsafe {
                    let from = self.x.add(offset + c * lanes);
                    from.cast::<S::f32s>().read_unaligned()
                };
                *sum = simd.mul_add_e_f32s(factor, x, *sum);
            }
        }
        for (c, sum) in sums.iter().enumerate() {
            // SAFETY: `Vectors::along` promised room for the tile.
            unsafe {
                self.to
                    .add(c * lanes)
                    .cast::<S::f32s>()
                    .write_unaligned(*sum)
            };
        }
    }
}

/// Rows of positions of one channel: `to[r * step + p] = bias + sum over k of w[k] x[offsets[k] + r * row + p]`.
pub(crate) struct Plane<'a> {
    pub offsets: &'a [usize],
    pub x: *const f32,
    pub w: &'a [f32],
    pub bias: f32,
    pub to: *mut f32,
    /// The rows and the positions of each, and the step from row to row in `x`; in the target it is `step`.
    pub over: Rows,
    pub step: usize,
}

impl Plane<'_> {
    /// The positions of a row from `first` on, `C` registers of them, of which the last may begin among those before it.
    ///
    /// # Safety
    /// As [`Vectors::plane`]; a row has so many positions, or room for a register where it has fewer.
    #[inline(always)]
    unsafe fn registers<S: Simd, const C: usize>(
        &self,
        simd: S,
        (x, to): (*const f32, *mut f32),
        first: usize,
    ) {
        let last = self.over.columns.saturating_sub(S::F32_LANES);
        let mut sums = [simd.splat_f32s(self.bias); C];
        for (offset, w) in self.offsets.iter().zip(self.w) {
            let factor = simd.splat_f32s(*w);
            for (c, sum) in sums.iter_mut().enumerate() {
                let at = (first + c * S::F32_LANES).min(last);
                // SAFETY: promised by the caller.
                let x = unsafe { x.add(offset + at).cast::<S::f32s>().read_unaligned() };
                *sum = simd.mul_add_e_f32s(factor, x, *sum);
            }
        }
        for (c, sum) in sums.iter().enumerate() {
            let at = (first + c * S::F32_LANES).min(last);
            // SAFETY: promised by the caller.
            unsafe { to.add(at).cast::<S::f32s>().write_unaligned(*sum) };
        }
    }
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (columns, lanes) = (self.over.columns, S::F32_LANES);
        let mut held = [0.0f32; 64];
        let narrow = columns < lanes.min(held.len());
        for row in 0..self.over.rows {
            let x = self.x.wrapping_add(row * self.over.row);
            let to = self.to.wrapping_add(row * self.step);
            let into = if narrow { held.as_mut_ptr() } else { to };
            for first in (0..columns).step_by(ALONG * lanes) {
                // SAFETY: promised by the caller; a row of fewer positions than a register goes where there is room for one.
                unsafe {
                    match (columns - first).div_ceil(lanes) {
                        1 => self.registers::<S, 1>(simd, (x, into), first),
                        2 => self.registers::<S, 2>(simd, (x, into), first),
                        3 => self.registers::<S, 3>(simd, (x, into), first),
                        _ => self.registers::<S, ALONG>(simd, (x, into), first),
                    }
                }
            }
            if narrow {
                // SAFETY: promised by the caller.
                unsafe { std::ptr::copy_nonoverlapping(held.as_ptr(), to, columns) };
            }
        }
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
            // SAFETY: `Vectors::spread` promised a row of weights for each offset, and `P` positions from each offset on.
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
            // SAFETY: `Vectors::spread` promised room for the tile.
            unsafe {
                self.to
                    .add(index * lanes)
                    .cast::<S::f32s>()
                    .write_unaligned(*sum)
            };
        }
    }
}

/// The most channels of a tile whose registers hold positions, and the most registers of positions of one: where there are many
/// registers, and where there are few.
const BESIDE: usize = 8;
const LONG: usize = 3;
const FEW_BESIDE: usize = 6;
const FEW_LONG: usize = 2;

/// Sums of neighbouring positions of some channels, registers of positions: `to[o * plane + p] = bias[o] + sum over k of
/// w[k * width + o] x[offsets[k] + p]`.
pub(crate) struct Beside<'a> {
    pub offsets: &'a [usize],
    pub x: *const f32,
    /// A row of weights for each offset, and the channels of one.
    pub w: *const f32,
    pub width: usize,
    pub bias: Option<&'a [f32]>,
    pub to: *mut f32,
    /// The step from channel to channel in the target.
    pub plane: usize,
    /// At least a register.
    pub positions: usize,
    pub channels: usize,
}

impl Beside<'_> {
    /// The positions from `first` on of `O` channels, `C` registers of them, of which the last may begin among those before it.
    ///
    /// # Safety
    /// As [`Vectors::beside`].
    #[inline(always)]
    unsafe fn registers<S: Simd, const O: usize, const C: usize>(
        &self,
        simd: S,
        channel: usize,
        first: usize,
    ) {
        let lanes = S::F32_LANES;
        let last = self.positions - lanes;
        let mut sums = [[simd.splat_f32s(0.0); C]; O];
        let mut w = self.w.wrapping_add(channel);
        for offset in self.offsets {
            // SAFETY: promised by the caller.
            unsafe {
                let x = self.x.add(*offset);
                let positions: [S::f32s; C] = std::array::from_fn(|c| {
                    let at = (first + c * lanes).min(last);
                    x.add(at).cast::<S::f32s>().read_unaligned()
                });
                for (o, sums) in sums.iter_mut().enumerate() {
                    let factor = simd.splat_f32s(*w.add(o));
                    for (sum, x) in sums.iter_mut().zip(positions) {
                        *sum = simd.mul_add_e_f32s(factor, x, *sum);
                    }
                }
            }
            w = w.wrapping_add(self.width);
        }
        for (o, sums) in sums.iter().enumerate().take(self.channels - channel) {
            let bias = self.bias.map_or(0.0, |bias| bias[channel + o]);
            let bias = simd.splat_f32s(bias);
            for (c, sum) in sums.iter().enumerate() {
                let at = (channel + o) * self.plane + (first + c * lanes).min(last);
                // SAFETY: promised by the caller.
                unsafe {
                    let to = self.to.add(at).cast::<S::f32s>();
                    to.write_unaligned(simd.add_f32s(*sum, bias));
                }
            }
        }
    }

    /// The line of `O` channels from `channel` on, in tiles of up to `C` registers.
    ///
    /// # Safety
    /// As [`Vectors::beside`], with so many weights from the channel on.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const O: usize, const C: usize>(&self, simd: S, channel: usize) {
        let registers = self.positions.div_ceil(S::F32_LANES);
        let tiles = registers.div_ceil(C);
        for tile in 0..tiles {
            let (first, end) = (registers * tile / tiles, registers * (tile + 1) / tiles);
            let at = first * S::F32_LANES;
            // SAFETY: promised by the caller.
            unsafe {
                match end - first {
                    1 => self.registers::<S, O, 1>(simd, channel, at),
                    2 => self.registers::<S, O, 2>(simd, channel, at),
                    _ => self.registers::<S, O, C>(simd, channel, at),
                }
            }
        }
    }
}

impl WithSimd for Beside<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            for channel in (0..self.channels).step_by(BESIDE) {
                // SAFETY: promised by the caller.
                unsafe { self.tiles::<S, BESIDE, LONG>(simd, channel) };
            }
            return;
        }
        // As even as can be: a panel of two registers is five, five and six channels.
        let parts = self.channels.div_ceil(FEW_BESIDE);
        for part in 0..parts {
            let channel = self.channels * part / parts;
            // SAFETY: promised by the caller; where a tile of four has fewer channels, a row of weights has four from its first on.
            unsafe {
                match self.channels * (part + 1) / parts - channel {
                    FEW_BESIDE => self.tiles::<S, FEW_BESIDE, FEW_LONG>(simd, channel),
                    5 => self.tiles::<S, 5, FEW_LONG>(simd, channel),
                    _ => self.tiles::<S, 4, FEW_LONG>(simd, channel),
                }
            }
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
                // SAFETY: `Vectors::gather` promised the positions of each row from each offset on, and a vector tile of `dy` for each.
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
                // SAFETY: `Vectors::gather` promised a row of sums for each offset.
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

impl Vectors {
    /// The sums of a tile of `count` positions, up to [`Self::most`], rounded up to an even number, of which the last is no use.
    ///
    /// # Safety
    /// `w` must have a row of [`Self::width`] for each offset, `to` room for such rows of all positions (rounded up), and each
    /// offset as many positions of `x` from it on.
    pub unsafe fn spread(
        self,
        count: usize,
        offsets: &[usize],
        x: *const f32,
        w: *const f32,
        to: *mut f32,
    ) {
        with_positions!(count, P => self.run(Spread::<P> { offsets, x, w, to }); 2 4 6 8 10 12 14);
    }

    /// The sums of `count` positions of one channel, up to [`Self::reach`], rounded up to whole registers.
    ///
    /// # Safety
    /// Each offset must have as many positions of `x` from it on, and `to` room for them.
    pub unsafe fn along(
        self,
        count: usize,
        offsets: &[usize],
        x: *const f32,
        w: &[f32],
        to: *mut f32,
    ) {
        match count.div_ceil(self.lanes) {
            1 => self.run(Along::<1> { offsets, x, w, to }),
            2 => self.run(Along::<2> { offsets, x, w, to }),
            3 => self.run(Along::<3> { offsets, x, w, to }),
            _ => self.run(Along::<ALONG> { offsets, x, w, to }),
        }
    }

    /// All rows of a plane of one channel.
    ///
    /// # Safety
    /// Each offset must have the positions of each row, and a register of them at least, of `x` from it on, and the rows of the
    /// target must be writable.
    pub unsafe fn plane(self, plane: Plane<'_>) {
        self.run(plane);
    }

    /// Whether tiles of registers of positions leave few lanes of a line idle.
    pub fn fit_beside(self, positions: usize) -> bool {
        let whole = positions.next_multiple_of(self.lanes);
        positions >= self.lanes && (whole - positions) * 16 <= whole
    }

    /// The sums of a line of some channels.
    ///
    /// # Safety
    /// Each offset must have the positions of `x` from it on, and a row of weights for [`Self::width`] channels, of which the
    /// line has as many or fewer; the targets must be writable.
    pub unsafe fn beside(self, line: Beside<'_>) {
        self.run(line);
    }

    /// Adds to the sums of up to [`Self::most`] offsets.
    ///
    /// # Safety
    /// Each offset must have all rows' positions of `x` from it on, `dy` a row of [`Self::width`] for each position, and `to`
    /// one for each offset.
    pub unsafe fn gather(
        self,
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
        with_positions!(offsets.len(), P => self.run(Gather::<P> { offsets, rows, columns, row, x, dy, to }); 2 4 6 8 10 12 14);
    }
}

/// Rows of positions that products are summed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub rows: usize,
    pub columns: usize,
    /// The step from row to row in `x`; in `dy` they follow each other.
    pub row: usize,
}

/// Four positions of four channels, turned: `to[c][p] = from[p][c] + bias[c]`, with steps `from_row` and `to_row`.
///
/// # Safety
/// Four rows of four numbers must be readable and writable.
#[inline(always)]
pub(crate) unsafe fn turn_four(
    from: *const f32,
    from_row: usize,
    bias: &[f32; 4],
    to: *mut f32,
    to_row: usize,
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE; the rest is promised by the caller.
    unsafe {
        use std::arch::x86_64::*;
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| _mm_loadu_ps(from.add(row * from_row)));
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        let rows = [
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(ab_high, cd_high),
            _mm_movehl_ps(cd_high, ab_high),
        ];
        for (row, (sums, bias)) in rows.into_iter().zip(bias).enumerate() {
            _mm_storeu_ps(to.add(row * to_row), _mm_add_ps(sums, _mm_set1_ps(*bias)));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    for (channel, bias) in bias.iter().enumerate() {
        for position in 0..4 {
            // SAFETY: promised by the caller.
            unsafe {
                *to.add(channel * to_row + position) =
                    *from.add(position * from_row + channel) + bias;
            }
        }
    }
}
