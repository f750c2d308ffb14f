//! Packing: the units of a factor in the order in which micro-kernels read them.
//!
//! Knows panels, and how matrices of memory are read into them. Must not know what is multiplied.

use std::marker::PhantomData;
use std::ops::Range;

use super::block::cut;
use super::kernel::Flat;
use crate::cpu::lane::Lane;
use crate::cpu::simd::{Simd, vectorised};
use crate::cpu::transpose::{SIDE, Square, square};
use crate::cpu::view::Host;
use crate::dtype::DType;

/// A factor of a product, as units: its lanes are the rows of a left factor and the columns of a right one.
///
/// A matrix is one ([`Matrix`]); what only looks like one (the patches of a convolution, rows picked by a table) implements
/// this too, and is never made in memory as a whole.
pub(crate) trait Source<U>: Sync {
    /// Writes the units `lanes` by `depth` in panels: `to[panel][depth][lane of the panel]`, where a panel has `panel.lanes`
    /// lanes (the last one what is left) and room for `panel.width`, filled up with anything, and panels lie `panel.gap` apart.
    ///
    /// # Safety
    /// `to` must have room for whole panels, and the lanes and depths must exist.
    unsafe fn pack(&self, depth: Range<usize>, lanes: Range<usize>, panel: Panel, to: *mut U);

    /// Where the units of these depths lie in memory from `lane` on, if neighbouring lanes lie side by side.
    fn in_place(&self, depth: Range<usize>, lane: usize) -> Option<Flat>;

    /// Asks for the `part.0`-th of `part.1` parts of the memory that [`Source::pack`] will read, for a second-level cache.
    fn ask(&self, depth: Range<usize>, lanes: Range<usize>, part: (usize, usize));
}

/// The form of panels: the lanes of one, the lanes that it has room for, a multiple of [`SIDE`], and the units between the
/// ends and beginnings of neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    pub lanes: usize,
    pub width: usize,
    pub gap: usize,
}

impl Panel {
    /// Full panels, one after the other.
    pub fn full(width: usize) -> Self {
        Panel {
            lanes: width,
            width,
            gap: 0,
        }
    }

    /// The units from a panel of this depth to the next.
    pub fn step(&self, depth: usize) -> usize {
        depth * self.width + self.gap
    }
}

/// A matrix in memory, of any strides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// The address of the first element, of this dtype.
    pub start: *const u8,
    pub dtype: DType,
    /// The steps from one lane to the next, and from one inner index to the next.
    pub lane: usize,
    pub depth: usize,
    /// The inner size.
    pub inner: usize,
    pub life: PhantomData<&'a u8>,
}

// SAFETY: a matrix is a borrow of memory that is only read.
unsafe impl Sync for Matrix<'_> {}

impl<'a> Matrix<'a> {
    /// The matrix that begins `offset` elements into a view's storage.
    pub fn new(x: &Host<'a>, offset: usize, (lane, depth): (usize, usize), inner: usize) -> Self {
        Matrix {
            start: x.start().wrapping_add(offset * x.dtype().size()),
            dtype: x.dtype(),
            lane,
            depth,
            inner,
            life: PhantomData,
        }
    }

    /// Asks for the cache lines of `count` lanes at one depth, if they lie side by side.
    #[inline(always)]
    pub(super) fn ask(&self, lane: usize, depth: usize, count: usize) {
        if self.lane == 1 {
            for offset in (0..count * self.dtype.size()).step_by(64) {
                prefetch(self.at(lane, depth).wrapping_add(offset));
            }
        }
    }

    /// The numbers from one lane and depth on, `together` of them to a unit.
    fn from(&self, lane: usize, depth: usize, together: usize) -> Option<Flat> {
        (self.lane == 1).then(|| Flat {
            start: self.at(lane, depth),
            dtype: self.dtype,
            step: self.depth * self.dtype.size(),
            together,
        })
    }

    /// Asks for a part of the numbers `lanes` by `depth`, if they lie side by side along one of the two.
    pub(super) fn ask_part(
        &self,
        depth: Range<usize>,
        lanes: Range<usize>,
        (index, parts): (usize, usize),
    ) {
        let (lines, along) = match (self.lane, self.depth) {
            (1, _) => (depth.clone(), lanes.clone()),
            (_, 1) => (lanes.clone(), depth.clone()),
            _ => return,
        };
        let part = cut(lines.len(), parts, index);
        for line in lines.start + part.start..lines.start + part.end {
            let start = match self.lane {
                1 => self.at(along.start, line),
                _ => self.at(line, along.start),
            };
            for offset in (0..along.len() * self.dtype.size()).step_by(64) {
                prefetch_far(start.wrapping_add(offset));
            }
        }
    }

