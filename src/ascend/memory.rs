//! Device memory that tensors own, and its copies from and to the host.
//!
//! Knows blocks of the pool, pinned staging, and which streams use a buffer. Must not know shapes, dtypes or operators.
//! The address never leaves this module tree: there is no way to look into device memory but to copy it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ascend_sys::{
    ACL_MEMCPY_DEVICE_TO_DEVICE, ACL_MEMCPY_DEVICE_TO_HOST, ACL_MEMCPY_HOST_TO_DEVICE,
    aclrtMemcpyKind, f,
};

use super::context::{Context, lock};
use super::pool::Block;
use super::runtime::current_stream;
use super::staging::CHUNK;
use super::stream::Stream;
use crate::device::Device;
use crate::error::{Error, Result};

/// Bytes on an NPU. Freed in the order of its stream's work: dropping it never waits and never disturbs queued kernels.
#[derive(Debug)]
pub struct Buffer {
    home: Arc<Stream>,
    block: Option<Block>,
    len: usize,
    /// Whether `guests` has entries.
    shared: AtomicBool,
    /// Other streams that used the buffer since the home stream last waited for them.
    guests: Mutex<Vec<Arc<Stream>>>,
}

impl Buffer {
    /// Memory of unspecified content on a device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; failures of opening the device; an earlier failure that surfaces.
    pub fn allocate(op: &'static str, device: u32, bytes: usize) -> Result<Self> {
        Buffer::on(op, current_stream(op, device)?, bytes)
    }

    /// Memory for a stream whose context is bound.
    pub(super) fn on(op: &'static str, home: Arc<Stream>, bytes: usize) -> Result<Self> {
        let context = home.context();
        context.buffers.fetch_add(1, Ordering::AcqRel);
        context.bytes.fetch_add(bytes, Ordering::AcqRel);
        // From here on the drop keeps the counts.
        let mut buffer = Buffer {
            home,
            block: None,
            len: bytes,
            shared: AtomicBool::new(false),
            guests: Mutex::default(),
        };
        if bytes > 0 {
            buffer.block = Some(
                buffer
                    .home
                    .context()
                    .allocate(op, buffer.home.id(), bytes)?,
            );
        }
        Ok(buffer)
    }

    /// Memory that holds the given bytes. The host may reuse its bytes at once.
    ///
    /// # Errors
    /// As [`Buffer::allocate`] and [`Buffer::write`].
    pub fn upload(op: &'static str, device: u32, data: &[u8]) -> Result<Self> {
        let buffer = Buffer::allocate(op, device, data.len())?;
        buffer.write(op, 0, data)?;
        Ok(buffer)
    }

    /// The number of the device.
    pub fn device(&self) -> u32 {
        self.home.device()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is zero.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        self.home.context()
    }

    pub(super) fn address(&self) -> *mut core::ffi::c_void {
        self.block.map_or(std::ptr::null_mut(), |block| {
            std::ptr::with_exposed_provenance_mut(block.address)
        })
    }

    /// What the stream's chip knows of overflows since they were last forgotten: words, of which one is not zero after an overflow.
    pub(super) fn take_overflow_status(&self, op: &'static str) -> Result<()> {
        let stream = current_stream(op, self.device())?;
        self.join(op, &stream)?;
        // SAFETY: the call writes its words into this buffer, in the order of the stream; the size is the buffer's own.
        stream
            .context()
            .call(op, f::aclrtGetOverflowStatus, |get| unsafe {
                get(self.address(), self.len, stream.raw())
            })
    }

    pub(super) fn at(&self, offset: usize) -> *mut core::ffi::c_void {
        self.address().wrapping_byte_add(offset)
    }

    /// Makes the buffer usable on a stream: that one waits for the others that used it. The stream's context is bound.
    #[inline]
    pub(super) fn join(&self, op: &'static str, stream: &Arc<Stream>) -> Result<()> {
        if Arc::ptr_eq(&self.home, stream) && !self.shared.load(Ordering::Acquire) {
            return Ok(());
        }
        self.join_guests(op, stream)
    }

    #[cold]
    fn join_guests(&self, op: &'static str, stream: &Arc<Stream>) -> Result<()> {
        if self.context().id() != stream.context().id() {
            self.context().check(op)?;
            return Err(Error::Device {
                op,
                lhs: Device::Ascend(stream.device()),
                rhs: Device::Ascend(self.device()),
            });
        }
        let mut guests = lock(&self.guests);
        for guest in guests.iter().filter(|guest| !Arc::ptr_eq(guest, stream)) {
            stream.wait_for(op, guest)?;
        }
        if Arc::ptr_eq(&self.home, stream) {
            guests.clear();
        } else {
            stream.wait_for(op, &self.home)?;
            if !guests.iter().any(|guest| Arc::ptr_eq(guest, stream)) {
                guests.push(Arc::clone(stream));
            }
        }
        self.shared.store(!guests.is_empty(), Ordering::Release);
        Ok(())
    }

