//! Device and pinned memory: tracked blocks, found by address, with their accounts, canaries and a graveyard of freed ones.
//!
//! Knows addresses and bytes; it must not know tensors, streams or calls by name.
//!
//! The address that a caller sees may differ from where the bytes lie on the host (`Block::data`): then host code cannot touch
//! device memory at all. Everything in the emulator goes through [`find`] or [`hold`], which translate.

use crate::failure::{Failure, code};
use crate::guard;
use crate::ledger::Site;
use crate::settings::Strictness;
use crate::shared::{self, Shared, Use};
use std::alloc::Layout;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Device(u32),
    Pinned,
    /// The caller's own host memory, made known by `aclrtHostRegister`.
    Registered,
}

/// What keeps the bytes.
enum Backing {
    Heap(*mut u8, Layout),
    /// Somebody else does, and this keeps that alive.
    Other(#[allow(dead_code)] Option<Arc<dyn Any + Send + Sync>>),
}

/// One allocation.
pub(crate) struct Block {
    pub start: usize,
    pub size: usize,
    /// Bytes that are accounted on the device.
    pub room: usize,
    pub data: usize,
    pub place: Place,
    pub made_by: Site,
    pub virtual_memory: bool,
    /// Pinned memory that was registered for the device.
    pub mapped: AtomicBool,
    freed: AtomicBool,
    freed_by: Mutex<Site>,
    pending: AtomicU32,
    pending_by: Mutex<Site>,
    canary: Option<usize>,
    view: Option<(usize, usize)>,
    /// Set once other processes may map the bytes.
    shared: OnceLock<Arc<Shared>>,
    backing: Backing,
}

// SAFETY: the raw pointer in `backing` is only used by `drop`; all bytes are accessed through addresses that callers vouch for.
unsafe impl Send for Block {}
// SAFETY: as above; the mutable parts are atomics and mutexes.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        if let Backing::Heap(pointer, layout) = self.backing {
            if self.shared.get().is_some() {
                // SAFETY: the allocation's own pages; nobody uses what they hold any more.
                unsafe { shared::unshare(pointer.expose_provenance(), layout.size()) };
            }
            // SAFETY: allocated with this layout in `allocate`, freed once.
            unsafe { std::alloc::dealloc(pointer, layout) };
        }
        if let Some((base, length)) = self.view {
            // SAFETY: mapped in `protected_view` with this length, unmapped once.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut::<c_void>(base), length) };
        }
    }
}

impl Block {
    pub fn is_freed(&self) -> bool {
        self.freed.load(Ordering::Acquire)
    }

