//! Attention in blocks: softmax over scores that never exist as a whole, forward and backward.
//!
//! Knows heads (matrices that begin at given offsets), masks, and how rows and keys are cut into blocks that stay in cache.
//! Must not know shape rules or options. The workspace of a thread is a few blocks, plus for the gradient the queries of the
//! heads that share a key.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backward;
mod forward;
#[cfg(target_arch = "x86_64")]
mod kernels;
#[cfg(target_arch = "x86_64")]
mod stream;
mod tile;
#[cfg(target_arch = "x86_64")]
mod wide;
#[cfg(target_arch = "x86_64")]
mod wide_back;

pub(crate) use backward::{Given, backward};
pub(crate) use forward::{Kept, forward};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::alloc::{Block, collected, room};
use super::lane::Lane;
use super::number::Number;
use super::par;
use super::reduce::offset_at;
use super::view::{Host, HostMut};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::Layout;

/// Keys of a block.
const KEYS: usize = 128;
/// Rows of a block of scores.
const ROWS: usize = 48;
/// Elements of the queries that one task keeps at hand.
const HELD: usize = 32 * 1024;

/// An operand: a matrix for each head.
#[derive(Debug)]
pub(crate) struct Operand<'a> {
    view: &'a Host<'a>,
    /// Where the matrix of each query head begins; heads that share keys have the same.
    starts: Vec<usize>,
    row: usize,
    column: usize,
}

impl<'a> Operand<'a> {
    /// From a layout of `[.., rows, columns]`, each of whose heads serves `group` query heads in a row.
    ///
    /// # Errors
    /// `OutOfMemory` for the list of heads.
    pub fn new(
        op: &'static str,
        view: &'a Host<'a>,
        layout: &Layout,
        group: usize,
    ) -> Result<Self> {
        let rank = layout.shape().rank();
        let order: Vec<usize> = (0..rank.saturating_sub(2)).collect();
        let heads = layout.permute(&order);
        let stride = |dim: usize| layout.strides().get(dim).copied().unwrap_or(0);
        let count = heads.elements().saturating_mul(group);
        let starts = (0..count).map(|head| offset_at(&heads, head / group));
        Ok(Operand {
            view,
            starts: collected(op, starts)?,
            row: stride(rank.saturating_sub(2)),
            column: stride(rank.saturating_sub(1)),
        })
    }

    /// Reads the first elements of a row of a head.
    #[inline(always)]
    fn read<T: Lane>(&self, [head, row, column]: [usize; 3], to: &mut [T]) {
        let offset = self.starts[head] + row * self.row + column * self.column;
        let dtype = self.view.dtype();
        let from = self.view.start().wrapping_add(offset * dtype.size());
        // SAFETY: head, row and column are within the layout that the operand was made from, whose elements `Host::new`
        // promised; the lane serves the dtype. A lane of f32 is a slice of f32.
        unsafe {
            if self.column == 1 && (dtype, T::DTYPE) == (DType::BF16, DType::F32) {
                let from = std::slice::from_raw_parts(from.cast::<u16>(), to.len());
                widen(from, &mut *(std::ptr::from_mut(to) as *mut [f32]));
            } else {
                T::gather(from, self.column, dtype, to);
            }
        }
    }

    /// Where a row of a head begins, and the bytes from one row to the next.
    #[cfg(target_arch = "x86_64")]
    fn line(&self, head: usize, row: usize) -> (*const u8, usize) {
        let size = self.view.dtype().size();
        let offset = self.starts[head] + row * self.row;
        let from = self.view.start().wrapping_add(offset * size);
        (from, self.row * size)
    }

    /// The rows of a head from one on, if they are `f32`s that lie as whole registers: the first, and the numbers to the next.
    #[cfg(target_arch = "x86_64")]
    fn lanes(&self, [head, row]: [usize; 2], width: usize) -> Option<(*const f32, usize)> {
        let whole = self.column == 1 && width.is_multiple_of(kernels::LANES);
        let lies = self.view.dtype() == DType::F32 && whole;
        lies.then(|| (self.line(head, row).0.cast(), self.row))
    }

