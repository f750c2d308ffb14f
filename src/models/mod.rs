//! Models: whole networks in the layouts that others publish them in.
//!
//! Knows configurations and names of files. Must not know training.

pub mod bert;
pub mod deepseek;
mod fields;
