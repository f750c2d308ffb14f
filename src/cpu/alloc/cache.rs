//! Chunks of memory and the cache of freed ones.
//!
//! Knows sizes, the system's allocator and mappings, and when to give memory back. Must not know what lies in a chunk.
//!
//! Small chunks (below [`LARGE`]) are kept by the thread that freed them. Large ones lie on huge pages where the system has them,
//! kept for all threads up to a limit: touching fresh memory for the first time costs several times what writing to it does.
//! From a huge page on they are mappings of their own; smaller ones share pages with others of their size, which saves most page
//! faults and searches for addresses.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{MmapOptions, MmapRaw};

use super::ALIGNMENT;

/// Chunks from this size on are mappings.
const LARGE: usize = 256 << 10;
/// The size of a huge page.
const HUGE: usize = 2 << 20;
/// The size classes of small chunks: powers of two from a cache line on.
const CLASSES: usize = (LARGE / ALIGNMENT).ilog2() as usize;
/// What a thread keeps of one class.
const KEPT_BYTES: usize = 1 << 20;
const KEPT_CHUNKS: usize = 64;

/// Memory of at least the size asked for, aligned to [`ALIGNMENT`]; goes back to the cache when dropped.
pub(super) enum Chunk {
    Small { start: NonNull<u8>, class: usize },
    Large(Option<Mapping>),
}

/// The class of a small size.
fn class_of(len: usize) -> usize {
    len.div_ceil(ALIGNMENT).next_power_of_two().trailing_zeros() as usize
}

fn class_layout(class: usize) -> Option<Layout> {
    Layout::from_size_align(ALIGNMENT << class, ALIGNMENT).ok()
}

impl Chunk {
    /// Takes a chunk of at least `len` bytes with unspecified content.
    ///
    /// # Errors
    /// If there is no such memory, even after the cache was emptied: how many bytes are free (0 if unknown).
    pub fn take(len: usize) -> Result<Self, usize> {
        if len > LARGE / 2 {
            return take_large(len).map(|mapping| Chunk::Large(Some(mapping)));
        }
        let class = class_of(len.max(1));
        let kept = KEPT.try_with(|kept| kept.borrow_mut().free.get_mut(class)?.pop());
        if let Ok(Some(start)) = kept {
            return Ok(Chunk::Small { start, class });
        }
        let start = fresh_small(class).or_else(|| {
            trim_cpu_memory();
            fresh_small(class)
        });
        match start {
            Some(start) => Ok(Chunk::Small { start, class }),
            None => Err(available().unwrap_or(0)),
        }
    }

    pub fn start(&self) -> NonNull<u8> {
        match self {
            Chunk::Small { start, .. } => *start,
            Chunk::Large(Some(mapping)) => mapping.start,
            Chunk::Large(None) => NonNull::dangling(),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        match self {
            Chunk::Small { start, class } => {
                let kept = KEPT.try_with(|kept| kept.borrow_mut().keep(*start, *class));
                if kept != Ok(true) {
                    free_small(*start, *class);
                }
            }
            Chunk::Large(mapping) => {
                if let Some(mapping) = mapping.take() {
                    put_large(mapping);
                }
            }
        }
    }
}

/// Bytes of small chunks that were taken from the system, and of their tensors; each MiB of them the reserve is looked after.
static FRESH: AtomicUsize = AtomicUsize::new(0);
const LOOK: usize = 1 << 20;
const HANDLE: usize = 256;

fn fresh_small(class: usize) -> Option<NonNull<u8>> {
    let size = HANDLE + (ALIGNMENT << class);
    let before = FRESH.fetch_add(size, Ordering::Relaxed);
    if before / LOOK != before.wrapping_add(size) / LOOK && !has_reserve() {
        // The next one looks again.
        FRESH.store(LOOK - 1, Ordering::Relaxed);
        return None;
    }
    // SAFETY: the layout's size is not zero.
    NonNull::new(unsafe { alloc(class_layout(class)?) })
}

fn free_small(start: NonNull<u8>, class: usize) {
    if let Some(layout) = class_layout(class) {
        // SAFETY: made by `fresh_small` with this class, and freed once: by its chunk or by the thread that kept it.
        unsafe { dealloc(start.as_ptr(), layout) };
    }
}

/// Small chunks that a thread keeps.
struct Kept {
    free: [Vec<NonNull<u8>>; CLASSES],
}

impl Kept {
    /// Keeps a chunk unless there are enough of its class.
    fn keep(&mut self, start: NonNull<u8>, class: usize) -> bool {
        let most = (KEPT_BYTES / (ALIGNMENT << class)).min(KEPT_CHUNKS);
        match self.free.get_mut(class) {
            Some(free) if free.len() < most => {
                free.push(start);
                true
            }
            _ => false,
        }
    }

