//! Reductions: many elements to one, over any set of dims.
//!
//! Knows how to walk kept and reduced dims. Must not know what is folded.

use std::ops::Range;

use super::alloc::{filled, lacks};
use super::lane::Lane;
use super::map;
use super::number::Number;
use super::par;
use super::simd::{Simd, vectorised};
use super::view::{Host, HostMut};
use crate::layout::Layout;
use crate::shape::{MAX_RANK, Shape};

/// A fold of elements to one value.
pub(crate) trait Fold: Sync {
    /// The lane type of the input.
    type In: Lane;
    /// The running value.
    type State: Copy + Send + Sync;
    /// The lane type of the output.
    type Out: Lane;
    /// The state before the first element.
    fn start(&self) -> Self::State;
    /// Takes one element in.
    fn step(&self, state: Self::State, x: Self::In) -> Self::State;
    /// Joins two states, the first over elements before the second's where order matters.
    fn join(&self, first: Self::State, second: Self::State) -> Self::State;
    /// The result for `count` elements.
    fn finish(&self, state: Self::State, count: usize) -> Self::Out;
}

/// Independent states per run, so that the compiler can fold in vectors; there are two sets of them, to fold two at once.
const LANES: usize = 16;
/// The states of a run.
type Lanes<S> = [[S; LANES]; 2];
/// Runs far apart that a thread folds side by side: the memory brings four streams faster than one (24 to 45 GB/s instead of
/// 20 to 27 on a Zen 3), however the same bytes are cut.
const STREAMS: usize = 4;
/// Elements of each that are taken in turn.
const TURN: usize = 256;
/// Elements from one of the streams to the next, at least.
const APART: usize = 4096;
/// Runs of at most so many elements are folded one by one.
const SHORT: usize = 8;
/// Elements gathered at a time.
const BLOCK: usize = 1024;

/// The dims of a layout split by a mask: those kept, then those reduced.
pub(crate) fn split(layout: &Layout, mask: &[bool; MAX_RANK]) -> (Layout, Layout) {
    let rank = layout.shape().rank();
    let part = |reduced: bool| {
        let order: smallvec::SmallVec<[usize; MAX_RANK]> =
            (0..rank).filter(|dim| mask[*dim] == reduced).collect();
        layout.permute(&order)
    };
    (part(false), part(true).with_offset(0))
}

/// The shape after reducing the dims of a mask.
pub(crate) fn reduced_shape(shape: &Shape, mask: &[bool; MAX_RANK], keep: bool) -> Shape {
    let sizes = shape.dims().iter().zip(mask);
    if keep {
        sizes
            .map(|(size, reduced)| if *reduced { 1 } else { *size })
            .collect()
    } else {
        sizes
            .filter(|(_, reduced)| !**reduced)
            .map(|(size, _)| *size)
            .collect()
    }
}

/// An output costs as much as so many of the elements that are folded into it.
const LINE: usize = 64;
/// Rows of kept elements that are folded in one go.
const DEEP: usize = 4;
/// The most states of a fold in parts.
const SPREAD: usize = 128 * 1024;

/// A loop over several states and, for each, the elements of some rows.
type Row<'f, T, S> = &'f (dyn Fn(&mut [S], &[&[T]]) + Sync);

/// A loop over several runs of one length, with a state for each.
type Runs<'f, T, S> = &'f (dyn Fn([&[T]; STREAMS]) -> [S; STREAMS] + Sync);

/// What the drivers need of a fold: they exist once per lane and state type, the loops once per fold.
struct Loops<'f, T, S> {
    start: S,
    /// Folds a run.
    run: &'f (dyn Fn(&[T]) -> S + Sync),
    /// Folds runs of one length side by side, each as `run` does.
    runs: Runs<'f, T, S>,
    /// Takes an element of each row into each of several states.
    row: Row<'f, T, S>,
    join: &'f (dyn Fn(S, S) -> S + Sync),
}

