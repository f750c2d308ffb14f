//! Graph capture: tasks recorded instead of run, and graphs that replay them.
//!
//! Knows nodes in the order of their submission (which is an order that respects all dependencies); it must not know what they compute.

use crate::callback::Callback;
use crate::external::Arm;
use crate::failure::{Failure, code};
use crate::ledger::Site;
use crate::memory::{Block, Hold};
use crate::registry::{Kind, Registry};
use crate::stream::{Body, Stream, Task, run_body};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

/// All graphs.
pub(crate) static GRAPHS: Registry<Graph> = Registry::new(Kind::Graph, code::INVALID_PARAM);
/// All task groups.
pub(crate) static GROUPS: Registry<Group> = Registry::new(Kind::TaskGroup, code::INVALID_PARAM);

pub(crate) fn clear() {
    GRAPHS.clear();
    GROUPS.clear();
}

/// One recorded task; its content can be exchanged by a task update.
pub(crate) struct Node {
    /// The stream that recorded it.
    pub stream: usize,
    /// Wanted off by `aclmdlRITaskDisable`, and off since `aclmdlRIUpdate`.
    pub off: (AtomicBool, AtomicBool),
    arm: Option<Arm>,
    content: Mutex<(Site, Body, Vec<Arc<Block>>)>,
}

impl Node {
    fn content(&self) -> MutexGuard<'_, (Site, Body, Vec<Arc<Block>>)> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that queued it.
    pub fn site(&self) -> Site {
        self.content().0
    }

    /// What is wrong where the node uses memory that was freed.
    fn stale(&self) -> Option<String> {
        let content = self.content();
        let block = content.2.iter().find(|block| block.is_freed())?;
        Some(format!(
            "a replayed graph's {} uses {:#x} made by {}, which {} freed",
            content.0,
            block.start,
            block.made_by,
            block.freed_by()
        ))
    }
}

struct Side {
    stream: Weak<Stream>,
    /// The node number after this side's last task.
    last: usize,
    /// The node number up to which another stream of the capture has waited for this side.
    joined: Option<usize>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Arc<Node>>,
    sides: HashMap<usize, Side>,
    broken: Option<String>,
    group_start: Option<usize>,
}

/// A capture that is going on.
pub(crate) struct Capture {
    pub origin: usize,
    pub mode: u32,
    /// The handle that the graph will have.
    pub graph: usize,
    pub thread: ThreadId,
    state: Mutex<State>,
}

/// A recorded graph.
pub(crate) struct Graph {
    pub nodes: Vec<Arc<Node>>,
    pub running: AtomicUsize,
    pub number: u32,
    pub name: Mutex<String>,
    /// The streams that recorded it.
    pub streams: Vec<usize>,
    /// How often runs were called off.
    pub aborts: AtomicU32,
    /// Functions that are called when the graph is destroyed.
    pub farewells: Mutex<Vec<Callback>>,
}

