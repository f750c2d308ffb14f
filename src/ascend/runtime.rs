//! The process's one CANN: loaded at first use, initialised once, never finalised behind the user's back.
//!
//! Knows which devices are open and each thread's current device and stream. Must not know memory, handles or operators.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ascend_sys::{Api, LoadError, LoadOptions, f};

use super::cann::Cann;
use super::context::Context;
use super::stream::Stream;
use crate::device::Device;
use crate::error::{Error, Result};

/// `aclInit` says so when somebody else in the process was first: a status, not a failure.
const INITIALISED_ALREADY: i32 = 100_002;

/// The loaded and initialised CANN.
#[derive(Debug)]
pub(super) struct Runtime {
    pub cann: Cann,
}

/// A device that is in use, with the stream that its ops run on unless another is chosen.
#[derive(Debug)]
pub(super) struct Opened {
    pub context: Arc<Context>,
    pub stream: Arc<Stream>,
}

/// What is open in this process.
#[derive(Debug)]
pub(super) struct Process {
    pub runtime: Option<Arc<Runtime>>,
    pub initialised: bool,
    failure: Option<LoadError>,
    pub devices: Vec<Opened>,
}

static PROCESS: Mutex<Process> = Mutex::new(Process {
    runtime: None,
    initialised: false,
    failure: None,
    devices: Vec::new(),
});

/// Rises when a device is opened anew or given up, so that threads look again.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// What a thread remembers of the devices.
#[derive(Debug)]
struct Thread {
    generation: u64,
    default: Option<Arc<Stream>>,
    chosen: Vec<Arc<Stream>>,
}

thread_local! {
    static THREAD: RefCell<Thread> = const { RefCell::new(Thread { generation: 0, default: None, chosen: Vec::new() }) };
}

/// The process's state, whatever happened to other threads that held it.
pub(super) fn process() -> MutexGuard<'static, Process> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes every thread look up its device again.
pub(super) fn invalidate() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

impl Process {
    /// The runtime, loaded and initialised if this is the first use.
    pub fn runtime(&mut self, op: &'static str) -> Result<Arc<Runtime>> {
        let runtime = match &self.runtime {
            Some(runtime) => Arc::clone(runtime),
            None => self.load()?,
        };
        if !self.initialised {
            runtime.cann.call(op, f::aclInit, |init| {
                // SAFETY: a null path asks for the defaults.
                match unsafe { init(std::ptr::null()) } {
                    INITIALISED_ALREADY => 0,
                    code => code,
                }
            })?;
            self.initialised = true;
        }
        Ok(runtime)
    }

    fn load(&mut self) -> Result<Arc<Runtime>> {
        if let Some(failure) = &self.failure {
            return Err(LoadError::NotFound {
                tried: failure.tried().to_vec(),
            }
            .into());
        }
        match Api::open(&LoadOptions::new()) {
            Ok(api) => Ok(Arc::clone(self.runtime.insert(Arc::new(Runtime {
                cann: Cann::new(api),
            })))),
            Err(failure) => {
                self.failure = Some(LoadError::NotFound {
                    tried: failure.tried().to_vec(),
                });
                Err(failure.into())
            }
        }
    }

    /// The entry of a device, opened if this is its first use.
    fn open(&mut self, op: &'static str, number: u32) -> Result<&Opened> {
        if let Some(index) = self
            .devices
            .iter()
            .position(|opened| opened.context.number() == number)
        {
            return self.devices.get(index).ok_or_else(|| missing(op, number));
        }
        let runtime = self.runtime(op)?;
        let context = Context::open(op, runtime, number)?;
        let stream = match Stream::open(op, Arc::clone(&context), true) {
            Ok(stream) => stream,
            Err(error) => {
                let _ = context.reset_device(op, false);
                return Err(error);
            }
        };
        self.devices.push(Opened { context, stream });
        self.devices.last().ok_or_else(|| missing(op, number))
    }
}

fn missing(op: &'static str, number: u32) -> Error {
    Error::Device {
        op,
        lhs: Device::Ascend(number),
        rhs: Device::Cpu,
    }
}

/// Gives the process its CANN: an emulator's, or the libraries of an explicit path.
///
/// Without it, the first use of a device loads the installed CANN.
///
/// # Errors
/// [`Error::Option`] if a CANN is loaded or installed already.
pub fn install(api: Api) -> Result<()> {
    let mut process = process();
    if process.runtime.is_some() {
        return Err(Error::option(
            "install",
            "api",
            "got a second CANN, wanted one before the first use of a device",
        ));
    }
    process.runtime = Some(Arc::new(Runtime {
        cann: Cann::new(api),
    }));
    process.failure = None;
    Ok(())
}

/// The stream that ops of this thread run on, on a device; opens the device at its first use.
#[inline]
pub(super) fn current_stream(op: &'static str, number: u32) -> Result<Arc<Stream>> {
    let known = THREAD.try_with(|thread| {
        thread
            .try_borrow()
            .ok()
            .and_then(|thread| thread.find(number))
    });
    let stream = match known.ok().flatten() {
        Some(stream) => stream,
        None => look_up(op, number)?,
    };
    stream.ready(op)?;
    Ok(stream)
}

impl Thread {
    #[inline]
    fn find(&self, number: u32) -> Option<Arc<Stream>> {
        if let Some(chosen) = self
            .chosen
            .iter()
            .rev()
            .find(|stream| stream.context().number() == number)
        {
            return Some(Arc::clone(chosen));
        }
        let default = self
            .default
            .as_ref()
            .filter(|stream| stream.context().number() == number)?;
        (self.generation == GENERATION.load(Ordering::Acquire)).then(|| Arc::clone(default))
    }
}

#[cold]
fn look_up(op: &'static str, number: u32) -> Result<Arc<Stream>> {
    let generation = GENERATION.load(Ordering::Acquire);
    let stream = Arc::clone(&process().open(op, number)?.stream);
    let stale = THREAD.try_with(|thread| {
        thread.try_borrow_mut().ok().and_then(|mut thread| {
            thread.generation = generation;
            thread.default.replace(Arc::clone(&stream))
        })
    });
    // Dropped only now: the drop of a stream may come back to this thread's state.
    drop(stale);
    Ok(stream)
}

/// The default stream of a device, with its context bound on this thread.
pub(super) fn default_stream(op: &'static str, number: u32) -> Result<Arc<Stream>> {
    let stream = Arc::clone(&process().open(op, number)?.stream);
    stream.context().check(op)?;
    stream.context().bind(op)?;
    Ok(stream)
}

/// Runs a function with a stream chosen for the ops of this thread.
pub(super) fn with_chosen<R>(stream: &Arc<Stream>, body: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            let last = THREAD.try_with(|thread| {
                thread
                    .try_borrow_mut()
                    .ok()
                    .and_then(|mut thread| thread.chosen.pop())
            });
            drop(last);
        }
    }
    let pushed = THREAD.try_with(|thread| {
        thread
            .try_borrow_mut()
            .map(|mut thread| thread.chosen.push(Arc::clone(stream)))
    });
    let _restore = matches!(pushed, Ok(Ok(()))).then_some(Restore);
    body()
}
