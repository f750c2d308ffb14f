//! What a C function of CANN is to Rust: a marker type with a name, a place in the table, and the type of its pointer.
//! Knows the list of functions; knows nothing of libraries or of how a pointer is found.

use std::ffi::CStr;

/// A C function of CANN.
///
/// The markers in [`f`](crate::f) implement it, one for each C function, under the C name; nothing else can.
pub trait Function: Copy + sealed::Sealed {
    /// The type of a pointer to the function.
    type Pointer: Copy + Send + Sync + 'static;
    /// The name of the symbol.
    const NAME: &'static CStr;
    /// The place of the function in [`FUNCTIONS`](crate::FUNCTIONS).
    const INDEX: usize;
}

mod sealed {
    /// Keeps [`Function`](super::Function) to the generated markers: its pointer types are trusted.
    pub trait Sealed {}
}

/// Where a function is declared, and how its signature is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A function of the core interfaces (`acl`, `aclnn` base, `hccl`).
    Core,
    /// One of the two functions of an operator.
    Operator,
    /// One of the two functions of an operator whose signature is known from documentation only.
    Documented,
    /// A helper that an operator header declares next to its operator.
    Auxiliary,
    /// Exported by the libraries, declared by no public header.
    NonPublic,
    /// Bound from installed headers, unknown to this crate's tables.
    Unlisted,
}

/// What is known of one C function.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// The name of the symbol.
    pub name: &'static CStr,
    /// The header that declares it.
    pub header: &'static str,
    /// How its signature is known.
    pub kind: Kind,
    /// The library that exports it in CANN 8.1, when that version has it.
    pub library_8_1: Option<&'static str>,
    /// The library that exports it in the newest CANN that was read, when that version has it.
    pub library_newest: Option<&'static str>,
}

impl FunctionInfo {
    /// The library that should export the function: that of CANN 8.1, else that of the newest version.
    pub fn library(&self) -> &'static str {
        match (self.library_8_1, self.library_newest) {
            (Some(library), _) | (None, Some(library)) => library,
            (None, None) => "unknown library",
        }
    }
}

/// Declares a marker for each function, and the table of all.
macro_rules! functions {
    ($($index:literal $name:ident $symbol:literal $header:literal $kind:ident $older:expr, $newest:expr => $pointer:ty;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "` of `", $header, "`.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Sealed for $name {}

            impl Function for $name {
                type Pointer = $pointer;
                const NAME: &'static CStr = $symbol;
                const INDEX: usize = $index;
            }
        )*

        /// What is known of each function, sorted by name; [`Function::INDEX`] is the place in this list.
        pub static FUNCTIONS: &[FunctionInfo] = &[
            $(FunctionInfo { name: $symbol, header: $header, kind: Kind::$kind, library_8_1: $older, library_newest: $newest },)*
        ];
    };
}

/// One marker type for each C function, under the C name.
#[allow(non_camel_case_types, non_snake_case, clippy::too_many_arguments, clippy::type_complexity)]
#[rustfmt::skip]
pub mod f {
    use std::ffi::CStr;

    use super::sealed::Sealed;
    use super::{Function, FunctionInfo, Kind};
    use crate::types::*;

    include!("generated/functions.rs");
}

/// The number of C functions that this crate knows.
pub const FUNCTION_COUNT: usize = f::FUNCTIONS.len();
