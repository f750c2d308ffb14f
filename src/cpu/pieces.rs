//! Pieces: elementwise ops over inputs whose contiguous dim is not the output's, with turned copies that stay in the cache.
//!
//! Knows layouts, pieces and threads. Must not know what the function computes.

use smallvec::SmallVec;

use super::alloc::Block;
use super::strided::Walk;
use super::transpose::SIDE;
use super::view::{Host, HostMut};
use super::{par, permute, simd};
use crate::layout::Layout;
use crate::shape::MAX_RANK;

/// The address of an output and the output, made shareable between threads.
struct Shared<'a>(*mut u8, &'a HostMut<'a>);

// SAFETY: threads write disjoint elements of the output.
unsafe impl Sync for Shared<'_> {}

/// The pieces in which an elementwise op reads inputs whose contiguous dim is not the output's: small enough that a turned
/// copy of a piece of an input stays in the cache.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The dim that is contiguous in an input, and the one that is contiguous in the output.
    dims: [usize; 2],
}

/// The extent of a piece along these dims.
const PIECE: [usize; 2] = [256, 128];

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
    pub fn each(&self, layouts: &[&Layout], body: &(dyn Fn(&[Layout]) + Sync)) {
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

/// What is done with a piece of the inputs and of the output.
type Body<'a, const N: usize> = dyn Fn([&Host<'_>; N], &mut HostMut<'_>) + Sync + 'a;

/// Runs `body` piece by piece, with turned copies of the pieces of inputs whose runs lie apart.
pub(crate) fn in_pieces<const N: usize>(
    pieces: &Pieces,
    inputs: [&Host<'_>; N],
    output: &mut HostMut<'_>,
    body: &Body<'_, N>,
) {
    let mut layouts: SmallVec<[&Layout; 4]> = inputs.iter().map(|input| input.layout()).collect();
    layouts.push(output.layout());
    let target = Shared(output.start(), output);
    pieces.each(&layouts, &|parts| {
        let target = &target;
        let mut copies: [Option<Block>; N] = std::array::from_fn(|_| None);
        let parts_of: [Host<'_>; N] =
            std::array::from_fn(|index| inputs[index].with_layout(parts[index]));
        // The others come in while those are turned.
        parts_of.iter().for_each(ask);
        for (part, copy) in parts_of.iter().zip(&mut copies) {
            *copy = turned(part);
        }
        let held: [Host<'_>; N] = std::array::from_fn(|index| match &copies[index] {
            None => parts_of[index],
            Some(copy) => {
                let layout = Layout::contiguous(*parts[index].shape());
                // SAFETY: `turned` has written the whole part to the block, which lives on.
                unsafe { Host::new(copy.start(), layout, inputs[index].dtype()) }
            }
        });
        // SAFETY: a part of the output; every piece is another part.
        let mut part = unsafe { HostMut::new(target.0, parts[N], target.1.dtype()) };
        body(held.each_ref(), &mut part);
    });
}

/// Asks for a part whose elements lie in long runs, but far from each other.
fn ask(part: &Host<'_>) {
    let (walk, size) = (Walk::new([part.layout()]), part.dtype().size());
    if walk.inner() == [1] {
        walk.runs(0..walk.elements(), usize::MAX, |[offset], count| {
            simd::prefetch(part.start().wrapping_add(offset * size), count * size);
        });
    }
}

/// A row-major copy of a part whose elements lie apart in runs, if memory for it can be had.
fn turned(part: &Host<'_>) -> Option<Block> {
    let layout = Layout::contiguous(*part.shape());
    let block = Block::allocate("copy", part.elements() * part.dtype().size()).ok()?;
    // SAFETY: the block has room for the part's elements.
    let mut copy = unsafe { HostMut::new(block.start(), layout, part.dtype()) };
    permute::copy(part, &mut copy).then_some(block)
}
