//! Permuted copies: elements moved between two layouts whose contiguous dims differ, by turning squares.
//!
//! Knows layouts, tiles and threads. Must not know ops or what elements mean.

use smallvec::SmallVec;

use super::strided::Walk;
use super::transpose::{SIDE, Square, square};
use super::view::{Host, HostMut};
use super::{par, simd};
use crate::layout::Layout;
use crate::shape::MAX_RANK;

/// Elements along the source's contiguous dim that a task turns: a few cache lines of each of its lines.
const WIDE: usize = 64;
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
    let tile = Tiles {
        step,
        across,
        long,
        streamed: walk.elements() * size >= STREAMED,
        square: square::<T>(),
    };
    let [from, to] = walk.offsets();
    let (source, target) = (Shared(x.start().cast_mut()), Shared(y.start()));
    let parts = wide.div_ceil(WIDE);
    let tasks = parts * outer.iter().map(|(size, _)| size).product::<usize>();
    let grain = (par::GRAIN / (WIDE.min(wide) * long)).max(1);
    par::ranges(tasks, grain, |range| {
        for task in range {
            let (start, mut rest) = (task % parts * WIDE, task / parts);
            let (mut from, mut to) = (from + start, to + start * across);
            for (size, strides) in outer.iter().rev() {
                from += rest % size * strides[0];
                to += rest % size * strides[1];
                rest /= size;
            }
            // SAFETY: the walk names elements of both views; tasks write different elements of `y`.
            unsafe {
                tile.run(
                    source.at(from * size).cast_const().cast(),
                    target.at(to * size).cast(),
                    WIDE.min(wide - start),
                )
            };
        }
        if tile.streamed {
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
    /// The size of the result's contiguous dim.
    long: usize,
    streamed: bool,
    square: Square<T>,
}

impl<T: Copy + Default> Tiles<T> {
    /// # Safety
    /// `wide` by `long` elements must be readable and writable at the steps.
    unsafe fn run(&self, from: *const T, to: *mut T, wide: usize) {
        let mut buffer = [[T::default(); LONG]; TILE];
        for down in (0..self.long).step_by(LONG) {
            let length = LONG.min(self.long - down);
            for side in (0..wide).step_by(TILE) {
                let width = TILE.min(wide - side);
                // SAFETY: a tile within the elements that the caller promised.
                unsafe {
                    let from = from.add(side + down * self.step);
                    let to = to.add(side * self.across + down);
                    // Lines of a task with more blocks lie in too many pages to be asked for with profit.
                    if self.long <= LONG {
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

/// The pieces in which an elementwise op reads inputs whose contiguous dim is not the output's: small enough that a turned
/// copy of a piece of an input stays in the cache.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The dim that is contiguous in an input, and the one that is contiguous in the output.
    dims: [usize; 2],
}

/// The extent of a piece along these dims.
const PIECE: [usize; 2] = [64, 512];

impl Pieces {
    /// The pieces, if an input needs them.
    pub fn of(inputs: &[&Host<'_>], output: &Layout) -> Option<Self> {
        if output.elements() < 4 * PIECE[0] * PIECE[1] {
            return None;
        }
        let sized = |dim: &usize| output.shape().size(*dim) >= SIDE;
        let dims = (0..output.shape().rank()).filter(sized);
        let long = dims.clone().find(|dim| output.strides()[*dim] == 1)?;
        let turned = |input: &&Host<'_>| {
            let strides = input.layout().strides();
            let contiguous = dims.clone().find(|dim| *dim != long && strides[*dim] == 1);
            contiguous.filter(|_| strides[long] > 1)
        };
        let wide = inputs.iter().find_map(turned)?;
        Some(Pieces { dims: [wide, long] })
    }

    /// Calls `body` with each piece of the layouts, on several threads. Pieces are small enough to stay on one.
    pub fn each(&self, layouts: &[&Layout], body: impl Fn(&[Layout]) + Sync) {
        let Some(shape) = layouts.first().map(|layout| *layout.shape()) else {
            return;
        };
        let extent = |dim: usize| match self.dims.iter().position(|own| *own == dim) {
            Some(index) => PIECE[index],
            None => 1,
        };
        let counts: SmallVec<[usize; MAX_RANK]> = (0..shape.rank())
            .map(|dim| shape.size(dim).div_ceil(extent(dim)))
            .collect();
        par::ranges(counts.iter().product(), 1, |range| {
            for piece in range {
                let mut parts: SmallVec<[Layout; 4]> =
                    layouts.iter().map(|layout| **layout).collect();
                let mut rest = piece;
                for dim in (0..shape.rank()).rev() {
                    let start = rest % counts[dim] * extent(dim);
                    rest /= counts[dim];
                    let length = extent(dim).min(shape.size(dim) - start);
                    for part in &mut parts {
                        *part = part.slice(dim, start, length, 1);
                    }
                }
                body(&parts);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn elements_come_where_they_belong() {
        for (sizes, order) in [
            ([70usize, 3, 33], [2usize, 1, 0]),
            ([9, 130, 17], [0, 2, 1]),
        ] {
            let layout = Layout::contiguous(sizes);
            let values: Vec<i32> = (0..layout.elements() as i32).collect();
            let x = Host::from_slice(&values, &Shape::from(sizes)).expect("enough values");
            let turned = layout.permute(&order);
            let mut result = vec![-1i32; values.len()];
            let mut y = HostMut::from_slice(&mut result, turned.shape()).expect("enough room");
            assert!(copy(&x.with_layout(turned), &mut y));
            let walk = Walk::new([&turned]);
            let [step] = walk.inner();
            let mut wanted = Vec::new();
            walk.runs(0..walk.elements(), usize::MAX, |[offset], count| {
                wanted.extend((0..count).map(move |index| (offset + index * step) as i32));
            });
            assert_eq!(result, wanted);
        }
    }
}
