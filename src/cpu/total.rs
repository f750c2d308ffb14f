//! Sums and largest values of a line, in independent parts that stay in registers.
//!
//! Knows lines of lanes. Must not know what the lines are, nor threads. The loops over a part are loops over slices: over arrays
//! the compiler would keep the parts in memory, and each addition would wait for a store.

use super::number::{Float, Number};
use super::simd;

/// Independent parts: as many as several vectors have lanes, for one addition waits for the one before.
const PARTS: usize = 64;
/// Parts of what is left of a line: one vector's lanes.
const FEW: usize = 16;

/// The parts joined in pairs.
#[inline(always)]
fn paired<T: Copy, const N: usize>(mut parts: [T; N], join: impl Fn(T, T) -> T) -> T {
    let mut width = N / 2;
    while width > 0 {
        for lane in 0..width {
            parts[lane] = join(parts[lane], parts[lane + width]);
        }
        width /= 2;
    }
    parts[0]
}

/// The sum of the parts.
#[inline(always)]
fn joined<T: Number, const N: usize>(parts: [T; N]) -> T {
    paired(parts, T::plus)
}

/// Hands a line to `add` in slices of as many elements as there are parts, or as a vector has; what is left over is the answer.
#[inline(always)]
fn by_parts<E>(line: &[E], mut add: impl FnMut(&[E])) -> &[E] {
    let (chunks, rest) = line.as_chunks::<PARTS>();
    for chunk in chunks {
        add(chunk);
    }
    let (chunks, rest) = rest.as_chunks::<FEW>();
    for chunk in chunks {
        add(chunk);
    }
    rest
}

/// The sum of the two numbers that `f` makes of each element of a line: the bits of `total` over all of them in a row.
#[inline(always)]
pub(crate) fn total_of_pairs<E: Copy, T: Number>(line: &[E], f: impl Fn(E) -> [T; 2]) -> T {
    const HALF: usize = PARTS / 2;
    let (mut first, mut second) = ([T::ZERO; HALF], [T::ZERO; HALF]);
    let mut add = |chunk: &[E]| {
        for (lane, pair) in chunk.iter().enumerate() {
            let [a, b] = f(*pair);
            first[lane] = first[lane].plus(a);
            second[lane] = second[lane].plus(b);
        }
    };
    let (chunks, rest) = line.as_chunks::<HALF>();
    for chunk in chunks {
        add(chunk);
    }
    let (chunks, rest) = rest.as_chunks::<{ FEW / 2 }>();
    for chunk in chunks {
        add(chunk);
    }
    let sum = joined(first).plus(joined(second));
    rest.iter().fold(sum, |sum, pair| {
        let [a, b] = f(*pair);
        sum.plus(a).plus(b)
    })
}

/// The sum of `f` over a line.
#[inline(always)]
pub(crate) fn total<E: Copy, T: Number>(line: &[E], f: impl Fn(E) -> T) -> T {
    let mut sums = [T::ZERO; PARTS];
    let rest = by_parts(line, |chunk| {
        for (lane, x) in chunk.iter().enumerate() {
            sums[lane] = sums[lane].plus(f(*x));
        }
    });
    rest.iter().fold(joined(sums), |sum, x| sum.plus(f(*x)))
}

/// As `total`, over pairs.
#[inline(always)]
pub(crate) fn total2<T: Number>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut sums = [T::ZERO; PARTS];
    let mut add = |x: &[T], y: &[T]| {
        for (lane, (x, y)) in x.iter().zip(y).enumerate() {
            sums[lane] = sums[lane].plus(f(*x, *y));
        }
    };
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<PARTS>(), y.as_chunks::<PARTS>());
    for (x, y) in xs.iter().zip(ys) {
        add(x, y);
    }
    let ((xs, x_rest), (ys, y_rest)) = (x_rest.as_chunks::<FEW>(), y_rest.as_chunks::<FEW>());
    for (x, y) in xs.iter().zip(ys) {
        add(x, y);
    }
    let rest = x_rest.iter().zip(y_rest);
    rest.fold(joined(sums), |sum, (x, y)| sum.plus(f(*x, *y)))
}

