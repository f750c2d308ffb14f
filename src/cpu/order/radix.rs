//! Radix sort: a line sorted by the digits of its keys, from the lowest, which keeps equal ones in order; a long one is cut into
//! segments of neighbouring keys first, each of which stays in a core's cache.
//!
//! Knows digits, parts and threads. Must not know what the keys mean.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::Packed;
use crate::cpu::par;

/// Lines of fewer elements are sorted by comparing.
pub(super) const FEWEST: usize = 4096;

/// The bits of a digit.
const BITS: u32 = 11;
const DIGITS: usize = 1 << BITS;
/// The bytes of a segment: twice as many have their place in a core's cache.
const SEGMENT: usize = 512 << 10;

/// How often each digit occurs, or where its next element goes.
type Counts = [usize; DIGITS];

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
pub(super) fn sort<'a, P: Packed>(
    line: &'a mut [P],
    spare: &'a mut [MaybeUninit<P>],
    parts: usize,
) -> &'a [P] {
    debug_assert_eq!(line.len(), spare.len());
    let parts = parts.clamp(1, line.len().max(1));
    let (low, bits) = reach(line, parts);
    if size_of_val(line) > 2 * SEGMENT
        && let Some(segments) = cut(line, spare, parts, (low, bits))
    {
        let (held, rest) = (Shared(spare.as_mut_ptr()), Shared(line.as_mut_ptr()));
        par::ranges(segments.len(), 1, |range| {
            for Segment { range, bits } in &segments[range] {
                let (start, count) = (range.start, range.len());
                // SAFETY: segments are disjoint, lie within both slices, and `cut` has filled the one that is read.
                let (held, rest) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(held.at(start).cast::<P>(), count),
                        std::slice::from_raw_parts_mut(rest.at(start).cast(), count),
                    )
                };
                if passes(held, rest, 1, (low, *bits)) {
                    // SAFETY: a sort that ends in the other slice has filled it.
                    held.copy_from_slice(unsafe { filled(rest) });
                }
            }
        });
        // SAFETY: the segments are the whole of it.
        return unsafe { filled(spare) };
    }
    if passes(line, spare, parts, (low, bits)) {
        // SAFETY: as above.
        unsafe { filled(spare) }
    } else {
        line
    }
}

/// # Safety
/// All elements must have been written.
unsafe fn filled<P>(values: &mut [MaybeUninit<P>]) -> &mut [P] {
    // SAFETY: promised by the caller.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [P]) }
}

fn part(length: usize, parts: usize, index: usize) -> Range<usize> {
    length * index / parts..length * (index + 1) / parts
}

/// Counts become the places of the first elements; whether one digit has all.
fn place(counts: &mut [Counts], length: usize) -> bool {
    let (mut place, mut whole) = (0, false);
    for digit in 0..DIGITS {
        let before = place;
        for counts in &mut *counts {
            let count = counts[digit];
            counts[digit] = place;
            place += count;
        }
        whole |= place - before == length;
    }
    whole
}

/// Sorts by one digit after the other of so many bits of what keys are above the least; whether the result lies in `spare`.
fn passes<P: Packed>(
    line: &mut [P],
    spare: &mut [MaybeUninit<P>],
    parts: usize,
    (low, bits): (P::Key, u32),
) -> bool {
    let length = line.len().min(spare.len());
    let both = [line.as_mut_ptr(), spare.as_mut_ptr().cast()];
    let mut counts = vec![[0usize; DIGITS]; parts];
    let mut turned = false;
    for shift in (0..bits).step_by(BITS as usize) {
        let [from, to] = if turned { [both[1], both[0]] } else { both };
        // SAFETY: `from` is the line, or has been filled by the last pass; nobody else uses both.
        let from = unsafe { std::slice::from_raw_parts(from, length) };
        let digit = |packed: &P| packed.above(low, shift) & (DIGITS - 1);
        count(from, &mut counts, digit);
        if !place(&mut counts, length) {
            spread(from, to, &mut counts, digit);
            turned = !turned;
        }
    }
    turned
}

/// A part of a line whose keys are all above those of the part before.
struct Segment {
    range: Range<usize>,
    /// The lowest bits of what keys are above the least, in which its keys differ.
    bits: u32,
}

