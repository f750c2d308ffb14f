//! The forward pass: for each block of rows, one sweep over the blocks of keys with a running maximum and sum.
//!
//! Knows the order of blocks and the rescaling (Milakov & Gimelshein 2018, Dao et al. 2022). Must not know gradients.

use super::tile::{Extent, Left, PAD, Target, Vector, dot, padded, product};
use super::{HELD, KEYS, Problem, ROWS, Sink, Sizes, carve, tasks};
#[cfg(target_arch = "x86_64")]
use super::{stream::Stream, wide::Wide};
use crate::cpu::lane::Lane;
use crate::cpu::number::Float;
use crate::cpu::simd::Simd;
use crate::cpu::total::{largest, replaced};
use crate::cpu::view::HostMut;
#[cfg(target_arch = "x86_64")]
use crate::dtype::DType;
use crate::error::Result;

/// With this many rows or fewer, keys and values are read once and straight from memory.
pub(super) const FEW: usize = 4;
/// Keys that few rows take at once: lines that are not of the lane's dtype stay in the first cache when they are.
const HAND: usize = 16;

/// What the backward pass starts from.
#[derive(Debug)]
pub(crate) struct Kept<'a, 'b> {
    /// The logarithm of each row's sum of exponentials; 0 for a row that sees no key.
    pub logs: &'a mut HostMut<'b>,
    /// The results before they were rounded, where a half's rounding would spoil sums that cancel.
    pub exact: Option<&'a mut HostMut<'b>>,
}

/// `y = softmax(scale q k^T + mask) v` for every head; a row that sees no key is 0. There must be something to write.
pub(crate) fn forward<T>(
    problem: &Problem<'_>,
    y: &mut HostMut<'_>,
    kept: Option<Kept<'_, '_>>,
) -> Result<()>
where
    T: Lane + Float,
    for<'s> Run<'s, T>: pulp::WithSimd<Output = ()>,
{
    let sizes = problem.sizes;
    let (heads, rows) = problem.long();
    let stripe = (HELD / padded(sizes.width.max(sizes.value_width)))
        .next_multiple_of(ROWS)
        .min(rows);
    let pieces = rows.div_ceil(stripe);
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
    let mut outputs = Outputs::new(sizes, y, kept);
    let place = |index: usize| {
        let start = index % pieces * stripe;
        (index / pieces, start..rows.min(start + stripe))
    };
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32
        && let Some(stream) = Stream::of(problem, rows)
    {
        return tasks::<f32>(problem.op, heads, 0, |head, _| {
            stream.run(problem, (head, 0..rows), &outputs);
        });
    }
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32
        && stripe > FEW
        && let Some(singles) = Wide::singles(problem)
    {
        let run = |wide: Wide, outputs: &Outputs<'_>| {
            let size = wide.size(stripe);
            tasks::<f32>(problem.op, heads * pieces, size, |index, room| {
                wide.run(problem, place(index), stripe, room, outputs);
            })
        };
        let Some(pairs) = Wide::pairs(problem) else {
            return run(singles, &outputs);
        };
        // Results have the same bits with a gradient and without; what is kept for one has no rounded weights.
        run(pairs, &outputs.take_results())?;
        return if outputs.logs.is_some() {
            run(singles, &outputs)
        } else {
            Ok(())
        };
    }
    let simd = Simd::best();
    tasks::<T>(
        problem.op,
        heads * pieces,
        Space::<T>::size(problem, stripe),
        |index, room| {
            let (head, rows) = place(index);
            simd.vectors(Run {
                problem,
                head,
                rows,
                space: Space::new(problem, stripe, room),
                outputs: &outputs,
            });
        },
    )
}

/// Where results go.
pub(super) struct Outputs<'a> {
    y: Option<Sink<'a>>,
    logs: Option<Sink<'a>>,
    exact: Option<Sink<'a>>,
}

/// What results are multiplied by; 0 for a row that sees no key.
#[inline(always)]
pub(super) fn inverse<T: Float>(sum: T) -> T {
    if sum == T::ZERO {
        T::ZERO
    } else {
        T::ONE.over(sum)
    }
}

