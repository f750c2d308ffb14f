//! Convolutions in `f32` with kernels of three by three, by Winograd's minimal filtering: 16 products give two by two targets,
//! where their windows have 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", F(2x2, 3x3)).
//!
//! Knows tiles and the transforms of sources, weights and sums. Must not know shape rules.
//!
//! A tile of targets is made of four by four sources. Sums and differences of those are multiplied by transformed weights, channel
//! by channel: a matrix product for each of the 16 places. A source that is not finite spoils all targets of its tiles, and
//! sums can overflow that no window has: then the caller has to go the plain way.

use std::sync::atomic::{AtomicBool, Ordering};

use pulp::{Simd, WithSimd};

use super::alloc::{collected, workspace};
use super::conv::Geometry;
use super::conv_tile::Vectors;
use super::dense::{Start, chunks};
use super::{par, simd};
use crate::error::Result;

/// The places of a transformed tile, and of a transformed kernel.
pub(super) const PLACES: usize = 16;
/// The taps of a kernel.
pub(super) const TAPS: usize = 9;
/// Fewer channels than this, read or written, do not make up for the transforms.
const FEWEST: usize = 24;
/// The most tiles of a panel, and the sources in a line of so many tiles.
const MOST: usize = 32;
pub(super) const LINE: usize = 2 * MOST + 2;

/// What is read and written: a plain convolution, or its way back to the input, which is one with turned weights.
pub(crate) struct Winograd<'a> {
    pub(super) op: &'static str,
    pub(super) of: &'a Geometry,
    pub(super) vectors: Vectors,
    /// Channels of a group.
    pub(super) reads: usize,
    pub(super) writes: usize,
    /// Rows and columns.
    source: [usize; 2],
    pub(super) target: [usize; 2],
    padding: [usize; 2],
    /// Steps in the weight from channel to channel that is written or read, and whether its taps are read backwards.
    write_step: usize,
    read_step: usize,
    backwards: bool,
}

/// Neighbouring tiles of a line in a panel: which line, the first of them, how many, and their place in the panel.
pub(super) struct Piece {
    pub sample: usize,
    pub row: usize,
    pub column: usize,
    pub count: usize,
    pub at: usize,
}

impl<'a> Winograd<'a> {
    /// A plain convolution, if it is one for this.
    pub fn forward(op: &'static str, of: &'a Geometry, vectors: Vectors) -> Option<Self> {
        let [_, rows, columns] = of.padding;
        let all = Winograd {
            op,
            of,
            vectors,
            reads: of.inputs,
            writes: of.outputs,
            source: [of.input[1], of.input[2]],
            target: [of.output[1], of.output[2]],
            padding: [rows, columns],
            write_step: of.inputs * TAPS,
            read_step: TAPS,
            backwards: false,
        };
        all.pays().then_some(all)
    }

    /// The way back to the input, if it is one for this.
    pub fn backward(op: &'static str, of: &'a Geometry, vectors: Vectors) -> Option<Self> {
        let [_, rows, columns] = of.padding;
        let all = Winograd {
            op,
            of,
            vectors,
            reads: of.outputs,
            writes: of.inputs,
            source: [of.output[1], of.output[2]],
            target: [of.input[1], of.input[2]],
            padding: [2usize.checked_sub(rows)?, 2usize.checked_sub(columns)?],
            write_step: TAPS,
            read_step: of.inputs * TAPS,
            backwards: true,
        };
        all.pays().then_some(all)
    }

    /// Whether the kernel has the right form, and there are channels and tiles enough.
    fn pays(&self) -> bool {
        let of = self.of;
        let plain = of.kernel == [1, 3, 3] && of.stride == [1; 3] && of.dilation == [1; 3];
        let flat = of.input[0] == 1 && of.padding[0] == 0;
        let panel = of.batch
            * self
                .target
                .map(|size| size.div_ceil(2))
                .iter()
                .product::<usize>();
        plain && flat && self.reads.min(self.writes) >= FEWEST && panel >= self.vectors.width()
    }

    /// Writes all targets; false if some of them came out not finite.
    pub fn run(
        &self,
        source: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        target: &mut [f32],
    ) -> Result<bool> {
        match self.vectors.width() {
            32 => self.panels::<32>(source, w, bias, target),
            16 => self.panels::<16>(source, w, bias, target),
            8 => self.panels::<8>(source, w, bias, target),
            _ => Ok(false),
        }
    }