    fn check_range(&self, op: &'static str, offset: usize, bytes: usize) -> Result<()> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::option(
                op,
                "range",
                format!(
                    "got {bytes} bytes at {offset}, wanted a range in a buffer of {}",
                    self.len
                ),
            )),
        }
    }

    /// Copies host bytes to the buffer, in the order of the thread's stream. The host may reuse its bytes at once.
    ///
    /// # Errors
    /// A range outside the buffer; failures of the copy; an earlier failure that surfaces.
    pub fn write(&self, op: &'static str, offset: usize, data: &[u8]) -> Result<()> {
        self.check_range(op, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let stream = current_stream(op, self.device())?;
        self.join(op, &stream)?;
        let context = stream.context();
        for (index, part) in data.chunks(CHUNK).enumerate() {
            let mut piece = context.staging.take(context, op, part.len())?;
            piece.fill(part);
            let to = self.at(offset.saturating_add(index.saturating_mul(CHUNK)));
            let queued = copy_async(
                op,
                &stream,
                to,
                piece.pointer(),
                part.len(),
                ACL_MEMCPY_HOST_TO_DEVICE,
            );
            match queued {
                Ok(()) => context.staging.give_back_after(op, &stream, piece)?,
                Err(error) => {
                    context.staging.retire(piece);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Copies bytes of the buffer to the host, after all work queued on the thread's stream.
    ///
    /// # Errors
    /// A range outside the buffer; the first failure of the work before it; failures of the copy.
    pub fn read(&self, op: &'static str, offset: usize, data: &mut [u8]) -> Result<()> {
        self.check_range(op, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let stream = current_stream(op, self.device())?;
        self.join(op, &stream)?;
        let context = stream.context();
        if data.len() > CHUNK {
            stream.synchronize_for(op)?;
            let (to, from, count) = (data.as_mut_ptr(), self.at(offset), data.len());
            let kind = ACL_MEMCPY_DEVICE_TO_HOST;
            // SAFETY: `data` is borrowed for this synchronous copy; the range was checked, and all work on it is done.
            return context.call(op, f::aclrtMemcpy, |copy| unsafe {
                copy(to.cast(), count, from, count, kind)
            });
        }
        let piece = context.staging.take(context, op, data.len())?;
        let copied = copy_async(
            op,
            &stream,
            piece.pointer(),
            self.at(offset),
            data.len(),
            ACL_MEMCPY_DEVICE_TO_HOST,
        )
        .and_then(|()| stream.synchronize_for(op));
        if let Err(error) = copied {
            context.staging.retire(piece);
            return Err(error);
        }
        piece.drain(data);
        context.staging.give_back(piece);
        Ok(())
    }

    /// Copies bytes between buffers of one device, in the order of the thread's stream; between devices by way of the host.
    ///
    /// # Errors
    /// Ranges outside the buffers or overlapping in one buffer; failures of the copy; an earlier failure that surfaces.
    pub fn copy(
        op: &'static str,
        from: &Buffer,
        from_offset: usize,
        to: &Buffer,
        to_offset: usize,
        bytes: usize,
    ) -> Result<()> {
        from.check_range(op, from_offset, bytes)?;
        to.check_range(op, to_offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        if from.context().id() != to.context().id() {
            return Buffer::copy_between(op, from, from_offset, to, to_offset, bytes);
        }
        if std::ptr::eq(from, to) && from_offset.abs_diff(to_offset) < bytes {
            return Err(Error::Overlap {
                op,
                with: "its source",
            });
        }
        let stream = current_stream(op, to.device())?;
        from.join(op, &stream)?;
        to.join(op, &stream)?;
        copy_async(
            op,
            &stream,
            to.at(to_offset),
            from.at(from_offset),
            bytes,
            ACL_MEMCPY_DEVICE_TO_DEVICE,
        )
    }

    /// Copies by way of the host, piece by piece.
    fn copy_between(
        op: &'static str,
        from: &Buffer,
        from_offset: usize,
        to: &Buffer,
        to_offset: usize,
        bytes: usize,
    ) -> Result<()> {
        let mut host = vec![0; bytes.min(CHUNK)];
        for start in (0..bytes).step_by(CHUNK) {
            let part = host.get_mut(..CHUNK.min(bytes - start)).unwrap_or_default();
            from.read(op, from_offset.saturating_add(start), part)?;
            to.write(op, to_offset.saturating_add(start), part)?;
        }
        Ok(())
    }
}

/// Queues a copy. Host memory is pinned and stays until the stream has passed the copy; device ranges were checked.
fn copy_async(
    op: &'static str,
    stream: &Stream,
    to: *mut core::ffi::c_void,
    from: *mut core::ffi::c_void,
    bytes: usize,
    kind: aclrtMemcpyKind,
) -> Result<()> {
    // SAFETY: both ranges are valid until the stream has passed the copy: device blocks are reused in stream order only, and
    // pinned pieces are given back with a mark behind the copy.
    stream
        .context()
        .call(op, f::aclrtMemcpyAsync, |copy| unsafe {
            copy(to, bytes, from, bytes, kind, stream.raw())
        })
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let context = self.home.context();
        context.bytes.fetch_sub(self.len, Ordering::AcqRel);
        // A lost device's memory has left the books, or will with its reset.
        if let Some(block) = self.block.take().filter(|_| !context.is_lost()) {
            let guests = std::mem::take(&mut *lock(&self.guests));
            match give_up(&self.home, &guests) {
                Ok(()) => context.release(block),
                // Without the wait the block must never be reused; it goes with the device.
                Err(error) => context.defer(error),
            }
        }
        context.buffers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets the home stream wait for the guests, so that the block may be reused in its order.
fn give_up(home: &Stream, guests: &[Arc<Stream>]) -> Result<()> {
    let op = "drop of a tensor";
    if guests.is_empty() {
        return Ok(());
    }
    home.context().bind(op)?;
    // A closed stream's memory belongs to the default stream.
    let heir = if home.is_closed() { home.heir() } else { None };
    let home = heir.as_deref().unwrap_or(home);
    guests.iter().try_for_each(|guest| home.wait_for(op, guest))
}
