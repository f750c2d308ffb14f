//! The sockets between ranks: one for each pair, a thread for each socket, and the inbox in which frames wait for their turn.
//!
//! Knows frames and who is gone; it must not know what a collective computes.

use super::result::{REMOTE, Trouble};
use super::wire::{self, Frame, Key, Space};
use crate::stream::Stream;
use std::collections::{HashMap, HashSet};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The longest that a rank may refuse to take bytes.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// How long a task waits, and for whom it stops waiting.
pub(crate) struct Watch {
    pub deadline: Option<Instant>,
    pub patience: Option<Duration>,
    /// The stream whose task waits; a task of an aborted stream gives up.
    pub stream: Option<Weak<Stream>>,
    /// What the task does, for texts.
    pub what: String,
}

impl Watch {
    pub fn new(patience: Option<Duration>, stream: Option<Weak<Stream>>, what: String) -> Watch {
        Watch {
            deadline: patience.and_then(|patience| Instant::now().checked_add(patience)),
            patience,
            stream,
            what,
        }
    }

    fn is_aborted(&self) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        stream.upgrade().is_none_or(|stream| stream.is_aborted())
    }
}

#[derive(Default)]
struct Inbox {
    frames: HashMap<(usize, Key), Frame>,
    /// Ranks whose socket ended, with the reason.
    ended: HashMap<usize, String>,
    /// Ranks that are done with a group.
    gone: HashSet<(usize, u64)>,
    /// Groups that broke.
    broken: HashMap<u64, Trouble>,
    open_groups: u32,
}