    fn panels<const N: usize>(
        &self,
        source: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        target: &mut [f32],
    ) -> Result<bool> {
        let high = self.vectors.fitting(self.writes);
        let slots = self.writes.div_ceil(high);
        let weights = self.weights(w, high)?;
        let offsets = collected(self.op, (0..self.reads).map(|channel| channel * high))?;
        let deep = PLACES * self.reads * high;
        let panels = self.tiles().div_ceil(N);
        let items = self.of.groups * panels;
        // Few panels are shared out by channels too, each time transformed anew.
        let parts = (2 * par::threads()).div_ceil(items.max(1)).clamp(1, slots);
        let (strange, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let start = Start::of(target);
        par::ranges(items * parts, 1, |range| {
            let (Ok(mut turned), Ok(mut sums)) = (
                workspace::<f32>(self.op, 0.0, PLACES * (self.reads + 1) * N),
                workspace::<f32>(self.op, 0.0, PLACES * high * N),
            ) else {
                return failed.store(true, Ordering::Relaxed);
            };
            let (mut filled, mut pieces, mut lines) = (usize::MAX, Vec::new(), Vec::new());
            let (mut two, mut probe) = ([[0.0; 2 * MOST]; 2], [0.0; N]);
            for item in range {
                let (item, part) = (item / parts, item % parts);
                let (group, panel) = (item / panels, item % panels);
                if filled != item {
                    pieces = self.pieces(panel * N, N);
                    lines.clear();
                    lines.resize(pieces.len(), [[0.0; LINE]; 4]);
                    self.vectors.run(Sources::<N> {
                        all: self,
                        pieces: &pieces,
                        group,
                        from: source,
                        lines: &mut lines,
                        to: &mut turned,
                    });
                    filled = item;
                }
                for slot in slots * part / parts..slots * (part + 1) / parts {
                    let w = &weights[(group * slots + slot) * deep..][..deep];
                    self.products::<N>(&offsets, w, &turned, &mut sums);
                    let first = group * self.writes + slot * high;
                    for lane in 0..high.min(self.writes - slot * high) {
                        self.vectors.run(Targets::<N> {
                            sums: &sums[lane * N..],
                            step: high * N,
                            bias: bias.map_or(0.0, |bias| bias[first + lane]),
                            lines: &mut two,
                            probe: &mut probe,
                        });
                        // SAFETY: the panel's tiles and the part's channels are this item's alone.
                        unsafe { self.store(&pieces, first + lane, &two, &start) };
                    }
                }
            }
            // What is not finite times zero is not zero.
            if probe.iter().any(|sum| sum.is_nan()) {
                strange.store(true, Ordering::Relaxed);
            }
        });
        if failed.into_inner() {
            // The plain way needs less memory.
            return Ok(false);
        }
        Ok(!strange.into_inner())
    }

    /// The sums over the channels that are read, for the channels of a slot: `[place][channel][tile]`.
    fn products<const N: usize>(&self, offsets: &[usize], w: &[f32], x: &[f32], sums: &mut [f32]) {
        let high = w.len() / (PLACES * self.reads);
        let places = w.chunks_exact(self.reads * high);
        for ((w, x), sums) in places
            .zip(x.chunks_exact((self.reads + 1) * N))
            .zip(sums.chunks_exact_mut(high * N))
        {
            // SAFETY: `x` has a row of tiles for each offset, `sums` one for each of the `high` channels, and `w` as many
            // weights from each offset on.
            unsafe {
                self.vectors
                    .spread(high, offsets, w.as_ptr(), x.as_ptr(), sums.as_mut_ptr())
            };
        }
    }

    /// The rows and columns of tiles of a plane.
    fn grid(&self) -> [usize; 2] {
        self.target.map(|size| size.div_ceil(2))
    }

    pub(super) fn tiles(&self) -> usize {
        self.of.batch * self.grid().iter().product::<usize>()
    }

    /// The tiles from number `first` on, up to `count`.
    pub(super) fn pieces(&self, first: usize, count: usize) -> Vec<Piece> {
        let [rows, columns] = self.grid();
        let (mut pieces, mut tile) = (Vec::new(), first);
        let end = self.tiles().min(first + count);
        while tile < end {
            let (line, column) = (tile / columns, tile % columns);
            let count = (columns - column).min(end - tile);
            pieces.push(Piece {
                sample: line / rows,
                row: line % rows,
                column,
                count,
                at: tile - first,
            });
            tile += count;
        }
        pieces
    }

    /// The transformed weights: `[group][slot of channels that are written][place][channel that is read][channel of the slot]`.
    fn weights(&self, w: &[f32], high: usize) -> Result<Vec<f32>> {
        let slots = self.writes.div_ceil(high);
        let deep = PLACES * self.reads * high;
        let mut packed = workspace(self.op, 0.0, self.of.groups * slots * deep)?;
        chunks(&mut packed, deep, 1, |index, to| {
            let (group, first) = (index / slots, index % slots * high);
            let w = &w[group * self.reads * self.writes * TAPS..];
            for lane in 0..high.min(self.writes - first) {
                let w = &w[(first + lane) * self.write_step..];
                for channel in 0..self.reads {
                    let kernel = kernel(&w[channel * self.read_step..][..TAPS], self.backwards);
                    for (to, value) in to.chunks_exact_mut(self.reads * high).zip(kernel) {
                        to[channel * high + lane] = value;
                    }
                }
            }
        });
        Ok(packed)
    }

    /// # Safety
    /// Nobody else may write the targets of the pieces in this channel (of all groups).
    unsafe fn store(
        &self,
        pieces: &[Piece],
        channel: usize,
        lines: &[[f32; 2 * MOST]; 2],
        start: &Start<f32>,
    ) {
        let [rows, columns] = self.target;
        for piece in pieces {
            let plane = (piece.sample * self.of.groups * self.writes + channel) * rows * columns;
            let count = (2 * piece.count).min(columns - 2 * piece.column);
            for (row, line) in (2 * piece.row..rows).zip(lines) {
                // SAFETY: the range lies in a line of the target; the rest is promised by the caller.
                let to = unsafe { start.range(plane + row * columns + 2 * piece.column, count) };
                to.copy_from_slice(&line[2 * piece.at..][..count]);
            }
        }
    }
}

/// The transform of a kernel.
#[inline(always)]
fn kernel(w: &[f32], backwards: bool) -> [f32; PLACES] {
    let (mut taps, mut half, mut places) = ([0.0; TAPS], [0.0; 12], [0.0; PLACES]);
    for (index, tap) in taps.iter_mut().enumerate() {
        *tap = w[if backwards { TAPS - 1 - index } else { index }];
    }
    for column in 0..3 {
        let (a, b, c) = (taps[column], taps[column + 3], taps[column + 6]);
        half[column] = a;
        half[column + 3] = 0.5 * (a + b + c);
        half[column + 6] = 0.5 * (a - b + c);
        half[column + 9] = c;
    }
    for row in 0..4 {
        let (a, b, c) = (half[3 * row], half[3 * row + 1], half[3 * row + 2]);
        places[4 * row] = a;
        places[4 * row + 1] = 0.5 * (a + b + c);
        places[4 * row + 2] = 0.5 * (a - b + c);
        places[4 * row + 3] = c;
    }
    places
}

/// The transform of a panel's sources: `[place][channel][tile]`, with a line to spare at each place.
pub(super) struct Sources<'a, const N: usize> {
    pub all: &'a Winograd<'a>,
    pub pieces: &'a [Piece],
    pub group: usize,
    pub from: &'a [f32],
    /// Four lines for each piece, zero where no source lies.
    pub lines: &'a mut [[[f32; LINE]; 4]],
    pub to: &'a mut [f32],
}

