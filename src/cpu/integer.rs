//! Integers: what division and powers mean for them, and which lane types they are.
//!
//! Knows wrapping arithmetic. Must not know dtypes of storages, or what ops use it.

use super::number::Number;

/// Runs `$body` with `$T` bound to the integer type of a dtype (`i64` for what is no integer, which shape rules refuse before).
macro_rules! with_integer {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::DType::I16 => {
                type $T = i16;
                $body
            }
            $crate::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            _ => {
                type $T = i64;
                $body
            }
        }
    };
}

pub(crate) use with_integer;

/// The quotient rounded down; 0 for a divisor of 0, which ops refuse.
#[inline(always)]
pub(crate) fn floor_divide<T: Number>(x: T, y: T) -> T {
    let quotient = x.over(y);
    let exact = quotient.times(y) == x;
    if !exact && (x < T::ZERO) != (y < T::ZERO) && y.is_true() {
        quotient.minus(T::ONE)
    } else {
        quotient
    }
}

/// What division rounded down leaves: the result has the divisor's sign.
#[inline(always)]
pub(crate) fn remainder<T: Number>(x: T, y: T) -> T {
    let rest = x.minus(x.over(y).times(y));
    if rest.is_true() && (rest < T::ZERO) != (y < T::ZERO) {
        rest.plus(y)
    } else {
        rest
    }
}

/// `x^n`, wrapping; for a negative `n` the integer part of `1 / x^-n`.
#[inline(always)]
pub(crate) fn power<T: Number>(x: T, n: T) -> T {
    let odd = n.to_i64() & 1 == 1;
    if n < T::ZERO {
        let minus_one = T::ZERO.minus(T::ONE);
        let sign = if odd { minus_one } else { T::ONE };
        return if x == T::ONE {
            x
        } else if x == minus_one {
            sign
        } else {
            T::ZERO
        };
    }
    let (mut base, mut exponent, mut result) = (x, n.to_i64(), T::ONE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.times(base);
        }
        base = base.times(base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_rounds_down() {
        for x in -7i32..=7 {
            for y in [-3, -2, -1, 1, 2, 3] {
                assert_eq!(
                    floor_divide(x, y),
                    (f64::from(x) / f64::from(y)).floor() as i32
                );
                assert_eq!(remainder(x, y), x - y * floor_divide(x, y));
            }
        }
        assert_eq!(floor_divide(i8::MIN, -1), i8::MIN);
        assert_eq!((floor_divide(5u8, 0), remainder(200u8, 7)), (0, 4));
    }

    #[test]
    fn powers_wrap() {
        assert_eq!(
            (
                power(3i64, 4),
                power(2u8, 8),
                power(-1i32, -3),
                power(2i32, -1)
            ),
            (81, 0, -1, 0)
        );
    }
}
