//! The exported C functions that are written by hand, one file per topic.
//!
//! Knows C signatures and hands everything on; it must not know how the runtime does things.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]
// Every function here has the contract of its C declaration: pointers are null or valid for what the C documents say.

use crate::failure::Failure;
use crate::guard;

pub(crate) mod address;
pub(crate) mod allocator;
pub(crate) mod attribute;
pub(crate) mod blas;
pub(crate) mod collective;
pub(crate) mod communicator;
pub(crate) mod copy;
pub(crate) mod copy_batch;
pub(crate) mod copy_indirect;
pub(crate) mod dataset;
pub(crate) mod description;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod format_cast;
pub(crate) mod graph;
pub(crate) mod graph_build;
pub(crate) mod group;
pub(crate) mod hooks;
pub(crate) mod identifier;
pub(crate) mod init;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod memory_task;
pub(crate) mod meta;
pub(crate) mod nonpublic;
pub(crate) mod notify;
pub(crate) mod operator;
pub(crate) mod overflow;
pub(crate) mod pool;
pub(crate) mod profile;
pub(crate) mod quant_param;
pub(crate) mod shareable;
pub(crate) mod sharing;
pub(crate) mod single_op;
mod site;
pub(crate) mod stream;
pub(crate) mod stream_config;
pub(crate) mod system;
pub(crate) mod tensor_channel;
pub(crate) mod tool_marks;
pub(crate) mod topology;
pub(crate) mod virtual_memory;

/// The answer of a function that is exported but not emulated.
pub(crate) fn absent(name: &'static str, code: i32) -> i32 {
    const OF_KERNELS: [&str; 7] = [
        "aclrtBinary",
        "aclrtCreateBinary",
        "aclrtDestroyBinary",
        "aclrtLaunchKernel",
        "aclrtLaunchSIMT",
        "aclrtKernelArgs",
        "aclrtGetFunc",
    ];
    const OF_MODELS: [&str; 6] = [
        "aclmdlLoad",
        "aclmdlUnload",
        "aclmdlExecute",
        "aclmdlQuery",
        "aclmdlGet",
        "aclmdlCreateDesc",
    ];
    let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let why = if is(&OF_KERNELS) {
        "a kernel binary is code for an NPU, which the emulator cannot run"
    } else if is(&OF_MODELS) {
        "an offline model is code for an NPU, which the emulator cannot run"
    } else {
        "the emulator does not have this function"
    };
    guard::call(name, || Err(Failure::new(code, format!("{name}: {why}"))))
}
