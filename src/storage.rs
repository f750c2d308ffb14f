//! Storages: the memory that tensors and their views share.
//!
//! Knows which device holds the bytes, the version counter of in-place changes, and the lock that keeps host readers and
//! writers apart. Must not know what shapes and dtypes mean, nor ops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use smallvec::SmallVec;

use crate::ascend::Buffer;
use crate::cpu::alloc::Block;
use crate::cpu::{Host, HostMut};
use crate::device::Device;
use crate::dry_run::Ghost;
use crate::dtype::DType;
use crate::layout::Layout;

/// The bytes of a tensor, on one device.
#[derive(Debug)]
pub(crate) enum Data {
    Cpu(Block),
    Ascend(Buffer),
    /// Of a dry run: memory that is only counted.
    Ghost(Ghost),
}

/// Shared memory of tensors: the bytes, how often they were changed in place, and by whose history.
#[derive(Debug)]
pub(crate) struct Storage {
    data: Data,
    /// How the tensor lies in it that it was made for.
    layout: Layout,
    /// Rises with each in-place change.
    version: AtomicU64,
    /// The version that the last in-place change under the tape made.
    history: AtomicU64,
    /// Readers and writers of host memory.
    lock: RwLock<()>,
}

impl Storage {
    #[inline(always)]
    pub fn new(data: Data, layout: &Layout) -> Arc<Self> {
        let storage = Arc::<Storage>::new_uninit();
        let place = Arc::as_ptr(&storage).cast_mut().cast::<Storage>();
        // SAFETY: nobody else has the fresh storage; every field is written, and where it stays: a copy of the whole would
        // cost more than a small kernel.
        unsafe {
            (&raw mut (*place).data).write(data);
            (&raw mut (*place).layout).write(*layout);
            (&raw mut (*place).version).write(AtomicU64::new(0));
            (&raw mut (*place).history).write(AtomicU64::new(0));
            (&raw mut (*place).lock).write(RwLock::new(()));
            storage.assume_init()
        }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Whether there is host memory.
    #[inline]
    pub fn is_host(&self) -> bool {
        matches!(self.data, Data::Cpu(_))
    }

    pub fn into_data(self) -> Data {
        self.data
    }

    pub fn device(&self) -> Device {
        match &self.data {
            Data::Cpu(_) => Device::Cpu,
            Data::Ascend(buffer) => Device::Ascend(buffer.device()),
            Data::Ghost(ghost) => ghost.device(),
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Cpu(block) => block.len(),
            Data::Ascend(buffer) => buffer.len(),
            Data::Ghost(ghost) => ghost.len(),
        }
    }

    /// A kernel's view of a tensor, if the data is on the host. Every layout of a tensor lies within its storage: views
    /// only narrow, and whoever makes a tensor over a storage has checked the size.
    #[inline]
    pub fn host<'a>(&'a self, layout: &'a Layout, dtype: DType) -> Option<Host<'a>> {
        match &self.data {
            Data::Cpu(block) => {
                let start = block.start().cast_const();
                // SAFETY: the layout lies within the block; the caller holds the lock.
                Some(unsafe { Host::lent(start, layout, dtype) })
            }
            Data::Ascend(_) | Data::Ghost(_) => None,
        }
    }

    /// As `host`; without elements if it is not.
    #[inline]
    pub fn host_or_empty<'a>(&'a self, layout: &'a Layout, dtype: DType) -> Host<'a> {
        let start = match &self.data {
            Data::Cpu(block) => block.start().cast_const(),
            Data::Ascend(_) | Data::Ghost(_) => return Host::empty(dtype),
        };
        // SAFETY: the layout lies within the block; the caller holds the lock.
        unsafe { Host::lent(start, layout, dtype) }
    }

    /// As `host`, to write. The caller holds the lock exclusively, or has the only handle of a fresh storage.
    #[inline]
    pub fn host_mut<'a>(&'a self, layout: &'a Layout, dtype: DType) -> Option<HostMut<'a>> {
        match &self.data {
            // SAFETY: as `host`; nobody else reads or writes meanwhile.
            Data::Cpu(block) => Some(unsafe { HostMut::lent(block.start(), layout, dtype) }),
            Data::Ascend(_) | Data::Ghost(_) => None,
        }
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn history(&self) -> u64 {
        self.history.load(Ordering::Acquire)
    }

    /// Notes an in-place change; the answer is the new version.
    pub fn changed(&self, taped: bool) -> u64 {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        if taped {
            self.history.store(version, Ordering::Release);
        }
        version
    }
}

/// Read locks of a few storages, held while a short host kernel runs.
type Readers<'a, const N: usize> = [Option<RwLockReadGuard<'a, ()>>; N];

/// Locks held while a host kernel runs: each storage once, writers exclusively, in the order of their addresses.
pub(crate) struct Locks<'a> {
    _read: SmallVec<[RwLockReadGuard<'a, ()>; 4]>,
    _write: SmallVec<[RwLockWriteGuard<'a, ()>; 1]>,
}

impl<'a> Locks<'a> {
    /// Locks a few storages for reading.
    #[inline]
    pub fn reading<const N: usize>(mut storages: [&'a Arc<Storage>; N]) -> Readers<'a, N> {
        let address = |storage: &&Arc<Storage>| Arc::as_ptr(storage).addr();
        if N == 2 && address(&storages[0]) > address(&storages[1]) {
            storages.swap(0, 1);
        } else if N > 2 {
            storages.sort_unstable_by_key(address);
        }
        std::array::from_fn(|index| {
            let again = index > 0 && Arc::ptr_eq(storages[index], storages[index - 1]);
            let lock = || {
                storages[index]
                    .lock
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
            };
            (!again).then(lock)
        })
    }

    /// Locks the storages for reading or, where the flag says so, for writing.
    pub fn take(storages: impl Iterator<Item = (&'a Arc<Storage>, bool)>) -> Self {
        let mut wanted: SmallVec<[(&'a Storage, bool); 4]> = SmallVec::new();
        for (storage, write) in storages {
            match wanted
                .iter_mut()
                .find(|(own, _)| std::ptr::eq(*own, storage.as_ref()))
            {
                Some(own) => own.1 |= write,
                None => wanted.push((storage, write)),
            }
        }
        if wanted.len() > 1 {
            wanted.sort_unstable_by_key(|(storage, _)| {
                std::ptr::from_ref::<Storage>(storage) as usize
            });
        }
        let mut locks = Locks {
            _read: SmallVec::new(),
            _write: SmallVec::new(),
        };
        for (storage, write) in wanted {
            if write {
                locks
                    ._write
                    .push(storage.lock.write().unwrap_or_else(PoisonError::into_inner));
            } else {
                locks
                    ._read
                    .push(storage.lock.read().unwrap_or_else(PoisonError::into_inner));
            }
        }
        locks
    }
}
