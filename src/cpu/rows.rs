//! Rows: drivers that hand whole lines of several tensors to a function, for softmax, norms and losses.
//!
//! Knows how to cut tensors into lines along any dims, gather and scatter them. Must not know what is computed.

use std::ops::Range;

use super::alloc::{filled, lacks};
use super::lane::Lane;
use super::par;
use super::reduce::{offset_at, split};
use super::simd;
use super::strided::Walk;
use super::transpose::{SIDE, square};
use super::view::{Host, HostMut};
use crate::layout::Layout;
use crate::shape::MAX_RANK;

/// Lines that a thread reads or writes: straight in memory where they lie right, else through a buffer.
struct Line<T> {
    start: *mut u8,
    size: usize,
    dtype: crate::dtype::DType,
    outer: Layout,
    inner: Layout,
    length: usize,
    direct: bool,
    at: *mut T,
    buffer: Vec<T>,
    /// The offset of the input line that the buffer holds.
    held: Option<usize>,
    /// Lines whose first elements are neighbours go through the buffer together: so many, this far apart in it.
    panel: Option<Panel>,
    /// Whether the output goes past the caches.
    streamed: bool,
}

/// Lines that lie side by side: element `i` of all of them in a row.
#[derive(Clone, Copy)]
struct Panel {
    /// The first of the lines in the buffer, and how many there are.
    first: usize,
    count: usize,
    /// From a line to the next in the buffer.
    apart: usize,
}

/// Lines of a panel at most.
const PANEL: usize = 64;
/// Rows that are asked for before a square of them is read.
const AHEAD: usize = 2 * SIDE;
/// A panel's buffer has at most so many elements.
const PANEL_ELEMENTS: usize = 128 * 1024;
/// Outputs of at least so many bytes are written past the caches.
const STREAMED: usize = 12 << 20;
/// A line costs as much as so many of its elements.
const ROW: usize = 64;

impl<T: Lane> Line<T> {
    fn new(
        start: *mut u8,
        layout: &Layout,
        dtype: crate::dtype::DType,
        mask: &[bool; MAX_RANK],
    ) -> Self {
        let (outer, inner) = split(layout, mask);
        let length = inner.elements();
        let (outer, inner) = (outer.merged(), inner.merged());
        let straight = inner.strides().is_empty() || inner.strides() == [1];
        let direct = dtype == T::DTYPE && straight;
        let beside = !straight && length > 1 && outer.strides().last() == Some(&1);
        let panel = beside.then(|| Panel {
            first: 0,
            count: 0,
            // A line of the cache more, so that the lines do not all fall on the same sets of it.
            apart: length + 16,
        });
        let room = match panel {
            Some(panel) => panel.apart * panel_lines(length),
            None if direct => 0,
            None => length,
        };
        Line {
            start,
            size: dtype.size(),
            dtype,
            outer,
            inner,
            length,
            direct,
            at: std::ptr::null_mut(),
            buffer: filled(T::ZERO, room),
            held: None,
            panel,
            streamed: false,
        }
    }

    /// As `new`, for an output: a large one is written past the caches.
    fn output(
        start: *mut u8,
        layout: &Layout,
        dtype: crate::dtype::DType,
        mask: &[bool; MAX_RANK],
    ) -> Self {
        let mut line = Line::new(start, layout, dtype, mask);
        let straight = line.inner.strides() == [1];
        if straight && layout.elements() * line.size >= STREAMED {
            line.streamed = true;
            line.direct = false;
            line.buffer = filled(T::ZERO, line.length);
        }
        line
    }

    /// The lines from `row` on that lie side by side and fit the buffer, at most up to `end`.
    fn beside(&self, row: usize, end: usize) -> usize {
        let width = self.outer.dims().last().copied().unwrap_or(1).max(1);
        (width - row % width)
            .min(end - row)
            .min(panel_lines(self.length))
    }

