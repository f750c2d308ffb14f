//! Limits on cores, hints, and questions about faults that an emulated device never has.
//!
//! Knows numbers that programs set and read back; it must not know kernels: an emulated one has no cores.

use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::kernel::Family;
use crate::state::{context, world};
use ascend_sys::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

/// What a limit holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Device(u32),
    Stream(usize),
}

static LIMITS: Mutex<BTreeMap<(Owner, u32), u32>> = Mutex::new(BTreeMap::new());

thread_local! {
    static USED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// All cores of a kind that the chip has.
fn all_cores(kind: aclrtDevResLimitType) -> Result<u32, Failure> {
    let family = world()?.family;
    let (cube, vector) = match family {
        Family::A2 => (20, 40),
        Family::A3 => (24, 48),
        Family::A950 => (32, 64),
        Family::A910 => (32, 32),
        Family::P310 => (8, 7),
        Family::B310 => (1, 1),
    };
    match kind {
        ACL_RT_DEV_RES_CUBE_CORE => Ok(cube),
        ACL_RT_DEV_RES_VECTOR_CORE => Ok(vector),
        other => Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("kind of resource is {other}, wanted 0 or 1"),
        )),
    }
}

fn with<R>(work: impl FnOnce(&mut BTreeMap<(Owner, u32), u32>) -> R) -> R {
    work(&mut LIMITS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The first owner that has a limit decides.
fn limit(owners: &[Owner], kind: aclrtDevResLimitType) -> Result<u32, Failure> {
    let all = all_cores(kind)?;
    let found = with(|limits| {
        owners
            .iter()
            .find_map(|&owner| limits.get(&(owner, kind)).copied())
    });
    Ok(found.unwrap_or(all))
}

fn set(owner: Owner, kind: aclrtDevResLimitType, value: u32) -> Result<(), Failure> {
    let all = all_cores(kind)?;
    if value == 0 || value > all {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("a limit of {value} cores, wanted 1 to {all}"),
        ));
    }
    with(|limits| limits.insert((owner, kind), value));
    Ok(())
}

fn reset(owner: Owner) {
    with(|limits| limits.retain(|(own, _), _| *own != owner));
}

fn device(id: i32) -> Result<Owner, Failure> {
    let world = world()?;
    Ok(Owner::Device(world.device(i64::from(id))?.id))
}

/// A stream and the device under it.
fn stream(handle: aclrtStream) -> Result<[Owner; 2], Failure> {
    let context = context()?;
    let stream = resolve(&context, handle)?;
    Ok([
        Owner::Stream(stream.handle),
        Owner::Device(context.device.id),
    ])
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceResLimit(
    deviceId: i32,
    r#type: aclrtDevResLimitType,
    value: *mut u32,
) -> aclError {
    call("aclrtGetDeviceResLimit", || {
        let found = limit(&[device(deviceId)?], r#type)?;
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", found) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetDeviceResLimit(
    deviceId: i32,
    r#type: aclrtDevResLimitType,
    value: u32,
) -> aclError {
    call("aclrtSetDeviceResLimit", || {
        set(device(deviceId)?, r#type, value)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetDeviceResLimit(deviceId: i32) -> aclError {
    call("aclrtResetDeviceResLimit", || {
        reset(device(deviceId)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetStreamResLimit(
    stream: aclrtStream,
    r#type: aclrtDevResLimitType,
    value: *mut u32,
) -> aclError {
    call("aclrtGetStreamResLimit", || {
        let found = limit(&self::stream(stream)?, r#type)?;
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", found) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetStreamResLimit(
    stream: aclrtStream,
    r#type: aclrtDevResLimitType,
    value: u32,
) -> aclError {
    call("aclrtSetStreamResLimit", || {
        let [own, _] = self::stream(stream)?;
        set(own, r#type, value)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetStreamResLimit(stream: aclrtStream) -> aclError {
    call("aclrtResetStreamResLimit", || {
        let [own, _] = self::stream(stream)?;
        reset(own);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtUseStreamResInCurrentThread(stream: aclrtStream) -> aclError {
    call("aclrtUseStreamResInCurrentThread", || {
        if let [Owner::Stream(handle), _] = self::stream(stream)? {
            USED.with(|used| used.set(Some(handle)));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtUnuseStreamResInCurrentThread(stream: aclrtStream) -> aclError {
    call("aclrtUnuseStreamResInCurrentThread", || {
        self::stream(stream)?;
        USED.with(|used| used.set(None));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetResInCurrentThread(
    r#type: aclrtDevResLimitType,
    value: *mut u32,
) -> aclError {
    call("aclrtGetResInCurrentThread", || {
        let mut owners: Vec<Owner> = USED
            .with(Cell::get)
            .map(Owner::Stream)
            .into_iter()
            .collect();
        owners.push(Owner::Device(context()?.device.id));
        let found = limit(&owners, r#type)?;
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", found) }
    })
}

/// A hint about caches, which emulated memory has not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCmoAsync(
    src: *mut c_void,
    size: usize,
    cmoType: aclrtCmoType,
    stream: aclrtStream,
) -> aclError {
    call("aclrtCmoAsync", || {
        not_null(src, "src")?;
        if size == 0 || cmoType > ACL_RT_CMO_TYPE_FLUSH {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("size is {size}, kind of cache operation {cmoType}"),
            ));
        }
        self::stream(stream).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetErrorVerbose(
    deviceId: i32,
    errorInfo: *mut aclrtErrorInfo,
) -> aclError {
    call("aclrtGetErrorVerbose", || {
        device(deviceId)?;
        not_null(errorInfo, "errorInfo")?;
        // SAFETY: not null, valid for a write; all zeros mean that there is no error.
        unsafe { errorInfo.write_bytes(0, 1) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRepairError(
    deviceId: i32,
    errorInfo: *const aclrtErrorInfo,
) -> aclError {
    call("aclrtRepairError", || {
        device(deviceId)?;
        not_null(errorInfo, "errorInfo")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetMemUceInfo(
    deviceId: i32,
    memUceInfoArray: *mut aclrtMemUceInfo,
    _arraySize: usize,
    retSize: *mut usize,
) -> aclError {
    call("aclrtGetMemUceInfo", || {
        device(deviceId)?;
        not_null(memUceInfoArray, "memUceInfoArray")?;
        // SAFETY: null or valid for a write.
        unsafe { give(retSize, "retSize", 0) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemUceRepair(
    deviceId: i32,
    memUceInfoArray: *mut aclrtMemUceInfo,
    _arraySize: usize,
) -> aclError {
    call("aclrtMemUceRepair", || {
        device(deviceId)?;
        not_null(memUceInfoArray, "memUceInfoArray")
    })
}
