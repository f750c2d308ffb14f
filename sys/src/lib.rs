//! The C ABI of CANN, Huawei's software for Ascend NPUs: types, constants, function signatures, and loading at run time.
//!
//! Nothing is linked and nothing of CANN is needed to build: the libraries are found and opened when the program runs.
//! CANN 8.1 and the newest version are covered at once; a function that the installed version lacks is a
//! [`MissingSymbol`] when it is asked for, and all others work.
//!
//! - Types and constants carry their C names: [`aclDataType`] is an integer, [`ACL_FLOAT`] one of its values,
//!   [`aclTensor`] an opaque handle. The one renaming: members of the C enum `Reduction` are plain words (`None`), here
//!   [`Reduction_None`] and so on.
//! - Each C function is a marker in [`f`]; [`Api::function`] turns it into a pointer of the right type.
//! - Where the two versions differ, the form of CANN 8.1 is taken; unions and enums hold the members of both.
//!   The one record that grew is `HcclCommConfig` (300 bytes here; it carries its own size and version, so newer libraries
//!   can tell).
//!
//! ```
//! use std::ffi::c_void;
//! use std::ptr::{self, NonNull};
//!
//! use ascend_sys::{ACL_SUCCESS, Api, aclError, f};
//!
//! // The libraries of this machine, searched in the order that `LoadOptions` documents.
//! match Api::open(&ascend_sys::LoadOptions::new()) {
//!     Ok(api) => println!("{}", api.origin()),
//!     Err(error) => println!("{error}"),
//! }
//!
//! // Or a stand-in that answers by name.
//! unsafe extern "C" fn init(_config: *const std::ffi::c_char) -> aclError {
//!     ACL_SUCCESS
//! }
//! let api = Api::from_resolver("example", |name| match name.to_bytes() {
//!     b"aclInit" => NonNull::new(init as *mut c_void),
//!     _ => None,
//! });
//! let acl_init = api.function(f::aclInit)?;
//! // SAFETY: `init` above takes any pointer.
//! assert_eq!(unsafe { acl_init(ptr::null()) }, ACL_SUCCESS);
//!
//! let missing = api.function(f::aclrtMalloc).unwrap_err();
//! assert_eq!((missing.symbol, missing.library), ("aclrtMalloc", "libascendcl.so"));
//! # Ok::<(), ascend_sys::MissingSymbol>(())
//! ```
//!
//! # Crate features
//!
//! `bindgen` builds the binary `generate`, which writes `headers/` and `src/generated/` anew, from the facts in `abi/` or
//! from the headers of an installed CANN; it needs libclang. Nothing else needs the feature.

mod api;
pub mod dtypes;
mod environment;
mod error;
mod function;
mod libraries;
mod search;
#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(missing_debug_implementations, rustdoc::all, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
#[path = "generated/types.rs"]
mod types;

pub use api::{Api, Origin};
pub use environment::Environment;
pub use error::{Attempt, LoadError, MissingSymbol, Place, Reason};
pub use function::f::FUNCTIONS;
pub use function::{FUNCTION_COUNT, Function, FunctionInfo, Kind, f};
pub use libraries::{LibraryReport, LibraryState};
pub use search::LoadOptions;
pub use types::*;
