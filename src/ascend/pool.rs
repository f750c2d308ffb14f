//! The books of the caching memory pool: which parts of which segments are free, for which stream.
//!
//! Knows addresses and sizes as numbers only: it starts no call of CANN, so it can be tested alone. Must not know tensors.
//!
//! A freed block may be handed out again at once on the stream that it belongs to, since work on a stream runs in order.

use std::collections::BTreeSet;

/// Blocks begin at multiples of this.
const GRAIN: usize = 512;
/// Kernels may touch that many bytes behind a tensor.
const PAD: usize = 32;
/// Requests up to this size come from shared segments.
const SMALL: usize = 1 << 20;
/// The size of a shared segment, and what large segments are rounded to.
const SEGMENT: usize = 2 << 20;
/// Requests below this size get a segment of `LARGE_SEGMENT`.
const MEDIUM: usize = 10 << 20;
/// The size of a segment for medium requests.
const LARGE_SEGMENT: usize = 20 << 20;

const NONE: u32 = u32::MAX;

/// What a device's memory pool holds, in bytes and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Bytes in blocks that are in use (rounded sizes, workspaces included).
    pub allocated: usize,
    /// Bytes in segments taken from the device.
    pub reserved: usize,
    /// The largest `allocated` so far.
    pub peak_allocated: usize,
    /// The largest `reserved` so far.
    pub peak_reserved: usize,
    /// Calls of `aclrtMalloc`.
    pub device_allocations: u64,
    /// Requests answered without one.
    pub hits: u64,
}

/// A part of a segment, in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    slot: u32,
    pub address: usize,
    pub size: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    address: usize,
    size: usize,
    stream: u64,
    previous: u32,
    next: u32,
    large: bool,
    free: bool,
}

/// The free blocks by stream, kind and size: the first fitting entry is the best fit.
type Free = BTreeSet<(u64, bool, usize, usize, u32)>;

/// The books of one device's memory.
#[derive(Debug, Default)]
pub(super) struct Pool {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    free: Free,
    requests: u64,
    statistics: Statistics,
}

/// The size of the block for a request, or `None` if there is no such size.
pub(super) fn block_size(bytes: usize) -> Option<usize> {
    bytes
        .checked_add(PAD)?
        .checked_next_multiple_of(GRAIN)
        .filter(|size| *size <= isize::MAX as usize)
}

/// The bytes that a block takes which is asked for so many.
pub(crate) fn rounded(bytes: usize) -> usize {
    block_size(bytes).unwrap_or(bytes)
}

/// The size of the segment to take from the device for a block, first the usual and then the least.
pub(super) fn segment_sizes(size: usize) -> (usize, usize) {
    let least = size.checked_next_multiple_of(SEGMENT).unwrap_or(size);
    let usual = if size <= SMALL {
        SEGMENT
    } else if size < MEDIUM {
        LARGE_SEGMENT
    } else {
        least
    };
    (usual, least)
}

impl Pool {
    pub fn statistics(&self) -> Statistics {
        // Each segment was taken for one request.
        Statistics {
            hits: self
                .requests
                .saturating_sub(self.statistics.device_allocations),
            ..self.statistics
        }
    }

    pub fn reset_peaks(&mut self) {
        self.statistics.peak_allocated = self.statistics.allocated;
        self.statistics.peak_reserved = self.statistics.reserved;
    }

    fn key(&self, slot: u32) -> Option<(u64, bool, usize, usize, u32)> {
        self.slots
            .get(slot as usize)
            .map(|own| (own.stream, own.large, own.size, own.address, slot))
    }