    /// Reads a panel into the buffer, or writes it from there: in squares where the elements are lanes, else one by one.
    fn panel(&mut self, panel: Panel, write: bool) {
        let offset = offset_at(&self.outer, panel.first);
        let walk = Walk::new([&self.inner]);
        let [stride] = walk.inner();
        let mut done = 0;
        walk.runs(0..self.length, usize::MAX, |[step], count| {
            let first = offset + step;
            let whole = if self.dtype == T::DTYPE && panel.count.is_multiple_of(SIDE) {
                count / SIDE * SIDE
            } else {
                0
            };
            self.squares(panel, write, (first, stride), done..done + whole);
            for index in whole..count {
                let lines = (first + index * stride, done + index);
                self.across(panel, write, lines);
            }
            done += count;
        });
    }

    /// The elements `range` of a panel's lines, a whole number of squares; the first of all is this element, with this stride.
    fn squares(
        &mut self,
        panel: Panel,
        write: bool,
        (first, stride): (usize, usize),
        range: Range<usize>,
    ) {
        let (turn, size) = (square::<T>(), self.size);
        let buffer = self.buffer.as_mut_ptr();
        for (block, index) in range.step_by(SIDE).enumerate() {
            let row = first + block * SIDE * stride;
            if !write {
                for ahead in AHEAD..AHEAD + SIDE {
                    let start = self.start.wrapping_add((row + ahead * stride) * size);
                    simd::prefetch(start, panel.count * size);
                }
            }
            for line in (0..panel.count).step_by(SIDE) {
                let place = self.start.wrapping_add((row + line) * size);
                let held = buffer.wrapping_add(line * panel.apart + index);
                // SAFETY: the square's elements lie in the view and, as many lines, in the buffer.
                unsafe {
                    if write {
                        turn(held.cast(), panel.apart * size, place.cast(), stride);
                    } else {
                        turn(place, stride * size, held, panel.apart);
                    }
                }
            }
        }
    }

    /// One element of all lines of a panel: where the first of them lies in the view, and its index in a line.
    fn across(&mut self, panel: Panel, write: bool, (element, index): (usize, usize)) {
        let mut lane = [T::ZERO; PANEL];
        let lane = &mut lane[..panel.count];
        let place = self.start.wrapping_add(element * self.size);
        let column = &mut self.buffer[index..];
        if write {
            for (x, y) in column.iter().step_by(panel.apart).zip(lane.iter_mut()) {
                *y = *x;
            }
            // SAFETY: the element lies in the view, and so do its neighbours, those of the panel's other lines.
            unsafe { T::scatter(lane, place, 1, self.dtype) };
        } else {
            // SAFETY: as above.
            unsafe { T::gather(place, 1, self.dtype, lane) };
            for (x, y) in lane.iter().zip(column.iter_mut().step_by(panel.apart)) {
                *y = *x;
            }
        }
    }

    /// Points to a row of the panel that has it.
    fn point(&mut self, row: usize, panel: Panel) {
        let place = (row - panel.first) * panel.apart;
        self.at = self.buffer.as_mut_ptr().wrapping_add(place);
    }

    fn address(&self, offset: usize) -> *mut u8 {
        self.start.wrapping_add(offset * self.size)
    }

    /// Makes a line of an input ready; those after it, up to `end`, will be asked for next.
    fn load(&mut self, row: usize, end: usize) {
        if let Some(mut panel) = self.panel {
            if !(panel.first..panel.first + panel.count).contains(&row) {
                panel.first = row;
                panel.count = self.beside(row, end);
                self.panel = Some(panel);
                self.panel(panel, false);
            }
            return self.point(row, panel);
        }
        let offset = offset_at(&self.outer, row);
        if self.direct {
            self.at = self.address(offset).cast();
            return;
        }
        self.at = self.buffer.as_mut_ptr();
        if self.held.replace(offset) == Some(offset) {
            return;
        }
        let walk = Walk::new([&self.inner]);
        let [stride] = walk.inner();
        let mut done = 0;
        let (start, size, dtype) = (self.start, self.size, self.dtype);
        let buffer = &mut self.buffer;
        walk.runs(0..self.length, usize::MAX, |[step], count| {
            let from = start.wrapping_add((offset + step) * size);
            if let Some(lane) = buffer.get_mut(done..done + count) {
                // SAFETY: the walk names elements of the view, whose dtype the lane serves.
                unsafe { T::gather(from, stride, dtype, lane) };
            }
            done += count;
        });
    }

