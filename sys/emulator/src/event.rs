//! Events of both families: points in the work of a stream that others wait for.
//!
//! Knows points and flags; it must not know contexts, kernels or C signatures.

use crate::capture::Capture;
use crate::external::Mark;
use crate::failure::{Failure, code};
use crate::registry::{Kind, Registry};
use crate::shared::{Name, Shared, Use};
use crate::stream::{Stream, Task};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// All events.
pub(crate) static EVENTS: Registry<Event> = Registry::new(Kind::Event, code::RT_INVALID_HANDLE);

pub(crate) const SYNC: u32 = 1;
pub(crate) const TIME_LINE: u32 = 8;
pub(crate) const EXTERNAL: u32 = 0x20;
pub(crate) const IPC: u32 = 0x40;

/// Which constructor made an event decides most of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `aclrtCreateEvent`: records freely.
    Classic,
    /// `aclrtCreateEventWithFlag`: one device id for life.
    Flagged,
    /// `aclrtCreateEventExWithFlag`: records freely, waits see the latest record.
    Extended,
}

/// One record of an event.
pub(crate) struct Point {
    done: Mutex<Option<Instant>>,
    signal: Condvar,
    stream: Mutex<Weak<Stream>>,
    /// The capture in which the record took place, with the number of its nodes then.
    pub captured: Option<(Arc<Capture>, usize)>,
    pub waits: AtomicU32,
}

