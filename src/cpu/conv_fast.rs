//! Convolutions in `f32` by vector tiles: blocks of the source in a box, weights in panels of channels, threads over blocks.
//!
//! Knows passes, tiles and workspace. Must not know shape rules.

use std::sync::atomic::{AtomicBool, Ordering};

use super::alloc::{room, workspace};
use super::conv::Geometry;
#[cfg(target_arch = "x86_64")]
use super::conv_depth::Depthwise;
use super::conv_pass::Pass;
use super::conv_product::{Way, is_bare, product};
use super::conv_tile::{Beside, MOST, Plane, Rows, SLACK, Vectors, turn_four};
use super::conv_winograd::Winograd;
use super::dense::{Start, chunks};
use super::par;
use crate::device::Device;
use crate::error::{Error, Result};

/// Fewer written channels than this in a group leave a tile of channels idle for the most part.
const FEWEST: usize = 4;
/// Rows of a panel of weights that are packed at a time.
const PART: usize = 64;

/// A bare convolution sees its planes as lines.
fn flat(of: &Geometry) -> Geometry {
    if !is_bare(of) {
        return *of;
    }
    Geometry {
        input: [1, 1, of.input_plane()],
        output: [1, 1, of.output_plane()],
        ..*of
    }
}

/// As [`Geometry::forward`]; false if tiles do not pay.
pub(crate) fn forward(
    op: &'static str,
    of: &Geometry,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<bool> {
    let of = flat(of);
    let Some(vectors) = Vectors::in_use() else {
        return Ok(false);
    };
    if product(op, &of, Way::Forward, (w, x), bias, y)? {
        return Ok(true);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(planes) = Depthwise::forward(&of) {
        planes.run(x, w, bias, y);
        return Ok(true);
    }
    if let Some(tiles) = Winograd::forward(op, &of, vectors)
        && tiles.run(x, w, bias, y)?
    {
        return Ok(true);
    }
    let pass = Pass::forward(&of);
    if !pass.is_compact() {
        return Ok(false);
    }
    let run = Run {
        op,
        of: &of,
        vectors,
        bias,
    };
    run.pass(&pass, x, w, y)?;
    Ok(true)
}

/// As [`Geometry::input_gradient`]; false if tiles do not pay.
pub(crate) fn input_gradient(
    op: &'static str,
    of: &Geometry,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    dx: &mut [f32],
) -> Result<bool> {
    let of = flat(of);
    let Some(vectors) = Vectors::in_use() else {
        return Ok(false);
    };
    if product(op, &of, Way::Back, (w, dy), bias, dx)? {
        return Ok(true);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(planes) = Depthwise::backward(&of) {
        planes.run(dy, w, bias, dx);
        return Ok(true);
    }
    if let Some(tiles) = Winograd::backward(op, &of, vectors)
        && tiles.run(dy, w, bias, dx)?
    {
        return Ok(true);
    }
    let Some(passes) = Pass::backward(&of) else {
        return Ok(false);
    };
    if !passes.iter().all(Pass::is_compact) {
        return Ok(false);
    }
    if passes.iter().any(|pass| pass.own_taps() == 0) {
        let (plane, channels) = (of.input_plane(), of.groups * of.inputs);
        for (index, dx) in dx.chunks_exact_mut(plane.max(1)).enumerate() {
            dx.fill(bias.map_or(0.0, |bias| bias[index % channels]));
        }
    }
    let run = Run {
        op,
        of: &of,
        vectors,
        bias,
    };
    for pass in passes.iter().filter(|pass| pass.own_taps() > 0) {
        run.pass(pass, dy, w, dx)?;
    }
    Ok(true)
}

fn out_of_memory(op: &'static str) -> Error {
    Error::OutOfMemory {
        op,
        device: Device::Cpu,
        asked: 0,
        free: 0,
    }
}

/// What all passes of a call share.
struct Run<'a> {
    op: &'static str,
    of: &'a Geometry,
    vectors: Vectors,
    bias: Option<&'a [f32]>,
}

impl Run<'_> {
    /// The channels of a panel: one by one where a tile of channels would be mostly idle.
    fn width(&self, pass: &Pass) -> usize {
        if pass.writes < FEWEST {
            1
        } else {
            self.vectors.width()
        }
    }

    /// The weights of every group in panels: `[group][panel][channel that is read, tap][channels that are written]`.
    fn panels(&self, pass: &Pass, w: &[f32]) -> Result<Vec<f32>> {
        let (width, places) = (self.width(pass), pass.places(self.op, self.of.kernel)?);
        let panels = pass.writes.div_ceil(width);
        let deep = pass.reads * places.len();
        let mut packed = workspace(self.op, 0.0, self.of.groups * panels * deep * width)?;
        let mut rows = room(self.op, deep)?;
        for channel in 0..pass.reads {
            rows.extend(places.iter().map(|place| channel * pass.read_step + place));
        }
        let group_size = pass.reads * pass.writes * pass.taps;
        let grain = (64 * 1024 / (deep * width).max(1)).max(1);
        chunks(&mut packed, deep * width, grain, |index, to| {
            let (group, first) = (index / panels, index % panels * width);
            let count = width.min(pass.writes - first);
            let w = &w[group * group_size + first * pass.write_step..];
            for (to, rows) in to.chunks_mut(PART * width).zip(rows.chunks(PART)) {
                for lane in 0..count {
                    let w = &w[lane * pass.write_step..];
                    for (to, row) in to.chunks_exact_mut(width).zip(rows) {
                        to[lane] = w[*row];
                    }
                }
            }
        });
        Ok(packed)
    }

    /// Every target position of a pass.
    fn pass(&self, pass: &Pass, source: &[f32], w: &[f32], target: &mut [f32]) -> Result<()> {
        let packed = self.panels(pass, w)?;
        let (width, offsets) = (self.width(pass), pass.offsets(self.op, pass.reads)?);
        let (panels, deep) = (pass.writes.div_ceil(width), offsets.len());
        let blocks: usize = pass.blocks().iter().product();
        let size: usize = pass.axes.iter().map(|axis| axis.size).product();
        let plane: usize = pass.target.iter().product();
        let items = self.of.batch * self.of.groups * blocks;
        // Few blocks are shared out by panels too, each time with a box of their own.
        let parts = (2 * par::threads())
            .div_ceil(items.max(1))
            .clamp(1, panels.max(1));
        let (failed, start) = (AtomicBool::new(false), Start::of(target));
        par::ranges(items * parts, 1, |range| {
            let (Ok(mut held), Ok(mut tile)) = (
                workspace::<f32>(self.op, 0.0, pass.box_size(pass.reads)),
                workspace::<f32>(self.op, 0.0, SLACK.max(MOST * width)),
            ) else {
                return failed.store(true, Ordering::Relaxed);
            };
            let mut filled = usize::MAX;
            for item in range {
                let (item, part) = (item / parts, item % parts);
                let (sample, block) = (item / blocks, item % blocks);
                let (depth, rows, columns) = pass.block(block);
                if filled != item {
                    let first = sample * pass.reads * size;
                    let planes = source[first..][..pass.reads * size].chunks_exact(size.max(1));
                    pass.fill_box(planes, (depth, &rows, &columns), &mut held);
                    filled = item;
                }
                for panel in panels * part / parts..panels * (part + 1) / parts {
                    let group = sample % self.of.groups;
                    let w = &packed[(group * panels + panel) * deep * width..];
                    let first = panel * width;
                    let count = width.min(pass.writes - first);
                    let channel = sample * pass.writes + first;
                    let bias = self
                        .bias
                        .map(|bias| &bias[group * pass.writes + first..][..count]);
                    let targets = Targets {
                        depth,
                        rows: rows.clone(),
                        columns: columns.clone(),
                        first: channel * plane,
                        channels: count,
                    };
                    let from = (&offsets[..], &held[..]);
                    // SAFETY: the block's positions are this item's alone, and the panel's channels this part's.
                    unsafe {
                        if width == 1 && pass.axes[2].apart == 1 {
                            self.plane(pass, &targets, from, (w, bias), &start);
                        } else {
                            let way = (&mut tile[..], width);
                            self.block(pass, &targets, from, (w, bias), way, &start);
                        }
                    }
                }
            }
        });
        if failed.into_inner() {
            return Err(out_of_memory(self.op));
        }
        Ok(())
    }

    /// The targets of a block in one channel.
    ///
    /// # Safety
    /// Nobody else may write them.
    unsafe fn plane(
        &self,
        pass: &Pass,
        targets: &Targets,
        (offsets, held): (&[usize], &[f32]),
        (w, bias): (&[f32], Option<&[f32]>),
        start: &Start<f32>,
    ) {
        let line = target_line(pass, targets.depth, targets.rows.start);
        let plane = Plane {
            offsets,
            x: held.as_ptr(),
            w: &w[..offsets.len()],
            bias: bias.map_or(0.0, |bias| bias[0]),
            to: start.at(targets.first + line + targets.columns.start),
            over: Rows {
                rows: targets.rows.len(),
                columns: targets.columns.len(),
                row: pass.row_step(),
            },
            step: pass.axes[1].apart * pass.target[2],
        };
        // SAFETY: the box has the positions of all rows for each offset, with room past its end; the targets lie in the slice.
        unsafe { self.vectors.plane(plane) };
    }

    /// The targets of a block in a panel's channels, line by line.
    ///
    /// # Safety
    /// Nobody else may write them.
    unsafe fn block(
        &self,
        pass: &Pass,
        targets: &Targets,
        (offsets, held): (&[usize], &[f32]),
        (w, bias): (&[f32], Option<&[f32]>),
        (tile, width): (&mut [f32], usize),
        start: &Start<f32>,
    ) {
        for row in targets.rows.clone() {
            let to = Line {
                at: targets.first + target_line(pass, targets.depth, row),
                plane: pass.target.iter().product(),
                apart: pass.axes[2].apart,
                channels: targets.channels,
            };
            let from = &held[(row - targets.rows.start) * pass.row_step()..];
            let positions = targets.columns.len();
            if to.apart == 1 && self.vectors.fit_beside(positions) {
                // SAFETY: the box has the positions of the line for each offset; the panel has whole registers of weights for
                // each. The targets lie in the slice, and nobody else may write them.
                unsafe {
                    self.vectors.beside(Beside {
                        offsets,
                        x: from.as_ptr(),
                        w: w.as_ptr(),
                        width,
                        bias,
                        to: start.at(to.at + targets.columns.start),
                        plane: to.plane,
                        positions,
                        channels: to.channels,
                    });
                }
                continue;
            }
            let from = (from, w, bias);
            // SAFETY: promised by the caller.
            unsafe { self.line((offsets, width), from, &targets.columns, tile, &to, start) };
        }
    }

    /// The tiles of a line of targets.
    ///
    /// # Safety
    /// Nobody else may write the targets of the line.
    unsafe fn line(
        &self,
        (offsets, width): (&[usize], usize),
        (from, w, bias): (&[f32], &[f32], Option<&[f32]>),
        columns: &std::ops::Range<usize>,
        tile: &mut [f32],
        to: &Line,
        start: &Start<f32>,
    ) {
        let (vectors, count) = (self.vectors, columns.len());
        let most = if width == 1 {
            vectors.reach()
        } else {
            vectors.most
        };
        let tiles = count.div_ceil(most);
        for index in 0..tiles {
            let (first, end) = (count * index / tiles, count * (index + 1) / tiles);
            let (x, sums, length) = (from[first..].as_ptr(), tile.as_mut_ptr(), end - first);
            let at = to.at + (columns.start + first) * to.apart;
            // SAFETY: the box has the positions of the line for each offset, with room for a tile past its end; the panel has a
            // row for each offset; the tile has room. The targets lie in the slice, and are the line's.
            unsafe {
                if width == 1 {
                    vectors.along(length, offsets, x, &w[..offsets.len()], sums);
                } else {
                    vectors.spread(length, offsets, x, w.as_ptr(), sums);
                }
                to.store(tile, width, (at, length), bias, start);
            }
        }
    }
}

/// A block of targets of some channels, of which the first one's plane begins at `first`.
struct Targets {
    depth: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    first: usize,
    channels: usize,
}

/// Where a line of targets lies: its first number without its columns, and the steps between channels and columns.
struct Line {
    at: usize,
    plane: usize,
    apart: usize,
    channels: usize,
}

impl Line {
    /// Writes a tile of sums, `width` channels to a position, from target `at` on.
    ///
    /// # Safety
    /// The targets must lie in the slice, and nobody else may write them.
    unsafe fn store(
        &self,
        tile: &[f32],
        width: usize,
        (at, length): (usize, usize),
        bias: Option<&[f32]>,
        start: &Start<f32>,
    ) {
        let turned = if self.apart == 1 && length >= 4 {
            self.channels / 4 * 4
        } else {
            0
        };
        for channel in (0..turned).step_by(4) {
            let bias = std::array::from_fn(|lane| bias.map_or(0.0, |bias| bias[channel + lane]));
            for position in (0..length).step_by(4) {
                let position = position.min(length - 4);
                let (from, to) = (
                    position * width + channel,
                    at + channel * self.plane + position,
                );
                // SAFETY: four positions of four channels of the tile, and of the targets.
                unsafe {
                    turn_four(
                        tile[from..].as_ptr(),
                        width,
                        &bias,
                        start.at(to),
                        self.plane,
                    )
                };
            }
        }
        for channel in turned..self.channels {
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            let at = at + channel * self.plane;
            // SAFETY: promised by the caller.
            let targets = unsafe { start.range(at, (length - 1) * self.apart + 1) };
            if width == 1 && self.apart == 1 {
                for (target, sum) in targets.iter_mut().zip(tile) {
                    *target = sum + bias;
                }
                continue;
            }
            let sums = tile[channel..].chunks(width);
            for (target, sum) in targets.iter_mut().step_by(self.apart).zip(sums) {
                *target = sum[0] + bias;
            }
        }
    }
}

/// The first number of a line of targets in its plane, for positions of the axes.
fn target_line(pass: &Pass, depth: usize, row: usize) -> usize {
    let [z, y, x] = &pass.axes;
    let (z_at, y_at) = (z.first + depth * z.apart, y.first + row * y.apart);
    (z_at * pass.target[1] + y_at) * pass.target[2] + x.first
}

/// Sums of weights that are worth a task, and tasks that a call is cut into at most.
const TASK: usize = 3 * MOST;
const TASKS: usize = 8;

/// As [`Geometry::weight_gradient`]; false if tiles do not pay. Each weight is summed by one thread, so that the result does not
/// depend on their number.
pub(crate) fn weight_gradient(
    op: &'static str,
    of: &Geometry,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) -> Result<bool> {
    let of = flat(of);
    let Some(vectors) = Vectors::in_use().filter(|_| of.outputs >= FEWEST) else {
        return Ok(false);
    };
    if let Some(tiles) = Winograd::forward(op, &of, vectors)
        && tiles.weight_gradient(x, dy, dw)?
    {
        return Ok(true);
    }
    let pass = Pass::forward(&of);
    if !pass.is_compact() {
        return Ok(false);
    }
    let (width, taps) = (vectors.width(), of.taps());
    let panels = of.outputs.div_ceil(width);
    let most = (of.inputs * taps / TASK).clamp(1, of.inputs.max(1));
    let parts = TASKS.div_ceil((of.groups * panels).max(1)).clamp(1, most);
    let (failed, start) = (AtomicBool::new(false), Start::of(dw));
    par::ranges(of.groups * panels * parts, 1, |range| {
        for task in range {
            let (group, panel, part) =
                (task / (panels * parts), task / parts % panels, task % parts);
            let channels = of.inputs * part / parts..of.inputs * (part + 1) / parts;
            let outputs = panel * width..of.outputs.min((panel + 1) * width);
            let sums = Weights {
                op,
                of: &of,
                pass: &pass,
                vectors,
                group,
                channels,
                outputs,
            };
            match sums.total(x, dy) {
                // SAFETY: the channels of the task are its own.
                Ok(total) => unsafe { sums.store(&total, &start) },
                Err(_) => failed.store(true, Ordering::Relaxed),
            }
        }
    });
    if failed.into_inner() {
        return Err(out_of_memory(op));
    }
    Ok(true)
}

/// A task: the weights from some channels that are read to a panel of channels that are written.
struct Weights<'a> {
    op: &'static str,
    of: &'a Geometry,
    pass: &'a Pass,
    vectors: Vectors,
    group: usize,
    channels: std::ops::Range<usize>,
    outputs: std::ops::Range<usize>,
}