/// The sums of `f` and of its square over a line in one pass, each as `total` gives it.
#[inline(always)]
pub(crate) fn moments<E: Copy, T: Number>(line: &[E], f: impl Fn(E) -> T) -> (T, T) {
    let (mut sums, mut squares) = ([T::ZERO; PARTS], [T::ZERO; PARTS]);
    let rest = by_parts(line, |chunk| {
        for (lane, x) in chunk.iter().enumerate() {
            let value = f(*x);
            sums[lane] = sums[lane].plus(value);
            squares[lane] = squares[lane].plus(value.times(value));
        }
    });
    rest.iter()
        .fold((joined(sums), joined(squares)), |(sum, square), x| {
            let value = f(*x);
            (sum.plus(value), square.plus(value.times(value)))
        })
}

/// Writes `f` of each element to `y`; the sum of all.
#[inline(always)]
pub(crate) fn mapped<T: Number>(x: &[T], y: &mut [T], f: impl Fn(T) -> T) -> T {
    let mut sums = [T::ZERO; PARTS];
    let mut add = |x: &[T], y: &mut [T]| {
        for (lane, (x, y)) in x.iter().zip(y).enumerate() {
            *y = f(*x);
            sums[lane] = sums[lane].plus(*y);
        }
    };
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<PARTS>(), y.as_chunks_mut::<PARTS>());
    for (x, y) in xs.iter().zip(ys) {
        add(x, y);
    }
    let ((xs, x_rest), (ys, y_rest)) = (x_rest.as_chunks::<FEW>(), y_rest.as_chunks_mut::<FEW>());
    for (x, y) in xs.iter().zip(ys) {
        add(x, y);
    }
    let rest = x_rest.iter().zip(y_rest);
    rest.fold(joined(sums), |sum, (x, y)| {
        *y = f(*x);
        sum.plus(*y)
    })
}

/// Replaces each element by `f` of it; the sum of all.
#[inline(always)]
pub(crate) fn replaced<T: Number>(line: &mut [T], f: impl Fn(T) -> T) -> T {
    let mut sums = [T::ZERO; PARTS];
    let mut add = |chunk: &mut [T]| {
        for (lane, x) in chunk.iter_mut().enumerate() {
            *x = f(*x);
            sums[lane] = sums[lane].plus(*x);
        }
    };
    let (chunks, rest) = line.as_chunks_mut::<PARTS>();
    for chunk in chunks {
        add(chunk);
    }
    let (chunks, rest) = rest.as_chunks_mut::<FEW>();
    for chunk in chunks {
        add(chunk);
    }
    rest.iter_mut().fold(joined(sums), |sum, x| {
        *x = f(*x);
        sum.plus(*x)
    })
}

/// The element of a line, or `start`, that `pick` prefers to all others, whatever the order in which it meets them.
#[inline(always)]
pub(crate) fn best<T: Copy>(line: &[T], start: T, pick: impl Fn(T, T) -> T) -> T {
    let mut tops = [start; PARTS];
    let rest = by_parts(line, |chunk| {
        for (lane, x) in chunk.iter().enumerate() {
            tops[lane] = pick(tops[lane], *x);
        }
    });
    let top = paired(tops, &pick);
    rest.iter().fold(top, |a, b| pick(a, *b))
}

/// The largest value, with NaN left out of account (it comes back through the exponentials).
#[inline(always)]
pub(crate) fn largest<T: Float>(line: &[T]) -> T {
    best(line, T::LOWEST, |a, b| if b > a { b } else { a })
}

/// Elements of a line that are compared, then summed.
const PART: usize = 1024;
/// Elements before they are compared memory is asked for them, while others are summed.
const AHEAD: usize = 4 * PART;

