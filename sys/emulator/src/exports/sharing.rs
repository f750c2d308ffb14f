//! Device memory that other processes map by a key.
//!
//! Knows keys and who may use them; it must not know how pages are shared.

use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, violation};
use crate::memory::{self, Place};
use crate::shared::{self, Mapping, Name, Shared, Use, page};
use crate::state::{context, context_even_poisoned, world};
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bytes of a key, with its end.
const KEY: usize = 65;

/// What this process does with a key.
enum Side {
    Exported(Arc<Shared>),
    Imported(usize),
}

type Sides = BTreeMap<(String, bool), Side>;

static SIDES: Mutex<Sides> = Mutex::new(BTreeMap::new());

fn with<R>(work: impl FnOnce(&mut Sides) -> R) -> R {
    work(&mut SIDES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Forgets everything.
pub(crate) fn clear() {
    with(BTreeMap::clear);
}

/// One line for each key that is not closed.
pub(crate) fn report(lines: &mut Vec<String>) {
    with(|sides| {
        for ((key, imported), _) in sides.iter() {
            let how = if *imported { "imported" } else { "exported" };
            lines.push(format!("shared memory {key} {how} and not closed"));
        }
    });
}

/// A part of shared memory, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub name: Name,
    pub offset: usize,
    pub size: usize,
}

impl Part {
    pub fn key(self) -> String {
        let Name {
            process,
            file,
            token,
        } = self.name;
        format!(
            "ascend.{process:x}.{file:x}.{token:x}.{:x}.{:x}",
            self.offset, self.size
        )
    }

    pub fn parse(key: &str) -> Option<Part> {
        let mut words = key.strip_prefix("ascend.")?.split('.');
        let mut next = || usize::from_str_radix(words.next()?, 16).ok();
        let mut small = || u32::try_from(next()?).ok();
        let name = Name {
            process: small()?,
            file: small()?,
            token: small()?,
        };
        Some(Part {
            name,
            offset: next()?,
            size: next()?,
        })
    }
}

/// # Safety
/// `key` must be null or a C string.
pub(super) unsafe fn read_key(key: *const c_char) -> Result<String, Failure> {
    not_null(key, "key")?;
    // SAFETY: not null, and a C string.
    Ok(unsafe { CStr::from_ptr(key) }
        .to_string_lossy()
        .into_owned())
}

/// # Safety
/// `target` must be null or have room for `room` bytes.
pub(super) unsafe fn write_key(target: *mut c_char, room: usize, key: &str) -> Result<(), Failure> {
    not_null(target, "key")?;
    if room < KEY || key.len() >= KEY {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("len is {room}, wanted room for {KEY} bytes"),
        ));
    }
    // SAFETY: not null, with room for more than the key and its end.
    unsafe {
        ptr::copy_nonoverlapping(key.as_ptr(), target.cast(), key.len());
        target.add(key.len()).write(0);
    }
    Ok(())
}

fn unknown(key: &str) -> Failure {
    let text = format!("{key:?} is no key of shared memory of this process");
    violation(code::RT_PARAM_INVALID, text)
}

