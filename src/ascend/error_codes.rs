//! What CANN's status codes mean, HCCL's small ones among them: one table, searched by code.
//!
//! Knows each documented code's name, meaning, what is still usable and what to do. Must not know who made the call.

use crate::error::{AclError, Usable};

/// What is known of the codes `first..=last`.
#[derive(Debug)]
struct Row {
    first: i32,
    last: i32,
    name: &'static str,
    meaning: &'static str,
    action: &'static str,
    usable: Usable,
}

const fn row(
    first: i32,
    last: i32,
    usable: Usable,
    name: &'static str,
    meaning: &'static str,
    action: &'static str,
) -> Row {
    Row {
        first,
        last,
        name,
        meaning,
        action,
        usable,
    }
}

use Usable::{Device, NotContext, NotHardware, NotProcess, NotStream};

/// Sorted by code, without overlaps; families whose members differ in nothing that a caller can act on share a row.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    row(0, 0, Device, "ACL_SUCCESS", "no failure", "nothing to do"),
    row(1, 1, Device, "HCCL_E_PARA", "HCCL refuses an argument, or the ranks do not call the same", "correct the call"),
    row(2, 2, Device, "HCCL_E_PTR", "an argument of HCCL is null", "correct the call"),
    row(3, 3, Device, "HCCL_E_MEMORY", "HCCL finds no memory for its buffers", "free tensors, or lower HCCL_BUFFSIZE"),
    row(4, 4, NotStream, "HCCL_E_INTERNAL", "HCCL failed inside", "build the communicators anew"),
    row(5, 5, Device, "HCCL_E_NOT_SUPPORT", "HCCL does not do this on this chip", "take another dtype or collective"),
    row(6, 7, Device, "HCCL_E_NOT_FOUND or HCCL_E_UNAVAIL", "a resource of HCCL is missing", "correct the call"),
    row(8, 8, NotStream, "HCCL_E_SYSCALL", "a call of the system failed inside HCCL", "read CANN's text"),
    row(9, 9, NotStream, "HCCL_E_TIMEOUT", "a rank did not come in time", "look for the failed rank (HCCL_CONNECT_TIMEOUT and HCCL_EXEC_TIMEOUT set the time)"),
    row(10, 10, Device, "HCCL_E_OPEN_FILE_FAILURE", "HCCL cannot open a file", "check its path and rights"),
    row(11, 14, NotStream, "HCCL_E_TCP_ or HCCL_E_ROCE_ family", "the network between ranks failed", "check the links, then build the communicators anew"),
    row(15, 19, NotStream, "HCCL_E_RUNTIME, _DRV, _PROFILING, _CCE or _NETWORK", "a part below HCCL failed", "read CANN's text"),
    row(20, 20, Device, "HCCL_E_AGAIN", "HCCL asks for another try", "call again"),
    row(21, 21, NotStream, "HCCL_E_REMOTE", "another rank failed or ended", "look for the failed rank, then build the communicators anew"),
    row(22, 22, Device, "HCCL_E_SUSPENDING", "the communicator is suspended", "resume it first"),
    row(23, 23, NotStream, "HCCL_E_OPRETRY_FAIL", "a collective gave up", "build the communicators anew"),
    row(24, 24, Device, "HCCL_E_OOM", "HCCL ran out of device memory", "free tensors, or lower HCCL_BUFFSIZE"),
    row(100000, 100000, Device, "ACL_ERROR_INVALID_PARAM", "an argument is null, zero or out of range", "correct the call"),
    row(100001, 100001, Device, "ACL_ERROR_UNINITIALIZE", "CANN was used before it was initialised", "change the order of the calls"),
    row(100002, 100002, Device, "ACL_ERROR_REPEAT_INITIALIZE", "CANN is initialised already", "go on"),
    row(100003, 100003, Device, "ACL_ERROR_INVALID_FILE", "a configuration or dump file is not usable", "check its path and rights"),
    row(100004, 100004, Device, "ACL_ERROR_WRITE_FILE", "a file cannot be written", "check its path and rights"),
    row(100006, 100006, Device, "ACL_ERROR_PARSE_FILE", "a configuration file is not valid JSON", "correct the file"),
    row(100007, 100007, Device, "ACL_ERROR_FILE_MISSING_ATTR", "a configuration file lacks a key", "correct the file"),
    row(100008, 100008, Device, "ACL_ERROR_FILE_ATTR_INVALID", "a configuration file has a key of a wrong value", "correct the file"),
    row(100024, 100024, Device, "ACL_ERROR_OP_NOT_FOUND", "there is no compiled operator for the request", "install the operator package of this chip"),
    row(100026, 100026, Device, "ACL_ERROR_UNSUPPORTED_DATA_TYPE", "the operator does not take this dtype", "cast the tensor"),
    row(100027, 100027, Device, "ACL_ERROR_FORMAT_NOT_MATCH", "the operator does not take this format", "change the format"),
    row(100033, 100033, Device, "ACL_ERROR_REPEAT_SUBSCRIBE", "the stream has a callback thread already", "end the subscription first"),
    row(100036, 100036, Device, "ACL_ERROR_WAIT_CALLBACK_TIMEOUT", "no callback came in time", "wait again"),
    row(100037, 100037, Device, "ACL_ERROR_REPEAT_FINALIZE", "nothing is left to finalise", "go on"),
    row(100039, 100039, NotProcess, "ACL_ERROR_COMPILING_STUB_MODE", "a stub library was loaded in place of the real one", "put the real libraries first in the search path"),
    row(100042, 100043, Device, "ACL_ERROR_PROF_ALREADY_RUN or ACL_ERROR_PROF_NOT_RUN", "profiling is in another state than the call needs", "change the order of the calls"),
    row(100044, 100045, Device, "ACL_ERROR_DUMP_ALREADY_RUN or ACL_ERROR_DUMP_NOT_RUN", "dumping is in another state than the call needs", "change the order of the calls"),
    row(107000, 107000, Device, "ACL_ERROR_RT_PARAM_INVALID", "the runtime refuses an argument", "correct the call"),
    row(107001, 107001, Device, "ACL_ERROR_RT_INVALID_DEVICEID", "there is no device of this number", "check the number and ASCEND_RT_VISIBLE_DEVICES"),
    row(107002, 107002, Device, "ACL_ERROR_RT_CONTEXT_NULL", "the thread has no device selected", "select a device on this thread"),
    row(107003, 107003, Device, "ACL_ERROR_RT_STREAM_CONTEXT", "a stream or event belongs to another context", "use it in its own context"),
    row(107004, 107004, Device, "ACL_ERROR_RT_MODEL_CONTEXT", "a graph belongs to another context", "use it in its own context"),
    row(107005, 107005, Device, "ACL_ERROR_RT_STREAM_MODEL", "a stream and a graph do not belong together", "correct the call"),
    row(107006, 107006, Device, "ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID", "an event is not complete or keeps no time", "synchronise first"),
    row(107007, 107007, Device, "ACL_ERROR_RT_EVENT_TIMESTAMP_REVERSAL", "the end was recorded before the start", "swap the events"),
    row(107008, 107008, Device, "ACL_ERROR_RT_ADDR_UNALIGNED", "an address is not aligned", "align it to 64 bytes"),
    row(107011, 107012, Device, "ACL_ERROR_RT_STREAM_SUBSCRIBE or _THREAD_SUBSCRIBE", "the callback thread is not set up", "subscribe first"),
    row(107015, 107015, Device, "ACL_ERROR_RT_STREAM_NO_CB_REG", "the stream has no callback thread", "subscribe first"),
    row(107016, 107016, Device, "ACL_ERROR_RT_INVALID_MEMORY_TYPE", "the memory is of a wrong kind", "correct the call"),
    row(107017, 107017, Device, "ACL_ERROR_RT_INVALID_HANDLE", "a handle is stale or foreign", "look for a handle used after its end"),
    row(107018, 107018, Device, "ACL_ERROR_RT_INVALID_MALLOC_TYPE", "the allocation policy is unknown", "correct the call"),
    row(107019, 107019, Device, "ACL_ERROR_RT_WAIT_TIMEOUT", "a wait ran out of time", "wait again or look for what hangs"),
    row(107020, 107020, NotStream, "ACL_ERROR_RT_TASK_TIMEOUT", "a task ran out of time, often a collective without its peers", "look for a failed peer"),
    row(107021, 107021, Device, "ACL_ERROR_RT_SYSPARAMOPT_NOT_SET", "the option has not been set", "go on with its default"),
    row(107022, 107022, NotStream, "ACL_ERROR_RT_DEVICE_TASK_ABORT", "the tasks of the device were aborted", "repair the device, then go on"),
    row(107023, 107023, NotStream, "ACL_ERROR_RT_STREAM_ABORT", "the stream was aborted", "use another stream"),
    row(107024, 107024, Device, "ACL_ERROR_RT_CAPTURE_DEPENDENCY", "a wait in the capture lacks its record", "end the capture and start it again"),
    row(107025, 107025, Device, "ACL_ERROR_RT_STREAM_UNJOINED", "a side stream was not joined before the end of the capture", "end the capture and start it again"),
    row(107026, 107026, Device, "ACL_ERROR_RT_MODEL_CAPTURED", "the graph is being captured", "leave it alone until the capture ends"),
    row(107027, 107027, Device, "ACL_ERROR_RT_STREAM_CAPTURED", "the stream is being captured", "leave it alone until the capture ends"),
    row(107028, 107028, Device, "ACL_ERROR_RT_EVENT_CAPTURED", "the event is being captured", "leave it alone until the capture ends"),
    row(107029, 107029, Device, "ACL_ERROR_RT_STREAM_NOT_CAPTURED", "the stream is not being captured", "change the order of the calls"),
    row(107030, 107030, Device, "ACL_ERROR_RT_CAPTURE_MODE_NOT_SUPPORT", "the capture's mode forbids this call", "move the call out or relax the mode"),
    row(107031, 107031, Device, "ACL_ERROR_RT_STREAM_CAPTURE_IMPLICIT", "the default stream met a captured event", "use a stream of its own"),
    row(107032, 107032, Device, "ACL_ERROR_RT_STREAM_CAPTURE_CONFLICT", "two captures met", "end the capture and start it again"),
    row(107033, 107034, Device, "ACL_ERROR_RT_STREAM_TASK_GROUP_STATUS or _INTR", "a task group is in another state than the call needs", "change the order of the calls"),
    row(107035, 107036, Device, "ACL_ERROR_RT_TASK_ABORT_STOP or _STREAM_CAPTURE_UNMATCHED", "an abort stopped the call, or the capture began on another stream", "end the capture and start it again"),
    row(107037, 107037, Device, "ACL_ERROR_RT_MODEL_RUNNING", "the graph is still running", "synchronise first"),
    row(107038, 107038, Device, "ACL_ERROR_RT_CAPTURE_WRONG_THREAD", "the capture began on another thread", "end it on the thread that began it"),
    row(107039, 107039, Device, "ACL_ERROR_RT_INSUFFICIENT_INPUT_ARRAY", "an array is too small", "correct the call"),
    row(107040, 107040, Device, "ACL_ERROR_RT_MODEL_UPDATE_FAILED", "the graph refuses the update", "capture it again"),
    row(107041, 107041, Device, "ACL_ERROR_RT_CAPTURE_MODE_BLOCK_ASYNC", "a copy from pageable memory is forbidden during a capture", "use pinned memory"),
    row(107042, 107045, Device, "ACL_ERROR_RT_SYMBOL_NOT_FOUND and following", "a kernel symbol or nested graph is not usable", "correct the call"),
    row(145000, 145022, Device, "ACL_ERROR_GE_ family", "the graph engine refuses an argument", "correct the call"),
    row(148046, 148048, Device, "ACL_ERROR_PROF_REPEAT_SUBSCRIBE, _API_CONFLICT or _INVALID_MAX_OPQUEUE_NUM_CONFIG", "profiling or configuration calls conflict", "change the order of the calls"),
    row(148049, 148049, Device, "ACL_ERROR_INVALID_OPP_PATH", "the operator package is not where it is looked for", "set ASCEND_OPP_PATH"),
    row(161001, 161001, Device, "ACLNN_ERR_PARAM_NULLPTR", "the operator got a null where it needs a value", "correct the call"),
    row(161002, 161002, Device, "ACLNN_ERR_PARAM_INVALID", "the operator refuses a dtype, shape, format or attribute", "read CANN's text for the argument"),
    row(200000, 200000, Device, "ACL_ERROR_BAD_ALLOC", "the host has no memory", "free host memory"),
    row(200001, 200001, Device, "ACL_ERROR_API_NOT_SUPPORT", "this chip or version lacks the function", "choose another path for this chip or CANN version"),
    row(200002, 200002, Device, "ACL_ERROR_INVALID_DEVICE", "the device does not fit the call", "correct the call"),
    row(200003, 200003, Device, "ACL_ERROR_MEMORY_ADDRESS_UNALIGNED", "an address is not aligned", "align it to 64 bytes"),
    row(200004, 200004, Device, "ACL_ERROR_RESOURCE_NOT_MATCH", "handles do not belong together", "look for a handle used after its end"),
    row(200005, 200005, Device, "ACL_ERROR_INVALID_RESOURCE_HANDLE", "a handle is stale or foreign", "look for a handle used after its end"),
    row(200006, 200006, Device, "ACL_ERROR_FEATURE_UNSUPPORTED", "this chip or version lacks the feature", "choose another path for this chip or CANN version"),
    row(200007, 200007, Device, "ACL_ERROR_PROF_MODULES_UNSUPPORTED", "profiling of this module is not possible here", "choose another path for this chip or CANN version"),
    row(207000, 207000, Device, "ACL_ERROR_RT_FEATURE_NOT_SUPPORT", "the chip lacks the feature", "choose another path for this chip or CANN version"),
    row(207001, 207001, Device, "ACL_ERROR_RT_MEMORY_ALLOCATION", "the device has no memory left", "free tensors or empty the cache"),
    row(207002, 207002, Device, "ACL_ERROR_RT_MEMORY_FREE", "memory cannot be freed", "look for a handle used after its end"),
    row(207003, 207003, NotContext, "ACL_ERROR_RT_AICORE_OVER_FLOW", "a cube kernel overflowed, and streams stop at the first failure", "free what is on the device and reset it, then skip the step or scale down"),
    row(207004, 207004, NotHardware, "ACL_ERROR_RT_NO_DEVICE", "no device is visible", "check the driver and the container's devices"),
    row(207005, 207005, Device, "ACL_ERROR_RT_RESOURCE_ALLOC_FAIL", "the runtime has no object left", "reuse streams and events"),
    row(207006, 207006, NotHardware, "ACL_ERROR_RT_NO_PERMISSION", "the process may not use the driver", "check the user's group and the container"),
    row(207007, 207007, Device, "ACL_ERROR_RT_NO_EVENT_RESOURCE", "no event is left", "reuse events"),
    row(207008, 207008, Device, "ACL_ERROR_RT_NO_STREAM_RESOURCE", "no stream is left", "reuse streams"),
    row(207009, 207009, Device, "ACL_ERROR_RT_NO_NOTIFY_RESOURCE", "no notify is left", "reuse notifies"),
    row(207010, 207010, Device, "ACL_ERROR_RT_NO_MODEL_RESOURCE", "no graph is left", "free graphs"),
    row(207012, 207012, Device, "ACL_ERROR_RT_OVER_LIMIT", "a limit of runtime objects is reached", "reuse streams and events"),
    row(207013, 207014, Device, "ACL_ERROR_RT_QUEUE_EMPTY or _QUEUE_FULL", "a queue is empty or full", "try again"),
    row(207015, 207015, Device, "ACL_ERROR_RT_REPEATED_INIT", "a queue is initialised already", "go on"),
    row(207016, 207017, NotContext, "ACL_ERROR_RT_AIVEC_OVER_FLOW or _OVER_FLOW", "a kernel overflowed, and streams stop at the first failure", "free what is on the device and reset it, then skip the step or scale down"),
    row(207018, 207018, Device, "ACL_ERROR_RT_DEVICE_OOM", "the device has no memory left", "free tensors or empty the cache"),
    row(207020, 207021, NotContext, "driver time-out or link type", "the driver does not answer or the link is of another type", "restart, and check the topology"),
    row(245000, 245002, Device, "ACL_ERROR_GE_MEMORY_ family", "the graph engine has no memory", "free memory"),
    row(300000, 300000, Device, "ACL_ERROR_STORAGE_OVER_LIMIT", "dumps or logs fill their storage", "free disk space"),
    row(345102, 345104, Device, "ACL_ERROR_GE_LOAD family", "the graph engine cannot load a model", "check the model file"),
    row(361001, 361001, Device, "ACLNN_ERR_RUNTIME_ERROR", "a runtime call inside the operator failed", "read CANN's text for the inner code"),
    row(500000, 500005, NotContext, "ACL_ERROR_FAILURE family", "an internal part of CANN failed", "free what is on the device and reset it"),
    row(507000, 507001, NotContext, "ACL_ERROR_RT_INTERNAL_ERROR or _TS_ERROR", "the task scheduler failed", "free what is on the device and reset it"),
    row(507002, 507002, Device, "ACL_ERROR_RT_STREAM_TASK_FULL", "the stream's queue is full", "wait and try again"),
    row(507008, 507008, Device, "ACL_ERROR_RT_SOC_VERSION", "the chip's version is unknown or wrong", "check the driver and the operator package"),
    row(507010, 507010, NotHardware, "ACL_ERROR_RT_LOST_HEARTBEAT", "the device does not answer any more", "restart the device"),
    row(507011, 507011, NotContext, "ACL_ERROR_RT_MODEL_EXECUTE", "a captured graph failed", "look for the failure of the kernel in it; free what is on the device and reset it"),
    row(507012, 507012, Device, "ACL_ERROR_RT_REPORT_TIMEOUT", "no report of the device came in time", "wait again"),
    row(507013, 507013, NotContext, "ACL_ERROR_RT_SYS_DMA", "a copy between host and device failed", "free what is on the device and reset it"),
    row(507014, 507014, NotContext, "ACL_ERROR_RT_AICORE_TIMEOUT", "a cube kernel ran too long", "free what is on the device and reset it"),
    row(507015, 507015, NotContext, "ACL_ERROR_RT_AICORE_EXCEPTION", "a cube kernel met a bad address, index or tiling", "free what is on the device and reset it, and find the op by synchronising after each"),
    row(507016, 507016, NotContext, "ACL_ERROR_RT_AICORE_TRAP_EXCEPTION", "an assertion failed in a cube kernel", "free what is on the device and reset it"),
    row(507017, 507018, NotContext, "ACL_ERROR_RT_AICPU_TIMEOUT or _AICPU_EXCEPTION", "a kernel on the device's scalar processors failed or ran too long", "free what is on the device and reset it, and see whether a dtype without a fast kernel was used"),
    row(507022, 507022, NotContext, "ACL_ERROR_RT_IPC_ERROR", "memory shared between processes failed", "free what is on the device and reset it"),
    row(507027, 507027, Device, "ACL_ERROR_RT_KERNEL_LOOKUP", "the kernel is not registered", "install the operator package of this chip"),
    row(507033, 507033, NotProcess, "ACL_ERROR_RT_DEV_SETUP_ERROR", "the device cannot be set up", "check that driver and CANN fit and that the card is free"),
    row(507034, 507034, NotContext, "ACL_ERROR_RT_VECTOR_CORE_TIMEOUT", "a vector kernel ran too long", "free what is on the device and reset it"),
    row(507035, 507035, NotContext, "ACL_ERROR_RT_VECTOR_CORE_EXCEPTION", "a vector kernel met a bad address, index or tiling", "free what is on the device and reset it, and find the op by synchronising after each"),
    row(507036, 507036, NotContext, "ACL_ERROR_RT_VECTOR_CORE_TRAP_EXCEPTION", "an assertion failed in a vector kernel", "free what is on the device and reset it"),
    row(507042, 507045, NotContext, "ACL_ERROR_RT_ core trap read or write overflow", "a kernel left its memory", "free what is on the device and reset it"),
    row(507046, 507046, NotStream, "ACL_ERROR_RT_STREAM_SYNC_TIMEOUT", "a wait for a stream ran out of time; its work may go on", "look for a failed peer"),
    row(507047, 507047, NotStream, "ACL_ERROR_RT_EVENT_SYNC_TIMEOUT", "a wait for an event ran out of time; the work may go on", "look for a failed peer"),
    row(507048, 507050, NotContext, "ACL_ERROR_RT_FFTS_PLUS_ family", "a task over several cores failed", "free what is on the device and reset it"),
    row(507053, 507053, NotContext, "ACL_ERROR_RT_DEVICE_MEM_ERROR", "the device's memory has an error that cannot be corrected", "free what is on the device and reset it, and load the last good state"),
    row(507054, 507054, NotContext, "ACL_ERROR_RT_HBM_MULTI_BIT_ECC_ERROR", "the device's memory has a fault", "free what is on the device and reset it, and replace the card if it comes again"),
    row(507055, 507055, NotContext, "ACL_ERROR_RT_SUSPECT_DEVICE_MEM_ERROR", "the device's memory is likely at fault", "free what is on the device and reset it"),
    row(507056, 507056, NotContext, "ACL_ERROR_RT_LINK_ERROR", "the link between cards failed", "free what is on the device and reset it, and build the communicators anew"),
    row(507057, 507057, NotContext, "ACL_ERROR_RT_SUSPECT_REMOTE_ERROR", "another card is likely at fault", "free what is on the device and reset it"),
    row(507899, 507899, NotProcess, "ACL_ERROR_RT_DRV_INTERNAL_ERROR", "the driver failed", "restart the process, then check the driver"),
    row(507900, 507902, NotProcess, "ACL_ERROR_RT_AICPU_INTERNAL_ERROR family", "the service of the device's scalar processors failed", "restart the process"),
    row(507903, 507903, Device, "ACL_ERROR_RT_CAPTURE_INVALIDATED", "a forbidden call ended the capture", "end the capture and start it again"),
    row(507904, 507904, NotContext, "ACL_ERROR_RT_COMM_OP_RETRY_FAIL", "a collective gave up", "build the communicators anew; free what is on the device and reset it"),
    row(507905, 507909, Device, "ACL_ERROR_RT_ snapshot family", "a snapshot call failed", "correct the call"),
    row(507910, 507911, Device, "ACL_ERROR_HOST_MEMORY_ALREADY_REGISTERED or _NOT_REGISTERED", "host memory is pinned already, or not at all", "correct the call"),
    row(507912, 507913, Device, "ACL_ERROR_RT_ snapshot family", "a snapshot call failed", "correct the call"),
    row(507914, 507916, NotHardware, "ACL_ERROR_RT_ fabric family", "the fabric between cards failed", "check the hardware"),
    row(545000, 545999, Device, "ACL_ERROR_GE_ internal family", "the graph engine failed", "read CANN's text"),
    row(561000, 561000, Device, "ACLNN_ERR_INNER", "the operator failed inside", "read CANN's text"),
    row(561001, 561001, Device, "ACLNN_ERR_INNER_INFERSHAPE_ERROR", "the operator refuses the shapes", "check its limits of shapes"),
    row(561002, 561002, Device, "ACLNN_ERR_INNER_TILING_ERROR", "the operator cannot split these shapes", "check its limits of shapes"),
    row(561003, 561003, Device, "ACLNN_ERR_INNER_FIND_KERNEL_ERROR", "there is no kernel for this dtype, format and chip", "cast the tensors, or install the operator package of this chip"),
    row(561101, 561101, Device, "ACLNN_ERR_INNER_CREATE_EXECUTOR", "the operator cannot make its executor", "read CANN's text"),
    row(561102, 561102, Device, "ACLNN_ERR_INNER_NOT_TRANS_EXECUTOR", "the operator did not hand over its executor", "read CANN's text"),
    row(561103, 561103, Device, "ACLNN_ERR_INNER_NULLPTR", "the operator met a null inside", "read CANN's text"),
    row(561104, 561106, Device, "ACLNN_ERR_INNER_WRONG_ATTR_INFO_SIZE, _KEY_CONFLICT or _INVALID_IMPL_MODE", "the operator is registered wrongly", "install the operator package of this chip"),
    row(561107, 561107, NotProcess, "ACLNN_ERR_INNER_OPP_PATH_NOT_FOUND", "the operator package's path is not set", "set ASCEND_OPP_PATH as CANN's environment script does"),
    row(561108, 561111, NotProcess, "ACLNN_ERR_INNER_LOAD_JSON_FAILED family", "a kernel's description cannot be read", "install the operator package again"),
    row(561112, 561112, NotProcess, "ACLNN_ERR_INNER_OPP_KERNEL_PKG_NOT_FOUND", "this chip's kernels are not installed", "install the operator package of this chip"),
    row(561113, 561119, NotProcess, "ACLNN_ERR_INNER_OP_FILE_INVALID family", "a kernel file is damaged", "install the operator package again"),
];

