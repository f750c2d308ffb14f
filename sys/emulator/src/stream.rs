//! Streams: queues of tasks, each worked off in order by its own thread, or by a thread that waits for it.
//!
//! Knows tasks as closures; it must not know what they compute or which C function queued them.

use crate::capture::Capture;
use crate::event::Point;
use crate::external::Arm;
use crate::failure::{Failure, Fault, code};
use crate::guard;
use crate::kernel::Run;
use crate::ledger::Site;
use crate::memory::{Block, Hold};
use crate::registry::{Kind, Registry};
use crate::state::{CONTEXTS, Device, world};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All streams, default ones included.
pub(crate) static STREAMS: Registry<Stream> = Registry::new(Kind::Stream, code::RT_INVALID_HANDLE);

/// What a task runs; shared, because a captured graph runs it again.
pub(crate) type Body = Arc<Mutex<Run>>;

/// One entry of a queue.
pub(crate) struct Task {
    pub site: Site,
    pub body: Body,
    pub holds: Vec<Hold>,
    /// Runs even when the stream skips its work: event records.
    pub always: bool,
    /// Told of each launch of the graph that the task is part of.
    pub arm: Option<Arm>,
    /// May run on a thread that waits for the stream: it neither blocks nor calls user code.
    pub steal: bool,
}

impl Task {
    pub fn new(run: impl FnMut() -> Result<(), Fault> + Send + 'static) -> Task {
        Task {
            site: guard::current(),
            body: Arc::new(Mutex::new(Box::new(run))),
            holds: Vec::new(),
            always: false,
            arm: None,
            steal: true,
        }
    }

    pub fn holding(mut self, blocks: &[Arc<Block>]) -> Task {
        self.holds = blocks.iter().map(Hold::new).collect();
        self
    }
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    running: bool,
    worker: bool,
    idle_worker: bool,
    waiters: u32,
    closed: bool,
    /// Skip everything but `always` tasks: the code that waiters get.
    aborted: Option<i32>,
    error: Option<Failure>,
    /// How often queued work was dropped, and the code of the last time.
    aborts: (u64, i32),
    capture: Option<Arc<Capture>>,
}

/// A stream.
pub(crate) struct Stream {
    pub handle: usize,
    pub context: usize,
    pub device: Arc<Device>,
    pub is_default: bool,
    pub flags: u32,
    pub priority: u32,
    pub saturate: bool,
    pub overflow_switch: AtomicU64,
    pub failure_mode: AtomicU64,
    pub callback_thread: AtomicU64,
    queue: Mutex<Queue>,
    wake: Condvar,
    progress: Condvar,
}

const QUEUE_LIMIT: usize = 8192;

impl Stream {
    /// Makes a stream and makes it known.
    pub fn create(
        context: usize,
        device: &Arc<Device>,
        priority: u32,
        flags: u32,
        is_default: bool,
    ) -> Arc<Stream> {
        let handle = STREAMS.reserve();
        let stream = Arc::new(Stream {
            handle,
            context,
            device: Arc::clone(device),
            is_default,
            flags,
            priority,
            saturate: device.saturation.load(Ordering::Acquire) == 0,
            overflow_switch: AtomicU64::new(0),
            failure_mode: AtomicU64::new(0),
            callback_thread: AtomicU64::new(0),
            queue: Mutex::default(),
            wake: Condvar::new(),
            progress: Condvar::new(),
        });
        STREAMS.insert_at(handle, Arc::clone(&stream));
        device.add_stream(&stream);
        stream
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The capture that this stream is part of.
    pub fn capture(&self) -> Option<Arc<Capture>> {
        self.lock().capture.clone()
    }

    pub fn set_capture(&self, capture: Option<Arc<Capture>>) {
        self.lock().capture = capture;
    }

    /// Queues a task, or records it where the stream captures.
    pub fn submit(self: &Arc<Self>, task: Task) -> Result<(), Failure> {
        if let Some(capture) = self.capture() {
            return capture.push(self.handle, task);
        }
        self.submit_uncaptured(task)
    }

    pub fn submit_uncaptured(self: &Arc<Self>, task: Task) -> Result<(), Failure> {
        let mut queue = self.lock();
        while queue.tasks.len() >= QUEUE_LIMIT && !queue.closed {
            queue.waiters += 1;
            queue = self
                .progress
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.waiters -= 1;
        }
        if queue.closed {
            return Err(Failure::new(
                code::RT_INVALID_HANDLE,
                "the stream is being destroyed",
            ));
        }
        if let Some(code) = queue.aborted {
            let why = match &queue.error {
                Some(first) => format!("the stream stopped after a failure: {}", first.text),
                None => String::from("the stream was aborted"),
            };
            return Err(Failure::new(code, why));
        }
        queue.tasks.push_back(task);
        if !queue.worker {
            queue.worker = true;
            let stream = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name(String::from("ascend-stream"))
                .spawn(move || stream.work());
            if spawned.is_err() {
                queue.worker = false;
                queue.tasks.pop_back();
                return Err(Failure::new(
                    code::RT_NO_STREAM_RESOURCE,
                    "the host gives no thread for a stream",
                ));
            }
        } else if queue.idle_worker {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The worker thread.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if queue.running || queue.tasks.is_empty() {
                if queue.closed && queue.tasks.is_empty() {
                    queue.worker = false;
                    return;
                }
                queue.idle_worker = true;
                queue = self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle_worker = false;
                continue;
            }
            queue = self.step(queue);
        }
    }

    /// Runs the first task; called with the lock, returns with it.
    fn step<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let Some(task) = queue.tasks.pop_front() else {
            return queue;
        };
        queue.running = true;
        let skip = queue.aborted.is_some() && !task.always;
        drop(queue);
        let outcome = if skip { Ok(()) } else { self.execute(&task) };
        drop(task);
        if let Err(failure) = &outcome {
            self.fail(failure);
        }
        let mut queue = self.lock();
        queue.running = false;
        if queue.waiters > 0 {
            self.progress.notify_all();
        }
        if queue.idle_worker && !queue.tasks.is_empty() {
            self.wake.notify_one();
        }
        queue
    }