impl Point {
    fn new(stream: Option<&Arc<Stream>>, captured: Option<(Arc<Capture>, usize)>) -> Arc<Point> {
        Arc::new(Point {
            done: Mutex::new(None),
            signal: Condvar::new(),
            stream: Mutex::new(stream.map_or_else(Weak::new, Arc::downgrade)),
            captured,
            waits: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_done(&self) -> bool {
        self.lock().is_some()
    }

    pub fn time(&self) -> Option<Instant> {
        *self.lock()
    }

    pub fn stream(&self) -> Option<Arc<Stream>> {
        self.stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }

    pub fn complete(&self) {
        self.lock().get_or_insert_with(Instant::now);
        self.signal.notify_all();
    }

    /// Waits on the device: until done, or until the waiting stream is aborted, or until time is out.
    pub fn wait(&self, waiter: &Weak<Stream>, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut done = self.lock();
        while done.is_none() {
            if waiter.upgrade().is_none_or(|stream| stream.is_aborted()) {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::new(
                    code::RT_WAIT_TIMEOUT,
                    "a stream's wait for an event timed out",
                ));
            }
            done = self
                .signal
                .wait_timeout(done, Duration::from_millis(20))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }
}

#[derive(Default)]
struct State {
    point: Option<Arc<Point>>,
    recorded: bool,
}

/// An event.
pub(crate) struct Event {
    pub style: Style,
    pub flags: u32,
    pub context: usize,
    pub number: u32,
    state: Mutex<State>,
    /// Of an event with the flag EXTERNAL.
    mark: Option<Arc<Mark>>,
    /// Of an event between processes: how many records were queued, and which of them is the last that completed.
    shared: Option<Arc<Shared>>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Event {
    pub fn new(style: Style, flags: u32, context: usize) -> Event {
        Event::of(style, flags, context, None)
    }

    /// An event that other processes may open.
    pub fn between_processes(context: usize) -> Result<Event, Failure> {
        let shared = Arc::new(Shared::create(Use::Event, 0, false)?);
        Ok(Event::of(Style::Extended, IPC, context, Some(shared)))
    }

    /// Another process's event.
    pub fn open(name: Name, context: usize) -> Result<Event, Failure> {
        let shared = Arc::new(Shared::open(Use::Event, name)?);
        Ok(Event::of(Style::Extended, IPC, context, Some(shared)))
    }

    /// How other processes find it, if they may.
    pub fn name(&self) -> Option<Name> {
        self.shared.as_ref().map(|shared| shared.name())
    }

    fn of(style: Style, flags: u32, context: usize, shared: Option<Arc<Shared>>) -> Event {
        let external = style == Style::Flagged && flags & EXTERNAL != 0;
        Event {
            shared,
            mark: external.then(Arc::default),
            style,
            flags,
            context,
            number: NUMBER.fetch_add(1, Ordering::Relaxed) % 65536,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest record.
    pub fn point(&self) -> Option<Arc<Point>> {
        let state = self.lock();
        state.point.clone().filter(|_| state.recorded)
    }

    /// Queues a record.
    pub fn record(&self, stream: &Arc<Stream>) -> Result<(), Failure> {
        let capture = stream.capture();
        if let Some(shared) = &self.shared {
            return record_between(shared, stream);
        }
        if let Some(mark) = &self.mark {
            return mark.record(stream);
        }
        if capture.is_some() && self.style != Style::Extended {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "an event recorded in a capture must be made by aclrtCreateEventExWithFlag or be EXTERNAL",
            ));
        }
        let point = self.new_point(stream, capture)?;
        let task_point = Arc::clone(&point);
        let mut task = Task::new(move || {
            task_point.complete();
            Ok(())
        });
        task.always = true;
        if point.captured.is_some() {
            return Ok(());
        }
        stream
            .submit_uncaptured(task)
            .inspect_err(|_| point.complete())
    }

    fn new_point(
        &self,
        stream: &Arc<Stream>,
        capture: Option<Arc<Capture>>,
    ) -> Result<Arc<Point>, Failure> {
        let mut state = self.lock();
        if self.style == Style::Flagged && state.recorded {
            let busy = state.point.as_ref().is_some_and(|point| !point.is_done());
            let waited = state
                .point
                .as_ref()
                .is_some_and(|point| point.waits.load(Ordering::Acquire) > 0);
            if busy || waited {
                return Err(crate::guard::violation(
                    code::RT_PARAM_INVALID,
                    "an event of aclrtCreateEventWithFlag is recorded again without aclrtResetEvent",
                ));
            }
        }
        let waited_for = state.point.take().filter(|_| !state.recorded);
        let point = match waited_for {
            Some(point) => {
                *point.stream.lock().unwrap_or_else(PoisonError::into_inner) =
                    Arc::downgrade(stream);
                point
            }
            None => {
                let captured = capture.map(|capture| {
                    let nodes = capture.count();
                    (capture, nodes)
                });
                Point::new(Some(stream), captured)
            }
        };
        state.point = Some(Arc::clone(&point));
        state.recorded = true;
        Ok(point)
    }

    /// Queues a wait for the record that is the latest now.
    pub fn wait(&self, stream: &Arc<Stream>, timeout: Option<Duration>) -> Result<(), Failure> {
        if let Some(shared) = &self.shared {
            return wait_between(shared, stream, timeout);
        }
        if let Some(mark) = &self.mark {
            return mark.wait(stream, timeout);
        }
        if self.style != Style::Classic && self.flags & SYNC == 0 {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                format!(
                    "the event has flags {:#x}, a wait needs SYNC (1)",
                    self.flags
                ),
            ));
        }
        let point = {
            let mut state = self.lock();
            match (&state.point, self.style) {
                (Some(point), _) if state.recorded => Arc::clone(point),
                (_, Style::Classic) => {
                    return Err(Failure::new(
                        code::RT_PARAM_INVALID,
                        "the event was never recorded",
                    ));
                }
                (_, Style::Extended) => return Ok(()),
                _ => Arc::clone(state.point.get_or_insert_with(|| Point::new(None, None))),
            }
        };
        point.waits.fetch_add(1, Ordering::AcqRel);
        if let Some((capture, nodes)) = &point.captured {
            let from = point.stream().map_or(0, |stream| stream.handle);
            return capture.join(stream, from, *nodes);
        }
        if stream.capture().is_some() {
            return Err(Failure::new(
                code::RT_CAPTURE_DEPENDENCY,
                "a captured stream waits for an event that was recorded outside of the capture",
            ));
        }
        let waiter = Arc::downgrade(stream);
        let mut task = Task::new(move || point.wait(&waiter, timeout));
        task.steal = false;
        stream.submit_uncaptured(task)
    }

    /// Waits on the host.
    pub fn synchronize(&self, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        if let Some(shared) = &self.shared {
            let (target, _) = counts(shared);
            let done = poll(shared, target, || {
                deadline.is_some_and(|end| Instant::now() >= end)
            });
            return if done { Ok(()) } else { Err(late(timeout)) };
        }
        if let Some(mark) = &self.mark {
            let done = mark.synchronize(deadline);
            return if done { Ok(()) } else { Err(late(timeout)) };
        }
        let Some(point) = self.point() else {
            return Ok(());
        };
        refuse_captured(&point)?;
        let done = match point.stream() {
            Some(stream) => stream.synchronize_point(&point, deadline),
            None => point.is_done(),
        };
        if !done {
            return Err(late(timeout));
        }
        Ok(())
    }

    /// `None` before any record, else whether the record is complete.
    pub fn status(&self) -> Result<Option<bool>, Failure> {
        if let Some(shared) = &self.shared {
            let (queued, done) = counts(shared);
            return Ok((queued > 0).then_some(done >= queued));
        }
        if let Some(mark) = &self.mark {
            return Ok(mark.status());
        }
        let Some(point) = self.point() else {
            return Ok(None);
        };
        refuse_captured(&point)?;
        Ok(Some(point.is_done()))
    }

    /// A graph is launched that will record the event.
    pub fn launch(&self, stream: &Arc<Stream>) -> Arc<Point> {
        let point = Point::new(Some(stream), None);
        let mut state = self.lock();
        state.point = Some(Arc::clone(&point));
        state.recorded = true;
        point
    }

    pub fn reset(&self, stream: &Arc<Stream>) -> Result<(), Failure> {
        if let Some(mark) = &self.mark {
            return mark.reset(stream);
        }
        if self.style == Style::Extended || (self.style == Style::Flagged && self.flags & SYNC == 0)
        {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "only SYNC events of aclrtCreateEventWithFlag can be reset",
            ));
        }
        let mut state = self.lock();
        state.point = None;
        state.recorded = false;
        Ok(())
    }

