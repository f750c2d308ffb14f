//! The backward pass: for each block of keys, one sweep over the blocks of rows, with weights rebuilt from the logarithms.
//!
//! Knows the five products of the gradient and where their sums are kept. Must not know how the forward pass went.

use std::ops::Range;

use super::forward::transpose;
use super::tile::{Extent, Left, Target, Vector, dot, padded, product};
use super::{KEYS, Operand, Problem, ROWS, Sink, carve, tasks};
use crate::cpu::lane::Lane;
use crate::cpu::number::Float;
use crate::cpu::simd::Simd;
use crate::cpu::total::total;
use crate::cpu::view::HostMut;
use crate::error::Result;

/// What the backward pass starts from: the gradient of the results, the results (before a half rounded them), and the
/// logarithms of the sums.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub dy: Operand<'a>,
    pub y: Operand<'a>,
    pub logs: Operand<'a>,
}

/// The gradients of queries, keys and values: `[heads, rows, width]`, keys and values once for each group.
pub(crate) type Gradients<'a, 'b> = [&'a mut HostMut<'b>; 3];

/// `dv = p^T dy`, `ds = p (dy v^T - sum(dy y))`, `dq = scale ds k`, `dk = scale ds^T q`, with the weights `p` from the scores
/// and the logarithms.
pub(crate) fn backward<T>(
    problem: &Problem<'_>,
    given: &Given<'_>,
    [dq, dk, dv]: Gradients<'_, '_>,
) -> Result<()>
where
    T: Wide,
    for<'s> Run<'s, T>: pulp::WithSimd<Output = ()>,
{
    let sizes = problem.sizes;
    let (heads, rows) = problem.long();
    let sinks = [
        Sink::new(dq, [sizes.rows, sizes.width]),
        Sink::new(dk, [sizes.keys, sizes.width]),
        Sink::new(dv, [sizes.keys, sizes.value_width]),
    ];
    let simd = Simd::best();
    tasks::<T>(
        problem.op,
        heads,
        Space::<T>::size(problem, rows),
        |head, room| {
            simd.vectors(Run {
                problem,
                given,
                head,
                rows,
                space: Space::new(problem, rows, room),
                sinks: &sinks,
            });
        },
    )
}

/// A lane that may have blocks of its own on long registers.
pub(crate) trait Wide: Lane + Float {
    /// As [`Run::whole`], once the rows are loaded; false if this CPU has not the registers.
    fn whole(_run: &mut Run<'_, Self>) -> bool {
        false
    }
}

impl Wide for f64 {}

#[cfg(not(target_arch = "x86_64"))]
impl Wide for f32 {}

/// The blocks of one thread.
pub(super) struct Space<'a, T> {
    /// All rows: sums of the gradient of queries, and what is subtracted from each row of `dp`.
    pub dq: &'a mut [T],
    pub deltas: &'a mut [T],
    pub logs: &'a mut [T],
    /// A block of rows.
    pub queries: &'a mut [T],
    pub dy: &'a mut [T],
    pub weights: &'a mut [T],
    pub slopes: &'a mut [T],
    /// A block of keys, twice as they are and twice transposed, and their gradients.
    pub keys: &'a mut [T],
    pub values: &'a mut [T],
    pub keys_turned: &'a mut [T],
    pub values_turned: &'a mut [T],
    pub dk: &'a mut [T],
    pub dv: &'a mut [T],
}

impl<'a, T: Lane> Space<'a, T> {
    fn lengths(problem: &Problem<'_>, rows: usize) -> [usize; 13] {
        let (width, value_width) = (
            padded(problem.sizes.width),
            padded(problem.sizes.value_width),
        );
        [
            rows * width,
            rows,
            rows,
            ROWS * width,
            ROWS * value_width,
            ROWS * KEYS,
            ROWS * KEYS,
            KEYS * width,
            KEYS * value_width,
            width * KEYS,
            value_width * KEYS,
            KEYS * width,
            KEYS * value_width,
        ]
    }

    fn size(problem: &Problem<'_>, rows: usize) -> usize {
        Self::lengths(problem, rows).iter().sum()
    }

    fn new(problem: &Problem<'_>, rows: usize, room: &'a mut [T]) -> Self {
        let mut rest = room;
        let [
            dq,
            deltas,
            logs,
            queries,
            dy,
            weights,
            slopes,
            keys,
            values,
            keys_turned,
            values_turned,
            dk,
            dv,
        ] = Self::lengths(problem, rows).map(|length| carve(&mut rest, length));
        Space {
            dq,
            deltas,
            logs,
            queries,
            dy,
            weights,
            slopes,
            keys,
            values,
            keys_turned,
            values_turned,
            dk,
            dv,
        }
    }
}

