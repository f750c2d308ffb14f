//! The safe layer over CANN: devices, streams, memory and launches.
//!
//! Knows CANN's C interface and how to use it without harm. Must not know ops, gradients or modules.
//!
//! Everything hangs together by ownership: a buffer keeps its stream, the stream its context, the context the loaded CANN. No
//! drop waits, panics or loses a failure: what cannot be returned surfaces at the next call as [`Error::Deferred`]. After a
//! failure that poisons a device, each call on it fails with the first cause until [`reset`].
//!
//! [`Error::Deferred`]: crate::Error::Deferred

pub(crate) mod aclnn;
mod cann;
mod comm;
mod context;
mod counters;
mod determinism;
mod device;
mod error_codes;
mod event;
mod executor;
mod handle;
mod launch;
mod memory;
mod overflow;
pub mod pool;
mod refusal;
mod runtime;
mod staging;
mod stream;
mod tensor;

pub use comm::{Communicator, Membership, ReduceOp, RootInfo};
pub use counters::{Counters, counters};
pub(crate) use counters::{kernels_since, kernels_so_far, with_kernel_names};
pub use determinism::{Determinism, determinism, set_determinism};
pub use device::{
    Alive, DeviceInfo, ShutdownReport, device_count, devices, empty_cache, memory, reset,
    reset_peak_statistics, shutdown, statistics, synchronize,
};
pub use launch::Launch;
pub use memory::Buffer;
pub use overflow::{OverflowMode, overflow_mode, set_overflow_mode};
pub(crate) use overflow::{forget_overflow, overflow_words};
pub use runtime::install;
pub use stream::Stream;
pub use tensor::{Dev, Number, Ready, Temporary};
