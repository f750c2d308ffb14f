//! Files: tensors in and out.
//!
//! Knows file formats. Must not know ops or devices beyond moving tensors to the host.

mod mmap;
mod safetensors;

pub use safetensors::{load_safetensors, save_safetensors};
