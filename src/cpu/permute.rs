//! Permuted copies: elements moved between two layouts whose contiguous dims differ, by turning squares.
//!
//! Knows layouts, tiles and threads. Must not know ops or what elements mean.

use smallvec::SmallVec;

use super::strided::Walk;
use super::transpose::{LINE, SIDE, Square, line_square, square};
use super::view::{Host, HostMut};
use super::{par, simd};
use crate::shape::MAX_RANK;

/// Elements along the source's contiguous dim that a task turns: a few cache lines of each of its lines.
const WIDE: usize = 64;
/// As `WIDE`, where squares of lines are written past the caches: a task reads a few lines from end to end, or writes them.
const FAR: usize = 4096;
/// A source whose lines have fewer elements is read across them, and the result's lines are written from end to end.
const NARROW: usize = 256;
/// Elements along the source's contiguous dim of a tile: one line of the source for elements of four bytes.
const TILE: usize = 16;
/// Elements along the result's contiguous dim of a tile.
const LONG: usize = 64;
/// How many elements before they are read those of the source's lines are asked for, where a task has few lines.
const AHEAD: usize = 8 * TILE;
/// Fewer elements are not worth it.
const FEWEST: usize = 1024;
/// Results of so many bytes are written past the caches.
const STREAMED: usize = 4 << 20;

/// An address that threads share while they write disjoint elements.
#[derive(Clone, Copy)]
struct Shared(*mut u8);

// SAFETY: the users of this file write disjoint elements from each thread.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// Copies `x` to `y`, of one dtype and shape, if their contiguous dims differ and both are long enough; else says no.
pub(crate) fn copy(x: &Host<'_>, y: &mut HostMut<'_>) -> bool {
    match x.dtype().size() {
        1 => turn::<u8>(x, y),
        2 => turn::<u16>(x, y),
        4 => turn::<u32>(x, y),
        _ => turn::<u64>(x, y),
    }
}

/// A dim of a walk over two layouts: its size and both strides.
type Dim = (usize, [usize; 2]);

fn turn<T: Copy + Default>(x: &Host<'_>, y: &mut HostMut<'_>) -> bool {
    let walk = Walk::new([x.layout(), y.layout()]);
    let mut outer: SmallVec<[Dim; MAX_RANK]> = walk.dims().collect();
    let mut take = |side: usize| {
        let found = |dim: &Dim| dim.1[side] == 1 && dim.1[1 - side] > 1 && dim.0 >= SIDE;
        let place = outer.iter().position(found)?;
        Some(outer.remove(place))
    };
    let (Some((wide, [_, across])), Some((long, [step, _]))) = (take(0), take(1)) else {
        return false;
    };
    if walk.elements() < FEWEST || x.start() == y.start().cast_const() {
        return false;
    }
    let size = size_of::<T>();
    let [from, to] = walk.offsets();
    let (source, target) = (Shared(x.start().cast_mut()), Shared(y.start()));
    let streamed = walk.elements() * size >= STREAMED;
    let mut jumps = outer.iter().map(|(_, strides)| strides[1]).chain([across]);
    let lined = target.at(to * size).align_offset(LINE) == 0
        && jumps.all(|jump| (jump * size).is_multiple_of(LINE));
    let tiles = Tiles {
        step,
        across,
        streamed,
        square: square::<T>(),
        lines: (lined || !streamed).then(|| line_square::<T>(streamed)),
    };
    let extent = match tiles.lines {
        None => [WIDE, long],
        Some(_) if wide < NARROW => [LINE / size, FAR],
        Some(_) => [FAR, LINE / size],
    };
    let parts = [wide.div_ceil(extent[0]), long.div_ceil(extent[1])];
    let tasks = parts[0] * parts[1] * outer.iter().map(|(size, _)| size).product::<usize>();
    let grain = (par::GRAIN / (extent[0].min(wide) * extent[1].min(long))).max(1);
    par::ranges(tasks, grain, |range| {
        for task in range {
            let start = task % parts[0] * extent[0];
            let first = task / parts[0] % parts[1] * extent[1];
            let mut rest = task / parts[0] / parts[1];
            let mut from = from + start + first * step;
            let mut to = to + start * across + first;
            for (size, strides) in outer.iter().rev() {
                from += rest % size * strides[0];
                to += rest % size * strides[1];
                rest /= size;
            }
            // SAFETY: the walk names elements of both views; tasks write different elements of `y`.
            unsafe {
                tiles.run(
                    source.at(from * size).cast_const().cast(),
                    target.at(to * size).cast(),
                    (extent[0].min(wide - start), extent[1].min(long - first)),
                )
            };
        }
        if streamed {
            simd::fence();
        }
    });
    true
}

/// How the tiles of a task are turned.
struct Tiles<T> {
    /// The step of the source along the result's contiguous dim, and of the result along the source's.
    step: usize,
    across: usize,
    /// Whether the result is written past the caches.
    streamed: bool,
    square: Square<T>,
    /// Squares of whole lines of the cache, for a result that stays there or whose lines all begin with one.
    lines: Option<Square<T>>,
}