    fn clear(&mut self) {
        for (class, free) in self.free.iter_mut().enumerate() {
            free.drain(..).for_each(|start| free_small(start, class));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { free: [const { Vec::new() }; CLASSES] }) };
}

/// A mapping of anonymous memory, or a part of one.
pub(super) struct Mapping {
    /// Unmapped when the last part of it is dropped.
    map: Arc<MmapRaw>,
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the part owns its memory; the pointer is into it.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    /// Gives the pages back also while other parts of the mapping are in use.
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if Arc::strong_count(&self.map) > 1 {
            let offset = self.start.as_ptr().addr() - self.map.as_mut_ptr().addr();
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the part is nobody's any more, and whoever had it next would find unspecified content. It is advice: if it
            // is not taken, the memory goes back with the mapping.
            let _ = unsafe { self.map.unchecked_advise_range(advice, offset, self.size) };
        }
    }
}

impl Mapping {
    /// Maps `size` bytes; from a huge page on aligned to one.
    fn new(size: usize) -> Option<Self> {
        let map = MmapRaw::from(MmapOptions::new().len(size).map_anon().ok()?);
        if size < HUGE || map.as_mut_ptr().addr().is_multiple_of(HUGE) {
            return Mapping::over(map, 0, size);
        }
        drop(map);
        let map = MmapRaw::from(MmapOptions::new().len(size + HUGE).map_anon().ok()?);
        let ahead = map.as_mut_ptr().addr().next_multiple_of(HUGE) - map.as_mut_ptr().addr();
        Mapping::over(map, ahead, size)
    }

    fn over(map: MmapRaw, ahead: usize, size: usize) -> Option<Self> {
        let start = NonNull::new(map.as_mut_ptr().wrapping_add(ahead))?;
        #[cfg(target_os = "linux")]
        if size >= HUGE {
            // Advice only: without huge pages the memory is as good, only slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Some(Mapping {
            map: Arc::new(map),
            start,
            size,
        })
    }

    /// Maps as many huge pages as parts of `size` bytes, less than one of them, fill well, and cuts them into these parts.
    fn parts(size: usize) -> Option<Vec<Self>> {
        let fills = |pages: &usize| pages * HUGE % size <= pages * HUGE / 8;
        let pages = [1, 2].into_iter().find(fills).unwrap_or(4);
        let whole = Mapping::new(pages * HUGE)?;
        let mut parts = Vec::new();
        parts.try_reserve_exact(pages * HUGE / size).ok()?;
        for offset in (0..=pages * HUGE - size).step_by(size) {
            parts.push(Mapping {
                map: Arc::clone(&whole.map),
                start: NonNull::new(whole.start.as_ptr().wrapping_add(offset))?,
                size,
            });
        }
        Some(parts)
    }
}

/// The size class of a large chunk: at most an eighth more than asked for.
fn large_class(len: usize) -> Option<usize> {
    let step = (len.checked_next_power_of_two()? / 16).max(64 << 10);
    len.checked_next_multiple_of(step)
}

/// The bytes that a block takes which is asked for so many.
pub(crate) fn rounded(len: usize) -> usize {
    if len > LARGE / 2 {
        large_class(len).unwrap_or(len)
    } else {
        ALIGNMENT << class_of(len.max(1))
    }
}

/// What is known of the large chunks of the process.
#[derive(Default)]
struct Cache {
    /// The kept mappings by the time they were freed.
    by_age: BTreeMap<u64, Mapping>,
    /// Those times by size.
    by_size: BTreeMap<usize, Vec<u64>>,
    clock: u64,
    limit: Option<usize>,
    memory: CpuMemory,
}

/// The memory of CPU tensors: blocks of more than 128 KiB, as mapped. Smaller ones are kept by each thread, at most a MiB of a
/// size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuMemory {
    /// Bytes of blocks that tensors hold.
    pub in_use: usize,
    /// The most bytes that tensors held at one time since [`reset_cpu_memory_peak`].
    pub peak: usize,
    /// Bytes that are kept for new tensors: of freed blocks, and what is left of the huge pages that smaller ones share.
    pub cached: usize,
    /// The most bytes that are kept.
    pub limit: usize,
    /// How many blocks came from the kept ones.
    pub hits: u64,
    /// How many blocks had to be mapped anew.
    pub misses: u64,
}