/// All rows that share a key head.
pub(crate) struct Run<'s, T> {
    pub(super) problem: &'s Problem<'s>,
    pub(super) given: &'s Given<'s>,
    pub(super) head: usize,
    pub(super) rows: usize,
    pub(super) space: Space<'s, T>,
    pub(super) sinks: &'s [Sink<'s>; 3],
}

macro_rules! run {
    ($($type:ty),*) => {$(
        impl pulp::WithSimd for Run<'_, $type> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: pulp::Simd>(mut self, simd: S) {
                self.whole(simd);
            }
        }
    )*};
}

run!(f32, f64);

impl<T: Wide> Run<'_, T> {
    #[inline(always)]
    fn whole<S: pulp::Simd>(&mut self, simd: S)
    where
        T: Vector<S>,
    {
        self.load_rows(simd);
        if T::whole(self) {
            return;
        }
        self.space.dq.fill(T::ZERO);
        let keys = self.problem.sizes.keys;
        let visible = self.problem.visible(0..self.rows);
        for first in (0..keys).step_by(KEYS) {
            let count = KEYS.min(keys - first);
            self.space.dk.fill(T::ZERO);
            self.space.dv.fill(T::ZERO);
            if first < visible {
                self.load_keys(first, count);
                for start in (0..self.rows).step_by(ROWS) {
                    let rows = start..self.rows.min(start + ROWS);
                    let visible = self.problem.visible(rows.clone());
                    let count = count.min(visible.saturating_sub(first));
                    if count == 0 {
                        continue;
                    }
                    self.block(simd, rows, [first, count]);
                }
            }
            self.store_keys(first, count);
        }
        let width = padded(self.problem.sizes.width);
        let scale = T::from_f64(self.problem.scale);
        for (index, line) in self.space.dq.chunks_exact_mut(width).enumerate() {
            let (head, row) = self.problem.place(self.head, index);
            for x in line.iter_mut() {
                *x = x.times(scale);
            }
            self.sinks[0].write(head, row, line);
        }
    }

    /// `sum(dy y)` of each row, unless one block has all keys, and the logarithms.
    #[inline(always)]
    fn load_rows<S: pulp::Simd>(&mut self, simd: S)
    where
        T: Vector<S>,
    {
        let value_width = self.problem.sizes.value_width;
        let several = self.problem.sizes.keys > KEYS;
        let space = &mut self.space;
        for index in 0..self.rows {
            let (head, row) = self.problem.place(self.head, index);
            if several {
                let (dy, rest) = space.dy.split_at_mut(padded(value_width));
                let (dy, y) = (&mut dy[..value_width], &mut rest[..value_width]);
                self.given.dy.read([head, row, 0], dy);
                self.given.y.read([head, row, 0], y);
                space.deltas[index] = dot(simd, dy, y);
            }
            self.given
                .logs
                .read([head, row, 0], &mut space.logs[index..index + 1]);
        }
    }

    #[inline(always)]
    fn load_keys(&mut self, first: usize, count: usize) {
        let problem = self.problem;
        let (head, _) = problem.place(self.head, 0);
        let (width, value_width) = (problem.sizes.width, problem.sizes.value_width);
        let space = &mut self.space;
        let lines = space.keys.chunks_exact_mut(padded(width)).take(count);
        for (key, line) in lines.enumerate() {
            problem.key.read([head, first + key, 0], &mut line[..width]);
        }
        let lines = space
            .values
            .chunks_exact_mut(padded(value_width))
            .take(count);
        for (key, line) in lines.enumerate() {
            problem
                .value
                .read([head, first + key, 0], &mut line[..value_width]);
        }
        transpose(space.keys, padded(width), space.keys_turned, [count, width]);
        transpose(
            space.values,
            padded(value_width),
            space.values_turned,
            [count, value_width],
        );
    }

    /// Reads a block of rows: queries times the scale, and gradients of results.
    #[inline(always)]
    fn load_block(&mut self, rows: Range<usize>) {
        let problem = self.problem;
        let (width, value_width) = (problem.sizes.width, problem.sizes.value_width);
        let scale = T::from_f64(problem.scale);
        let space = &mut self.space;
        let queries = space.queries.chunks_exact_mut(padded(width));
        let dys = space.dy.chunks_exact_mut(padded(value_width));
        for ((query, dy), row) in queries.zip(dys).zip(rows) {
            let (head, row) = problem.place(self.head, row);
            problem.query.read([head, row, 0], &mut query[..width]);
            for x in &mut query[..width] {
                *x = x.times(scale);
            }
            self.given.dy.read([head, row, 0], &mut dy[..value_width]);
        }
    }

    /// The numbers of a line of keys and of one of values.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn widths(&self) -> (usize, usize) {
        let sizes = self.problem.sizes;
        (padded(sizes.width), padded(sizes.value_width))
    }

    /// A block of rows over a block of keys.
    #[inline(always)]
    fn block<S: pulp::Simd>(&mut self, simd: S, rows: Range<usize>, [first, count]: [usize; 2])
    where
        T: Vector<S>,
    {
        let sizes = self.problem.sizes;
        let (width, value_width) = (padded(sizes.width), padded(sizes.value_width));
        self.load_block(rows.clone());
        let space = &mut self.space;
        let scores = Extent {
            rows: rows.len(),
            inner: sizes.width,
            columns: count,
        };
        let queries = left(space.queries, width);
        let keys = (&*space.keys_turned, KEYS);
        let to = (&mut *space.weights, KEYS);
        product(simd, queries, keys, to, scores, Target::Replace);
        let slopes = Extent {
            inner: sizes.value_width,
            ..scores
        };
        let values = (&*space.values_turned, KEYS);
        let to = (&mut *space.slopes, KEYS);
        product(
            simd,
            left(space.dy, value_width),
            values,
            to,
            slopes,
            Target::Replace,
        );
        self.weigh(simd, rows.clone(), [first, count]);
        let space = &mut self.space;
        let over_rows = |columns| Extent {
            rows: count,
            inner: rows.len(),
            columns,
        };
        let dy = (&*space.dy, value_width);
        let to = (&mut *space.dv, value_width);
        product(
            simd,
            turned(space.weights),
            dy,
            to,
            over_rows(sizes.value_width),
            Target::Add,
        );
        let queries = (&*space.queries, width);
        let to = (&mut *space.dk, width);
        product(
            simd,
            turned(space.slopes),
            queries,
            to,
            over_rows(sizes.width),
            Target::Add,
        );
        let over_keys = Extent {
            rows: rows.len(),
            inner: count,
            columns: sizes.width,
        };
        let to = (&mut space.dq[rows.start * width..], width);
        product(
            simd,
            left(space.slopes, KEYS),
            (space.keys, width),
            to,
            over_keys,
            Target::Add,
        );
    }

    /// Scores become weights, and gradients of weights those of scores.
    #[inline(always)]
    fn weigh<S: pulp::Simd>(&mut self, simd: S, rows: Range<usize>, [first, count]: [usize; 2])
    where
        T: Vector<S>,
    {
        let space = &mut self.space;
        let weights = space.weights.chunks_exact_mut(KEYS);
        let slopes = space.slopes.chunks_exact_mut(KEYS);
        for ((weights, slopes), index) in weights.zip(slopes).zip(rows) {
            let (head, row) = self.problem.place(self.head, index);
            let (weights, slopes) = (&mut weights[..count], &mut slopes[..count]);
            self.problem.hide(head, row, first, weights);
            let log = space.logs[index];
            for weight in weights.iter_mut() {
                *weight = weight.minus(log).exp_term();
            }
            // Where the block has all keys of the row, the sum is of the very products that it is subtracted from.
            let seen = self.problem.visible(row..row + 1);
            let delta = if first == 0 && seen <= count {
                scale_to_one(weights);
                dot(simd, &weights[..seen], &slopes[..seen])
            } else {
                space.deltas[index]
            };
            for (weight, slope) in weights.iter().zip(slopes) {
                *slope = weight.times(slope.minus(delta));
            }
        }
    }

    #[inline(always)]
    fn store_keys(&mut self, first: usize, count: usize) {
        let (width, value_width) = (
            padded(self.problem.sizes.width),
            padded(self.problem.sizes.value_width),
        );
        for key in 0..count {
            let dk = &self.space.dk[key * width..(key + 1) * width];
            self.sinks[1].write(self.head, first + key, dk);
            let dv = &self.space.dv[key * value_width..(key + 1) * value_width];
            self.sinks[2].write(self.head, first + key, dv);
        }
    }
}

/// Weights over their sum: logarithms of large scores are coarse. A row that sees no key stays 0.
#[inline(always)]
fn scale_to_one<T: Float>(weights: &mut [T]) {
    let sum = total(weights, |x| x);
    if sum > T::ZERO {
        let inverse = T::ONE.over(sum);
        for weight in weights {
            *weight = weight.times(inverse);
        }
    }
}

/// Row-major elements as a left factor.
#[inline(always)]
fn left<T>(values: &[T], row: usize) -> Left<'_, T> {
    Left {
        values,
        row,
        inner: 1,
    }
}

/// A block of scores as a left factor, transposed.
#[inline(always)]
fn turned<T>(values: &[T]) -> Left<'_, T> {
    Left {
        values,
        row: 1,
        inner: KEYS,
    }
}