    pub fn freed_by(&self) -> Site {
        *self.freed_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> usize {
        self.start.saturating_add(self.size)
    }

    /// Whether kernels may use it.
    pub fn is_for_kernels(&self) -> bool {
        match self.place {
            Place::Device(_) | Place::Registered => true,
            Place::Pinned => self.mapped.load(Ordering::Acquire),
        }
    }

    /// Where the bytes end that the runtime grants: it rounds device memory up to 32, and CANN's own examples rely on that.
    fn granted(&self) -> usize {
        match (self.place, self.canary) {
            (Place::Device(_), Some(_)) => {
                self.start.saturating_add(self.size.next_multiple_of(PAD))
            }
            _ => self.end(),
        }
    }

    /// Whether queued work uses it.
    pub fn is_used(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Puts the bytes into memory that other processes can map, at the same address; `None` for memory that is not the
    /// device's own. Nobody may write meanwhile.
    pub fn share(&self, listed: bool) -> Result<Option<Arc<Shared>>, Failure> {
        let Backing::Heap(pointer, layout) = self.backing else {
            return Ok(None);
        };
        if let Some(shared) = self.shared.get() {
            return Ok(Some(Arc::clone(shared)));
        }
        if !layout.size().is_multiple_of(shared::page()) || layout.align() < shared::page() {
            return Ok(None);
        }
        let shared = Shared::create(Use::Memory, layout.size(), listed)?;
        // SAFETY: the allocation has as many bytes, and was filled or may hold anything.
        shared.fill(unsafe { std::slice::from_raw_parts(pointer, layout.size()) })?;
        // SAFETY: whole pages of the allocation, whose bytes were copied.
        unsafe { shared.map_over(pointer.expose_provenance()) }?;
        Ok(Some(Arc::clone(
            self.shared.get_or_init(|| Arc::new(shared)),
        )))
    }
}

/// A use of a block by queued work: while it lives, freeing the block is a violation.
pub(crate) struct Hold {
    pub block: Arc<Block>,
}

impl Hold {
    pub fn new(block: &Arc<Block>) -> Hold {
        block.pending.fetch_add(1, Ordering::AcqRel);
        *block
            .pending_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = guard::current();
        Hold {
            block: Arc::clone(block),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.block.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Default)]
struct Memory {
    blocks: BTreeMap<usize, Arc<Block>>,
    graves: BTreeMap<usize, Arc<Block>>,
    order: VecDeque<usize>,
    buried: usize,
}

const GRAVEYARD_BYTES: usize = 64 << 20;
const GRAVEYARD_BLOCKS: usize = 4096;
const FILL_LIMIT: usize = 1 << 20;
const FILL: u8 = 0xff;
const CANARY: u8 = 0xc5;
const PAD: usize = 32;
/// Levels at which bytes that were not asked for, but are granted, may be used.
const PASSING: [Strictness; 2] = [Strictness::Report, Strictness::Lenient];

static MEMORY: RwLock<Option<Memory>> = RwLock::new(None);

fn write<R>(work: impl FnOnce(&mut Memory) -> R) -> R {
    let mut memory = MEMORY.write().unwrap_or_else(PoisonError::into_inner);
    work(memory.get_or_insert_default())
}

/// Allocates a block; the caller has accounted for `room`.
pub(crate) fn allocate(place: Place, size: usize, room: usize) -> Result<Arc<Block>, Failure> {
    let no_memory = || {
        Failure::new(
            code::RT_MEMORY_ALLOCATION,
            format!("the host has no {size} bytes"),
        )
    };
    let rounded = size.checked_next_multiple_of(PAD).ok_or_else(no_memory)?;
    // Whole pages, so that other processes can be let in.
    let (align, whole) = match place {
        Place::Device(_) => (shared::page(), rounded.checked_add(PAD)),
        _ => (512, rounded.checked_add(PAD)),
    };
    let layout = whole
        .and_then(|whole| whole.checked_next_multiple_of(align))
        .and_then(|whole| Layout::from_size_align(whole, align).ok())
        .ok_or_else(no_memory)?;
    // SAFETY: the layout's size is not zero (the pad is part of it).
    let pointer = unsafe { std::alloc::alloc(layout) };
    if pointer.is_null() {
        return Err(no_memory());
    }
    // SAFETY: both ranges lie in the fresh allocation.
    unsafe {
        if rounded <= FILL_LIMIT {
            ptr::write_bytes(pointer, FILL, rounded);
        }
        ptr::write_bytes(pointer.add(rounded), CANARY, PAD);
    }
    let data = pointer.expose_provenance();
    let protect = matches!(
        crate::state::strictness(),
        Strictness::Protect | Strictness::Abort
    ) && matches!(place, Place::Device(_));
    let view = if protect {
        protected_view(rounded + PAD)?
    } else {
        None
    };
    let block = Arc::new(Block {
        start: view.map_or(data, |(base, _)| base),
        size,
        room,
        data,
        place,
        made_by: guard::current(),
        virtual_memory: false,
        mapped: AtomicBool::new(false),
        freed: AtomicBool::new(false),
        freed_by: Mutex::default(),
        pending: AtomicU32::new(0),
        pending_by: Mutex::default(),
        canary: Some(data + rounded),
        view,
        shared: OnceLock::new(),
        backing: Backing::Heap(pointer, layout),
    });
    write(|memory| {
        exhume(memory, block.start, rounded + PAD);
        memory.blocks.insert(block.start, Arc::clone(&block));
    });
    Ok(block)
}

/// Makes memory known that lives elsewhere: registered host memory, mapped physical memory.
pub(crate) fn adopt(
    place: Place,
    start: usize,
    size: usize,
    data: usize,
    owner: Option<Arc<dyn Any + Send + Sync>>,
) -> Arc<Block> {
    let block = Arc::new(Block {
        start,
        size,
        room: 0,
        data,
        place,
        made_by: guard::current(),
        virtual_memory: owner.is_some(),
        mapped: AtomicBool::new(false),
        freed: AtomicBool::new(false),
        freed_by: Mutex::default(),
        pending: AtomicU32::new(0),
        pending_by: Mutex::default(),
        canary: None,
        view: None,
        shared: OnceLock::new(),
        backing: Backing::Other(owner),
    });
    write(|memory| {
        exhume(memory, start, size);
        memory.blocks.insert(start, Arc::clone(&block));
    });
    block
}

/// Addresses that nothing on the host can read or write.
pub(crate) fn protected_view(length: usize) -> Result<Option<(usize, usize)>, Failure> {
    let length = length.next_multiple_of(4096);
    // SAFETY: an anonymous mapping at a place of the kernel's choice touches no existing memory.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(Failure::new(
            code::RT_MEMORY_ALLOCATION,
            format!("the host has no {length} bytes of address space"),
        ));
    }
    Ok(Some((base.expose_provenance(), length)))
}

