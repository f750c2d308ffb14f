//! Elementwise drivers: one, two or three inputs to one output, with any strides; and copies with conversion.
//!
//! Knows how to cut, gather and scatter runs. Must not know what the function computes.

use std::ops::Range;

use super::lane::{Lane, with_lane};
use super::number::Number;
use super::permute;
use super::pieces::{Pieces, in_pieces};
use super::real::Real;
use super::simd::{self, Simd, vectorised};
use super::strided::Walk;
use super::view::{Host, HostMut};
use super::{par, past};
use crate::dtype::{DType, Element};
use crate::layout::Layout;

/// Runs that must be gathered or scattered are this long at most.
const BLOCK: usize = 1024;

/// An input as runs of lanes: straight from memory where it lies right, else through a buffer.
struct Source<'a, T> {
    view: &'a Host<'a>,
    stride: usize,
    direct: bool,
    /// The offset whose value fills so much of the buffer, for a stride of 0.
    filled: Option<(usize, usize)>,
    buffer: Vec<T>,
}

impl<'a, T: Lane> Source<'a, T> {
    fn new(view: &'a Host<'a>, stride: usize) -> Self {
        let direct = view.dtype() == T::DTYPE && stride == 1;
        Source {
            view,
            stride,
            direct,
            filled: None,
            buffer: Vec::new(),
        }
    }

    fn run(&mut self, offset: usize, count: usize) -> &[T] {
        let from = self
            .view
            .start()
            .wrapping_add(offset * self.view.dtype().size());
        if self.direct {
            // SAFETY: the walk names elements of the view, which `Host::new` promised; `direct` says that they are `T`s in a row.
            return unsafe { std::slice::from_raw_parts(from.cast::<T>(), count) };
        }
        if let Some((known, length)) = self.filled
            && self.stride == 0
            && known == offset
            && length >= count
        {
            return &self.buffer[..count];
        }
        if self.buffer.len() < count {
            self.buffer.resize(count, T::ZERO);
        }
        let lane = &mut self.buffer[..count];
        // SAFETY: the walk names elements of the view (with stride 0, one of them), and `T` serves its dtype.
        unsafe { T::gather(from, self.stride, self.view.dtype(), lane) };
        self.filled = Some((offset, count));
        &self.buffer[..count]
    }
}

/// Runs of fewer bytes are not worth a way past the caches.
const RUN: usize = 256;
/// Outputs of at least so many bytes are written past the caches.
pub(super) const STREAMED: usize = 12 << 20;

/// How the results of a run get to an output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    /// Computed in place.
    Direct,
    /// Through a buffer, past the caches.
    Streamed,
    /// Through a buffer, converted or spread out.
    Scattered,
}

/// An output as runs of lanes.
struct Sink<T> {
    start: *mut u8,
    dtype: DType,
    stride: usize,
    road: Road,
    buffer: Vec<T>,
}

impl<T: Lane> Sink<T> {
    /// `inputs` are the addresses of the inputs' storages: an output that shares one goes through the buffer. `whole` is the
    /// number of elements of the whole output.
    fn new(view: &HostMut<'_>, stride: usize, inputs: &[*const u8], whole: usize) -> Self {
        let fresh = stride == 1 && !inputs.contains(&view.start().cast_const());
        let road = if fresh && whole * view.dtype().size() >= STREAMED {
            Road::Streamed
        } else if fresh && view.dtype() == T::DTYPE {
            Road::Direct
        } else {
            Road::Scattered
        };
        Sink {
            start: view.start(),
            dtype: view.dtype(),
            stride,
            road,
            buffer: Vec::new(),
        }
    }

    /// The longest run that the output takes.
    fn longest(&self) -> usize {
        if self.road == Road::Direct {
            usize::MAX
        } else {
            BLOCK
        }
    }

    /// Where the results of the run go.
    fn run(&mut self, offset: usize, count: usize) -> &mut [T] {
        if self.road == Road::Direct {
            // SAFETY: the walk names elements of the view, which `HostMut::new` promised; the road says that they are `T`s
            // in a row and that no input lies there.
            return unsafe {
                std::slice::from_raw_parts_mut(self.start.cast::<T>().add(offset), count)
            };
        }
        if self.buffer.len() < count {
            self.buffer.resize(count, T::ZERO);
        }
        &mut self.buffer[..count]
    }

