//! Mapped files: a file's bytes as memory, read when touched.
//!
//! Knows mappings only. A mapping is private: writes to it stay in this process and never reach the file.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use crate::cpu::alloc::Block;
use crate::error::{Error, Result};

/// A private mapping of a whole file.
#[derive(Debug, Clone)]
pub(crate) struct Mapping(Arc<MmapRaw>, Arc<(PathBuf, File)>);

impl Mapping {
    pub fn open(op: &'static str, path: &Path) -> Result<Self> {
        let fail = |error| Error::io(op, path, error);
        let file = File::open(path).map_err(fail)?;
        // SAFETY: the mapping is private, so nobody sees its writes; that the file is not cut short while it is mapped is
        // the documented duty of the user of `load_safetensors`.
        let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(fail)?;
        Ok(Mapping(
            Arc::new(map.into()),
            Arc::new((path.to_path_buf(), file)),
        ))
    }

    /// Whether the file still has all bytes that it was mapped with: those that went would end the process when touched.
    ///
    /// # Errors
    /// `Io` if the file was cut short.
    pub fn check(&self, op: &'static str) -> Result<()> {
        let (path, file) = &*self.1;
        let fail = |error| Error::io(op, path, error);
        let (now, mapped) = (file.metadata().map_err(fail)?.len(), self.0.len());
        if now < mapped as u64 {
            let what = format!("cut short while in use: got {now} bytes, wanted {mapped}");
            return Err(fail(std::io::Error::new(ErrorKind::UnexpectedEof, what)));
        }
        Ok(())
    }

    /// The file's bytes. Called only before blocks are handed out.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable for its whole length, and no block that could write to it exists yet.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.0.len()) }
    }

    /// A block over a part of the mapping, without a copy, if it starts at a multiple of `align`.
    /// Parts must not be handed out twice.
    pub fn block(&self, start: usize, len: usize, align: usize) -> Option<Block> {
        if start.checked_add(len)? > self.0.len() {
            return None;
        }
        let address = NonNull::new(self.0.as_mut_ptr().wrapping_add(start))?;
        if address.as_ptr().align_offset(align) != 0 {
            return None;
        }
        // SAFETY: the mapping is writable (privately) and is kept alive by its own handle; the caller hands each part out
        // once, so no other block covers these bytes.
        Some(unsafe { Block::from_owner(address, len, Box::new(Arc::clone(&self.0))) })
    }

    /// A copy of a part of the mapping, for parts that are not aligned.
    pub fn copy(&self, op: &'static str, start: usize, len: usize) -> Result<Block> {
        let start = start.min(self.0.len());
        let len = len.min(self.0.len() - start);
        // SAFETY: the part lies within the mapping; blocks cover other parts only.
        Block::from_bytes(op, unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().add(start), len)
        })
    }
}
