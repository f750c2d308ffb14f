//! HCCL's own dtypes and reductions: sizes, what each chip can reduce, and the arithmetic.
//!
//! Knows numbers in bytes; it must not know ranks or sockets.

use super::result::{unsupported, wrong};
use crate::failure::Failure;
use crate::kernel::Family;
use half::{bf16, f16};

/// A dtype by HCCL's numbers, which differ from those of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtype(u32);

const NAMES: [(u32, &str, usize); 16] = [
    (0, "int8", 1),
    (1, "int16", 2),
    (2, "int32", 4),
    (3, "float16", 2),
    (4, "float32", 4),
    (5, "int64", 8),
    (6, "uint64", 8),
    (7, "uint8", 1),
    (8, "uint16", 2),
    (9, "uint32", 4),
    (10, "float64", 8),
    (11, "bfloat16", 2),
    (14, "hifloat8", 1),
    (15, "float8_e4m3", 1),
    (16, "float8_e5m2", 1),
    (17, "float8_e8m0", 1),
];

/// The reductions, by HCCL's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Prod,
    Max,
    Min,
}

impl Reduction {
    pub fn read(number: u32) -> Result<Reduction, Failure> {
        match number {
            0 => Ok(Reduction::Sum),
            1 => Ok(Reduction::Prod),
            2 => Ok(Reduction::Max),
            3 => Ok(Reduction::Min),
            _ => Err(unsupported(format!(
                "op is {number}, wanted 0 (sum), 1 (prod), 2 (max) or 3 (min)"
            ))),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Prod => "prod",
            Reduction::Max => "max",
            Reduction::Min => "min",
        }
    }
}

/// Integers wrap around.
macro_rules! integer {
    ($reduction:expr, $type:ty) => {
        |x: $type, y: $type| match $reduction {
            Reduction::Sum => x.wrapping_add(y),
            Reduction::Prod => x.wrapping_mul(y),
            Reduction::Max => x.max(y),
            Reduction::Min => x.min(y),
        }
    };
}

impl Dtype {
    /// A dtype that a chip can move between ranks.
    pub fn read(number: u32, family: Family) -> Result<Dtype, Failure> {
        let refuse = |why: &str| unsupported(format!("dataType is {number}, {why}"));
        let known = NAMES.iter().any(|entry| entry.0 == number);
        if !known {
            return Err(refuse("which is no dtype of HCCL that can be moved"));
        }
        if number >= 14 && family != Family::A950 {
            return Err(refuse("an 8-bit float, which only Ascend 950 has"));
        }
        let halves = !matches!(family, Family::A910 | Family::P310 | Family::B310);
        if number == 11 && !halves {
            return Err(refuse("bfloat16, which this chip does not have"));
        }
        Ok(Dtype(number))
    }

    /// Refuses a reduction that a chip does not have.
    pub fn check_reduction(self, reduction: Reduction, family: Family) -> Result<(), Failure> {
        let has = match family {
            Family::A950 => matches!(self.0, 0..=6 | 10 | 11),
            Family::A2 | Family::A3 => matches!(self.0, 0..=5 | 11),
            Family::A910 => matches!(self.0, 0 | 2..=5),
            Family::P310 | Family::B310 => matches!(self.0, 0..=4),
        };
        let odd = match family {
            Family::P310 | Family::B310 => self.0 == 1 && reduction != Reduction::Sum,
            _ => matches!(self.0, 1 | 11) && reduction == Reduction::Prod,
        };
        if has && !odd {
            return Ok(());
        }
        Err(unsupported(format!(
            "this chip has no reduction {} of {}",
            reduction.name(),
            self.name()
        )))
    }

    fn entry(self) -> (u32, &'static str, usize) {
        NAMES
            .iter()
            .copied()
            .find(|entry| entry.0 == self.0)
            .unwrap_or((self.0, "?", 1))
    }

    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn size(self) -> usize {
        self.entry().2
    }

    /// The bytes of a number of elements.
    pub fn bytes(self, count: u64, what: &str) -> Result<usize, Failure> {
        usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(self.size()))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or_else(|| wrong(format!("{what} is {count}, more than memory can hold")))
    }

    /// `sums = sums (op) values`, element by element. Halves are rounded at each step, as reductions on the way do.
    pub fn reduce(self, reduction: Reduction, sums: &mut [u8], values: &[u8]) {
        match self.0 {
            0 => each(
                sums,
                values,
                i8::from_ne_bytes,
                i8::to_ne_bytes,
                integer!(reduction, i8),
            ),
            1 => each(
                sums,
                values,
                i16::from_ne_bytes,
                i16::to_ne_bytes,
                integer!(reduction, i16),
            ),
            2 => each(
                sums,
                values,
                i32::from_ne_bytes,
                i32::to_ne_bytes,
                integer!(reduction, i32),
            ),
            3 => each(
                sums,
                values,
                f16::from_ne_bytes,
                f16::to_ne_bytes,
                |x, y| f16::from_f32(single(reduction, x.to_f32(), y.to_f32())),
            ),
            4 => each(
                sums,
                values,
                f32::from_ne_bytes,
                f32::to_ne_bytes,
                |x, y| single(reduction, x, y),
            ),
            5 => each(
                sums,
                values,
                i64::from_ne_bytes,
                i64::to_ne_bytes,
                integer!(reduction, i64),
            ),
            6 => each(
                sums,
                values,
                u64::from_ne_bytes,
                u64::to_ne_bytes,
                integer!(reduction, u64),
            ),
            10 => each(
                sums,
                values,
                f64::from_ne_bytes,
                f64::to_ne_bytes,
                |x, y| double(reduction, x, y),
            ),
            11 => each(
                sums,
                values,
                bf16::from_ne_bytes,
                bf16::to_ne_bytes,
                |x, y| bf16::from_f32(single(reduction, x.to_f32(), y.to_f32())),
            ),
            _ => {}
        }
    }
}

