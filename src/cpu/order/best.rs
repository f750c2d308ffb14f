//! The few best of a long line: those that beat the best so far are kept, and the rest is only looked at.
//!
//! Knows keys and positions. Must not know layouts or where results go.

use super::Packed;
use crate::cpu::lane::Lane;
use crate::cpu::simd::{Simd, vectorised};

/// Elements whose keys are made and compared at a time.
const CHUNK: usize = 64;

/// Whether so few are wanted of a line that this is the faster way.
pub(super) fn serves(count: usize, size: usize) -> bool {
    size >= 16 * CHUNK && count <= size / 16
}

/// The room that [`best`] needs.
pub(super) fn room(count: usize) -> usize {
    (4 * count).max(4 * CHUNK) + CHUNK
}

/// The first `count` of the line's order, in order; `held` has the [`room`] for it.
pub(super) fn best<'a, T: Lane, P: Packed>(
    line: &[T],
    descending: bool,
    count: usize,
    held: &'a mut [P],
) -> &'a [P] {
    let simd = Simd::best();
    let mut keys = [P::Key::default(); CHUNK];
    // Positions rise, so an element with the key of the last one kept comes after it: only smaller keys get in.
    let (mut length, mut limit) = (0, None);
    for (index, chunk) in line.chunks(CHUNK).enumerate() {
        let keys = &mut keys[..chunk.len()];
        let last = limit.unwrap_or(P::LAST);
        let beaten = vectorised!(simd, {
            let mut beaten = false;
            for (key, x) in keys.iter_mut().zip(chunk) {
                *key = P::key(*x, descending);
                beaten |= *key < last;
            }
            beaten
        });
        if !beaten && limit.is_some() {
            continue;
        }
        for (place, key) in keys.iter().enumerate() {
            if *key < last || limit.is_none() {
                held[length] = P::join(*key, index * CHUNK + place);
                length += 1;
            }
        }
        if length + CHUNK > held.len() {
            held[..length].select_nth_unstable(count - 1);
            length = count;
            limit = Some(held[count - 1].own_key());
        }
    }
    if length > count {
        held[..length].select_nth_unstable(count - 1);
    }
    held[..count].sort_unstable();
    &held[..count]
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
}
