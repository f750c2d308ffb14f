//! Passes of a convolution in `f32`: which source positions each target position sums, and in which blocks.
//!
//! Knows axes, taps, blocks and the packing of weights and source boxes. Must not know vectors.

use std::ops::Range;

use smallvec::SmallVec;

use super::alloc::room;
use super::conv::Geometry;
use crate::error::Result;

/// Target positions of one dim that sum the same taps, and where those lie in the source.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// Target position `first + i * apart` for `i` in `0..count`.
    pub count: usize,
    pub first: usize,
    pub apart: usize,
    /// Tap `(index, reach)` of it is at source position `i * step + reach`.
    pub step: usize,
    pub taps: Vec<(usize, isize)>,
    /// The source's size.
    pub size: usize,
}

impl Axis {
    /// All that a plain convolution writes.
    fn forward(of: &Geometry, axis: usize) -> Self {
        let reach = |tap: usize| (tap * of.dilation[axis]) as isize - of.padding[axis] as isize;
        Axis {
            count: of.output[axis],
            first: 0,
            apart: 1,
            step: of.stride[axis],
            taps: (0..of.kernel[axis]).map(|tap| (tap, reach(tap))).collect(),
            size: of.input[axis],
        }
    }

    /// The way back to the input, whose positions fall into as many phases as the stride has steps.
    fn backward(of: &Geometry, axis: usize) -> Vec<Self> {
        let step = of.stride[axis];
        let phase = |phase: usize| {
            let reach = |tap: usize| {
                let place =
                    (phase + of.padding[axis]) as isize - (tap * of.dilation[axis]) as isize;
                (place.rem_euclid(step as isize) == 0)
                    .then(|| (tap, place.div_euclid(step as isize)))
            };
            Axis {
                count: (of.input[axis] - phase).div_ceil(step),
                first: phase,
                apart: step,
                step: 1,
                taps: (0..of.kernel[axis]).filter_map(reach).collect(),
                size: of.output[axis],
            }
        };
        (0..step.min(of.input[axis])).map(phase).collect()
    }

    /// The least reach, and how many positions lie from it to the greatest.
    fn span(&self) -> (isize, usize) {
        let reaches = || self.taps.iter().map(|(_, reach)| *reach);
        let low = reaches().min().unwrap_or(0);
        (low, (reaches().max().unwrap_or(0) - low) as usize + 1)
    }
}

/// One pass: every target position of its axes sums its taps over the channels of its group.
#[derive(Debug)]
pub(crate) struct Pass {
    pub axes: [Axis; 3],
    /// Channels of a group that are read and written.
    pub reads: usize,
    pub writes: usize,
    /// Sizes of the target's planes.
    pub target: [usize; 3],
    /// Steps in the weight from channel to channel that is written or read.
    pub write_step: usize,
    pub read_step: usize,
    pub taps: usize,
    /// Rows and columns of a block.
    pub rows: usize,
    pub columns: usize,
}

/// The numbers of a box of the source.
const BOX: usize = 64 * 1024;
/// The most numbers of a box: those of one line of many channels.
const LARGEST: usize = 8 * 1024 * 1024;
/// The most phases of strides that are worth passes.
const PHASES: usize = 4096;
/// The most columns of a block.
const COLUMNS: usize = 504;
/// Blocks that a call is cut into at least, where there are so many rows.
const BLOCKS: usize = 16;

impl Pass {
    /// The pass of a plain convolution.
    pub fn forward(of: &Geometry) -> Self {
        let axes = [0, 1, 2].map(|axis| Axis::forward(of, axis));
        let (reads, writes, taps) = (of.inputs, of.outputs, of.taps());
        Pass::new(axes, (reads, writes), of.output, (reads * taps, taps), of)
    }

    /// The passes back to the input, one for each phase of the strides; none if there are too many.
    pub fn backward(of: &Geometry) -> Option<Vec<Self>> {
        let phases = (0..3).map(|axis| of.stride[axis].min(of.input[axis]));
        if phases.fold(1, usize::saturating_mul) > PHASES {
            return None;
        }
        let [depths, rows, columns] = [0, 1, 2].map(|axis| Axis::backward(of, axis));
        let (reads, writes, taps) = (of.outputs, of.inputs, of.taps());
        let mut passes = Vec::new();
        for depth in &depths {
            for row in &rows {
                for column in &columns {
                    let axes = [depth.clone(), row.clone(), column.clone()];
                    let steps = (taps, writes * taps);
                    passes.push(Pass::new(axes, (reads, writes), of.input, steps, of));
                }
            }
        }
        Some(passes)
    }

