//! How an emulated device sits in its host, and what it can do.
//!
//! Knows numbers that programs ask for before they start; it must not know contexts or streams.

use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::state::world;
use ascend_sys::*;
use std::ffi::{CStr, c_char};
use std::ptr;

/// The bytes of a bus address with its end.
const BUS: usize = 13;

/// No feature that can be asked for is emulated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceCapability(
    deviceId: i32,
    devFeatureType: aclrtDevFeatureType,
    value: *mut i32,
) -> aclError {
    call("aclrtGetDeviceCapability", || {
        world()?.device(i64::from(deviceId))?;
        let known = [
            ACL_FEATURE_TSCPU_TASK_UPDATE_SUPPORT_AIC_AIV,
            ACL_FEATURE_SYSTEM_MEMQ_EVENT_CROSS_DEV,
        ];
        if !known.contains(&devFeatureType) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("devFeatureType is {devFeatureType}, wanted 1 or 21"),
            ));
        }
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", 0) }
    })
}

/// All devices of one host are joined directly.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDevicesTopo(
    deviceId: u32,
    otherDeviceId: u32,
    value: *mut u64,
) -> aclError {
    call("aclrtGetDevicesTopo", || {
        let world = world()?;
        world.device(i64::from(deviceId))?;
        world.device(i64::from(otherDeviceId))?;
        let direct = u64::from(ACL_RT_DEVS_TOPOLOGY_HCCS);
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", direct) }
    })
}

fn bus(device: u32) -> String {
    format!("{:04x}:{:02x}:00.0", device >> 8, device & 0xff)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetPCIBusId(
    deviceId: i32,
    pciBusId: *mut c_char,
    len: i32,
) -> aclError {
    call("aclrtDeviceGetPCIBusId", || {
        let device = world()?.device(i64::from(deviceId))?.id;
        not_null(pciBusId, "pciBusId")?;
        if usize::try_from(len).is_ok_and(|room| room >= BUS) {
            let text = bus(device);
            // SAFETY: not null, with room for 13 bytes.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr(), pciBusId.cast(), text.len());
                pciBusId.add(text.len()).write(0);
            }
            return Ok(());
        }
        Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("len is {len}, wanted {BUS} or more"),
        ))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetByPCIBusId(
    pciBusId: *const c_char,
    deviceId: *mut i32,
) -> aclError {
    call("aclrtDeviceGetByPCIBusId", || {
        not_null(pciBusId, "pciBusId")?;
        // SAFETY: not null, and a C string.
        let wanted = unsafe { CStr::from_ptr(pciBusId) }.to_string_lossy();
        let world = world()?;
        let found = world.devices.iter().find(|device| bus(device.id) == wanted);
        let found = found.ok_or_else(|| {
            let text = format!("no device has the bus address {wanted:?}");
            Failure::new(code::RT_INVALID_DEVICEID, text)
        })?;
        // SAFETY: null or valid for a write.
        unsafe { give(deviceId, "deviceId", found.id as i32) }
    })
}
