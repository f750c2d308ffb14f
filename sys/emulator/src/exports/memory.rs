//! Device and pinned memory: allocation, freeing, information.
//!
//! Knows the calls' rules; it must not know how blocks are tracked.

use crate::failure::{Failure, code};
use crate::guard::{self, call, give, not_null};
use crate::kernel::Family;
use crate::memory::{self, Block, Place};
use crate::state::{context, context_even_poisoned, world};
use ascend_sys::*;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

unsafe fn allocate(target: *mut *mut c_void, size: usize, spare: usize) -> Result<(), Failure> {
    let context = context()?;
    not_null(target, "devPtr")?;
    if size == 0 {
        return Err(Failure::new(
            code::INVALID_PARAM,
            "size is 0, wanted a positive number",
        ));
    }
    let world = world()?;
    let spare = if world.family == Family::A950 {
        0
    } else {
        spare
    };
    let room = size
        .checked_next_multiple_of(32)
        .and_then(|size| size.checked_add(spare))
        .unwrap_or(usize::MAX);
    context.device.account(room, world.capacity())?;
    let place = Place::Device(context.device.id);
    let block =
        memory::allocate(place, size, room).inspect_err(|_| context.device.unaccount(room))?;
    // SAFETY: checked for null, valid by the contract of the C function.
    unsafe {
        give(
            target,
            "devPtr",
            std::ptr::with_exposed_provenance_mut(block.start),
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMalloc(
    devPtr: *mut *mut c_void,
    size: usize,
    _policy: aclrtMemMallocPolicy,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMalloc", || unsafe { allocate(devPtr, size, 32) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocAlign32(
    devPtr: *mut *mut c_void,
    size: usize,
    _policy: aclrtMemMallocPolicy,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMallocAlign32", || unsafe {
        allocate(devPtr, size, 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocCached(
    devPtr: *mut *mut c_void,
    size: usize,
    _policy: aclrtMemMallocPolicy,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMallocCached", || unsafe {
        allocate(devPtr, size, 32)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocWithCfg(
    devPtr: *mut *mut c_void,
    size: usize,
    _policy: aclrtMemMallocPolicy,
    _cfg: *mut aclrtMallocConfig,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMallocWithCfg", || unsafe {
        allocate(devPtr, size, 32)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocForTaskScheduler(
    devPtr: *mut *mut c_void,
    size: usize,
    _policy: aclrtMemMallocPolicy,
    _cfg: *mut aclrtMallocConfig,
) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMallocForTaskScheduler", || unsafe {
        allocate(devPtr, size, 32)
    })
}

/// Gives the bytes back to the account of the device that the block lies on.
fn unaccount(block: &Block) -> Result<(), Failure> {
    if let Place::Device(id) = block.place {
        world()?.device(i64::from(id))?.unaccount(block.room);
    }
    Ok(())
}

fn free_device(pointer: *mut c_void) -> Result<(), Failure> {
    not_null(pointer, "devPtr")?;
    context_even_poisoned()?;
    let block = memory::free(pointer.addr(), |place| matches!(place, Place::Device(_)))?;
    unaccount(&block)?;
    memory::inspect_freed(&block)
}

fn free_host(pointer: *mut c_void) -> Result<(), Failure> {
    not_null(pointer, "hostPtr")?;
    context_even_poisoned()?;
    let block = memory::free(pointer.addr(), |place| place == Place::Pinned)?;
    memory::inspect_freed(&block)
}

/// Waits for everything that may still use the memory.
fn drain() -> Result<(), Failure> {
    for stream in context_even_poisoned()?.device.streams() {
        super::stream::refuse_captured(&stream)?;
        let _ = stream.synchronize(None);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFree(devPtr: *mut c_void) -> aclError {
    call("aclrtFree", || free_device(devPtr))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFreeWithDevSync(devPtr: *mut c_void) -> aclError {
    call("aclrtFreeWithDevSync", || {
        drain()?;
        free_device(devPtr)
    })
}

unsafe fn pin(target: *mut *mut c_void, size: usize) -> Result<(), Failure> {
    context()?;
    not_null(target, "hostPtr")?;
    if size == 0 {
        return Err(Failure::new(
            code::INVALID_PARAM,
            "size is 0, wanted a positive number",
        ));
    }
    let block = memory::allocate(Place::Pinned, size, size)?;
    // SAFETY: checked for null, valid by the contract of the C function.
    unsafe {
        give(
            target,
            "hostPtr",
            std::ptr::with_exposed_provenance_mut(block.start),
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocHost(hostPtr: *mut *mut c_void, size: usize) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtMallocHost", || unsafe { pin(hostPtr, size) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocHostWithCfg(
    ptr: *mut *mut c_void,
    size: u64,
    _cfg: *mut aclrtMallocConfig,
) -> aclError {
    call("aclrtMallocHostWithCfg", || {
        let size = usize::try_from(size)
            .map_err(|_| Failure::new(code::INVALID_PARAM, format!("size {size} is too large")))?;
        // SAFETY: null or valid for a write.
        unsafe { pin(ptr, size) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFreeHost(hostPtr: *mut c_void) -> aclError {
    call("aclrtFreeHost", || free_host(hostPtr))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFreeHostWithDevSync(hostPtr: *mut c_void) -> aclError {
    call("aclrtFreeHostWithDevSync", || {
        drain()?;
        free_host(hostPtr)
    })
}

/// Makes host memory known to the device; pinned memory can only be mapped, once.
fn register(pointer: *mut c_void, size: u64, maps: bool) -> Result<Arc<Block>, Failure> {
    context()?;
    not_null(pointer, "ptr")?;
    let length = usize::try_from(size).unwrap_or(0);
    if length == 0 {
        return Err(Failure::new(
            code::INVALID_PARAM,
            format!("size is {size}, wanted a positive number"),
        ));
    }
    let start = pointer.expose_provenance();
    if let Ok(block) = memory::find(start, 1) {
        let fits = length <= block.size && block.start == start;
        let maps = maps && fits && block.place == Place::Pinned;
        if maps && !block.mapped.swap(true, Ordering::AcqRel) {
            return Ok(block);
        }
        return Err(Failure::new(
            code::RT_HOST_MEMORY_REGISTERED,
            format!("{start:#x} is registered or pinned already"),
        ));
    }
    Ok(memory::adopt(Place::Registered, start, length, start, None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtHostRegister(
    ptr: *mut c_void,
    size: u64,
    _type: aclrtHostRegisterType,
    devPtr: *mut *mut c_void,
) -> aclError {
    call("aclrtHostRegister", || {
        not_null(devPtr, "devPtr")?;
        if !ptr.addr().is_multiple_of(4096) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "ptr is not aligned to 4096",
            ));
        }
        register(ptr, size, true)?;
        // SAFETY: checked for null, valid for a write.
        unsafe { give(devPtr, "devPtr", ptr) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtHostRegisterV2(ptr: *mut c_void, size: u64, flag: u32) -> aclError {
    call("aclrtHostRegisterV2", || {
        register(ptr, size, flag & ACL_HOST_REG_PINNED == 0).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtHostUnregister(ptr: *mut c_void) -> aclError {
    call("aclrtHostUnregister", || {
        not_null(ptr, "ptr")?;
        let found = memory::find(ptr.addr(), 1).ok();
        let found = found.filter(|block| block.start == ptr.addr());
        if found.as_ref().is_some_and(|block| {
            block.place == Place::Pinned && block.mapped.swap(false, Ordering::AcqRel)
        }) {
            return Ok(());
        }
        let known = found.is_some_and(|block| block.place == Place::Registered);
        if !known {
            return Err(Failure::new(
                code::RT_HOST_MEMORY_NOT_REGISTERED,
                "the memory is not registered",
            ));
        }
        match memory::release(ptr.addr()) {
            Some(block) => memory::inspect_freed(&block),
            None => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtHostGetDevicePointer(
    pHost: *mut c_void,
    pDevice: *mut *mut c_void,
    _flag: u32,
) -> aclError {
    call("aclrtHostGetDevicePointer", || {
        let host = |block: &Block| !matches!(block.place, Place::Device(_));
        let found = memory::find(pHost.addr(), 1);
        if !found.is_ok_and(|block| host(&block) && block.is_for_kernels()) {
            return Err(Failure::new(
                code::RT_HOST_MEMORY_NOT_REGISTERED,
                "the memory is not registered",
            ));
        }
        // SAFETY: null or valid for a write.
        unsafe { give(pDevice, "pDevice", pHost) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetMemInfo(
    attr: aclrtMemAttr,
    free: *mut usize,
    total: *mut usize,
) -> aclError {
    call("aclrtGetMemInfo", || {
        let context = context()?;
        if attr > 17 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("memory attribute {attr} is unknown"),
            ));
        }
        let capacity = if matches!(attr, 10 | 11 | 14 | 17) {
            0
        } else {
            world()?.capacity()
        };
        let used = context.device.used.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { give(free, "free", capacity.saturating_sub(used) as usize) }?;
        // SAFETY: null or valid for a write.
        unsafe { give(total, "total", capacity as usize) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetMemUsageInfo(
    deviceId: i32,
    memUsageInfo: *mut aclrtMemUsageInfo,
    inputNum: usize,
    outputNum: *mut usize,
) -> aclError {
    call("aclrtGetMemUsageInfo", || {
        let world = world()?;
        let device = world.device(i64::from(deviceId))?;
        not_null(memUsageInfo, "memUsageInfo")?;
        if inputNum == 0 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "inputNum is 0, wanted room for one entry",
            ));
        }
        // SAFETY: the caller gives room for at least one entry; all fields are numbers, for which zero bytes are valid.
        unsafe {
            memUsageInfo.write_bytes(0, 1);
            (&raw mut (*memUsageInfo).curMemSize).write(device.used.load(Ordering::Acquire));
            (&raw mut (*memUsageInfo).memPeakSize).write(device.peak.load(Ordering::Acquire));
            let name = (&raw mut (*memUsageInfo).name).cast::<u8>();
            std::ptr::copy_nonoverlapping(b"RUNTIME".as_ptr(), name, 7);
        }
        // SAFETY: null or valid for a write.
        unsafe { give(outputNum, "outputNum", 1) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtPointerGetAttributes(
    ptr: *const c_void,
    attributes: *mut aclrtPtrAttributes,
) -> aclError {
    call("aclrtPointerGetAttributes", || {
        not_null(ptr, "ptr")?;
        not_null(attributes, "attributes")?;
        let (kind, id) = match memory::find(ptr.addr(), 1).map(|block| block.place) {
            Ok(Place::Device(id)) => (1, id),
            Ok(Place::Pinned | Place::Registered) => (0, 0),
            Err(_) => (2, 0),
        };
        // SAFETY: not null, valid for writes; all fields are numbers, for which zero bytes are valid.
        unsafe {
            attributes.write_bytes(0, 1);
            (&raw mut (*attributes).location.id).write(id);
            (&raw mut (*attributes).location.type_).write(kind);
            (&raw mut (*attributes).pageSize).write(4096);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemGetAddressRange(
    ptr: *mut c_void,
    pbase: *mut *mut c_void,
    psize: *mut usize,
) -> aclError {
    call("aclrtMemGetAddressRange", || {
        let block = memory::find(ptr.addr(), 1)
            .map_err(|_| Failure::new(code::RT_PARAM_INVALID, "the address lies in no block"))?;
        if !pbase.is_null() {
            // SAFETY: not null, and valid for a write.
            unsafe { pbase.write(std::ptr::with_exposed_provenance_mut(block.start)) };
        }
        if !psize.is_null() {
            // SAFETY: not null, and valid for a write.
            unsafe { psize.write(block.size) };
        }
        Ok(())
    })
}

fn cached(pointer: *mut c_void, size: usize) -> Result<(), Failure> {
    context()?;
    match memory::find(pointer.addr(), size) {
        Ok(_) => Ok(()),
        Err(_) => Err(guard::violation(
            code::RT_PARAM_INVALID,
            "the range is no device memory",
        )),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemFlush(devPtr: *mut c_void, size: usize) -> aclError {
    call("aclrtMemFlush", || cached(devPtr, size))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemInvalidate(devPtr: *mut c_void, size: usize) -> aclError {
    call("aclrtMemInvalidate", || cached(devPtr, size))
}
