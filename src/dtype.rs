//! Dtypes: the one table of them, their Rust types, scalars, and how dtypes combine.
//!
//! Knows names, sizes, categories and promotion. Must not know any op, device or CANN number.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::error::Error;

/// The order of the categories: bool < integer < float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Truth values.
    Bool,
    /// Signed and unsigned integers.
    Int,
    /// Floating-point numbers.
    Float,
}

macro_rules! dtypes {
    ($($variant:ident, $type:ty, $name:literal, $code:literal, $category:ident, $doc:literal;)*) => {
        /// The type of a tensor's elements.
        // A whole word, so that a tensor or a view has no padding: copies of it would wait for stores that do not match their
        // loads, for as long as a small kernel takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u64)]
        pub enum DType { $(#[doc = $doc] $variant,)* }

        impl DType {
            /// All dtypes, in the order of the table.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// The Rust name: `f32`, `bf16`, `bool`, ...
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// The name that safetensors files use: `F32`, `BF16`, `BOOL`, ...
            pub const fn code(self) -> &'static str {
                match self { $(DType::$variant => $code,)* }
            }

            /// The size of an element in bytes.
            pub const fn size(self) -> usize {
                match self { $(DType::$variant => size_of::<$type>(),)* }
            }

            /// Bool, integer or float.
            pub const fn category(self) -> Category {
                match self { $(DType::$variant => Category::$category,)* }
            }
        }

        $(impl Element for $type {
            const DTYPE: DType = DType::$variant;
        })*
        $(impl sealed::Sealed for $type {})*

    };
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold: `f64 f32 f16 bf16 i64 i32 i16 i8 u8 bool`.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The dtype of the type.
    const DTYPE: DType;
}

dtypes! {
    F64, f64, "f64", "F64", Float, "64-bit IEEE float.";
    F32, f32, "f32", "F32", Float, "32-bit IEEE float.";
    F16, f16, "f16", "F16", Float, "16-bit IEEE float.";
    BF16, bf16, "bf16", "BF16", Float, "16-bit brain float: the upper half of an f32.";
    I64, i64, "i64", "I64", Int, "64-bit signed integer.";
    I32, i32, "i32", "I32", Int, "32-bit signed integer.";
    I16, i16, "i16", "I16", Int, "16-bit signed integer.";
    I8, i8, "i8", "I8", Int, "8-bit signed integer.";
    U8, u8, "u8", "U8", Int, "8-bit unsigned integer.";
    Bool, bool, "bool", "BOOL", Bool, "Truth value, one byte.";
}

impl DType {
    /// Whether the dtype is a float.
    pub const fn is_float(self) -> bool {
        matches!(self.category(), Category::Float)
    }

    /// Whether the dtype is an integer (bool is not).
    pub const fn is_int(self) -> bool {
        matches!(self.category(), Category::Int)
    }

    /// Whether the dtype is `f16` or `bf16`.
    pub const fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// The largest finite value.
    pub fn largest(self) -> f64 {
        match self {
            DType::F64 => f64::MAX,
            DType::F32 => f64::from(f32::MAX),
            DType::F16 => f16::MAX.to_f64(),
            DType::BF16 => bf16::MAX.to_f64(),
            DType::I64 => i64::MAX as f64,
            DType::I32 => f64::from(i32::MAX),
            DType::I16 => f64::from(i16::MAX),
            DType::I8 => f64::from(i8::MAX),
            DType::U8 => f64::from(u8::MAX),
            DType::Bool => 1.0,
        }
    }

    /// The dtype that arithmetic is done in: `f32` for halves, else the dtype itself.
    pub const fn compute(self) -> DType {
        if self.is_half() { DType::F32 } else { self }
    }

    /// The dtype itself if it is a float, else `f32`: the result of ops "with float result".
    pub const fn to_float(self) -> DType {
        if self.is_float() { self } else { DType::F32 }
    }

    /// The dtype that two operands of the same kind combine to.
    ///
    /// ```
    /// use ascend_tensor::DType;
    /// assert_eq!(DType::F16.promote(DType::BF16), DType::F32);
    /// assert_eq!(DType::U8.promote(DType::I8), DType::I16);
    /// assert_eq!(DType::I64.promote(DType::F16), DType::F16);
    /// ```
    pub fn promote(self, other: DType) -> DType {
        if self == other {
            return self;
        }
        match self.category().cmp(&other.category()) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal if self.is_half() && other.is_half() => DType::F32,
            std::cmp::Ordering::Equal if self == DType::U8 || other == DType::U8 => {
                let signed = if self == DType::U8 { other } else { self };
                if signed == DType::I8 {
                    DType::I16
                } else {
                    signed
                }
            }
            std::cmp::Ordering::Equal if self.size() >= other.size() => self,
            std::cmp::Ordering::Equal => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    /// Reads the Rust name (`f32`) or the safetensors name (`F32`).
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = DType::ALL
            .iter()
            .find(|dtype| dtype.name() == text || dtype.code() == text);
        found.copied().ok_or_else(|| {
            Error::option(
                "dtype",
                "name",
                format!("got {text:?}, wanted one of f64 f32 f16 bf16 i64 i32 i16 i8 u8 bool"),
            )
        })
    }
}

/// A number without a dtype of its own, as an operand or an attribute.
///
/// Its kind (bool, integer, float) takes part in type promotion; its value is converted to the tensor's dtype.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

impl Scalar {
    /// The dtype that the scalar counts as in promotion: `bool`, `i64` or `f32`.
    pub const fn dtype(self) -> DType {
        match self {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::I64,
            Scalar::Float(_) => DType::F32,
        }
    }

    /// The value as a float.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Bool(value) => f64::from(u8::from(value)),
            Scalar::Int(value) => value as f64,
            Scalar::Float(value) => value,
        }
    }

    /// The value as an integer: floats are truncated toward zero and saturate.
    pub fn to_i64(self) -> i64 {
        match self {
            Scalar::Bool(value) => i64::from(value),
            Scalar::Int(value) => value,
            Scalar::Float(value) => value as i64,
        }
    }

    /// Whether the value is not zero (NaN is not zero).
    pub fn to_bool(self) -> bool {
        match self {
            Scalar::Bool(value) => value,
            Scalar::Int(value) => value != 0,
            Scalar::Float(value) => value != 0.0,
        }
    }

    /// Whether the value is zero.
    pub fn is_zero(self) -> bool {
        !self.to_bool()
    }

    /// Whether the value is one.
    pub fn is_one(self) -> bool {
        self.to_f64() == 1.0
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Int(value) => value.fmt(f),
            Scalar::Float(value) => fmt::Debug::fmt(value, f),
        }
    }
}

