//! Tensors with PyTorch's vocabulary on Huawei Ascend NPUs, with a CPU backend that gives the same results.
//!
//! Knows the public names and the crate's lints only.

// Kernels are generic over number types, and bool is one of them.
#![allow(clippy::bool_comparison, clippy::absurd_extreme_comparisons)]

pub mod ascend;
pub mod autograd;
mod check;
mod cpu;
mod device;
pub mod dispatch;
pub mod distributed;
pub mod docs;
mod dry_run;
mod dtype;
mod environment;
mod error;
pub mod io;
mod layout;
mod mode;
pub mod models;
pub mod nn;
mod observe;
mod op;
pub mod ops;
pub mod optim;
mod shadow;
mod shape;
mod storage;
mod tensor;
mod trace;
pub mod train;

pub use autograd::{BackwardOptions, Gradients};
pub use cpu::{
    CpuMemory, CpuOptions, Host, HostMut, SimdLevel, cpu_memory, reset_cpu_memory_peak,
    trim_cpu_memory,
};
pub use device::Device;
pub use dry_run::{DryRun, dry_run};
pub use dtype::{Category, DType, Element, Scalar};
pub use error::{AclError, BackwardFault, Error, ErrorKind, Mismatch, Result, Usable};
pub use layout::Layout;
pub use mode::{anomaly, autocast, check_data, enable_grad, fallbacks, host_fallback, no_grad};
pub use ndarray;
pub use observe::{Call, observe};
pub use op::{
    CastRule, Counts, GradCx, Gradient, Grads, Meta, Op, OpInfo, Outputs, Plan, Sample,
    SampleInput, Saves, Tolerance, Writes,
};
pub use ops::activation::*;
pub use ops::catalog;
pub use ops::conv::*;
pub use ops::creation::*;
pub use ops::elementwise::*;
pub use ops::index::*;
pub use ops::linear::*;
pub use ops::loss::*;
pub use ops::norm::*;
pub use ops::pool::*;
pub use ops::random::*;
pub use ops::reduce::*;
pub use ops::sort::*;
pub use ops::update::*;
pub use ops::view::*;
pub use shadow::{ShadowCounts, ShadowOptions, shadow, shadow_counts, shadow_with};
pub use shape::{Axes, MAX_RANK, Shape};
pub use tensor::{NdArray, Operand, Tensor};
pub use trace::{Trace, Traced, trace};
