//! User code that the runtime calls: host callbacks in stream order, and the hooks for failed tasks.
//!
//! Knows function pointers and the threads that process them; it must not know queues or kernels.

use crate::failure::{Failure, code};
use crate::stream::{Stream, Task};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A callback with its argument.
#[derive(Clone, Copy)]
pub(crate) struct Callback {
    pub function: unsafe extern "C" fn(*mut c_void),
    pub argument: usize,
}

thread_local! {
    /// Callbacks that this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Callback {
    pub fn run(self) {
        let argument = std::ptr::with_exposed_provenance_mut(self.argument);
        DEPTH.set(DEPTH.get() + 1);
        // SAFETY: the caller of the launch function handed over a function for exactly this argument.
        unsafe { (self.function)(argument) };
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Refuses to wait in a callback: its stream waits for it.
pub(crate) fn refuse_within() -> Result<(), Failure> {
    if DEPTH.get() == 0 {
        return Ok(());
    }
    Err(crate::guard::violation(
        code::RT_PARAM_INVALID,
        "a host callback waits for a stream or an event: a deadlock",
    ))
}

/// Set and signalled once a callback has returned.
type Done = Arc<(Mutex<bool>, Condvar)>;

#[derive(Default)]
struct Channel {
    waiting: VecDeque<(Callback, Done)>,
    streams: u32,
}

static CHANNELS: Mutex<Option<HashMap<u64, Channel>>> = Mutex::new(None);
static ARRIVED: Condvar = Condvar::new();

fn channels() -> MutexGuard<'static, Option<HashMap<u64, Channel>>> {
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id that `pthread_self` gives for this thread.
fn this_thread() -> u64 {
    // SAFETY: pthread_self has no precondition.
    unsafe { libc::pthread_self() as u64 }
}

/// A callback on a thread of the runtime; the stream waits for it.
pub(crate) fn launch_host(stream: &Arc<Stream>, callback: Callback) -> Result<(), Failure> {
    let mut task = Task::new(move || {
        callback.run();
        Ok(())
    });
    task.steal = false;
    stream.submit(task)
}

/// A callback on the subscribed thread.
pub(crate) fn launch_subscribed(
    stream: &Arc<Stream>,
    callback: Callback,
    block: bool,
) -> Result<(), Failure> {
    let thread = stream.callback_thread.load(Ordering::Acquire);
    if thread == 0 {
        return Err(Failure::new(
            code::RT_STREAM_NO_CB_REG,
            "no thread is subscribed to the stream: call aclrtSubscribeReport first",
        ));
    }
    let mut task = Task::new(move || {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        {
            let mut channels = channels();
            let channel = channels.get_or_insert_default().entry(thread).or_default();
            channel.waiting.push_back((callback, Arc::clone(&done)));
        }
        ARRIVED.notify_all();
        let mut finished = done.0.lock().unwrap_or_else(PoisonError::into_inner);
        while block && !*finished {
            finished = done
                .1
                .wait(finished)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    });
    task.steal = false;
    stream.submit(task)
}

pub(crate) fn subscribe(stream: &Stream, thread: u64) -> Result<(), Failure> {
    let claimed =
        stream
            .callback_thread
            .compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire);
    if claimed.is_err() {
        return Err(Failure::new(
            code::RT_STREAM_SUBSCRIBE,
            "a thread is subscribed to the stream already",
        ));
    }
    channels()
        .get_or_insert_default()
        .entry(thread)
        .or_default()
        .streams += 1;
    Ok(())
}

pub(crate) fn unsubscribe(stream: &Stream, thread: u64) -> Result<(), Failure> {
    let released =
        stream
            .callback_thread
            .compare_exchange(thread, 0, Ordering::AcqRel, Ordering::Acquire);
    if released.is_err() {
        return Err(Failure::new(
            code::RT_THREAD_SUBSCRIBE,
            "this thread is not subscribed to the stream",
        ));
    }
    if let Some(channel) = channels().get_or_insert_default().get_mut(&thread) {
        channel.streams = channel.streams.saturating_sub(1);
    }
    Ok(())
}

/// Runs callbacks of the calling thread; 507012 if none came in time.
pub(crate) fn process(timeout: i32) -> Result<(), Failure> {
    let deadline = match timeout {
        -1 => None,
        1.. => Some(Instant::now() + Duration::from_millis(timeout as u64)),
        _ => {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("timeout is {timeout}, wanted -1 or a positive number"),
            ));
        }
    };
    let thread = this_thread();
    let mut guard = channels();
    loop {
        let next = guard
            .get_or_insert_default()
            .get_mut(&thread)
            .and_then(|channel| channel.waiting.pop_front());
        if let Some((callback, done)) = next {
            drop(guard);
            callback.run();
            *done.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            done.1.notify_all();
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::new(
                code::RT_REPORT_TIMEOUT,
                "no callback came in time",
            ));
        }
        guard = ARRIVED
            .wait_timeout(guard, Duration::from_millis(5))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// What an exception callback can ask about: the structure behind `aclrtExceptionInfo`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExceptionInfo {
    pub task: u32,
    pub stream: u32,
    pub thread: u32,
    pub device: u32,
    pub code: u32,
}

/// A user's hook for failed tasks.
pub(crate) type Hook = unsafe extern "C" fn(*mut c_void);

static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());
static TASK: AtomicU32 = AtomicU32::new(0);

fn hooks() -> MutexGuard<'static, Vec<Hook>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a hook; `only` removes the others first.
pub(crate) fn add_hook(hook: Hook, only: bool) {
    let mut hooks = hooks();
    if only {
        hooks.clear();
    }
    hooks.push(hook);
}

pub(crate) fn remove_hook(hook: Hook) -> bool {
    let mut hooks = hooks();
    let before = hooks.len();
    hooks.retain(|known| !std::ptr::fn_addr_eq(*known, hook));
    hooks.len() < before
}

pub(crate) fn clear_hooks() {
    hooks().clear();
}

/// Tells the hooks about a failed task.
pub(crate) fn report(stream: &Stream, failure: &Failure) {
    let hooks: Vec<Hook> = hooks().clone();
    if hooks.is_empty() {
        return;
    }
    let mut info = ExceptionInfo {
        task: TASK.fetch_add(1, Ordering::Relaxed),
        stream: number_of(stream),
        thread: this_thread() as u32,
        device: stream.device.id,
        code: failure.code as u32,
    };
    for hook in hooks {
        // SAFETY: the user registered a function that takes an exception info; this one lives for the call.
        unsafe { hook((&raw mut info).cast()) };
    }
}

/// A stream's small number, as ids in reports are.
pub(crate) fn number_of(stream: &Stream) -> u32 {
    (stream.handle >> 4) as u32
}