    fn finish(&self, offset: usize, count: usize) {
        if self.road != Road::Direct {
            self.write(&self.buffer[..count], offset);
        }
    }

    /// Writes lanes that lie elsewhere.
    fn write(&self, lane: &[T], offset: usize) {
        let to = self.start.wrapping_add(offset * self.dtype.size());
        // SAFETY: the walk names elements of the view, and `T` serves its dtype; a streamed output is no input.
        unsafe {
            if self.road == Road::Streamed {
                T::stream(lane, to, self.dtype);
            } else {
                T::scatter(lane, to, self.stride, self.dtype);
            }
        }
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        if self.road == Road::Streamed {
            simd::fence();
        }
    }
}

/// The addresses of a view, made shareable between threads.
struct Shared<'a>(*mut u8, &'a HostMut<'a>);

// SAFETY: threads write disjoint elements of the output.
unsafe impl Sync for Shared<'_> {}

fn longest(direct: bool) -> usize {
    if direct { usize::MAX } else { BLOCK }
}

/// A function of one number, for the two float lanes. Its body is inlined into the vector loop whatever its size, for which
/// `at` has to be `#[inline(always)]`; closures are for small functions.
pub(crate) trait Formula: Sync {
    /// Whether it takes longer than memory, so that large outputs are written while it is computed.
    const LONG: bool = false;

    /// The function.
    fn at<T: Real>(&self, x: T) -> T;
}

/// As [`Formula`], of two numbers.
pub(crate) trait Formula2: Sync {
    /// The function.
    fn at<T: Real>(&self, x: T, y: T) -> T;
}

/// `y[i] = f(x[i])` by a formula.
pub(crate) fn formula<T: Lane + Real>(x: &Host<'_>, y: &mut HostMut<'_>, f: &impl Formula) {
    let simd = Simd::best();
    if past::formula::<T, _>(x, y, f) {
        return;
    }
    drive1::<T, T>(x, y, &|from, to| {
        vectorised!(simd, {
            for (to, x) in to.iter_mut().zip(from) {
                *to = f.at(*x);
            }
        });
    });
}

/// `z[i] = f(x[i], y[i])` by a formula.
pub(crate) fn formula2<T: Lane + Real>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    f: &impl Formula2,
) {
    let simd = Simd::best();
    drive2::<T, T, T>(x, y, z, &|a, b, to| {
        vectorised!(simd, {
            for ((to, x), y) in to.iter_mut().zip(a).zip(b) {
                *to = f.at(*x, *y);
            }
        });
    });
}

/// `y[i] = f(x[i])`. The layouts have one shape; `A` and `C` serve the dtypes.
///
/// Only the loop over a run is made anew for each function; the driver around it exists once per pair of lane types.
pub(crate) fn map1<A: Lane, C: Lane>(x: &Host<'_>, y: &mut HostMut<'_>, f: impl Fn(A) -> C + Sync) {
    let simd = Simd::best();
    drive1::<A, C>(x, y, &|from, to| {
        if A::IS_FLOAT {
            vectorised!(simd, light loop1(&f, from, to));
        } else {
            loop1(&f, from, to);
        }
    });
}

/// `z[i] = f(x[i], y[i])`; the inputs broadcast to the output's shape. Where all three are `bf16`, each number is widened and
/// rounded in registers: in blocks of their own the conversions would cost more than the memory.
pub(crate) fn map2<A: Lane, B: Lane, C: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    f: impl Fn(A, B) -> C + Sync,
) {
    let simd = Simd::best();
    if [A::DTYPE, B::DTYPE, C::DTYPE] == [DType::F32; 3]
        && [x.dtype(), y.dtype(), z.dtype()] == [DType::BF16; 3]
        && let [Some(x), Some(y)] = [x, y].map(|x| x.as_bits(DType::BF16))
        && let Some(mut z) = z.as_bits(DType::BF16)
    {
        let narrow = |x, y| f(A::from_bf16(x), B::from_bf16(y)).to_bf16();
        return drive2::<i16, i16, i16>(&x, &y, &mut z, &|a, b, to| {
            vectorised!(simd, loop2(&narrow, a, b, to));
        });
    }
    drive2::<A, B, C>(x, y, z, &|a, b, to| {
        if A::IS_FLOAT {
            vectorised!(simd, light loop2(&f, a, b, to));
        } else {
            loop2(&f, a, b, to);
        }
    });
}

