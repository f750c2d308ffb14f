//! Devices and contexts: selecting, resetting, synchronising, options.
//!
//! Knows the rules of counts and threads; it must not know how streams work.

use super::hooks;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::kernel::Family;
use crate::memory;
use crate::state::{self, CONTEXTS, Context, Device, context, context_even_poisoned, world};
use crate::stream::STREAMS;
use ascend_sys::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetDevice(deviceId: i32) -> aclError {
    call("aclrtSetDevice", || {
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        hooks::device(deviceId, hooks::SET_PRE);
        state::join_primary(device);
        hooks::device(deviceId, hooks::SET_POST);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetDevice(deviceId: i32) -> aclError {
    call("aclrtResetDevice", || reset(deviceId, false))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetDeviceForce(deviceId: i32) -> aclError {
    call("aclrtResetDeviceForce", || reset(deviceId, true))
}

fn reset(id: i32, force: bool) -> Result<(), Failure> {
    let world = world()?;
    let device = world.device(i64::from(id))?;
    let last = {
        let mut references = device
            .references
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *references == 0 {
            return Err(Failure::new(
                code::RT_INVALID_DEVICEID,
                format!("device {id} is not set, nothing to reset"),
            ));
        }
        *references = if force { 0 } else { *references - 1 };
        *references == 0
    };
    if !last {
        return Ok(());
    }
    hooks::device(id, hooks::RESET_PRE);
    let done = release(device);
    hooks::device(id, hooks::RESET_POST);
    done
}

/// Waits for the primary context's work, ends it and frees what lies on the device.
fn release(device: &Arc<Device>) -> Result<(), Failure> {
    let primary = device
        .primary
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let lost = device.failure().is_some();
    for stream in device.streams() {
        if lost {
            stream.abort(code::RT_DEVICE_TASK_ABORT);
        }
        let _ = stream.synchronize(Some(Duration::from_secs(60)));
        stream.close();
        // A stream that its user destroyed just now may still be finishing: it is no longer known, and that is in order.
        let _ = STREAMS.take(std::ptr::without_provenance::<()>(stream.handle));
    }
    for (handle, context, _) in CONTEXTS.living() {
        if Arc::ptr_eq(&context.device, device) {
            context.kill();
            let _ = CONTEXTS.take(std::ptr::without_provenance::<()>(handle));
        }
    }
    drop(primary);
    memory::clear(Some(device.id));
    device.used.store(0, Ordering::Release);
    device.heal();
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDevice(deviceId: *mut i32) -> aclError {
    call("aclrtGetDevice", || {
        let context = context_even_poisoned()?;
        // SAFETY: null or valid for a write.
        unsafe { give(deviceId, "deviceId", context.device.id as i32) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceCount(count: *mut u32) -> aclError {
    call("aclrtGetDeviceCount", || {
        let devices = world()?.devices.len() as u32;
        // SAFETY: null or valid for a write.
        unsafe { give(count, "count", devices) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtQueryDeviceStatus(
    deviceId: i32,
    deviceStatus: *mut aclrtDeviceStatus,
) -> aclError {
    call("aclrtQueryDeviceStatus", || {
        let lost = world()?.device(i64::from(deviceId))?.failure().is_some();
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                deviceStatus,
                "deviceStatus",
                u32::from(lost) as aclrtDeviceStatus,
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetPrimaryCtxState(
    deviceId: i32,
    flags: *mut u32,
    active: *mut i32,
) -> aclError {
    call("aclrtGetPrimaryCtxState", || {
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        let alive = device
            .primary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if !flags.is_null() {
            // SAFETY: not null, and valid for a write.
            unsafe { flags.write(0) };
        }
        // SAFETY: null or valid for a write.
        unsafe { give(active, "active", i32::from(alive)) }
    })
}

fn synchronize_device(timeout: Option<Duration>) -> Result<(), Failure> {
    crate::callback::refuse_within()?;
    let context = context_even_poisoned()?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut outcome = Ok(());
    let streams = context.device.streams();
    for stream in &streams {
        super::stream::refuse_captured(stream)?;
    }
    for stream in streams {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let this = stream.synchronize(left);
        outcome = outcome.and(this);
    }
    match context.device.failure() {
        Some(failure) => Err(failure),
        None => outcome,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeDevice() -> aclError {
    call("aclrtSynchronizeDevice", || synchronize_device(None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeDeviceWithTimeout(timeout: i32) -> aclError {
    call("aclrtSynchronizeDeviceWithTimeout", || {
        synchronize_device(super::stream::milliseconds(timeout)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceTaskAbort(deviceId: i32, timeout: u32) -> aclError {
    call("aclrtDeviceTaskAbort", || {
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        super::hooks::abort(deviceId, ACL_RT_DEVICE_TASK_ABORT_PRE, timeout);
        for stream in device.streams() {
            stream.abort(code::RT_DEVICE_TASK_ABORT);
            let _ = stream.synchronize(Some(Duration::from_secs(10)));
            stream.resume();
        }
        super::hooks::abort(deviceId, ACL_RT_DEVICE_TASK_ABORT_POST, timeout);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateContext(context: *mut aclrtContext, deviceId: i32) -> aclError {
    call("aclrtCreateContext", || {
        not_null(context, "context")?;
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        if let Some(failure) = device.failure() {
            return Err(failure);
        }
        let made = Context::create(device, false);
        state::select(Some(Arc::clone(&made)));
        // SAFETY: checked for null, valid for a write.
        unsafe {
            give(
                context,
                "context",
                std::ptr::without_provenance_mut(made.handle),
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyContext(context: aclrtContext) -> aclError {
    call("aclrtDestroyContext", || {
        not_null(context, "context")?;
        if CONTEXTS.get(context)?.primary {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "the primary context is released by aclrtResetDevice, not destroyed",
            ));
        }
        let context = CONTEXTS.remove(context)?;
        let stream = context.default_stream();
        let _ = stream.synchronize(Some(Duration::from_secs(60)));
        let _ = STREAMS.remove(std::ptr::without_provenance::<()>(stream.handle));
        context.kill();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetCurrentContext(context: aclrtContext) -> aclError {
    call("aclrtSetCurrentContext", || {
        not_null(context, "context")?;
        state::select(Some(CONTEXTS.get(context)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetCurrentContext(context: *mut aclrtContext) -> aclError {
    call("aclrtGetCurrentContext", || {
        let current = context_even_poisoned()?;
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                context,
                "context",
                std::ptr::without_provenance_mut(current.handle),
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCtxGetCurrentDefaultStream(stream: *mut aclrtStream) -> aclError {
    call("aclrtCtxGetCurrentDefaultStream", || {
        let default = context()?.default_stream();
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                stream,
                "stream",
                std::ptr::without_provenance_mut(default.handle),
            )
        }
    })
}

fn check_option(option: i64) -> Result<(), Failure> {
    if (0..=3).contains(&option) {
        return Ok(());
    }
    Err(Failure::new(
        code::RT_PARAM_INVALID,
        format!("option {option} is unknown"),
    ))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetSysParamOpt(opt: aclSysParamOpt, value: i64) -> aclError {
    call("aclrtSetSysParamOpt", || {
        check_option(i64::from(opt))?;
        let world = world()?;
        world
            .options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(i64::from(opt), value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetSysParamOpt(opt: aclSysParamOpt, value: *mut i64) -> aclError {
    call("aclrtGetSysParamOpt", || {
        check_option(i64::from(opt))?;
        let world = world()?;
        let options = world.options.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                value,
                "value",
                options.get(&i64::from(opt)).copied().unwrap_or(0),
            )
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCtxSetSysParamOpt(opt: aclSysParamOpt, value: i64) -> aclError {
    call("aclrtCtxSetSysParamOpt", || {
        check_option(i64::from(opt))?;
        let context = context()?;
        context
            .options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(i64::from(opt), value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCtxGetSysParamOpt(opt: aclSysParamOpt, value: *mut i64) -> aclError {
    call("aclrtCtxGetSysParamOpt", || {
        check_option(i64::from(opt))?;
        let context = context()?;
        let options = context
            .options
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let set = options.get(&i64::from(opt)).copied().ok_or_else(|| {
            Failure::new(
                code::RT_SYSPARAMOPT_NOT_SET,
                format!("option {opt} is not set in this context"),
            )
        })?;
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", set) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetDeviceSatMode(mode: aclrtFloatOverflowMode) -> aclError {
    call("aclrtSetDeviceSatMode", || {
        let context = context()?;
        let allowed = match world()?.family {
            Family::A2 | Family::A3 => mode <= 1,
            Family::A950 => mode == 1,
            _ => mode == 0,
        };
        if !allowed {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                format!("this chip has no overflow mode {mode}"),
            ));
        }
        context
            .device
            .saturation
            .store(mode as i32, Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceSatMode(mode: *mut aclrtFloatOverflowMode) -> aclError {
    call("aclrtGetDeviceSatMode", || {
        let now = context()?.device.saturation.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { give(mode, "mode", now as aclrtFloatOverflowMode) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceCanAccessPeer(
    canAccessPeer: *mut i32,
    deviceId: i32,
    peerDeviceId: i32,
) -> aclError {
    call("aclrtDeviceCanAccessPeer", || {
        let world = world()?;
        world.device(i64::from(deviceId))?;
        world.device(i64::from(peerDeviceId))?;
        if deviceId == peerDeviceId {
            return Err(Failure::new(
                code::RT_INVALID_DEVICEID,
                "the two devices are the same, wanted two",
            ));
        }
        // SAFETY: null or valid for a write.
        unsafe { give(canAccessPeer, "canAccessPeer", 1) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceEnablePeerAccess(peerDeviceId: i32, flags: u32) -> aclError {
    call("aclrtDeviceEnablePeerAccess", || {
        let context = context()?;
        world()?.device(i64::from(peerDeviceId))?;
        if flags != 0 || i64::from(peerDeviceId) == i64::from(context.device.id) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("peer {peerDeviceId} with flags {flags}, wanted another device and 0"),
            ));
        }
        context
            .device
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peerDeviceId);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceDisablePeerAccess(peerDeviceId: i32) -> aclError {
    call("aclrtDeviceDisablePeerAccess", || {
        let context = context()?;
        if !context
            .device
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&peerDeviceId)
        {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("access to peer {peerDeviceId} was not enabled"),
            ));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDevicePeerAccessStatus(
    deviceId: i32,
    peerDeviceId: i32,
    status: *mut i32,
) -> aclError {
    call("aclrtDevicePeerAccessStatus", || {
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        let on = device
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&peerDeviceId);
        // SAFETY: null or valid for a write.
        unsafe { give(status, "status", i32::from(on)) }
    })
}

/// An identifier that is the same on every run: the first bytes name the emulator, the last four are the device's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetUuid(deviceId: i32, uuid: *mut aclrtUuid) -> aclError {
    call("aclrtDeviceGetUuid", || {
        let number = world()?.device(i64::from(deviceId))?.id;
        let mut bytes = *b"ascend-emul-\0\0\0\0";
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                uuid,
                "uuid",
                aclrtUuid {
                    bytes: bytes.map(|byte| byte as _),
                },
            )
        }
    })
}
