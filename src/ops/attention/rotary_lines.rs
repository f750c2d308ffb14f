//! The host kernel of `rotary_embedding`: one line after the other.
//!
//! Knows the loops over a line. Must not know shape rules, gradients or the NPU.

use std::ops::Range;

use super::rotary_embedding::RotaryMode;
use crate::cpu::lines::LineFormula;
use crate::ops::prelude::*;

/// `y = x cos + turned(x) sin` for a line; or for `back`, `x cos + turned_back(x sin)`.
pub(super) struct Turn {
    pub mode: RotaryMode,
    pub back: bool,
}

/// Some columns of a line turned, and the others copied.
pub(super) struct Part {
    pub turn: Turn,
    pub columns: Range<usize>,
}

impl<T: Float> LineFormula<T> for Part {
    #[inline(always)]
    fn line(&self, [x, cos, sin]: [&[T]; 3], y: &mut [T]) {
        let Range { start, end } = self.columns;
        y[..start].copy_from_slice(&x[..start]);
        y[end..].copy_from_slice(&x[end..]);
        let part = [&x[start..end], cos, sin];
        self.turn.line(part, &mut y[start..end]);
    }
}

impl<T: Float> LineFormula<T> for Turn {
    #[inline(always)]
    fn line(&self, [x, cos, sin]: [&[T]; 3], y: &mut [T]) {
        let half = x.len() / 2;
        match self.mode {
            RotaryMode::Half => {
                // Tables of half the width serve both halves.
                let (a, b) = x.split_at(half);
                let (c1, s1) = (&cos[cos.len() - half..], &sin[sin.len() - half..]);
                let tables = [&cos[..half], &sin[..half], c1, s1];
                let (y0, y1) = y.split_at_mut(half);
                if self.back {
                    turn_halves::<T, true>([a, b], tables, [y0, y1]);
                } else {
                    turn_halves::<T, false>([a, b], tables, [y0, y1]);
                }
            }
            RotaryMode::Interleave => {
                let pairs = x.as_chunks::<2>().0.iter();
                let tables = cos.as_chunks::<2>().0.iter().zip(sin.as_chunks::<2>().0);
                let outs = y.as_chunks_mut::<2>().0.iter_mut();
                for (([a, b], ([c0, c1], [s0, s1])), [y0, y1]) in pairs.zip(tables).zip(outs) {
                    let (x, t) = ([*a, *b], [*c0, *s0, *c1, *s1]);
                    (*y0, *y1) = if self.back {
                        (first::<T, true>(x, t), second::<T, true>(x, t))
                    } else {
                        (first::<T, false>(x, t), second::<T, false>(x, t))
                    };
                }
            }
        }
    }
}

/// The first element of a pair turned, or turned `BACK`.
#[inline(always)]
fn first<T: Float, const BACK: bool>([a, b]: [T; 2], [c0, s0, _, s1]: [T; 4]) -> T {
    if BACK {
        a.times(c0).plus(b.times(s1))
    } else {
        a.times(c0).minus(b.times(s0))
    }
}

/// The second element.
#[inline(always)]
fn second<T: Float, const BACK: bool>([a, b]: [T; 2], [_, s0, c1, s1]: [T; 4]) -> T {
    if BACK {
        b.times(c1).minus(a.times(s0))
    } else {
        b.times(c1).plus(a.times(s1))
    }
}

/// Both halves of a line, in vectors of sixteen, or of eight where they are shorter.
#[inline(always)]
fn turn_halves<T: Float, const BACK: bool>(x: [&[T]; 2], t: [&[T]; 4], y: [&mut [T]; 2]) {
    if x[0].len() < 16 {
        turn_vectors::<T, BACK, 8>(x, t, y);
    } else {
        turn_vectors::<T, BACK, 16>(x, t, y);
    }
}

/// Vector by vector, and all reads of one before its writes, so that the compiler need not know that the lines do not overlap;
/// what is left one by one.
#[inline(always)]
fn turn_vectors<T: Float, const BACK: bool, const N: usize>(
    x: [&[T]; 2],
    t: [&[T]; 4],
    [y0, y1]: [&mut [T]; 2],
) {
    let (length, count) = (x[0].len(), x[0].len() / N);
    let [a, b] = x.map(|x| &x.as_chunks::<N>().0[..count]);
    let [c0, s0, c1, s1] = t.map(|t| &t.as_chunks::<N>().0[..count]);
    let [z0, z1] = [&mut *y0, &mut *y1].map(|y| &mut y.as_chunks_mut::<N>().0[..count]);
    for i in 0..count {
        let (a, b, c0, s0, c1, s1) = (a[i], b[i], c0[i], s0[i], c1[i], s1[i]);
        let tables = |lane: usize| [c0[lane], s0[lane], c1[lane], s1[lane]];
        let (mut low, mut high) = ([T::ZERO; N], [T::ZERO; N]);
        for lane in 0..N {
            low[lane] = first::<T, BACK>([a[lane], b[lane]], tables(lane));
        }
        for lane in 0..N {
            high[lane] = second::<T, BACK>([a[lane], b[lane]], tables(lane));
        }
        (z0[i], z1[i]) = (low, high);
    }
    for at in count * N..length {
        let (x, t) = (x.map(|x| x[at]), t.map(|t| t[at]));
        (y0[at], y1[at]) = (first::<T, BACK>(x, t), second::<T, BACK>(x, t));
    }
}
