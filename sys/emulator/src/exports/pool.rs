//! Pools of device memory, from which streams take and give back in the order of their work.
//!
//! Knows pools, their limits and counts; it must not know kernels.
//!
//! A block is freed where the stream that gives it back gets there, so that each use after that point is found. Its bytes stay
//! with the pool until the stream is done, or up to the release threshold until the pool is trimmed. The documents leave open
//! which allocation may reuse which bytes; here each gets fresh ones.

use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, violation};
use crate::memory::{self, Place};
use crate::registry::{Kind, Registry};
use crate::state::{Device, context, context_even_poisoned, world};
use crate::stream::Task;
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static POOLS: Registry<Pool> = Registry::new(Kind::Pool, code::RT_PARAM_INVALID);
/// Which pool each living block is of.
static OWNERS: Mutex<BTreeMap<usize, Arc<Pool>>> = Mutex::new(BTreeMap::new());

struct Pool {
    device: Arc<Device>,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes in blocks that are in use, and the most so far.
    used: [u64; 2],
    /// Bytes taken from the device, and the most so far.
    reserved: [u64; 2],
    threshold: u64,
    reuse: [u32; 3],
    blocks: usize,
}

impl State {
    fn idle(&self) -> u64 {
        self.reserved[0].saturating_sub(self.used[0])
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives idle bytes back to the device, but for some.
    fn trim(&self, keep: u64) {
        let mut state = self.lock();
        let gone = state.idle().saturating_sub(keep);
        state.reserved[0] -= gone;
        self.device.unaccount(gone as usize);
    }

    /// Accounts for a block: idle bytes first, then those of the device.
    fn take(&self, room: u64) -> Result<(), Failure> {
        let capacity = world()?.capacity();
        let mut state = self.lock();
        let more = room.saturating_sub(state.idle());
        if state.reserved[0] + more > self.most as u64 {
            return Err(Failure::new(
                code::RT_MEMORY_ALLOCATION,
                format!(
                    "the pool has {} bytes of {}, asked for {room}",
                    state.used[0], self.most
                ),
            ));
        }
        self.device.account(more as usize, capacity)?;
        state.reserved[0] += more;
        state.used[0] += room;
        state.blocks += 1;
        state.used[1] = state.used[1].max(state.used[0]);
        state.reserved[1] = state.reserved[1].max(state.reserved[0]);
        Ok(())
    }

    fn give_back(&self, room: u64) {
        let mut state = self.lock();
        state.used[0] = state.used[0].saturating_sub(room);
        state.blocks = state.blocks.saturating_sub(1);
        let keep = state.threshold;
        drop(state);
        self.trim(keep);
    }
}

fn owners() -> MutexGuard<'static, BTreeMap<usize, Arc<Pool>>> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets everything.
pub(crate) fn clear() {
    POOLS.clear();
    owners().clear();
}

/// One line for each pool.
pub(crate) fn report(lines: &mut Vec<String>) {
    POOLS.report(lines);
}

const PAGE: u64 = 2 << 20;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolCreate(
    memPool: *mut aclrtMemPool,
    poolProps: *const aclrtMemPoolProps,
) -> aclError {
    call("aclrtMemPoolCreate", || {
        context()?;
        not_null(memPool, "memPool")?;
        not_null(poolProps, "poolProps")?;
        // SAFETY: not null, valid for a read.
        let wish = unsafe { poolProps.read() };
        if wish.location.type_ != ACL_MEM_LOCATION_TYPE_DEVICE {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!(
                    "location.type is {}, wanted 1 (a device)",
                    wish.location.type_
                ),
            ));
        }
        let world = world()?;
        let device = Arc::clone(world.device(i64::from(wish.location.id))?);
        let most = match wish.maxSize {
            0 => usize::try_from(world.capacity()).unwrap_or(usize::MAX),
            most => most,
        };
        let made = POOLS.insert(Pool {
            device,
            most,
            state: Mutex::default(),
        });
        // SAFETY: not null, valid for a write.
        unsafe { give(memPool, "memPool", made) }
    })
}

