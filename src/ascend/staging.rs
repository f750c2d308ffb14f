//! Pinned host memory for copies between host and device, reused.
//!
//! Knows when the device has finished with a piece of it. Must not know tensors or the pool of device memory.

use std::collections::VecDeque;
use std::sync::Mutex;

use ascend_sys::f;

use super::context::{Context, Raw, lock};
use super::event::Event;
use super::stream::Stream;
use crate::error::Result;

/// Longer copies go piece by piece.
pub(super) const CHUNK: usize = 4 << 20;
const LEAST: usize = 4 << 10;
/// How much pinned memory a device keeps before copies wait for earlier ones.
const LIMIT: usize = 8 * CHUNK;

/// A piece of pinned memory that one copy holds.
#[derive(Debug)]
pub(super) struct Pinned {
    raw: Raw,
    size: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Pinned>,
    /// Pieces that the device still reads, oldest first.
    pending: VecDeque<(Pinned, Event)>,
    /// Pieces of failed copies: nobody knows when the device has finished with them, so they go with the device.
    retired: Vec<Pinned>,
    total: usize,
}

/// The pinned memory of one device.
#[derive(Debug, Default)]
pub(super) struct Staging {
    shelf: Mutex<Shelf>,
}

impl Pinned {
    pub fn pointer(&self) -> *mut core::ffi::c_void {
        self.raw.pointer()
    }

    /// Copies host bytes in; at most the piece's size of them.
    pub fn fill(&mut self, data: &[u8]) {
        let count = data.len().min(self.size);
        // SAFETY: the piece has `size` bytes, nobody else holds it, the device does not read it now, and `data` lies elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.raw.pointer().cast(), count) };
    }

    /// Copies bytes out; at most the piece's size of them. The device has finished writing.
    pub fn drain(&self, data: &mut [u8]) {
        let count = data.len().min(self.size);
        // SAFETY: the piece has `size` bytes that the device wrote before, nobody else holds it, and `data` lies elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.raw.pointer().cast_const().cast(),
                data.as_mut_ptr(),
                count,
            )
        };
    }
}

impl Staging {
    /// A piece of at least `bytes` (at most `CHUNK`). The context is bound.
    pub fn take(&self, context: &Context, op: &'static str, bytes: usize) -> Result<Pinned> {
        let mut shelf = lock(&self.shelf);
        loop {
            while let Some((piece, event)) = shelf.pending.pop_front() {
                match event.is_complete(op, context) {
                    Ok(true) => {
                        context.events.give_back(event);
                        shelf.idle.push(piece);
                    }
                    other => {
                        shelf.pending.push_front((piece, event));
                        other?;
                        break;
                    }
                }
            }
            if let Some(index) = shelf.idle.iter().position(|piece| piece.size >= bytes) {
                return Ok(shelf.idle.swap_remove(index));
            }
            let size = bytes.clamp(LEAST, CHUNK).next_power_of_two();
            if shelf.total.saturating_add(size) <= LIMIT || shelf.pending.is_empty() {
                let piece = allocate(context, op, size)?;
                shelf.total = shelf.total.saturating_add(size);
                return Ok(piece);
            }
            if let Some((_, event)) = shelf.pending.front() {
                event.synchronize(op, context)?;
            }
        }
    }

    /// Gives a piece back that the device does not use.
    pub fn give_back(&self, piece: Pinned) {
        lock(&self.shelf).idle.push(piece);
    }

    /// Keeps a piece of a failed copy from being reused.
    pub fn retire(&self, piece: Pinned) {
        lock(&self.shelf).retired.push(piece);
    }

    /// Gives a piece back that work queued on the stream still uses. Where no mark can be set, the piece is never reused.
    pub fn give_back_after(&self, op: &'static str, stream: &Stream, piece: Pinned) -> Result<()> {
        let context = stream.context();
        let marked =
            context
                .events
                .take(context, op)
                .and_then(|event| match event.record(op, stream) {
                    Ok(()) => Ok(event),
                    Err(error) => {
                        context.events.give_back(event);
                        Err(error)
                    }
                });
        match marked {
            Ok(event) => lock(&self.shelf).pending.push_back((piece, event)),
            Err(error) => {
                self.retire(piece);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Frees all pieces that nobody holds; the device has finished with them or is lost. The first failure is the answer.
    pub fn abandon(&self, context: &Context, op: &'static str) -> Option<crate::error::Error> {
        let shelf = std::mem::take(&mut *lock(&self.shelf));
        let mut first = None;
        let pending = shelf.pending.into_iter().map(|(piece, event)| {
            context.events.give_back(event);
            piece
        });
        for piece in shelf.idle.into_iter().chain(pending).chain(shelf.retired) {
            // SAFETY: the piece came from `aclrtMallocHost`, and neither the host nor the device uses it any more.
            let done = context.call(op, f::aclrtFreeHost, |free| unsafe {
                free(piece.pointer())
            });
            first = first.or(done.err());
        }
        first
    }
}

fn allocate(context: &Context, op: &'static str, size: usize) -> Result<Pinned> {
    let mut pointer = std::ptr::null_mut();
    // SAFETY: `pointer` is writable for the call.
    context.call(op, f::aclrtMallocHost, |malloc| unsafe {
        malloc(&mut pointer, size)
    })?;
    Ok(Pinned {
        raw: Raw::new(pointer),
        size,
    })
}
