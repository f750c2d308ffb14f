//! Events across the edge of a graph: marks that tasks set and clear, and records and waits of a graph that concern what is outside.
//!
//! Knows events, tasks and launches; it must not know C signatures.

use crate::event::{Event, Point, Style};
use crate::failure::{Failure, code};
use crate::stream::{Stream, Task};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Called with the stream on which a graph is launched.
pub(crate) type Arm = Arc<dyn Fn(&Arc<Stream>) + Send + Sync>;

#[derive(Default)]
struct State {
    set: bool,
    /// Whether a record was ever queued.
    recorded: bool,
}

/// What an event with the flag EXTERNAL is: set by its record, cleared by its reset, each in the order of their streams.
#[derive(Default)]
pub(crate) struct Mark {
    state: Mutex<State>,
    change: Condvar,
}

/// The stream that runs a task: the one that took it, or the one on which its graph was launched last.
#[derive(Clone)]
struct Runner(Arc<Mutex<Weak<Stream>>>);

impl Runner {
    fn new(stream: &Arc<Stream>) -> Runner {
        Runner(Arc::new(Mutex::new(Arc::downgrade(stream))))
    }

    fn is_gone(&self) -> bool {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.upgrade().is_none_or(|stream| stream.is_aborted())
    }

    fn arm(&self) -> Arm {
        let own = self.clone();
        Arc::new(move |stream| {
            *own.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(stream);
        })
    }
}

impl Mark {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, set: bool) {
        self.lock().set = set;
        self.change.notify_all();
    }

    /// Waits until the mark is set; false if given up.
    fn await_set(&self, give_up: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        while !state.set {
            if give_up() {
                return false;
            }
            let slice = Duration::from_millis(20);
            let woken = self.change.wait_timeout(state, slice);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits on the host; a mark that nobody was to set is no reason to wait.
    pub fn synchronize(&self, deadline: Option<Instant>) -> bool {
        !self.lock().recorded
            || self.await_set(|| deadline.is_some_and(|end| Instant::now() >= end))
    }

    /// `None` before any record.
    pub fn status(&self) -> Option<bool> {
        let state = self.lock();
        state.recorded.then_some(state.set)
    }

    pub fn record(self: &Arc<Self>, stream: &Arc<Stream>) -> Result<(), Failure> {
        self.lock().recorded = true;
        let own = Arc::clone(self);
        let mut task = Task::new(move || {
            own.turn(true);
            Ok(())
        });
        task.always = true;
        stream.submit(task)
    }

    pub fn reset(self: &Arc<Self>, stream: &Arc<Stream>) -> Result<(), Failure> {
        let own = Arc::clone(self);
        stream.submit(Task::new(move || {
            own.turn(false);
            Ok(())
        }))
    }

    pub fn wait(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        let (own, runner) = (Arc::clone(self), Runner::new(stream));
        let arm = runner.arm();
        let mut task = Task::new(move || {
            let deadline = timeout.map(|timeout| Instant::now() + timeout);
            let late = || deadline.is_some_and(|end| Instant::now() >= end);
            if own.await_set(|| late() || runner.is_gone()) || runner.is_gone() {
                return Ok(());
            }
            Err(Failure::new(
                code::RT_WAIT_TIMEOUT,
                "a stream's wait for an event timed out",
            ))
        });
        task.steal = false;
        task.arm = Some(arm);
        stream.submit(task)
    }
}

fn check(event: &Event) -> Result<(), Failure> {
    if event.style == Style::Extended && event.name().is_none() {
        return Ok(());
    }
    Err(Failure::new(
        code::RT_FEATURE_NOT_SUPPORT,
        "in a graph, an event for the outside is made by aclrtCreateEventExWithFlag, and not for other processes",
    ))
}

/// A graph's record that others wait for: a launch of the graph counts as the record, its task completes it.
pub(crate) fn record(event: &Arc<Event>, stream: &Arc<Stream>) -> Result<(), Failure> {
    if stream.capture().is_none() {
        return event.record(stream);
    }
    check(event)?;
    let launched: Arc<Mutex<VecDeque<Arc<Point>>>> = Arc::default();
    let (armed, event) = (Arc::clone(&launched), Arc::clone(event));
    let mut task = Task::new(move || {
        let mut launched = launched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = launched.pop_front() {
            point.complete();
        }
        Ok(())
    });
    task.always = true;
    task.arm = Some(Arc::new(move |stream| {
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.push_back(event.launch(stream));
    }));
    stream.submit(task)
}

/// A graph's wait for a record outside: for the one that is the latest when the task runs.
pub(crate) fn wait(
    event: &Arc<Event>,
    stream: &Arc<Stream>,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    if stream.capture().is_none() {
        return event.wait(stream, timeout);
    }
    check(event)?;
    let (event, runner) = (Arc::clone(event), Runner::new(stream));
    let arm = runner.arm();
    let mut task = Task::new(move || match event.point() {
        Some(point) if point.captured.is_none() => {
            let runner = runner
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            point.wait(&runner, timeout)
        }
        _ => Ok(()),
    });
    task.steal = false;
    task.arm = Some(arm);
    stream.submit(task)
}