    fn insert(&mut self, slot: Slot) -> u32 {
        if let Some(index) = self.vacant.pop() {
            if let Some(own) = self.slots.get_mut(index as usize) {
                *own = slot;
            }
            return index;
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(slot);
        index
    }

    fn edit(&mut self, slot: u32, change: impl FnOnce(&mut Slot)) {
        if let Some(own) = self.slots.get_mut(slot as usize) {
            change(own);
        }
    }

    /// A free block of a stream; `None` if a segment must be added first.
    pub fn take(&mut self, stream: u64, size: usize) -> Option<Block> {
        let large = size > SMALL;
        let found = *self.free.range((stream, large, size, 0, 0)..).next()?;
        if (found.0, found.1) != (stream, large) {
            return None;
        }
        self.free.remove(&found);
        let slot = found.4;
        self.edit(slot, |own| own.free = false);
        self.split(slot, size);
        let own = *self.slots.get(slot as usize)?;
        self.requests = self.requests.saturating_add(1);
        self.statistics.allocated = self.statistics.allocated.saturating_add(own.size);
        self.statistics.peak_allocated = self
            .statistics
            .peak_allocated
            .max(self.statistics.allocated);
        Some(Block {
            slot,
            address: own.address,
            size: own.size,
        })
    }

    /// Cuts the rest off a block, if it is worth keeping apart.
    fn split(&mut self, slot: u32, size: usize) {
        let Some(own) = self.slots.get(slot as usize).copied() else {
            return;
        };
        let rest = own.size.saturating_sub(size);
        if rest < GRAIN || (own.large && rest <= SMALL) {
            return;
        }
        let address = own.address.saturating_add(size);
        let cut = self.insert(Slot {
            address,
            size: rest,
            previous: slot,
            free: true,
            ..own
        });
        self.edit(own.next, |next| next.previous = cut);
        self.edit(slot, |own| {
            own.size = size;
            own.next = cut;
        });
        self.free.extend(self.key(cut));
    }

    /// Adds memory taken from the device for a request of a stream.
    pub fn add_segment(&mut self, stream: u64, request: usize, address: usize, size: usize) {
        let slot = Slot {
            address,
            size,
            stream,
            previous: NONE,
            next: NONE,
            large: request > SMALL,
            free: true,
        };
        let index = self.insert(slot);
        self.free.extend(self.key(index));
        self.statistics.device_allocations = self.statistics.device_allocations.saturating_add(1);
        self.statistics.reserved = self.statistics.reserved.saturating_add(size);
        self.statistics.peak_reserved = self.statistics.peak_reserved.max(self.statistics.reserved);
    }

    /// Gives a block back; its stream may have it again at once.
    pub fn release(&mut self, block: Block) {
        let slot = block.slot;
        let Some(own) = self.slots.get(slot as usize).copied() else {
            return;
        };
        if own.free || own.address != block.address {
            return;
        }
        self.statistics.allocated = self.statistics.allocated.saturating_sub(own.size);
        self.edit(slot, |own| own.free = true);
        self.merge(slot, own.next);
        let kept = if self.merge(own.previous, slot) {
            own.previous
        } else {
            slot
        };
        self.free.extend(self.key(kept));
    }

    /// Joins two neighbours if both are free and of one stream; the second one's place is vacant then.
    fn merge(&mut self, first: u32, second: u32) -> bool {
        let (Some(front), Some(back)) = (
            self.slots.get(first as usize).copied(),
            self.slots.get(second as usize).copied(),
        ) else {
            return false;
        };
        if !front.free || !back.free || front.stream != back.stream {
            return false;
        }
        for key in [self.key(first), self.key(second)].into_iter().flatten() {
            self.free.remove(&key);
        }
        self.edit(first, |own| {
            own.size = own.size.saturating_add(back.size);
            own.next = back.next;
        });
        self.edit(back.next, |next| next.previous = first);
        // A vacant place must look like nothing: in use, without neighbours or address.
        self.edit(second, |own| {
            *own = Slot {
                address: 0,
                size: 0,
                stream: 0,
                previous: NONE,
                next: NONE,
                large: false,
                free: false,
            }
        });
        self.vacant.push(second);
        true
    }

    /// Moves the free blocks of a stream that ends to another one, which must wait for it.
    pub fn rehome(&mut self, from: u64, to: u64) {
        let slots: Vec<u32> = (0..)
            .zip(&self.slots)
            .filter(|(_, own)| own.stream == from && own.size > 0)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            if let Some(key) = self.key(slot) {
                let free = self.free.remove(&key);
                self.edit(slot, |own| own.stream = to);
                if free {
                    self.free.extend(self.key(slot));
                }
            }
        }
    }

    /// Removes the segments without any block in use from the books; the caller gives their addresses back to the device.
    pub fn drain(&mut self) -> Vec<usize> {
        let whole: Vec<_> = self
            .free
            .iter()
            .filter(|key| {
                self.slots
                    .get(key.4 as usize)
                    .is_some_and(|own| own.previous == NONE && own.next == NONE)
            })
            .copied()
            .collect();
        for key in &whole {
            self.free.remove(key);
            self.edit(key.4, |own| {
                *own = Slot {
                    address: 0,
                    size: 0,
                    stream: 0,
                    previous: NONE,
                    next: NONE,
                    large: false,
                    free: false,
                }
            });
            self.vacant.push(key.4);
            self.statistics.reserved = self.statistics.reserved.saturating_sub(key.2);
        }
        whole.into_iter().map(|key| key.3).collect()
    }