    pub(super) fn at(&self, lane: usize, depth: usize) -> *const u8 {
        let elements = lane * self.lane + depth * self.depth;
        self.start.wrapping_add(elements * self.dtype.size())
    }
}

/// Runs of units are gathered in buffers of this many.
const BUFFER: usize = 64;

/// How units are read from a matrix.
pub(super) trait Read<U: Copy>: Sync {
    const ZERO: U;

    /// The units of one lane, as many as `to` holds.
    ///
    /// # Safety
    /// They must exist.
    unsafe fn along(&self, lane: usize, depth: usize, to: &mut [U]);

    /// The units of neighbouring lanes at one depth, as many as `to` holds.
    ///
    /// # Safety
    /// They must exist.
    unsafe fn across(&self, lane: usize, depth: usize, to: &mut [U]);

    /// Where the units of a lane lie in memory just as they are packed: the address, and the step in bytes to the next lane.
    fn lines(&self, lane: usize, depth: Range<usize>) -> Option<(*const u8, usize)>;

    /// The same for neighbouring lanes at one depth.
    fn line(&self, lane: usize, depth: usize) -> Option<*const U>;

    /// Asks for `count` neighbouring lanes at one depth, before they are read.
    fn ask(&self, lane: usize, depth: usize, count: usize);

    /// Whether neighbouring lanes are nearer to each other than neighbouring depths.
    fn flat(&self) -> bool;
}

impl<T: Lane> Source<T> for Matrix<'_> {
    unsafe fn pack(&self, depth: Range<usize>, lanes: Range<usize>, panel: Panel, to: *mut T) {
        // SAFETY: promised by the caller.
        unsafe { pack(&Numbers(*self), depth, lanes, panel, to) }
    }

    fn in_place(&self, depth: Range<usize>, lane: usize) -> Option<Flat> {
        self.from(lane, depth.start, 1)
    }

    fn ask(&self, depth: Range<usize>, lanes: Range<usize>, part: (usize, usize)) {
        self.ask_part(depth, lanes, part);
    }
}

/// A matrix read number by number.
struct Numbers<'a>(Matrix<'a>);

impl<T: Lane> Read<T> for Numbers<'_> {
    const ZERO: T = T::ZERO;

    unsafe fn along(&self, lane: usize, depth: usize, to: &mut [T]) {
        // SAFETY: promised by the caller; `T` serves the matrix's dtype.
        unsafe { T::gather(self.0.at(lane, depth), self.0.depth, self.0.dtype, to) }
    }

    #[inline(always)]
    unsafe fn across(&self, lane: usize, depth: usize, to: &mut [T]) {
        // SAFETY: promised by the caller; `T` serves the matrix's dtype.
        unsafe { T::gather(self.0.at(lane, depth), self.0.lane, self.0.dtype, to) }
    }

    fn lines(&self, lane: usize, depth: Range<usize>) -> Option<(*const u8, usize)> {
        (self.0.depth == 1 && self.0.dtype == T::DTYPE)
            .then(|| (self.0.at(lane, depth.start), self.0.lane * size_of::<T>()))
    }

    fn line(&self, lane: usize, depth: usize) -> Option<*const T> {
        (self.0.lane == 1 && self.0.dtype == T::DTYPE).then(|| self.0.at(lane, depth).cast())
    }

    #[inline(always)]
    fn ask(&self, lane: usize, depth: usize, count: usize) {
        self.0.ask(lane, depth, count);
    }

    fn flat(&self) -> bool {
        self.0.lane <= self.0.depth && self.0.depth != 1
    }
}

/// A matrix of `bf16` read in pairs along the inner size; its depths count pairs, and the last may be half of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs<'a>(pub Matrix<'a>);