impl<'a> Outputs<'a> {
    fn new(sizes: Sizes, y: &'a mut HostMut<'_>, kept: Option<Kept<'a, '_>>) -> Self {
        let (logs, exact) = match kept {
            Some(Kept { logs, exact }) => (Some(logs), exact),
            None => (None, None),
        };
        Outputs {
            y: Some(Sink::new(y, [sizes.rows, sizes.value_width])),
            logs: logs.map(|logs| Sink::new(logs, [sizes.rows, 1])),
            exact: exact.map(|exact| Sink::new(exact, [sizes.rows, sizes.value_width])),
        }
    }

    /// The results alone; what is kept stays.
    #[cfg(target_arch = "x86_64")]
    fn take_results(&mut self) -> Self {
        Outputs {
            y: self.y.take(),
            logs: None,
            exact: None,
        }
    }

    /// The rows of a head's results, if they are all that is written, as whole registers of `f32`: the first one, and the numbers
    /// from one to the next.
    #[cfg(target_arch = "x86_64")]
    pub fn rows(&self, head: usize) -> Option<(*mut f32, usize)> {
        let alone = self.y.as_ref().filter(|_| self.exact.is_none());
        alone.and_then(|y| y.lanes(head, 0))
    }

    /// A row of results.
    #[inline(always)]
    pub fn write<T: Lane>(&self, (head, row): (usize, usize), line: &[T]) {
        for sink in [&self.y, &self.exact].into_iter().flatten() {
            sink.write(head, row, line);
        }
    }

    /// A row of results that have yet to be divided by their sum, and its logarithm.
    #[inline(always)]
    pub fn write_sums<T: Lane + Float>(
        &self,
        place: (usize, usize),
        line: &mut [T],
        [top, sum]: [T; 2],
    ) {
        let inverse = inverse(sum);
        for x in line.iter_mut() {
            *x = x.times(inverse);
        }
        self.write(place, line);
        self.write_log(place, [top, sum]);
    }

    /// The logarithm of a row's sum of exponentials, which were relative to their maximum.
    #[inline(always)]
    pub fn write_log<T: Lane + Float>(&self, (head, row): (usize, usize), [top, sum]: [T; 2]) {
        if let Some(logs) = &self.logs {
            let log = if sum == T::ZERO {
                T::ZERO
            } else {
                base(top).plus(Float::ln(sum))
            };
            logs.write(head, row, &[log]);
        }
    }
}

/// The blocks of one thread.
struct Space<'a, T> {
    /// Scaled queries, their results, and their running maxima and sums.
    queries: &'a mut [T],
    results: &'a mut [T],
    tops: &'a mut [T],
    sums: &'a mut [T],
    /// A block of keys (transposed), of values, of scores, and rows being packed.
    keys: &'a mut [T],
    values: &'a mut [T],
    scores: &'a mut [T],
    lines: &'a mut [T],
}

impl<'a, T: Lane> Space<'a, T> {
    fn lengths(problem: &Problem<'_>, stripe: usize) -> [usize; 8] {
        let (width, value_width) = (
            padded(problem.sizes.width),
            padded(problem.sizes.value_width),
        );
        [
            stripe * width,
            stripe * value_width,
            stripe,
            stripe,
            width * KEYS,
            KEYS * value_width,
            ROWS.max(FEW) * KEYS,
            KEYS.max(PAD) * width,
        ]
    }

    fn size(problem: &Problem<'_>, stripe: usize) -> usize {
        Self::lengths(problem, stripe).iter().sum()
    }

    fn new(problem: &Problem<'_>, stripe: usize, room: &'a mut [T]) -> Self {
        let lengths = Self::lengths(problem, stripe);
        let mut rest = room;
        let [queries, results, tops, sums, keys, values, scores, lines] =
            lengths.map(|length| carve(&mut rest, length));
        Space {
            queries,
            results,
            tops,
            sums,
            keys,
            values,
            scores,
            lines,
        }
    }
}

/// The rows of one task.
pub(crate) struct Run<'s, T> {
    problem: &'s Problem<'s>,
    head: usize,
    rows: std::ops::Range<usize>,
    space: Space<'s, T>,
    outputs: &'s Outputs<'s>,
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

