//! HCCL on one machine: communicators between processes or threads, over loopback sockets.
//!
//! Knows ranks, bytes and turns; it must not know C signatures or streams' queues.
//!
//! How it works: the root listens on an ephemeral port of 127.0.0.1 and puts it into the root info (`meeting`); every rank
//! registers there and gets the table of all ranks; then each pair of ranks has one socket (`link`). A thread per socket moves
//! arriving frames into an inbox, so that no sender ever blocks a receiver and a peer's end is noticed at once. A collective is
//! a task on a stream: it swaps frames with all ranks (`collective`) and reduces in the order of ranks, so that the result has
//! the same bits on every rank and in every run. Nothing is left behind by a killed process but closed sockets.
//!
//! Stricter than the real library: ranks compare what they call (function, count, dtype, operation, root) in every collective,
//! and a difference is an error that names the divergent rank, where hardware hangs until a time-out.

pub(crate) mod collective;
pub(crate) mod kind;
pub(crate) mod link;
pub(crate) mod meeting;
pub(crate) mod rank_table;
pub(crate) mod result;
mod wire;

use crate::registry::{Kind, Registry};
use link::Link;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All communicators.
pub(crate) static COMMUNICATORS: Registry<Communicator> =
    Registry::new(Kind::Communicator, result::PARA);

/// What a rank's side of a communicator knows.
pub(crate) struct Communicator {
    pub name: String,
    pub device: u32,
    pub link: Arc<Link>,
    /// Which frames on the link belong to this communicator: 0 for the whole, else the id of the part.
    pub group: u64,
    /// The link's rank of each rank of this communicator.
    pub members: Vec<usize>,
    /// This side's place in `members`.
    pub rank: usize,
    /// How long a task waits for its peers; `None` is forever.
    pub patience: Option<Duration>,
    /// Bytes of exchange buffers that are accounted on the device.
    pub buffers: u64,
    pub suspended: AtomicBool,
    calls: AtomicU64,
    replays: AtomicU64,
    pairs: Mutex<HashMap<(usize, Direction, bool), u64>>,
    parts: Mutex<HashMap<u64, u64>>,
    queued: Arc<AtomicU32>,
}

/// Which way a message between two ranks goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Out,
    In,
}

/// What a communicator is made of.
pub(crate) struct Parts {
    pub name: String,
    pub device: u32,
    pub link: Arc<Link>,
    pub group: u64,
    pub members: Vec<usize>,
    pub rank: usize,
    pub patience: Option<Duration>,
    pub buffers: u64,
}

impl Communicator {
    pub fn new(parts: Parts) -> Communicator {
        parts.link.open_group();
        Communicator {
            name: parts.name,
            device: parts.device,
            link: parts.link,
            group: parts.group,
            members: parts.members,
            rank: parts.rank,
            patience: parts.patience,
            buffers: parts.buffers,
            suspended: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            replays: AtomicU64::new(0),
            pairs: Mutex::default(),
            parts: Mutex::default(),
            queued: Arc::default(),
        }
    }

    pub fn ranks(&self) -> usize {
        self.members.len()
    }

    /// The number of the next collective. Those of replayed graphs count apart: they get their number when they run.
    pub fn next_turn(&self, replayed: bool) -> u64 {
        let counter = if replayed { &self.replays } else { &self.calls };
        counter.fetch_add(1, Ordering::AcqRel)
    }

    /// The number of the next message to or from a rank.
    pub fn next_message(&self, peer: usize, direction: Direction, replayed: bool) -> u64 {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let number = pairs.entry((peer, direction, replayed)).or_insert(0);
        *number += 1;
        *number - 1
    }

    /// The group of a part of this communicator: equal on all of its ranks, and new for each part.
    pub fn part(&self, id: u64, ranks: &[u32]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.group, id, ranks).hash(&mut hasher);
        let part = hasher.finish();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let times = parts.entry(part).or_insert(0);
        *times += 1;
        part.wrapping_add(*times).max(1)
    }

    /// A collective is queued as long as what is given here lives.
    pub fn queue(&self) -> Queued {
        self.queued.fetch_add(1, Ordering::AcqRel);
        Queued(Arc::clone(&self.queued))
    }

    pub fn queued(&self) -> u32 {
        self.queued.load(Ordering::Acquire)
    }

    /// Waits until no collective is queued, at most for a while.
    pub fn drain(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        while self.queued() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Tells the peers that this side is done.
    pub fn close(&self) {
        self.link.close_group(self.group);
    }
}

/// Counts a queued collective.
pub(crate) struct Queued(Arc<AtomicU32>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Forgets all communicators.
pub(crate) fn clear() {
    for (_, communicator, _) in COMMUNICATORS.living() {
        communicator.close();
    }
    COMMUNICATORS.clear();
}