/// `w[i] = f(x[i], y[i], z[i])`.
pub(crate) fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &Host<'_>,
    w: &mut HostMut<'_>,
    f: impl Fn(A, B, C) -> D + Sync,
) {
    let simd = Simd::best();
    drive3::<A, B, C, D>([x, y, z], w, &|a, b, c, to| {
        if C::IS_FLOAT {
            vectorised!(simd, light loop3(&f, (a, b, c), to));
        } else {
            loop3(&f, (a, b, c), to);
        }
    });
}

#[inline(always)]
fn loop1<A: Copy, C>(f: &impl Fn(A) -> C, from: &[A], to: &mut [C]) {
    for (to, x) in to.iter_mut().zip(from) {
        *to = f(*x);
    }
}

#[inline(always)]
fn loop2<A: Copy, B: Copy, C>(f: &impl Fn(A, B) -> C, a: &[A], b: &[B], to: &mut [C]) {
    for ((to, x), y) in to.iter_mut().zip(a).zip(b) {
        *to = f(*x, *y);
    }
}

#[inline(always)]
fn loop3<A: Copy, B: Copy, C: Copy, D>(
    f: &impl Fn(A, B, C) -> D,
    (a, b, c): (&[A], &[B], &[C]),
    to: &mut [D],
) {
    for (((to, x), y), z) in to.iter_mut().zip(a).zip(b).zip(c) {
        *to = f(*x, *y, *z);
    }
}

/// `y[i] = make(i)` for the row-major position `i`.
pub(crate) fn generate<C: Lane>(y: &mut HostMut<'_>, make: impl Fn(usize) -> C + Sync) {
    drive0::<C>(y, &|position, to| {
        for (index, to) in to.iter_mut().enumerate() {
            *to = make(position + index);
        }
    });
}

fn drive0<C: Lane>(y: &mut HostMut<'_>, run: &(dyn Fn(usize, &mut [C]) + Sync)) {
    let walk = Walk::new([y.layout()]);
    let [stride] = walk.inner();
    let target = Shared(y.start(), y);
    par::ranges(walk.elements(), par::GRAIN, |range| {
        let target = &target;
        let mut sink = Sink::<C>::new(target.1, stride, &[], walk.elements());
        let mut position = range.start;
        walk.runs(range, sink.longest(), |[offset], count| {
            run(position, sink.run(offset, count));
            position += count;
            sink.finish(offset, count);
        });
    });
}

fn drive1<A: Lane, C: Lane>(
    x: &Host<'_>,
    y: &mut HostMut<'_>,
    run: &(dyn Fn(&[A], &mut [C]) + Sync),
) {
    if !std::ptr::eq(x.start(), y.start())
        && y.elements() <= par::GRAIN
        && let Some(x) = x.as_slice::<A>()
        && let Some(y) = y.as_mut_slice::<C>()
    {
        return run(x, y);
    }
    let whole = y.elements();
    if let Some(pieces) = Pieces::of(&[x], y.layout()) {
        return in_pieces(&pieces, [x], y, &|[x], y| {
            part1(x, y, 0..y.elements(), whole, run)
        });
    }
    let target = Shared(y.start(), y);
    par::ranges(whole, par::GRAIN, |range| {
        let target = &target;
        part1(x, target.1, range, whole, run);
    });
}

/// The elements `range` of `drive1`, whose output is of `whole` elements or a piece of one.
fn part1<A: Lane, C: Lane>(
    x: &Host<'_>,
    y: &HostMut<'_>,
    range: Range<usize>,
    whole: usize,
    run: &(dyn Fn(&[A], &mut [C]) + Sync),
) {
    let walk = Walk::new([x.layout(), y.layout()]);
    let [sx, sy] = walk.inner();
    let mut source = Source::<A>::new(x, sx);
    let mut sink = Sink::<C>::new(y, sy, &[x.start()], whole);
    let longest = longest(source.direct).min(sink.longest());
    walk.runs(range, longest, |[ox, oy], count| {
        run(source.run(ox, count), sink.run(oy, count));
        sink.finish(oy, count);
    });
}

/// A number is repeated for outputs of at most so many elements.
const FEW: usize = 64;