impl Source<u32> for Pairs<'_> {
    unsafe fn pack(&self, depth: Range<usize>, lanes: Range<usize>, panel: Panel, to: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe { pack(self, depth, lanes, panel, to) }
    }

    fn in_place(&self, depth: Range<usize>, lane: usize) -> Option<Flat> {
        (2 * depth.end <= self.0.inner)
            .then(|| self.0.from(lane, 2 * depth.start, 2))
            .flatten()
    }

    fn ask(&self, depth: Range<usize>, lanes: Range<usize>, part: (usize, usize)) {
        self.0.ask_part(2 * depth.start..2 * depth.end, lanes, part);
    }
}

impl Pairs<'_> {
    /// # Safety
    /// The pair must exist.
    #[inline(always)]
    unsafe fn pair(&self, at: *const u8, whole: bool) -> u32 {
        let at = at.cast::<u16>();
        // SAFETY: promised by the caller; half a pair has no second number.
        unsafe {
            let first = u32::from(*at);
            if whole {
                first | u32::from(*at.add(self.0.depth)) << 16
            } else {
                first
            }
        }
    }
}

impl Read<u32> for Pairs<'_> {
    const ZERO: u32 = 0;

    unsafe fn along(&self, lane: usize, depth: usize, to: &mut [u32]) {
        for (index, to) in to.iter_mut().enumerate() {
            let at = 2 * (depth + index);
            // SAFETY: promised by the caller.
            *to = unsafe { self.pair(self.0.at(lane, at), at + 1 < self.0.inner) };
        }
    }

    #[inline(always)]
    unsafe fn across(&self, lane: usize, depth: usize, to: &mut [u32]) {
        let (start, whole) = (self.0.at(lane, 2 * depth), 2 * depth + 1 < self.0.inner);
        // SAFETY: the caller promised the pairs of these lanes, which lie side by side where the step is 1.
        unsafe {
            if self.0.lane == 1 && whole {
                let high = self.0.at(lane, 2 * depth + 1).cast::<u16>();
                let low = std::slice::from_raw_parts(start.cast::<u16>(), to.len());
                let high = std::slice::from_raw_parts(high, to.len());
                for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                    *to = u32::from(*low) | u32::from(*high) << 16;
                }
                return;
            }
            for (index, to) in to.iter_mut().enumerate() {
                *to = self.pair(start.wrapping_add(2 * index * self.0.lane), whole);
            }
        }
    }

    fn lines(&self, lane: usize, depth: Range<usize>) -> Option<(*const u8, usize)> {
        (self.0.depth == 1 && 2 * depth.end <= self.0.inner)
            .then(|| (self.0.at(lane, 2 * depth.start), 2 * self.0.lane))
    }

    fn line(&self, _lane: usize, _depth: usize) -> Option<*const u32> {
        None
    }

    #[inline(always)]
    fn ask(&self, lane: usize, depth: usize, count: usize) {
        self.0.ask(lane, 2 * depth, count);
        self.0.ask(lane, 2 * depth + 1, count);
    }

    fn flat(&self) -> bool {
        self.0.lane <= self.0.depth && self.0.depth != 1
    }
}

/// # Safety
/// As [`Source::pack`].
pub(super) unsafe fn pack<U: Copy>(
    from: &impl Read<U>,
    depth: Range<usize>,
    lanes: Range<usize>,
    panel: Panel,
    to: *mut U,
) {
    let simd = Simd::best();
    // SAFETY: promised by the caller.
    unsafe {
        if from.flat() {
            vectorised!(simd, pack_across(from, depth, lanes, panel, to));
        } else {
            pack_along(from, depth, lanes, panel, to, square::<U>());
        }
    }
}

/// Lanes that are read at a time.
const RUN: usize = 512;
/// Rows of a panel that are asked for before they are written.
const SOON: usize = 4;
/// Depths that are asked for before they are read.
const AHEAD: usize = 12;