    fn new(
        axes: [Axis; 3],
        (reads, writes): (usize, usize),
        target: [usize; 3],
        (write_step, read_step): (usize, usize),
        of: &Geometry,
    ) -> Self {
        let mut pass = Pass {
            axes,
            reads,
            writes,
            target,
            write_step,
            read_step,
            taps: of.taps(),
            rows: 1,
            columns: 1,
        };
        let (count, least) = (pass.axes[2].count, pass.axes[2].count.div_ceil(COLUMNS));
        pass.columns = count.div_ceil(least.max(1)).max(1);
        let line = pass
            .line()
            .saturating_mul(reads)
            .saturating_mul(pass.depth());
        let (step, span) = (pass.axes[1].step, pass.axes[1].span().1);
        let fit = ((BOX / line.max(1)).saturating_sub(span) / step).max(1);
        let others = of.batch * of.groups * pass.axes[0].count * least;
        let share = pass.axes[1].count.div_ceil(BLOCKS.div_ceil(others.max(1)));
        pass.rows = fit.min(share).max(1);
        pass
    }

    /// The depth of a box.
    fn depth(&self) -> usize {
        self.axes[0].span().1
    }

    /// The rows of a box.
    fn height(&self) -> usize {
        (self.rows - 1) * self.axes[1].step + self.axes[1].span().1
    }

    /// The columns of a box of one phase of the step; a box's line has the phases one after the other, so that neighbouring
    /// targets always have neighbouring sources.
    fn phase(&self) -> usize {
        ((self.columns - 1) * self.axes[2].step + self.axes[2].span().1).div_ceil(self.axes[2].step)
    }

    /// The numbers of a line of a box.
    fn line(&self) -> usize {
        self.phase() * self.axes[2].step
    }

    /// The step in a box between two rows of targets.
    pub fn row_step(&self) -> usize {
        self.axes[1].step * self.line()
    }

    /// The numbers of a box of some channels, with room to read a tile past its end.
    pub fn box_size(&self, channels: usize) -> usize {
        let plane = self.depth().saturating_mul(self.height());
        let all = plane.saturating_mul(self.line()).saturating_mul(channels);
        all.saturating_add(super::conv_tile::SLACK)
    }

    /// Whether a box of all channels is of a reasonable size: taps may be far apart.
    pub fn is_compact(&self) -> bool {
        self.box_size(self.reads) <= LARGEST
    }

    /// Where each channel's each tap lies in a box, relative to the first target's row and column.
    pub fn offsets(&self, op: &'static str, channels: usize) -> Result<Vec<usize>> {
        let (phase, step) = (self.phase(), self.axes[2].step);
        let [depths, rows, columns] = [0, 1, 2].map(|axis| {
            let low = self.axes[axis].span().0;
            self.axes[axis]
                .taps
                .iter()
                .map(move |(_, reach)| (reach - low) as usize)
        });
        let mut offsets = room(op, channels * self.own_taps())?;
        for channel in 0..channels {
            for depth in depths.clone() {
                for row in rows.clone() {
                    let line = (channel * self.depth() + depth) * self.height() + row;
                    for column in columns.clone() {
                        offsets.push(line * self.line() + column % step * phase + column / step);
                    }
                }
            }
        }
        Ok(offsets)
    }

