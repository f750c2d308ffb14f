//! Notifies, and values in device memory that streams write and wait for.
//!
//! Knows signals between streams; it must not know what the streams compute.

use super::sharing::{Part, read_key, write_key};
use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, violation};
use crate::memory::{self, Block};
use crate::registry::{Kind, Registry};
use crate::shared::{self, Shared, Use};
use crate::state::context;
use crate::stream::{Stream, Task};
use ascend_sys::*;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

static NOTIFIES: Registry<Notify> = Registry::new(Kind::Notify, code::RT_INVALID_HANDLE);
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Notify {
    number: u32,
    set: Mutex<bool>,
    signal: Condvar,
    /// Once other processes know of it: its first word is the signal.
    shared: OnceLock<Shared>,
}

impl Notify {
    fn new(shared: OnceLock<Shared>) -> Notify {
        Notify {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            set: Mutex::new(false),
            signal: Condvar::new(),
            shared,
        }
    }

    fn word(&self) -> Option<&AtomicU64> {
        self.shared.get().map(|shared| &shared.header().words[0])
    }

    /// Lets other processes know of it.
    fn share(&self, listed: bool) -> Result<&Shared, Failure> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.get().is_none() {
            let shared = Shared::create(Use::Notify, 0, listed)?;
            shared.header().words[0].store(u64::from(*set), Ordering::Release);
            let _ = self.shared.set(shared);
        }
        drop(set);
        (self.shared.get())
            .ok_or_else(|| Failure::new(code::RT_INTERNAL, "a notify was not shared"))
    }

    fn change(&self, to: bool) {
        if let Some(word) = self.word() {
            word.store(u64::from(to), Ordering::Release);
            return;
        }
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.signal.notify_all();
    }

    /// Takes the signal, once it is there.
    fn take(&self, waiter: &Weak<Stream>, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(word) = self.word() {
                let taken = word.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire);
                if taken.is_ok() {
                    return Ok(());
                }
            } else if *set {
                *set = false;
                return Ok(());
            }
            let slice = if self.word().is_some() { 1 } else { 20 };
            wait_on(waiter, deadline, "a stream's wait for a notify timed out")?;
            if is_gone(waiter) {
                return Ok(());
            }
            set = self
                .signal
                .wait_timeout(set, Duration::from_millis(slice))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn is_gone(waiter: &Weak<Stream>) -> bool {
    waiter.upgrade().is_none_or(|stream| stream.is_aborted())
}

fn wait_on(
    waiter: &Weak<Stream>,
    deadline: Option<Instant>,
    text: &'static str,
) -> Result<(), Failure> {
    let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
    if late && !is_gone(waiter) {
        return Err(Failure::new(code::RT_WAIT_TIMEOUT, text));
    }
    Ok(())
}

