//! The host kernel of `layer_norm` and `rms_norm`: one line after the other.
//!
//! Knows the loops over a line. Must not know shape rules, gradients or the NPU.

use super::line::{Form, LineNorm};
use crate::cpu::lane::{Lane, narrow_pair, wide_pair};
use crate::cpu::total::{moments, total, total_of_pairs};
use crate::cpu::{rows, simd};
use crate::ops::prelude::*;

/// Writes a normalised line; returns the mean and the inverse scale. `wide` and `narrow` bring elements to the numbers that it
/// is computed in, and back.
#[inline(always)]
fn normalise<E: Copy, T: Float>(
    (form, epsilon): (Form, T),
    [x, w]: [&[E]; 2],
    b: Option<&[E]>,
    y: &mut [E],
    wide: impl Fn(E) -> T,
    narrow: impl Fn(T) -> E,
) -> (T, T) {
    let count = T::from_i64(x.len() as i64);
    let mut mean = T::ZERO;
    if form == Form::Layer {
        mean = total(x, &wide).over(count);
    }
    // The second sum takes the first's rounding off, so that equal elements deviate by nothing.
    let (off, square) = match form {
        Form::Layer => moments(x, |x| wide(x).minus(mean)),
        Form::Rms => (T::ZERO, total(x, |x| wide(x).times(wide(x)))),
    };
    let (off, square) = (off.over(count), square.over(count));
    let square = square.minus(off.times(off)).larger(T::ZERO);
    mean = mean.plus(off);
    let deviation = |x: E| wide(x).minus(mean);
    let rstd = T::ONE.over(Float::sqrt(square.plus(epsilon)));
    let scaled = |x: E, w: E| deviation(x).times(rstd).times(wide(w));
    let inputs = x.iter().zip(w);
    match b {
        Some(b) => {
            for ((y, (x, w)), b) in y.iter_mut().zip(inputs).zip(b) {
                *y = narrow(scaled(*x, *w).plus(wide(*b)));
            }
        }
        None => {
            for (y, (x, w)) in y.iter_mut().zip(inputs) {
                *y = narrow(scaled(*x, *w));
            }
        }
    }
    (mean, rstd)
}

/// Words that are asked for at a time in the next line, while this one is written.
const AHEAD: usize = 128;

/// As `normalise`, for lines of `bf16`s two by two in words, with the same bits.
#[inline(always)]
fn normalise_words(
    (form, epsilon): (Form, f32),
    [x, w]: [&[i32]; 2],
    b: Option<&[i32]>,
    y: &mut [i32],
) {
    let count = (2 * x.len()) as f32;
    let mut mean = 0.0;
    if form == Form::Layer {
        mean = total_of_pairs(x, wide_pair) / count;
    }
    let near = |word| wide_pair(word).map(|x| x - mean);
    let (off, square) = match form {
        Form::Layer => (
            total_of_pairs(x, near) / count,
            total_of_pairs(x, |word| near(word).map(|x| x * x)) / count,
        ),
        Form::Rms => (
            0.0,
            total_of_pairs(x, |word| wide_pair(word).map(|x| x * x)) / count,
        ),
    };
    let square = (square - off * off).larger(0.0);
    mean += off;
    let rstd = 1.0 / (square + epsilon).sqrt();
    let scaled = |x: i32, w: i32| {
        let ([x, next], [w, beside]) = (wide_pair(x), wide_pair(w));
        [(x - mean) * rstd * w, (next - mean) * rstd * beside]
    };
    let parts = y
        .chunks_mut(AHEAD)
        .zip(x.chunks(AHEAD).zip(w.chunks(AHEAD)));
    for (part, (y, (x_part, w))) in parts.enumerate() {
        simd::prefetch(
            x_part.as_ptr().wrapping_add(x.len()).cast(),
            size_of_val(x_part),
        );
        let inputs = x_part.iter().zip(w);
        match b.and_then(|b| b.get(part * AHEAD..)) {
            Some(b) => {
                for ((y, (x, w)), b) in y.iter_mut().zip(inputs).zip(b) {
                    let ([first, second], [b, beside]) = (scaled(*x, *w), wide_pair(*b));
                    *y = narrow_pair([first + b, second + beside]);
                }
            }
            None => {
                for (y, (x, w)) in y.iter_mut().zip(inputs) {
                    *y = narrow_pair(scaled(*x, *w));
                }
            }
        }
    }
}