    /// Copies the first `width` elements of a row, which are of two bytes, to a line of words.
    #[cfg(target_arch = "x86_64")]
    fn copy(&self, [head, row]: [usize; 2], width: usize, to: &mut [f32]) {
        debug_assert!(self.view.dtype().size() == 2 && width <= 2 * to.len());
        let from = self.line(head, row).0.cast::<u16>();
        let to = to.as_mut_ptr().cast::<u16>();
        if self.column == 1 {
            // SAFETY: as below.
            return unsafe { std::ptr::copy_nonoverlapping(from, to, width) };
        }
        for column in 0..width {
            // SAFETY: the row is within the layout that the operand was made from, and the line has room; any bits are an `f32`.
            unsafe { *to.add(column) = from.wrapping_add(column * self.column).read() };
        }
    }

    /// `count` rows of `width` elements straight in memory, if they lie there as `T`s in a row.
    fn direct<T: Lane>(&self, head: usize, row: usize, [count, width]: [usize; 2]) -> Option<&[T]> {
        if self.view.dtype() != T::DTYPE || self.column != 1 || count == 0 {
            return None;
        }
        let start = self.starts[head] + row * self.row;
        let from = self.view.start().cast::<T>().wrapping_add(start);
        // SAFETY: the rows are within the layout that the operand was made from; from the first element of the first row to
        // the last of the last one, all memory belongs to the view's storage, which is initialised.
        Some(unsafe { std::slice::from_raw_parts(from, (count - 1) * self.row + width) })
    }
}

/// The bits of `bf16` as `f32`, of which they are the upper half: in vectors where the caller is.
#[inline(always)]
fn widen(from: &[u16], to: &mut [f32]) {
    for (to, bits) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(*bits) << 16);
    }
}

/// Which keys a row sees.
#[derive(Debug)]
pub(crate) enum Mask<'a> {
    /// All.
    None,
    /// Those up to its own position.
    Causal,
    /// Those where the mask is true.
    Seen(Operand<'a>),
    /// All, with a term added to the score.
    Added(Operand<'a>),
}

/// The sizes of all heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Query heads of all batches.
    pub heads: usize,
    /// Query heads in a row that share a key head.
    pub group: usize,
    pub rows: usize,
    pub keys: usize,
    /// Of queries and keys.
    pub width: usize,
    /// Of values.
    pub value_width: usize,
}

/// What attention is computed from.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    pub op: &'static str,
    pub query: Operand<'a>,
    pub key: Operand<'a>,
    pub value: Operand<'a>,
    pub mask: Mask<'a>,
    pub sizes: Sizes,
    pub scale: f64,
}

impl Problem<'_> {
    /// The heads of queries that share keys, one after the other, count as one long one. Here is where a row of it belongs.
    fn place(&self, shared: usize, row: usize) -> (usize, usize) {
        let rows = self.sizes.rows.max(1);
        let first = shared * self.sizes.group;
        if row < rows {
            return (first, row);
        }
        (first + row / rows, row % rows)
    }

    /// The number of long heads, and of the rows of each.
    fn long(&self) -> (usize, usize) {
        let group = self.sizes.group.max(1);
        (self.sizes.heads / group, self.sizes.rows * group)
    }

    /// How many keys any of these rows of a long head may see.
    fn visible(&self, rows: std::ops::Range<usize>) -> usize {
        if !matches!(self.mask, Mask::Causal) || rows.is_empty() {
            return self.sizes.keys;
        }
        let length = self.sizes.rows;
        let (first, last) = (rows.start, rows.end - 1);
        let highest = if last < length {
            last
        } else if first / length == last / length {
            last % length
        } else {
            length - 1
        };
        self.sizes.keys.min(highest + 1)
    }

    /// Whether rows see the keys up to their own positions, and no mask is read.
    #[cfg(target_arch = "x86_64")]
    fn is_causal(&self) -> bool {
        matches!(self.mask, Mask::Causal)
    }

    /// Masks a row of scores, which begins at key `first`.
    #[inline(always)]
    fn hide<T: Lane>(&self, head: usize, row: usize, first: usize, scores: &mut [T]) {
        match &self.mask {
            Mask::None => {}
            Mask::Causal => {
                let seen = (row + 1).saturating_sub(first).min(scores.len());
                scores[seen..].fill(T::LOWEST);
            }
            Mask::Seen(mask) => {
                let mut seen = [false; KEYS];
                let seen = &mut seen[..scores.len()];
                mask.read([head, row, first], seen);
                for (score, seen) in scores.iter_mut().zip(seen) {
                    *score = if *seen { *score } else { T::LOWEST };
                }
            }
            Mask::Added(mask) => {
                let mut terms = [T::ZERO; KEYS];
                let terms = &mut terms[..scores.len()];
                mask.read([head, row, first], terms);
                for (score, term) in scores.iter_mut().zip(terms) {
                    *score = score.plus(*term);
                }
            }
        }
    }
}