static CACHE: Mutex<Cache> = Mutex::new(Cache {
    by_age: BTreeMap::new(),
    by_size: BTreeMap::new(),
    clock: 0,
    limit: None,
    memory: CpuMemory {
        in_use: 0,
        peak: 0,
        cached: 0,
        limit: 0,
        hits: 0,
        misses: 0,
    },
});

fn cache() -> MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    fn limit(&mut self) -> usize {
        *self
            .limit
            .get_or_insert_with(|| memory("MemTotal:").map_or(512 << 20, |total| total / 8))
    }

    /// A kept mapping of exactly this size, the one freed last.
    fn pop(&mut self, size: usize) -> Option<Mapping> {
        let age = self.by_size.get_mut(&size)?.pop()?;
        let mapping = self.by_age.remove(&age)?;
        self.memory.cached -= size;
        self.memory.hits += 1;
        Some(mapping)
    }

    /// Takes out the mappings freed longest ago until at most `most` bytes are kept. The caller drops them, without the lock.
    #[must_use]
    fn shrink(&mut self, most: usize) -> Vec<Mapping> {
        let mut gone = Vec::new();
        while self.memory.cached > most {
            let Some((age, mapping)) = self.by_age.pop_first() else {
                break;
            };
            if let Some(ages) = self.by_size.get_mut(&mapping.size) {
                ages.retain(|own| *own != age);
            }
            self.memory.cached -= mapping.size;
            gone.push(mapping);
        }
        gone
    }

    /// Keeps a mapping for who asks for its size next.
    fn keep(&mut self, mapping: Mapping) {
        self.memory.cached += mapping.size;
        self.clock += 1;
        let age = self.clock;
        self.by_size.entry(mapping.size).or_default().push(age);
        self.by_age.insert(age, mapping);
    }

    fn used(&mut self, size: usize) {
        self.memory.in_use += size;
        self.memory.peak = self.memory.peak.max(self.memory.in_use);
    }
}

fn take_large(len: usize) -> Result<Mapping, usize> {
    let refuse = || available().unwrap_or(0);
    let size = large_class(len).ok_or_else(refuse)?;
    {
        let mut cache = cache();
        if let Some(mapping) = cache.pop(size) {
            cache.used(size);
            return Ok(mapping);
        }
        cache.memory.misses += 1;
    }
    // The system promises more than it has: what is not free must not be touched.
    if available().is_some_and(|free| free < size) {
        trim_cpu_memory();
        if let Some(free) = available().filter(|free| *free < size) {
            return Err(free);
        }
    }
    let mapping = fresh_part(size).or_else(|| with_reserve(size)).or_else(|| {
        trim_cpu_memory();
        with_reserve(size)
    });
    let mapping = mapping.ok_or_else(refuse)?;
    cache().used(size);
    Ok(mapping)
}

/// A part of fresh huge pages, whose other parts are kept: for sizes below a huge page, unless little is to be kept.
fn fresh_part(size: usize) -> Option<Mapping> {
    if size >= HUGE || cache().limit() < 16 * HUGE {
        return None;
    }
    let mut parts = Mapping::parts(size).filter(|_| has_reserve())?;
    let own = parts.pop();
    let mut cache = cache();
    parts.into_iter().for_each(|part| cache.keep(part));
    let most = cache.limit();
    let gone = cache.shrink(most);
    drop(cache);
    drop(gone);
    own
}

/// Address space that memory of tensors and kernels leaves free: small allocations of the program, which cannot fail as errors,
/// find room there.
pub(super) const RESERVE: usize = 4 << 20;

/// Whether the reserve is still free.
pub(super) fn has_reserve() -> bool {
    MmapOptions::new().len(RESERVE).map_anon().is_ok()
}

/// A mapping after which the reserve is still free.
fn with_reserve(size: usize) -> Option<Mapping> {
    Mapping::new(size).filter(|_| has_reserve())
}

fn put_large(mapping: Mapping) {
    let size = mapping.size;
    let mut cache = cache();
    cache.memory.in_use -= size;
    cache.keep(mapping);
    let pressed = cache.clock.is_multiple_of(256) && is_pressed();
    let most = if pressed { 0 } else { cache.limit() };
    let gone = cache.shrink(most);
    drop(cache);
    drop(gone);
}

/// Whether the computer has little memory left.
fn is_pressed() -> bool {
    match (available(), memory("MemTotal:")) {
        (Some(free), Some(total)) => free < total / 16,
        _ => false,
    }
}

