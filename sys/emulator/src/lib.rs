//! A strict stand-in for Huawei's CANN libraries that runs on any host.

pub mod dtype;
pub mod failure;
pub mod kernel;
mod kernels;
pub mod number;
pub mod promote;
pub mod tensor;
