//! The kinds of arguments that operators take: what the caller gives, and what C is handed.
//!
//! Knows how each kind is lowered. Must not know any operator.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};

use ascend_sys::{
    aclBoolArray, aclDataType, aclFloatArray, aclIntArray, aclScalar, aclScalarList, aclTensor,
    aclTensorList, f,
};

use crate::ascend::handle::{self, Handle};
use crate::ascend::launch::Launch;
use crate::ascend::tensor::{Dev, Number, code};
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::{MAX_RANK, Shape};

/// A kind of argument.
pub(crate) trait Kind {
    /// What the caller gives.
    type Value<'a>;
    /// What is kept until the second phase has returned.
    type Kept<'a>;
    /// What C is handed.
    type Raw: Copy;
    fn keep<'a>(cx: &'a Launch, value: Self::Value<'a>) -> Result<Self::Kept<'a>>;
    fn raw(kept: &Self::Kept<'_>) -> Self::Raw;
    /// Done after the second phase.
    fn finish(_cx: &Launch, _kept: &Self::Kept<'_>) -> Result<()> {
        Ok(())
    }
}

/// The dtype of an argument, if it is a tensor: what the dtype table speaks of.
pub(crate) trait Typed {
    fn dtype(&self) -> Option<DType> {
        None
    }
}

impl Typed for &Dev<'_> {
    fn dtype(&self) -> Option<DType> {
        Some(Dev::dtype(self))
    }
}

impl Typed for &[Dev<'_>] {
    fn dtype(&self) -> Option<DType> {
        self.first().map(Dev::dtype)
    }
}

impl Typed for Told<'_> {
    fn dtype(&self) -> Option<DType> {
        Some(self.dev.dtype())
    }
}

impl<T: Typed> Typed for Option<T> {
    fn dtype(&self) -> Option<DType> {
        self.as_ref().and_then(Typed::dtype)
    }
}

impl Typed for Number {}
impl Typed for &[Number] {}
impl Typed for &[i64] {}
impl Typed for &[f32] {}
impl Typed for &[bool] {}
impl Typed for i64 {}
impl Typed for u64 {}
impl Typed for i32 {}
impl Typed for i8 {}
impl Typed for f64 {}
impl Typed for f32 {}
impl Typed for bool {}
impl Typed for DType {}
impl Typed for &CStr {}

/// Kinds whose values become handles: the kind, its value, the handle's C type, and the function that makes it; then the
/// same for values that may be absent.
macro_rules! handles {
    ($($(#[$doc:meta])* $kind:ident, $optional:ident: $value:ty => $raw:ty, $make:path;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $kind;
        impl Kind for $kind {
            type Value<'a> = $value;
            type Kept<'a> = Handle<'a, $raw>;
            type Raw = *mut $raw;
            fn keep<'a>(cx: &'a Launch, value: $value) -> Result<Self::Kept<'a>> {
                $make(cx, value)
            }
            fn raw(kept: &Self::Kept<'_>) -> *mut $raw {
                kept.raw
            }
        }
        $(#[$doc])*
        /// May be absent.
        pub(crate) struct $optional;
        impl Kind for $optional {
            type Value<'a> = Option<$value>;
            type Kept<'a> = Option<Handle<'a, $raw>>;
            type Raw = *mut $raw;
            fn keep<'a>(cx: &'a Launch, value: Option<$value>) -> Result<Self::Kept<'a>> {
                value.map(|value| $make(cx, value)).transpose()
            }
            fn raw(kept: &Self::Kept<'_>) -> *mut $raw {
                kept.as_ref().map_or(std::ptr::null_mut(), |handle| handle.raw)
            }
        }
    )*};
}

