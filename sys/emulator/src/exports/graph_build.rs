//! Graphs that are built by hand, and what a graph consists of: its streams and their tasks.
//!
//! Knows the calls' rules; it must not know what tasks compute. A graph's streams run in the order of submission, which respects their
//! events; streams that other tasks would have to wake (`ACL_MODEL_STREAM_FLAG_DEFAULT`) need functions that the emulator lacks.

use super::stream::resolve;
use crate::capture::{Capture, GRAPHS, Graph, Node};
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null};
use crate::registry::{Kind, Registry};
use crate::state::context;
use ascend_sys::*;
use std::collections::{BTreeSet, HashMap};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A graph that is being built.
struct Build {
    capture: Arc<Capture>,
    ended: BTreeSet<usize>,
}

#[derive(Default)]
struct Builds {
    open: HashMap<usize, Build>,
    /// The graph to which a stream is bound.
    bound: HashMap<usize, usize>,
}

/// One stream of a graph: a name for it that belongs to this graph alone.
struct GraphStream {
    graph: usize,
    stream: usize,
}

struct GraphTask {
    graph: usize,
    number: u32,
    node: Arc<Node>,
}

static BUILDS: Mutex<Option<Builds>> = Mutex::new(None);
static STREAMS: Registry<GraphStream> = Registry::new(Kind::GraphStream, code::RT_INVALID_HANDLE);
static TASKS: Registry<GraphTask> = Registry::new(Kind::GraphTask, code::RT_INVALID_HANDLE);

fn builds() -> MutexGuard<'static, Option<Builds>> {
    BUILDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(code::RT_PARAM_INVALID, text.into())
}

