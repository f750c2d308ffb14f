//! The state of the process: settings, init counts, devices, and which context each thread has.
//!
//! Knows devices and contexts; it must not know how work is queued or what kernels do.

use crate::failure::{Failure, code};
use crate::guard;
use crate::kernel::Family;
use crate::ledger::{self, Schedule};
use crate::memory;
use crate::registry::{Kind, Registry};
use crate::settings::{Settings, SettingsError, Strictness};
use crate::stream::Stream;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, RwLock, Weak};

/// All contexts, primary ones included.
pub(crate) static CONTEXTS: Registry<Context> = Registry::new(Kind::Context, code::RT_CONTEXT_NULL);

static WORLD: RwLock<Option<Arc<World>>> = RwLock::new(None);
static READY: Once = Once::new();
/// Why the environment was not understood.
static REFUSED: OnceLock<String> = OnceLock::new();

thread_local! {
    static CURRENT: RefCell<Option<Arc<Context>>> = const { RefCell::new(None) };
}

/// Everything that a reset replaces.
pub(crate) struct World {
    pub settings: Settings,
    pub family: Family,
    pub devices: Vec<Arc<Device>>,
    pub init: Mutex<Init>,
    pub options: Mutex<HashMap<i64, i64>>,
    random: AtomicU64,
}

/// The counts of init and finalize.
#[derive(Debug, Default)]
pub(crate) struct Init {
    pub count: u64,
    pub aclnn: bool,
    pub config: Option<String>,
    pub default_device: Option<u32>,
    pub ever: bool,
}

/// One emulated device.
pub(crate) struct Device {
    pub id: u32,
    pub references: Mutex<u64>,
    pub primary: Mutex<Option<Arc<Context>>>,
    pub used: AtomicU64,
    pub peak: AtomicU64,
    pub saturation: AtomicI32,
    pub peers: Mutex<BTreeSet<i32>>,
    pub overflow: AtomicBool,
    poison: Mutex<Option<Failure>>,
    poisoned: AtomicBool,
    streams: Mutex<Vec<Weak<Stream>>>,
}

/// A context: a device, a default stream and options.
pub(crate) struct Context {
    pub handle: usize,
    pub device: Arc<Device>,
    pub primary: bool,
    pub alive: AtomicBool,
    pub options: Mutex<HashMap<i64, i64>>,
    pub stop_on_failure: AtomicBool,
    default_stream: Mutex<Option<Arc<Stream>>>,
}

/// Reads the environment once, before the first call. What it cannot understand fails every call.
pub(crate) fn prepare() -> Result<(), Failure> {
    READY.call_once(|| {
        let chosen = Settings::from_environment().and_then(|settings| {
            start(&settings)?;
            Ok(settings)
        });
        let settings = chosen.unwrap_or_else(|error| {
            eprintln!("ascend-emulator: {error}");
            let _ = REFUSED.set(error.to_string());
            Settings::default()
        });
        for odd in &settings.odd {
            ledger::violation(odd.clone());
        }
        install(settings);
    });
    match REFUSED.get() {
        Some(why) => Err(Failure::new(
            code::ATTR_INVALID,
            format!("a setting of the emulator is wrong: {why}"),
        )),
        None => Ok(()),
    }
}

/// Starts the book and the trace.
fn start(settings: &Settings) -> Result<(), SettingsError> {
    let schedule = Schedule::parse(&settings.faults)?;
    let refuse = |setting: &str, error: std::io::Error| SettingsError {
        setting: setting.to_string(),
        got: error.to_string(),
        wanted: "the path of a file that can be written",
    };
    ledger::restart(schedule, &settings.log).map_err(|error| refuse("log", error))?;
    crate::trace::restart(settings.trace.as_deref()).map_err(|error| refuse("trace", error))
}

fn install(settings: Settings) {
    let world = World {
        family: family(&settings.soc),
        devices: (0..settings.devices)
            .map(|id| Arc::new(Device::new(id, &settings.soc)))
            .collect(),
        init: Mutex::default(),
        options: Mutex::default(),
        random: AtomicU64::new(settings.delay.map_or(1, |(seed, _)| seed | 1)),
        settings,
    };
    *WORLD.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(world));
}

