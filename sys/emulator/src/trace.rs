//! A Chrome trace of the process: calls by host thread, tasks by device and stream.
//!
//! Knows names, times and tracks; it must not know what a call or a task does.
//!
//! The file is a whole JSON array after every write: the closing bracket is written each time and overwritten by the next
//! event, so that a killed process leaves a trace that can be read. Open it at `chrome://tracing` or in Perfetto.

use crate::ledger::Site;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Events are written when so many bytes have gathered, or when the last write is so long ago.
const BATCH: usize = 1 << 16;
const PAUSE: Duration = Duration::from_millis(50);
const END: &str = "\n]\n";

static ON: AtomicBool = AtomicBool::new(false);
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

thread_local! {
    /// The device and stream whose task this thread runs.
    static TRACK: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

struct Trace {
    file: File,
    /// Where the closing bracket stands.
    end: u64,
    waiting: String,
    written: Instant,
    /// Tracks that have their name.
    named: HashSet<(u64, u64)>,
    start: Instant,
    start_time: Duration,
}

fn lock() -> MutexGuard<'static, Option<Trace>> {
    TRACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a trace, or ends it.
pub(crate) fn restart(path: Option<&str>) -> std::io::Result<()> {
    flush();
    ON.store(false, Ordering::Release);
    *lock() = None;
    let Some(path) = path else {
        return Ok(());
    };
    let file = File::create(path.replace("%p", &std::process::id().to_string()))?;
    file.write_all_at(b"[\n]\n", 0)?;
    *lock() = Some(Trace {
        file,
        end: 1,
        waiting: String::new(),
        written: Instant::now(),
        named: HashSet::new(),
        start: Instant::now(),
        start_time: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    });
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        extern "C" fn last() {
            flush();
        }
        // SAFETY: registers a function that lives as long as this library; libc runs it when the library or the process ends.
        unsafe { libc::atexit(last) };
    });
    ON.store(true, Ordering::Release);
    Ok(())
}

/// Writes what has gathered.
pub(crate) fn flush() {
    if let Some(trace) = lock().as_mut() {
        trace.write();
    }
}

/// The moment at which something begins, if a trace is on.
pub(crate) fn begin() -> Option<Instant> {
    ON.load(Ordering::Acquire).then(Instant::now)
}

/// A call of this thread ended.
pub(crate) fn call(begun: Option<Instant>, site: Site, code: i32) {
    let Some(begun) = begun else { return };
    // SAFETY: no precondition.
    let thread = unsafe { libc::gettid() };
    let process = u64::from(std::process::id());
    let track = (process, thread.unsigned_abs().into());
    record(begun, site, "call", track, Some(code));
}

/// Says for which device and stream this thread works.
pub(crate) fn enter(device: u32, stream: u32) {
    if ON.load(Ordering::Acquire) {
        TRACK.set(Some((device, stream)));
    }
}

/// A task of a stream ended.
pub(crate) fn task(begun: Option<Instant>, site: Site) {
    let (Some(begun), Some((device, stream))) = (begun, TRACK.get()) else {
        return;
    };
    let process = u64::from(std::process::id()) * 100 + 1 + u64::from(device);
    record(begun, site, kind(site.name), (process, stream.into()), None);
}

/// What a task is, by the call that queued it.
fn kind(name: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["aclrtMemcpy", "aclrtMemset"]) {
        "copy"
    } else if starts(&["Hccl"]) {
        "collective"
    } else if starts(&["aclrtRecordEvent", "aclrtStreamWaitEvent"]) {
        "event"
    } else if starts(&["aclrtLaunch"]) {
        "callback"
    } else if starts(&["aclmdlRI"]) {
        "graph"
    } else if starts(&["aclrt"]) {
        "task"
    } else {
        "kernel"
    }
}

fn record(begun: Instant, site: Site, category: &str, track: (u64, u64), code: Option<i32>) {
    let length = begun.elapsed();
    let mut guard = lock();
    let Some(trace) = guard.as_mut() else { return };
    trace.name(track, code.is_some());
    let time = trace.start_time + begun.saturating_duration_since(trace.start);
    let code = code.map_or_else(String::new, |code| format!(",\"code\":{code}"));
    let _ = write!(
        trace.waiting,
        ",\n{{\"name\":\"{}\",\"cat\":\"{category}\",\"ph\":\"X\",\"ts\":{},\"dur\":{},\"pid\":{},\"tid\":{},\"args\":{{\"call\":{}{code}}}}}",
        site.name,
        microseconds(time),
        microseconds(length),
        track.0,
        track.1,
        site.number
    );
    if trace.waiting.len() > BATCH || trace.written.elapsed() > PAUSE {
        trace.write();
    }
}

fn microseconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_micros(), time.as_nanos() % 1000)
}

impl Trace {
    /// Names a track before its first event.
    fn name(&mut self, track: (u64, u64), host: bool) {
        if !self.named.insert(track) {
            return;
        }
        let (process, thread) = track;
        let own = u64::from(std::process::id());
        let (group, line) = if host {
            (format!("host (process {own})"), format!("thread {thread}"))
        } else {
            let device = process - own * 100 - 1;
            (
                format!("device {device} (process {own})"),
                format!("stream {thread}"),
            )
        };
        for (what, name) in [("process_name", group), ("thread_name", line)] {
            let _ = write!(
                self.waiting,
                ",\n{{\"name\":\"{what}\",\"ph\":\"M\",\"pid\":{process},\"tid\":{thread},\"args\":{{\"name\":\"{name}\"}}}}"
            );
        }
    }

    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut self.waiting);
        if self.end == 1 {
            text.remove(0);
        }
        let length = text.len() as u64;
        text.push_str(END);
        if self.file.write_all_at(text.as_bytes(), self.end).is_ok() {
            self.end += length;
        }
        text.clear();
        self.waiting = text;
        self.written = Instant::now();
    }
}