    fn execute(&self, task: &Task) -> Result<(), Failure> {
        if let Ok(world) = world() {
            let extra = Duration::from_micros(world.delay().unwrap_or(0));
            let pause = world.settings.latency + extra;
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        crate::trace::enter(self.device.id, crate::callback::number_of(self));
        crate::tensor::set_saturation(self.saturate);
        for hold in &task.holds {
            if hold.block.is_freed() {
                return Err(Failure::exception(format!(
                    "{} uses {:#x} made by {}, which {} freed before the task ran",
                    task.site,
                    hold.block.start,
                    hold.block.made_by,
                    hold.block.freed_by()
                )));
            }
        }
        crate::tensor::take_clipping();
        let done = run_body(&task.body, task.site);
        // An infinity that a fill was asked for is none that arithmetic made.
        if crate::tensor::take_clipping() && !task.site.name.contains("Fill") {
            self.device.overflow.store(true, Ordering::Release);
        }
        done
    }

    /// Keeps a task's failure until somebody synchronises; a fatal one takes the device with it.
    fn fail(&self, failure: &Failure) {
        crate::callback::report(self, failure);
        if is_fatal(failure.code) {
            self.device.poison(failure.clone());
        }
        let stop = self.failure_mode.load(Ordering::Acquire) == 1
            || CONTEXTS
                .peek(std::ptr::without_provenance::<()>(self.context))
                .is_some_and(|context| context.stop_on_failure.load(Ordering::Acquire));
        let mut queue = self.lock();
        queue.error = Some(failure.clone());
        if stop {
            queue.aborted = Some(failure.code);
        }
    }

    /// Waits until a condition holds, working off tasks on this thread where that is allowed. False if time ran out.
    fn drive(&self, until: impl Fn(&Stream, bool) -> bool, deadline: Option<Instant>) -> bool {
        // A task on this thread would outlast a deadline, and an abort by somebody else.
        let delays = deadline.is_some()
            || world().is_ok_and(|world| {
                world.settings.delay.is_some() || !world.settings.latency.is_zero()
            });
        let mut queue = self.lock();
        loop {
            if until(self, queue.tasks.is_empty() && !queue.running) {
                return true;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return false;
            }
            let may =
                !delays && !queue.running && queue.tasks.front().is_some_and(|task| task.steal);
            if may {
                queue = self.step(queue);
                continue;
            }
            let slice = deadline.map_or(Duration::from_millis(50), |deadline| {
                (deadline - now).min(Duration::from_millis(50))
            });
            queue.waiters += 1;
            queue = self
                .progress
                .wait_timeout(queue, slice)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queue.waiters -= 1;
        }
    }

    /// Waits for an empty queue and hands out the failure that came up meanwhile.
    pub fn synchronize(&self, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let (aborts, _) = self.lock().aborts;
        if !self.drive(|_, idle| idle, deadline) {
            return Err(Failure::new(
                code::RT_STREAM_SYNC_TIMEOUT,
                format!("the stream was still working after {timeout:?}"),
            ));
        }
        let mut queue = self.lock();
        if queue.aborts.0 != aborts {
            return Err(Failure::new(
                queue.aborts.1,
                "the stream was aborted while this call waited for it",
            ));
        }
        if let Some(code) = queue.aborted {
            return Err(queue
                .error
                .take()
                .unwrap_or_else(|| Failure::new(code, "the stream was aborted")));
        }
        match queue.error.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Waits for a point of this stream.
    pub fn synchronize_point(&self, point: &Point, deadline: Option<Instant>) -> bool {
        self.drive(|_, _| point.is_done(), deadline)
    }

    pub fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.tasks.is_empty() && !queue.running
    }

    /// Drops queued work; waiters get the code.
    pub fn abort(&self, code: i32) {
        let mut queue = self.lock();
        queue.aborted = Some(code);
        queue.aborts = (queue.aborts.0 + 1, code);
        self.progress.notify_all();
        self.wake.notify_one();
    }

    /// Ends an abort.
    pub fn resume(&self) {
        let mut queue = self.lock();
        queue.aborted = None;
        queue.error = None;
    }

    pub fn is_aborted(&self) -> bool {
        let queue = self.lock();
        queue.aborted.is_some()
    }

    /// The stream takes no more work; what is queued is finished by its worker, which then ends.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.capture = None;
        self.wake.notify_one();
        self.progress.notify_all();
    }
}

/// Runs a body with the call that queued it as the thread's current call; a panic becomes a failure.
pub(crate) fn run_body(body: &Body, site: Site) -> Result<(), Failure> {
    let begun = crate::trace::begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut run = body.lock().unwrap_or_else(PoisonError::into_inner);
        run()
    }));
    crate::trace::task(begun, site);
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => Err(Failure::new(fault.code, format!("{site}: {}", fault.text))),
        Err(payload) => Err(Failure::new(
            code::INTERNAL_ERROR,
            format!(
                "{site}: the emulated kernel panicked: {}",
                guard::panic_text(&*payload)
            ),
        )),
    }
}

/// Whether a device or context is unusable after this code.
fn is_fatal(code: i32) -> bool {
    matches!(
        code,
        507_000..=507_001 | 507_010..=507_011 | 507_013..=507_018 | 507_022 | 507_033..=507_036
            | 507_042..=507_045 | 507_048..=507_050 | 507_053..=507_057 | 507_899..=507_902
    )
}
