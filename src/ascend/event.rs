//! Events: marks in a stream that other streams or the host wait for.
//!
//! Knows how events are made, reused and waited for. Must not know memory or operators.

use std::sync::Mutex;

use ascend_sys::{ACL_EVENT_RECORDED_STATUS_COMPLETE, ACL_EVENT_SYNC, f};

use super::context::{Context, Raw, lock};
use super::counters::count_sync;
use super::stream::Stream;
use crate::error::Result;

/// The idle events of a context. An event may be recorded again freely; waits already queued keep their mark.
#[derive(Debug, Default)]
pub(super) struct Events {
    idle: Mutex<Vec<Raw>>,
}

/// An event that somebody holds. Without `give_back` it is lost to the pool, not to the device's reset.
#[derive(Debug)]
pub(super) struct Event {
    raw: Raw,
}

impl Events {
    /// An idle event, or a new one. The context is bound.
    pub fn take(&self, context: &Context, op: &'static str) -> Result<Event> {
        if let Some(raw) = lock(&self.idle).pop() {
            return Ok(Event { raw });
        }
        let mut raw = std::ptr::null_mut();
        // SAFETY: `raw` is writable for the call.
        context.call(op, f::aclrtCreateEventExWithFlag, |create| unsafe {
            create(&mut raw, ACL_EVENT_SYNC)
        })?;
        Ok(Event { raw: Raw::new(raw) })
    }

    pub fn give_back(&self, event: Event) {
        lock(&self.idle).push(event.raw);
    }

    /// Destroys the idle events; the first failure is the answer.
    pub fn abandon(&self, context: &Context, op: &'static str) -> Option<crate::error::Error> {
        let idle = std::mem::take(&mut *lock(&self.idle));
        let mut first = None;
        for raw in idle {
            // SAFETY: the event was created by `take` and nobody else holds it.
            let done = context.call(op, f::aclrtDestroyEvent, |destroy| unsafe {
                destroy(raw.pointer())
            });
            first = first.or(done.err());
        }
        first
    }
}

impl Event {
    /// Marks the present end of a stream's queue.
    pub fn record(&self, op: &'static str, stream: &Stream) -> Result<()> {
        // SAFETY: event and stream are alive and of one context, which is bound.
        stream
            .context()
            .call(op, f::aclrtRecordEvent, |record| unsafe {
                record(self.raw.pointer(), stream.raw())
            })
    }

    /// Lets later work of a stream wait for the mark.
    pub fn hold(&self, op: &'static str, stream: &Stream) -> Result<()> {
        // SAFETY: event and stream are alive and of one context, which is bound.
        stream
            .context()
            .call(op, f::aclrtStreamWaitEvent, |wait| unsafe {
                wait(stream.raw(), self.raw.pointer())
            })
    }

    /// Whether the device has passed the mark.
    pub fn is_complete(&self, op: &'static str, context: &Context) -> Result<bool> {
        let mut status = 0;
        // SAFETY: the event is alive and `status` is writable for the call.
        context.call(op, f::aclrtQueryEventStatus, |query| unsafe {
            query(self.raw.pointer(), &mut status)
        })?;
        Ok(status == ACL_EVENT_RECORDED_STATUS_COMPLETE)
    }

    /// Waits on the host until the device has passed the mark.
    pub fn synchronize(&self, op: &'static str, context: &Context) -> Result<()> {
        count_sync();
        // SAFETY: the event is alive.
        context.call(op, f::aclrtSynchronizeEvent, |synchronize| unsafe {
            synchronize(self.raw.pointer())
        })
    }
}
