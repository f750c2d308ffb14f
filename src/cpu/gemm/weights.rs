//! Products of a few rows with weights of eight bits, which are read as they are: wide copies of them would cost several times what
//! the product does.
//!
//! Knows row-major numbers, scales and zero points of columns in groups of rows. Must not know the shape rules of ops.

use std::ops::Range;

use super::Sizes;
use crate::cpu::dense::Start;
use crate::cpu::par;
use crate::cpu::simd::{self, Simd, vectorised};

/// The most rows that are worth this way.
pub(crate) const FEW: usize = 8;
/// Columns whose sums are kept at a time.
const STRIP: usize = 256;
/// Weights of a column that are added up before the next sum begins, at most.
const RUN: usize = 256;
/// Rows of weights that are widened at a time.
const DEEP: usize = 4;
/// Rows before they are read memory is asked for them.
const AHEAD: usize = 8;

/// Factors or offsets of weights: one for all, one for each column, or one for each column and group of rows.
#[derive(Clone, Copy)]
pub(crate) struct Each<'a> {
    pub values: &'a [f32],
    pub columns: usize,
}

impl Each<'_> {
    /// Those of a group and some columns.
    fn strip(&self, group: usize, columns: Range<usize>, to: &mut [f32; STRIP]) {
        if let [one] = self.values {
            return to.fill(*one);
        }
        let start = if self.values.len() > self.columns {
            group * self.columns
        } else {
            0
        };
        let own = self.values.get(start + columns.start..start + columns.end);
        for (to, value) in to.iter_mut().zip(own.unwrap_or_default()) {
            *to = *value;
        }
    }
}

/// Weights `[inner, columns]`, less the zero points, times the scales.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub values: &'a [i8],
    pub scale: Each<'a>,
    pub zero: Each<'a>,
    /// Rows that share scales and zero points.
    pub group: usize,
}

/// `y = x w + bias` for at most [`FEW`] rows; every column is added up in one order, whoever does it.
pub(crate) fn weighed(
    sizes: Sizes,
    x: &[f32],
    weights: &Weights<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let Sizes {
        rows,
        inner,
        columns,
    } = sizes;
    debug_assert!(rows <= FEW && x.len() == rows * inner && y.len() == rows * columns);
    /// Columns that threads share: a line of the cache.
    const UNIT: usize = 64;
    let (start, simd) = (Start::of(y), Simd::best());
    let grain = (par::GRAIN / (UNIT * inner * rows).max(1)).max(1);
    par::ranges(columns.div_ceil(UNIT), grain, |units| {
        let end = columns.min(units.end * UNIT);
        for first in (units.start * UNIT..end).step_by(STRIP) {
            let own = first..end.min(first + STRIP);
            let mut sums = [[0.0; STRIP]; FEW];
            vectorised!(simd, strip(sizes, x, weights, own.clone(), &mut sums));
            for (row, sums) in sums.iter().enumerate().take(rows) {
                for (column, sum) in own.clone().zip(sums) {
                    let term = bias.and_then(|bias| bias.get(column)).copied();
                    // SAFETY: the column of the row lies in `y`, and only this thread has it.
                    unsafe { *start.at(row * columns + column) = sum + term.unwrap_or(0.0) };
                }
            }
        }
    });
}

/// The sums of some columns.
#[inline(always)]
fn strip(
    Sizes {
        rows,
        inner,
        columns,
    }: Sizes,
    x: &[f32],
    weights: &Weights<'_>,
    own: Range<usize>,
    sums: &mut [[f32; STRIP]; FEW],
) {
    let width = own.len();
    let (mut scale, mut zero) = ([0.0; STRIP], [0.0; STRIP]);
    let mut wide = [[0.0f32; STRIP]; DEEP];
    let mut first = 0;
    while first < inner {
        let group = first / weights.group.max(1);
        let last = inner
            .min(first + RUN)
            .min((group + 1).saturating_mul(weights.group.max(1)));
        weights.scale.strip(group, own.clone(), &mut scale);
        weights.zero.strip(group, own.clone(), &mut zero);
        let mut run = [[0.0f32; STRIP]; FEW];
        for start in (first..last).step_by(DEEP) {
            let deep = DEEP.min(last - start);
            for (row, wide) in (start..).zip(&mut wide).take(deep) {
                let from = &weights.values[row * columns..][own.clone()];
                simd::prefetch(from.as_ptr().wrapping_add(AHEAD * columns).cast(), width);
                for ((to, weight), zero) in wide[..width].iter_mut().zip(from).zip(&zero) {
                    *to = f32::from(*weight) - zero;
                }
            }
            wide[deep..].iter_mut().for_each(|wide| wide.fill(0.0));
            for (run, x) in run.iter_mut().zip(x.chunks_exact(inner)).take(rows) {
                let mut factors = [0.0; DEEP];
                factors[..deep].copy_from_slice(&x[start..start + deep]);
                add(&mut run[..width], &wide, factors);
            }
        }
        for (sums, run) in sums.iter_mut().zip(&run).take(rows) {
            for ((sum, run), scale) in sums[..width].iter_mut().zip(run).zip(&scale) {
                *sum += run * scale;
            }
        }
        first = last;
    }
}

/// Adds four rows, each times its factor.
#[inline(always)]
fn add(to: &mut [f32], wide: &[[f32; STRIP]; DEEP], [a, b, c, d]: [f32; DEEP]) {
    let [wa, wb, wc, wd] = wide;
    for ((((to, wa), wb), wc), wd) in to.iter_mut().zip(wa).zip(wb).zip(wc).zip(wd) {
        *to += (a * wa + b * wb) + (c * wc + d * wd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_sums_of_their_weights() {
        for (rows, inner, columns, group) in [
            (1usize, 7, 3usize, 0),
            (3, 600usize, 300, 0),
            (8, 70, 65, 32usize),
        ] {
            let x: Vec<f32> = (0..rows * inner).map(|i| (i % 13) as f32 - 6.0).collect();
            let values: Vec<i8> = (0..inner * columns)
                .map(|i| (i * 37 % 251) as u8 as i8)
                .collect();
            let groups = if group == 0 { 1 } else { inner.div_ceil(group) };
            let each: Vec<f32> = (0..groups * columns).map(|i| (i % 5 + 1) as f32).collect();
            let bias: Vec<f32> = (0..columns).map(|i| i as f32).collect();
            let each = Each {
                values: &each,
                columns,
            };
            let weights = Weights {
                values: &values,
                scale: each,
                zero: each,
                group: if group == 0 { inner } else { group },
            };
            let sizes = Sizes {
                rows,
                inner,
                columns,
            };
            let mut y = vec![f32::NAN; rows * columns];
            weighed(sizes, &x, &weights, Some(&bias), &mut y);
            for (at, got) in y.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let term = |k: usize| {
                    let own = f64::from(each.values[k / weights.group * columns + column]);
                    let weight = f64::from(values[k * columns + column]) - own;
                    f64::from(x[row * inner + k]) * weight * own
                };
                let wanted = (0..inner).map(term).sum::<f64>() + column as f64;
                assert!((f64::from(*got) - wanted).abs() <= 1e-5 * wanted.abs().max(1e4));
            }
        }
    }
}
