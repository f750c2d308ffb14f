//! Orders: lines of elements sorted, the best of them picked, and runs of equal ones found, by keys of bits.
//!
//! Knows how numbers become integer keys with the same order (NaN greatest, the zeros equal). Must not know ops.

mod best;
mod radix;

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::alloc::Block;
use super::alloc::{collected, room, workspace};
use super::lane::Lane;
use super::par;
use super::reduce::offset_at;
use super::view::{Host, HostMut};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::Layout;

/// The sign bit of a key: flipped, signed order becomes unsigned order.
const TOP: u64 = 1 << 63;

/// A key of 64 bits: `key(a) < key(b)` exactly if `a < b`, NaN above all.
#[inline(always)]
pub(crate) fn wide_key<T: Lane>(x: T) -> u64 {
    if !T::IS_FLOAT {
        return x.to_i64() as u64 ^ TOP;
    }
    if x.is_nan() {
        return u64::MAX;
    }
    let bits = (x.to_f64() + 0.0).to_bits();
    if bits & TOP == 0 { bits | TOP } else { !bits }
}

/// As [`wide_key`], in 32 bits, for lanes of at most that size.
#[inline(always)]
fn narrow_key<T: Lane>(x: T) -> u32 {
    if !T::IS_FLOAT {
        return x.to_i64() as u32 ^ (1 << 31);
    }
    if x.is_nan() {
        return u32::MAX;
    }
    let bits = (x.to_f64() as f32 + 0.0).to_bits();
    // Of negative numbers all bits turn, of others the first: without a branch, which half of random numbers would miss.
    bits ^ ((bits as i32 >> 31) as u32 | 1 << 31)
}

/// A key and the position that it came from, in one integer whose order is the stable order.
pub(super) trait Packed: Ord + Copy + Send + Sync + Default {
    /// An integer with the order of the numbers, reversed where descending.
    type Key: Ord + Copy + Default + Send + Sync;
    /// The greatest key.
    const LAST: Self::Key;

    fn key<T: Lane>(x: T, descending: bool) -> Self::Key;
    fn join(key: Self::Key, index: usize) -> Self;
    fn own_key(self) -> Self::Key;
    fn index(self) -> usize;
    /// The number, if its key tells it: that of a zero or NaN does not.
    fn number<T: Lane>(self, descending: bool) -> Option<T>;
    /// The lowest bits of what the key is above another, after a shift.
    fn above(self, low: Self::Key, shift: u32) -> usize;
    /// The bits that the difference of two keys takes.
    fn bits(low: Self::Key, high: Self::Key) -> u32;
}

impl Packed for u64 {
    type Key = u32;
    const LAST: u32 = u32::MAX;

    #[inline(always)]
    fn key<T: Lane>(x: T, descending: bool) -> u32 {
        let key = narrow_key(x);
        if descending { !key } else { key }
    }

    #[inline(always)]
    fn join(key: u32, index: usize) -> Self {
        u64::from(key) << 32 | (index as u64 & 0xffff_ffff)
    }

    #[inline(always)]
    fn own_key(self) -> u32 {
        (self >> 32) as u32
    }

    #[inline(always)]
    fn index(self) -> usize {
        (self & 0xffff_ffff) as usize
    }

    #[inline(always)]
    fn number<T: Lane>(self, descending: bool) -> Option<T> {
        let key = self.own_key();
        let key = if descending { !key } else { key };
        if !T::IS_FLOAT {
            return Some(T::from_i64(i64::from((key ^ (1 << 31)) as i32)));
        }
        let bits = if key & (1 << 31) == 0 {
            !key
        } else {
            key ^ (1 << 31)
        };
        let told = key != 1 << 31 && key != u32::MAX;
        told.then(|| T::from_f64(f64::from(f32::from_bits(bits))))
    }

    #[inline(always)]
    fn above(self, low: u32, shift: u32) -> usize {
        (self.own_key().wrapping_sub(low) >> shift) as usize
    }

    fn bits(low: u32, high: u32) -> u32 {
        u32::BITS - high.wrapping_sub(low).leading_zeros()
    }
}

impl Packed for u128 {
    type Key = u64;
    const LAST: u64 = u64::MAX;

    #[inline(always)]
    fn key<T: Lane>(x: T, descending: bool) -> u64 {
        let key = wide_key(x);
        if descending { !key } else { key }
    }

