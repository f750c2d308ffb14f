//! The gradient of three by three weights by Winograd's minimal filtering, the transpose of the way forward: transformed sources
//! times transformed targets, summed over all tiles, give transformed weights.
//!
//! Knows tasks, the transform of targets and the way back from transformed weights. Must not know shape rules.

use std::sync::atomic::{AtomicBool, Ordering};

use pulp::{Simd, WithSimd};

use super::alloc::{collected, workspace};
use super::conv_tile::Rows;
use super::conv_winograd::{LINE, PLACES, Piece, Sources, TAPS, Winograd};
use super::dense::chunks;
use crate::error::Result;

/// Tasks that the sums are cut into at least, whatever the number of threads.
const TASKS: usize = 8;
/// Slots of channels that share the transformed sources.
const SLOTS: usize = 2;
/// Panels of tiles that make up for a task's sums in memory.
const PANELS: usize = 16;

impl Winograd<'_> {
    /// Writes the gradient of the weights of a plain convolution; false if tiles are few, or some
    /// came out not finite.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<bool> {
        match self.vectors.width() {
            32 => self.sums::<32>(x, dy, dw),
            16 => self.sums::<16>(x, dy, dw),
            8 => self.sums::<8>(x, dy, dw),
            _ => Ok(false),
        }
    }

    fn sums<const N: usize>(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<bool> {
        let (slots, panels) = (self.writes.div_ceil(N), self.tiles().div_ceil(N));
        if panels < 2 * PANELS {
            return Ok(false);
        }
        let sets = slots.div_ceil(SLOTS);
        let parts = TASKS
            .div_ceil(self.of.groups * sets)
            .clamp(1, panels / PANELS);
        let size = PLACES * self.reads * N;
        let all = self.of.groups * sets * parts * SLOTS.min(slots) * size;
        let mut totals = workspace(self.op, 0.0, all)?;
        let failed = AtomicBool::new(false);
        chunks(&mut totals, SLOTS.min(slots) * size, 1, |task, total| {
            let (place, part) = ((task / parts / sets, task / parts % sets), task % parts);
            let panels = panels * part / parts..panels * (part + 1) / parts;
            if self.task::<N>(place, panels, (x, dy), total).is_err() {
                failed.store(true, Ordering::Relaxed);
            }
        });
        if failed.into_inner() {
            return Ok(false);
        }
        let (together, place) = (SLOTS.min(slots), self.reads * N);
        let mut whole = workspace(self.op, 0.0, all / parts)?;
        chunks(&mut whole, place, 1, |index, to| {
            let (set, at) = (
                index * place / (together * size),
                index * place % (together * size),
            );
            for part in set * parts..(set + 1) * parts {
                let total = &totals[part * together * size + at..][..place];
                for (to, total) in to.iter_mut().zip(total) {
                    *to += total;
                }
            }
        });
        let strange = AtomicBool::new(false);
        chunks(dw, self.reads * TAPS, 4, |channel, dw| {
            let (group, channel) = (channel / self.writes, channel % self.writes);
            let (slot, lane) = (channel / N, channel % N);
            let set = group * sets + slot / SLOTS;
            let whole = &whole[(set * together + slot % SLOTS) * size..][..size];
            let mut probe = 0.0f32;
            for (read, dw) in dw.chunks_exact_mut(TAPS).enumerate() {
                let mut sums = [0.0; PLACES];
                for (sum, whole) in sums.iter_mut().zip(whole.chunks_exact(place)) {
                    *sum = whole[read * N + lane];
                }
                weights(&sums, dw);
                probe += dw.iter().fold(0.0, |probe, dw| probe + 0.0 * dw);
            }
            // What is not finite times zero is not zero.
            if probe.is_nan() {
                strange.store(true, Ordering::Relaxed);
            }
        });
        Ok(!strange.into_inner())
    }

    /// The sums over some panels of tiles, for a set of slots of `N` channels of a group that are written:
    /// `[slot][place][channel that is read][channel]`.
    fn task<const N: usize>(
        &self,
        (group, set): (usize, usize),
        panels: std::ops::Range<usize>,
        (x, dy): (&[f32], &[f32]),
        total: &mut [f32],
    ) -> Result<()> {
        let deep = (self.reads + 1) * N;
        let mut sources = workspace::<f32>(self.op, 0.0, PLACES * deep)?;
        let mut targets = workspace::<f32>(self.op, 0.0, PLACES * spread(N))?;
        let mut four = workspace::<f32>(self.op, 0.0, 4 * N * N)?;
        let mut lines = Vec::new();
        let offsets = collected(self.op, (0..self.reads).map(|channel| channel * N))?;
        let high = self.vectors.fitting(self.reads);
        let over = Rows {
            rows: 1,
            columns: N,
            row: 0,
        };
        for panel in panels {
            let pieces = self.pieces(panel * N, N);
            lines.clear();
            lines.resize(pieces.len(), [[0.0; LINE]; 4]);
            self.vectors.run(Sources::<N> {
                all: self,
                pieces: &pieces,
                group,
                from: x,
                lines: &mut lines,
                to: &mut sources,
            });
            let slots = (set * SLOTS..self.writes.div_ceil(N))
                .zip(total.chunks_exact_mut(PLACES * self.reads * N));
            for (slot, total) in slots {
                self.turn::<N>(&pieces, (group, slot), dy, &mut four);
                self.vectors.run(Returns::<N> {
                    four: &four,
                    to: &mut targets,
                });
                for (place, total) in total.chunks_exact_mut(self.reads * N).enumerate() {
                    for (offsets, total) in offsets.chunks(high).zip(total.chunks_mut(high * N)) {
                        // SAFETY: `sources` has `N` tiles from each offset on, `targets` a row of channels for each tile, and
                        // `total` one for each offset.
                        unsafe {
                            self.vectors.gather(
                                offsets,
                                over,
                                sources[place * deep..].as_ptr(),
                                targets[place * spread(N)..].as_ptr(),
                                total.as_mut_ptr(),
                            )
                        };
                    }
                }
            }
        }
        Ok(())
    }

    /// The targets of a panel's tiles, two by two: `[place in the tile][tile][channel]`, zero where there are none.
    fn turn<const N: usize>(
        &self,
        pieces: &[Piece],
        (group, slot): (usize, usize),
        dy: &[f32],
        to: &mut [f32],
    ) {
        let [rows, columns] = self.target;
        to.fill(0.0);
        for piece in pieces {
            let first = 2 * piece.column;
            let count = (2 * piece.count).min(columns - first);
            for lane in 0..N.min(self.writes - slot * N) {
                let channel = group * self.writes + slot * N + lane;
                let plane = (piece.sample * self.of.groups * self.writes + channel) * rows;
                for (half, row) in (2 * piece.row..rows.min(2 * piece.row + 2)).enumerate() {
                    let line = &dy[(plane + row) * columns + first..][..count];
                    let (pairs, rest) = line.as_chunks::<2>();
                    let to = &mut to[2 * half * N * N + piece.at * N + lane..];
                    for (tile, [left, right]) in pairs.iter().enumerate() {
                        to[tile * N] = *left;
                        to[(tile + N) * N] = *right;
                    }
                    if let [left] = rest {
                        to[pairs.len() * N] = *left;
                    }
                }
            }
        }
    }
}

