//! The CPU backend: loops that know numbers, not ops.
//!
//! Knows host views of tensors and the drivers over them (map, reduce, copy, matrix products). Must not know ops, tensors,
//! gradients or NPUs.

pub(crate) mod alloc;
pub(crate) mod attention;
pub(crate) mod columns;
pub(crate) mod conv;
#[cfg(target_arch = "x86_64")]
mod conv_depth;
mod conv_fast;
mod conv_pass;
mod conv_product;
mod conv_tile;
mod conv_winograd;
mod conv_winograd_back;
pub(crate) mod dense;
pub(crate) mod experts;
pub(crate) mod function;
pub(crate) mod gather;
pub(crate) mod gemm;
pub(crate) mod grouped;
#[cfg(target_arch = "aarch64")]
mod half_neon;
pub(crate) mod integer;
pub(crate) mod lane;
pub(crate) mod lines;
pub(crate) mod map;
pub(crate) mod number;
pub(crate) mod order;
pub(crate) mod par;
mod past;
pub(crate) mod permute;
mod pieces;
pub(crate) mod pool;
pub(crate) mod pool_resize;
pub(crate) mod random;
pub(crate) mod real;
pub(crate) mod reduce;
pub(crate) mod rows;
pub(crate) mod scan;
mod settings;
pub(crate) mod simd;
pub(crate) mod strided;
pub(crate) mod sweep;
pub(crate) mod total;
pub(crate) mod transpose;
mod view;

pub use alloc::{CpuMemory, cpu_memory, reset_cpu_memory_peak, trim_cpu_memory};
pub use settings::CpuOptions;
pub(crate) use settings::ready;
pub use simd::SimdLevel;
pub use view::{Host, HostMut};