/// A graph is destroyed.
pub(super) fn forget(graph: usize) {
    if let Some(builds) = builds().as_mut() {
        builds.bound.retain(|_, owner| *owner != graph);
    }
    for (handle, stream, _) in STREAMS.living() {
        if stream.graph == graph {
            STREAMS.take(ptr::without_provenance::<c_void>(handle));
        }
    }
    for (handle, task, _) in TASKS.living() {
        if task.graph == graph {
            TASKS.take(ptr::without_provenance::<c_void>(handle));
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIBuildBegin(modelRI: *mut aclmdlRI, flag: u32) -> aclError {
    call("aclmdlRIBuildBegin", || {
        context()?;
        not_null(modelRI, "modelRI")?;
        if flag != 0 {
            return Err(wrong(format!("flag is {flag}, wanted 0")));
        }
        // Relaxed: nothing else is forbidden while a graph is built.
        let capture = Capture::new(0, 2);
        let handle = capture.graph;
        let build = Build {
            capture,
            ended: BTreeSet::new(),
        };
        builds().get_or_insert_default().open.insert(handle, build);
        // SAFETY: not null, and valid for a write.
        unsafe { give(modelRI, "modelRI", ptr::without_provenance_mut(handle)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIBindStream(
    modelRI: aclmdlRI,
    stream: aclrtStream,
    flag: u32,
) -> aclError {
    call("aclmdlRIBindStream", || {
        not_null(modelRI, "modelRI")?;
        not_null(stream, "stream")?;
        let stream = resolve(&*context()?, stream)?;
        if flag == ACL_MODEL_STREAM_FLAG_DEFAULT {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "the emulator has no tasks that wake another stream of a graph: bind the stream as a head",
            ));
        }
        if flag != ACL_MODEL_STREAM_FLAG_HEAD || stream.flags & ACL_STREAM_PERSISTENT == 0 {
            return Err(wrong(format!(
                "flag is {flag:#x} and the stream has flags {:#x}, wanted 0 and a persistent stream",
                stream.flags
            )));
        }
        let mut builds = builds();
        let builds = builds.get_or_insert_default();
        if builds.bound.contains_key(&stream.handle) || stream.capture().is_some() {
            return Err(wrong("the stream is bound or captured already"));
        }
        let build = open(builds, modelRI)?;
        build.capture.bind(&stream);
        builds.bound.insert(stream.handle, modelRI.addr());
        Ok(())
    })
}

fn open(builds: &mut Builds, graph: aclmdlRI) -> Result<&mut Build, Failure> {
    let found = builds.open.get_mut(&graph.addr());
    found.ok_or_else(|| wrong(format!("{graph:?} is no graph that is being built")))
}

/// Does something with the builds and the handle of a stream that is bound to this graph.
fn with_bound(
    graph: aclmdlRI,
    stream: aclrtStream,
    body: impl FnOnce(&mut Builds, usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    not_null(graph, "modelRI")?;
    not_null(stream, "stream")?;
    let stream = resolve(&*context()?, stream)?.handle;
    let mut builds = builds();
    let builds = builds.get_or_insert_default();
    if builds.bound.get(&stream) != Some(&graph.addr()) {
        return Err(wrong("the stream is not bound to this graph"));
    }
    body(builds, stream)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIEndTask(modelRI: aclmdlRI, stream: aclrtStream) -> aclError {
    call("aclmdlRIEndTask", || {
        with_bound(modelRI, stream, |builds, stream| {
            open(builds, modelRI)?.ended.insert(stream);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIBuildEnd(modelRI: aclmdlRI, _reserve: *mut c_void) -> aclError {
    call("aclmdlRIBuildEnd", || {
        not_null(modelRI, "modelRI")?;
        context()?;
        let mut builds = builds();
        let builds = builds.get_or_insert_default();
        if open(builds, modelRI)?.ended.is_empty() {
            return Err(wrong("no stream of the graph was ended by aclmdlRIEndTask"));
        }
        if let Some(build) = builds.open.remove(&modelRI.addr()) {
            GRAPHS.insert_at(modelRI.addr(), Arc::new(build.capture.finish()));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIUnbindStream(modelRI: aclmdlRI, stream: aclrtStream) -> aclError {
    call("aclmdlRIUnbindStream", || {
        with_bound(modelRI, stream, |builds, stream| {
            if builds.open.contains_key(&modelRI.addr()) {
                return Err(wrong("the graph is still being built"));
            }
            builds.bound.remove(&stream);
            Ok(())
        })
    })
}

/// Runs end before their next task; later ones are as ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIAbort(modelRI: aclmdlRI) -> aclError {
    call("aclmdlRIAbort", || {
        not_null(modelRI, "modelRI")?;
        GRAPHS.get(modelRI)?.aborts.fetch_add(1, Ordering::AcqRel);
        Ok(())
    })
}

/// Hands out a list by the two steps that such calls have: first its length, then its members.
///
/// # Safety
/// `count` must be null or valid for a read and a write, `room` null or valid for as many writes as `count` says.
unsafe fn give_all(
    room: *mut *mut c_void,
    count: *mut u32,
    all: &[*mut c_void],
) -> Result<(), Failure> {
    not_null(count, "count")?;
    if !room.is_null() {
        // SAFETY: not null, and valid for a read.
        let most = unsafe { count.read() } as usize;
        if most < all.len() {
            return Err(Failure::new(
                code::RT_INSUFFICIENT_INPUT_ARRAY,
                format!("room for {most}, wanted {}", all.len()),
            ));
        }
        // SAFETY: room for as many by this function's contract.
        unsafe { ptr::copy_nonoverlapping(all.as_ptr(), room, all.len()) };
    }
    // SAFETY: not null, and valid for a write.
    unsafe { give(count, "count", all.len() as u32) }
}

fn stream_handles(handle: usize, graph: &Graph) -> Vec<*mut c_void> {
    let living = STREAMS.living();
    let known = |stream: usize| {
        let found = living
            .iter()
            .find(|entry| entry.1.graph == handle && entry.1.stream == stream);
        found.map(|entry| ptr::without_provenance_mut(entry.0))
    };
    let name = |&stream: &usize| {
        known(stream).unwrap_or_else(|| {
            STREAMS.insert(GraphStream {
                graph: handle,
                stream,
            })
        })
    };
    graph.streams.iter().map(name).collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIGetStreams(
    modelRI: aclmdlRI,
    streams: *mut aclrtStream,
    numStreams: *mut u32,
) -> aclError {
    call("aclmdlRIGetStreams", || {
        not_null(modelRI, "modelRI")?;
        let graph = GRAPHS.get(modelRI)?;
        let all = stream_handles(modelRI.addr(), &graph);
        // SAFETY: by the contract of this function.
        unsafe { give_all(streams, numStreams, &all) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIGetTasksByStream(
    stream: aclrtStream,
    tasks: *mut aclmdlRITask,
    numTasks: *mut u32,
) -> aclError {
    call("aclmdlRIGetTasksByStream", || {
        not_null(stream, "stream")?;
        let of = STREAMS.get(stream)?;
        let graph = GRAPHS.get(ptr::without_provenance::<c_void>(of.graph))?;
        let living = TASKS.living();
        let mut all = Vec::new();
        for (number, node) in graph.nodes.iter().enumerate() {
            if node.stream != of.stream {
                continue;
            }
            let known = living.iter().find(|entry| Arc::ptr_eq(&entry.1.node, node));
            all.push(match known {
                Some(entry) => ptr::without_provenance_mut(entry.0),
                None => TASKS.insert(GraphTask {
                    graph: of.graph,
                    number: number as u32,
                    node: Arc::clone(node),
                }),
            });
        }
        // SAFETY: by the contract of this function.
        unsafe { give_all(tasks, numTasks, &all) }
    })
}

fn task(handle: aclmdlRITask) -> Result<Arc<GraphTask>, Failure> {
    not_null(handle, "task")?;
    TASKS.get(handle)
}

fn kind(task: &GraphTask) -> aclmdlRITaskType {
    match task.node.site().name {
        "aclrtRecordEvent" => ACL_MODEL_RI_TASK_EVENT_RECORD,
        "aclrtStreamWaitEvent" | "aclrtStreamWaitEventWithTimeout" => ACL_MODEL_RI_TASK_EVENT_WAIT,
        "aclrtResetEvent" => ACL_MODEL_RI_TASK_EVENT_RESET,
        "aclrtValueWrite" => ACL_MODEL_RI_TASK_VALUE_WRITE,
        "aclrtValueWait" => ACL_MODEL_RI_TASK_VALUE_WAIT,
        name if name.starts_with("aclnn") || name.starts_with("aclop") => ACL_MODEL_RI_TASK_KERNEL,
        _ => ACL_MODEL_RI_TASK_DEFAULT,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRITaskGetType(
    task: aclmdlRITask,
    type_: *mut aclmdlRITaskType,
) -> aclError {
    call("aclmdlRITaskGetType", || {
        let found = self::task(task)?;
        // SAFETY: null or valid for a write.
        unsafe { give(type_, "type", kind(&found)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRITaskGetSeqId(task: aclmdlRITask, id: *mut u32) -> aclError {
    call("aclmdlRITaskGetSeqId", || {
        let found = self::task(task)?;
        // SAFETY: null or valid for a write.
        unsafe { give(id, "id", found.number) }
    })
}

/// Only the kind: emulated kernels have no function handle and no packed arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRITaskGetParams(
    task: aclmdlRITask,
    params: *mut aclmdlRITaskParams,
) -> aclError {
    call("aclmdlRITaskGetParams", || {
        let found = self::task(task)?;
        not_null(params, "params")?;
        // SAFETY: not null, and valid for a write; all zeros are null pointers and numbers.
        unsafe { params.write_bytes(0, 1) };
        // SAFETY: as above.
        unsafe { (*params).type_ = kind(&found) };
        Ok(())
    })
}

/// Takes effect with `aclmdlRIUpdate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRITaskDisable(task: aclmdlRITask) -> aclError {
    call("aclmdlRITaskDisable", || {
        self::task(task)?.node.off.0.store(true, Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRIUpdate(modelRI: aclmdlRI) -> aclError {
    call("aclmdlRIUpdate", || {
        not_null(modelRI, "modelRI")?;
        for node in &GRAPHS.get(modelRI)?.nodes {
            let wanted = node.off.0.load(Ordering::Acquire);
            node.off.1.store(wanted, Ordering::Release);
        }
        Ok(())
    })
}