/// An output of `[heads, rows, columns]` without gaps, that threads write different rows of.
struct Sink<'a> {
    start: *mut u8,
    dtype: DType,
    columns: usize,
    rows: usize,
    view: std::marker::PhantomData<&'a mut u8>,
}

// SAFETY: threads write disjoint rows.
unsafe impl Sync for Sink<'_> {}

impl<'a> Sink<'a> {
    fn new(view: &'a mut HostMut<'_>, [rows, columns]: [usize; 2]) -> Self {
        debug_assert!(view.layout().is_contiguous());
        let offset = view.layout().offset() * view.dtype().size();
        Sink {
            start: view.start().wrapping_add(offset),
            dtype: view.dtype(),
            columns,
            rows,
            view: std::marker::PhantomData,
        }
    }

    /// The rows of a head from one on, if whole registers of `f32` can be written there: the first, and the numbers to the next.
    #[cfg(target_arch = "x86_64")]
    fn lanes(&self, head: usize, row: usize) -> Option<(*mut f32, usize)> {
        let lies = self.dtype == DType::F32 && self.columns.is_multiple_of(kernels::LANES);
        let offset = (head * self.rows + row) * self.columns;
        lies.then(|| (self.start.cast::<f32>().wrapping_add(offset), self.columns))
    }

    /// Writes some rows of a head from lines of `step` values.
    #[cfg(target_arch = "x86_64")]
    fn write_lines<T: Lane>(
        &self,
        (head, rows): (usize, std::ops::Range<usize>),
        values: &[T],
        step: usize,
    ) {
        for (row, line) in rows.zip(values.chunks_exact(step)) {
            self.write(head, row, line);
        }
    }

    #[inline(always)]
    fn write<T: Lane>(&self, head: usize, row: usize, values: &[T]) {
        let offset = (head * self.rows + row) * self.columns;
        let values = &values[..self.columns];
        // SAFETY: head and row are those of the output, which is contiguous and of the lane's dtype; only this thread has
        // this row.
        unsafe {
            T::scatter(
                values,
                self.start.wrapping_add(offset * self.dtype.size()),
                1,
                self.dtype,
            );
        }
    }
}

/// Runs `task` for each of `0..count` on the pool, whichever thread is free next, each with a workspace of `size` elements.
fn tasks<T: Number>(
    op: &'static str,
    count: usize,
    size: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) -> Result<()> {
    let threads = par::threads().min(count);
    let all = threads.saturating_mul(size);
    let block = Block::allocate(op, all.saturating_mul(size_of::<T>()))?;
    let start = block.start().cast::<T>();
    // SAFETY: the block has room for so many numbers and is ours; zero bits are zeros.
    let mut rest = unsafe {
        start.write_bytes(0, all);
        std::slice::from_raw_parts_mut(start, all)
    };
    let mut rooms = room(op, threads)?;
    rooms.extend((0..threads).map(|_| carve(&mut rest, size)));
    let (rooms, next) = (Mutex::new(rooms), AtomicUsize::new(0));
    par::ranges(threads, 1, |pieces| {
        for _ in pieces {
            let room = rooms.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(room) = room else { return };
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                task(index, room);
            }
        }
    });
    Ok(())
}

/// The first `size` elements of a workspace, and the rest of it stays.
fn carve<'a, T>(rest: &mut &'a mut [T], size: usize) -> &'a mut [T] {
    let (first, other) = std::mem::take(rest).split_at_mut(size);
    *rest = other;
    first
}