impl<const N: usize> WithSimd for Sources<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let all = self.all;
        let [rows, columns] = all.source;
        let (size, nothing, step) = (rows * columns, [0.0; LINE], (all.reads + 1) * N);
        for channel in 0..all.reads {
            for (piece, lines) in self.pieces.iter().zip(&mut *self.lines) {
                let plane = (piece.sample * all.of.groups + self.group) * all.reads + channel;
                let plane = &self.from[plane * size..][..size];
                let (top, left) = (2 * piece.row, 2 * piece.column);
                // The columns of the lines that lie in the source; the others stay zero.
                let low = all.padding[1].saturating_sub(left);
                let first = left + low - all.padding[1];
                let count = (2 * piece.count + 2)
                    .saturating_sub(low)
                    .min(columns.saturating_sub(first));
                let mut four = [&nothing[..count]; 4];
                for (index, line) in four.iter_mut().enumerate() {
                    let row = (top + index).wrapping_sub(all.padding[0]);
                    if row < rows {
                        *line = &plane[row * columns + first..][..count];
                        // The same line of the channel after the next.
                        let ahead = line.as_ptr().wrapping_add(2 * size);
                        simd::prefetch(ahead.cast(), count * size_of::<f32>());
                    }
                }
                down(&four, lines, low, count);
                for (row, line) in lines.iter().enumerate() {
                    let to = &mut self.to[4 * row * step + channel * N + piece.at..];
                    across::<N>(line, to, step);
                }
            }
        }
    }
}