/// Not a number wins over every number.
fn single(reduction: Reduction, x: f32, y: f32) -> f32 {
    match reduction {
        Reduction::Sum => x + y,
        Reduction::Prod => x * y,
        _ if x.is_nan() || y.is_nan() => f32::NAN,
        Reduction::Max => x.max(y),
        Reduction::Min => x.min(y),
    }
}

fn double(reduction: Reduction, x: f64, y: f64) -> f64 {
    match reduction {
        Reduction::Sum => x + y,
        Reduction::Prod => x * y,
        _ if x.is_nan() || y.is_nan() => f64::NAN,
        Reduction::Max => x.max(y),
        Reduction::Min => x.min(y),
    }
}

/// Runs over two byte strings of `N`-byte elements.
fn each<T, const N: usize>(
    sums: &mut [u8],
    values: &[u8],
    read: fn([u8; N]) -> T,
    write: fn(T) -> [u8; N],
    combine: impl Fn(T, T) -> T,
) {
    let pairs = sums.chunks_exact_mut(N).zip(values.chunks_exact(N));
    for (sum, value) in pairs {
        let (Ok(x), Ok(y)) = (<[u8; N]>::try_from(&*sum), <[u8; N]>::try_from(value)) else {
            continue;
        };
        sum.copy_from_slice(&write(combine(read(x), read(y))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce<T: Copy, const N: usize>(
        number: u32,
        reduction: Reduction,
        values: [T; 2],
        write: fn(T) -> [u8; N],
    ) -> [u8; N] {
        let mut sums = write(values[0]);
        Dtype(number).reduce(reduction, &mut sums, &write(values[1]));
        sums
    }

    #[test]
    fn numbers_are_reduced_in_their_own_type() {
        assert_eq!(
            reduce(0, Reduction::Sum, [100i8, 100], i8::to_ne_bytes),
            (-56i8).to_ne_bytes()
        );
        assert_eq!(
            reduce(1, Reduction::Max, [-3i16, 2], i16::to_ne_bytes),
            2i16.to_ne_bytes()
        );
        assert_eq!(
            reduce(2, Reduction::Prod, [-3i32, 5], i32::to_ne_bytes),
            (-15i32).to_ne_bytes()
        );
        assert_eq!(
            reduce(5, Reduction::Min, [i64::MAX, 7], i64::to_ne_bytes),
            7i64.to_ne_bytes()
        );
        assert_eq!(
            reduce(6, Reduction::Sum, [u64::MAX, 2], u64::to_ne_bytes),
            1u64.to_ne_bytes()
        );
        assert_eq!(
            reduce(4, Reduction::Sum, [0.1f32, 0.2], f32::to_ne_bytes),
            (0.1f32 + 0.2).to_ne_bytes()
        );
        assert_eq!(
            reduce(10, Reduction::Prod, [1.5f64, -2.0], f64::to_ne_bytes),
            (-3f64).to_ne_bytes()
        );
        let halves = [f16::from_f32(2048.0), f16::from_f32(1.0)];
        assert_eq!(
            reduce(3, Reduction::Sum, halves, f16::to_ne_bytes),
            f16::from_f32(2048.0).to_ne_bytes()
        );
        let halves = [bf16::from_f32(1.0), bf16::from_f32(-4.0)];
        assert_eq!(
            reduce(11, Reduction::Min, halves, bf16::to_ne_bytes),
            bf16::from_f32(-4.0).to_ne_bytes()
        );
        let nan = reduce(4, Reduction::Max, [f32::NAN, 1.0], f32::to_ne_bytes);
        assert!(f32::from_ne_bytes(nan).is_nan());
    }

    #[test]
    fn chips_reduce_what_their_manuals_list() {
        let has =
            |number, reduction, family| Dtype(number).check_reduction(reduction, family).is_ok();
        assert!(has(11, Reduction::Sum, Family::A2) && !has(11, Reduction::Prod, Family::A2));
        assert!(!has(6, Reduction::Sum, Family::A2) && has(6, Reduction::Sum, Family::A950));
        assert!(!has(1, Reduction::Sum, Family::A910) && has(1, Reduction::Sum, Family::P310));
        assert!(!has(1, Reduction::Max, Family::P310) && !has(5, Reduction::Sum, Family::P310));
        assert!(
            !has(7, Reduction::Sum, Family::A950),
            "bytes are moved, never reduced"
        );
        assert!(Dtype::read(11, Family::A910).is_err() && Dtype::read(11, Family::A3).is_ok());
        assert!(Dtype::read(12, Family::A950).is_err() && Dtype::read(255, Family::A2).is_err());
    }
}