/// Folds `x` over the dims of the mask into `y`, whose shape is that of the kept dims (with or without the reduced ones as 1).
pub(crate) fn fold<F: Fold>(fold: &F, x: &Host<'_>, mask: &[bool; MAX_RANK], y: &mut HostMut<'_>) {
    let simd = Simd::best();
    let loops = Loops {
        start: fold.start(),
        run: &|run: &[F::In]| {
            if F::In::IS_FLOAT {
                vectorised!(simd, light fold_run(fold, run))
            } else {
                fold_run(fold, run)
            }
        },
        runs: &|runs: [&[F::In]; STREAMS]| {
            if F::In::IS_FLOAT {
                vectorised!(simd, light fold_runs(fold, runs))
            } else {
                fold_runs(fold, runs)
            }
        },
        row: &|states: &mut [F::State], rows: &[&[F::In]]| {
            if F::In::IS_FLOAT {
                vectorised!(simd, light fold_rows(fold, states, rows));
            } else {
                fold_rows(fold, states, rows);
            }
        },
        join: &|first, second| fold.join(first, second),
    };
    let (states, count) = states(&loops, x, mask);
    if lacks() {
        return;
    }
    let (kept, _) = split(x.layout(), mask);
    let Some(out_layout) = y.layout().reshape(kept.shape()) else {
        return;
    };
    map::generate(&mut y.with_layout(out_layout), |position| {
        fold.finish(states[position], count)
    });
}

/// The state of each output, and the number of elements folded into each.
fn states<T: Lane, S: Copy + Send + Sync>(
    loops: &Loops<'_, T, S>,
    x: &Host<'_>,
    mask: &[bool; MAX_RANK],
) -> (Vec<S>, usize) {
    let (kept, reduced) = split(x.layout(), mask);
    let count = reduced.elements();
    let reduced = reduced.merged();
    let outputs = kept.elements();
    if outputs == 1 && count >= 2 * par::GRAIN {
        return (vec![fold_whole(loops, x, &kept, &reduced, count)], count);
    }
    let across =
        kept.strides().last().copied() == Some(1) && reduced.strides().last().copied() != Some(1);
    if across {
        return (states_across(loops, x, &kept, &reduced), count);
    }
    let mut states = filled(loops.start, outputs);
    if lacks() {
        return (states, count);
    }
    let grain = par::GRAIN / (count + LINE) + 1;
    let cells = Cells(states.as_mut_ptr());
    let kept = kept.merged();
    par::ranges(outputs, grain, |range| {
        let cells = &cells;
        let mut line = Line::new(x, &reduced);
        // SAFETY: positions of the range are below `outputs`, and no other thread has them.
        let put = |position, state| unsafe { *cells.0.add(position) = state };
        let apart = range.len() / STREAMS;
        let mut rest = range.clone();
        if line.is_run() && count >= TURN && apart * count >= APART {
            for position in range.start..range.start + apart {
                let streams: [usize; STREAMS] = std::array::from_fn(|own| position + own * apart);
                let bases = streams.map(|position| offset_at(&kept, position));
                let states = line.fold_side_by_side(loops, bases, count);
                streams
                    .into_iter()
                    .zip(states)
                    .for_each(|(own, state)| put(own, state));
            }
            rest.start += STREAMS * apart;
        }
        for position in rest {
            put(
                position,
                line.fold(loops, offset_at(&kept, position), 0..count),
            );
        }
    });
    (states, count)
}

/// The states where neighbouring outputs come from neighbouring elements: few outputs are folded in parts, joined in order.
fn states_across<T: Lane, S: Copy + Send + Sync>(
    loops: &Loops<'_, T, S>,
    x: &Host<'_>,
    kept: &Layout,
    reduced: &Layout,
) -> Vec<S> {
    let (outputs, count) = (kept.elements(), reduced.elements());
    let parts = (outputs * count / (8 * par::GRAIN)).min(SPREAD / outputs.max(1));
    let parts = parts.clamp(1, 16);
    let mut states = filled(loops.start, outputs * parts);
    if lacks() {
        return states;
    }
    let cells = Cells(states.as_mut_ptr());
    let share = count.div_ceil(parts);
    let grain = (par::GRAIN / share.max(1)).max(1);
    par::ranges(outputs * parts, grain, |range| {
        let cells = &cells;
        let mut from = range.start;
        while from < range.end {
            let part = from / outputs;
            let to = range.end.min((part + 1) * outputs);
            // SAFETY: ranges are disjoint and within the vector, which outlives the call.
            let states = unsafe { std::slice::from_raw_parts_mut(cells.0.add(from), to - from) };
            let rows = (part * share).min(count)..((part + 1) * share).min(count);
            fold_across(
                loops,
                x,
                (kept, reduced),
                from - part * outputs,
                rows,
                states,
            );
            from = to;
        }
    });
    let (total, rest) = states.split_at_mut(outputs);
    // There may be no outputs at all.
    for part in rest.chunks(outputs.max(1)) {
        for (total, state) in total.iter_mut().zip(part) {
            *total = (loops.join)(*total, *state);
        }
    }
    states.truncate(outputs);
    states
}

/// The states of a range of outputs, shareable between threads that write disjoint ones.
struct Cells<S>(*mut S);