/// What the codes that no table names have in common: that of their family.
fn family(code: i32) -> Row {
    let (usable, meaning) = match code.div_euclid(100_000) {
        1 => (Device, "the caller's arguments or their order are wrong"),
        2 => (Device, "a resource is missing or a feature is not there"),
        3 => (Device, "a state or storage does not admit the call"),
        5 if (560_000..570_000).contains(&code) => (Device, "an operator failed inside"),
        _ => (
            NotContext,
            "an internal part, the driver or the device failed",
        ),
    };
    row(
        code,
        code,
        usable,
        "unknown code",
        meaning,
        "look the code up in this CANN's manual",
    )
}

/// All that is known of a code.
fn find(code: i32) -> Row {
    let next = TABLE.partition_point(|row| row.last < code);
    match TABLE.get(next) {
        Some(found) if found.first <= code => row(
            found.first,
            found.last,
            found.usable,
            found.name,
            found.meaning,
            found.action,
        ),
        _ => family(code),
    }
}

/// The error of a failed call; `detail` is CANN's own text.
pub(super) fn describe(
    op: &'static str,
    call: &'static str,
    code: i32,
    detail: Box<str>,
) -> AclError {
    let Row {
        name,
        meaning,
        action,
        usable,
        ..
    } = find(code);
    AclError {
        op,
        call,
        code,
        name,
        meaning,
        action,
        usable,
        detail,
    }
}