impl<T: Lane + Float> Run<'_, T> {
    #[inline(always)]
    fn whole<S: pulp::Simd>(&mut self, simd: S)
    where
        T: Vector<S>,
    {
        let count = self.rows.len();
        self.load_queries();
        self.space.results.fill(T::ZERO);
        self.space.tops[..count].fill(T::LOWEST);
        self.space.sums[..count].fill(T::ZERO);
        let visible = self.problem.visible(self.rows.clone());
        for first in (0..visible).step_by(KEYS) {
            let keys = KEYS.min(visible - first);
            if count <= FEW {
                self.few(simd, first, keys);
            } else {
                self.block(simd, first, keys);
            }
        }
        self.store();
    }

    /// Queries times the scale.
    #[inline(always)]
    fn load_queries(&mut self) {
        let width = self.problem.sizes.width;
        let scale = T::from_f64(self.problem.scale);
        for (line, row) in self
            .space
            .queries
            .chunks_exact_mut(padded(width))
            .zip(self.rows.clone())
        {
            let (head, row) = self.problem.place(self.head, row);
            let line = &mut line[..width];
            self.problem.query.read([head, row, 0], line);
            for x in line {
                *x = x.times(scale);
            }
        }
    }

    /// A block of keys and values packed, then all rows over it.
    #[inline(always)]
    fn block<S: pulp::Simd>(&mut self, simd: S, first: usize, keys: usize)
    where
        T: Vector<S>,
    {
        let problem = self.problem;
        let sizes = problem.sizes;
        let (width, value_width) = (padded(sizes.width), padded(sizes.value_width));
        let (head, _) = problem.place(self.head, self.rows.start);
        let space = &mut self.space;
        for (key, line) in space.lines.chunks_exact_mut(width).take(keys).enumerate() {
            problem
                .key
                .read([head, first + key, 0], &mut line[..sizes.width]);
        }
        transpose(space.lines, width, space.keys, [keys, sizes.width]);
        for (key, line) in space
            .values
            .chunks_exact_mut(value_width)
            .take(keys)
            .enumerate()
        {
            problem
                .value
                .read([head, first + key, 0], &mut line[..sizes.value_width]);
        }
        for start in (0..self.rows.len()).step_by(ROWS) {
            let rows = ROWS.min(self.rows.len() - start);
            let begin = self.rows.start + start;
            let space = &mut self.space;
            let keys = keys.min(problem.visible(begin..begin + rows).saturating_sub(first));
            if keys == 0 {
                continue;
            }
            let queries = Left {
                values: &space.queries[start * width..],
                row: width,
                inner: 1,
            };
            let extent = Extent {
                rows,
                inner: sizes.width,
                columns: keys,
            };
            product(
                simd,
                queries,
                (space.keys, KEYS),
                (space.scores, KEYS),
                extent,
                Target::Replace,
            );
            self.weigh(start, [first, keys]);
            let space = &mut self.space;
            let weights = Left {
                values: &*space.scores,
                row: KEYS,
                inner: 1,
            };
            let extent = Extent {
                rows,
                inner: keys,
                columns: sizes.value_width,
            };
            let results = (&mut space.results[start * value_width..], value_width);
            product(
                simd,
                weights,
                (space.values, value_width),
                results,
                extent,
                Target::Add,
            );
        }
    }

    /// Turns a block of scores into weights, and rescales the results of its rows to the new maxima.
    #[inline(always)]
    fn weigh(&mut self, start: usize, [first, keys]: [usize; 2]) {
        let problem = self.problem;
        let value_width = padded(problem.sizes.value_width);
        let rows = ROWS.min(self.rows.len() - start);
        let space = &mut self.space;
        let lines = space.scores.chunks_exact_mut(KEYS).take(rows);
        for (index, line) in lines.enumerate() {
            let (head, row) = problem.place(self.head, self.rows.start + start + index);
            let line = &mut line[..keys];
            problem.hide(head, row, first, line);
            let at = start + index;
            let factor = soften(line, &mut space.tops[at], &mut space.sums[at]);
            if factor != T::ONE {
                for x in &mut space.results[at * value_width..(at + 1) * value_width] {
                    *x = x.times(factor);
                }
            }
        }
    }

    /// A few rows: each key is read once, in place where it lies right.
    #[inline(always)]
    fn few<S: pulp::Simd>(&mut self, simd: S, first: usize, keys: usize)
    where
        T: Vector<S>,
    {
        let problem = self.problem;
        let sizes = problem.sizes;
        let (width, value_width) = (padded(sizes.width), padded(sizes.value_width));
        let (head, _) = problem.place(self.head, self.rows.start);
        let rows = self.rows.len();
        let space = &mut self.space;
        let direct = problem.key.direct::<T>(head, first, [keys, sizes.width]);
        for start in (0..keys).step_by(HAND) {
            let count = HAND.min(keys - start);
            let (lines, stride) = match direct {
                Some(lines) => (&lines[start * problem.key.row..], problem.key.row),
                None => {
                    let lines = space.lines.chunks_exact_mut(width).take(count);
                    for (key, line) in lines.enumerate() {
                        let place = [head, first + start + key, 0];
                        problem.key.read(place, &mut line[..sizes.width]);
                    }
                    (&*space.lines, width)
                }
            };
            for key in 0..count {
                let line = &lines[key * stride..key * stride + sizes.width];
                for row in 0..rows {
                    let query = &space.queries[row * width..row * width + sizes.width];
                    space.scores[row * KEYS + start + key] = dot(simd, query, line);
                }
            }
        }
        self.weigh(0, [first, keys]);
        let space = &mut self.space;
        let direct = (sizes.value_width == value_width)
            .then(|| {
                let size = [keys, sizes.value_width];
                problem.value.direct::<T>(head, first, size)
            })
            .flatten();
        for start in (0..keys).step_by(HAND) {
            let count = HAND.min(keys - start);
            let values = match direct {
                Some(lines) => (&lines[start * problem.value.row..], problem.value.row),
                None => {
                    let lines = space.values.chunks_exact_mut(value_width).take(count);
                    for (key, line) in lines.enumerate() {
                        let place = [head, first + start + key, 0];
                        problem.value.read(place, &mut line[..sizes.value_width]);
                    }
                    (&*space.values, value_width)
                }
            };
            let weights = Left {
                values: &space.scores[start..],
                row: KEYS,
                inner: 1,
            };
            let extent = Extent {
                rows,
                inner: count,
                columns: sizes.value_width,
            };
            let results = (&mut *space.results, value_width);
            product(simd, weights, values, results, extent, Target::Add);
        }
    }

    #[inline(always)]
    fn store(&mut self) {
        let value_width = padded(self.problem.sizes.value_width);
        let space = &mut self.space;
        for (index, row) in self.rows.clone().enumerate() {
            let place = self.problem.place(self.head, row);
            let line = &mut space.results[index * value_width..(index + 1) * value_width];
            let sums = [space.tops[index], space.sums[index]];
            self.outputs.write_sums(place, line, sums);
        }
    }
}