    /// The addresses of all segments, used or not; the books are empty afterwards (the device is given up).
    pub fn abandon(&mut self) -> Vec<usize> {
        let starts = self
            .slots
            .iter()
            .filter(|own| own.size > 0 && own.previous == NONE)
            .map(|own| own.address)
            .collect();
        *self = Pool::default();
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a block, from a fresh segment at `address` if needed; says whether it was.
    fn take(pool: &mut Pool, stream: u64, bytes: usize, address: usize) -> (Block, bool) {
        let size = block_size(bytes).unwrap();
        match pool.take(stream, size) {
            Some(block) => (block, false),
            None => {
                pool.add_segment(stream, size, address, segment_sizes(size).0);
                (pool.take(stream, size).unwrap(), true)
            }
        }
    }

    #[test]
    fn blocks_are_padded_and_apart() {
        let mut pool = Pool::default();
        let blocks: Vec<Block> = [1, 480, 481, 5000]
            .map(|bytes| take(&mut pool, 1, bytes, 1 << 30).0)
            .into();
        assert_eq!(
            blocks.iter().map(|block| block.size).collect::<Vec<_>>(),
            [512, 512, 1024, 5120]
        );
        for pair in blocks.windows(2) {
            assert_eq!(pair[0].address + pair[0].size, pair[1].address);
        }
        assert_eq!(pool.statistics().device_allocations, 1);
        assert_eq!(pool.statistics().hits, 3);
        for block in [blocks[1], blocks[3], blocks[0], blocks[2]] {
            pool.release(block);
        }
        assert_eq!(pool.statistics().allocated, 0);
        assert_eq!(
            pool.drain(),
            [1 << 30],
            "everything merged into the segment"
        );
        assert_eq!(pool.statistics().reserved, 0);
    }

    #[test]
    fn a_freed_block_returns_to_its_own_stream_only() {
        let mut pool = Pool::default();
        let (block, _) = take(&mut pool, 1, 3 << 20, 1 << 32);
        pool.release(block);
        assert_eq!(take(&mut pool, 1, 3 << 20, 0), (block, false));
        pool.release(block);
        assert!(pool.take(2, block.size).is_none());
        pool.rehome(1, 2);
        assert_eq!(pool.take(2, block.size), Some(block));
    }

    #[test]
    fn releasing_twice_or_after_the_end_changes_nothing() {
        let mut pool = Pool::default();
        let (block, _) = take(&mut pool, 1, 100, 4096);
        pool.release(block);
        pool.release(block);
        assert_eq!(pool.statistics().allocated, 0);
        let (block, _) = take(&mut pool, 1, 100, 4096);
        assert_eq!(pool.abandon(), [4096]);
        pool.release(block);
        assert_eq!(pool.statistics(), Statistics::default());
    }

    #[test]
    fn random_traffic_never_overlaps() {
        let mut pool = Pool::default();
        let mut held: Vec<Block> = Vec::new();
        let mut state = 0x9e37_79b9_u64;
        let mut fresh = 1 << 40;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let draw = (state >> 33) as usize;
            if draw % 5 < 3 {
                let bytes = (draw % 7919) * [1, 40, 900][draw % 3];
                let (block, grown) = take(&mut pool, (draw % 2) as u64, bytes, fresh);
                fresh += usize::from(grown) << 26;
                for other in &held {
                    assert!(
                        block.address + block.size <= other.address
                            || other.address + other.size <= block.address
                    );
                }
                held.push(block);
            } else if !held.is_empty() {
                pool.release(held.swap_remove(draw % held.len()));
            }
            if held.len() > 60 {
                pool.release(held.swap_remove(0));
            }
        }
        assert_eq!(
            pool.statistics().allocated,
            held.iter().map(|block| block.size).sum::<usize>()
        );
        held.into_iter().for_each(|block| pool.release(block));
        pool.drain();
        assert_eq!(pool.statistics().reserved, 0);
        assert!(pool.free.is_empty());
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert_eq!(block_size(usize::MAX), None);
        assert_eq!(block_size(0), Some(512));
    }
}
