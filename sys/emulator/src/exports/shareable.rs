//! Physical memory that other processes map, and who may touch what is mapped.
//!
//! Knows shareable handles and access; it must not know how pages are shared.

use super::virtual_memory::{Mapped, PHYSICAL, Physical, mapped_at};
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, violation};
use crate::shared::{self, Name, Shared, Use};
use crate::state::{context, world};
use ascend_sys::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

fn wrong(text: String) -> Failure {
    Failure::new(code::RT_PARAM_INVALID, text)
}

fn export(handle: aclrtDrvMemHandle, flags: u64) -> Result<u64, Failure> {
    context()?;
    let physical = PHYSICAL.get(handle)?;
    if flags > 1 {
        return Err(wrong(format!("flags are {flags:#x}, wanted 0 or 1")));
    }
    let mut state = physical.lock();
    if state.shared.is_some() {
        return Err(violation(
            code::RT_PARAM_INVALID,
            "the physical memory was exported or imported before",
        ));
    }
    let shared = state.share(physical.size, flags == 0)?;
    Ok(shared.name().number())
}

fn permit(number: u64, list: &[i32]) -> Result<(), Failure> {
    let all = PHYSICAL.living().into_iter();
    let exported = all.filter(|(_, physical, _)| !physical.imported);
    let mut shared = exported.filter_map(|(_, physical, _)| physical.lock().shared.clone());
    match shared.find(|shared| shared.name().number() == number) {
        Some(shared) => shared.permit(list),
        None => Err(violation(
            code::RT_PARAM_INVALID,
            format!("this process exported no handle {number:#x}"),
        )),
    }
}

