//! Every struct, union, enum and constant of `abi/types.json` against what the Rust types say.
//! The checks are written by the generator into `generated/layout.rs`, one line for each fact, so nothing is listed by hand.

use std::mem::{align_of, offset_of, size_of};

use ascend_sys::*;

/// The size of a field, from a function that names it.
fn field_size<R, F>(_: fn(*const R) -> *const F) -> usize {
    size_of::<F>()
}

macro_rules! record {
    ($name:ident, $size:literal, $align:literal, { $($($field:ident).+ => $offset:literal, $bytes:literal;)* }) => {
        assert_eq!((size_of::<$name>(), align_of::<$name>()), ($size, $align), stringify!($name));
        $(
            assert_eq!(offset_of!($name, $($field).+), $offset, "{}.{}", stringify!($name), stringify!($($field).+));
            // SAFETY: only the type of the projection is used; the function is never called.
            let size = field_size(|record: *const $name| unsafe { &raw const (*record).$($field).+ });
            assert_eq!(size, $bytes, "{}.{}", stringify!($name), stringify!($($field).+));
        )*
    };
}

macro_rules! member {
    ($enumeration:ident, $size:literal, $name:ident, $value:literal) => {
        let value: $enumeration = $name;
        assert_eq!(
            (i128::from(value), size_of_val(&value)),
            ($value, $size),
            stringify!($name)
        );
    };
}

macro_rules! constant {
    ($name:ident, $value:literal) => {
        assert_eq!(i128::from($name), $value, stringify!($name));
    };
}

macro_rules! text {
    ($name:ident, $value:literal) => {
        assert_eq!($name.to_bytes(), $value.as_bytes(), stringify!($name));
    };
}

include!("generated/layout.rs");
