//! Events of both families.
//!
//! Knows the calls' rules; it must not know how records complete.

use super::stream::{milliseconds, resolve};
use crate::event::{EVENTS, Event, IPC, Style};
use crate::external;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::kernel::Family;
use crate::shared::Name;
use crate::state::{context, context_even_poisoned, world};
use ascend_sys::*;
use std::ffi::c_char;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events of a device.
fn limit(family: Family) -> usize {
    match family {
        Family::P310 => 1023,
        Family::A910 => 65535,
        _ => 65536,
    }
}

unsafe fn create(event: *mut aclrtEvent, style: Style, flags: u32) -> Result<(), Failure> {
    let context = context()?;
    not_null(event, "event")?;
    let combined = flags & !(1 | 2 | 8) == 0 && flags != 0;
    let alone = match style {
        Style::Classic => true,
        Style::Flagged => matches!(flags, 0x10 | 0x20),
        Style::Extended => flags == 0x40,
    };
    if !(style == Style::Classic || combined || alone) {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("event flags {flags:#x} are not allowed"),
        ));
    }
    let limit = limit(world()?.family);
    if style == Style::Flagged && EVENTS.count() >= limit {
        return Err(Failure::new(
            code::RT_NO_EVENT_RESOURCE,
            format!("the device has {limit} events already"),
        ));
    }
    let made = EVENTS.insert(if flags == IPC {
        Event::between_processes(context.handle)?
    } else {
        Event::new(style, flags, context.handle)
    });
    // SAFETY: checked for null, valid by the contract of the C function.
    unsafe { give(event, "event", made) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateEvent(event: *mut aclrtEvent) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtCreateEvent", || unsafe {
        create(event, Style::Classic, 1 | 8)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateEventWithFlag(event: *mut aclrtEvent, flag: u32) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtCreateEventWithFlag", || unsafe {
        create(event, Style::Flagged, flag)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateEventExWithFlag(event: *mut aclrtEvent, flag: u32) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtCreateEventExWithFlag", || unsafe {
        create(event, Style::Extended, flag)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyEvent(event: aclrtEvent) -> aclError {
    call("aclrtDestroyEvent", || {
        not_null(event, "event")?;
        context_even_poisoned()?;
        EVENTS.remove(event).map(drop)
    })
}

/// An event of the current context.
fn find(event: aclrtEvent) -> Result<Arc<Event>, Failure> {
    let context = context()?;
    let found = EVENTS.get(event)?;
    if found.context != context.handle {
        return Err(Failure::new(
            code::RT_STREAM_CONTEXT,
            "the event belongs to another context than the current one",
        ));
    }
    Ok(found)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRecordEvent(event: aclrtEvent, stream: aclrtStream) -> aclError {
    call("aclrtRecordEvent", || {
        find(event)?.record(&resolve(&*context()?, stream)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamWaitEvent(stream: aclrtStream, event: aclrtEvent) -> aclError {
    call("aclrtStreamWaitEvent", || wait(stream, event, 0))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamWaitEventWithTimeout(
    stream: aclrtStream,
    event: aclrtEvent,
    timeout: i32,
) -> aclError {
    call("aclrtStreamWaitEventWithTimeout", || {
        wait(stream, event, timeout)
    })
}

fn wait(stream: aclrtStream, event: aclrtEvent, seconds: i32) -> Result<(), Failure> {
    let seconds = u64::try_from(seconds).map_err(|_| {
        Failure::new(
            code::RT_PARAM_INVALID,
            format!("timeout is {seconds} s, wanted 0 or more"),
        )
    })?;
    let context = context()?;
    let stream = resolve(&context, stream)?;
    // Waits cross contexts: only the stream must be of the current one.
    EVENTS
        .get(event)?
        .wait(&stream, (seconds > 0).then(|| Duration::from_secs(seconds)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtResetEvent(event: aclrtEvent, stream: aclrtStream) -> aclError {
    call("aclrtResetEvent", || {
        let stream = resolve(&*context()?, stream)?;
        find(event)?.reset(&stream)
    })
}

fn synchronize(event: aclrtEvent, timeout: Option<Duration>) -> Result<(), Failure> {
    crate::callback::refuse_within()?;
    let context = context_even_poisoned()?;
    let outcome = EVENTS.get(event)?.synchronize(timeout);
    match context.device.failure() {
        Some(failure) => Err(failure),
        None => outcome,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeEvent(event: aclrtEvent) -> aclError {
    call("aclrtSynchronizeEvent", || synchronize(event, None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSynchronizeEventWithTimeout(
    event: aclrtEvent,
    timeout: i32,
) -> aclError {
    call("aclrtSynchronizeEventWithTimeout", || {
        synchronize(event, milliseconds(timeout)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtQueryEventStatus(
    event: aclrtEvent,
    status: *mut aclrtEventRecordedStatus,
) -> aclError {
    call("aclrtQueryEventStatus", || {
        let event = find(event)?;
        let complete = event.status()?.unwrap_or(event.style == Style::Extended);
        // SAFETY: null or valid for a write.
        unsafe {
            give(
                status,
                "status",
                u32::from(complete) as aclrtEventRecordedStatus,
            )
        }
    })
}

fn old_status(event: aclrtEvent) -> Result<bool, Failure> {
    let event = find(event)?;
    if event.style == Style::Extended {
        return Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            "events of aclrtCreateEventExWithFlag are queried by aclrtQueryEventStatus",
        ));
    }
    Ok(event.status()?.unwrap_or(false))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtQueryEvent(
    event: aclrtEvent,
    status: *mut aclrtEventStatus,
) -> aclError {
    call("aclrtQueryEvent", || {
        let pending = !old_status(event)?;
        // SAFETY: null or valid for a write.
        unsafe { give(status, "status", u32::from(pending) as aclrtEventStatus) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtQueryEventWaitStatus(
    event: aclrtEvent,
    status: *mut aclrtEventWaitStatus,
) -> aclError {
    call("aclrtQueryEventWaitStatus", || {
        let pending = !old_status(event)?;
        // SAFETY: null or valid for a write.
        unsafe { give(status, "status", i32::from(pending) as aclrtEventWaitStatus) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtEventElapsedTime(
    ms: *mut f32,
    startEvent: aclrtEvent,
    endEvent: aclrtEvent,
) -> aclError {
    call("aclrtEventElapsedTime", || {
        let (start, from) = find(startEvent)?.time()?;
        let (end, to) = find(endEvent)?.time()?;
        if from != to {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "the two events were recorded on different streams",
            ));
        }
        if end < start {
            return Err(Failure::new(
                code::RT_EVENT_TIMESTAMP_REVERSAL,
                "the end event came before the start event",
            ));
        }
        // SAFETY: null or valid for a write.
        unsafe { give(ms, "ms", (end - start).as_secs_f32() * 1000.0) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtEventGetTimestamp(
    event: aclrtEvent,
    timestamp: *mut u64,
) -> aclError {
    call("aclrtEventGetTimestamp", || {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let start = *START;
        let (time, _) = find(event)?.time()?;
        let micros = time.saturating_duration_since(start).as_micros() as u64 + 1;
        // SAFETY: null or valid for a write.
        unsafe { give(timestamp, "timestamp", micros) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetEventId(event: aclrtEvent, eventId: *mut u32) -> aclError {
    call("aclrtGetEventId", || {
        let event = find(event)?;
        // SAFETY: null or valid for a write.
        unsafe { give(eventId, "eventId", event.number) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetEventAvailNum(eventCount: *mut u32) -> aclError {
    call("aclrtGetEventAvailNum", || {
        context()?;
        let left = limit(world()?.family).saturating_sub(EVENTS.count());
        // SAFETY: null or valid for a write.
        unsafe { give(eventCount, "eventCount", left as u32) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcGetEventHandle(
    event: aclrtEvent,
    handle: *mut aclrtIpcEventHandle,
) -> aclError {
    call("aclrtIpcGetEventHandle", || {
        let Some(name) = find(event)?.name() else {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "the event was not made by aclrtCreateEventExWithFlag with ACL_EVENT_IPC",
            ));
        };
        let mut made = aclrtIpcEventHandle { reserved: [0; 64] };
        let bytes = name.number().to_ne_bytes();
        for (to, from) in made.reserved.iter_mut().zip(bytes) {
            *to = from as c_char;
        }
        // SAFETY: null or valid for a write.
        unsafe { give(handle, "handle", made) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcOpenEventHandle(
    handle: aclrtIpcEventHandle,
    event: *mut aclrtEvent,
) -> aclError {
    call("aclrtIpcOpenEventHandle", || {
        let context = context()?;
        not_null(event, "event")?;
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(handle.reserved) {
            *to = from as u8;
        }
        let name = Name::of_number(u64::from_ne_bytes(bytes));
        let made = EVENTS.insert(Event::open(name, context.handle)?);
        // SAFETY: checked for null, valid for a write.
        unsafe { give(event, "event", made) }
    })
}

/// Whether the flag says that a captured call concerns what is outside of the graph.
fn is_external(flag: u32) -> Result<bool, Failure> {
    match flag {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("flag is {other}, wanted 0 or 1"),
        )),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRecordEventWithFlag(
    event: aclrtEvent,
    stream: aclrtStream,
    flag: u32,
) -> aclError {
    call("aclrtRecordEventWithFlag", || {
        let (event, stream) = (find(event)?, resolve(&*context()?, stream)?);
        match is_external(flag)? {
            true => external::record(&event, &stream),
            false => event.record(&stream),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamWaitEventWithFlag(
    stream: aclrtStream,
    event: aclrtEvent,
    timeout: u32,
    flag: u32,
) -> aclError {
    call("aclrtStreamWaitEventWithFlag", || {
        if is_external(flag)? {
            let stream = resolve(&*context()?, stream)?;
            let limit = (timeout > 0).then(|| Duration::from_secs(u64::from(timeout)));
            return external::wait(&EVENTS.get(event)?, &stream, limit);
        }
        wait(stream, event, i32::try_from(timeout).unwrap_or(i32::MAX))
    })
}
