//! A strict stand-in for Huawei's CANN libraries that runs on any host: the same C functions, computed on the CPU.
//!
//! Knows the C interface of CANN and how CANN behaves; it must not know who calls it. It ran against no hardware: where the
//! documents are silent, it is a guess.
//!
//! Two ways in: as a Rust library through [`resolve`], which finds the address of each exported function by its C name, and as
//! a shared library (`libascend_emulator.so`) whose exported names are CANN's own, to be linked or opened in place of
//! `libascendcl.so`, `libnnopbase.so`, `libopapi.so` and their newer names. Both are complete instances with a state of their own.
//!
//! It is stricter than the real libraries: memory used after it was freed, buffers freed while queued work needs them,
//! executors used twice, overlapping copies, views that leave their storage and the like are refused with a text that names the
//! call, and kept for [`violations`]. Faults can be injected ([`Settings::faults`], [`set_faults`]), calls are counted
//! ([`calls`], [`kernel_launches`]), and what is alive is listed ([`leaks`]).
//!
//! ```
//! let malloc = ascend_emulator::resolve(c"aclrtMalloc");
//! assert!(malloc.is_some());
//! assert!(ascend_emulator::resolve(c"aclrtNoSuchFunction").is_none());
//! ```
#![deny(missing_docs)]

mod arguments;
mod callback;
mod capture;
mod dtype;
mod event;
mod executor;
mod exports;
mod external;
mod failure;
mod guard;
mod hccl;
mod kernel;
mod kernels;
mod ledger;
mod memory;
mod meta;
mod number;
mod promote;
mod registry;
mod rules;
mod settings;
mod shared;
mod shims;
mod single;
mod state;
mod stream;
mod tensor;
mod trace;

pub use executor::{lacking_ops, supported_ops};
pub use ledger::{all_calls, call_log, calls, kernel_launches, violations};
pub use settings::{Log, Settings, SettingsError, Strictness};
pub use state::{reset, set_faults};

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// The address of an exported function, by its C name.
pub fn resolve(name: &CStr) -> Option<NonNull<c_void>> {
    let symbols = shims::table::SYMBOLS;
    let found = symbols.binary_search_by(|entry| entry.0.cmp(name)).ok()?;
    let symbol = symbols.get(found)?.1;
    NonNull::new(symbol.0.cast_mut().cast())
}

/// One line for each handle and each block of memory that is alive, with the call that made it. Primary contexts and default
/// streams, which nobody destroys by hand, are left out.
pub fn leaks() -> Vec<String> {
    let mut lines = Vec::new();
    for (handle, context, site) in state::CONTEXTS.living() {
        if !context.primary {
            lines.push(format!("context {handle:#x} made by {site}"));
        }
    }
    for (handle, stream, site) in stream::STREAMS.living() {
        if !stream.is_default {
            lines.push(format!("stream {handle:#x} made by {site}"));
        }
    }
    event::EVENTS.report(&mut lines);
    capture::GRAPHS.report(&mut lines);
    meta::TENSORS.report(&mut lines);
    meta::SCALARS.report(&mut lines);
    meta::INTS.report(&mut lines);
    meta::FLOATS.report(&mut lines);
    meta::BOOLS.report(&mut lines);
    meta::TENSOR_LISTS.report(&mut lines);
    meta::SCALAR_LISTS.report(&mut lines);
    executor::EXECUTORS.report(&mut lines);
    hccl::COMMUNICATORS.report(&mut lines);
    exports::virtual_memory::report(&mut lines);
    exports::pool::report(&mut lines);
    exports::sharing::report(&mut lines);
    for block in memory::living() {
        lines.push(format!(
            "{:?} memory {:#x} of {} bytes made by {}",
            block.place, block.start, block.size, block.made_by
        ));
    }
    lines
}