// SAFETY: each thread touches its own range only.
unsafe impl<S: Send> Sync for Cells<S> {}

/// The element offset of a row-major position of a layout.
pub(crate) fn offset_at(layout: &Layout, position: usize) -> usize {
    let mut rest = position;
    let mut offset = layout.offset();
    for (size, stride) in layout.pairs().rev() {
        let size = size.max(1);
        offset += rest % size * stride;
        rest /= size;
    }
    offset
}

/// One output from many elements, cut over the threads; parts join in order, so the result does not depend on timing.
fn fold_whole<T: Lane, S: Copy + Send + Sync>(
    loops: &Loops<'_, T, S>,
    x: &Host<'_>,
    kept: &Layout,
    reduced: &Layout,
    count: usize,
) -> S {
    let part = par::GRAIN;
    let parts = count.div_ceil(part);
    let mut states = filled(loops.start, parts);
    if lacks() {
        return loops.start;
    }
    let cells = Cells(states.as_mut_ptr());
    par::ranges(parts, 1, |range| {
        let cells = &cells;
        let mut line = Line::new(x, reduced);
        for index in range {
            let elements = index * part..((index + 1) * part).min(count);
            let state = if line.is_run() && elements.len() == part {
                let share = part / STREAMS;
                let first = kept.offset() + elements.start;
                let bases = std::array::from_fn(|own| first + own * share);
                let states = line.fold_side_by_side(loops, bases, share);
                states
                    .into_iter()
                    .fold(loops.start, |total, state| (loops.join)(total, state))
            } else {
                line.fold(loops, kept.offset(), elements)
            };
            // SAFETY: `index` is below `parts`, and no other thread has it.
            unsafe { *cells.0.add(index) = state };
        }
    });
    states
        .into_iter()
        .reduce(|first, second| (loops.join)(first, second))
        .unwrap_or(loops.start)
}

/// The reduced dims as runs of lanes, from any base.
struct Line<'a, T> {
    x: &'a Host<'a>,
    walk: super::strided::Walk<1>,
    stride: usize,
    direct: bool,
    buffer: Vec<T>,
}

impl<'a, T: Lane> Line<'a, T> {
    fn new(x: &'a Host<'a>, reduced: &Layout) -> Self {
        let walk = super::strided::Walk::new([reduced]);
        let [stride] = walk.inner();
        let direct = x.dtype() == T::DTYPE && stride == 1;
        let buffer = if direct {
            Vec::new()
        } else {
            vec![T::ZERO; BLOCK.min(reduced.elements())]
        };
        Line {
            x,
            walk,
            stride,
            direct,
            buffer,
        }
    }

    /// Whether the elements are lanes in one row.
    fn is_run(&self) -> bool {
        self.direct && self.walk.dims().count() == 1
    }

    /// Folds `count` elements from each of the element offsets on; they must lie in a row.
    fn fold_side_by_side<S: Copy>(
        &self,
        loops: &Loops<'_, T, S>,
        bases: [usize; STREAMS],
        count: usize,
    ) -> [S; STREAMS] {
        let size = self.x.dtype().size();
        (loops.runs)(bases.map(|base| {
            let from = self.x.start().wrapping_add(base * size);
            // SAFETY: `is_run` says that the elements are lanes in a row, and the caller that these are some of the view's.
            unsafe { std::slice::from_raw_parts(from.cast(), count) }
        }))
    }

    /// Folds the elements `range` of the reduced dims, from the element offset `base` on.
    fn fold<S: Copy>(&mut self, loops: &Loops<'_, T, S>, base: usize, range: Range<usize>) -> S {
        let Line {
            x,
            walk,
            stride,
            direct,
            buffer,
        } = self;
        let size = x.dtype().size();
        let longest = if *direct { usize::MAX } else { BLOCK };
        let mut total: Option<S> = None;
        walk.runs(range, longest, |[offset], count| {
            let from = x.start().wrapping_add((base + offset) * size);
            let run: &[T] = if *direct {
                // SAFETY: the walk and the base name elements of the view; `direct` says that they are lanes in a row.
                unsafe { std::slice::from_raw_parts(from.cast(), count) }
            } else {
                // SAFETY: as above, with the stride; the lane serves the dtype.
                unsafe { T::gather(from, *stride, x.dtype(), &mut buffer[..count]) };
                &buffer[..count]
            };
            let state = (loops.run)(run);
            total = Some(total.map_or(state, |total| (loops.join)(total, state)));
        });
        total.unwrap_or(loops.start)
    }
}

