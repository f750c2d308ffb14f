//! Streams: creation, synchronisation, failure modes, callbacks.
//!
//! Knows the calls' rules; it must not know how queues work.

use super::hooks;
use crate::callback::{self, Callback};
use crate::failure::{Failure, code};
use crate::guard::{call, give};
use crate::state::{Context, context, context_even_poisoned};
use crate::stream::{STREAMS, Stream};
use ascend_sys::*;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The stream that a handle means in a context: null is the default stream; a stream of another context is refused.
pub(crate) fn resolve(context: &Context, stream: aclrtStream) -> Result<Arc<Stream>, Failure> {
    if stream.is_null() {
        return Ok(context.default_stream());
    }
    let stream = STREAMS.get(stream)?;
    if stream.context != context.handle {
        return Err(Failure::new(
            code::RT_STREAM_CONTEXT,
            "the stream belongs to another context than the current one",
        ));
    }
    Ok(stream)
}

/// Refuses a call that a capture does not allow.
pub(crate) fn refuse_captured(stream: &Stream) -> Result<(), Failure> {
    if let Some(capture) = stream.capture() {
        capture.break_off("a call that is illegal in a capture");
        return Err(Failure::new(
            code::RT_STREAM_CAPTURED,
            "the stream is being captured",
        ));
    }
    Ok(())
}

/// A timeout in milliseconds where -1 is forever and `zero` says whether 0 is refused.
pub(crate) fn milliseconds(timeout: i32) -> Result<Option<Duration>, Failure> {
    match timeout {
        -1 => Ok(None),
        1.. => Ok(Some(Duration::from_millis(timeout as u64))),
        _ => Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("timeout is {timeout} ms, wanted -1 or a positive number"),
        )),
    }
}

fn limit(soc: &str) -> usize {
    use crate::kernel::Family;
    match crate::state::family(soc) {
        Family::A2 | Family::A3 | Family::A950 => 1984,
        Family::B310 => 512,
        Family::P310 => 1024,
        Family::A910 => 2048,
    }
}

pub(super) unsafe fn create(
    stream: *mut aclrtStream,
    priority: u32,
    flags: u32,
) -> Result<(), Failure> {
    let context = context()?;
    crate::guard::not_null(stream, "stream")?;
    if flags & !0x3f != 0 {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("stream flags {flags:#x} are unknown"),
        ));
    }
    let world = crate::state::world()?;
    let limit = limit(&world.settings.soc);
    if context.device.streams().len() >= limit {
        return Err(Failure::new(
            code::RT_NO_STREAM_RESOURCE,
            format!("device {} has {limit} streams already", context.device.id),
        ));
    }
    let made = Stream::create(context.handle, &context.device, priority, flags, false);
    // SAFETY: checked for null, valid by the contract of the C function.
    unsafe {
        give(
            stream,
            "stream",
            std::ptr::without_provenance_mut(made.handle),
        )
    }?;
    hooks::stream(made.handle, hooks::CREATED);
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStream(stream: *mut aclrtStream) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtCreateStream", || unsafe { create(stream, 0, 0) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStreamWithConfig(
    stream: *mut aclrtStream,
    priority: u32,
    flag: u32,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtCreateStreamWithConfig", || unsafe {
        create(stream, priority, flag)
    })
}

