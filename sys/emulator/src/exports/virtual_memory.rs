//! Reserved addresses, physical memory and mappings between them.
//!
//! Knows the four-step protocol; it must not know tensors or copies.

use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, violation};
use crate::memory::{self, Place};
use crate::registry::{Kind, Registry};
use crate::shared::{self, Shared, Use};
use crate::state::{context, context_even_poisoned, world};
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const GRANULE: usize = 2 << 20;

/// Physical memory; what was in it at the last unmapping, and whether it is mapped.
pub(super) struct Physical {
    pub device: u32,
    pub size: usize,
    pub property: aclrtPhysicalMemProp,
    /// Whether it is another process's.
    pub imported: bool,
    /// How often it must be freed.
    pub references: AtomicU32,
    pub state: Mutex<Mapped>,
}

#[derive(Default)]
pub(super) struct Mapped {
    pub at: Option<usize>,
    pub saved: Vec<u8>,
    /// Once other processes may map it: then the bytes are there.
    pub shared: Option<Arc<Shared>>,
    /// What locations (their kind and number) may do.
    pub access: BTreeMap<(u32, u32), u64>,
}

impl Physical {
    pub fn lock(&self) -> MutexGuard<'_, Mapped> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mapped {
    /// Puts the bytes where other processes can map them.
    pub fn share(&mut self, size: usize, listed: bool) -> Result<Arc<Shared>, Failure> {
        let shared = Shared::create(Use::Physical, size, listed)?;
        if let Some(at) = self.at {
            let start = ptr::with_exposed_provenance::<u8>(at);
            // SAFETY: the mapping has `size` bytes, which its reservation keeps alive.
            shared.fill(unsafe { std::slice::from_raw_parts(start, size) })?;
            // SAFETY: whole pages of the reservation, whose bytes were copied.
            unsafe { shared.map_over(at) }?;
        } else {
            shared.fill(&std::mem::take(&mut self.saved))?;
        }
        let shared = Arc::new(shared);
        self.shared = Some(Arc::clone(&shared));
        Ok(shared)
    }
}

/// The physical memory that is mapped at an address.
pub(super) fn mapped_at(start: usize) -> Option<(usize, Arc<Physical>)> {
    let living = PHYSICAL.living().into_iter();
    let mut living = living.map(|(handle, physical, _)| (handle, physical));
    living.find(|(_, physical)| physical.lock().at == Some(start))
}

/// Reserved address space.
struct Reservation {
    base: usize,
    length: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: mapped in `aclrtReserveMemAddress` with this length, unmapped once.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.base), self.length) };
    }
}

pub(super) static PHYSICAL: Registry<Physical> =
    Registry::new(Kind::Physical, code::RT_PARAM_INVALID);
static RESERVED: Mutex<BTreeMap<usize, Arc<Reservation>>> = Mutex::new(BTreeMap::new());

/// The start of the reserved addresses among which this one is.
pub(super) fn reservation(address: usize) -> Option<usize> {
    let reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, found) = reserved.range(..=address).next_back()?;
    (address - found.base < found.length).then_some(found.base)
}

/// Forgets everything.
pub(crate) fn clear() {
    PHYSICAL.clear();
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    reserved.clear();
}

