//! Graph capture and replay.
//!
//! Knows the calls' rules; it must not know what a graph does.

use super::stream::resolve;
use crate::callback::Callback;
use crate::capture::{Capture, GRAPHS, GROUPS, Group};
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::kernel::Family;
use crate::state::{context, context_even_poisoned, world};
use crate::stream::Stream;
use ascend_sys::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    /// The mode that `aclmdlRICaptureThreadExchangeMode` set for this thread.
    static THREAD_MODE: Cell<u32> = const { Cell::new(0) };
}

/// How strictly this thread must behave while a capture goes on: the laxer of the capture's mode and the thread's own.
pub(crate) fn effective_mode(capture: &Capture) -> u32 {
    capture.mode.max(THREAD_MODE.with(Cell::get))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureBegin(
    stream: aclrtStream,
    mode: aclmdlRICaptureMode,
) -> aclError {
    call("aclmdlRICaptureBegin", || {
        let context = context()?;
        not_null(stream, "stream")?;
        if world()?.family == Family::P310 {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "this chip has no graph capture",
            ));
        }
        if mode > 2 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("capture mode is {mode}, wanted 0 to 2"),
            ));
        }
        let stream = resolve(&context, stream)?;
        if stream.is_default {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "the default stream cannot be captured",
            ));
        }
        if stream.capture().is_some() {
            return Err(Failure::new(
                code::RT_STREAM_CAPTURED,
                "the stream is being captured already",
            ));
        }
        stream.set_capture(Some(Capture::new(stream.handle, mode)));
        Ok(())
    })
}

