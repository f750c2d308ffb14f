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
    /// Rises with each in-place change.
    version: AtomicU64,
    /// The version that the last in-place change under the tape made.
    history: AtomicU64,
    /// Readers and writers of host memory.
    lock: RwLock<()>,
}

impl Storage {
    pub fn new(data: Data) -> Arc<Self> {
        Arc::new(Storage {
            data,
            version: AtomicU64::new(0),
            history: AtomicU64::new(0),
            lock: RwLock::new(()),
        })
    }

    pub fn data(&self) -> &Data {
        &self.data
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
    pub fn host(&self, layout: Layout, dtype: DType) -> Option<Host<'_>> {
        match &self.data {
            Data::Cpu(block) => {
                let start = block.start().cast_const();
                // SAFETY: the layout lies within the block; the caller holds the lock.
                Some(unsafe { Host::new(start, layout, dtype) })
            }
            Data::Ascend(_) | Data::Ghost(_) => None,
        }
    }

    /// As `host`, to write. The caller holds the lock exclusively, or has the only handle of a fresh storage.
    pub fn host_mut(&self, layout: Layout, dtype: DType) -> Option<HostMut<'_>> {
        match &self.data {
            // SAFETY: as `host`; nobody else reads or writes meanwhile.
            Data::Cpu(block) => Some(unsafe { HostMut::new(block.start(), layout, dtype) }),
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

/// Locks held while a host kernel runs: each storage once, writers exclusively, in the order of their addresses.
pub(crate) struct Locks<'a> {
    _read: SmallVec<[RwLockReadGuard<'a, ()>; 4]>,
    _write: SmallVec<[RwLockWriteGuard<'a, ()>; 1]>,
}

impl<'a> Locks<'a> {
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