    #[inline(always)]
    fn join(key: u64, index: usize) -> Self {
        u128::from(key) << 64 | index as u128
    }

    #[inline(always)]
    fn own_key(self) -> u64 {
        (self >> 64) as u64
    }

    #[inline(always)]
    fn index(self) -> usize {
        self as u64 as usize
    }

    #[inline(always)]
    fn number<T: Lane>(self, descending: bool) -> Option<T> {
        let key = self.own_key();
        let key = if descending { !key } else { key };
        if !T::IS_FLOAT {
            return Some(T::from_i64((key ^ TOP) as i64));
        }
        let bits = if key & TOP == 0 { !key } else { key ^ TOP };
        let told = key != TOP && key != u64::MAX;
        told.then(|| T::from_f64(f64::from_bits(bits)))
    }

    #[inline(always)]
    fn above(self, low: u64, shift: u32) -> usize {
        (self.own_key().wrapping_sub(low) >> shift) as usize
    }

    fn bits(low: u64, high: u64) -> u32 {
        u64::BITS - high.wrapping_sub(low).leading_zeros()
    }
}

/// Which elements of each line, in which order: the first `count` of the whole order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub dim: usize,
    pub descending: bool,
    pub count: usize,
}

/// For each line of `x` along a dim, the first elements of its stable order and the indices that they had there.
pub(crate) fn order<T: Lane>(
    op: &'static str,
    x: &Host<'_>,
    pick: Pick,
    values: &mut HostMut<'_>,
    indices: &mut HostMut<'_>,
) -> Result<()> {
    if size_of::<T>() <= 4 && u32::try_from(x.shape().size(pick.dim)).is_ok() {
        order_packed::<T, u64>(op, x, pick, values, indices)
    } else {
        order_packed::<T, u128>(op, x, pick, values, indices)
    }
}

struct Start(*mut u8);
// SAFETY: threads write different lines.
unsafe impl Sync for Start {}

