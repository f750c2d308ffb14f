//! Rows: drivers that hand whole lines of several tensors to a function, for softmax, norms and losses.
//!
//! Knows how to cut tensors into lines along any dims, gather and scatter them. Must not know what is computed.

use super::lane::Lane;
use super::par;
use super::reduce::{offset_at, split};
use super::strided::Walk;
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
}

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
        let buffer = if direct {
            Vec::new()
        } else {
            vec![T::ZERO; length]
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
            buffer,
            held: None,
        }
    }

    fn address(&self, offset: usize) -> *mut u8 {
        self.start.wrapping_add(offset * self.size)
    }

    /// Makes a line of an input ready.
    fn load(&mut self, row: usize) {
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
    fn place(&mut self, row: usize) {
        self.at = if self.direct {
            self.address(offset_at(&self.outer, row)).cast()
        } else {
            self.buffer.as_mut_ptr()
        };
    }

    /// Writes a line of an output that went through the buffer.
    fn store(&self, row: usize) {
        if self.direct {
            return;
        }
        let offset = offset_at(&self.outer, row);
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

    fn slice(&self) -> &[T] {
        // SAFETY: `load` has pointed `at` to `length` elements of the view or of the buffer.
        unsafe { std::slice::from_raw_parts(self.at, self.length) }
    }

    fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: `place` has pointed `at` to `length` elements of the view or of the buffer; a row belongs to one thread.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.length) }
    }
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
    let grain = (par::GRAIN / inner.elements().max(1)).max(1);
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
            Line::new(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        for row in range {
            from.iter_mut().for_each(|line| line.load(row));
            to.iter_mut().for_each(|line| line.place(row));
            f(
                row,
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
            );
            to.iter().for_each(|line| line.store(row));
        }
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
    let grain = (par::GRAIN / inner.elements().max(1)).max(1);
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
            Line::new(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        let mut marks = Line::<i64>::new(*start, &layout, crate::dtype::DType::I64, mask);
        for row in range {
            from.iter_mut().for_each(|line| line.load(row));
            to.iter_mut().for_each(|line| line.place(row));
            marks.place(row);
            f(
                row,
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
                marks.slice_mut(),
            );
            to.iter().for_each(|line| line.store(row));
            marks.store(row);
        }
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

/// As `rows`, with `S` sums over the lines besides: `f` adds to them position by position; each has `length` positions. The
/// parts of the threads are joined in order.
pub(crate) fn summed<T: Lane, const I: usize, const O: usize, const S: usize>(
    inputs: [&Host<'_>; I],
    outputs: [&mut HostMut<'_>; O],
    mask: &[bool; MAX_RANK],
    length: usize,
    f: impl Fn([&[T]; I], [&mut [T]; O], &mut [Vec<f64>; S]) + Sync,
) -> [Vec<f64>; S] {
    let layouts = outputs
        .each_ref()
        .map(|output| (*output.layout(), output.dtype()));
    let shared = Shared(
        inputs.map(|input| input.start().cast_mut()),
        outputs.map(|output| output.start()),
    );
    let parts = std::sync::Mutex::new(Vec::new());
    let zeros = || -> [Vec<f64>; S] { std::array::from_fn(|_| vec![0.0; length]) };
    let Some(first) = inputs.first() else {
        return zeros();
    };
    let (outer, inner) = split(first.layout(), mask);
    let grain = (par::GRAIN / inner.elements().max(1)).max(1);
    par::ranges(outer.elements(), grain, |range| {
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
            Line::new(writes[index], &layouts[index].0, layouts[index].1, mask)
        });
        let (start, mut sums) = (range.start, zeros());
        for row in range {
            from.iter_mut().for_each(|line| line.load(row));
            to.iter_mut().for_each(|line| line.place(row));
            f(
                from.each_ref().map(Line::slice),
                to.each_mut().map(Line::slice_mut),
                &mut sums,
            );
            to.iter().for_each(|line| line.store(row));
        }
        parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push((start, sums));
    });
    let mut parts = parts
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    parts.sort_by_key(|(start, _)| *start);
    let mut total = zeros();
    for (_, sums) in &parts {
        for (total, sums) in total.iter_mut().zip(sums) {
            total
                .iter_mut()
                .zip(sums)
                .for_each(|(total, sum)| *total += sum);
        }
    }
    total
}