/// Removes graves whose addresses are in use again.
fn exhume(memory: &mut Memory, start: usize, length: usize) {
    let first = memory
        .graves
        .range(..start)
        .next_back()
        .filter(|(_, block)| block.end() > start)
        .map(|(&at, _)| at);
    let within: Vec<usize> = memory
        .graves
        .range(start..start.saturating_add(length))
        .map(|(&at, _)| at)
        .collect();
    for at in within.into_iter().chain(first) {
        memory.graves.remove(&at);
    }
}

/// Frees the block that starts at an address, if it is of the wanted place.
pub(crate) fn free(address: usize, wanted: fn(Place) -> bool) -> Result<Arc<Block>, Failure> {
    let block = write(|memory| match memory.blocks.get(&address) {
        Some(block) if wanted(block.place) && !block.virtual_memory => {
            memory.blocks.remove(&address)
        }
        _ => None,
    });
    let Some(block) = block else {
        return Err(guard::violation(
            code::RT_PARAM_INVALID,
            explain_free(address),
        ));
    };
    block.freed.store(true, Ordering::Release);
    *block
        .freed_by
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = guard::current();
    bury(&block);
    Ok(block)
}

/// Removes an adopted block.
pub(crate) fn release(address: usize) -> Option<Arc<Block>> {
    let block = write(|memory| memory.blocks.remove(&address))?;
    block.freed.store(true, Ordering::Release);
    *block
        .freed_by
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = guard::current();
    Some(block)
}

/// What is wrong with a block at the moment it is freed: work that still uses it, a destroyed canary.
pub(crate) fn inspect_freed(block: &Block) -> Result<(), Failure> {
    let pending = block.pending.load(Ordering::Acquire);
    if pending > 0 {
        let by = *block
            .pending_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        return Err(guard::violation(
            code::RT_MEMORY_FREE,
            format!(
                "{:#x} ({} bytes, made by {}) is freed while {pending} queued tasks still use it, the newest from {by}",
                block.start, block.size, block.made_by
            ),
        ));
    }
    if let Some(canary) = block.canary {
        let canary = ptr::with_exposed_provenance::<u8>(canary);
        // SAFETY: the pad belongs to the allocation, which `block` keeps alive.
        let whole = (0..PAD).all(|at| unsafe { canary.add(at).read() } == CANARY);
        if !whole {
            return Err(guard::violation(
                code::RT_MEMORY_FREE,
                format!(
                    "{:#x} ({} bytes, made by {}) was written past its end",
                    block.start, block.size, block.made_by
                ),
            ));
        }
    }
    Ok(())
}

fn bury(block: &Arc<Block>) {
    if block.size > GRAVEYARD_BYTES / 4 {
        return;
    }
    write(|memory| {
        memory.graves.insert(block.start, Arc::clone(block));
        memory.order.push_back(block.start);
        memory.buried += block.size;
        while memory.buried > GRAVEYARD_BYTES || memory.order.len() > GRAVEYARD_BLOCKS {
            let Some(oldest) = memory.order.pop_front() else {
                break;
            };
            if let Some(block) = memory.graves.remove(&oldest) {
                memory.buried = memory.buried.saturating_sub(block.size);
            }
        }
    });
}

fn explain_free(address: usize) -> String {
    match find(address, 1) {
        Ok(block) if block.start == address => format!(
            "{address:#x} is {:?} memory made by {}, the wrong free function",
            block.place, block.made_by
        ),
        Ok(block) => format!(
            "{address:#x} lies inside the block {:#x} made by {}, wanted its start",
            block.start, block.made_by
        ),
        Err(Missing::Stale(text)) => format!("freed twice: {text}"),
        Err(_) => format!("{address:#x} was never allocated here"),
    }
}

