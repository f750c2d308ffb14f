//! Groups of sends and receives: between start and end they are kept, then go out together, so that their order cannot block.
//!
//! Knows what a thread keeps; it must not know how messages travel. Collectives in a group are queued at once.

use super::communicator::{hccl, not_null};
use super::site::{Buffer, Site};
use crate::failure::Failure;
use crate::hccl::collective::Message;
use crate::hccl::result::wrong;
use ascend_sys::*;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What one communicator and stream send and receive together.
struct Kept {
    site: Site,
    messages: Vec<Message>,
    buffers: Vec<Buffer>,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Queues a message, or keeps it where this thread has opened a group.
pub(super) fn post(
    site: Site,
    name: &'static str,
    message: Message,
    buffer: Buffer,
) -> Result<(), Failure> {
    if DEPTH.with(Cell::get) == 0 {
        return site.post(name, vec![message], vec![buffer]);
    }
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        let same = |one: &&mut Kept| {
            Arc::ptr_eq(&one.site.communicator, &site.communicator)
                && Arc::ptr_eq(&one.site.stream, &site.stream)
        };
        match kept.iter_mut().find(same) {
            Some(one) => {
                one.messages.push(message);
                one.buffers.push(buffer);
            }
            None => kept.push(Kept {
                site,
                messages: vec![message],
                buffers: vec![buffer],
            }),
        }
    });
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGroupStart() -> HcclResult {
    hccl("HcclGroupStart", || {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGroupEnd() -> HcclResult {
    hccl("HcclGroupEnd", || {
        let depth = DEPTH.with(Cell::get);
        if depth == 0 {
            return Err(wrong("HcclGroupEnd without HcclGroupStart on this thread"));
        }
        DEPTH.with(|own| own.set(depth - 1));
        if depth > 1 {
            return Ok(());
        }
        for kept in KEPT.with(RefCell::take) {
            kept.site
                .post("HcclGroupEnd", kept.messages, kept.buffers)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGroupStatusGet(isGroupEnabled: *mut bool) -> HcclResult {
    hccl("HcclGroupStatusGet", || {
        not_null(isGroupEnabled, "isGroupEnabled")?;
        // SAFETY: not null, valid for a write.
        unsafe { isGroupEnabled.write(DEPTH.with(Cell::get) > 0) };
        Ok(())
    })
}
