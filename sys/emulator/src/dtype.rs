//! The data types of the C interface: their codes, names, widths and classes.
//!
//! Knows numbers of the interface only; it must not know tensors, kernels or memory.
#![allow(dead_code)] // kernels use what they need of these answers

/// A data type as `aclDataType` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// No type.
    Undefined = -1,
    /// IEEE binary32.
    F32 = 0,
    /// IEEE binary16.
    F16 = 1,
    /// Signed 8-bit integer.
    I8 = 2,
    /// Signed 32-bit integer.
    I32 = 3,
    /// Unsigned 8-bit integer.
    U8 = 4,
    /// Signed 16-bit integer.
    I16 = 6,
    /// Unsigned 16-bit integer.
    U16 = 7,
    /// Unsigned 32-bit integer.
    U32 = 8,
    /// Signed 64-bit integer.
    I64 = 9,
    /// Unsigned 64-bit integer.
    U64 = 10,
    /// IEEE binary64.
    F64 = 11,
    /// One byte, 0 or 1.
    Bool = 12,
    /// A string; no kernel takes one.
    Text = 13,
    /// Complex of two binary32.
    C64 = 16,
    /// Complex of two binary64.
    C128 = 17,
    /// The upper half of a binary32.
    Bf16 = 27,
    /// Signed 4-bit integer, two per byte, the even element in the low half.
    I4 = 29,
    /// One bit.
    U1 = 30,
    /// Complex of two binary16.
    C32 = 33,
    /// Eight-bit float with a tapered exponent.
    HiF8 = 34,
    /// Eight-bit float, 5 exponent bits.
    F8E5M2 = 35,
    /// Eight-bit float, 4 exponent bits.
    F8E4M3 = 36,
    /// Eight-bit power of two.
    F8E8M0 = 37,
    /// Six-bit float, 3 exponent bits.
    F6E3M2 = 38,
    /// Six-bit float, 2 exponent bits.
    F6E2M3 = 39,
    /// Four-bit float, 2 exponent bits.
    F4E2M1 = 40,
    /// Four-bit float, 1 exponent bit.
    F4E1M2 = 41,
}

/// How a kernel should compute with a data type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// f32, f16, bf16: compute in `f32`.
    Float32,
    /// f64: compute in `f64`.
    Float64,
    /// Every integer: compute in `i64`, wrapping (u64 keeps its bits).
    Integer,
    /// Booleans.
    Boolean,
    /// Complex numbers: compute in [`Complex`](crate::number::Complex).
    Complex,
    /// Types that no ordinary kernel computes with.
    Other,
}

use DType as D;

/// Every type with its code, its name in the tables, and its width in bits.
const TABLE: [(DType, &str, usize); 28] = [
    (D::Undefined, "undefined", 0),
    (D::F32, "f32", 32),
    (D::F16, "f16", 16),
    (D::I8, "i8", 8),
    (D::I32, "i32", 32),
    (D::U8, "u8", 8),
    (D::I16, "i16", 16),
    (D::U16, "u16", 16),
    (D::U32, "u32", 32),
    (D::I64, "i64", 64),
    (D::U64, "u64", 64),
    (D::F64, "f64", 64),
    (D::Bool, "bool", 8),
    (D::Text, "str", 0),
    (D::C64, "c64", 64),
    (D::C128, "c128", 128),
    (D::Bf16, "bf16", 16),
    (D::I4, "i4", 4),
    (D::U1, "u1", 1),
    (D::C32, "c32", 32),
    (D::HiF8, "hif8", 8),
    (D::F8E5M2, "f8_e5m2", 8),
    (D::F8E4M3, "f8_e4m3fn", 8),
    (D::F8E8M0, "f8_e8m0", 8),
    (D::F6E3M2, "f6_e3m2", 6),
    (D::F6E2M3, "f6_e2m3", 6),
    (D::F4E2M1, "f4_e2m1", 4),
    (D::F4E1M2, "f4_e1m2", 4),
];

impl DType {
    /// The type with this `aclDataType` code.
    pub fn from_code(code: i32) -> Option<DType> {
        TABLE
            .iter()
            .find(|entry| entry.0 as i32 == code)
            .map(|entry| entry.0)
    }

    /// The type with this name in the tables (`f32`, `bf16`, `c64` ...).
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE
            .iter()
            .find(|entry| entry.1 == name)
            .map(|entry| entry.0)
    }

    /// The `aclDataType` code.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The name in the tables.
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|entry| entry.0 == self)
            .map_or("undefined", |entry| entry.1)
    }

    /// Width of one element in bits; 0 where there is none.
    pub fn bits(self) -> usize {
        match self {
            D::F32 | D::I32 | D::U32 | D::C32 => 32,
            D::F16 | D::Bf16 | D::I16 | D::U16 => 16,
            D::I64 | D::U64 | D::F64 | D::C64 => 64,
            D::C128 => 128,
            D::I4 | D::F4E2M1 | D::F4E1M2 => 4,
            D::F6E3M2 | D::F6E2M3 => 6,
            D::U1 => 1,
            D::Undefined | D::Text => 0,
            _ => 8,
        }
    }

    /// Bytes that `count` elements take, packed types rounded up; `None` on overflow.
    pub fn bytes(self, count: usize) -> Option<usize> {
        count.checked_mul(self.bits()).map(|bits| bits.div_ceil(8))
    }

    /// How to compute with this type.
    pub fn class(self) -> Class {
        match self {
            D::F32 | D::F16 | D::Bf16 => Class::Float32,
            D::F64 => Class::Float64,
            D::I8 | D::I16 | D::I32 | D::I64 | D::U8 | D::U16 | D::U32 | D::U64 | D::I4 => {
                Class::Integer
            }
            D::Bool => Class::Boolean,
            D::C32 | D::C64 | D::C128 => Class::Complex,
            _ => Class::Other,
        }
    }

    /// True for f32, f16, bf16 and f64.
    pub fn is_float(self) -> bool {
        matches!(self.class(), Class::Float32 | Class::Float64)
    }

    /// True for integers, without bool.
    pub fn is_integer(self) -> bool {
        self.class() == Class::Integer
    }

    /// True for c32, c64 and c128.
    pub fn is_complex(self) -> bool {
        self.class() == Class::Complex
    }

    /// True for f16 and bf16.
    pub fn is_half(self) -> bool {
        matches!(self, D::F16 | D::Bf16)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