/// The bytes that new memory may have without another process losing its own; none where the system does not tell.
fn available() -> Option<usize> {
    memory("MemAvailable:")
}

/// A line of `/proc/meminfo` in bytes.
fn memory(name: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Sets how many bytes of freed blocks are kept.
pub(crate) fn set_limit(bytes: usize) {
    let gone = {
        let mut cache = cache();
        cache.limit = Some(bytes);
        cache.shrink(bytes)
    };
    drop(gone);
}

/// The memory of CPU tensors at this moment.
///
/// ```
/// use ascend_tensor::{DType, Device, Tensor, cpu_memory, trim_cpu_memory};
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::zeros([1024, 1024], DType::F32, Device::Cpu)?;
/// assert!(cpu_memory().in_use >= 4 << 20);
/// drop(x);
/// trim_cpu_memory();
/// assert_eq!(cpu_memory().cached, 0);
/// # Ok(())
/// # }
/// ```
pub fn cpu_memory() -> CpuMemory {
    let mut cache = cache();
    cache.memory.limit = cache.limit();
    cache.memory
}

/// Lets [`CpuMemory::peak`] begin anew with what tensors hold now.
///
/// ```
/// use ascend_tensor::{DType, Device, Tensor, cpu_memory, reset_cpu_memory_peak};
/// # fn main() -> ascend_tensor::Result<()> {
/// reset_cpu_memory_peak();
/// let before = cpu_memory().in_use;
/// drop(Tensor::zeros([1024, 1024], DType::F32, Device::Cpu)?);
/// assert!(cpu_memory().peak >= before + (4 << 20));
/// # Ok(())
/// # }
/// ```
pub fn reset_cpu_memory_peak() {
    let mut cache = cache();
    cache.memory.peak = cache.memory.in_use;
}

/// Gives all kept memory of CPU tensors back to the system: the large blocks, and the calling thread's small ones.
pub fn trim_cpu_memory() {
    let gone = cache().shrink(0);
    drop(gone);
    let _ = KEPT.try_with(|kept| kept.borrow_mut().clear());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_was_asked_for() {
        for len in [1, 64, 65, 100, 4096, 4097, LARGE / 2] {
            let class = class_of(len);
            assert!(class < CLASSES && (ALIGNMENT << class) >= len, "{len}");
            assert!(class == 0 || (ALIGNMENT << (class - 1)) < len, "{len}");
        }
        for len in [
            LARGE / 2 + 1,
            1 << 20,
            (1 << 20) + 1,
            67_108_864,
            100_000_001,
        ] {
            let size = large_class(len).unwrap_or(0);
            assert!(
                size >= len && size <= len + len / 8 + (64 << 10),
                "{len} {size}"
            );
        }
        assert!(large_class(usize::MAX).is_none());
    }

    #[test]
    fn chunks_are_aligned_writable_and_reused() {
        for len in [1, 1000, LARGE, 3 << 20] {
            let chunk = Chunk::take(len).unwrap_or_else(|free| panic!("{len}: {free} free"));
            let start = chunk.start().as_ptr();
            assert!(start.addr().is_multiple_of(ALIGNMENT));
            // SAFETY: the chunk has `len` bytes, and nobody else has it.
            unsafe {
                start.write(7);
                start.add(len - 1).write(7);
            }
        }
        assert!(Chunk::take(usize::MAX).is_err());
        assert!(Chunk::take(1 << 60).is_err());
    }
    #[test]
    fn parts_of_pages_are_apart_and_outlive_each_other() {
        for size in [LARGE / 2 + (64 << 10), 1 << 20, 11 << 17, HUGE - (64 << 10)] {
            let mut parts = Mapping::parts(size).expect("memory");
            let bytes: usize = parts.iter().map(|part| part.size).sum();
            assert!(bytes >= 3 * HUGE / 4 && parts.iter().all(|part| part.size == size));
            for (index, part) in parts.iter().enumerate() {
                // SAFETY: each part has `size` bytes, and nobody else has it.
                unsafe { part.start.as_ptr().write_bytes(index as u8 + 1, size) };
            }
            let last = parts.pop().expect("a part");
            let held = parts.len() as u8 + 1;
            drop(parts);
            // SAFETY: written above; the part still has its memory.
            let read = unsafe { std::slice::from_raw_parts(last.start.as_ptr(), size) };
            assert!(read.iter().all(|byte| *byte == held), "{size}");
        }
    }
}
