//! The few best of a long line: those that beat the best so far are kept, and the rest is only looked at.
//!
//! Knows keys and positions. Must not know layouts or where results go.

use super::Packed;
use crate::cpu::lane::Lane;
use crate::cpu::simd::{self, Simd, vectorised};

/// Elements that are compared at a time: a vector or two.
const CHUNK: usize = 16;
/// Chunks of a block, at least: the best of a block in each lane tell whether it has to be looked at.
const DEEP: usize = 8;
/// Bytes that memory is asked for with each block that is looked at.
const AHEAD: usize = 1024;
/// Bests of blocks that are worth more blocks.
const MANY: usize = 16 * 1024;

/// Whether so few are wanted of a line that this is the faster way.
pub(super) fn serves(count: usize, size: usize) -> bool {
    size >= 1024 && count <= size / 16
}

/// The room that [`best`] needs for elements.
pub(super) fn room(count: usize) -> usize {
    8 * count.max(64) + CHUNK
}

/// Chunks of a block.
fn depth(count: usize, size: usize) -> usize {
    (size / MANY).min(size / (4 * count)).max(DEEP)
}

/// Blocks that stand together for the first limit, so that they have some times as many bests as are wanted.
fn together(count: usize, blocks: usize) -> usize {
    (blocks * CHUNK / (4 * count.max(CHUNK))).max(1)
}

/// The room that [`best`] needs for the bests of blocks, and of blocks together.
pub(super) fn tops(count: usize, size: usize) -> usize {
    let blocks = size / (depth(count, size) * CHUNK);
    (blocks + blocks.div_ceil(together(count, blocks))) * CHUNK
}

/// What an element has to beat.
#[derive(Clone, Copy)]
struct Limit<T, K> {
    bound: T,
    key: K,
    /// Whether an equal one gets in too.
    ties: bool,
}

/// The first `count` of the line's order, in order; `held` has the [`room`] for it, and `tops` that of its name.
pub(super) fn best<'a, T: Lane, P: Packed>(
    line: &[T],
    descending: bool,
    count: usize,
    held: &'a mut [P],
    tops: &mut [T],
) -> &'a [P] {
    let set = Simd::best();
    let block = depth(count, line.len()) * CHUNK;
    let blocks = line.len() / block;
    let (tops, above) = tops.split_at_mut(blocks * CHUNK);
    let clean = vectorised!(set, block_tops(line, block, tops, descending));
    let mut kept = Kept {
        held,
        length: 0,
        count,
        descending,
        limit: None,
    };
    // With NaNs in the line the bests do not tell which elements get in: all are looked at.
    if clean {
        let together = together(count, blocks) * CHUNK;
        vectorised!(set, block_tops(tops, together, above, descending));
        kept.limit = first_limit(above, descending, count, kept.held);
    }
    // While blocks are looked at, memory brings what most likely comes next, the line behind this one.
    let mut next = line.as_ptr_range().end.cast::<u8>();
    let mut number = 0;
    while number * block < line.len() {
        simd::prefetch(next, AHEAD);
        next = next.wrapping_add(AHEAD);
        if let Some(limit) = &kept.limit {
            number = vectorised!(set, beaten(tops, number * CHUNK, limit, descending)) / CHUNK;
        }
        let end = if kept.limit.is_some() && number < blocks {
            (number + 1) * block
        } else {
            line.len()
        };
        kept.look(line, number * block..end);
        number = end.div_ceil(block);
    }
    let Kept { held, length, .. } = kept;
    if length > count {
        held[..length].select_nth_unstable(count - 1);
    }
    held[..count].sort_unstable();
    &held[..count]
}

/// The best of each lane of each block that there is room for; whether none of the elements there is a NaN.
#[inline(always)]
fn block_tops<T: Lane>(line: &[T], block: usize, tops: &mut [T], descending: bool) -> bool {
    if descending {
        picked_tops(line, block, tops, |x, best| if x > best { x } else { best })
    } else {
        picked_tops(line, block, tops, |x, best| if x < best { x } else { best })
    }
}

#[inline(always)]
fn picked_tops<T: Lane>(
    line: &[T],
    block: usize,
    tops: &mut [T],
    pick: impl Fn(T, T) -> T,
) -> bool {
    let mut odd = [T::ZERO; CHUNK];
    for (tops, block) in tops
        .as_chunks_mut::<CHUNK>()
        .0
        .iter_mut()
        .zip(line.chunks(block))
    {
        let chunks = block.as_chunks::<CHUNK>().0;
        let mut best = chunks[0];
        for chunk in chunks {
            for (lane, x) in chunk[..].iter().enumerate() {
                best[lane] = pick(*x, best[lane]);
                odd[lane] = if x.is_nan() { *x } else { odd[lane] };
            }
        }
        *tops = best;
    }
    odd.iter().all(|x| !x.is_nan())
}

/// The limit that as many elements as are wanted do not miss: each of the bests is one.
fn first_limit<T: Lane, P: Packed>(
    tops: &[T],
    descending: bool,
    count: usize,
    room: &mut [P],
) -> Option<Limit<T, P::Key>> {
    let room = room.get_mut(..tops.len())?;
    for (index, (to, top)) in room.iter_mut().zip(tops).enumerate() {
        *to = P::join(P::key(*top, descending), index);
    }
    if tops.len() < count {
        return None;
    }
    let (_, last, _) = room.select_nth_unstable(count - 1);
    Some(Limit {
        bound: tops[last.index()],
        key: last.own_key(),
        ties: true,
    })
}