/// A task that blocks: it stays with the stream's own thread.
fn blocking(run: impl FnMut() -> Result<(), Failure> + Send + 'static) -> Task {
    Task {
        steal: false,
        ..Task::new(run)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateNotify(notify: *mut aclrtNotify, flag: u64) -> aclError {
    call("aclrtCreateNotify", || {
        context()?;
        not_null(notify, "notify")?;
        if flag > 1 {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("flag is {flag}, wanted 0 or 1"),
            ));
        }
        let made = NOTIFIES.insert(Notify::new(OnceLock::new()));
        // SAFETY: not null, valid for a write.
        unsafe { give(notify, "notify", made.cast()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyNotify(notify: aclrtNotify) -> aclError {
    call("aclrtDestroyNotify", || NOTIFIES.remove(notify).map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtRecordNotify(notify: aclrtNotify, stream: aclrtStream) -> aclError {
    call("aclrtRecordNotify", || {
        let stream = resolve(&*context()?, stream)?;
        let notify = NOTIFIES.get(notify)?;
        stream.submit(Task::new(move || {
            notify.change(true);
            Ok(())
        }))
    })
}

/// The time-out is in seconds; 0 waits for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtWaitAndResetNotify(
    notify: aclrtNotify,
    stream: aclrtStream,
    timeout: u32,
) -> aclError {
    call("aclrtWaitAndResetNotify", || {
        let stream = resolve(&*context()?, stream)?;
        let notify = NOTIFIES.get(notify)?;
        let timeout = (timeout > 0).then(|| Duration::from_secs(u64::from(timeout)));
        let waiter = Arc::downgrade(&stream);
        stream.submit(blocking(move || notify.take(&waiter, timeout)))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetNotifyId(notify: aclrtNotify, notifyId: *mut u32) -> aclError {
    call("aclrtGetNotifyId", || {
        let number = NOTIFIES.get(notify)?.number;
        // SAFETY: null or valid for a write.
        unsafe { give(notifyId, "notifyId", number) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNotifyBatchReset(notifies: *mut aclrtNotify, num: usize) -> aclError {
    call("aclrtNotifyBatchReset", || {
        not_null(notifies, "notifies")?;
        for index in 0..num {
            // SAFETY: not null, valid for `num` reads by the contract of the C function.
            let notify = unsafe { notifies.add(index).read() };
            NOTIFIES.get(notify)?.change(false);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNotifyGetExportKey(
    notify: aclrtNotify,
    key: *mut c_char,
    len: usize,
    flags: u64,
) -> aclError {
    call("aclrtNotifyGetExportKey", || {
        context()?;
        if !matches!(flags, 0 | 2) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("flags are {flags:#x}, wanted 0 or 2"),
            ));
        }
        not_null(key, "key")?;
        let notify = NOTIFIES.get(notify)?;
        let part = Part {
            name: notify.share(flags == 0)?.name(),
            offset: 0,
            size: 0,
        };
        // SAFETY: null, or with room for `len` bytes by the contract of the C function.
        unsafe { write_key(key, len, &part.key()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNotifySetImportPid(
    notify: aclrtNotify,
    pid: *mut i32,
    num: usize,
) -> aclError {
    call("aclrtNotifySetImportPid", || {
        let notify = NOTIFIES.get(notify)?;
        // SAFETY: null or valid for `num` reads.
        let list = unsafe { shared::processes(pid, num) }?;
        match notify.shared.get() {
            Some(shared) => shared.permit(list),
            None => Err(violation(
                code::RT_PARAM_INVALID,
                "the notify has no key: call aclrtNotifyGetExportKey first",
            )),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtNotifyImportByKey(
    notify: *mut aclrtNotify,
    key: *const c_char,
    flags: u64,
) -> aclError {
    call("aclrtNotifyImportByKey", || {
        context()?;
        not_null(notify, "notify")?;
        // SAFETY: null or a C string.
        let key = unsafe { read_key(key) }?;
        let part = Part::parse(&key).filter(|_| matches!(flags, 0 | 2));
        let part = part.ok_or_else(|| {
            Failure::new(
                code::RT_PARAM_INVALID,
                format!("{key:?} is no key of a notify, or flags {flags:#x} are not 0 or 2"),
            )
        })?;
        let shared = Shared::open(Use::Notify, part.name)?;
        let made = NOTIFIES.insert(Notify::new(OnceLock::from(shared)));
        // SAFETY: checked for null, valid for a write.
        unsafe { give(notify, "notify", made.cast()) }
    })
}

/// Eight bytes of device memory.
struct Word {
    block: Arc<Block>,
    data: usize,
}

impl Word {
    fn find(pointer: *mut c_void) -> Result<Word, Failure> {
        not_null(pointer, "devAddr")?;
        let address = pointer.addr();
        let refuse = |text: String| violation(code::RT_PARAM_INVALID, text);
        if !address.is_multiple_of(8) {
            return Err(refuse(format!(
                "devAddr {address:#x} is not a multiple of 8"
            )));
        }
        let block = memory::find(address, 8).map_err(|_| {
            refuse(format!(
                "devAddr {address:#x} is not 8 bytes of device memory"
            ))
        })?;
        Ok(Word {
            data: address - block.start + block.data,
            block,
        })
    }

    fn cell(&self) -> &AtomicU64 {
        // SAFETY: eight aligned bytes of a block that lives as long as this holds it; only atomics touch them from here.
        unsafe { &*(self.data as *const AtomicU64) }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtValueWrite(
    devAddr: *mut c_void,
    value: u64,
    _flag: u32,
    stream: aclrtStream,
) -> aclError {
    call("aclrtValueWrite", || {
        let stream = resolve(&*context()?, stream)?;
        let word = Word::find(devAddr)?;
        let blocks = [Arc::clone(&word.block)];
        let run = move || {
            word.cell().store(value, Ordering::Release);
            Ok(())
        };
        stream.submit(Task::new(run).holding(&blocks))
    })
}

/// The flag says what is waited for: 0 at least the value, 1 equal to it, 2 a bit of it set, 3 a bit of it not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtValueWait(
    devAddr: *mut c_void,
    value: u64,
    flag: u32,
    stream: aclrtStream,
) -> aclError {
    call("aclrtValueWait", || {
        let stream = resolve(&*context()?, stream)?;
        let word = Word::find(devAddr)?;
        let fits: fn(u64, u64) -> bool = match flag {
            0 => |got, wanted| (got.wrapping_sub(wanted) as i64) >= 0,
            1 => |got, wanted| got == wanted,
            2 => |got, wanted| got & wanted != 0,
            3 => |got, wanted| !(got | wanted) != 0,
            other => {
                return Err(Failure::new(
                    code::RT_PARAM_INVALID,
                    format!("flag is {other}, wanted 0 to 3"),
                ));
            }
        };
        let blocks = [Arc::clone(&word.block)];
        let waiter = Arc::downgrade(&stream);
        let run = move || {
            while !fits(word.cell().load(Ordering::Acquire), value) && !is_gone(&waiter) {
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        };
        stream.submit(blocking(run).holding(&blocks))
    })
}