impl<T: Copy + Default> Tiles<T> {
    /// # Safety
    /// `wide` by `long` elements must be readable and writable at the steps.
    unsafe fn run(&self, from: *const T, to: *mut T, (wide, long): (usize, usize)) {
        if let Some(turn) = self.lines {
            // SAFETY: promised by the caller.
            return unsafe { self.lined(turn, from, to, (wide, long)) };
        }
        let mut buffer = [[T::default(); LONG]; TILE];
        for down in (0..long).step_by(LONG) {
            let length = LONG.min(long - down);
            for side in (0..wide).step_by(TILE) {
                let width = TILE.min(wide - side);
                // SAFETY: a tile within the elements that the caller promised.
                unsafe {
                    let from = from.add(side + down * self.step);
                    let to = to.add(side * self.across + down);
                    // Lines of a task with more blocks lie in too many pages to be asked for with profit.
                    if long <= LONG {
                        self.ask(from.wrapping_add(AHEAD), length);
                    }
                    if !self.streamed {
                        self.tile(from, (to, self.across), (width, length));
                        continue;
                    }
                    let held = buffer.as_mut_ptr().cast();
                    self.tile(from, (held, LONG), (width, length));
                    for (index, line) in buffer.iter().enumerate().take(width) {
                        let to = to.add(index * self.across);
                        simd::stream(line.as_ptr().cast(), to.cast(), length * size_of::<T>());
                    }
                }
            }
        }
    }

    /// # Safety
    /// As `run`; the lines of a streamed result begin with lines of the cache.
    unsafe fn lined(
        &self,
        turn: Square<T>,
        from: *const T,
        to: *mut T,
        (wide, long): (usize, usize),
    ) {
        let side = LINE / size_of::<T>();
        for down in (0..long).step_by(side) {
            for start in (0..wide).step_by(side) {
                let (width, length) = (side.min(wide - start), side.min(long - down));
                // SAFETY: a square, or what is left of one, of the elements that the caller promised.
                unsafe {
                    let from = from.add(start + down * self.step);
                    let to = to.add(start * self.across + down);
                    if width == side && length == side {
                        turn(from.cast(), self.step * size_of::<T>(), to, self.across);
                    } else {
                        self.tile(from, (to, self.across), (width, length));
                    }
                }
            }
        }
    }

    /// Asks for a line of each of the source's lines, which are too many for the CPU to see that they go on.
    #[inline(always)]
    fn ask(&self, from: *const T, length: usize) {
        for down in 0..length {
            simd::prefetch(from.wrapping_add(down * self.step).cast(), 1);
        }
    }

    /// # Safety
    /// `width` by `length` elements must be readable, and writable at `to`, whose lines lie `across` apart.
    unsafe fn tile(
        &self,
        from: *const T,
        (to, across): (*mut T, usize),
        (width, length): (usize, usize),
    ) {
        let (wide, long) = (width / SIDE * SIDE, length / SIDE * SIDE);
        // SAFETY: promised by the caller.
        unsafe {
            for down in (0..long).step_by(SIDE) {
                for side in (0..wide).step_by(SIDE) {
                    let from = from.add(down * self.step + side).cast();
                    let to = to.add(side * across + down);
                    (self.square)(from, self.step * size_of::<T>(), to, across);
                }
            }
            for down in 0..length {
                let first = if down < long { wide } else { 0 };
                for side in first..width {
                    *to.add(side * across + down) = *from.add(down * self.step + side);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Element;
    use crate::layout::Layout;
    use crate::shape::Shape;

    /// Permutes numbers into a result that begins so many elements after a line of the cache, and checks each.
    fn permutes<T: Element + PartialEq>(
        sizes: [usize; 3],
        order: [usize; 3],
        ahead: usize,
        number: fn(usize) -> T,
    ) {
        let layout = Layout::contiguous(sizes);
        let values: Vec<T> = (0..layout.elements()).map(number).collect();
        let x = Host::from_slice(&values, &Shape::from(sizes)).expect("enough values");
        let turned = layout.permute(&order);
        let mut result = vec![number(1); values.len() + LINE + ahead];
        let first = result.as_ptr().align_offset(LINE) + ahead;
        let result = &mut result[first..first + values.len()];
        let mut y = HostMut::from_slice(result, turned.shape()).expect("enough room");
        assert!(copy(&x.with_layout(turned), &mut y));
        let walk = Walk::new([&turned]);
        let [step] = walk.inner();
        let mut got = result.iter();
        walk.runs(0..walk.elements(), usize::MAX, |[offset], count| {
            for index in 0..count {
                assert!(got.next() == Some(&number(offset + index * step)));
            }
        });
    }

    #[test]
    fn elements_come_where_they_belong() {
        permutes([70, 3, 33], [2, 1, 0], 0, |index| index as i32);
        permutes([9, 130, 17], [0, 2, 1], 0, |index| index as i32);
    }

    #[test]
    fn large_results_are_written_in_lines() {
        for ahead in [0, 1] {
            // Long and short lines of the source, with and without a rest.
            permutes([2, 528, 1003], [0, 2, 1], ahead, |index| index as i32);
            permutes([1, 30_016, 40], [0, 2, 1], ahead, |index| index as i32);
            permutes([3, 720, 1030], [0, 2, 1], ahead, |index| index as i16);
            permutes([1, 1040, 520], [0, 2, 1], ahead, |index| index as i64);
            permutes([1, 2112, 2000], [0, 2, 1], ahead, |index| index as u8);
        }
        permutes([264, 3, 1500], [2, 1, 0], 0, |index| index as i32);
        permutes([1000, 3, 401], [1, 2, 0], 0, |index| index as f32);
    }
}