/// The transform of a panel's targets, channel by channel: `[place][tile][channel]`.
struct Returns<'a, const N: usize> {
    four: &'a [f32],
    to: &'a mut [f32],
}

impl<const N: usize> WithSimd for Returns<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for tile in 0..N {
            let four = |index: usize| S::as_simd_f32s(&self.four[(index * N + tile) * N..][..N]).0;
            let (a, b, c, d) = (four(0), four(1), four(2), four(3));
            for index in 0..a.len() {
                let (a, b, c, d) = (a[index], b[index], c[index], d[index]);
                let rows = [
                    (a, b),
                    (simd.add_f32s(a, c), simd.add_f32s(b, d)),
                    (simd.sub_f32s(a, c), simd.sub_f32s(b, d)),
                    (simd.neg_f32s(c), simd.neg_f32s(d)),
                ];
                for (row, (left, right)) in rows.into_iter().enumerate() {
                    let columns = [
                        left,
                        simd.add_f32s(left, right),
                        simd.sub_f32s(left, right),
                        simd.neg_f32s(right),
                    ];
                    for (column, value) in columns.into_iter().enumerate() {
                        let to = &mut self.to[(4 * row + column) * spread(N) + tile * N..][..N];
                        S::as_mut_simd_f32s(to).0[index] = value;
                    }
                }
            }
        }
    }
}

/// The step from place to place of transformed targets: not one at which they fall on the same lines of a cache.
const fn spread(tiles: usize) -> usize {
    tiles * tiles + tiles
}

/// The weights' gradient of its transformed sums.
#[inline(always)]
fn weights(sums: &[f32; PLACES], to: &mut [f32]) {
    let mut rows = [0.0; 12];
    for column in 0..4 {
        let (a, b) = (sums[column], sums[column + 4]);
        let (c, d) = (sums[column + 8], sums[column + 12]);
        rows[column] = a + 0.5 * (b + c);
        rows[column + 4] = 0.5 * (b - c);
        rows[column + 8] = 0.5 * (b + c) + d;
    }
    for row in 0..3 {
        let (a, b) = (rows[4 * row], rows[4 * row + 1]);
        let (c, d) = (rows[4 * row + 2], rows[4 * row + 3]);
        to[3 * row] = a + 0.5 * (b + c);
        to[3 * row + 1] = 0.5 * (b - c);
        to[3 * row + 2] = 0.5 * (b + c) + d;
    }
}