/// Waits until nothing of a device writes to a block any more.
fn settle(block: &memory::Block, device: u32) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let device = Arc::clone(world()?.device(i64::from(device))?);
    while block.is_used() && device.streams().iter().any(|stream| !stream.is_idle()) {
        if Instant::now() > deadline {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "queued work uses the memory; wait for it before the memory is shared",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn check_flags(flags: u64) -> Result<(), Failure> {
    if flags > 1 {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("flags are {flags:#x}, wanted 0 or 1"),
        ));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcMemGetExportKey(
    devPtr: *mut c_void,
    size: usize,
    key: *mut c_char,
    len: usize,
    flags: u64,
) -> aclError {
    call("aclrtIpcMemGetExportKey", || {
        context()?;
        not_null(devPtr, "devPtr")?;
        not_null(key, "key")?;
        check_flags(flags)?;
        let start = devPtr.addr();
        let refuse = |why: &str| {
            let text = format!("{size} bytes from {start:#x} cannot be shared: {why}");
            Failure::new(code::RT_PARAM_INVALID, text)
        };
        let block = memory::find(start, size.max(1))
            .map_err(|_| refuse("no device memory of aclrtMalloc holds them"))?;
        let Place::Device(device) = block.place else {
            return Err(refuse("they are host memory"));
        };
        if size == 0 {
            return Err(refuse("there are none"));
        }
        settle(&block, device)?;
        let shared = block
            .share(flags == 0)?
            .ok_or_else(|| refuse("they were not allocated by aclrtMalloc"))?;
        let part = Part {
            name: shared.name(),
            offset: start - block.start,
            size,
        };
        let text = part.key();
        // SAFETY: null, or with room for `len` bytes by the contract of the C function.
        unsafe { write_key(key, len, &text) }?;
        with(|sides| sides.insert((text, false), Side::Exported(shared)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcMemSetImportPid(
    key: *const c_char,
    pid: *mut i32,
    num: usize,
) -> aclError {
    call("aclrtIpcMemSetImportPid", || {
        // SAFETY: null or a C string.
        let key = unsafe { read_key(key) }?;
        // SAFETY: null or valid for `num` reads.
        let list = unsafe { shared::processes(pid, num) }?;
        match with(|sides| match sides.get(&(key.clone(), false)) {
            Some(Side::Exported(shared)) => Some(Arc::clone(shared)),
            _ => None,
        }) {
            Some(shared) => shared.permit(list),
            None => Err(unknown(&key)),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcMemImportByKey(
    devPtr: *mut *mut c_void,
    key: *const c_char,
    flags: u64,
) -> aclError {
    call("aclrtIpcMemImportByKey", || {
        let device = context()?.device.id;
        not_null(devPtr, "devPtr")?;
        check_flags(flags)?;
        // SAFETY: null or a C string.
        let key = unsafe { read_key(key) }?;
        let part = Part::parse(&key).ok_or_else(|| unknown(&key))?;
        if with(|sides| sides.contains_key(&(key.clone(), true))) {
            let text = format!("{key:?} was imported before and not closed");
            return Err(violation(code::RT_PARAM_INVALID, text));
        }
        let shared = Shared::open(Use::Memory, part.name)?;
        let end = part.offset.checked_add(part.size);
        if end.is_none_or(|end| end > shared.bytes()) {
            return Err(unknown(&key));
        }
        let first = part.offset / page() * page();
        let length = (part.offset - first + part.size).next_multiple_of(page());
        let mapping: Mapping = shared.map(first, length)?;
        let start = mapping.start + part.offset - first;
        memory::adopt(
            Place::Device(device),
            start,
            part.size,
            start,
            Some(Arc::new(mapping)),
        );
        with(|sides| sides.insert((key, true), Side::Imported(start)));
        let address = ptr::with_exposed_provenance_mut(start);
        // SAFETY: checked for null, valid for a write.
        unsafe { give(devPtr, "devPtr", address) }
    })
}

/// Ends this process's use of a key; where it has both, the import first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtIpcMemClose(key: *const c_char) -> aclError {
    call("aclrtIpcMemClose", || {
        context_even_poisoned()?;
        // SAFETY: null or a C string.
        let key = unsafe { read_key(key) }?;
        let found = with(|sides| {
            let imported = sides.remove(&(key.clone(), true));
            imported.or_else(|| sides.remove(&(key.clone(), false)))
        });
        match found {
            Some(Side::Imported(start)) => match memory::release(start) {
                Some(block) => memory::inspect_freed(&block),
                None => Ok(()),
            },
            Some(Side::Exported(_)) => Ok(()),
            None => Err(unknown(&key)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_parts_and_fit() {
        let part = Part {
            name: Name {
                process: 4_194_303,
                file: 65_535,
                token: 0x3ff_ffff,
            },
            offset: 1 << 36,
            size: (1 << 36) + 5,
        };
        assert!(part.key().len() < KEY);
        assert_eq!(Part::parse(&part.key()), Some(part));
        assert_eq!(Part::parse("ascend.1.2"), None);
        assert_eq!(Part::parse("name"), None);
    }
}