/// What is subtracted from the scores of a row with this maximum.
#[inline(always)]
fn base<T: Float>(top: T) -> T {
    if top == T::LOWEST { T::ZERO } else { top }
}

/// Exponentials of a line of scores relative to the row's maximum so far, and what earlier results of the row shrink by.
#[inline(always)]
fn soften<T: Float>(line: &mut [T], top: &mut T, sum: &mut T) -> T {
    let high = largest(line);
    let high = if high > *top { high } else { *top };
    let zero = base(high);
    let factor = if high == *top {
        T::ONE
    } else {
        Float::exp(top.minus(zero))
    };
    *top = high;
    let whole = replaced(line, |x| x.minus(zero).exp_term());
    *sum = sum.times(factor).plus(whole);
    factor
}

/// `to[p][key] = from[key][p]`, where `to` has rows of [`KEYS`]; the keys up to the next vector are 0.
#[inline(always)]
pub(super) fn transpose<T: Lane>(
    from: &[T],
    stride: usize,
    to: &mut [T],
    [keys, width]: [usize; 2],
) {
    for start in (0..padded(keys)).step_by(16) {
        for (p, line) in to.chunks_exact_mut(KEYS).take(width).enumerate() {
            for (key, slot) in line[start..start + 16].iter_mut().enumerate() {
                let key = start + key;
                *slot = if key < keys {
                    from[key * stride + p]
                } else {
                    T::ZERO
                };
            }
        }
    }
}