/// The largest value `top` of a line, and the sum of `e^(x - top)`; NaN for a line that is nothing but the lowest value.
#[inline(always)]
pub(crate) fn exponentials<T: Float>(line: &[T]) -> (T, T) {
    let (mut top, mut sums, mut last) = (T::LOWEST, [T::ZERO; PARTS], T::ZERO);
    for part in line.chunks(PART) {
        let high = largest(part);
        if high > top {
            let factor = Float::exp(top.minus(high));
            sums.iter_mut().for_each(|sum| *sum = sum.times(factor));
            (top, last) = (high, last.times(factor));
        }
        let zero = if top == T::LOWEST { T::ZERO } else { top };
        let rest = by_parts(part, |chunk| {
            simd::prefetch(
                chunk.as_ptr().wrapping_add(AHEAD).cast(),
                size_of_val(chunk),
            );
            for (lane, x) in chunk.iter().enumerate() {
                sums[lane] = sums[lane].plus(x.minus(zero).exp_addend());
            }
        });
        last = rest
            .iter()
            .fold(last, |sum, x| sum.plus(x.minus(zero).exp_addend()));
    }
    match line.first() {
        Some(x) if top == T::LOWEST => (top, x.minus(top)),
        _ => (top, joined(sums).plus(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, so that every order of additions is exact.
    #[test]
    fn lines_of_every_length_are_summed_whole() {
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 79, 80, 81, 130, 1000] {
            let x: Vec<f32> = (0..length)
                .map(|index| (index % 37) as f32 - 11.0)
                .collect();
            let sum: f32 = x.iter().sum();
            let square: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(total(&x, |x| x), sum, "{length}");
            assert_eq!(total2(&x, &x, |x, y| x * y), square, "{length}");
            assert_eq!(moments(&x, |x| x), (sum, square), "{length}");
            let mut y = vec![f32::NAN; length];
            assert_eq!(mapped(&x, &mut y, |x| 2.0 * x), 2.0 * sum, "{length}");
            assert!(x.iter().zip(&y).all(|(x, y)| 2.0 * x == *y), "{length}");
            assert_eq!(
                replaced(&mut y, |y| y - 1.0),
                2.0 * sum - length as f32,
                "{length}"
            );
            let top = x.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(
                largest(&x),
                if length == 0 { f32::LOWEST } else { top },
                "{length}"
            );
        }
        assert_eq!(largest(&[1.0f32, f32::NAN, 3.0]), 3.0);
    }

    #[test]
    fn sums_of_pairs_have_the_bits_of_sums() {
        for length in [0, 2, 8, 16, 18, 62, 64, 66, 80, 82, 130, 1000] {
            let x: Vec<f32> = (0..length).map(|index| (index as f32).sin()).collect();
            let (pairs, _) = x.as_chunks::<2>();
            let (got, want) = (total_of_pairs(pairs, |pair| pair), total(&x, |x| x));
            assert_eq!(got.to_bits(), want.to_bits(), "{length}");
        }
    }

    #[test]
    fn exponentials_are_those_of_the_whole_line() {
        for length in [1, 5, 1024, 1025, 5000] {
            let x: Vec<f64> = (0..length)
                .map(|index| f64::from(index * 83 % 1999) * 0.01)
                .collect();
            let top = x.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
            let (own, got) = exponentials(&x);
            assert_eq!(own, top, "{length}");
            assert!((got / sum - 1.0).abs() < 1e-13, "{length}");
        }
        let mut late = vec![f32::NEG_INFINITY; 3000];
        assert!(exponentials(&late).1.is_nan());
        late[2500] = 7.0;
        assert_eq!(exponentials(&late), (7.0, 1.0));
        late[0] = f32::INFINITY;
        assert!(exponentials(&late).1.is_nan());
        assert_eq!(exponentials::<f32>(&[]), (f32::NEG_INFINITY, 0.0));
        assert!(exponentials(&[f32::NAN, 1.0]).1.is_nan());
    }
}
