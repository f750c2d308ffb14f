//! Numbers: how stored elements become the numbers that kernels compute with, and back with one rounding.
//!
//! Knows representations only; it must not know tensors, strides or memory.

use crate::dtype::DType;
use half::{bf16, f16};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A complex number in double precision; complex kernels compute with it whatever the stored width.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// `re + i im`.
    pub fn new(re: f64, im: f64) -> Complex {
        Complex { re, im }
    }

    /// Absolute value.
    pub fn norm(self) -> f64 {
        self.re.hypot(self.im)
    }
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, other: Complex) -> Complex {
        Complex::new(self.re + other.re, self.im + other.im)
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, other: Complex) -> Complex {
        Complex::new(self.re - other.re, self.im - other.im)
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, other: Complex) -> Complex {
        Complex::new(
            self.re * other.re - self.im * other.im,
            self.re * other.im + self.im * other.re,
        )
    }
}

impl Div for Complex {
    type Output = Complex;
    fn div(self, other: Complex) -> Complex {
        let scale = other.re * other.re + other.im * other.im;
        Complex::new(
            (self.re * other.re + self.im * other.im) / scale,
            (self.im * other.re - self.re * other.im) / scale,
        )
    }
}

impl Neg for Complex {
    type Output = Complex;
    fn neg(self) -> Complex {
        Complex::new(-self.re, -self.im)
    }
}

/// An element as it lies in device memory. `saturate` asks for the largest finite value instead of an infinity and 0 instead of NaN.
pub trait Stored: Copy + 'static {
    /// As f32, rounded once.
    fn to_f32(self) -> f32;
    /// As f64.
    fn to_f64(self) -> f64;
    /// As i64: floats truncate and clip, u64 keeps its bits.
    fn to_i64(self) -> i64;
    /// Differs from zero.
    fn to_bool(self) -> bool;
    /// As a complex number.
    fn to_complex(self) -> Complex;
    /// From f32, rounded once.
    fn from_f32(value: f32, saturate: bool) -> Self;
    /// From f64, rounded once.
    fn from_f64(value: f64, saturate: bool) -> Self;
    /// From i64: narrower integers wrap.
    fn from_i64(value: i64) -> Self;
    /// From bool: 0 or 1.
    fn from_bool(value: bool) -> Self;
    /// From a complex number; real types keep the real part.
    fn from_complex(value: Complex, saturate: bool) -> Self;
}

macro_rules! stored_integer {
    ($($kind:ty),*) => {$(
        impl Stored for $kind {
            fn to_f32(self) -> f32 { self as f32 }
            fn to_f64(self) -> f64 { self as f64 }
            fn to_i64(self) -> i64 { self as i64 }
            fn to_bool(self) -> bool { self != 0 }
            fn to_complex(self) -> Complex { Complex::new(self as f64, 0.0) }
            fn from_f32(value: f32, _saturate: bool) -> Self { value as $kind }
            fn from_f64(value: f64, _saturate: bool) -> Self { value as $kind }
            fn from_i64(value: i64) -> Self { value as $kind }
            fn from_bool(value: bool) -> Self { value as $kind }
            fn from_complex(value: Complex, _saturate: bool) -> Self { value.re as $kind }
        }
    )*};
}

stored_integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! stored_float {
    ($($kind:ty, $to_f32:expr, $to_f64:expr, $from_f32:expr, $from_f64:expr;)*) => {$(
        impl Stored for $kind {
            fn to_f32(self) -> f32 { $to_f32(self) }
            fn to_f64(self) -> f64 { $to_f64(self) }
            fn to_i64(self) -> i64 { <Self as Stored>::to_f64(self) as i64 }
            fn to_bool(self) -> bool { <Self as Stored>::to_f64(self) != 0.0 }
            fn to_complex(self) -> Complex { Complex::new(self.to_f64(), 0.0) }
            fn from_f32(value: f32, saturate: bool) -> Self {
                let rounded: $kind = $from_f32(value);
                if saturate { clip(rounded) } else { rounded }
            }
            fn from_f64(value: f64, saturate: bool) -> Self {
                let rounded: $kind = $from_f64(value);
                if saturate { clip(rounded) } else { rounded }
            }
            fn from_i64(value: i64) -> Self { $from_f64(value as f64) }
            fn from_bool(value: bool) -> Self { $from_f32(value as u8 as f32) }
            fn from_complex(value: Complex, saturate: bool) -> Self {
                <Self as Stored>::from_f64(value.re, saturate)
            }
        }
    )*};
}

stored_float! {
    f32, |x| x, f64::from, |x| x, |x: f64| x as f32;
    f64, |x: f64| x as f32, |x| x, f64::from, |x| x;
    f16, f16::to_f32, f16::to_f64, f16::from_f32, f16::from_f64;
    bf16, bf16::to_f32, bf16::to_f64, bf16::from_f32, bf16::from_f64;
}