impl Weights<'_> {
    /// The sums over all samples and blocks: `[channel that is read, tap][channel that is written]`.
    fn total(&self, x: &[f32], dy: &[f32]) -> Result<Vec<f32>> {
        let (pass, of, width) = (self.pass, self.of, self.vectors.width());
        let offsets = pass.offsets(self.op, self.channels.len())?;
        let mut total = workspace(self.op, 0.0, offsets.len() * width)?;
        let mut held = workspace(self.op, 0.0, pass.box_size(self.channels.len()))?;
        let mut turned = workspace(self.op, 0.0, pass.rows * pass.columns * width)?;
        let (size, plane) = (of.input_plane(), of.output_plane());
        let blocks: usize = pass.blocks().iter().product();
        let tiles = offsets.len().div_ceil(self.vectors.most);
        for sample in 0..of.batch {
            let first = (sample * of.groups + self.group) * of.inputs + self.channels.start;
            let x = &x[first * size..][..self.channels.len() * size];
            let first = (sample * of.groups + self.group) * of.outputs + self.outputs.start;
            let dy = &dy[first * plane..][..self.outputs.len() * plane];
            for block in 0..blocks {
                let (depth, rows, columns) = pass.block(block);
                pass.fill_box(
                    x.chunks_exact(size.max(1)),
                    (depth, &rows, &columns),
                    &mut held,
                );
                for (to, row) in turned
                    .chunks_exact_mut(columns.len() * width)
                    .zip(rows.clone())
                {
                    let line = target_line(pass, depth, row) + columns.start;
                    for (column, to) in to.chunks_exact_mut(width).enumerate() {
                        for (to, dy) in to.iter_mut().zip(dy.chunks_exact(plane.max(1))) {
                            *to = dy[line + column];
                        }
                    }
                }
                let over = Rows {
                    rows: rows.len(),
                    columns: columns.len(),
                    row: pass.row_step(),
                };
                for tile in 0..tiles {
                    let part = offsets.len() * tile / tiles..offsets.len() * (tile + 1) / tiles;
                    let to = total[part.start * width..].as_mut_ptr();
                    // SAFETY: the box has all rows for each offset, `turned` a row for each position, `total` one for each
                    // offset.
                    unsafe {
                        self.vectors.gather(
                            &offsets[part],
                            over,
                            held.as_ptr(),
                            turned.as_ptr(),
                            to,
                        )
                    };
                }
            }
        }
        Ok(total)
    }

    /// Writes the sums to their places in the weight.
    ///
    /// # Safety
    /// Nobody else may write the weights of the task.
    unsafe fn store(&self, total: &[f32], start: &Start<f32>) {
        let (width, taps) = (self.vectors.width(), self.of.taps());
        for (lane, output) in self.outputs.clone().enumerate() {
            let first =
                (self.group * self.of.outputs + output) * self.of.inputs + self.channels.start;
            // SAFETY: promised by the caller.
            let to = unsafe { start.range(first * taps, self.channels.len() * taps) };
            for (to, sum) in to.iter_mut().zip(total[lane..].iter().step_by(width)) {
                *to = *sum;
            }
        }
    }
}