/// A group of nodes for later update.
pub(crate) struct Group {
    nodes: Vec<Arc<Node>>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Capture {
    pub fn new(origin: usize, mode: u32) -> Arc<Capture> {
        Arc::new(Capture {
            origin,
            mode,
            graph: GRAPHS.reserve(),
            thread: std::thread::current().id(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes recorded so far.
    pub fn count(&self) -> usize {
        self.lock().nodes.len()
    }

    /// Records a task of a stream of this capture.
    pub fn push(&self, stream: usize, task: Task) -> Result<(), Failure> {
        let mut state = self.lock();
        let blocks = task
            .holds
            .iter()
            .map(|hold| Arc::clone(&hold.block))
            .collect();
        state.nodes.push(Arc::new(Node {
            stream,
            off: (AtomicBool::new(false), AtomicBool::new(false)),
            arm: task.arm,
            content: Mutex::new((task.site, task.body, blocks)),
        }));
        let count = state.nodes.len();
        if let Some(side) = state.sides.get_mut(&stream) {
            side.last = count;
        }
        Ok(())
    }

    /// A stream waits for an event that `from` recorded in this capture after `nodes` nodes.
    pub fn join(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        from: usize,
        nodes: usize,
    ) -> Result<(), Failure> {
        match stream.capture() {
            Some(other) if !Arc::ptr_eq(&other, self) => {
                self.break_off("two captures meet");
                return Err(Failure::new(
                    code::RT_STREAM_CAPTURE_CONFLICT,
                    "two captures meet at an event",
                ));
            }
            Some(_) => {}
            None if stream.is_default => {
                return Err(Failure::new(
                    code::RT_STREAM_CAPTURE_IMPLICIT,
                    "the default stream waits for an event of a capture",
                ));
            }
            None => {
                stream.set_capture(Some(Arc::clone(self)));
                let mut state = self.lock();
                let count = state.nodes.len();
                state.sides.insert(
                    stream.handle,
                    Side {
                        stream: Arc::downgrade(stream),
                        last: count,
                        joined: None,
                    },
                );
            }
        }
        let mut state = self.lock();
        if let Some(side) = state.sides.get_mut(&from) {
            side.joined = side.joined.max(Some(nodes));
        }
        Ok(())
    }

    /// An illegal call broke the capture.
    pub fn break_off(&self, why: &str) {
        self.lock().broken.get_or_insert_with(|| why.to_string());
    }

    pub fn is_broken(&self) -> bool {
        self.lock().broken.is_some()
    }

    /// Ends the capture: all its streams are free again.
    pub fn end(&self, origin: &Stream) -> Result<Graph, Failure> {
        origin.set_capture(None);
        let mut state = self.lock();
        let mut unjoined = false;
        for side in state.sides.values() {
            unjoined |= side.joined.is_none_or(|joined| joined < side.last);
            if let Some(stream) = side.stream.upgrade() {
                stream.set_capture(None);
            }
        }
        if let Some(why) = state.broken.take() {
            return Err(Failure::new(
                code::RT_CAPTURE_INVALIDATED,
                format!("the capture was broken: {why}"),
            ));
        }
        if unjoined {
            return Err(Failure::new(
                code::RT_STREAM_UNJOINED,
                "a stream of the capture was not joined before its end",
            ));
        }
        let mut streams: Vec<usize> = state.sides.keys().copied().collect();
        streams.sort_unstable();
        streams.insert(0, origin.handle);
        Ok(Graph::new(std::mem::take(&mut state.nodes), streams))
    }

    /// A stream records for a graph that is built by hand.
    pub fn bind(self: &Arc<Self>, stream: &Arc<Stream>) {
        stream.set_capture(Some(Arc::clone(self)));
        let side = Side {
            stream: Arc::downgrade(stream),
            last: 0,
            joined: None,
        };
        self.lock().sides.insert(stream.handle, side);
    }

    /// Ends building by hand; streams need not have joined.
    pub fn finish(&self) -> Graph {
        let mut state = self.lock();
        for side in state.sides.values() {
            if let Some(stream) = side.stream.upgrade() {
                stream.set_capture(None);
            }
        }
        let mut streams: Vec<usize> = state.sides.keys().copied().collect();
        streams.sort_unstable();
        Graph::new(std::mem::take(&mut state.nodes), streams)
    }

    pub fn begin_group(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.group_start.is_some() {
            return Err(Failure::new(
                code::RT_STREAM_TASK_GROUP_STATUS,
                "a task group is open already",
            ));
        }
        state.group_start = Some(state.nodes.len());
        Ok(())
    }

    pub fn end_group(&self) -> Result<Group, Failure> {
        let mut state = self.lock();
        let start = state.group_start.take().ok_or_else(|| {
            Failure::new(code::RT_STREAM_TASK_GROUP_STATUS, "no task group is open")
        })?;
        Ok(Group {
            nodes: state.nodes.get(start..).unwrap_or_default().to_vec(),
        })
    }

    /// The tasks recorded so far replace those of a group, one for one.
    pub fn replace(&self, group: &Group) -> Result<(), Failure> {
        let state = self.lock();
        let names = |nodes: &[Arc<Node>]| -> Vec<&'static str> {
            nodes.iter().map(|node| node.content().0.name).collect()
        };
        let (old, new) = (names(&group.nodes), names(&state.nodes));
        if old != new {
            return Err(Failure::new(
                code::RT_MODEL_UPDATE_FAILED,
                format!("a task update launches {new:?}, wanted {old:?}"),
            ));
        }
        for (target, source) in group.nodes.iter().zip(&state.nodes) {
            let source = source.content();
            *target.content() = (source.0, Arc::clone(&source.1), source.2.clone());
        }
        Ok(())
    }
}

impl Graph {
    fn new(nodes: Vec<Arc<Node>>, streams: Vec<usize>) -> Graph {
        Graph {
            nodes,
            running: AtomicUsize::new(0),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            name: Mutex::default(),
            streams,
            aborts: AtomicU32::new(0),
            farewells: Mutex::default(),
        }
    }

    /// Queues one run of the graph.
    pub fn execute(self: &Arc<Self>, stream: &Arc<Stream>) -> Result<(), Failure> {
        if let Some(stale) = self.nodes.iter().find_map(|node| node.stale()) {
            return Err(crate::guard::violation(code::RT_PARAM_INVALID, stale));
        }
        let graph = Arc::clone(self);
        self.running.fetch_add(1, Ordering::AcqRel);
        let mut task = Task::new(move || {
            let outcome = graph.run();
            graph.running.fetch_sub(1, Ordering::AcqRel);
            outcome
        });
        task.steal = false;
        let blocks: Vec<Arc<Block>> = self
            .nodes
            .iter()
            .flat_map(|node| node.content().2.clone())
            .collect();
        task.holds = blocks.iter().map(Hold::new).collect();
        for arm in self.nodes.iter().filter_map(|node| node.arm.as_ref()) {
            arm(stream);
        }
        stream.submit(task).inspect_err(|_| {
            self.running.fetch_sub(1, Ordering::AcqRel);
        })
    }

    fn run(&self) -> Result<(), Failure> {
        let aborts = self.aborts.load(Ordering::Acquire);
        for node in &self.nodes {
            if self.aborts.load(Ordering::Acquire) != aborts {
                return Err(Failure::new(
                    code::RT_TASK_ABORT_STOP,
                    "the run of the graph was called off",
                ));
            }
            if node.off.1.load(Ordering::Acquire) {
                continue;
            }
            if let Some(stale) = node.stale() {
                return Err(Failure::exception(stale));
            }
            let (site, body) = {
                let content = node.content();
                (content.0, Arc::clone(&content.1))
            };
            run_body(&body, site)?;
        }
        Ok(())
    }
}