/// A rank's sockets.
pub(crate) struct Link {
    pub rank: usize,
    pub ranks: usize,
    sockets: Vec<Option<Mutex<TcpStream>>>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

impl Link {
    /// Takes over connected sockets, one for each rank but the own.
    pub fn start(rank: usize, sockets: Vec<Option<TcpStream>>) -> std::io::Result<Arc<Link>> {
        let mut readers = Vec::new();
        for (peer, socket) in sockets.iter().enumerate() {
            if let Some(socket) = socket {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(None)?;
                socket.set_write_timeout(Some(WRITE_PATIENCE))?;
                readers.push((peer, socket.try_clone()?));
            }
        }
        let link = Arc::new(Link {
            rank,
            ranks: sockets.len(),
            sockets: sockets
                .into_iter()
                .map(|socket| socket.map(Mutex::new))
                .collect(),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        });
        for (peer, socket) in readers {
            let link = Arc::clone(&link);
            std::thread::Builder::new()
                .name(String::from("ascend-hccl"))
                .spawn(move || link.listen(peer, socket))?;
        }
        Ok(link)
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader's thread: every frame of one rank goes into the inbox.
    fn listen(&self, peer: usize, mut socket: TcpStream) {
        let end = loop {
            match wire::read(&mut socket) {
                Ok(Some(frame)) => self.arrive(peer, frame),
                Ok(None) => break String::from("its process ended or its device was reset"),
                Err(error) => break format!("its connection broke: {error}"),
            }
        };
        self.lock().ended.insert(peer, end);
        self.arrived.notify_all();
    }

    fn arrive(&self, peer: usize, frame: Frame) {
        let mut inbox = self.lock();
        let group = frame.key.group;
        match frame.key.space {
            Space::Goodbye => {
                inbox.gone.insert((peer, group));
            }
            Space::Broken => {
                inbox.broken.entry(group).or_insert(Trouble {
                    code: frame.key.tag as i32,
                    result: frame.key.phase as i32,
                    text: format!("reported by rank {peer}: {}", frame.text),
                });
            }
            _ => {
                inbox.frames.insert((peer, frame.key), frame);
            }
        }
        drop(inbox);
        self.arrived.notify_all();
    }

    /// Sends a frame to a rank.
    pub fn send(&self, peer: usize, key: &Key, text: &str, data: &[u8]) -> Result<(), Trouble> {
        let Some(Some(socket)) = self.sockets.get(peer) else {
            return Err(Trouble::remote(format!("rank {peer} does not exist")));
        };
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write(&mut socket, key, text, data).map_err(|error| {
            let end = self.lock().ended.get(&peer).cloned();
            let why = end.unwrap_or_else(|| error.to_string());
            Trouble::remote(format!("rank {peer} is gone: {why}"))
        })
    }

    /// Waits for a frame of a rank.
    pub fn take(&self, peer: usize, key: Key, watch: &Watch) -> Result<Frame, Trouble> {
        let mut inbox = self.lock();
        loop {
            if let Some(frame) = inbox.frames.remove(&(peer, key)) {
                return Ok(frame);
            }
            if let Some(trouble) = inbox.broken.get(&key.group) {
                return Err(trouble.clone());
            }
            if inbox.gone.contains(&(peer, key.group)) {
                return Err(Trouble::remote(format!(
                    "{}: rank {peer} destroyed its communicator before it took part",
                    watch.what
                )));
            }
            if let Some(why) = inbox.ended.get(&peer) {
                return Err(Trouble::remote(format!(
                    "{}: rank {peer} is gone: {why}",
                    watch.what
                )));
            }
            if watch.is_aborted() {
                return Err(Trouble::aborted());
            }
            if watch
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Err(Trouble::timeout(format!(
                    "{}: rank {peer} did not come within {:?}{}",
                    watch.what,
                    watch.patience.unwrap_or_default(),
                    Link::others(&inbox, peer, key.group)
                )));
            }
            inbox = self
                .arrived
                .wait_timeout(inbox, Duration::from_millis(20))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// What a rank sent meanwhile that nobody waits for: what it does instead.
    fn others(inbox: &Inbox, peer: usize, group: u64) -> String {
        let other = inbox.frames.iter().find(|((from, key), frame)| {
            *from == peer && key.group == group && !frame.text.is_empty()
        });
        other.map_or_else(String::new, |(_, frame)| {
            format!("; it called {} meanwhile", frame.text)
        })
    }

    /// Refuses to begin anything in a group that broke.
    pub fn check(&self, group: u64) -> Result<(), Trouble> {
        match self.lock().broken.get(&group) {
            Some(trouble) => Err(trouble.clone()),
            None => Ok(()),
        }
    }

    /// Marks a group as broken and tells all ranks why, so that they do not wait for it.
    pub fn break_group(&self, group: u64, peers: &[usize], trouble: &Trouble) {
        let first = {
            let mut inbox = self.lock();
            let first = !inbox.broken.contains_key(&group);
            inbox.broken.entry(group).or_insert_with(|| trouble.clone());
            first
        };
        self.arrived.notify_all();
        if !first {
            return;
        }
        let key = Key {
            group,
            space: Space::Broken,
            tag: trouble.code as u32 as u64,
            phase: trouble.result as u32,
        };
        for &peer in peers.iter().filter(|&&peer| peer != self.rank) {
            let _ = self.send(peer, &key, &trouble.text, &[]);
        }
    }

    /// The asynchronous error of a group: why it broke, or a rank that ended without a goodbye.
    pub fn trouble(&self, group: u64, members: &[usize]) -> Option<Trouble> {
        let inbox = self.lock();
        if let Some(trouble) = inbox.broken.get(&group) {
            return Some(trouble.clone());
        }
        let lost = members.iter().find(|&&peer| {
            inbox.ended.contains_key(&peer) && !inbox.gone.contains(&(peer, group))
        })?;
        Some(Trouble {
            result: REMOTE,
            ..Trouble::remote(format!("rank {lost} is gone: {}", inbox.ended.get(lost)?))
        })
    }

    /// A communicator more uses the sockets.
    pub fn open_group(&self) {
        self.lock().open_groups += 1;
    }

    /// A communicator less uses the sockets; the last one closes them.
    pub fn close_group(&self, group: u64) {
        let key = Key {
            group,
            space: Space::Goodbye,
            tag: 0,
            phase: 0,
        };
        for peer in 0..self.ranks {
            if peer != self.rank {
                let _ = self.send(peer, &key, "", &[]);
            }
        }
        let mut inbox = self.lock();
        inbox.open_groups = inbox.open_groups.saturating_sub(1);
        if inbox.open_groups > 0 {
            return;
        }
        drop(inbox);
        for socket in self.sockets.iter().flatten() {
            let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}