    /// Makes room for a line of an output.
    fn place(&mut self, row: usize, end: usize) {
        if let Some(mut panel) = self.panel {
            if !(panel.first..panel.first + panel.count).contains(&row) {
                panel.first = row;
                panel.count = self.beside(row, end);
                self.panel = Some(panel);
            }
            return self.point(row, panel);
        }
        self.at = if self.direct {
            self.address(offset_at(&self.outer, row)).cast()
        } else {
            self.buffer.as_mut_ptr()
        };
    }

    /// Writes a line of an output that went through the buffer.
    fn store(&mut self, row: usize) {
        if self.direct {
            return;
        }
        if let Some(panel) = self.panel {
            if row + 1 == panel.first + panel.count {
                self.panel(panel, true);
            }
            return;
        }
        let offset = offset_at(&self.outer, row);
        if self.streamed {
            // SAFETY: the line lies in a row in the view, whose dtype the lane serves.
            return unsafe { T::stream(&self.buffer, self.address(offset), self.dtype) };
        }
        let walk = Walk::new([&self.inner]);
        let [stride] = walk.inner();
        let mut done = 0;
        walk.runs(0..self.length, usize::MAX, |[step], count| {
            if let Some(lane) = self.buffer.get(done..done + count) {
                // SAFETY: the walk names elements of the view, whose dtype the lane serves.
                unsafe { T::scatter(lane, self.address(offset + step), stride, self.dtype) };
            }
            done += count;
        });
    }

    /// The last line is written.
    fn finish(&self) {
        if self.streamed {
            simd::fence();
        }
    }

    fn slice(&self) -> &[T] {
        // SAFETY: `load` has pointed `at` to `length` elements of the view or of the buffer.
        unsafe { std::slice::from_raw_parts(self.at, self.length) }
    }

    fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: `place` has pointed `at` to `length` elements of the view or of the buffer; a row belongs to one thread.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.length) }
    }
}

/// How many lines of a length a panel has.
fn panel_lines(length: usize) -> usize {
    (PANEL_ELEMENTS / (length + 16)).clamp(1, PANEL)
}

/// The addresses of views, made shareable between threads.
struct Shared<const I: usize, const O: usize>([*mut u8; I], [*mut u8; O]);

// SAFETY: inputs are only read; threads write disjoint lines of the outputs.
unsafe impl<const I: usize, const O: usize> Sync for Shared<I, O> {}