/// Moves the elements of a line to segments, in order within each: a frequent highest digit has its own; none if one would have
/// most of the elements.
fn cut<P: Packed>(
    line: &[P],
    to: &mut [MaybeUninit<P>],
    parts: usize,
    (low, bits): (P::Key, u32),
) -> Option<Vec<Segment>> {
    let shift = bits.saturating_sub(BITS);
    let digit = |packed: &P| packed.above(low, shift) & (DIGITS - 1);
    let mut counts = vec![[0usize; DIGITS]; parts];
    count(line, &mut counts, digit);
    let mut segments: Vec<Segment> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for digit in 0..DIGITS {
        let own = counts.iter().map(|counts| counts[digit]).sum::<usize>();
        let alone = own >= 4 * DIGITS;
        if (end > start) && (alone || (end + own - start) * size_of::<P>() > SEGMENT) {
            segments.push(Segment {
                range: start..end,
                bits,
            });
            start = end;
        }
        end += own;
        if alone {
            segments.push(Segment {
                range: start..end,
                bits: shift,
            });
            start = end;
        }
    }
    segments.push(Segment {
        range: start..end,
        bits,
    });
    if segments.iter().any(|own| own.range.len() > line.len() / 2) {
        return None;
    }
    place(&mut counts, line.len());
    spread(line, to.as_mut_ptr().cast(), &mut counts, digit);
    Some(segments)
}

/// The least key, and the bits of what the greatest is above it.
fn reach<P: Packed>(line: &[P], parts: usize) -> (P::Key, u32) {
    let mut ends = vec![(P::LAST, P::Key::default()); parts];
    let cells = Shared(ends.as_mut_ptr());
    par::ranges(parts, 1, |range| {
        for index in range {
            let (mut low, mut high) = (P::LAST, P::Key::default());
            for packed in &line[part(line.len(), parts, index)] {
                low = low.min(packed.own_key());
                high = high.max(packed.own_key());
            }
            // SAFETY: each part has its own ends.
            unsafe { *cells.at(index) = (low, high) };
        }
    });
    let low = ends.iter().map(|(low, _)| *low).min().unwrap_or_default();
    let high = ends.iter().map(|(_, high)| *high).max().unwrap_or_default();
    (low, P::bits(low, high))
}

/// How often each digit occurs in each part.
fn count<P: Packed>(from: &[P], counts: &mut [Counts], digit: impl Fn(&P) -> usize + Sync) {
    let parts = counts.len();
    let cells = Shared(counts.as_mut_ptr());
    par::ranges(parts, 1, |range| {
        for index in range {
            // SAFETY: each part has its own counts.
            let counts = unsafe { &mut *cells.at(index) };
            counts.fill(0);
            for packed in &from[part(from.len(), parts, index)] {
                counts[digit(packed)] += 1;
            }
        }
    });
}

/// Moves every element to the next place of its digit and part; `to` has room for all.
fn spread<P: Packed>(
    from: &[P],
    to: *mut P,
    places: &mut [Counts],
    digit: impl Fn(&P) -> usize + Sync,
) {
    let parts = places.len();
    let (cells, target) = (Shared(places.as_mut_ptr()), Shared(to));
    par::ranges(parts, 1, |range| {
        for index in range {
            // SAFETY: each part has its own places.
            let places = unsafe { &mut *cells.at(index) };
            for packed in &from[part(from.len(), parts, index)] {
                let place = &mut places[digit(packed)];
                debug_assert!(*place < from.len());
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
        for (parts, length, scale) in [
            (1, 9000, 700_001),
            (3, 9000, 700_001),
            (1, 150_000, 700_001),
            (2, 150_000, 3),
            (3, 150_000, 0),
        ] {
            let mut line: Vec<u64> = (0..length)
                .map(|index| u64::join((next() % 5000) as u32 * scale + 77, index))
                .collect();
            let mut wanted = line.clone();
            wanted.sort_unstable();
            let mut spare = vec![MaybeUninit::uninit(); line.len()];
            assert_eq!(sort(&mut line, &mut spare, parts), wanted);
            let mut wide: Vec<u128> = (0..length)
                .map(|index| u128::join((next() % 5000 * u64::from(scale)) << 9, index))
                .collect();
            let mut wanted = wide.clone();
            wanted.sort_unstable();
            let mut spare = vec![MaybeUninit::uninit(); wide.len()];
            assert_eq!(sort(&mut wide, &mut spare, parts), wanted);
        }
    }
}
