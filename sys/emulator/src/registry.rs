//! Handles: numbers that are never reused, so that a stale or foreign one is always recognised and none is ever dereferenced.
//!
//! Knows kinds and numbers; it must not know what the objects are.

use crate::failure::{Failure, code};
use crate::guard;
use crate::ledger::Site;
use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a handle is a handle of. The number is part of each handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Context = 0x21,
    Stream,
    Event,
    Graph,
    TaskGroup,
    Tensor,
    Scalar,
    IntArray,
    FloatArray,
    BoolArray,
    TensorList,
    ScalarList,
    Executor,
    Physical,
    Plain,
    Communicator,
    Description,
    Buffer,
    Attributes,
    Notify,
    StreamOptions,
    Pool,
    Allocator,
    Operator,
    Dataset,
    TensorItem,
    TensorDataset,
    Channel,
    GraphStream,
    GraphTask,
}

const KINDS: [(Kind, &str); 30] = [
    (Kind::Context, "context"),
    (Kind::Stream, "stream"),
    (Kind::Event, "event"),
    (Kind::Graph, "graph"),
    (Kind::TaskGroup, "task group"),
    (Kind::Tensor, "tensor"),
    (Kind::Scalar, "scalar"),
    (Kind::IntArray, "integer array"),
    (Kind::FloatArray, "float array"),
    (Kind::BoolArray, "bool array"),
    (Kind::TensorList, "tensor list"),
    (Kind::ScalarList, "scalar list"),
    (Kind::Executor, "executor"),
    (Kind::Physical, "physical memory"),
    (Kind::Plain, "configuration"),
    (Kind::Communicator, "communicator"),
    (Kind::Description, "tensor description"),
    (Kind::Buffer, "data buffer"),
    (Kind::Attributes, "attribute list"),
    (Kind::Notify, "notify"),
    (Kind::StreamOptions, "stream configuration"),
    (Kind::Pool, "memory pool"),
    (Kind::Allocator, "allocator description"),
    (Kind::Operator, "operator"),
    (Kind::Dataset, "dataset"),
    (Kind::TensorItem, "tensor item"),
    (Kind::TensorDataset, "tensor dataset"),
    (Kind::Channel, "channel"),
    (Kind::GraphStream, "stream of a graph"),
    (Kind::GraphTask, "task of a graph"),
];

impl Kind {
    fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|entry| entry.0 == self)
            .map_or("object", |entry| entry.1)
    }
}

/// Keys are already well spread counters: one multiplication is hash enough.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

struct Entry<T> {
    value: Arc<T>,
    made_by: Site,
}

type Map<T> = HashMap<usize, Entry<T>, BuildHasherDefault<NumberHasher>>;

/// The living objects of one kind.
pub(crate) struct Registry<T> {
    kind: Kind,
    stale: i32,
    next: AtomicU64,
    map: Mutex<Option<Map<T>>>,
}

impl<T> Registry<T> {
    /// `stale` is the code for handles that are not alive.
    pub const fn new(kind: Kind, stale: i32) -> Registry<T> {
        Registry {
            kind,
            stale,
            next: AtomicU64::new(1),
            map: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Map<T>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for an object that is being made.
    pub fn reserve(&self) -> usize {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        ((self.kind as usize) << 40) | ((count as usize) << 4)
    }

    pub fn insert_at(&self, handle: usize, value: Arc<T>) {
        let entry = Entry {
            value,
            made_by: guard::current(),
        };
        self.lock().get_or_insert_default().insert(handle, entry);
    }

    pub fn insert(&self, value: T) -> *mut c_void {
        let handle = self.reserve();
        self.insert_at(handle, Arc::new(value));
        std::ptr::without_provenance_mut(handle)
    }

    pub fn get<P>(&self, handle: *const P) -> Result<Arc<T>, Failure> {
        let number = handle.addr();
        if let Some(entry) = self.lock().as_ref().and_then(|map| map.get(&number)) {
            return Ok(Arc::clone(&entry.value));
        }
        Err(self.explain(number))
    }

    pub fn remove<P>(&self, handle: *const P) -> Result<Arc<T>, Failure> {
        let number = handle.addr();
        if let Some(entry) = self.lock().as_mut().and_then(|map| map.remove(&number)) {
            return Ok(entry.value);
        }
        Err(self.explain(number))
    }

    /// The object if it is alive. Says nothing if it is not.
    pub fn peek<P>(&self, handle: *const P) -> Option<Arc<T>> {
        let map = self.lock();
        let entry = map.as_ref()?.get(&handle.addr())?;
        Some(Arc::clone(&entry.value))
    }

    /// Takes an object out if it is alive. Says nothing if it is not: for the emulator's own tidying.
    pub fn take<P>(&self, handle: *const P) -> Option<Arc<T>> {
        let entry = self.lock().as_mut()?.remove(&handle.addr());
        entry.map(|entry| entry.value)
    }

    /// Why a handle names nothing.
    fn explain(&self, number: usize) -> Failure {
        let wanted = self.kind.name();
        if number == 0 {
            let code = if self.stale / 1000 == 561 || self.stale / 1000 == 161 {
                code::ACLNN_PARAM_NULLPTR
            } else {
                code::INVALID_PARAM
            };
            return Failure::new(code, format!("{wanted} handle is null"));
        }
        let kind = KINDS.iter().find(|entry| entry.0 as usize == number >> 40);
        let text = match kind {
            Some((kind, _)) if *kind == self.kind => {
                let known = (number & 0xff_ffff_ffff) >> 4;
                if known < self.next.load(Ordering::Relaxed) as usize {
                    format!("{wanted} {number:#x} was destroyed or used up before")
                } else {
                    format!("{number:#x} was never a {wanted}")
                }
            }
            Some((_, name)) => format!("{number:#x} is a {name}, wanted a {wanted}"),
            None => format!("{number:#x} is no handle, wanted a {wanted}"),
        };
        guard::violation(self.stale, text)
    }

    /// How many live.
    pub fn count(&self) -> usize {
        self.lock().as_ref().map_or(0, Map::<T>::len)
    }

    /// All living objects with the calls that made them.
    pub fn living(&self) -> Vec<(usize, Arc<T>, Site)> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .flatten()
            .map(|(&handle, entry)| (handle, Arc::clone(&entry.value), entry.made_by))
            .collect();
        all.sort_by_key(|entry| entry.0);
        all
    }

    pub fn clear(&self) {
        let old = self.lock().take();
        drop(old);
    }

    /// One line per living object.
    pub fn report(&self, lines: &mut Vec<String>) {
        for (handle, _, site) in self.living() {
            lines.push(format!("{} {handle:#x} made by {site}", self.kind.name()));
        }
    }
}