/// Depth by depth: for lanes that lie side by side.
///
/// # Safety
/// As [`Source::pack`].
#[inline(always)]
unsafe fn pack_across<U: Copy, R: Read<U>>(
    from: &R,
    depth: Range<usize>,
    lanes: Range<usize>,
    panel: Panel,
    to: *mut U,
) {
    let (deep, width) = (depth.len(), panel.width);
    let run = RUN / panel.lanes * panel.lanes;
    let mut buffer = [R::ZERO; RUN];
    for (row, depth) in depth.enumerate() {
        for begin in lanes.clone().step_by(run) {
            let length = run.min(lanes.end - begin);
            let line = match from.line(begin, depth) {
                Some(line) => line,
                None => {
                    // SAFETY: lanes that exist, of at most as many as the buffer holds.
                    unsafe { from.across(begin, depth, &mut buffer[..length]) };
                    buffer.as_ptr()
                }
            };
            from.ask(begin, depth + AHEAD, length);
            for start in (0..length).step_by(panel.lanes) {
                let index = (begin - lanes.start + start) / panel.lanes;
                // SAFETY: a row of a panel, for which the caller promised room; `length` units of the line exist.
                unsafe {
                    let to = to.add(index * panel.step(deep) + row * width);
                    let line = line.add(start);
                    if start + width <= length && width.is_multiple_of(16) {
                        for part in (0..width).step_by(16) {
                            prefetch(to.wrapping_add(SOON * width + part).cast());
                            *to.add(part).cast() = *line.add(part).cast::<[U; 16]>();
                        }
                    } else if start + width <= length && width == SIDE {
                        *to.cast() = *line.cast::<[U; SIDE]>();
                    } else {
                        let count = panel.lanes.min(length - start);
                        std::ptr::copy_nonoverlapping(line, to, count);
                        for missing in count..width {
                            to.add(missing).write(R::ZERO);
                        }
                    }
                }
            }
        }
    }
}

/// Asks for the cache line of an address, which need not be readable.
#[inline(always)]
pub(super) fn prefetch(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program could see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// The same for the second-level cache.
#[inline(always)]
fn prefetch_far(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program could see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Lane by lane, eight of them turned at a time: for units that lie along the depth.
///
/// # Safety
/// As [`Source::pack`].
unsafe fn pack_along<U: Copy, R: Read<U>>(
    from: &R,
    depth: Range<usize>,
    lanes: Range<usize>,
    panel: Panel,
    to: *mut U,
    square: Square<U>,
) {
    let (deep, width) = (depth.len(), panel.width);
    let mut buffer = [[R::ZERO; BUFFER]; SIDE];
    let last = lanes.end;
    for (index, first) in lanes.clone().step_by(panel.lanes).enumerate() {
        let end = lanes.end.min(first + panel.lanes);
        let lanes = end - first;
        // A left panel needs no more than its lanes: the last square begins within the one before, if it can.
        let tight = panel.lanes < width;
        let reach = if tight {
            lanes.next_multiple_of(SIDE)
        } else {
            width
        };
        for lane in (0..reach).step_by(SIDE) {
            let lane = if tight && lanes >= SIDE {
                lane.min(lanes - SIDE)
            } else {
                lane
            };
            let start = first + lane;
            let count = SIDE.min(end.saturating_sub(start));
            for begin in (0..deep).step_by(BUFFER) {
                let length = BUFFER.min(deep - begin);
                let part = depth.start + begin..depth.start + begin + length;
                // SAFETY: the part of the panel, for which the caller promised room.
                let to = unsafe { to.add(index * panel.step(deep) + begin * width + lane) };
                let (lines, step) = match from.lines(start, part.clone()) {
                    Some((lines, step)) if count == SIDE => {
                        // The lines after these come next, and the cache does not guess that.
                        for line in SIDE..(2 * SIDE).min(last - start) {
                            for offset in (0..length * size_of::<U>()).step_by(64) {
                                prefetch_far(lines.wrapping_add(line * step + offset));
                            }
                        }
                        (lines, step)
                    }
                    _ => {
                        for (index, line) in buffer.iter_mut().enumerate() {
                            if index < count {
                                // SAFETY: units that exist.
                                unsafe {
                                    from.along(start + index, part.start, &mut line[..length])
                                };
                            } else {
                                line.fill(R::ZERO);
                            }
                        }
                        (buffer.as_ptr().cast::<u8>(), size_of::<[U; BUFFER]>())
                    }
                };
                let whole = length / SIDE * SIDE;
                // SAFETY: whole squares lie within the lines and the panel; the rest is moved unit by unit.
                unsafe {
                    for at in (0..whole).step_by(SIDE) {
                        square(
                            lines.add(at * size_of::<U>()),
                            step,
                            to.add(at * width),
                            width,
                        );
                    }
                    for at in whole..length {
                        for index in 0..SIDE {
                            let unit = lines.add(index * step).cast::<U>().add(at);
                            *to.add(at * width + index) = unit.read_unaligned();
                        }
                    }
                }
            }
        }
    }
}