/// Whether a code says only that this chip or version lacks a feature.
pub(super) const fn is_unsupported(code: i32) -> bool {
    matches!(code, 200_001 | 200_006 | 207_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_apart() {
        for pair in TABLE.windows(2) {
            assert!(
                pair[0].last < pair[1].first,
                "{:?} and {:?}",
                pair[0],
                pair[1]
            );
        }
        for row in TABLE {
            assert!(row.first <= row.last);
            for text in [row.meaning, row.action] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{row:?}");
            }
        }
    }

    #[test]
    fn codes_are_found() {
        assert_eq!(find(207_001).name, "ACL_ERROR_RT_MEMORY_ALLOCATION");
        assert_eq!(find(145_010).first, 145_000);
        assert_eq!(find(507_015).usable, NotContext);
        assert_eq!(find(507_046).usable, NotStream);
        assert_eq!(find(507_010).usable, NotHardware);
        assert_eq!(find(100_039).usable, NotProcess);
    }

    #[test]
    fn unknown_codes_get_their_family() {
        assert_eq!(find(107_999).usable, Device);
        assert_eq!(find(561_999).usable, Device);
        assert_eq!(find(507_777).usable, NotContext);
        assert_eq!(find(-1).usable, NotContext);
        assert_eq!(find(i32::MAX).name, "unknown code");
    }
}