fn destroy(stream: aclrtStream, force: bool) -> Result<(), Failure> {
    crate::guard::not_null(stream, "stream")?;
    let found = STREAMS.get(stream)?;
    context_even_poisoned()?;
    if found.is_default {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            "the default stream is never destroyed by its user",
        ));
    }
    if found.capture().is_some() {
        return Err(Failure::new(
            code::RT_STREAM_CAPTURED,
            "the stream is being captured",
        ));
    }
    hooks::stream(found.handle, hooks::DESTROYING);
    STREAMS.remove(stream)?;
    if force {
        found.abort(code::RT_STREAM_ABORT);
    }
    found.close();
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyStream(stream: aclrtStream) -> aclError {
    call("aclrtDestroyStream", || destroy(stream, false))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyStreamForce(stream: aclrtStream) -> aclError {
    call("aclrtDestroyStreamForce", || destroy(stream, true))
}

/// Synchronising is possible on a poisoned device: it answers with the failure.
fn synchronize(stream: aclrtStream, timeout: Option<Duration>) -> Result<(), Failure> {
    callback::refuse_within()?;
    let context = context_even_poisoned()?;
    let stream = resolve(&context, stream)?;
    refuse_captured(&stream)?;
    let outcome = stream.synchronize(timeout);
    match context.device.failure() {
        Some(failure) => Err(failure),
        None => outcome,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeStream(stream: aclrtStream) -> aclError {
    call("aclrtSynchronizeStream", || synchronize(stream, None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeStreamWithTimeout(
    stream: aclrtStream,
    timeout: i32,
) -> aclError {
    call("aclrtSynchronizeStreamWithTimeout", || {
        synchronize(stream, milliseconds(timeout)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamQuery(
    stream: aclrtStream,
    status: *mut aclrtStreamStatus,
) -> aclError {
    call("aclrtStreamQuery", || {
        let stream = resolve(&*context()?, stream)?;
        refuse_captured(&stream)?;
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                status,
                "status",
                u32::from(!stream.is_idle()) as aclrtStreamStatus,
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamAbort(stream: aclrtStream) -> aclError {
    call("aclrtStreamAbort", || {
        crate::guard::not_null(stream, "stream")?;
        let stream = resolve(&*context_even_poisoned()?, stream)?;
        stream.abort(code::RT_STREAM_ABORT);
        let _ = stream.synchronize(None);
        stream.resume();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamGetId(stream: aclrtStream, streamId: *mut i32) -> aclError {
    call("aclrtStreamGetId", || {
        let stream = resolve(&*context()?, stream)?;
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                streamId,
                "streamId",
                (callback::number_of(&stream) & 0xffff) as i32,
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamGetFlags(stream: aclrtStream, flags: *mut u32) -> aclError {
    call("aclrtStreamGetFlags", || {
        let stream = resolve(&*context()?, stream)?;
        // SAFETY: null or valid for a write.
        unsafe { give(flags, "flags", stream.flags) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamGetPriority(
    stream: aclrtStream,
    priority: *mut u32,
) -> aclError {
    call("aclrtStreamGetPriority", || {
        let stream = resolve(&*context()?, stream)?;
        // SAFETY: null or valid for a write.
        unsafe { give(priority, "priority", stream.priority) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetStreamPriorityRange(
    least: *mut i32,
    greatest: *mut i32,
) -> aclError {
    call("aclrtDeviceGetStreamPriorityRange", || {
        context()?;
        // SAFETY: null or valid for a write.
        unsafe { give(least, "leastPriority", 7) }?;
        // SAFETY: null or valid for a write.
        unsafe { give(greatest, "greatestPriority", 0) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetStreamAvailableNum(streamCount: *mut u32) -> aclError {
    call("aclrtGetStreamAvailableNum", || {
        let context = context()?;
        let world = crate::state::world()?;
        let left = limit(&world.settings.soc).saturating_sub(context.device.streams().len());
        // SAFETY: null or valid for a write.
        unsafe { give(streamCount, "streamCount", left as u32) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetStreamFailureMode(stream: aclrtStream, mode: u64) -> aclError {
    call("aclrtSetStreamFailureMode", || {
        set_failure_mode(stream, mode)
    })
}

pub(super) fn set_failure_mode(stream: aclrtStream, mode: u64) -> Result<(), Failure> {
    let context = context()?;
    let stream = resolve(&context, stream)?;
    if mode > 1 {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("failure mode is {mode}, wanted 0 or 1"),
        ));
    }
    let before = stream.failure_mode.swap(mode, Ordering::AcqRel);
    if before == 1 && mode == 0 {
        stream.failure_mode.store(1, Ordering::Release);
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            "STOP_ON_FAILURE cannot be taken back",
        ));
    }
    if mode == 1 {
        context.stop_on_failure.store(true, Ordering::Release);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetStreamOverflowSwitch(stream: aclrtStream, flag: u32) -> aclError {
    call("aclrtSetStreamOverflowSwitch", || {
        let stream = resolve(&*context()?, stream)?;
        stream
            .overflow_switch
            .store(u64::from(flag), Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetStreamOverflowSwitch(
    stream: aclrtStream,
    flag: *mut u32,
) -> aclError {
    call("aclrtGetStreamOverflowSwitch", || {
        let stream = resolve(&*context()?, stream)?;
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                flag,
                "flag",
                stream.overflow_switch.load(Ordering::Acquire) as u32,
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtLaunchHostFunc(
    stream: aclrtStream,
    fn_: aclrtHostFunc,
    args: *mut c_void,
) -> aclError {
    call("aclrtLaunchHostFunc", || {
        let stream = resolve(&*context()?, stream)?;
        let function =
            fn_.ok_or_else(|| Failure::new(code::INVALID_PARAM, "the function is null"))?;
        let argument = args.expose_provenance();
        callback::launch_host(&stream, Callback { function, argument })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtLaunchCallback(
    fn_: aclrtCallback,
    userData: *mut c_void,
    blockType: aclrtCallbackBlockType,
    stream: aclrtStream,
) -> aclError {
    call("aclrtLaunchCallback", || {
        let stream = resolve(&*context()?, stream)?;
        let function =
            fn_.ok_or_else(|| Failure::new(code::INVALID_PARAM, "the function is null"))?;
        if blockType > 1 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("blockType is {blockType}, wanted 0 or 1"),
            ));
        }
        let argument = userData.expose_provenance();
        callback::launch_subscribed(&stream, Callback { function, argument }, blockType == 1)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSubscribeReport(threadId: u64, stream: aclrtStream) -> aclError {
    call("aclrtSubscribeReport", || {
        callback::subscribe(&*resolve(&*context()?, stream)?, threadId)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtUnSubscribeReport(threadId: u64, stream: aclrtStream) -> aclError {
    call("aclrtUnSubscribeReport", || {
        callback::unsubscribe(&*resolve(&*context_even_poisoned()?, stream)?, threadId)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtProcessReport(timeout: i32) -> aclError {
    call("aclrtProcessReport", || callback::process(timeout))
}

unsafe fn add_hook(callback: aclrtExceptionInfoCallback, only: bool) -> Result<(), Failure> {
    let Some(callback) = callback else {
        callback::clear_hooks();
        return Ok(());
    };
    // SAFETY: both types are C functions with one pointer argument; the argument is only read through our own functions.
    let hook = unsafe {
        std::mem::transmute::<unsafe extern "C" fn(*mut aclrtExceptionInfo), callback::Hook>(
            callback,
        )
    };
    callback::add_hook(hook, only);
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetExceptionInfoCallback(
    callback: aclrtExceptionInfoCallback,
) -> aclError {
    // SAFETY: null or a function of this type.
    call("aclrtSetExceptionInfoCallback", || unsafe {
        add_hook(callback, true)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtExceptionInfoCallbackRegister(
    callback: aclrtExceptionInfoCallback,
) -> aclError {
    // SAFETY: null or a function of this type.
    call("aclrtExceptionInfoCallbackRegister", || unsafe {
        add_hook(callback, false)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtExceptionInfoCallbackUnregister(
    callback: aclrtExceptionInfoCallback,
) -> aclError {
    call("aclrtExceptionInfoCallbackUnregister", || {
        let unknown = || Failure::new(code::INVALID_PARAM, "the callback was not registered");
        let callback = callback.ok_or_else(unknown)?;
        // SAFETY: as in `add_hook`.
        let hook = unsafe {
            std::mem::transmute::<unsafe extern "C" fn(*mut aclrtExceptionInfo), callback::Hook>(
                callback,
            )
        };
        if callback::remove_hook(hook) {
            Ok(())
        } else {
            Err(unknown())
        }
    })
}

unsafe fn info(
    name: &'static str,
    info: *const aclrtExceptionInfo,
    part: fn(&callback::ExceptionInfo) -> u32,
) -> u32 {
    crate::guard::value(name, u32::MAX, || {
        crate::guard::not_null(info, "info")?;
        // SAFETY: not null; infos are only made by `callback::report` and are valid inside of the callback.
        Ok(part(unsafe { &*info.cast::<callback::ExceptionInfo>() }))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetTaskIdFromExceptionInfo(info: *const aclrtExceptionInfo) -> u32 {
    // SAFETY: as the C function.
    unsafe { self::info("aclrtGetTaskIdFromExceptionInfo", info, |info| info.task) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetStreamIdFromExceptionInfo(info: *const aclrtExceptionInfo) -> u32 {
    // SAFETY: as the C function.
    unsafe {
        self::info("aclrtGetStreamIdFromExceptionInfo", info, |info| {
            info.stream
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetThreadIdFromExceptionInfo(info: *const aclrtExceptionInfo) -> u32 {
    // SAFETY: as the C function.
    unsafe {
        self::info("aclrtGetThreadIdFromExceptionInfo", info, |info| {
            info.thread
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceIdFromExceptionInfo(info: *const aclrtExceptionInfo) -> u32 {
    // SAFETY: as the C function.
    unsafe {
        self::info("aclrtGetDeviceIdFromExceptionInfo", info, |info| {
            info.device
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetErrorCodeFromExceptionInfo(
    info: *const aclrtExceptionInfo,
) -> u32 {
    // SAFETY: as the C function.
    unsafe { self::info("aclrtGetErrorCodeFromExceptionInfo", info, |info| info.code) }
}