/// The elements of an input that broadcasts to `count` ones, if they lie in a row or are one number for a small output.
#[inline(always)]
fn few<'a, T: Lane>(x: &Host<'a>, count: usize, room: &'a mut Option<[T; FEW]>) -> Option<&'a [T]> {
    let slice = x.as_slice::<T>();
    if let Some(slice) = slice.filter(|slice| slice.len() == count) {
        return Some(slice);
    }
    let single = x.elements() == 1
        || x.elements() > 0 && x.layout().strides().iter().all(|stride| *stride == 0);
    (single && count <= FEW).then_some(())?;
    let number = x.with_layout(Layout::contiguous(()).with_offset(x.layout().offset()));
    let number = *number.as_slice::<T>()?.first()?;
    room.insert([number; FEW]).get(..count)
}

/// A loop over a run of two inputs.
type Run2<'f, A, B, C> = &'f (dyn Fn(&[A], &[B], &mut [C]) + Sync);

fn drive2<A: Lane, B: Lane, C: Lane>(
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    run: Run2<'_, A, B, C>,
) {
    let count = z.elements();
    let apart = !std::ptr::eq(x.start(), z.start()) && !std::ptr::eq(y.start(), z.start());
    let (mut left, mut right) = (None, None);
    if apart
        && count <= par::GRAIN
        && let Some(x) = few(x, count, &mut left)
        && let Some(y) = few(y, count, &mut right)
        && let Some(z) = z.as_mut_slice::<C>()
    {
        return run(x, y, z);
    }
    let (x, y) = (&x.broadcast(z.shape()), &y.broadcast(z.shape()));
    let whole = z.elements();
    if let Some(pieces) = Pieces::of(&[x, y], z.layout()) {
        return in_pieces(&pieces, [x, y], z, &|xy, z| {
            part2(xy, z, 0..z.elements(), whole, run)
        });
    }
    let target = Shared(z.start(), z);
    par::ranges(whole, par::GRAIN, |range| {
        let target = &target;
        part2([x, y], target.1, range, whole, run);
    });
}