fn import(number: u64, device: u32) -> Result<aclrtDrvMemHandle, Failure> {
    let name = Name::of_number(number);
    if name.is_own() {
        return Err(violation(
            code::RT_PARAM_INVALID,
            format!("handle {number:#x} was exported by this process, wanted another's"),
        ));
    }
    let shared = Shared::open(Use::Physical, name)?;
    let again = PHYSICAL.living().into_iter().any(|(_, physical, _)| {
        let own = physical.lock().shared.as_ref().map(|shared| shared.name());
        own == Some(name)
    });
    if again {
        let text = format!("handle {number:#x} was imported before");
        return Err(violation(code::RT_PARAM_INVALID, text));
    }
    let property = aclrtPhysicalMemProp {
        handleType: ACL_MEM_HANDLE_TYPE_NONE,
        allocationType: ACL_MEM_ALLOCATION_TYPE_PINNED,
        memAttr: ACL_HBM_MEM_HUGE,
        location: aclrtMemLocation {
            id: device,
            type_: ACL_MEM_LOCATION_TYPE_DEVICE,
        },
        reserve: 0,
    };
    Ok(PHYSICAL.insert(Physical {
        device,
        size: shared.bytes(),
        property,
        imported: true,
        references: AtomicU32::new(1),
        state: Mutex::new(Mapped {
            shared: Some(Arc::new(shared)),
            ..Mapped::default()
        }),
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemExportToShareableHandle(
    handle: aclrtDrvMemHandle,
    _handleType: aclrtMemHandleType,
    flags: u64,
    shareableHandle: *mut u64,
) -> aclError {
    call("aclrtMemExportToShareableHandle", || {
        not_null(shareableHandle, "shareableHandle")?;
        let made = export(handle, flags)?;
        // SAFETY: not null, valid for a write.
        unsafe { give(shareableHandle, "shareableHandle", made) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemSetPidToShareableHandle(
    shareableHandle: u64,
    pid: *mut i32,
    pidNum: usize,
) -> aclError {
    call("aclrtMemSetPidToShareableHandle", || {
        // SAFETY: null or valid for as many reads.
        permit(shareableHandle, unsafe { shared::processes(pid, pidNum) }?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemImportFromShareableHandle(
    shareableHandle: u64,
    deviceId: i32,
    handle: *mut aclrtDrvMemHandle,
) -> aclError {
    call("aclrtMemImportFromShareableHandle", || {
        not_null(handle, "handle")?;
        let device = world()?.device(i64::from(deviceId))?.id;
        let made = import(shareableHandle, device)?;
        // SAFETY: not null, valid for a write.
        unsafe { give(handle, "handle", made) }
    })
}

/// The handle within what a caller's pointer points to: a number, or 128 bytes that begin with it.
///
/// # Safety
/// `place` must be null or valid for what the kind says.
unsafe fn place_of(
    place: *mut c_void,
    kind: aclrtMemSharedHandleType,
) -> Result<*mut u64, Failure> {
    not_null(place, "shareableHandle")?;
    if !matches!(
        kind,
        ACL_MEM_SHARE_HANDLE_TYPE_DEFAULT | ACL_MEM_SHARE_HANDLE_TYPE_FABRIC
    ) {
        return Err(wrong(format!("shareType is {kind}, wanted 1 or 2")));
    }
    Ok(place.cast())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemExportToShareableHandleV2(
    handle: aclrtDrvMemHandle,
    flags: u64,
    shareType: aclrtMemSharedHandleType,
    shareableHandle: *mut c_void,
) -> aclError {
    call("aclrtMemExportToShareableHandleV2", || {
        // SAFETY: null, or as the kind says by the contract of the C function.
        let place = unsafe { place_of(shareableHandle, shareType) }?;
        let made = export(handle, flags)?;
        if shareType == ACL_MEM_SHARE_HANDLE_TYPE_FABRIC {
            // SAFETY: not null, with 128 bytes.
            unsafe {
                place
                    .cast::<u8>()
                    .write_bytes(0, size_of::<aclrtMemFabricHandle>())
            };
        }
        // SAFETY: not null, with eight bytes or more.
        unsafe { place.write_unaligned(made) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemSetPidToShareableHandleV2(
    shareableHandle: *mut c_void,
    shareType: aclrtMemSharedHandleType,
    pid: *mut i32,
    pidNum: usize,
) -> aclError {
    call("aclrtMemSetPidToShareableHandleV2", || {
        // SAFETY: null, or as the kind says by the contract of the C function.
        let number = unsafe { place_of(shareableHandle, shareType)?.read_unaligned() };
        // SAFETY: null or valid for as many reads.
        permit(number, unsafe { shared::processes(pid, pidNum) }?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemImportFromShareableHandleV2(
    shareableHandle: *mut c_void,
    shareType: aclrtMemSharedHandleType,
    flags: u64,
    handle: *mut aclrtDrvMemHandle,
) -> aclError {
    call("aclrtMemImportFromShareableHandleV2", || {
        let device = context()?.device.id;
        not_null(handle, "handle")?;
        if flags != 0 {
            return Err(wrong(format!("flags are {flags:#x}, wanted 0")));
        }
        // SAFETY: null, or as the kind says by the contract of the C function.
        let number = unsafe { place_of(shareableHandle, shareType)?.read_unaligned() };
        let made = import(number, device)?;
        // SAFETY: not null, valid for a write.
        unsafe { give(handle, "handle", made) }
    })
}

/// What is mapped at exactly this address.
fn mapped(virPtr: *mut c_void) -> Result<(usize, Arc<Physical>), Failure> {
    not_null(virPtr, "virPtr")?;
    mapped_at(virPtr.addr()).ok_or_else(|| {
        violation(
            code::RT_PARAM_INVALID,
            format!("nothing is mapped at {:#x}", virPtr.addr()),
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemSetAccess(
    virPtr: *mut c_void,
    size: usize,
    desc: *mut aclrtMemAccessDesc,
    count: usize,
) -> aclError {
    call("aclrtMemSetAccess", || {
        context()?;
        not_null(desc, "desc")?;
        let (_, physical) = mapped(virPtr)?;
        if size != physical.size || count == 0 {
            return Err(wrong(format!(
                "{size} bytes for {count} locations, wanted the {} bytes that are mapped, and one location or more",
                physical.size
            )));
        }
        for index in 0..count {
            // SAFETY: not null, valid for `count` reads by the contract of the C function.
            let wish = unsafe { desc.add(index).read() };
            let flags = wish.flags;
            if !matches!(
                flags,
                ACL_RT_MEM_ACCESS_FLAGS_NONE
                    | ACL_RT_MEM_ACCESS_FLAGS_READ
                    | ACL_RT_MEM_ACCESS_FLAGS_READWRITE
            ) {
                return Err(wrong(format!("flags are {flags}, wanted 0, 1 or 3")));
            }
            let place = (wish.location.type_, wish.location.id);
            physical.lock().access.insert(place, u64::from(flags));
        }
        Ok(())
    })
}

/// The device that the memory was mapped for may read and write unless something else was set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemGetAccess(
    virPtr: *mut c_void,
    location: *mut aclrtMemLocation,
    flag: *mut u64,
) -> aclError {
    call("aclrtMemGetAccess", || {
        context()?;
        not_null(location, "location")?;
        let (_, physical) = mapped(virPtr)?;
        // SAFETY: not null, valid for a read.
        let place = unsafe { location.read() };
        let own = place.type_ == ACL_MEM_LOCATION_TYPE_DEVICE && place.id == physical.device;
        let usual = if own {
            u64::from(ACL_RT_MEM_ACCESS_FLAGS_READWRITE)
        } else {
            0
        };
        let set = physical
            .lock()
            .access
            .get(&(place.type_, place.id))
            .copied();
        // SAFETY: null or valid for a write.
        unsafe { give(flag, "flag", set.unwrap_or(usual)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemRetainAllocationHandle(
    virPtr: *mut c_void,
    handle: *mut aclrtDrvMemHandle,
) -> aclError {
    call("aclrtMemRetainAllocationHandle", || {
        not_null(handle, "handle")?;
        let (number, physical) = mapped(virPtr)?;
        physical.references.fetch_add(1, Ordering::AcqRel);
        // SAFETY: not null, valid for a write.
        unsafe { give(handle, "handle", ptr::without_provenance_mut(number)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemGetAllocationPropertiesFromHandle(
    handle: aclrtDrvMemHandle,
    prop: *mut aclrtPhysicalMemProp,
) -> aclError {
    call("aclrtMemGetAllocationPropertiesFromHandle", || {
        let property = PHYSICAL.get(handle)?.property;
        // SAFETY: null or valid for a write.
        unsafe { give(prop, "prop", property) }
    })
}