/// Takes the elements of some rows into the states below them.
#[inline(always)]
fn fold_rows<F: Fold>(fold: &F, states: &mut [F::State], rows: &[&[F::In]]) {
    if let [a, b, c, d] = rows {
        let below = a.iter().zip(*b).zip(*c).zip(*d);
        for (state, (((a, b), c), d)) in states.iter_mut().zip(below) {
            let two = fold.step(fold.step(*state, *a), *b);
            *state = fold.step(fold.step(two, *c), *d);
        }
        return;
    }
    for row in rows {
        for (state, x) in states.iter_mut().zip(*row) {
            *state = fold.step(*state, *x);
        }
    }
}

/// Folds a run with independent states.
#[inline(always)]
fn fold_run<F: Fold>(fold: &F, run: &[F::In]) -> F::State {
    if run.len() <= SHORT {
        // As below, without the states that stay empty.
        let states = run.iter().map(|x| fold.step(fold.start(), *x));
        return states
            .reduce(|total, state| fold.join(total, state))
            .unwrap_or_else(|| fold.start());
    }
    let mut lanes = [[fold.start(); LANES]; 2];
    take(fold, &mut lanes, run);
    joined(fold, &lanes)
}

/// Folds runs of one length, some elements of each in turn.
#[inline(always)]
fn fold_runs<F: Fold>(fold: &F, runs: [&[F::In]; STREAMS]) -> [F::State; STREAMS] {
    let mut lanes = [[[fold.start(); LANES]; 2]; STREAMS];
    let [a, b, c, d] = runs.map(|run| run.chunks(TURN));
    for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
        for (lanes, run) in lanes.iter_mut().zip([a, b, c, d]) {
            take(fold, lanes, run);
        }
    }
    lanes.map(|lanes| joined(fold, &lanes))
}

/// Takes a run into states, of which each has every 32nd element.
#[inline(always)]
fn take<F: Fold>(fold: &F, lanes: &mut Lanes<F::State>, run: &[F::In]) {
    let [mut even, mut odd] = *lanes;
    let (chunks, rest) = run.as_chunks::<{ 2 * LANES }>();
    for chunk in chunks {
        for lane in 0..LANES {
            even[lane] = fold.step(even[lane], chunk[lane]);
        }
        for lane in 0..LANES {
            odd[lane] = fold.step(odd[lane], chunk[LANES + lane]);
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        let state = if lane < LANES {
            &mut even[lane]
        } else {
            &mut odd[lane - LANES]
        };
        *state = fold.step(*state, *x);
    }
    *lanes = [even, odd];
}

/// The states of a run as one.
#[inline(always)]
fn joined<F: Fold>(fold: &F, [even, odd]: &Lanes<F::State>) -> F::State {
    let rest = even[1..].iter().chain(odd);
    rest.fold(even[0], |total, state| fold.join(total, *state))
}

/// Folds the rows `range` of the kept dims, for inputs whose kept dim is the contiguous one.
fn fold_across<T: Lane, S>(
    loops: &Loops<'_, T, S>,
    x: &Host<'_>,
    (kept, reduced): (&Layout, &Layout),
    first: usize,
    range: Range<usize>,
    states: &mut [S],
) {
    let width = kept.dims().last().copied().unwrap_or(1).max(1);
    let direct = x.dtype() == T::DTYPE;
    let mut buffer: Vec<T> = if direct {
        Vec::new()
    } else {
        vec![T::ZERO; DEEP * BLOCK]
    };
    let size = x.dtype().size();
    let mut position = first;
    let mut rest = states;
    while !rest.is_empty() {
        let run = (width - position % width).min(rest.len()).min(BLOCK);
        let (now, later) = rest.split_at_mut(run);
        let base = offset_at(kept, position);
        let mut index = range.start;
        while index < range.end {
            let deep = DEEP.min(range.end - index);
            let mut lanes = buffer.chunks_mut(BLOCK);
            let mut rows: [&[T]; DEEP] = [&[]; DEEP];
            for (number, row) in rows.iter_mut().enumerate().take(deep) {
                let offset = base + offset_at(reduced, index + number);
                let from = x.start().wrapping_add(offset * size);
                *row = match lanes.next() {
                    // SAFETY: the kept dim is contiguous for `run` elements from this one on.
                    None => unsafe { std::slice::from_raw_parts(from.cast(), run) },
                    Some(lane) => {
                        // SAFETY: as above; the lane serves the dtype.
                        unsafe { T::gather(from, 1, x.dtype(), &mut lane[..run]) };
                        &lane[..run]
                    }
                };
            }
            (loops.row)(now, &rows[..deep]);
            index += deep;
        }
        position += run;
        rest = later;
    }
}