/// Calls `f` with each line of the inputs and outputs: the elements along the dims of the mask, in row-major order. All have
/// the same dims outside the mask; along it they may differ. `T` serves all dtypes.
pub(crate) fn rows<T: Lane, const I: usize, const O: usize>(
    inputs: [&Host<'_>; I],
    outputs: [&mut HostMut<'_>; O],
    mask: &[bool; MAX_RANK],
    f: impl Fn(usize, [&[T]; I], [&mut [T]; O]) + Sync,
) {
    let layouts = outputs
        .each_ref()
        .map(|output| (*output.layout(), output.dtype()));
    let shared = Shared(
        inputs.map(|input| input.start().cast_mut()),
        outputs.map(|output| output.start()),
    );
    let first = inputs
        .first()
        .map(|input| *input.layout())
        .or(layouts.first().map(|(layout, _)| *layout));
    let Some(first) = first else { return };
    let (outer, inner) = split(&first, mask);
    let count = outer.elements();
    let grain = par::GRAIN / (inner.elements() + ROW) + 1;
    par::ranges(count, grain, |range| {
        let Shared(reads, writes) = &shared;
        let mut from: [Line<T>; I] = std::array::from_fn(|index| {
            Line::new(
                reads[index],
                inputs[index].layout(),
                inputs[index].dtype(),
                mask,
            )
        });
        let mut to: [Line<T>; O] = std::array::from_fn(|index| {
            Line::output(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        if lacks() {
            return;
        }
        let end = range.end;
        for row in range {
            from.iter_mut().for_each(|line| line.load(row, end));
            to.iter_mut().for_each(|line| line.place(row, end));
            f(
                row,
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
            );
            to.iter_mut().for_each(|line| line.store(row));
        }
        to.iter().for_each(Line::finish);
    });
}

/// The mask of one dim.
pub(crate) fn one(dim: usize) -> [bool; MAX_RANK] {
    std::array::from_fn(|index| index == dim)
}

/// The mask of the last `count` of `rank` dims.
pub(crate) fn last(rank: usize, count: usize) -> [bool; MAX_RANK] {
    std::array::from_fn(|index| index < rank && index + count >= rank)
}

/// As `rows`, with a line of integers (of dtype I64) to write besides.
pub(crate) fn marked<T: Lane, const I: usize, const O: usize>(
    inputs: [&Host<'_>; I],
    outputs: [&mut HostMut<'_>; O],
    marks: &mut HostMut<'_>,
    mask: &[bool; MAX_RANK],
    f: impl Fn(usize, [&[T]; I], [&mut [T]; O], &mut [i64]) + Sync,
) {
    debug_assert_eq!(marks.dtype(), crate::dtype::DType::I64);
    let (start, layout) = (marks.start(), *marks.layout());
    let layouts = outputs
        .each_ref()
        .map(|output| (*output.layout(), output.dtype()));
    let shared = Shared::<1, 0>([start], []);
    let views = Shared(
        inputs.map(|input| input.start().cast_mut()),
        outputs.map(|output| output.start()),
    );
    let first = inputs.first().map_or(layout, |input| *input.layout());
    let (outer, inner) = split(&first, mask);
    let grain = par::GRAIN / (inner.elements() + ROW) + 1;
    par::ranges(outer.elements(), grain, |range| {
        let (Shared([start], _), Shared(reads, writes)) = (&shared, &views);
        let mut from: [Line<T>; I] = std::array::from_fn(|index| {
            Line::new(
                reads[index],
                inputs[index].layout(),
                inputs[index].dtype(),
                mask,
            )
        });
        let mut to: [Line<T>; O] = std::array::from_fn(|index| {
            Line::output(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        let mut marks = Line::<i64>::new(*start, &layout, crate::dtype::DType::I64, mask);
        if lacks() {
            return;
        }
        let end = range.end;
        for row in range {
            from.iter_mut().for_each(|line| line.load(row, end));
            to.iter_mut().for_each(|line| line.place(row, end));
            marks.place(row, end);
            f(
                row,
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
                marks.slice_mut(),
            );
            to.iter_mut().for_each(|line| line.store(row));
            marks.store(row);
        }
        to.iter().for_each(Line::finish);
    });
}

/// For each line along `dim`: the position that `choose` picks, and the element there.
pub(crate) fn picked<T: Lane>(
    x: &Host<'_>,
    dim: usize,
    values: &mut HostMut<'_>,
    positions: &mut HostMut<'_>,
    choose: impl Fn(&[T]) -> usize + Sync,
) {
    let kept = if x.shape().rank() == 0 {
        *x.shape()
    } else {
        x.shape().with(dim, 1)
    };
    let (Some(value_layout), Some(position_layout)) = (
        values.layout().reshape(&kept),
        positions.layout().reshape(&kept),
    ) else {
        return;
    };
    let (mut values, mut positions) = (
        values.with_layout(value_layout),
        positions.with_layout(position_layout),
    );
    marked::<T, 1, 1>(
        [x],
        [&mut values],
        &mut positions,
        &one(dim),
        |_, [line], [value], position| {
            let chosen = choose(line);
            if let Some(x) = line.get(chosen) {
                value.fill(*x);
            }
            position.fill(chosen as i64);
        },
    );
}

/// Parts of the lines whose sums are joined.
const PARTS: usize = 16;

/// Adds sums of lanes to the wide ones and begins them anew.
fn flush<T: Lane, const S: usize>(recent: &mut [Vec<T>; S], sums: &mut [Vec<f64>; S]) {
    for (sums, recent) in sums.iter_mut().zip(recent) {
        for (sum, recent) in sums.iter_mut().zip(recent) {
            *sum += std::mem::replace(recent, T::ZERO).to_f64();
        }
    }
}

/// Lines whose sums are added up as lanes before they go to the wide sums.
const FEW: usize = 16;

/// As `rows`, with `S` sums over the lines besides: `f` adds to them position by position; each has `length` positions. The
/// parts of the threads are joined in order. Without memory the sums are empty, which the dispatcher is told.
pub(crate) fn summed<T: Lane, const I: usize, const O: usize, const S: usize>(
    inputs: [&Host<'_>; I],
    outputs: [&mut HostMut<'_>; O],
    mask: &[bool; MAX_RANK],
    length: usize,
    f: impl Fn([&[T]; I], [&mut [T]; O], &mut [Vec<T>; S]) + Sync,
) -> [Vec<f64>; S] {
    let layouts = outputs
        .each_ref()
        .map(|output| (*output.layout(), output.dtype()));
    let shared = Shared(
        inputs.map(|input| input.start().cast_mut()),
        outputs.map(|output| output.start()),
    );
    let parts = std::sync::Mutex::new(Vec::new());
    let zeros = || -> [Vec<f64>; S] { std::array::from_fn(|_| filled(0.0, length)) };
    let Some(first) = inputs.first() else {
        return zeros();
    };
    let part = |range: std::ops::Range<usize>| {
        let Shared(reads, writes) = &shared;
        let mut from: [Line<T>; I] = std::array::from_fn(|index| {
            Line::new(
                reads[index],
                inputs[index].layout(),
                inputs[index].dtype(),
                mask,
            )
        });
        let mut to: [Line<T>; O] = std::array::from_fn(|index| {
            Line::output(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        let (start, mut sums) = (range.start, zeros());
        let mut recent: [Vec<T>; S] = std::array::from_fn(|_| filled(T::ZERO, length));
        if lacks() {
            return;
        }
        let end = range.end;
        for row in range {
            from.iter_mut().for_each(|line| line.load(row, end));
            to.iter_mut().for_each(|line| line.place(row, end));
            f(
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
                &mut recent,
            );
            to.iter_mut().for_each(|line| line.store(row));
            if row + 1 == end || (row + 1 - start).is_multiple_of(FEW) {
                flush(&mut recent, &mut sums);
            }
        }
        to.iter().for_each(Line::finish);
        parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push((start, sums));
    };
    let (outer, inner) = split(first.layout(), mask);
    let count = outer.elements();
    // The parts do not depend on the threads, and so neither do the sums.
    let share = (count / PARTS)
        .max(par::GRAIN / inner.elements().max(1))
        .max(1);
    par::ranges(count.div_ceil(share), 1, |numbers| {
        for number in numbers {
            part(number * share..((number + 1) * share).min(count));
        }
    });
    let mut parts = parts
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    parts.sort_by_key(|(start, _)| *start);
    let mut total = zeros();
    for (_, sums) in &parts {
        add_to(&mut total, sums);
    }
    total
}

/// Adds sums position by position.
fn add_to<const S: usize>(total: &mut [Vec<f64>; S], sums: &[Vec<f64>; S]) {
    for (total, sums) in total.iter_mut().zip(sums) {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
}