/// One line for each physical memory and each reservation.
pub(crate) fn report(lines: &mut Vec<String>) {
    PHYSICAL.report(lines);
    let reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    for reservation in reserved.values() {
        lines.push(format!(
            "{} bytes of addresses reserved at {:#x}",
            reservation.length, reservation.base
        ));
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemGetAllocationGranularity(
    prop: *mut aclrtPhysicalMemProp,
    _option: aclrtMemGranularityOptions,
    granularity: *mut usize,
) -> aclError {
    call("aclrtMemGetAllocationGranularity", || {
        not_null(prop, "prop")?;
        // SAFETY: null or valid for a write.
        unsafe { give(granularity, "granularity", GRANULE) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtReserveMemAddress(
    virPtr: *mut *mut c_void,
    size: usize,
    _alignment: usize,
    expectPtr: *mut c_void,
    _flags: u64,
) -> aclError {
    // PyTorch's client reserves addresses before it has set a device.
    call("aclrtReserveMemAddress", || {
        not_null(virPtr, "virPtr")?;
        if size == 0 || !expectPtr.is_null() {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "size is 0, or expectPtr is not null",
            ));
        }
        let length = size.checked_next_multiple_of(GRANULE).ok_or_else(|| {
            Failure::new(code::INVALID_PARAM, format!("size {size} is too large"))
        })?;
        // SAFETY: an anonymous mapping at a place of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Failure::new(
                code::RT_MEMORY_ALLOCATION,
                format!("the host has no {length} bytes of addresses"),
            ));
        }
        let reservation = Reservation {
            base: base.expose_provenance(),
            length,
        };
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.insert(reservation.base, Arc::new(reservation));
        // SAFETY: checked for null, valid for a write.
        unsafe { give(virPtr, "virPtr", base) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtReleaseMemAddress(virPtr: *mut c_void) -> aclError {
    call("aclrtReleaseMemAddress", || {
        not_null(virPtr, "virPtr")?;
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reservation) = reserved.get(&virPtr.addr()) else {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!("{:#x} was never reserved", virPtr.addr()),
            ));
        };
        if Arc::strong_count(reservation) > 1 {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!(
                    "{:#x} is released while memory is mapped there",
                    virPtr.addr()
                ),
            ));
        }
        reserved.remove(&virPtr.addr());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMallocPhysical(
    handle: *mut aclrtDrvMemHandle,
    size: usize,
    prop: *const aclrtPhysicalMemProp,
    _flags: u64,
) -> aclError {
    call("aclrtMallocPhysical", || {
        let context = context()?;
        not_null(handle, "handle")?;
        not_null(prop, "prop")?;
        if size == 0 || !size.is_multiple_of(GRANULE) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("size is {size}, wanted a multiple of {GRANULE}"),
            ));
        }
        context.device.account(size, world()?.capacity())?;
        let made = PHYSICAL.insert(Physical {
            device: context.device.id,
            size,
            // SAFETY: not null, valid for a read.
            property: unsafe { prop.read() },
            imported: false,
            references: AtomicU32::new(1),
            state: Mutex::default(),
        });
        // SAFETY: checked for null, valid for a write.
        unsafe { give(handle, "handle", made) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFreePhysical(handle: aclrtDrvMemHandle) -> aclError {
    call("aclrtFreePhysical", || {
        not_null(handle, "handle")?;
        context_even_poisoned()?;
        let physical = PHYSICAL.get(handle)?;
        if physical.references.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        if physical.lock().at.is_some() {
            physical.references.store(1, Ordering::Release);
            return Err(violation(
                code::RT_PARAM_INVALID,
                "physical memory is freed while it is mapped",
            ));
        }
        PHYSICAL.remove(handle)?;
        if physical.imported {
            return Ok(());
        }
        world()?
            .device(i64::from(physical.device))?
            .unaccount(physical.size);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMapMem(
    virPtr: *mut c_void,
    size: usize,
    offset: usize,
    handle: aclrtDrvMemHandle,
    _flags: u64,
) -> aclError {
    call("aclrtMapMem", || {
        context()?;
        not_null(virPtr, "virPtr")?;
        let physical = PHYSICAL.get(handle)?;
        if offset != 0 || size != physical.size {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!(
                    "{size} bytes at offset {offset}, wanted all {} bytes at 0",
                    physical.size
                ),
            ));
        }
        let start = virPtr.addr();
        let reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        let reservation = reserved
            .range(..=start)
            .next_back()
            .map(|(_, reservation)| Arc::clone(reservation))
            .filter(|found| start.saturating_add(size) <= found.base.saturating_add(found.length))
            .ok_or_else(|| {
                violation(
                    code::RT_PARAM_INVALID,
                    format!("{size} bytes from {start:#x} were not reserved"),
                )
            })?;
        let mut state = physical
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.at.is_some() || memory::find(start, 1).is_ok() {
            return Err(violation(
                code::RT_PARAM_INVALID,
                "the address or the physical memory is mapped already",
            ));
        }
        if let Some(shared) = &state.shared {
            // SAFETY: the reservation has `size` bytes from `start`, in whole pages, and nothing is mapped there.
            unsafe { shared.map_over(start) }?;
        }
        if !state.saved.is_empty() {
            let saved = std::mem::take(&mut state.saved);
            // SAFETY: the reservation has `size` bytes from `start`; as many were saved.
            unsafe {
                memory::copy(
                    start,
                    saved.as_ptr().expose_provenance(),
                    saved.len().min(size),
                )
            };
        }
        state.at = Some(start);
        drop(state);
        let owner: Arc<dyn std::any::Any + Send + Sync> = Arc::new((reservation, physical.clone()));
        memory::adopt(
            Place::Device(physical.device),
            start,
            size,
            start,
            Some(owner),
        );
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtUnmapMem(virPtr: *mut c_void) -> aclError {
    call("aclrtUnmapMem", || {
        not_null(virPtr, "virPtr")?;
        context_even_poisoned()?;
        let start = virPtr.addr();
        let Some((_, physical)) = mapped_at(start) else {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!("nothing is mapped at {start:#x}"),
            ));
        };
        let block = memory::release(start);
        let mut state = physical.lock();
        state.at = None;
        state.access.clear();
        if state.shared.is_some() {
            // SAFETY: the pages are the reservation's; the bytes stay in the shared memory.
            unsafe { shared::unshare(start, physical.size) };
        } else {
            state.saved = vec![0u8; physical.size];
            let target = state.saved.as_mut_ptr().expose_provenance();
            // SAFETY: the mapping had `size` bytes from `start`, which its reservation keeps alive; the buffer has as many.
            unsafe { memory::copy(target, start, physical.size) };
        }
        drop(state);
        match block {
            Some(block) => memory::inspect_freed(&block),
            None => Ok(()),
        }
    })
}