/// Waits for blocks that streams are about to give back; one that nobody gave back is a leak.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolDestroy(memPool: aclrtMemPool) -> aclError {
    call("aclrtMemPoolDestroy", || {
        context_even_poisoned()?;
        let pool = POOLS.get(memPool)?;
        let kept = pool.lock().blocks;
        if kept > 0 {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!(
                    "{kept} blocks of the pool were not given back, or their streams not waited for"
                ),
            ));
        }
        pool.trim(0);
        POOLS.remove(memPool).map(drop)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolMallocAsync(
    ptr: *mut *mut c_void,
    size: usize,
    memPool: aclrtMemPool,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemPoolMallocAsync", || {
        resolve(&*context()?, stream)?;
        not_null(ptr, "ptr")?;
        let pool = POOLS.get(memPool)?;
        if size == 0 {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "size is 0, wanted a positive number",
            ));
        }
        let room = (size as u64)
            .checked_next_multiple_of(PAGE)
            .unwrap_or(u64::MAX / 2);
        pool.take(room)?;
        let place = Place::Device(pool.device.id);
        let block =
            memory::allocate(place, size, room as usize).inspect_err(|_| pool.give_back(room))?;
        owners().insert(block.start, pool);
        let address = ptr::with_exposed_provenance_mut(block.start);
        // SAFETY: not null, valid for a write.
        unsafe { give(ptr, "ptr", address) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolFreeAsync(ptr: *mut c_void, stream: aclrtStream) -> aclError {
    call("aclrtMemPoolFreeAsync", || {
        let stream = resolve(&*context()?, stream)?;
        not_null(ptr, "ptr")?;
        let start = ptr.addr();
        let Some(pool) = owners().remove(&start) else {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!("{start:#x} is no living block of aclrtMemPoolMallocAsync"),
            ));
        };
        let mut task = Task::new(move || {
            let block = memory::free(start, |place| matches!(place, Place::Device(_)))?;
            pool.give_back(block.room as u64);
            memory::inspect_freed(&block)
        });
        task.always = true;
        stream.submit(task)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolTrimTo(
    memPool: aclrtMemPool,
    minBytesToKeep: usize,
) -> aclError {
    call("aclrtMemPoolTrimTo", || {
        context()?;
        let pool = POOLS.get(memPool)?;
        let used = pool.lock().used[0];
        pool.trim((minBytesToKeep as u64).saturating_sub(used));
        Ok(())
    })
}

fn unknown(attr: aclrtMemPoolAttr) -> Failure {
    let text = format!("attribute {attr} is unknown or cannot be set so");
    Failure::new(code::RT_PARAM_INVALID, text)
}

/// Reuse is set by 32-bit numbers, sizes by 64-bit ones; peaks can be set to 0 only, which begins them anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolSetAttr(
    memPool: aclrtMemPool,
    attr: aclrtMemPoolAttr,
    value: *mut c_void,
) -> aclError {
    call("aclrtMemPoolSetAttr", || {
        let pool = POOLS.get(memPool)?;
        not_null(value, "value")?;
        let mut state = pool.lock();
        // SAFETY: not null, valid for a read of the attribute's type by the contract of the C function.
        let (small, large) = unsafe {
            match attr {
                1..=3 => (value.cast::<u32>().read_unaligned(), 0),
                _ => (0, value.cast::<u64>().read_unaligned()),
            }
        };
        match attr {
            1..=3 => state.reuse[attr as usize - 1] = u32::from(small != 0),
            ACL_RT_MEM_POOL_ATTR_RELEASE_THRESHOLD if large <= pool.most as u64 => {
                state.threshold = large;
            }
            ACL_RT_MEM_POOL_ATTR_RESERVED_MEM_HIGH if large == 0 => state.reserved[1] = 0,
            ACL_RT_MEM_POOL_ATTR_USED_MEM_HIGH if large == 0 => state.used[1] = 0,
            _ => return Err(unknown(attr)),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemPoolGetAttr(
    memPool: aclrtMemPool,
    attr: aclrtMemPoolAttr,
    value: *mut c_void,
) -> aclError {
    call("aclrtMemPoolGetAttr", || {
        let pool = POOLS.get(memPool)?;
        not_null(value, "value")?;
        let state = pool.lock();
        let large = match attr {
            1..=3 => {
                let set = state.reuse[attr as usize - 1];
                // SAFETY: not null, valid for a write of the attribute's type by the contract of the C function.
                unsafe { value.cast::<u32>().write_unaligned(set) };
                return Ok(());
            }
            ACL_RT_MEM_POOL_ATTR_RELEASE_THRESHOLD => state.threshold,
            ACL_RT_MEM_POOL_ATTR_RESERVED_MEM_CURRENT => state.reserved[0],
            ACL_RT_MEM_POOL_ATTR_RESERVED_MEM_HIGH => state.reserved[1],
            ACL_RT_MEM_POOL_ATTR_USED_MEM_CURRENT => state.used[0],
            ACL_RT_MEM_POOL_ATTR_USED_MEM_HIGH => state.used[1],
            _ => return Err(unknown(attr)),
        };
        // SAFETY: as above.
        unsafe { value.cast::<u64>().write_unaligned(large) };
        Ok(())
    })
}