impl Start {
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// The layout of the first elements of the lines along a dim, and the step along a line.
fn lines_of(layout: &Layout, dim: usize) -> (Layout, usize) {
    if layout.shape().rank() == 0 {
        return (*layout, 0);
    }
    let step = layout.strides().get(dim).copied().unwrap_or(0);
    (layout.select(dim, 0), step)
}

fn order_packed<T: Lane, P: Packed>(
    op: &'static str,
    x: &Host<'_>,
    pick: Pick,
    values: &mut HostMut<'_>,
    indices: &mut HostMut<'_>,
) -> Result<()> {
    let size = x.shape().size(pick.dim);
    if size == 0 || pick.count == 0 || x.elements() == 0 {
        return Ok(());
    }
    let lines = x.elements() / size;
    let job = Job {
        x: (*x, lines_of(x.layout(), pick.dim)),
        values: (Start(values.start()), values.dtype()),
        indices: (Start(indices.start()), indices.dtype()),
        lines: [
            lines_of(values.layout(), pick.dim),
            lines_of(indices.layout(), pick.dim),
        ],
        pick,
        size,
    };
    let failed = OnceLock::new();
    par::ranges(lines, (par::GRAIN / COST / size).max(1), |range| {
        // SAFETY: the lines lie within the views, whose dtypes `T` and `i64` serve; threads have different lines.
        if let Err(error) = unsafe { job.run::<T, P>(op, range, lines) } {
            failed.get_or_init(|| error);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// What the threads of one call share.
struct Job<'a> {
    x: (Host<'a>, (Layout, usize)),
    values: (Start, DType),
    indices: (Start, DType),
    /// The lines of the values and of the indices.
    lines: [(Layout, usize); 2],
    pick: Pick,
    size: usize,
}

/// Elements that are as much work to copy as one is to order.
const COST: usize = 16;
/// Results are written so many at a time, or so few where there are no more.
const PART: usize = 512;
const FEW: usize = 16;

impl Job<'_> {
    /// # Safety
    /// `T` must serve the dtypes, and nobody else may touch the results' lines.
    unsafe fn run<T: Lane, P: Packed>(
        &self,
        op: &'static str,
        range: std::ops::Range<usize>,
        lines: usize,
    ) -> Result<()> {
        let (x, (from, step)) = &self.x;
        let Pick {
            descending, count, ..
        } = self.pick;
        let few = best::serves(count, self.size);
        let direct = x.dtype() == T::DTYPE && *step == 1;
        let mut row = Buffer::<T>::new(op, if direct { 0 } else { self.size })?;
        let (tops, room) = if few {
            (best::tops(count, self.size), best::room(count))
        } else {
            (0, 0)
        };
        let (mut tops, mut held) = (Buffer::<T>::new(op, tops)?, Buffer::<P>::new(op, room)?);
        let whole = if few { 0 } else { self.size };
        let mut packed = Buffer::<P>::new(op, whole)?;
        let radix = !few && count == self.size && self.size >= radix::FEWEST;
        let mut spare = Buffer::<P>::new(op, if radix { self.size } else { 0 })?;
        let parts = if lines < par::threads() {
            par::threads()
        } else {
            1
        };
        for number in range {
            let at = x
                .start()
                .wrapping_add(offset_at(from, number) * x.dtype().size());
            let line: &[T] = if direct {
                // SAFETY: the line's elements are `T`s in a row.
                unsafe { std::slice::from_raw_parts(at.cast(), self.size) }
            } else {
                // SAFETY: the line lies within `x`, and `T` serves its dtype.
                unsafe { T::gather(at, *step, x.dtype(), row.zeroed()) };
                row.zeroed()
            };
            let chosen: &[P] = if few {
                best::best(line, descending, count, held.zeroed(), tops.zeroed())
            } else {
                let all = pack(line, descending, packed.room(), parts);
                if radix {
                    radix::sort(all, spare.room(), parts)
                } else {
                    if count < self.size {
                        all.select_nth_unstable(count - 1);
                    }
                    all[..count].sort_unstable();
                    &all[..count]
                }
            };
            // SAFETY: as promised by the caller.
            unsafe {
                if chosen.len() <= FEW {
                    self.write::<T, P, FEW>(number, line, chosen, parts);
                } else {
                    self.write::<T, P, PART>(number, line, chosen, parts);
                }
            }
        }
        Ok(())
    }

    /// Writes the chosen elements of a line and where they were, `SIZE` at a time.
    ///
    /// # Safety
    /// As `run`.
    unsafe fn write<T: Lane, P: Packed, const SIZE: usize>(
        &self,
        number: usize,
        line: &[T],
        chosen: &[P],
        parts: usize,
    ) {
        let [(to, vs), (at, is)] = &self.lines;
        let (dtype, wide) = (self.values.1, self.indices.1);
        let (to, at) = (offset_at(to, number), offset_at(at, number));
        let grain = if parts > 1 {
            par::GRAIN / SIZE
        } else {
            usize::MAX
        };
        par::ranges(chosen.len().div_ceil(SIZE), grain, |range| {
            let mut places = [0i64; SIZE];
            let mut best = [T::ZERO; SIZE];
            for part in range {
                let start = part * SIZE;
                let chosen = &chosen[start..chosen.len().min(start + SIZE)];
                for ((place, best), packed) in places.iter_mut().zip(&mut best).zip(chosen) {
                    *place = packed.index() as i64;
                    let told = packed.number(self.pick.descending);
                    *best = told.unwrap_or_else(|| line[packed.index()]);
                }
                let value = self.values.0.at((to + start * vs) * dtype.size());
                let index = self.indices.0.at((at + start * is) * wide.size());
                // SAFETY: the lines lie within the results, and the lanes serve their dtypes.
                unsafe {
                    T::scatter(&best[..chosen.len()], value, *vs, dtype);
                    i64::scatter(&places[..chosen.len()], index, *is, wide);
                }
            }
        });
    }
}

/// Memory for so many values.
struct Buffer<T> {
    block: Option<Block>,
    count: usize,
    /// Whether all have been written.
    whole: bool,
    kind: PhantomData<T>,
}

impl<T: Copy> Buffer<T> {
    fn new(op: &'static str, count: usize) -> Result<Self> {
        let bytes = count.saturating_mul(size_of::<T>());
        let block = (count > 0)
            .then(|| Block::allocate(op, bytes))
            .transpose()?;
        Ok(Buffer {
            block,
            count,
            whole: false,
            kind: PhantomData,
        })
    }

    /// The values, which may not have been written.
    fn room(&mut self) -> &mut [MaybeUninit<T>] {
        match &self.block {
            // SAFETY: the block has room for `count` values and is ours.
            Some(block) => unsafe {
                std::slice::from_raw_parts_mut(block.start().cast(), self.count)
            },
            None => &mut [],
        }
    }

    /// The values, zero at first.
    fn zeroed(&mut self) -> &mut [T] {
        let zero = !std::mem::replace(&mut self.whole, true);
        let values = self.room();
        // SAFETY: zeros are values of the lanes and integers used here, and all have been written the first time.
        unsafe {
            if zero {
                values.as_mut_ptr().write_bytes(0, values.len());
            }
            &mut *(std::ptr::from_mut(values) as *mut [T])
        }
    }
}

/// Keys and positions of a line.
fn pack<'a, T: Lane, P: Packed>(
    line: &[T],
    descending: bool,
    to: &'a mut [MaybeUninit<P>],
    parts: usize,
) -> &'a mut [P] {
    let cells = Start(to.as_mut_ptr().cast());
    let to = &mut to[..line.len()];
    let grain = if parts > 1 { par::GRAIN } else { usize::MAX };
    par::ranges(line.len(), grain, |range| {
        let to = cells.at(0).cast::<P>();
        for (index, x) in range.clone().zip(&line[range]) {
            // SAFETY: the index lies in `to`, and every thread has its own part of it.
            unsafe { to.add(index).write(P::join(P::key(*x, descending), index)) };
        }
    });
    // SAFETY: all have been written.
    unsafe { &mut *(std::ptr::from_mut(to) as *mut [P]) }
}

/// The first position of each run of equals, and for each position its run.
pub(crate) type Runs = (Vec<usize>, Vec<usize>);

/// Runs of equal elements in order: for each the position of its first element; and for each position its run. NaNs equal
/// nothing, not even each other.
pub(crate) fn runs<T: Lane>(op: &'static str, values: &[T]) -> Result<Runs> {
    let keys = values.iter().map(|x| wide_key(*x));
    let mut order = collected(op, keys.zip(0..values.len()))?;
    order.sort_unstable();
    let (mut firsts, mut run_of) = (room(op, values.len())?, workspace(op, 0, values.len())?);
    let mut last: Option<u64> = None;
    for (key, index) in order {
        if last != Some(key) || values[index].is_nan() {
            firsts.push(index);
        }
        last = Some(key);
        run_of[index] = firsts.len() - 1;
    }
    Ok((firsts, run_of))
}

/// As [`runs`], for rows of `width` keys in lexicographic order.
pub(crate) fn row_runs(op: &'static str, keys: &[u64], width: usize, rows: usize) -> Result<Runs> {
    let row = |index: usize| {
        keys.get(index * width..(index + 1) * width)
            .unwrap_or_default()
    };
    let mut order = collected(op, 0..rows)?;
    order.sort_unstable_by(|a, b| row(*a).cmp(row(*b)).then(a.cmp(b)));
    let (mut firsts, mut run_of): Runs = (room(op, rows)?, workspace(op, 0, rows)?);
    for index in order {
        if firsts.last().is_none_or(|first| row(*first) != row(index)) {
            firsts.push(index);
        }
        run_of[index] = firsts.len() - 1;
    }
    Ok((firsts, run_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_numbers() {
        let rising = [
            f32::NEG_INFINITY,
            -2.5,
            -1e-40,
            0.0,
            1e-40,
            1.0,
            f32::INFINITY,
            f32::NAN,
        ];
        assert!(
            rising
                .windows(2)
                .all(|pair| narrow_key(pair[0]) < narrow_key(pair[1])
                    && wide_key(pair[0]) < wide_key(pair[1]))
        );
        assert_eq!(narrow_key(0.0f32), narrow_key(-0.0f32));
        assert!(
            narrow_key(-1i8) < narrow_key(0i8)
                && wide_key(i64::MIN) < wide_key(i64::MAX)
                && narrow_key(200u8) > narrow_key(3u8)
        );
    }

    #[test]
    fn runs_name_their_first() {
        let of_values = runs("test", &[3i32, 1, 3, 2]).expect("memory");
        assert_eq!(of_values, (vec![1, 3, 0], vec![2, 0, 2, 1]));
        let of_rows = row_runs("test", &[1, 2, 0, 5, 1, 2], 2, 3).expect("memory");
        assert_eq!(of_rows, (vec![1, 0], vec![1, 0, 1]));
    }
}
