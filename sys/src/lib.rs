//! C types, constants and function signatures of CANN.

mod function;
#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(missing_debug_implementations, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
#[path = "generated/types.rs"]
mod types;

pub use function::f::FUNCTIONS;
pub use function::{FUNCTION_COUNT, Function, FunctionInfo, Kind, f};
pub use types::*;
