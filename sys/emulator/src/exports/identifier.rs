//! Numbers by which a device is known to the user, the driver and the host; limits and time-outs of a process.
//!
//! Knows that the emulator's devices have one number each, so that all names of a device are equal; it must not know devices.

use crate::failure::{Failure, code};
use crate::guard::{call, give};
use crate::kernel::Family;
use crate::state::{context, world};
use ascend_sys::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static LIMITS: Mutex<BTreeMap<aclrtDeviceLimit, usize>> = Mutex::new(BTreeMap::new());
/// The limits that only chips with SIMT cores have.
const SIMT: [aclrtDeviceLimit; 3] = [0, 1, 4];
const LAST_LIMIT: aclrtDeviceLimit = 4;

/// The visible devices are counted from 0, and nothing renumbers them below.
fn same(name: &'static str, device: i32, target: *mut i32) -> i32 {
    call(name, || {
        let count = world()?.settings.devices;
        if !u32::try_from(device).is_ok_and(|device| device < count) {
            return Err(Failure::new(
                code::RT_INVALID_DEVICEID,
                format!("device {device} of {count}"),
            ));
        }
        // SAFETY: null or valid for a write by the contract of the C functions.
        unsafe { give(target, "the output", device) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetLogicDevIdByUserDevId(
    userDevid: i32,
    logicDevId: *mut i32,
) -> aclError {
    same("aclrtGetLogicDevIdByUserDevId", userDevid, logicDevId)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetLogicDevIdByPhyDevId(
    phyDevId: i32,
    logicDevId: *mut i32,
) -> aclError {
    same("aclrtGetLogicDevIdByPhyDevId", phyDevId, logicDevId)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetPhyDevIdByLogicDevId(
    logicDevId: i32,
    phyDevId: *mut i32,
) -> aclError {
    same("aclrtGetPhyDevIdByLogicDevId", logicDevId, phyDevId)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetPhyDevIdByUserDevId(
    userDevId: i32,
    phyDevId: *mut i32,
) -> aclError {
    same("aclrtGetPhyDevIdByUserDevId", userDevId, phyDevId)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetUserDevIdByLogicDevId(
    logicDevId: i32,
    userDevid: *mut i32,
) -> aclError {
    same("aclrtGetUserDevIdByLogicDevId", logicDevId, userDevid)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetUserDevIdByPhyDevId(
    phyDevId: i32,
    userDevId: *mut i32,
) -> aclError {
    same("aclrtGetUserDevIdByPhyDevId", phyDevId, userDevId)
}

/// An emulated kernel never times out, which the documents say so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetOpExecuteTimeout(timeoutMs: *mut u32) -> aclError {
    call("aclrtGetOpExecuteTimeout", || {
        context()?;
        // SAFETY: null or valid for a write by the contract of the C function.
        unsafe { give(timeoutMs, "timeoutMs", u32::MAX) }
    })
}

fn known(limit: aclrtDeviceLimit) -> Result<(), Failure> {
    if limit > LAST_LIMIT {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("limit is {limit}, wanted 0 to {LAST_LIMIT}"),
        ));
    }
    if SIMT.contains(&limit) && world()?.family != Family::A950 {
        return Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            format!("limit {limit} is one of chips with SIMT cores"),
        ));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceSetLimit(limit: aclrtDeviceLimit, value: usize) -> aclError {
    call("aclrtDeviceSetLimit", || {
        known(limit)?;
        let mut limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        limits.insert(limit, value);
        Ok(())
    })
}

/// 0 where nobody set the limit: the documents name no defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetLimit(
    limit: aclrtDeviceLimit,
    value: *mut usize,
) -> aclError {
    call("aclrtDeviceGetLimit", || {
        known(limit)?;
        let limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = limits.get(&limit).copied().unwrap_or(0);
        // SAFETY: null or valid for a write by the contract of the C function.
        unsafe { give(value, "value", found) }
    })
}