/// Saturation mode: infinities become the largest finite value, NaN becomes 0.
fn clip<T: num_limits::Limits>(value: T) -> T {
    value.clip()
}

mod num_limits {
    use half::{bf16, f16};

    pub trait Limits {
        fn clip(self) -> Self;
    }

    macro_rules! limits {
        ($($kind:ty, $zero:expr;)*) => {$(
            impl Limits for $kind {
                fn clip(self) -> Self {
                    if self.is_finite() { return self; }
                    crate::tensor::note_clipping();
                    if self.is_nan() { $zero }
                    else if self > $zero { <$kind>::MAX }
                    else { <$kind>::MIN }
                }
            }
        )*};
    }

    limits! { f32, 0.0; f64, 0.0; f16, f16::ZERO; bf16, bf16::ZERO; }
}

/// A stored bool: one byte.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Byte(pub u8);

impl Stored for Byte {
    fn to_f32(self) -> f32 {
        f32::from(u8::from(self.0 != 0))
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self.0 != 0))
    }
    fn to_i64(self) -> i64 {
        i64::from(self.0 != 0)
    }
    fn to_bool(self) -> bool {
        self.0 != 0
    }
    fn to_complex(self) -> Complex {
        Complex::new(self.to_f64(), 0.0)
    }
    fn from_f32(value: f32, _saturate: bool) -> Self {
        Byte(u8::from(value != 0.0))
    }
    fn from_f64(value: f64, _saturate: bool) -> Self {
        Byte(u8::from(value != 0.0))
    }
    fn from_i64(value: i64) -> Self {
        Byte(u8::from(value != 0))
    }
    fn from_bool(value: bool) -> Self {
        Byte(u8::from(value))
    }
    fn from_complex(value: Complex, _saturate: bool) -> Self {
        Byte(u8::from(value.re != 0.0 || value.im != 0.0))
    }
}

/// A stored complex number: two floats of one kind.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Pair<T>(pub T, pub T);

impl<T: Stored> Stored for Pair<T> {
    fn to_f32(self) -> f32 {
        self.0.to_f32()
    }
    fn to_f64(self) -> f64 {
        self.0.to_f64()
    }
    fn to_i64(self) -> i64 {
        self.0.to_i64()
    }
    fn to_bool(self) -> bool {
        self.0.to_bool() || self.1.to_bool()
    }
    fn to_complex(self) -> Complex {
        Complex::new(self.0.to_f64(), self.1.to_f64())
    }
    fn from_f32(value: f32, saturate: bool) -> Self {
        Pair(T::from_f32(value, saturate), T::from_bool(false))
    }
    fn from_f64(value: f64, saturate: bool) -> Self {
        Pair(T::from_f64(value, saturate), T::from_bool(false))
    }
    fn from_i64(value: i64) -> Self {
        Pair(T::from_i64(value), T::from_bool(false))
    }
    fn from_bool(value: bool) -> Self {
        Pair(T::from_bool(value), T::from_bool(false))
    }
    fn from_complex(value: Complex, saturate: bool) -> Self {
        Pair(
            T::from_f64(value.re, saturate),
            T::from_f64(value.im, saturate),
        )
    }
}

/// A type that kernels compute with: `f32 f64 i64 i32 u8 bool Complex`.
pub trait Number: Copy + Send + Sync + 'static {
    /// The data type whose stored form is this type bit for bit, if there is one: such tensors can be read without a copy.
    const EXACT: Option<DType>;
    /// From a stored element.
    fn get<S: Stored>(stored: S) -> Self;
    /// To a stored element, rounded once.
    fn put<S: Stored>(self, saturate: bool) -> S;
}

macro_rules! number {
    ($($kind:ty, $exact:expr, |$stored:ident| $get:expr, |$value:ident, $saturate:ident| $put:expr;)*) => {$(
        impl Number for $kind {
            const EXACT: Option<DType> = $exact;
            #[inline(always)]
            fn get<S: Stored>($stored: S) -> Self { $get }
            #[inline(always)]
            fn put<S: Stored>(self, $saturate: bool) -> S {
                let $value = self;
                let _ = $saturate;
                $put
            }
        }
    )*};
}

number! {
    f32, Some(DType::F32), |s| s.to_f32(), |v, saturate| S::from_f32(v, saturate);
    f64, Some(DType::F64), |s| s.to_f64(), |v, saturate| S::from_f64(v, saturate);
    i64, Some(DType::I64), |s| s.to_i64(), |v, saturate| S::from_i64(v);
    i32, Some(DType::I32), |s| s.to_i64() as i32, |v, saturate| S::from_i64(i64::from(v));
    u8, Some(DType::U8), |s| s.to_i64() as u8, |v, saturate| S::from_i64(i64::from(v));
    bool, None, |s| s.to_bool(), |v, saturate| S::from_bool(v);
    Complex, Some(DType::C128), |s| s.to_complex(), |v, saturate| S::from_complex(v, saturate);
}