/// As `part1`, for two inputs.
fn part2<A: Lane, B: Lane, C: Lane>(
    [x, y]: [&Host<'_>; 2],
    z: &HostMut<'_>,
    range: Range<usize>,
    whole: usize,
    run: Run2<'_, A, B, C>,
) {
    let walk = Walk::new([x.layout(), y.layout(), z.layout()]);
    let [sx, sy, sz] = walk.inner();
    let mut left = Source::<A>::new(x, sx);
    let mut right = Source::<B>::new(y, sy);
    let mut sink = Sink::<C>::new(z, sz, &[x.start(), y.start()], whole);
    let longest = longest(left.direct && right.direct).min(sink.longest());
    walk.runs(range, longest, |[ox, oy, oz], count| {
        run(
            left.run(ox, count),
            right.run(oy, count),
            sink.run(oz, count),
        );
        sink.finish(oz, count);
    });
}

/// A loop over a run of three inputs.
type Run3<'f, A, B, C, D> = &'f (dyn Fn(&[A], &[B], &[C], &mut [D]) + Sync);

fn drive3<A: Lane, B: Lane, C: Lane, D: Lane>(
    inputs: [&Host<'_>; 3],
    w: &mut HostMut<'_>,
    run: Run3<'_, A, B, C, D>,
) {
    let whole = w.elements();
    if let Some(pieces) = Pieces::of(&inputs, w.layout()) {
        return in_pieces(&pieces, inputs, w, &|xyz, w| {
            part3(xyz, w, 0..w.elements(), whole, run)
        });
    }
    let target = Shared(w.start(), w);
    par::ranges(whole, par::GRAIN, |range| {
        let target = &target;
        part3(inputs, target.1, range, whole, run);
    });
}

/// As `part1`, for three inputs.
fn part3<A: Lane, B: Lane, C: Lane, D: Lane>(
    [x, y, z]: [&Host<'_>; 3],
    w: &HostMut<'_>,
    range: Range<usize>,
    whole: usize,
    run: Run3<'_, A, B, C, D>,
) {
    let walk = Walk::new([x.layout(), y.layout(), z.layout(), w.layout()]);
    let [sx, sy, sz, sw] = walk.inner();
    let mut first = Source::<A>::new(x, sx);
    let mut second = Source::<B>::new(y, sy);
    let mut third = Source::<C>::new(z, sz);
    let mut sink = Sink::<D>::new(w, sw, &[x.start(), y.start(), z.start()], whole);
    let direct = first.direct && second.direct && third.direct;
    let longest = longest(direct).min(sink.longest());
    walk.runs(range, longest, |[ox, oy, oz, ow], count| {
        run(
            first.run(ox, count),
            second.run(oy, count),
            third.run(oz, count),
            sink.run(ow, count),
        );
        sink.finish(ow, count);
    });
}

/// Sets every element.
pub(crate) fn fill<C: Lane>(y: &mut HostMut<'_>, value: C) {
    generate(y, |_| value);
}

/// Copies elements, converting between dtypes: floats to integers truncate, integers wrap, to bool is `!= 0`.
pub(crate) fn copy(x: &Host<'_>, y: &mut HostMut<'_>) {
    if x.dtype() == y.dtype() {
        return copy_bits(x, y);
    }
    with_lane!(x.dtype(), A => with_lane!(y.dtype(), C => if A::DTYPE == C::DTYPE {
        narrow_or_widen::<A>(x, y);
    } else {
        map1::<A, C>(x, y, convert::<A, C>);
    }));
}

/// Copies between dtypes that one lane type serves: the lane's way to and from memory does it all.
fn narrow_or_widen<T: Lane>(x: &Host<'_>, y: &mut HostMut<'_>) {
    let walk = Walk::new([x.layout(), y.layout()]);
    let [sx, sy] = walk.inner();
    let target = Shared(y.start(), y);
    par::ranges(walk.elements(), par::GRAIN, |range| {
        let target = &target;
        let mut source = Source::<T>::new(x, sx);
        let sink = Sink::<T>::new(target.1, sy, &[x.start()], walk.elements());
        walk.runs(range, BLOCK, |[ox, oy], count| {
            sink.write(source.run(ox, count), oy);
        });
    });
}

/// A number in another lane type.
#[inline(always)]
pub(crate) fn convert<A: Number, C: Number>(x: A) -> C {
    if A::IS_FLOAT {
        if C::DTYPE == DType::Bool {
            C::from_i64(i64::from(x.is_true()))
        } else {
            C::from_f64(x.to_f64())
        }
    } else {
        C::from_i64(x.to_i64())
    }
}

/// Copies elements of one dtype by their size alone.
fn copy_bits(x: &Host<'_>, y: &mut HostMut<'_>) {
    if permute::copy(x, y) {
        return;
    }
    let walk = Walk::new([x.layout(), y.layout()]);
    let size = x.dtype().size();
    let [sx, sy] = walk.inner();
    let streamed = walk.elements() * size >= STREAMED && x.start() != y.start().cast_const();
    let target = Shared(y.start(), y);
    par::ranges(walk.elements(), par::GRAIN, |range| {
        let target = &target;
        walk.runs(range, usize::MAX, |[ox, oy], count| {
            let (from, to) = (
                x.start().wrapping_add(ox * size),
                target.0.wrapping_add(oy * size),
            );
            // SAFETY: the walk names elements of both views, of `size` bytes each; `copy` allows them to overlap.
            unsafe {
                match (sx, sy, size) {
                    (1, 1, _) if streamed && count * size >= RUN => {
                        simd::stream(from, to, count * size)
                    }
                    (1, 1, _) => std::ptr::copy(from, to, count * size),
                    (_, _, 1) => copy_run(from, sx, to, sy, count),
                    (_, _, 2) => copy_run(from.cast::<u16>(), sx, to.cast::<u16>(), sy, count),
                    (_, _, 4) => copy_run(from.cast::<u32>(), sx, to.cast::<u32>(), sy, count),
                    _ => copy_run(from.cast::<u64>(), sx, to.cast::<u64>(), sy, count),
                }
            }
        });
        if streamed {
            simd::fence();
        }
    });
}

/// # Safety
/// `count` elements must be readable from `from` and writable from `to` on, at these strides.
unsafe fn copy_run<T: Copy>(from: *const T, sx: usize, to: *mut T, sy: usize, count: usize) {
    for index in 0..count {
        // SAFETY: promised by the caller.
        unsafe { *to.add(index * sy) = *from.add(index * sx) };
    }
}
