//! Streams: queues of work of one device, each with its workspace.
//!
//! Knows how a stream is made, waited for, joined to another and ended. Must not know tensors or operators.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ascend_sys::{
    ACL_STOP_ON_FAILURE, ACL_STREAM_FAST_LAUNCH, ACL_STREAM_FAST_SYNC, aclrtStream, f,
};

use super::context::{Context, Raw, lock, unique};
use super::counters::count_sync;
use super::pool::Block;
use super::runtime;
use crate::error::{Error, Result};

/// A queue of work of one device. Ops of a thread run on the device's default stream, or inside [`Stream::with`] on that one.
///
/// A tensor may be used on any stream of its device: where it changes streams, the new one waits for the old one.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    context: Arc<Context>,
    raw: Raw,
    default: bool,
    closed: AtomicBool,
    /// Held while an operator's second phase queues its kernels: they share the workspace.
    workspace: Mutex<Option<Block>>,
}

/// A stream's workspace during one second phase.
#[derive(Debug)]
pub(super) struct Workspace<'a> {
    stream: &'a Stream,
    block: MutexGuard<'a, Option<Block>>,
}

impl Stream {
    /// A new stream of a device.
    ///
    /// # Errors
    /// If the device cannot be opened or has no stream left.
    pub fn new(number: u32) -> Result<Arc<Self>> {
        let op = "Stream::new";
        let default = runtime::default_stream(op, number)?;
        Stream::open(op, Arc::clone(&default.context), false)
    }

    /// The context is bound.
    pub(super) fn open(
        op: &'static str,
        context: Arc<Context>,
        default: bool,
    ) -> Result<Arc<Self>> {
        let mut raw: aclrtStream = std::ptr::null_mut();
        let flags = ACL_STREAM_FAST_LAUNCH | ACL_STREAM_FAST_SYNC;
        // SAFETY: `raw` is writable for the call.
        context.call(op, f::aclrtCreateStreamWithConfig, |create| unsafe {
            create(&mut raw, 0, flags)
        })?;
        let stream = Arc::new(Stream {
            id: unique(),
            context,
            raw: Raw::new(raw),
            default,
            closed: AtomicBool::new(false),
            workspace: Mutex::default(),
        });
        stream.stop_on_failure(op)?;
        stream.context.adopt(&stream);
        Ok(stream)
    }