macro_rules! scalar_from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Scalar::$variant(value.into())
            }
        })*
    };
}

scalar_from!(bool => Bool, i64 => Int, i32 => Int, i16 => Int, i8 => Int, u8 => Int, u32 => Int, f64 => Float, f32 => Float, f16 => Float, bf16 => Float);

#[cfg(test)]
mod tests {
    use super::DType;

    /// The table of the contract, row by row (columns in the order of `DType::ALL`).
    #[test]
    fn promotion_is_pytorchs() {
        use DType::*;
        let rows = [
            [F64, F64, F64, F64, F64, F64, F64, F64, F64, F64],
            [F64, F32, F32, F32, F32, F32, F32, F32, F32, F32],
            [F64, F32, F16, F32, F16, F16, F16, F16, F16, F16],
            [F64, F32, F32, BF16, BF16, BF16, BF16, BF16, BF16, BF16],
            [F64, F32, F16, BF16, I64, I64, I64, I64, I64, I64],
            [F64, F32, F16, BF16, I64, I32, I32, I32, I32, I32],
            [F64, F32, F16, BF16, I64, I32, I16, I16, I16, I16],
            [F64, F32, F16, BF16, I64, I32, I16, I8, I16, I8],
            [F64, F32, F16, BF16, I64, I32, I16, I16, U8, U8],
            [F64, F32, F16, BF16, I64, I32, I16, I8, U8, Bool],
        ];
        for (lhs, row) in DType::ALL.iter().zip(rows) {
            for (rhs, want) in DType::ALL.iter().zip(row) {
                assert_eq!(lhs.promote(*rhs), want, "{lhs} with {rhs}");
            }
        }
    }

    #[test]
    fn names_read_back() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse::<DType>().ok(), Some(*dtype));
            assert_eq!(dtype.code().parse::<DType>().ok(), Some(*dtype));
        }
        assert!("float".parse::<DType>().is_err());
    }
}
