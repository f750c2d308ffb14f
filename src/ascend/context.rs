//! A device in use: its context, its health, and its memory.
//!
//! Knows how a thread binds to the device, what failed on it, and how its pool takes memory from it. Must not know tensors,
//! handles or operators.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ascend_sys::{ACL_HBM_MEM, ACL_MEM_MALLOC_HUGE_FIRST, Function, aclrtContext, f};

use super::cann::Cann;
use super::comm::Communicator;
use super::counters::count_sync;
use super::determinism;
use super::error_codes;
use super::event::Events;
use super::overflow;
use super::pool::{Block, Pool, Statistics, block_size, segment_sizes};
use super::runtime::Runtime;
use super::staging::Staging;
use super::stream::Stream;
use crate::device::Device;
use crate::error::{AclError, Error, Result, Usable};

const HEALTHY: u8 = 0;
const PENDING: u8 = 1;
const LOST: u8 = 2;

/// How long to wait for what still runs on a lost device, in milliseconds.
const PATIENCE: i32 = 1000;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The context that this crate last made current on the thread; 0 is none.
    static BOUND: Cell<u64> = const { Cell::new(0) };
}

/// A number that no other context or stream of the process has.
pub(super) fn unique() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An opaque handle of CANN, kept as a number: it is only ever handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw(usize);

impl Raw {
    pub fn new(pointer: *mut core::ffi::c_void) -> Self {
        Raw(pointer.expose_provenance())
    }

    pub fn pointer(self) -> *mut core::ffi::c_void {
        std::ptr::with_exposed_provenance_mut(self.0)
    }
}

