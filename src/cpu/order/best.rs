//! The few best of a long line: those that beat the best so far are kept, and the rest is only looked at.
//!
//! Knows keys and positions. Must not know layouts or where results go.

use super::Packed;
use crate::cpu::lane::Lane;
use crate::cpu::simd::{Simd, vectorised};

/// Elements that are compared at a time: a vector or two.
const CHUNK: usize = 16;

/// Whether so few are wanted of a line that this is the faster way.
pub(super) fn serves(count: usize, size: usize) -> bool {
    size >= 1024 && count <= size / 16
}

/// The room that [`best`] needs.
pub(super) fn room(count: usize) -> usize {
    (4 * count).max(256) + CHUNK
}

/// The first `count` of the line's order, in order; `held` has the [`room`] for it.
pub(super) fn best<'a, T: Lane, P: Packed>(
    line: &[T],
    descending: bool,
    count: usize,
    held: &'a mut [P],
) -> &'a [P] {
    let simd = Simd::best();
    // Positions rise, so an element that equals the last one kept comes after it: only better ones get in.
    let (mut length, mut limit) = (0, None);
    let mut from = 0;
    loop {
        let (bound, last) = limit.unwrap_or((T::ZERO, P::LAST));
        if limit.is_some() && !bound.is_nan() {
            from = vectorised!(simd, beaten(line, from, bound, descending));
        }
        let chunk = &line[from..line.len().min(from + CHUNK)];
        let mut keys = [P::Key::default(); CHUNK];
        let better = vectorised!(simd, better::<T, P>(chunk, &mut keys, last, descending));
        let mut rest = if limit.is_some() {
            better
        } else {
            (1 << chunk.len()) - 1
        };
        while rest != 0 {
            let place = rest.trailing_zeros() as usize;
            held[length] = P::join(keys[place], from + place);
            length += 1;
            rest &= rest - 1;
        }
        from += chunk.len();
        if from == line.len() {
            break;
        }
        if length + CHUNK > held.len() {
            held[..length].select_nth_unstable(count - 1);
            length = count;
            let worst = held[count - 1];
            limit = Some((line[worst.index()], worst.own_key()));
        }
    }
    if length > count {
        held[..length].select_nth_unstable(count - 1);
    }
    held[..count].sort_unstable();
    &held[..count]
}

/// Where the first chunk from `from` on begins in which an element is better than the bound; the last chunk, if there is none.
#[inline(always)]
fn beaten<T: Lane>(line: &[T], mut from: usize, bound: T, descending: bool) -> usize {
    while from + CHUNK <= line.len() {
        let chunk = &line[from..from + CHUNK];
        let mut found = false;
        if descending {
            chunk
                .iter()
                .for_each(|x| found |= x.is_nan() | (*x > bound));
        } else {
            chunk.iter().for_each(|x| found |= *x < bound);
        }
        if found {
            break;
        }
        from += CHUNK;
    }
    from
}

/// The keys of a chunk, and a bit for each that is less than the last one kept.
#[inline(always)]
fn better<T: Lane, P: Packed>(
    chunk: &[T],
    keys: &mut [P::Key; CHUNK],
    last: P::Key,
    descending: bool,
) -> u32 {
    let mut bits = 0;
    for (place, (x, key)) in chunk.iter().zip(keys).enumerate() {
        *key = P::key(*x, descending);
        bits |= u32::from(*key < last) << place;
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
            let mut held = vec![0u64; room(count)];
            assert_eq!(best(&line, true, count, &mut held), &all[..count]);
        }
    }

    #[test]
    fn numbers_that_are_none_are_the_greatest() {
        let line: Vec<f32> = (0..4001)
            .map(|index| match index * 7919 % 4001 {
                at if at % 500 == 3 => f32::NAN,
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
                let mut held = vec![0u64; room(count)];
                assert_eq!(best(&line, descending, count, &mut held), &all[..count]);
            }
        }
    }
}
