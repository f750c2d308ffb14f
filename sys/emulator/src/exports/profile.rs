//! Profiling and dump: the order of calls is checked, nothing is measured.
//!
//! Knows the states of a profiling session; it must not know what a profile holds.

use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, value};
use crate::registry::{Kind, Registry};
use ascend_sys::*;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static INITIALISED: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicBool = AtomicBool::new(false);
static DUMPING: AtomicBool = AtomicBool::new(false);
static RANGE: AtomicU32 = AtomicU32::new(1);

/// Configurations and stamps: nothing but names.
static PLAIN: Registry<()> = Registry::new(Kind::Plain, code::INVALID_PARAM);

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Changes a state; the wrong state before is refused with a code.
fn turn(state: &AtomicBool, to: bool, refused: i32, text: &'static str) -> Result<(), Failure> {
    if state.swap(to, Ordering::AcqRel) == to {
        return Err(Failure::new(refused, text));
    }
    Ok(())
}

fn running() -> Result<(), Failure> {
    if RUNNING.load(Ordering::Acquire) {
        return Ok(());
    }
    Err(Failure::new(
        code::PROF_NOT_RUN,
        "no profiling session runs",
    ))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofInit(profilerResultPath: *const c_char, length: usize) -> aclError {
    call("aclprofInit", || {
        not_null(profilerResultPath, "profilerResultPath")?;
        if length == 0 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "length is 0, wanted the length of the path",
            ));
        }
        turn(
            &INITIALISED,
            true,
            code::PROF_ALREADY_RUN,
            "profiling is initialised already",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofFinalize() -> aclError {
    call("aclprofFinalize", || {
        RUNNING.store(false, Ordering::Release);
        turn(
            &INITIALISED,
            false,
            code::PROF_NOT_RUN,
            "profiling is not initialised",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofCreateConfig(
    deviceIdList: *mut u32,
    deviceNums: u32,
    _aicoreMetrics: aclprofAicoreMetrics,
    _aicoreEvents: *const aclprofAicoreEvents,
    _dataTypeConfig: u64,
) -> *mut aclprofConfig {
    value("aclprofCreateConfig", ptr::null_mut(), || {
        if deviceNums > 0 {
            not_null(deviceIdList, "deviceIdList")?;
        }
        Ok(PLAIN.insert(()).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofDestroyConfig(profilerConfig: *const aclprofConfig) -> aclError {
    call("aclprofDestroyConfig", || {
        PLAIN.remove(profilerConfig).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofStart(profilerConfig: *const aclprofConfig) -> aclError {
    call("aclprofStart", || {
        PLAIN.get(profilerConfig)?;
        if !INITIALISED.load(Ordering::Acquire) {
            return Err(Failure::new(
                code::PROF_NOT_RUN,
                "profiling is not initialised",
            ));
        }
        turn(
            &RUNNING,
            true,
            code::PROF_ALREADY_RUN,
            "a profiling session runs already",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofStop(profilerConfig: *const aclprofConfig) -> aclError {
    call("aclprofStop", || {
        PLAIN.get(profilerConfig)?;
        turn(
            &RUNNING,
            false,
            code::PROF_NOT_RUN,
            "no profiling session runs",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofSetConfig(
    _configType: aclprofConfigType,
    config: *const c_char,
    _configLength: usize,
) -> aclError {
    call("aclprofSetConfig", || not_null(config, "config"))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofCreateStamp() -> *mut c_void {
    value("aclprofCreateStamp", ptr::null_mut(), || {
        running()?;
        Ok(PLAIN.insert(()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofDestroyStamp(stamp: *mut c_void) {
    value("aclprofDestroyStamp", (), || PLAIN.remove(stamp).map(drop));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofSetStampTraceMessage(
    stamp: *mut c_void,
    msg: *const c_char,
    _msgLen: u32,
) -> aclError {
    call("aclprofSetStampTraceMessage", || {
        not_null(msg, "msg")?;
        PLAIN.get(stamp).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofMark(stamp: *mut c_void) -> aclError {
    call("aclprofMark", || {
        running()?;
        PLAIN.get(stamp).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofMarkEx(
    msg: *const c_char,
    _msgLen: usize,
    stream: aclrtStream,
) -> aclError {
    call("aclprofMarkEx", || {
        running()?;
        not_null(msg, "msg")?;
        super::stream::resolve(&*crate::state::context()?, stream).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofPush(stamp: *mut c_void) -> aclError {
    call("aclprofPush", || {
        running()?;
        PLAIN.get(stamp)?;
        DEPTH.with(|depth| depth.set(depth.get().saturating_add(1)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofPop() -> aclError {
    call("aclprofPop", || {
        running()?;
        let depth = DEPTH.with(Cell::get);
        if depth == 0 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "no range is open on this thread",
            ));
        }
        DEPTH.with(|cell| cell.set(depth - 1));
        Ok(())
    })
}

thread_local! {
    /// Ranges of tensor information that are open on this thread.
    static TENSOR_DEPTH: Cell<u32> = const { Cell::new(0) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofRangePushEx(attr: *mut aclprofEventAttributes) -> aclError {
    call("aclprofRangePushEx", || {
        not_null(attr, "attr")?;
        TENSOR_DEPTH.with(|depth| depth.set(depth.get().saturating_add(1)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofRangePop() -> aclError {
    call("aclprofRangePop", || {
        let depth = TENSOR_DEPTH.with(Cell::get);
        if depth == 0 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "no range is open on this thread: call aclprofRangePushEx first",
            ));
        }
        TENSOR_DEPTH.with(|cell| cell.set(depth - 1));
        Ok(())
    })
}

/// A number that stands for a text: the same for the same text, and never the number that means a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofStr2Id(message: *const c_char) -> u64 {
    value("aclprofStr2Id", u64::MAX, || {
        not_null(message, "message")?;
        // SAFETY: not null, and ends in a zero byte by the contract of the C function.
        let text = unsafe { std::ffi::CStr::from_ptr(message) };
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(text, &mut hasher);
        Ok(std::hash::Hasher::finish(&hasher) >> 1)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofRangeStart(stamp: *mut c_void, rangeId: *mut u32) -> aclError {
    call("aclprofRangeStart", || {
        running()?;
        PLAIN.get(stamp)?;
        // SAFETY: null or valid for a write.
        unsafe { give(rangeId, "rangeId", RANGE.fetch_add(1, Ordering::Relaxed)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofRangeStop(rangeId: u32) -> aclError {
    call("aclprofRangeStop", || {
        running()?;
        if rangeId == 0 || rangeId >= RANGE.load(Ordering::Acquire) {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("range {rangeId} was never started"),
            ));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlInitDump() -> aclError {
    call("aclmdlInitDump", || {
        turn(
            &DUMPING,
            true,
            code::DUMP_ALREADY_RUN,
            "dump is initialised already",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlSetDump(dumpCfgPath: *const c_char) -> aclError {
    call("aclmdlSetDump", || {
        not_null(dumpCfgPath, "dumpCfgPath")?;
        if !DUMPING.load(Ordering::Acquire) {
            return Err(Failure::new(code::DUMP_NOT_RUN, "dump is not initialised"));
        }
        // SAFETY: not null, and a C string by the contract of this function.
        super::init::parse_config(&unsafe { super::init::read_config(dumpCfgPath) }?).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlFinalizeDump() -> aclError {
    call("aclmdlFinalizeDump", || {
        turn(
            &DUMPING,
            false,
            code::DUMP_NOT_RUN,
            "dump is not initialised",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofCreateStepInfo() -> *mut aclprofStepInfo {
    value("aclprofCreateStepInfo", ptr::null_mut(), || {
        Ok(PLAIN.insert(()).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofDestroyStepInfo(stepinfo: *mut aclprofStepInfo) {
    value("aclprofDestroyStepInfo", (), || {
        PLAIN.remove(stepinfo).map(drop)
    });
}

/// A mark at the start or end of a step: nothing is measured.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclprofGetStepTimestamp(
    stepInfo: *mut aclprofStepInfo,
    tag: aclprofStepTag,
    stream: aclrtStream,
) -> aclError {
    call("aclprofGetStepTimestamp", || {
        PLAIN.get(stepInfo)?;
        super::stream::resolve(&*crate::state::context()?, stream)?;
        if tag > 1 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("tag is {tag}, wanted 0 (start) or 1 (end)"),
            ));
        }
        Ok(())
    })
}
