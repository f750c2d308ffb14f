//! Allocators that a program registers for a stream, for memory that operators take behind its back.
//!
//! Knows who registered what; emulated operators take no such memory, so nothing here is ever called.

use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, value, violation};
use crate::registry::{Kind, Registry};
use crate::state::context;
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a description holds; the allocator is a pointer that is only handed back.
#[derive(Clone, Copy, Default)]
struct Functions {
    allocator: usize,
    allocate: aclrtAllocatorAllocFunc,
    free: aclrtAllocatorFreeFunc,
    advise: aclrtAllocatorAllocAdviseFunc,
    address: aclrtAllocatorGetAddrFromBlockFunc,
}

static DESCRIPTIONS: Registry<Mutex<Functions>> =
    Registry::new(Kind::Allocator, code::INVALID_PARAM);
/// The description of each stream, with what it held when it was registered.
static STREAMS: Mutex<BTreeMap<usize, (usize, Functions)>> = Mutex::new(BTreeMap::new());

fn streams() -> MutexGuard<'static, BTreeMap<usize, (usize, Functions)>> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(desc: aclrtAllocatorDesc, change: impl FnOnce(&mut Functions)) -> Result<(), Failure> {
    let found = DESCRIPTIONS.get(desc)?;
    change(&mut found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorCreateDesc() -> aclrtAllocatorDesc {
    value("aclrtAllocatorCreateDesc", ptr::null_mut(), || {
        Ok(DESCRIPTIONS.insert(Mutex::default()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorDestroyDesc(allocatorDesc: aclrtAllocatorDesc) -> aclError {
    call("aclrtAllocatorDestroyDesc", || {
        DESCRIPTIONS.remove(allocatorDesc).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorSetObjToDesc(
    allocatorDesc: aclrtAllocatorDesc,
    allocator: aclrtAllocator,
) -> aclError {
    call("aclrtAllocatorSetObjToDesc", || {
        set(allocatorDesc, |own| {
            own.allocator = allocator.expose_provenance();
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorSetAllocFuncToDesc(
    allocatorDesc: aclrtAllocatorDesc,
    func: aclrtAllocatorAllocFunc,
) -> aclError {
    call("aclrtAllocatorSetAllocFuncToDesc", || {
        set(allocatorDesc, |own| own.allocate = func)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorSetFreeFuncToDesc(
    allocatorDesc: aclrtAllocatorDesc,
    func: aclrtAllocatorFreeFunc,
) -> aclError {
    call("aclrtAllocatorSetFreeFuncToDesc", || {
        set(allocatorDesc, |own| own.free = func)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorSetAllocAdviseFuncToDesc(
    allocatorDesc: aclrtAllocatorDesc,
    func: aclrtAllocatorAllocAdviseFunc,
) -> aclError {
    call("aclrtAllocatorSetAllocAdviseFuncToDesc", || {
        set(allocatorDesc, |own| own.advise = func)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorSetGetAddrFromBlockFuncToDesc(
    allocatorDesc: aclrtAllocatorDesc,
    func: aclrtAllocatorGetAddrFromBlockFunc,
) -> aclError {
    call("aclrtAllocatorSetGetAddrFromBlockFuncToDesc", || {
        set(allocatorDesc, |own| own.address = func)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorRegister(
    stream: aclrtStream,
    allocatorDesc: aclrtAllocatorDesc,
) -> aclError {
    call("aclrtAllocatorRegister", || {
        let stream = resolve(&*context()?, stream)?;
        let found = DESCRIPTIONS.get(allocatorDesc)?;
        let own = *found.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = own.allocator != 0
            && own.allocate.is_some()
            && own.free.is_some()
            && own.address.is_some();
        if !whole {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "the description lacks its object, or the function that allocates, frees or gives an address",
            ));
        }
        streams().insert(stream.handle, (allocatorDesc.addr(), own));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorUnregister(stream: aclrtStream) -> aclError {
    call("aclrtAllocatorUnregister", || {
        let stream = resolve(&*context()?, stream)?;
        match streams().remove(&stream.handle) {
            Some(_) => Ok(()),
            None => Err(violation(
                code::INVALID_PARAM,
                "the stream has no allocator",
            )),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtAllocatorGetByStream(
    stream: aclrtStream,
    allocatorDesc: *mut aclrtAllocatorDesc,
    allocator: *mut aclrtAllocator,
    allocFunc: *mut aclrtAllocatorAllocFunc,
    freeFunc: *mut aclrtAllocatorFreeFunc,
    allocAdviseFunc: *mut aclrtAllocatorAllocAdviseFunc,
    getAddrFromBlockFunc: *mut aclrtAllocatorGetAddrFromBlockFunc,
) -> aclError {
    call("aclrtAllocatorGetByStream", || {
        let stream = resolve(&*context()?, stream)?;
        let found = streams().get(&stream.handle).copied();
        let (desc, own) = found
            .ok_or_else(|| Failure::new(code::INVALID_PARAM, "the stream has no allocator"))?;
        not_null(allocator, "allocator")?;
        // SAFETY: null or valid for writes.
        unsafe {
            give(
                allocatorDesc,
                "allocatorDesc",
                ptr::without_provenance_mut(desc),
            )?;
            give(
                allocator,
                "allocator",
                ptr::with_exposed_provenance_mut(own.allocator),
            )?;
            give(allocFunc, "allocFunc", own.allocate)?;
            give(freeFunc, "freeFunc", own.free)?;
            give(allocAdviseFunc, "allocAdviseFunc", own.advise)?;
            give(getAddrFromBlockFunc, "getAddrFromBlockFunc", own.address)
        }
    })
}
