//! Memory that processes share: a file without a name, found by the number of its owner and of the open file.
//!
//! Knows mappings, names and who may open one; it must not know blocks, events or calls.
//!
//! Nothing has a path, so that a killed process leaves nothing behind: the memory lives as long as somebody maps it.

use crate::failure::{Failure, code};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: u64 = 0x6173_6365_6e64_656d;
const GUESTS: usize = 512;

/// What lies in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Use {
    Memory = 1,
    Physical,
    Notify,
    Event,
}

/// How another process finds the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub process: u32,
    pub file: u32,
    pub token: u32,
}

impl Name {
    /// 22 bits of process, 16 of file, 26 of token.
    pub fn number(self) -> u64 {
        u64::from(self.process) << 42 | u64::from(self.file & 0xffff) << 26 | u64::from(self.token)
    }

    pub fn of_number(number: u64) -> Name {
        Name {
            process: (number >> 42) as u32,
            file: (number >> 26 & 0xffff) as u32,
            token: (number & 0x3ff_ffff) as u32,
        }
    }

    pub fn is_own(self) -> bool {
        self.process == std::process::id()
    }
}

/// The first page: who may open the memory, and words for those who share it.
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    usage: AtomicU32,
    token: AtomicU32,
    bytes: AtomicU64,
    /// Whether only listed processes may open it.
    listed: AtomicU32,
    guests: AtomicU32,
    list: [AtomicI32; GUESTS],
    pub words: [AtomicU64; 4],
}

/// Memory that processes share, from this process's side.
pub(crate) struct Shared {
    file: File,
    name: Name,
    header: usize,
    bytes: usize,
}

/// The size of the system's pages.
pub(crate) fn page() -> usize {
    static PAGE: OnceLock<usize> = OnceLock::new();
    *PAGE.get_or_init(|| {
        // SAFETY: asks for a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    })
}

fn failed(what: &str) -> Failure {
    let why = std::io::Error::last_os_error();
    Failure::new(
        code::RT_MEMORY_ALLOCATION,
        format!("the host cannot {what}: {why}"),
    )
}

fn token() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let mixed = (nanos ^ u64::from(COUNT.fetch_add(1, Ordering::Relaxed)) << 32)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 38) as u32
}

/// Maps a part of a file, at a place of the system's choice or over what is at `at`.
///
/// # Safety
/// With `at`, the pages there belong to the caller, who gives up what they hold.
unsafe fn map(
    file: &File,
    offset: usize,
    length: usize,
    at: Option<usize>,
) -> Result<usize, Failure> {
    let fixed = if at.is_some() { libc::MAP_FIXED } else { 0 };
    // SAFETY: without `at` no existing memory is touched; with it the caller vouches.
    let base = unsafe {
        libc::mmap(
            ptr::with_exposed_provenance_mut(at.unwrap_or(0)),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | fixed,
            file.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(failed("map shared memory"));
    }
    Ok(base.expose_provenance())
}

/// Puts fresh memory of this process's own over shared pages.
///
/// # Safety
/// The pages belong to the caller, who gives up what they hold.
pub(crate) unsafe fn unshare(at: usize, length: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        libc::mmap(
            ptr::with_exposed_provenance_mut(at),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
}

/// A mapping, unmapped at the end.
pub(crate) struct Mapping {
    pub start: usize,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `Shared::map` with this length, unmapped once.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.start), self.length) };
    }
}

impl Shared {
    /// Fresh memory of so many bytes, all zero. With `listed` only processes that are permitted may open it.
    pub fn create(usage: Use, bytes: usize, listed: bool) -> Result<Shared, Failure> {
        let bytes = bytes.next_multiple_of(page());
        // SAFETY: the name is a C string.
        let number = unsafe { libc::memfd_create(c"ascend-emulator".as_ptr(), libc::MFD_CLOEXEC) };
        if number < 0 {
            return Err(failed("make shared memory"));
        }
        // SAFETY: a fresh file that nobody else has.
        let file = unsafe { File::from_raw_fd(number) };
        file.set_len((page() + bytes) as u64)
            .map_err(|_| failed("give as much shared memory"))?;
        // SAFETY: at a place of the system's choice.
        let header = unsafe { map(&file, 0, page(), None) }?;
        let name = Name {
            process: std::process::id(),
            file: number as u32,
            token: token(),
        };
        let shared = Shared {
            file,
            name,
            header,
            bytes,
        };
        let page = shared.header();
        page.usage.store(usage as u32, Ordering::Release);
        page.token.store(name.token, Ordering::Release);
        page.bytes.store(bytes as u64, Ordering::Release);
        page.listed.store(u32::from(listed), Ordering::Release);
        page.magic.store(MAGIC, Ordering::Release);
        Ok(shared)
    }