handles! {
    /// A tensor that is read.
    In, OptionalIn: &'a Dev<'a> => aclTensor, handle::tensor;
    /// A tensor that is written, or read and written.
    Out, OptionalOut: &'a Dev<'a> => aclTensor, handle::tensor;
    /// A tensor in the image format of its rank, read or written.
    Image, OptionalImage: &'a Dev<'a> => aclTensor, handle::image;
    /// A list of tensors.
    List, OptionalList: &'a [Dev<'a>] => aclTensorList, handle::tensors;
    /// A number with a dtype.
    Scalar, OptionalScalar: Number => aclScalar, handle::scalar;
    /// A list of numbers with dtypes.
    Scalars, OptionalScalars: &'a [Number] => aclScalarList, handle::scalars;
    /// An array of integers.
    Ints, OptionalInts: &'a [i64] => aclIntArray, handle::ints;
    /// An array of floats.
    Floats, OptionalFloats: &'a [f32] => aclFloatArray, handle::floats;
    /// An array of truth values.
    Bools, OptionalBools: &'a [bool] => aclBoolArray, handle::bools;
}

/// Kinds that C takes by value: the kind, the caller's type, C's type, and the conversion.
macro_rules! values {
    ($($(#[$doc:meta])* $kind:ident: $value:ty => $raw:ty, $convert:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $kind;
        impl Kind for $kind {
            type Value<'a> = $value;
            type Kept<'a> = $value;
            type Raw = $raw;
            fn keep<'a>(_cx: &'a Launch, value: Self::Value<'a>) -> Result<Self::Kept<'a>> {
                Ok(value)
            }
            fn raw(kept: &Self::Kept<'_>) -> $raw {
                let convert: fn(Self::Kept<'_>) -> $raw = $convert;
                convert(*kept)
            }
        }
    )*};
}

values! {
    /// A 64-bit integer.
    Int: i64 => i64, |value| value;
    /// An unsigned 64-bit integer.
    Unsigned: u64 => u64, |value| value;
    /// A 32-bit integer.
    Short: i32 => i32, |value| value;
    /// An 8-bit integer.
    Tiny: i8 => i8, |value| value;
    /// A double.
    Double: f64 => f64, |value| value;
    /// A float.
    Float: f32 => f32, |value| value;
    /// A truth value.
    Bool: bool => bool, |value| value;
    /// A dtype.
    Code: DType => aclDataType, code;
    /// A text.
    Text: &'a CStr => *mut c_char, handle::text;
}

/// A tensor that is written, and whose true shape the kernel tells when it has run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The largest that the output can be.
    pub dev: &'a Dev<'a>,
    /// Where the shape goes.
    pub shape: &'a Cell<Shape>,
}

/// An output whose shape the kernel tells; the launch waits for it.
pub(crate) struct Dynamic;

impl Kind for Dynamic {
    type Value<'a> = Told<'a>;
    type Kept<'a> = (Handle<'a, aclTensor>, &'a Cell<Shape>);
    type Raw = *mut aclTensor;

    fn keep<'a>(cx: &'a Launch, value: Told<'a>) -> Result<Self::Kept<'a>> {
        Ok((handle::tensor(cx, value.dev)?, value.shape))
    }

    fn raw(kept: &Self::Kept<'_>) -> *mut aclTensor {
        kept.0.raw
    }

    fn finish(cx: &Launch, (handle, shape): &Self::Kept<'_>) -> Result<()> {
        cx.synchronize()?;
        let (mut sizes, mut rank) = (std::ptr::null_mut(), 0u64);
        let (op, context, raw) = (cx.op(), cx.context(), handle.raw);
        // SAFETY: the tensor is alive, and both places are writable for the call.
        context.call(op, f::aclGetViewShape, |get| unsafe {
            get(raw, &mut sizes, &mut rank)
        })?;
        let rank = usize::try_from(rank).unwrap_or(MAX_RANK).min(MAX_RANK);
        let told = (0..rank).filter(|_| !sizes.is_null()).map(|dim| {
            // SAFETY: the call answered an array of `rank` sizes.
            let size: i64 = unsafe { *sizes.add(dim) };
            usize::try_from(size).unwrap_or(0)
        });
        shape.set(told.collect());
        // SAFETY: the array was made by C++'s `new[]` for the caller to release, or is null. Its default operators are `malloc` and
        // `free` on Linux, and allocators that replace the one replace the other; `delete[]` itself has no name in C.
        unsafe { free(sizes.cast()) };
        Ok(())
    }
}

unsafe extern "C" {
    /// The C library's own, which every Linux program is linked with.
    fn free(block: *mut c_void);
}
