//! Host memory of tensors: aligned blocks, and memory that somebody else owns.
//!
//! Knows blocks and where they come from. Must not know dtypes or shapes.

mod cache;
mod room;

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;

use crate::device::Device;
use crate::error::{Error, Result};
use cache::Chunk;

pub use cache::{CpuMemory, cpu_memory, reset_cpu_memory_peak, trim_cpu_memory};
pub(crate) use cache::{rounded, set_limit};
pub(crate) use room::{
    collected, filled, lacks, note_lack, noted, room, take_lack, told, workspace,
};

/// The alignment of a tensor's memory in bytes: a cache line, and a vector register of AVX-512.
pub(crate) const ALIGNMENT: usize = 64;

enum Owner {
    Own(#[expect(dead_code, reason = "kept until the block is dropped")] Chunk),
    /// The bytes belong to this value, which is only kept alive.
    Foreign(Box<dyn Any + Send + Sync>),
}

/// A block of host memory. Reads and writes are kept apart by the lock of the storage that holds it.
pub(crate) struct Block {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: the block owns its memory (or keeps the owner alive), and its users synchronise through the storage's lock.
unsafe impl Send for Block {}
// SAFETY: as above; the block itself hands out only raw pointers.
unsafe impl Sync for Block {}

impl Block {
    /// Memory with unspecified content: kernels write every element of an output before anybody reads it.
    pub fn allocate(op: &'static str, len: usize) -> Result<Self> {
        let chunk = Chunk::take(len).map_err(|free| Error::OutOfMemory {
            op,
            device: Device::Cpu,
            asked: len,
            free,
        })?;
        Ok(Block {
            start: chunk.start(),
            len,
            owner: Owner::Own(chunk),
        })
    }

    /// A block over the elements of a vector, without a copy.
    pub fn from_vec<T: Send + Sync + Copy + 'static>(mut values: Vec<T>) -> Self {
        let start = NonNull::new(values.as_mut_ptr().cast()).unwrap_or(NonNull::dangling());
        let len = std::mem::size_of_val(values.as_slice());
        Block {
            start,
            len,
            owner: Owner::Foreign(Box::new(values)),
        }
    }

    /// A block with a copy of bytes.
    pub fn from_bytes(op: &'static str, bytes: &[u8]) -> Result<Self> {
        let block = Block::allocate(op, bytes.len())?;
        // SAFETY: the fresh block has room for all bytes and is other memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), block.start.as_ptr(), bytes.len()) };
        Ok(block)
    }

    /// A block over bytes that `owner` keeps alive and that may be written through `start`.
    ///
    /// # Safety
    /// `start` must stay valid for reads and writes of `len` bytes while `owner` lives, and nobody else may write there.
    pub unsafe fn from_owner(
        start: NonNull<u8>,
        len: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Block {
            start,
            len,
            owner: Owner::Foreign(owner),
        }
    }

    /// The vector that the block was made from, if it was made from one of `T`.
    pub fn into_vec<T: 'static>(mut self) -> std::result::Result<Vec<T>, Self> {
        match std::mem::replace(&mut self.owner, Owner::Foreign(Box::new(()))) {
            Owner::Foreign(owner) => match owner.downcast::<Vec<T>>() {
                Ok(values) => Ok(*values),
                Err(owner) => {
                    self.owner = Owner::Foreign(owner);
                    Err(self)
                }
            },
            own => {
                self.owner = own;
                Err(self)
            }
        }
    }

    /// Reads bytes from `start` on; bytes past the end are left as they are.
    pub fn read(&self, start: usize, into: &mut [u8]) {
        let count = into.len().min(self.len.saturating_sub(start));
        // SAFETY: `count` bytes from `start` on lie in the block, and `into` is other memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.start.as_ptr().add(start.min(self.len)),
                into.as_mut_ptr(),
                count,
            )
        };
    }

    /// Makes every byte 0 or 1, which a bool must be. Called before the block is shared.
    pub fn normalize_bools(&mut self) {
        // SAFETY: the block is initialised where it comes from a file or a device, and borrowed mutably here.
        for byte in unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) } {
            *byte = u8::from(*byte != 0);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