/// Why an address range is no live block.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Ordinary host memory, or nothing at all.
    Host,
    /// Memory that was freed.
    Stale(String),
    /// The range starts in a block and leaves it.
    Overrun(String),
}

/// What a call wants to do with memory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl std::fmt::Display for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
        })
    }
}

/// Whether this process may read or write the range without being ended for it. The kernel is asked to bring the pages in;
/// one that is too old for the question (before Linux 5.14) only says whether there are any.
pub(crate) fn is_accessible(address: usize, length: usize, access: Access) -> bool {
    static NEW: OnceLock<bool> = OnceLock::new();
    const PAGE: usize = 4096;
    let populate = |address: usize, length: usize, access: Access| {
        let start = address & !(PAGE - 1);
        let bytes = address.checked_add(length)? - start;
        let advice = match access {
            Access::Read => libc::MADV_POPULATE_READ,
            Access::Write => libc::MADV_POPULATE_WRITE,
        };
        let start = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the call changes no content, and answers for memory that is not there with an error.
        Some(unsafe { libc::madvise(start, bytes, advice) } == 0)
    };
    let own = [0_u8; 8];
    let own = own.as_ptr().expose_provenance();
    if *NEW.get_or_init(|| populate(own, 8, Access::Write) == Some(true)) {
        return populate(address, length, access) == Some(true);
    }
    let first = address / PAGE;
    let Some(end) = address.checked_add(length) else {
        return false;
    };
    (first..end.div_ceil(PAGE)).all(|page| {
        let mut resident = 0_u8;
        let start = ptr::with_exposed_provenance_mut(page * PAGE);
        // SAFETY: one byte for one page; memory that is not there is an error.
        unsafe { libc::mincore(start, PAGE, &raw mut resident) == 0 }
    })
}

/// The live block that holds `length` bytes from an address. Neighbouring mappings of one reservation count as one.
pub(crate) fn find(address: usize, length: usize) -> Result<Arc<Block>, Missing> {
    let memory = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    let Some(memory) = memory.as_ref() else {
        return Err(Missing::Host);
    };
    let end = address.saturating_add(length);
    let before = memory.blocks.range(..=address).next_back();
    if let Some((_, block)) = before.filter(|(_, block)| address < block.end()) {
        let mut reached = block.end();
        while reached < end && block.virtual_memory {
            let Some(next) = memory
                .blocks
                .get(&reached)
                .filter(|next| next.virtual_memory)
            else {
                break;
            };
            reached = next.end();
        }
        if end <= reached {
            return Ok(Arc::clone(block));
        }
        let overrun = || {
            format!(
                "{length} bytes from {address:#x} leave the block {:#x} of {} bytes made by {}",
                block.start, block.size, block.made_by
            )
        };
        if end <= block.granted() && guard::tolerates(&PASSING, overrun) {
            return Ok(Arc::clone(block));
        }
        return Err(Missing::Overrun(overrun()));
    }
    let grave = memory.graves.range(..=address).next_back();
    if let Some((_, block)) = grave.filter(|(_, block)| address < block.end()) {
        return Err(Missing::Stale(format!(
            "{address:#x} lies in the block {:#x} made by {}, which {} freed",
            block.start,
            block.made_by,
            block.freed_by()
        )));
    }
    Err(Missing::Host)
}

/// All live blocks.
pub(crate) fn living() -> Vec<Arc<Block>> {
    let memory = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    memory
        .iter()
        .flat_map(|memory| memory.blocks.values().cloned())
        .collect()
}

/// Frees everything that lies on a device, or everything.
pub(crate) fn clear(device: Option<u32>) {
    let dropped = write(|memory| {
        let old = std::mem::take(&mut memory.blocks);
        let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = old
            .into_iter()
            .partition(|(_, block)| device.is_none_or(|id| block.place == Place::Device(id)));
        memory.blocks = kept;
        memory.graves.clear();
        memory.order.clear();
        memory.buried = 0;
        gone
    });
    for block in dropped.values() {
        block.freed.store(true, Ordering::Release);
    }
}

/// Copies bytes between host addresses.
///
/// # Safety
/// Both ranges must be valid for `count` bytes; they may overlap.
pub(crate) unsafe fn copy(target: usize, source: usize, count: usize) {
    let target = ptr::with_exposed_provenance_mut::<u8>(target);
    let source = ptr::with_exposed_provenance::<u8>(source);
    // SAFETY: valid by this function's contract.
    unsafe { ptr::copy(source, target, count) };
}