/// The context of one device, from its first use to a reset or shutdown.
#[derive(Debug)]
pub(crate) struct Context {
    id: u64,
    number: u32,
    runtime: Arc<Runtime>,
    raw: Raw,
    state: AtomicU8,
    deferred: Mutex<Option<Box<AclError>>>,
    lost: OnceLock<Box<AclError>>,
    pool: Mutex<Pool>,
    pub(super) staging: Staging,
    pub(super) events: Events,
    streams: Mutex<Vec<Weak<Stream>>>,
    communicators: Mutex<Vec<Weak<Communicator>>>,
    /// Buffers in use.
    pub(super) buffers: AtomicUsize,
    /// Their lengths together.
    pub(super) bytes: AtomicUsize,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Selects the device on this thread and joins its primary context.
    pub fn open(op: &'static str, runtime: Arc<Runtime>, number: u32) -> Result<Arc<Self>> {
        let device = i32::try_from(number).map_err(|_| {
            Error::option(
                op,
                "device",
                format!("got ascend:{number}, wanted a smaller number"),
            )
        })?;
        BOUND.set(0);
        let cann = &runtime.cann;
        // SAFETY: the call takes a number only.
        cann.call(op, f::aclrtSetDevice, |set| unsafe { set(device) })?;
        let mut raw: aclrtContext = std::ptr::null_mut();
        // SAFETY: `raw` is writable for the call.
        let found = cann.call(op, f::aclrtGetCurrentContext, |get| unsafe {
            get(&mut raw)
        });
        if let Err(error) = found {
            // The device was counted as used; nothing is on it yet.
            let _ = reset_device(op, cann, device, false);
            return Err(error);
        }
        let context = Context {
            id: unique(),
            number,
            runtime,
            raw: Raw::new(raw),
            state: AtomicU8::new(HEALTHY),
            deferred: Mutex::default(),
            lost: OnceLock::new(),
            pool: Mutex::default(),
            staging: Staging::default(),
            events: Events::default(),
            streams: Mutex::default(),
            communicators: Mutex::default(),
            buffers: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        BOUND.set(context.id);
        let settings = determinism::carry_over(&context);
        if let Err(error) = settings.and_then(|()| overflow::carry_over(&context)) {
            let _ = reset_device(op, &context.runtime.cann, device, false);
            return Err(error);
        }
        Ok(Arc::new(context))
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Remembers a stream, to be ended with the context.
    pub fn adopt(&self, stream: &Arc<Stream>) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    /// The streams that are still there.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Remembers a communicator, to be ended with the context.
    pub fn adopt_communicator(&self, communicator: &Arc<Communicator>) {
        let mut communicators = lock(&self.communicators);
        communicators.retain(|communicator| communicator.strong_count() > 0);
        communicators.push(Arc::downgrade(communicator));
    }

    /// Ends the communicators that are still there; the first failure is the answer.
    pub fn end_communicators(&self, op: &'static str) -> Result<()> {
        let all = std::mem::take(&mut *lock(&self.communicators));
        let mut done = Ok(());
        for communicator in all.iter().filter_map(Weak::upgrade) {
            done = done.and(communicator.end(op));
        }
        done
    }

    /// Forgets which context is current on this thread, after a call that may have changed it.
    pub fn unbind() {
        BOUND.set(0);
    }

    /// Makes the context current on this thread, if it is not.
    #[inline]
    pub fn bind(&self, op: &'static str) -> Result<()> {
        if BOUND.get() == self.id {
            return Ok(());
        }
        BOUND.set(0);
        // SAFETY: the context lives until the device is given up, and `check` refuses its use afterwards.
        self.call(op, f::aclrtSetCurrentContext, |set| unsafe {
            set(self.raw.pointer())
        })?;
        BOUND.set(self.id);
        Ok(())
    }

    /// Calls a function on this device's behalf; a fatal failure marks the device as lost.
    #[inline]
    pub fn call<F: Function>(
        &self,
        op: &'static str,
        function: F,
        body: impl FnOnce(F::Pointer) -> i32,
    ) -> Result<()> {
        self.runtime
            .cann
            .call(op, function, body)
            .map_err(|error| self.noted(error))
    }

    /// The error itself, after marking the device as lost if the error says so.
    #[cold]
    pub fn noted(&self, error: Error) -> Error {
        if let Error::Acl(inner) = &error
            && !matches!(inner.usable, Usable::Device | Usable::NotStream)
        {
            self.lose(inner.clone());
        }
        error
    }

    /// Marks the device as lost; the first cause stays.
    pub fn lose(&self, cause: Box<AclError>) {
        let _ = self.lost.set(cause);
        self.state.store(LOST, Ordering::Release);
    }

    pub fn is_lost(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOST
    }

    /// Keeps a failure that cannot be returned where it happened; the next call reports the first of them.
    pub fn defer(&self, error: Error) {
        if let Error::Acl(inner) = self.noted(error) {
            lock(&self.deferred).get_or_insert(inner);
            let _ =
                self.state
                    .compare_exchange(HEALTHY, PENDING, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The failure that waits to be reported, if there is one; it is reported once.
    pub fn take_deferred(&self) -> Option<Box<AclError>> {
        let found = lock(&self.deferred).take();
        let _ = self
            .state
            .compare_exchange(PENDING, HEALTHY, Ordering::AcqRel, Ordering::Acquire);
        found
    }

    /// Refuses work on a lost device, and reports a failure that happened earlier.
    #[inline]
    pub fn check(&self, op: &'static str) -> Result<()> {
        if self.state.load(Ordering::Acquire) == HEALTHY {
            Ok(())
        } else {
            self.refuse(op)
        }
    }

    #[cold]
    fn refuse(&self, op: &'static str) -> Result<()> {
        let cause = match self.lost.get() {
            Some(cause) => Some(cause.clone()),
            None => self.take_deferred(),
        };
        match cause {
            Some(cause) => Err(Error::Deferred {
                op,
                cause: Box::new(Error::Acl(cause)),
            }),
            None => Ok(()),
        }
    }

    /// A block for a stream of this device. The context is bound.
    pub fn allocate(&self, op: &'static str, stream: u64, bytes: usize) -> Result<Block> {
        let refused = |free| Error::OutOfMemory {
            op,
            device: Device::Ascend(self.number),
            asked: bytes,
            free,
        };
        let size = block_size(bytes).ok_or_else(|| refused(0))?;
        let mut pool = lock(&self.pool);
        if self.is_lost() {
            self.refuse(op)?;
        }
        if let Some(block) = pool.take(stream, size) {
            return Ok(block);
        }
        self.grow(op, &mut pool, stream, size).map_err(|error| {
            if error.is_out_of_memory() {
                refused(self.free_bytes(op))
            } else {
                error
            }
        })?;
        pool.take(stream, size).ok_or_else(|| refused(0))
    }

    /// Takes a segment from the device; if there is none, first gives back what the pool does not use.
    fn grow(&self, op: &'static str, pool: &mut Pool, stream: u64, size: usize) -> Result<()> {
        let (usual, least) = segment_sizes(size);
        let (address, taken) = match self.malloc(op, usual) {
            Err(error) if error.is_out_of_memory() => {
                self.release_cached(op, pool)?;
                match self.malloc(op, usual) {
                    Err(error) if error.is_out_of_memory() && least < usual => {
                        (self.malloc(op, least)?, least)
                    }
                    other => (other?, usual),
                }
            }
            other => (other?, usual),
        };
        pool.add_segment(stream, size, address, taken);
        Ok(())
    }

    fn malloc(&self, op: &'static str, size: usize) -> Result<usize> {
        let mut address = std::ptr::null_mut();
        // SAFETY: `address` is writable for the call.
        self.call(op, f::aclrtMalloc, |malloc| unsafe {
            malloc(&mut address, size, ACL_MEM_MALLOC_HUGE_FIRST)
        })?;
        Ok(address.expose_provenance())
    }

    /// Waits for the device and gives back all segments without a block in use.
    fn release_cached(&self, op: &'static str, pool: &mut Pool) -> Result<()> {
        self.synchronize(op)?;
        let mut first = None;
        for address in pool.drain() {
            if let Err(error) = self.free(op, address) {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn free(&self, op: &'static str, address: usize) -> Result<()> {
        let pointer = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the address came from `aclrtMalloc`, left the pool's books just now, and the device has passed all work on it.
        self.call(op, f::aclrtFree, |free| unsafe { free(pointer) })
    }

    fn free_bytes(&self, op: &'static str) -> usize {
        self.memory(op).map_or(0, |(free, _)| free)
    }

    /// The device's free and total memory in bytes. The context is bound.
    pub fn memory(&self, op: &'static str) -> Result<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both numbers are writable for the call.
        self.call(op, f::aclrtGetMemInfo, |get| unsafe {
            get(ACL_HBM_MEM, &mut free, &mut total)
        })?;
        Ok((free, total))
    }

    /// Gives a block back to the pool.
    pub fn release(&self, block: Block) {
        lock(&self.pool).release(block);
    }

    /// Moves the free blocks of a stream that ends to another one.
    pub fn rehome(&self, from: u64, to: u64) {
        lock(&self.pool).rehome(from, to);
    }

    /// Gives all cached memory back to the device. The context is bound.
    pub fn empty_cache(&self, op: &'static str) -> Result<()> {
        self.release_cached(op, &mut lock(&self.pool))
    }

    pub fn statistics(&self) -> Statistics {
        lock(&self.pool).statistics()
    }

    pub fn reset_peaks(&self) {
        lock(&self.pool).reset_peaks();
    }

    /// Waits for all work of the device. The context is bound.
    pub fn synchronize(&self, op: &'static str) -> Result<()> {
        count_sync();
        // SAFETY: the call takes nothing.
        self.call(op, f::aclrtSynchronizeDevice, |synchronize| unsafe {
            synchronize()
        })
    }

    /// Waits until nothing runs on the device any more; on a lost one, that may never answer, only for a while.
    pub fn settle(&self, op: &'static str) -> Result<()> {
        if !self.is_lost() {
            return self.synchronize(op);
        }
        let wait = f::aclrtSynchronizeDeviceWithTimeout;
        // SAFETY: the call takes a number only.
        self.call(op, wait, |wait| unsafe { wait(PATIENCE) })
    }

    /// Marks the context as given up, if no buffer is in use; no allocation succeeds afterwards.
    pub fn close(&self, cause: Box<AclError>) -> bool {
        let _pool = lock(&self.pool);
        if self.buffers.load(Ordering::Acquire) > 0 {
            return false;
        }
        self.lose(cause);
        true
    }

    /// How many buffers are in use, and their lengths together.
    pub fn alive(&self) -> (usize, usize) {
        (
            self.buffers.load(Ordering::Acquire),
            self.bytes.load(Ordering::Acquire),
        )
    }

    /// Takes back this crate's use of the device; with `force` that of everybody. Nothing of the context is used afterwards.
    pub fn reset_device(&self, op: &'static str, force: bool) -> Result<()> {
        let Ok(device) = i32::try_from(self.number) else {
            return Ok(());
        };
        BOUND.set(0);
        reset_device(op, &self.runtime.cann, device, force)
    }

    /// Gives up a lost device's memory, pinned memory and events; failures change nothing any more.
    pub fn abandon(&self, op: &'static str) {
        let segments = lock(&self.pool).abandon();
        for address in segments {
            let _ = self.free(op, address);
        }
        self.staging.abandon(self, op);
        self.events.abandon(self, op);
    }
}

fn reset_device(op: &'static str, cann: &Cann, device: i32, force: bool) -> Result<()> {
    if force && cann.has(f::aclrtResetDeviceForce) {
        // SAFETY: the call takes a number only, and nothing of the device is used afterwards.
        return cann.call(op, f::aclrtResetDeviceForce, |reset| unsafe {
            reset(device)
        });
    }
    // SAFETY: as above.
    cann.call(op, f::aclrtResetDevice, |reset| unsafe { reset(device) })
}

/// The cause that later calls on a context report when the user ended it.
pub(super) fn ended(op: &'static str, call: &'static str) -> Box<AclError> {
    let detail = "the device was given up, and the memory of its tensors with it";
    let mut cause = error_codes::describe(op, call, 107_002, detail.into());
    cause.usable = Usable::NotContext;
    cause.meaning = "the tensor's device was reset or shut down";
    cause.action = "make new tensors";
    Box::new(cause)
}