    /// Another process's memory, or this one's.
    pub fn open(usage: Use, name: Name) -> Result<Shared, Failure> {
        let stale = |why: String| {
            let text = format!("the name of shared memory is stale or foreign: {why}");
            Failure::new(code::RT_PARAM_INVALID, text)
        };
        let path = format!("/proc/{}/fd/{}", name.process, name.file);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| stale(format!("{path}: {error}")))?;
        let length = file.metadata().map_or(0, |about| about.len()) as usize;
        if length < page() {
            return Err(stale(format!("{path} is something else")));
        }
        // SAFETY: at a place of the system's choice.
        let header = unsafe { map(&file, 0, page(), None) }?;
        let mut shared = Shared {
            file,
            name,
            header,
            bytes: 0,
        };
        let page_of = shared.header();
        let bytes = page_of.bytes.load(Ordering::Acquire) as usize;
        if page_of.magic.load(Ordering::Acquire) != MAGIC
            || page_of.token.load(Ordering::Acquire) != name.token
            || page_of.usage.load(Ordering::Acquire) != usage as u32
            || bytes.checked_add(page()) != Some(length)
        {
            return Err(stale(format!("{path} is something else")));
        }
        if !shared.admits(std::process::id() as i32) {
            return Err(Failure::new(
                code::RT_NO_PERMISSION,
                format!(
                    "process {} is not on the list of those that process {} lets in",
                    std::process::id(),
                    name.process
                ),
            ));
        }
        shared.bytes = bytes;
        Ok(shared)
    }

    pub fn name(&self) -> Name {
        self.name
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn header(&self) -> &Header {
        // SAFETY: the page is mapped as long as this lives, and holds nothing but atomics.
        unsafe { &*ptr::with_exposed_provenance::<Header>(self.header) }
    }

    fn admits(&self, process: i32) -> bool {
        let page = self.header();
        let count = (page.guests.load(Ordering::Acquire) as usize).min(GUESTS);
        page.listed.load(Ordering::Acquire) == 0
            || self.name.process as i32 == process
            || page.list[..count]
                .iter()
                .any(|guest| guest.load(Ordering::Acquire) == process)
    }

    /// Lets processes in.
    pub fn permit(&self, processes: &[i32]) -> Result<(), Failure> {
        let page = self.header();
        for &process in processes {
            let place = page.guests.load(Ordering::Acquire) as usize;
            let Some(slot) = page.list.get(place) else {
                return Err(Failure::new(
                    code::RT_PARAM_INVALID,
                    format!("more than {GUESTS} processes are let in"),
                ));
            };
            slot.store(process, Ordering::Release);
            page.guests.store(place as u32 + 1, Ordering::Release);
        }
        Ok(())
    }

    /// Maps a part of the bytes for this process.
    pub fn map(&self, offset: usize, length: usize) -> Result<Mapping, Failure> {
        // SAFETY: at a place of the system's choice.
        let start = unsafe { map(&self.file, page() + offset, length, None) }?;
        Ok(Mapping { start, length })
    }

    /// Puts all of the bytes over the pages at an address.
    ///
    /// # Safety
    /// The pages belong to the caller, who gives up what they hold; as many as the memory has bytes.
    pub unsafe fn map_over(&self, at: usize) -> Result<(), Failure> {
        // SAFETY: by this function's contract.
        unsafe { map(&self.file, page(), self.bytes, Some(at)) }.map(drop)
    }

    /// Writes into the bytes.
    pub fn fill(&self, bytes: &[u8]) -> Result<(), Failure> {
        use std::os::unix::fs::FileExt;
        self.file
            .write_all_at(bytes, page() as u64)
            .map_err(|_| failed("write shared memory"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let header = ptr::with_exposed_provenance_mut::<c_void>(self.header);
        // SAFETY: mapped in `create` or `open` with this length, unmapped once.
        unsafe { libc::munmap(header, page()) };
    }
}

/// Process ids from a caller's list.
///
/// # Safety
/// `list` must be null or valid for `count` reads.
pub(crate) unsafe fn processes<'a>(list: *const i32, count: usize) -> Result<&'a [i32], Failure> {
    if list.is_null() || count == 0 || count > GUESTS {
        return Err(Failure::new(
            code::INVALID_PARAM,
            format!("the list of processes is null or has {count} entries, wanted 1 to {GUESTS}"),
        ));
    }
    // SAFETY: not null, valid by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(list, count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_number() {
        let name = Name {
            process: 4_194_303,
            file: 65_535,
            token: 0x3ff_ffff,
        };
        assert_eq!(Name::of_number(name.number()), name);
    }

    #[test]
    fn both_sides_see_one_memory() {
        let own = Shared::create(Use::Memory, 10, false).unwrap();
        own.fill(b"hello").unwrap();
        let other = Shared::open(Use::Memory, own.name()).unwrap();
        assert_eq!(other.bytes(), page());
        let mapping = other.map(0, page()).unwrap();
        let byte = ptr::with_exposed_provenance::<u8>(mapping.start + 1);
        // SAFETY: the mapping has a page.
        assert_eq!(unsafe { byte.read() }, b'e');
        own.header().words[1].store(7, Ordering::Release);
        assert_eq!(other.header().words[1].load(Ordering::Acquire), 7);
        assert!(Shared::open(Use::Event, own.name()).is_err());
        let stale = Name {
            token: own.name().token ^ 1,
            ..own.name()
        };
        assert!(Shared::open(Use::Memory, stale).is_err());
    }

    #[test]
    fn who_is_not_listed_stays_out() {
        let own = Shared::create(Use::Notify, 0, true).unwrap();
        assert!(own.admits(std::process::id() as i32) && !own.admits(1));
        own.permit(&[1, 5]).unwrap();
        assert!(own.admits(1) && own.admits(5) && !own.admits(6));
    }
}