/// The capture that may be ended on this stream by this thread.
fn ending(stream: &Stream) -> Result<Arc<Capture>, Failure> {
    let capture = stream.capture().ok_or_else(|| {
        Failure::new(
            code::RT_STREAM_NOT_CAPTURED,
            "the stream is not being captured",
        )
    })?;
    if capture.origin != stream.handle {
        return Err(Failure::new(
            code::RT_STREAM_CAPTURE_UNMATCHED,
            "the capture began on another stream",
        ));
    }
    if capture.mode != 2 && capture.thread != std::thread::current().id() {
        return Err(Failure::new(
            code::RT_CAPTURE_WRONG_THREAD,
            "the capture began on another thread",
        ));
    }
    Ok(capture)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureEnd(
    stream: aclrtStream,
    modelRI: *mut aclmdlRI,
) -> aclError {
    call("aclmdlRICaptureEnd", || {
        let context = context()?;
        not_null(stream, "stream")?;
        not_null(modelRI, "modelRI")?;
        let stream = resolve(&context, stream)?;
        let capture = ending(&stream)?;
        GRAPHS.insert_at(capture.graph, Arc::new(capture.end(&stream)?));
        let handle = std::ptr::without_provenance_mut(capture.graph);
        // SAFETY: checked for null, valid for a write.
        unsafe { give(modelRI, "modelRI", handle) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureGetInfo(
    stream: aclrtStream,
    status: *mut aclmdlRICaptureStatus,
    modelRI: *mut aclmdlRI,
) -> aclError {
    call("aclmdlRICaptureGetInfo", || {
        let stream = resolve(&*context()?, stream)?;
        let capture = stream.capture();
        let graph = capture.as_ref().map_or(0, |capture| capture.graph);
        let now = match capture {
            None => 0,
            Some(capture) if capture.is_broken() => 2,
            Some(_) => 1,
        };
        if !modelRI.is_null() {
            // SAFETY: not null, and valid for a write.
            unsafe { modelRI.write(std::ptr::without_provenance_mut(graph)) };
        }
        // SAFETY: null or valid for a write.
        unsafe { give(status, "status", now as aclmdlRICaptureStatus) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureThreadExchangeMode(
    mode: *mut aclmdlRICaptureMode,
) -> aclError {
    call("aclmdlRICaptureThreadExchangeMode", || {
        not_null(mode, "mode")?;
        // SAFETY: not null, valid for a read and a write.
        let wanted = unsafe { mode.read() };
        if wanted > 2 {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("capture mode is {wanted}, wanted 0 to 2"),
            ));
        }
        let before = THREAD_MODE.with(|cell| cell.replace(wanted));
        // SAFETY: as above.
        unsafe { mode.write(before as aclmdlRICaptureMode) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIExecuteAsync(modelRI: aclmdlRI, stream: aclrtStream) -> aclError {
    call("aclmdlRIExecuteAsync", || {
        let context = context()?;
        not_null(modelRI, "modelRI")?;
        let stream = resolve(&context, stream)?;
        GRAPHS.get(modelRI)?.execute(&stream)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIExecute(modelRI: aclmdlRI, timeout: i32) -> aclError {
    call("aclmdlRIExecute", || {
        let context = context()?;
        not_null(modelRI, "modelRI")?;
        let timeout = super::stream::milliseconds(timeout)?;
        let stream = context.default_stream();
        GRAPHS.get(modelRI)?.execute(&stream)?;
        stream.synchronize(timeout)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIDestroy(modelRI: aclmdlRI) -> aclError {
    call("aclmdlRIDestroy", || {
        not_null(modelRI, "modelRI")?;
        context_even_poisoned()?;
        let graph = GRAPHS.get(modelRI)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while graph.running.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return Err(Failure::new(
                    code::RT_MODEL_RUNNING,
                    "the graph is destroyed while it runs",
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        GRAPHS.remove(modelRI)?;
        super::graph_build::forget(modelRI.addr());
        let farewells = std::mem::take(
            &mut *graph
                .farewells
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        farewells.into_iter().for_each(Callback::run);
        Ok(())
    })
}

/// Registers a function that the graph's destruction calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIDestroyRegisterCallback(
    modelRI: aclmdlRI,
    func: aclrtCallback,
    userData: *mut c_void,
) -> aclError {
    call("aclmdlRIDestroyRegisterCallback", || {
        not_null(modelRI, "modelRI")?;
        let graph = GRAPHS.get(modelRI)?;
        let function = func.ok_or_else(|| Failure::new(code::INVALID_PARAM, "func is null"))?;
        let argument = userData.expose_provenance();
        let mut farewells = graph
            .farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        farewells.push(Callback { function, argument });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIDestroyUnregisterCallback(
    modelRI: aclmdlRI,
    func: aclrtCallback,
) -> aclError {
    call("aclmdlRIDestroyUnregisterCallback", || {
        not_null(modelRI, "modelRI")?;
        let graph = GRAPHS.get(modelRI)?;
        let function = func.ok_or_else(|| Failure::new(code::INVALID_PARAM, "func is null"))?;
        let mut farewells = graph
            .farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = farewells.len();
        farewells.retain(|farewell| !std::ptr::fn_addr_eq(farewell.function, function));
        match farewells.len() == before {
            true => Err(Failure::new(
                code::INVALID_PARAM,
                "func is not registered with this graph",
            )),
            false => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIGetId(modelRI: aclmdlRI, modelRIId: *mut u32) -> aclError {
    call("aclmdlRIGetId", || {
        let graph = GRAPHS.get(modelRI)?;
        // SAFETY: null or valid for a write.
        unsafe { give(modelRIId, "modelRIId", graph.number) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRISetName(modelRI: aclmdlRI, name: *const c_char) -> aclError {
    call("aclmdlRISetName", || {
        not_null(name, "name")?;
        let graph = GRAPHS.get(modelRI)?;
        // SAFETY: not null, and a C string.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        *graph.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIGetName(
    modelRI: aclmdlRI,
    maxLen: u32,
    name: *mut c_char,
) -> aclError {
    call("aclmdlRIGetName", || {
        not_null(name, "name")?;
        let graph = GRAPHS.get(modelRI)?;
        let own = graph
            .name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // SAFETY: not null, valid for `maxLen` writes.
        unsafe { super::system::give_text(name, maxLen as usize, &own) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIDebugPrint(modelRI: aclmdlRI) -> aclError {
    call("aclmdlRIDebugPrint", || GRAPHS.get(modelRI).map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureTaskGrpBegin(stream: aclrtStream) -> aclError {
    call("aclmdlRICaptureTaskGrpBegin", || {
        capturing(stream)?.begin_group()
    })
}

fn capturing(stream: aclrtStream) -> Result<Arc<Capture>, Failure> {
    let context = context()?;
    not_null(stream, "stream")?;
    resolve(&context, stream)?.capture().ok_or_else(|| {
        Failure::new(
            code::RT_STREAM_NOT_CAPTURED,
            "the stream is not being captured",
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureTaskGrpEnd(
    stream: aclrtStream,
    handle: *mut aclrtTaskGrp,
) -> aclError {
    call("aclmdlRICaptureTaskGrpEnd", || {
        not_null(handle, "handle")?;
        let group = capturing(stream)?.end_group()?;
        // SAFETY: checked for null, valid for a write.
        unsafe { give(handle, "handle", GROUPS.insert(group)) }
    })
}

/// Streams on which a task update goes on, with the group that is updated.
static UPDATES: Mutex<Option<HashMap<usize, Arc<Group>>>> = Mutex::new(None);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureTaskUpdateBegin(
    stream: aclrtStream,
    handle: aclrtTaskGrp,
) -> aclError {
    call("aclmdlRICaptureTaskUpdateBegin", || {
        let context = context()?;
        not_null(stream, "stream")?;
        let stream = resolve(&context, stream)?;
        super::stream::refuse_captured(&stream)?;
        let group = GROUPS.get(handle)?;
        let mut updates = UPDATES.lock().unwrap_or_else(PoisonError::into_inner);
        updates.get_or_insert_default().insert(stream.handle, group);
        stream.set_capture(Some(Capture::new(stream.handle, 2)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureTaskUpdateEnd(stream: aclrtStream) -> aclError {
    call("aclmdlRICaptureTaskUpdateEnd", || {
        let context = context()?;
        not_null(stream, "stream")?;
        let stream = resolve(&context, stream)?;
        let group = {
            let mut updates = UPDATES.lock().unwrap_or_else(PoisonError::into_inner);
            updates.get_or_insert_default().remove(&stream.handle)
        };
        let (Some(group), Some(capture)) = (group, stream.capture()) else {
            return Err(Failure::new(
                code::RT_STREAM_TASK_GROUP_STATUS,
                "no task update is open on the stream",
            ));
        };
        stream.set_capture(None);
        capture.replace(&group)
    })
}

/// Writes what a graph holds: its tasks in the order in which they run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIDebugJsonPrint(
    modelRI: aclmdlRI,
    path: *const c_char,
    _flags: u32,
) -> aclError {
    call("aclmdlRIDebugJsonPrint", || {
        not_null(path, "path")?;
        let graph = GRAPHS.get(modelRI)?;
        // SAFETY: not null, and a C string.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
        let name = graph.name.lock().unwrap_or_else(PoisonError::into_inner);
        let task = |(number, node): (usize, &Arc<crate::capture::Node>)| serde_json::json!({ "id": number, "name": node.site().name });
        let tasks: Vec<_> = graph.nodes.iter().enumerate().map(task).collect();
        let whole = serde_json::json!({ "id": graph.number, "name": *name, "tasks": tasks });
        std::fs::write(&*path, format!("{whole:#}\n")).map_err(|error| {
            let text = format!("{path} cannot be written: {error}");
            Failure::new(code::INVALID_FILE, text)
        })
    })
}