/// Lines of `bf16` without statistics whose elements lie two by two. False if the lines are no such ones.
fn word_lines(op: &LineNorm, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> bool {
    let words: Option<smallvec::SmallVec<[Host<'_>; 3]>> =
        x.iter().map(|x| x.as_words(DType::BF16)).collect();
    let (Some(x), [y]) = (words, y) else {
        return false;
    };
    let Some(mut y) = y.as_words(DType::BF16) else {
        return false;
    };
    let (shape, simd) = (*y.shape(), Simd::best());
    let (one, zero) = (narrow_pair([1.0; 2]), narrow_pair([0.0; 2]));
    let numbers = [Host::splat(&one, &shape), Host::splat(&zero, &shape)];
    let [w, b] = affine(op, &x, &shape, numbers);
    let rule = (op.form, op.epsilon(DType::BF16) as f32);
    let mask = op.mask(shape.rank());
    let line = |x: [&[i32]; 2], b: Option<&[i32]>, y: &mut [i32]| {
        vectorised!(simd, normalise_words(rule, x, b, y));
    };
    if op.bias {
        rows::rows::<i32, 3, 1>([&x[0], &w, &b], [&mut y], &mask, |_, [x, w, b], [y]| {
            line([x, w], Some(b), y);
        });
    } else {
        rows::rows::<i32, 2, 1>([&x[0], &w], [&mut y], &mask, |_, [x, w], [y]| {
            line([x, w], None, y);
        });
    }
    true
}

/// The weight and the bias over all lines, each of one number where there is none.
fn affine<'a>(
    op: &LineNorm,
    x: &[Host<'a>],
    shape: &Shape,
    [one, zero]: [Host<'a>; 2],
) -> [Host<'a>; 2] {
    let mut rest = x.iter().skip(1);
    let mut take = |there: bool, number: Host<'a>| match rest.next_if_true(there) {
        Some(own) => own.broadcast(shape),
        None => number,
    };
    [take(op.weight, one), take(op.bias, zero)]
}

/// Lines of `bf16` without statistics: each number is widened and rounded in registers. False if the lines are no such ones.
fn narrow_lines<T: Lane + Float>(op: &LineNorm, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> bool {
    let bits: Option<smallvec::SmallVec<[Host<'_>; 3]>> =
        x.iter().map(|x| x.as_bits(DType::BF16)).collect();
    let (Some(x), [y], DType::F32) = (bits, y, T::DTYPE) else {
        return false;
    };
    let Some(mut y) = y.as_bits(DType::BF16) else {
        return false;
    };
    let (shape, simd) = (*y.shape(), Simd::best());
    let (one, zero) = (T::ONE.to_bf16(), T::ZERO.to_bf16());
    let numbers = [Host::splat(&one, &shape), Host::splat(&zero, &shape)];
    let [w, b] = affine(op, &x, &shape, numbers);
    let rule = (op.form, T::from_f64(op.epsilon(DType::BF16)));
    let line = |x: &[i16], w: &[i16], b: Option<&[i16]>, y: &mut [i16]| {
        vectorised!(
            simd,
            normalise(rule, [x, w], b, y, T::from_bf16, |x: T| x.to_bf16())
        );
    };
    let mask = op.mask(shape.rank());
    if op.bias {
        rows::rows::<i16, 3, 1>([&x[0], &w, &b], [&mut y], &mask, |_, [x, w, b], [y]| {
            line(x, w, Some(b), y);
        });
    } else {
        rows::rows::<i16, 2, 1>([&x[0], &w], [&mut y], &mask, |_, [x, w], [y]| {
            line(x, w, None, y);
        });
    }
    true
}

pub(super) fn norm_lines<T: Lane + Float>(op: &LineNorm, x: &[Host<'_>], y: &mut [HostMut<'_>]) {
    if word_lines(op, x, y) || narrow_lines::<T>(op, x, y) {
        return;
    }
    let (shape, simd) = (*x[0].shape(), Simd::best());
    let (one, zero) = (T::ONE, T::ZERO);
    let numbers = [Host::splat(&one, &shape), Host::splat(&zero, &shape)];
    let [w, b] = affine(op, x, &shape, numbers);
    let (inputs, mask) = ([&x[0], &w, &b], op.mask(shape.rank()));
    let rule = (op.form, T::from_f64(op.epsilon(x[0].dtype())));
    let line = |[x, w, b]: [&[T]; 3], y: &mut [T]| {
        let b = op.bias.then_some(b);
        vectorised!(simd, normalise(rule, [x, w], b, y, |x| x, |x| x))
    };
    match y {
        [y, mean, rstd] => rows::rows(
            inputs,
            [y, mean, rstd],
            &mask,
            |_, inputs, [y, mean, rstd]| {
                let (a, b) = line(inputs, y);
                mean.fill(a);
                rstd.fill(b);
            },
        ),
        [y, rstd] => rows::rows(inputs, [y, rstd], &mask, |_, inputs, [y, rstd]| {
            rstd.fill(line(inputs, y).1)
        }),
        [y] => rows::rows(inputs, [y], &mask, |_, inputs, [y]| {
            line(inputs, y);
        }),
        _ => {}
    }
}

/// The next item, if a flag says that there is one.
pub(super) trait NextIf: Iterator + Sized {
    fn next_if_true(&mut self, there: bool) -> Option<Self::Item> {
        if there { self.next() } else { None }
    }
}

impl<I: Iterator> NextIf for I {}