/// Forgets everything (streams, events, memory, handles, counters, init counts) and starts anew with other settings.
/// Work still queued is dropped; a kernel that runs is waited for.
///
/// # Errors
/// When the fault schedule of the settings cannot be read (then nothing changes), or a file for the log or trace cannot be made.
pub fn reset(settings: Settings) -> Result<(), SettingsError> {
    Schedule::parse(&settings.faults)?;
    READY.call_once(|| {});
    let old = WORLD.write().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(old) = old {
        for device in &old.devices {
            for stream in device.streams() {
                stream.abort(code::RT_DEVICE_TASK_ABORT);
                stream.close();
            }
        }
        for (_, context, _) in CONTEXTS.living() {
            context.kill();
        }
    }
    crate::hccl::clear();
    crate::stream::STREAMS.clear();
    CONTEXTS.clear();
    crate::event::EVENTS.clear();
    crate::capture::clear();
    crate::meta::clear();
    crate::executor::EXECUTORS.clear();
    memory::clear(None);
    crate::exports::virtual_memory::clear();
    crate::exports::pool::clear();
    crate::exports::sharing::clear();
    let started = start(&settings);
    install(settings);
    CURRENT.with(|cell| cell.borrow_mut().take());
    guard::last_code(true);
    guard::recent_text();
    started
}

/// Replaces the fault schedule; its counts start from here.
///
/// # Errors
/// When the schedule cannot be read; then nothing changes.
pub fn set_faults(faults: &str) -> Result<(), SettingsError> {
    let schedule = Schedule::parse(faults)?;
    let _ = prepare();
    ledger::set_schedule(schedule);
    Ok(())
}

/// The state; after `prepare` there is always one, except for a moment within `reset`.
pub(crate) fn world() -> Result<Arc<World>, Failure> {
    let _ = prepare();
    WORLD
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
        .ok_or_else(|| Failure::new(code::INTERNAL_ERROR, "the emulator is being reset"))
}

pub(crate) fn strictness() -> Strictness {
    world()
        .map(|world| world.settings.strictness)
        .unwrap_or_default()
}

/// The family of a chip name; "Ascend910B" without a digit is the first 910.
pub(crate) fn family(soc: &str) -> Family {
    let after = |prefix: &str| soc.strip_prefix(prefix);
    if after("Ascend910_93").is_some() {
        Family::A3
    } else if after("Ascend910B").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        Family::A2
    } else if after("Ascend950").is_some() {
        Family::A950
    } else if after("Ascend310P").is_some() {
        Family::P310
    } else if after("Ascend310B").is_some() {
        Family::B310
    } else {
        Family::A910
    }
}

impl World {
    pub fn device(&self, id: i64) -> Result<&Arc<Device>, Failure> {
        usize::try_from(id)
            .ok()
            .and_then(|id| self.devices.get(id))
            .ok_or_else(|| {
                Failure::new(
                    code::RT_INVALID_DEVICEID,
                    format!(
                        "device {id} does not exist, there are {}",
                        self.devices.len()
                    ),
                )
            })
    }

    /// Bytes of memory of each device.
    pub fn capacity(&self) -> u64 {
        ledger::memory_limit()
            .unwrap_or(self.settings.memory)
            .min(self.settings.memory)
    }

    /// A random delay in microseconds, where delays are asked for.
    pub fn delay(&self) -> Option<u64> {
        let (_, longest) = self.settings.delay?;
        let mut next = self.random.load(Ordering::Relaxed);
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.random.store(next, Ordering::Relaxed);
        Some(next % (longest + 1))
    }
}

impl Device {
    fn new(id: u32, soc: &str) -> Device {
        let inf_nan = matches!(family(soc), Family::A2 | Family::A3 | Family::A950);
        Device {
            id,
            references: Mutex::new(0),
            primary: Mutex::new(None),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            saturation: AtomicI32::new(i32::from(inf_nan)),
            peers: Mutex::default(),
            overflow: AtomicBool::new(false),
            poison: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            streams: Mutex::default(),
        }
    }