/// Sums and differences of four lines of the source, from column `low` on.
#[inline(always)]
fn down(from: &[&[f32]; 4], to: &mut [[f32; LINE]; 4], low: usize, count: usize) {
    match count {
        16.. => down_by::<16>(from, to, low, count),
        4.. => down_by::<4>(from, to, low, count),
        _ => down_by::<1>(from, to, low, count),
    }
}

/// So many columns at a time; the last ones partly anew.
#[inline(always)]
fn down_by<const L: usize>(
    from: &[&[f32]; 4],
    to: &mut [[f32; LINE]; 4],
    low: usize,
    count: usize,
) {
    let [a, b, c, d] = from;
    let [e, f, g, h] = to;
    let mut first = 0;
    while first < count {
        let at = first.min(count - L);
        let (a, b, c, d) = (&a[at..][..L], &b[at..][..L], &c[at..][..L], &d[at..][..L]);
        let to = low + at;
        let (e, f) = (&mut e[to..][..L], &mut f[to..][..L]);
        let (g, h) = (&mut g[to..][..L], &mut h[to..][..L]);
        for lane in 0..L {
            e[lane] = a[lane] - c[lane];
            f[lane] = b[lane] + c[lane];
            g[lane] = c[lane] - b[lane];
            h[lane] = b[lane] - d[lane];
        }
        first += L;
    }
}

/// Sums and differences of four neighbours in a line, for each of its tiles; the four places lie `step` apart. What lies past
/// a piece's tiles is written anew by the next piece or channel.
#[inline(always)]
fn across<const N: usize>(line: &[f32; LINE], to: &mut [f32], step: usize) {
    let mut four = [[0.0; N]; 4];
    let line = &line[..2 * N + 2];
    for tile in 0..N {
        let (a, b) = (line[2 * tile], line[2 * tile + 1]);
        let (c, d) = (line[2 * tile + 2], line[2 * tile + 3]);
        four[0][tile] = a - c;
        four[1][tile] = b + c;
        four[2][tile] = c - b;
        four[3][tile] = b - d;
    }
    for (place, values) in four.iter().enumerate() {
        to[place * step..][..N].copy_from_slice(values);
    }
}

/// The two lines of targets of a panel's tiles in a channel, of sums that lie `step` apart from place to place.
struct Targets<'a, const N: usize> {
    sums: &'a [f32],
    step: usize,
    bias: f32,
    lines: &'a mut [[f32; 2 * MOST]; 2],
    /// Becomes NaN where a target is not finite: zero times that is not zero.
    probe: &'a mut [f32; N],
}

impl<const N: usize> WithSimd for Targets<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let (mut above, mut below) = ([[0.0f32; N]; 4], [[0.0f32; N]; 4]);
        for column in 0..4 {
            let a = &self.sums[column * self.step..][..N];
            let b = &self.sums[(column + 4) * self.step..][..N];
            let c = &self.sums[(column + 8) * self.step..][..N];
            let d = &self.sums[(column + 12) * self.step..][..N];
            for tile in 0..N {
                above[column][tile] = a[tile] + b[tile] + c[tile];
                below[column][tile] = b[tile] - c[tile] - d[tile];
            }
        }
        for (line, [a, b, c, d]) in self.lines.iter_mut().zip([&above, &below]) {
            let line = &mut line[..2 * N];
            for tile in 0..N {
                let left = a[tile] + b[tile] + c[tile] + self.bias;
                let right = b[tile] - c[tile] - d[tile] + self.bias;
                line[2 * tile] = left;
                line[2 * tile + 1] = right;
                self.probe[tile] += 0.0 * (left + right);
            }
        }
    }
}