/// The elements that are among the best so far, and some that were.
struct Kept<'a, T, P: Packed> {
    held: &'a mut [P],
    length: usize,
    count: usize,
    descending: bool,
    limit: Option<Limit<T, P::Key>>,
}

impl<T: Lane, P: Packed> Kept<'_, T, P> {
    /// Takes in the elements of a range of the line that are good enough. Positions rise, so an element that equals the last one
    /// wanted of those before comes after it.
    fn look(&mut self, line: &[T], range: std::ops::Range<usize>) {
        let (simd, descending) = (Simd::best(), self.descending);
        let std::ops::Range { mut start, end } = range;
        let line = &line[..end];
        while start < end {
            if let Some(limit) = &self.limit
                && !limit.bound.is_nan()
            {
                start = vectorised!(simd, beaten(line, start, limit, descending));
            }
            let chunk = &line[start..end.min(start + CHUNK)];
            let mut keys = [P::Key::default(); CHUNK];
            let mut rest = match self.limit {
                None => {
                    vectorised!(simd, better::<T, P>(chunk, &mut keys, None, descending))
                }
                Some(limit) => {
                    let last = Some((limit.key, limit.ties));
                    vectorised!(simd, better::<T, P>(chunk, &mut keys, last, descending))
                }
            };
            while rest != 0 {
                let place = rest.trailing_zeros() as usize;
                self.held[self.length] = P::join(keys[place], start + place);
                self.length += 1;
                rest &= rest - 1;
            }
            start += chunk.len();
            if self.length + CHUNK > self.held.len() {
                self.held[..self.length].select_nth_unstable(self.count - 1);
                self.length = self.count;
                let worst = self.held[self.count - 1];
                self.limit = Some(Limit {
                    bound: line[worst.index()],
                    key: worst.own_key(),
                    ties: false,
                });
            }
        }
    }
}

/// Where the first chunk from `from` on begins in which an element gets in; the last chunk, if there is none.
#[inline(always)]
fn beaten<T: Lane, K>(line: &[T], from: usize, limit: &Limit<T, K>, descending: bool) -> usize {
    let bound = limit.bound;
    match (descending, limit.ties) {
        (true, true) => first_chunk(line, from, |x| x.is_nan() | (x >= bound)),
        (true, false) => first_chunk(line, from, |x| x.is_nan() | (x > bound)),
        (false, true) => first_chunk(line, from, |x| x <= bound),
        (false, false) => first_chunk(line, from, |x| x < bound),
    }
}

/// Where the first chunk from `from` on begins that has such an element; the last chunk, if there is none.
#[inline(always)]
fn first_chunk<T: Lane>(line: &[T], mut from: usize, is_one: impl Fn(T) -> bool) -> usize {
    while from + CHUNK <= line.len() {
        let mut found = false;
        line[from..from + CHUNK]
            .iter()
            .for_each(|x| found |= is_one(*x));
        if found {
            break;
        }
        from += CHUNK;
    }
    from
}

/// The keys of a chunk, and a bit for each that is less than the last one, or equals it if that is enough.
#[inline(always)]
fn better<T: Lane, P: Packed>(
    chunk: &[T],
    keys: &mut [P::Key; CHUNK],
    last: Option<(P::Key, bool)>,
    descending: bool,
) -> u32 {
    let (last, ties) = last.unwrap_or((P::LAST, true));
    let mut bits = 0;
    for (place, (x, key)) in chunk.iter().zip(keys).enumerate() {
        *key = P::key(*x, descending);
        bits |= u32::from((*key < last) | (ties & (*key == last))) << place;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_elements_win() {
        let line: Vec<i32> = (0..5000).map(|index| index * 7919 % 97).collect();
        let mut all: Vec<u64> = line
            .iter()
            .enumerate()
            .map(|(index, x)| u64::join(u64::key(*x, true), index))
            .collect();
        all.sort_unstable();
        for count in [1, 7, 100, 300] {
            assert!(serves(count, line.len()));
            let (mut held, mut tops) = (vec![0u64; room(count)], vec![0; tops(count, line.len())]);
            assert_eq!(
                best(&line, true, count, &mut held, &mut tops),
                &all[..count]
            );
        }
    }

    #[test]
    fn numbers_that_are_none_are_the_greatest() {
        for first_nan in [3, 500, 4000, 5000] {
            numbers_with_nan(first_nan);
        }
    }

    /// NaNs at many places, at one, at the end alone (which is in no whole block), or nowhere.
    fn numbers_with_nan(first_nan: usize) {
        let line: Vec<f32> = (0..4001usize)
            .map(|index| match index * 7919 % 4001 {
                at if at % 500 == first_nan || index == first_nan => f32::NAN,
                at if at % 7 == 0 => -0.0,
                at if at % 7 == 1 => 0.0,
                at => (at as f32 - 2000.0) * 0.25,
            })
            .collect();
        for descending in [false, true] {
            let mut all: Vec<u64> = line
                .iter()
                .enumerate()
                .map(|(index, x)| u64::join(u64::key(*x, descending), index))
                .collect();
            all.sort_unstable();
            for count in [1, 9, 50, 250] {
                let (mut held, mut tops) =
                    (vec![0u64; room(count)], vec![0.0; tops(count, line.len())]);
                let got = best(&line, descending, count, &mut held, &mut tops);
                assert_eq!(got, &all[..count]);
            }
        }
    }
}