    /// When the record completed.
    pub fn time(&self) -> Result<(Instant, usize), Failure> {
        if self.style != Style::Classic && self.flags & TIME_LINE == 0 {
            return Err(Failure::new(
                code::RT_EVENT_TIMESTAMP_INVALID,
                format!(
                    "the event has flags {:#x}, time stamps need TIME_LINE (8)",
                    self.flags
                ),
            ));
        }
        let point = self
            .point()
            .ok_or_else(|| Failure::new(code::RT_INTERNAL, "the event was never recorded"))?;
        refuse_captured(&point)?;
        let time = point.time().ok_or_else(|| {
            Failure::new(
                code::RT_EVENT_TIMESTAMP_INVALID,
                "the event's record is not complete",
            )
        })?;
        Ok((time, point.stream().map_or(0, |stream| stream.handle)))
    }
}

fn late(timeout: Option<Duration>) -> Failure {
    Failure::new(
        code::RT_EVENT_SYNC_TIMEOUT,
        format!("the event was not complete after {timeout:?}"),
    )
}

fn words(shared: &Shared) -> [&AtomicU64; 2] {
    let [queued, done, ..] = &shared.header().words;
    [queued, done]
}

/// How many records of an event between processes were queued, and the number of the last that completed.
fn counts(shared: &Shared) -> (u64, u64) {
    let [queued, done] = words(shared);
    (queued.load(Ordering::Acquire), done.load(Ordering::Acquire))
}

/// Waits for a record, wherever it was queued; false if given up.
fn poll(shared: &Shared, target: u64, give_up: impl Fn() -> bool) -> bool {
    while counts(shared).1 < target {
        if give_up() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

fn record_between(shared: &Arc<Shared>, stream: &Arc<Stream>) -> Result<(), Failure> {
    refuse_capture(stream)?;
    let number = words(shared)[0].fetch_add(1, Ordering::AcqRel) + 1;
    let complete = {
        let shared = Arc::clone(shared);
        move || {
            words(&shared)[1].fetch_max(number, Ordering::AcqRel);
        }
    };
    let on_failure = complete.clone();
    let mut task = Task::new(move || {
        complete();
        Ok(())
    });
    task.always = true;
    stream.submit_uncaptured(task).inspect_err(|_| on_failure())
}

fn wait_between(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    refuse_capture(stream)?;
    let (target, _) = counts(shared);
    let shared = Arc::clone(shared);
    let waiter = Arc::downgrade(stream);
    let mut task = Task::new(move || {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let gone = || waiter.upgrade().is_none_or(|stream| stream.is_aborted());
        if poll(&shared, target, || late() || gone()) || gone() {
            return Ok(());
        }
        Err(Failure::new(
            code::RT_WAIT_TIMEOUT,
            "a stream's wait for an event timed out",
        ))
    });
    task.steal = false;
    stream.submit_uncaptured(task)
}

fn refuse_capture(stream: &Stream) -> Result<(), Failure> {
    if stream.capture().is_some() {
        return Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            "an event between processes cannot be part of a capture",
        ));
    }
    Ok(())
}

fn refuse_captured(point: &Point) -> Result<(), Failure> {
    if point.captured.is_some() {
        return Err(Failure::new(
            code::RT_EVENT_CAPTURED,
            "the event was recorded in a capture",
        ));
    }
    Ok(())
}
