//! Files: tensors in and out.
//!
//! Knows file formats. Must not know ops or devices beyond moving tensors to the host.

mod float8;
mod mmap;
mod safetensors;

pub(crate) use mmap::Mapping;
pub(crate) use safetensors::write_atomically;
pub use safetensors::{load_safetensors, save_safetensors};
