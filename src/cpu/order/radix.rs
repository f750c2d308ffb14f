//! Radix sort: a line sorted by the digits of its keys, from the lowest, which keeps equal ones in order.
//!
//! Knows digits, parts and threads. Must not know what the keys mean.

use super::Packed;
use crate::cpu::par;

/// Lines of fewer elements are sorted by comparing.
pub(super) const FEWEST: usize = 4096;

/// The bits of a digit.
const BITS: u32 = 11;
const DIGITS: usize = 1 << BITS;

/// Addresses that threads share while they write places of their own.
struct Shared<T>(*mut T);

// SAFETY: threads write the counts of their parts, and the places that the counts give to their elements.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// Sorts the line, which is cut into parts for as many threads; the result lies in one of both slices, which are equally long.
pub(super) fn sort<'a, P: Packed>(line: &'a mut [P], spare: &'a mut [P], parts: usize) -> &'a [P] {
    let (mut from, mut to) = (line, spare);
    let parts = parts.clamp(1, from.len().max(1));
    let mut counts = vec![[0usize; DIGITS]; parts];
    for shift in (0..P::BITS).step_by(BITS as usize) {
        count(from, &mut counts, shift);
        let mut place = 0;
        let mut whole = false;
        for digit in 0..DIGITS {
            let before = place;
            for counts in &mut counts {
                let count = counts[digit];
                counts[digit] = place;
                place += count;
            }
            whole |= place - before == from.len();
        }
        if whole {
            continue;
        }
        spread(from, to, &mut counts, shift);
        std::mem::swap(&mut from, &mut to);
    }
    from
}

fn part(length: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    length * index / parts..length * (index + 1) / parts
}

/// How often each digit occurs in each part.
fn count<P: Packed>(from: &[P], counts: &mut [[usize; DIGITS]], shift: u32) {
    let parts = counts.len();
    let cells = Shared(counts.as_mut_ptr());
    par::ranges(parts, 1, |range| {
        for index in range {
            // SAFETY: each part has its own counts.
            let counts = unsafe { &mut *cells.at(index) };
            counts.fill(0);
            for packed in &from[part(from.len(), parts, index)] {
                counts[packed.digit(shift) & (DIGITS - 1)] += 1;
            }
        }
    });
}

/// Moves every element to the next place of its digit and part.
fn spread<P: Packed>(from: &[P], to: &mut [P], places: &mut [[usize; DIGITS]], shift: u32) {
    let (parts, length) = (places.len(), to.len());
    let (cells, target) = (Shared(places.as_mut_ptr()), Shared(to.as_mut_ptr()));
    par::ranges(parts, 1, |range| {
        for index in range {
            // SAFETY: each part has its own places.
            let places = unsafe { &mut *cells.at(index) };
            for packed in &from[part(from.len(), parts, index)] {
                let place = &mut places[packed.digit(shift) & (DIGITS - 1)];
                debug_assert!(*place < length);
                // SAFETY: the counts add up to the length, so that every element has a place of its own within `to`.
                unsafe { *target.at(*place) = *packed };
                *place += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted() {
        let mut state = 9u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            state >> 20
        };
        for parts in [1, 3] {
            let mut line: Vec<u64> = (0..9000)
                .map(|index| u64::join((next() % 5000) as u32 * 700_001, index))
                .collect();
            let mut wanted = line.clone();
            wanted.sort_unstable();
            let mut spare = vec![0; line.len()];
            assert_eq!(sort(&mut line, &mut spare, parts), wanted);
        }
    }
}