    /// After a failure nothing later on the stream shall run, so that the first failure is the one reported.
    fn stop_on_failure(&self, op: &'static str) -> Result<()> {
        let (raw, mode) = (self.raw(), u64::from(ACL_STOP_ON_FAILURE));
        // SAFETY: the stream was created just now in the bound context.
        let done = (self.context).call(op, f::aclrtSetStreamFailureMode, |set| unsafe {
            set(raw, mode)
        });
        match done {
            Err(Error::Acl(error)) if super::error_codes::is_unsupported(error.code) => Ok(()),
            Err(Error::Symbol { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn raw(&self) -> aclrtStream {
        self.raw.pointer()
    }

    /// The number of the stream's device.
    pub fn device(&self) -> u32 {
        self.context.number()
    }

    /// Runs a function with this stream chosen for the ops of this thread on the stream's device.
    pub fn with<R>(self: &Arc<Self>, body: impl FnOnce() -> R) -> R {
        runtime::with_chosen(self, body)
    }

    /// Waits until the work queued so far is done.
    ///
    /// # Errors
    /// The first failure of that work.
    pub fn synchronize(&self) -> Result<()> {
        self.synchronize_for("Stream::synchronize")
    }

    pub(super) fn synchronize_for(&self, op: &'static str) -> Result<()> {
        self.ready(op)?;
        count_sync();
        // SAFETY: the stream is alive and its context bound.
        self.context
            .call(op, f::aclrtSynchronizeStream, |synchronize| unsafe {
                synchronize(self.raw())
            })
    }

    /// Refuses a stream that has ended, and binds its context.
    #[inline]
    pub(super) fn ready(&self, op: &'static str) -> Result<()> {
        self.context.check(op)?;
        if self.is_closed() {
            return Err(Error::option(
                op,
                "stream",
                "got a stream that was closed, wanted an open one",
            ));
        }
        self.context.bind(op)
    }

    /// Lets later work of this stream wait for what is queued on another stream of the device. The context is bound.
    pub(super) fn wait_for(&self, op: &'static str, other: &Stream) -> Result<()> {
        if other.is_closed() {
            return Ok(());
        }
        let event = self.context.events.take(&self.context, op)?;
        let done = event.record(op, other).and_then(|()| event.hold(op, self));
        self.context.events.give_back(event);
        done
    }

    /// The workspace, held until the answer is dropped.
    pub(super) fn workspace(&self) -> Workspace<'_> {
        Workspace {
            stream: self,
            block: lock(&self.workspace),
        }
    }

    /// Gives the workspace back to the pool; work queued on the stream may still use it, as any freed block.
    pub(super) fn release_workspace(&self) {
        if let Some(block) = lock(&self.workspace).take() {
            self.context.release(block);
        }
    }

    /// Waits for the stream's work and ends it. The default stream of a device ends with the device only.
    ///
    /// # Errors
    /// The first failure of the work, or of ending the stream.
    pub fn close(&self) -> Result<()> {
        if self.default {
            return Err(Error::option(
                "Stream::close",
                "stream",
                "got the default stream, wanted one made by Stream::new",
            ));
        }
        let done = self.synchronize();
        done.and(self.end("Stream::close"))
    }

    /// The stream that takes over the memory of this one when it ends; the default stream has none.
    pub(super) fn heir(&self) -> Option<Arc<Stream>> {
        self.context
            .streams()
            .into_iter()
            .find(|stream| stream.default && stream.id != self.id)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends the stream on the device, once. The default stream takes over its memory and waits for it.
    pub(super) fn end(&self, op: &'static str) -> Result<()> {
        if self.is_closed() || self.context.is_lost() {
            return Ok(());
        }
        self.context.bind(op)?;
        self.release_workspace();
        if let Some(heir) = self.heir() {
            heir.wait_for(op, self)?;
            self.context.rehome(self.id, heir.id);
        }
        self.destroy(op)
    }

    /// Destroys the handle, once, whatever became of its work.
    pub(super) fn destroy(&self, op: &'static str) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // SAFETY: the handle is destroyed only here, and `closed` was just set for the first time.
        self.context
            .call(op, f::aclrtDestroyStream, |destroy| unsafe {
                destroy(self.raw())
            })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Err(error) = self.end("drop of a stream") {
            self.context.defer(error);
        }
    }
}

impl Workspace<'_> {
    /// The address of at least `bytes` of device memory; it grows and never shrinks. The context is bound.
    pub fn at_least(&mut self, op: &'static str, bytes: u64) -> Result<*mut core::ffi::c_void> {
        if bytes == 0 {
            return Ok(std::ptr::null_mut());
        }
        let too_large = || {
            Error::option(
                op,
                "workspace",
                format!("got a request for {bytes} bytes, wanted one that memory can hold"),
            )
        };
        let bytes = usize::try_from(bytes).map_err(|_| too_large())?;
        let context = &self.stream.context;
        if self
            .block
            .is_none_or(|block| block.size < bytes.saturating_add(32))
        {
            if let Some(old) = self.block.take() {
                context.release(old);
            }
            let roomy = bytes
                .checked_next_power_of_two()
                .filter(|size| *size <= 64 << 20)
                .unwrap_or(bytes);
            *self.block = Some(context.allocate(op, self.stream.id, roomy)?);
        }
        Ok(self.block.map_or(std::ptr::null_mut(), |block| {
            std::ptr::with_exposed_provenance_mut(block.address)
        }))
    }
}