    /// Accounts for memory; refuses what does not fit.
    pub fn account(&self, room: usize, capacity: u64) -> Result<(), Failure> {
        let room = room as u64;
        let fits = |used: u64| used.checked_add(room).filter(|&sum| sum <= capacity);
        let before = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        match before {
            Ok(before) => {
                self.peak.fetch_max(before + room, Ordering::AcqRel);
                Ok(())
            }
            Err(used) => Err(Failure::new(
                code::RT_MEMORY_ALLOCATION,
                format!(
                    "device {} is out of memory: asked for {room} bytes, {} of {capacity} are free",
                    self.id,
                    capacity.saturating_sub(used)
                ),
            )),
        }
    }

    pub fn unaccount(&self, room: usize) {
        let room = room as u64;
        let _ = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                Some(used.saturating_sub(room))
            });
    }

    /// The device is lost: every call but destroy and reset fails with this from now on.
    pub fn poison(&self, failure: Failure) {
        let mut slot = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(failure);
        self.poisoned.store(true, Ordering::Release);
    }

    pub fn heal(&self) {
        self.poison
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.poisoned.store(false, Ordering::Release);
    }

    /// The failure that poisoned the device.
    pub fn failure(&self) -> Option<Failure> {
        if !self.poisoned.load(Ordering::Acquire) {
            return None;
        }
        self.poison
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn add_stream(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    /// All streams of the device that are alive.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Context {
    /// Makes a context and makes it known.
    pub fn create(device: &Arc<Device>, primary: bool) -> Arc<Context> {
        let handle = CONTEXTS.reserve();
        let context = Arc::new(Context {
            handle,
            device: Arc::clone(device),
            primary,
            alive: AtomicBool::new(true),
            options: Mutex::default(),
            stop_on_failure: AtomicBool::new(false),
            default_stream: Mutex::new(None),
        });
        CONTEXTS.insert_at(handle, Arc::clone(&context));
        context
    }

    /// The stream that a null handle means.
    pub fn default_stream(&self) -> Arc<Stream> {
        let mut slot = self
            .default_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            slot.get_or_insert_with(|| Stream::create(self.handle, &self.device, 0, 0, true)),
        )
    }

    /// Ends the context: its streams finish nothing more, its handle is dead.
    pub fn kill(&self) {
        self.alive.store(false, Ordering::Release);
        let stream = self
            .default_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stream) = stream {
            stream.close();
        }
    }
}

/// Selects a context for this thread.
pub(crate) fn select(context: Option<Arc<Context>>) {
    CURRENT.with(|cell| *cell.borrow_mut() = context);
}

/// This thread's context, poisoned or not: for destroying, freeing and resetting.
pub(crate) fn context_even_poisoned() -> Result<Arc<Context>, Failure> {
    let current = CURRENT.with(|cell| cell.borrow().clone());
    let current = match current {
        Some(context) => Some(context),
        None => configured_default()?,
    };
    match current {
        Some(context) if context.alive.load(Ordering::Acquire) => Ok(context),
        Some(_) => Err(Failure::new(
            code::RT_CONTEXT_NULL,
            "this thread's context was destroyed or its device was reset",
        )),
        None => Err(Failure::new(
            code::RT_CONTEXT_NULL,
            "this thread has no context: call aclrtSetDevice on it first",
        )),
    }
}

fn configured_default() -> Result<Option<Arc<Context>>, Failure> {
    let world = world()?;
    let device = world
        .init
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .default_device;
    let Some(device) = device else {
        return Ok(None);
    };
    let device = world.device(i64::from(device))?;
    Ok(Some(join_primary(device)))
}

/// Counts a reference on the device, makes its primary context if there is none, and selects it.
pub(crate) fn join_primary(device: &Arc<Device>) -> Arc<Context> {
    let mut references = device
        .references
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *references += 1;
    let mut primary = device
        .primary
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let context = Arc::clone(primary.get_or_insert_with(|| Context::create(device, true)));
    drop(primary);
    drop(references);
    select(Some(Arc::clone(&context)));
    context
}

/// This thread's context, on a device that works.
pub(crate) fn context() -> Result<Arc<Context>, Failure> {
    let context = context_even_poisoned()?;
    match context.device.failure() {
        Some(failure) => Err(failure),
        None => Ok(context),
    }
}