    /// The taps that this pass sums.
    pub fn own_taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.taps.len()).product()
    }

    /// Their places in the weight's kernel, in the order of [`Self::offsets`].
    pub fn places(&self, op: &'static str, kernel: [usize; 3]) -> Result<Vec<usize>> {
        let mut places = room(op, self.own_taps())?;
        for (depth, _) in &self.axes[0].taps {
            for (row, _) in &self.axes[1].taps {
                for (column, _) in &self.axes[2].taps {
                    places.push((depth * kernel[1] + row) * kernel[2] + column);
                }
            }
        }
        Ok(places)
    }

    /// The blocks of one sample and group: depth, rows and columns.
    pub fn blocks(&self) -> [usize; 3] {
        let [depth, rows, columns] = [0, 1, 2].map(|axis| self.axes[axis].count);
        [
            depth,
            rows.div_ceil(self.rows),
            columns.div_ceil(self.columns),
        ]
    }

    /// Block number `index`: its depth, and its ranges of rows and columns, as positions of the axes.
    pub fn block(&self, index: usize) -> (usize, Range<usize>, Range<usize>) {
        let [_, rows, columns] = self.blocks();
        let range =
            |index: usize, size: usize, count: usize| index * size..((index + 1) * size).min(count);
        (
            index / (rows * columns),
            range(index / columns % rows, self.rows, self.axes[1].count),
            range(index % columns, self.columns, self.axes[2].count),
        )
    }

    /// Copies a block's source positions into a box: for each channel plane, zeros where the source ends.
    pub fn fill_box<'a>(
        &self,
        planes: impl Iterator<Item = &'a [f32]>,
        (depth, rows, columns): (usize, &Range<usize>, &Range<usize>),
        to: &mut [f32],
    ) {
        let [z, y, x] = &self.axes;
        let (deep, high, line) = (self.depth(), self.height(), self.line());
        let needed = (rows.len().max(1) - 1) * y.step + y.span().1;
        let (front, top) = (
            (depth * z.step) as isize + z.span().0,
            (rows.start * y.step) as isize + y.span().0,
        );
        let left = (columns.start * x.step) as isize + x.span().0;
        let parts = Parts::of(left, x.step, x.size, line);
        for (plane, to) in planes.zip(to.chunks_exact_mut(deep * high * line)) {
            for (z_at, to) in to.chunks_exact_mut(high * line).enumerate() {
                for (y_at, to) in to.chunks_exact_mut(line).take(needed).enumerate() {
                    let (z_at, y_at) = (front + z_at as isize, top + y_at as isize);
                    let inside = (0..z.size as isize).contains(&z_at)
                        && (0..y.size as isize).contains(&y_at);
                    if !inside {
                        to.fill(0.0);
                        continue;
                    }
                    let from = (z_at as usize * y.size + y_at as usize) * x.size;
                    parts.fill(&plane[from..from + x.size], to);
                }
            }
        }
    }
}

/// How the positions `left, left + 1, ..` of a line come into one of a box, phase by phase of `step`.
struct Parts {
    step: usize,
    /// The numbers of a phase.
    length: usize,
    /// For each phase the places in it that have a position in the source, and the first of those positions.
    inside: SmallVec<[(Range<usize>, usize); 4]>,
}

impl Parts {
    fn of(left: isize, step: usize, size: usize, line: usize) -> Self {
        let length = line / step;
        let inside = |phase: usize| {
            let first = left + phase as isize;
            // The places `i` whose positions `first + i * step` lie inside.
            let low = first.min(0).unsigned_abs().div_ceil(step).min(length);
            let high = (size as isize - first).max(0) as usize;
            let high = high.div_ceil(step).clamp(low, length);
            (low..high, (first + (low * step) as isize).max(0) as usize)
        };
        Parts {
            step,
            length,
            inside: (0..step).map(inside).collect(),
        }
    }

    /// Fills a line, with zeros where the source has no position.
    #[inline(always)]
    fn fill(&self, from: &[f32], to: &mut [f32]) {
        for ((inside, start), to) in self
            .inside
            .iter()
            .zip(to.chunks_exact_mut(self.length.max(1)))
        {
            for number in &mut to[..inside.start] {
                *number = 0.0;
            }
            for number in &mut to[inside.end..] {
                *number = 0.0;
            }
            let to = &mut to[inside.clone()];
            if to.is_empty() {
                continue;
            }
            let from = &from[*start..];
            match self.step {
                1 => to.copy_from_slice(&from[..to.len()]),
                2 => {
                    // As pairs, which the compiler takes apart in vectors.
                    let (pairs, rest) = from.as_chunks::<2>();
                    for (to, pair) in to.iter_mut().zip(pairs) {
                        *to = pair[0];
                    }
                    if let ([one], Some(last)) = (rest, to.get_mut(pairs.len())) {
                        *last = *one;
                    }
                }
                _ => {
                    for (to, from) in to.iter_mut().zip(from.iter().step_by(self.step)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}
