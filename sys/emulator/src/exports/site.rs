//! Where a collective runs: the communicator, the stream, and the device memory that it reads and writes.
//!
//! Knows how a call's pointers and counts become checked buffers and a task; it must not know any collective.

use super::communicator::{find, not_null};
use crate::failure::Failure;
use crate::guard::violation;
use crate::hccl::collective::{Message, Post, Turn};
use crate::hccl::kind::{Dtype, Reduction};
use crate::hccl::result::{PARA, SUSPENDING, Trouble, wrong};
use crate::hccl::{Communicator, Direction};
use crate::memory::{self, Block, Missing, Place};
use crate::state::{context, world};
use crate::stream::{Stream, Task};
use ascend_sys::*;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Device memory that a collective reads or writes.
#[derive(Clone)]
pub(super) struct Buffer {
    pub(super) address: usize,
    pub(super) data: usize,
    pub(super) bytes: usize,
    pub(super) block: Option<Arc<Block>>,
}

impl Buffer {
    /// The bytes as they are now; for tasks that run.
    pub(super) fn read(&self) -> &[u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: the range lies in a block that the task holds; other tasks that write it meanwhile are the caller's race.
        unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.data), self.bytes)
        }
    }

    /// The bytes of each part, by offset and length.
    pub(super) fn parts(&self, places: &[(usize, usize)]) -> Vec<&[u8]> {
        let all = self.read();
        places
            .iter()
            .map(|&(from, length)| all.get(from..from + length).unwrap_or_default())
            .collect()
    }

    pub(super) fn write(&self, from: usize, bytes: &[u8]) {
        let count = bytes.len().min(self.bytes.saturating_sub(from));
        let source = bytes.as_ptr().expose_provenance();
        // SAFETY: the target's range lies in a block that the task holds, the source is a slice.
        unsafe { memory::copy(self.data + from, source, count) };
    }
}

/// Where and with what a collective runs.
pub(super) struct Site {
    pub(super) communicator: Arc<Communicator>,
    pub(super) stream: Arc<Stream>,
    pub(super) dtype: Dtype,
}

impl Site {
    pub(super) fn find(
        comm: HcclComm,
        stream: aclrtStream,
        dtype: HcclDataType,
    ) -> Result<Site, Failure> {
        let communicator = find(comm)?;
        not_null(stream, "stream")?;
        let context = context()?;
        let stream = super::stream::resolve(&context, stream)?;
        if context.device.id != communicator.device {
            return Err(wrong(format!(
                "the stream is of device {}, the communicator of device {}",
                context.device.id, communicator.device
            )));
        }
        if communicator.suspended.load(Ordering::Acquire) {
            return Err(Failure::new(SUSPENDING, "the communicator is suspended"));
        }
        let trouble = communicator
            .link
            .trouble(communicator.group, &communicator.members);
        if let Some(trouble) = trouble {
            return Err(Failure::new(
                trouble.result,
                format!(
                    "communicator {} is broken: {}",
                    communicator.name, trouble.text
                ),
            ));
        }
        let dtype = Dtype::read(dtype, world()?.family)?;
        Ok(Site {
            communicator,
            stream,
            dtype,
        })
    }

    pub(super) fn reduction(&self, op: HcclReduceOp) -> Result<Reduction, Failure> {
        let reduction = Reduction::read(op)?;
        self.dtype.check_reduction(reduction, world()?.family)?;
        Ok(reduction)
    }

    pub(super) fn rank(&self, rank: u32, what: &str) -> Result<usize, Failure> {
        let ranks = self.communicator.ranks();
        if rank as usize >= ranks {
            return Err(wrong(format!("{what} is {rank}, wanted a rank of {ranks}")));
        }
        Ok(rank as usize)
    }

    /// Finds the device memory of `elements` elements.
    pub(super) fn buffer(
        &self,
        pointer: *const c_void,
        elements: u64,
        what: &str,
    ) -> Result<Buffer, Failure> {
        self.typed_buffer(pointer, elements, self.dtype, what)
    }

    pub(super) fn typed_buffer(
        &self,
        pointer: *const c_void,
        elements: u64,
        dtype: Dtype,
        what: &str,
    ) -> Result<Buffer, Failure> {
        let bytes = dtype.bytes(elements, what)?;
        let address = pointer.addr();
        if bytes == 0 {
            return Ok(Buffer {
                address,
                data: 0,
                bytes,
                block: None,
            });
        }
        not_null(pointer, what)?;
        let refuse = |why: String| violation(PARA, format!("{what}: {why}"));
        if !address.is_multiple_of(dtype.size()) {
            return Err(refuse(format!(
                "{address:#x} is not aligned to {} bytes",
                dtype.size()
            )));
        }
        match memory::find(pointer.expose_provenance(), bytes) {
            Ok(block) if block.place == Place::Device(self.communicator.device) => Ok(Buffer {
                address,
                data: address - block.start + block.data,
                bytes,
                block: Some(block),
            }),
            Ok(block) => Err(refuse(format!(
                "{address:#x} is {:?} memory, wanted memory of device {}",
                block.place, self.communicator.device
            ))),
            Err(Missing::Host) => Err(refuse(format!(
                "{address:#x} is host memory, wanted device memory"
            ))),
            Err(Missing::Stale(text) | Missing::Overrun(text)) => Err(refuse(text)),
        }
    }

    /// Reads an array of counts or displacements, one for each rank.
    pub(super) fn array(
        &self,
        pointer: *const c_void,
        length: usize,
        what: &str,
    ) -> Result<Vec<u64>, Failure> {
        not_null(pointer, what)?;
        // SAFETY: not null; the C contract asks for as many numbers.
        let numbers = unsafe { std::slice::from_raw_parts(pointer.cast::<u64>(), length) };
        Ok(numbers.to_vec())
    }

    /// Offsets and lengths in bytes of parts given in elements, and the elements up to the farthest end.
    pub(super) fn parts(
        &self,
        counts: &[u64],
        starts: &[u64],
    ) -> Result<(Vec<(usize, usize)>, u64), Failure> {
        let mut places = Vec::with_capacity(counts.len());
        let mut end = 0;
        for (&count, &start) in counts.iter().zip(starts) {
            let last = start
                .checked_add(count)
                .ok_or_else(|| wrong(format!("a part of {count} elements begins at {start}")))?;
            let bytes = |elements: u64| self.dtype.bytes(elements, "a count");
            places.push((bytes(start)?, bytes(count)?));
            bytes(last)?;
            end = end.max(if count == 0 { 0 } else { last });
        }
        Ok((places, end))
    }

    /// Parts of equal size, one after the other.
    pub(super) fn equal_parts(&self, count: u64) -> Result<(Vec<(usize, usize)>, u64), Failure> {
        let ranks = self.communicator.ranks() as u64;
        let too_many = || wrong(format!("count is {count}, more than memory can hold"));
        count.checked_mul(ranks).ok_or_else(too_many)?;
        let starts: Vec<u64> = (0..ranks).map(|rank| rank * count).collect();
        self.parts(&vec![count; starts.len()], &starts)
    }

    pub(super) fn say(&self, name: &str, count: u64) -> String {
        format!("{name} of {count} {}", self.dtype.name())
    }

    /// Queues a collective.
    pub(super) fn launch(
        self,
        buffers: &[&Buffer],
        call: String,
        mut run: impl FnMut(&Turn) -> Result<(), Trouble> + Send + 'static,
    ) -> Result<(), Failure> {
        let communicator = self.communicator;
        let live = self.stream.capture().is_none();
        let number = live.then(|| communicator.next_turn(false));
        let mut queued = live.then(|| communicator.queue());
        let stream = live.then(|| Arc::downgrade(&self.stream));
        let body = move || {
            let turn = Turn::new(&communicator, number, &call, stream.clone());
            let outcome = turn.finish(run(&turn));
            drop(queued.take());
            outcome.map_err(Trouble::into_failure)
        };
        submit(&self.stream, buffers, body)
    }

    /// Queues messages; `buffers[i]` belongs to `messages[i]`.
    pub(super) fn post(
        self,
        name: &'static str,
        mut messages: Vec<Message>,
        buffers: Vec<Buffer>,
    ) -> Result<(), Failure> {
        let communicator = self.communicator;
        let live = self.stream.capture().is_none();
        for message in &mut messages {
            let next = || communicator.next_message(message.peer, message.direction, false);
            message.number = live.then(next);
        }
        let mut queued = live.then(|| communicator.queue());
        let stream = live.then(|| Arc::downgrade(&self.stream));
        let own = buffers.clone();
        let body = move || {
            let post = Post::new(&communicator, name, &messages, stream.clone());
            let outcome = post.run(
                |index| own[index].read(),
                |index, bytes| own[index].write(0, bytes),
            );
            let outcome = post.finish(outcome);
            drop(queued.take());
            outcome.map_err(Trouble::into_failure)
        };
        submit(&self.stream, &buffers.iter().collect::<Vec<_>>(), body)
    }

    pub(super) fn message(
        &self,
        peer: u32,
        direction: Direction,
        count: u64,
        dtype: Dtype,
    ) -> Result<Message, Failure> {
        let peer = self.rank(peer, "the other rank")?;
        if peer == self.communicator.rank {
            return Err(wrong(format!(
                "rank {peer} sends to itself or receives from itself"
            )));
        }
        Ok(Message {
            peer,
            direction,
            number: None,
            bytes: dtype.bytes(count, "count")?,
            text: format!("{count} {}", dtype.name()),
        })
    }
}

/// Queues a body that waits for other ranks: only the stream's own thread runs it.
fn submit(
    stream: &Arc<Stream>,
    buffers: &[&Buffer],
    body: impl FnMut() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let blocks: Vec<Arc<Block>> = buffers
        .iter()
        .filter_map(|buffer| buffer.block.clone())
        .collect();
    let mut task = Task::new(body).holding(&blocks);
    task.steal = false;
    stream.submit(task)
}

/// Refuses an output that lies partly on the input: they may be the same, or the smaller one this rank's part of the larger.
pub(super) fn check_overlap(send: &Buffer, receive: &Buffer, rank: usize) -> Result<(), Failure> {
    let (small, large) = if send.bytes <= receive.bytes {
        (send, receive)
    } else {
        (receive, send)
    };
    let apart = small.address + small.bytes <= large.address
        || large.address + large.bytes <= small.address;
    let own_part = small.address == large.address + rank * small.bytes;
    if apart
        || small.bytes == 0
        || own_part
        || small.address == large.address && small.bytes == large.bytes
    {
        return Ok(());
    }
    Err(violation(
        PARA,
        format!(
            "sendBuf {:#x} of {} bytes and recvBuf {:#x} of {} bytes overlap",
            send.address, send.bytes, receive.address, receive.bytes
        ),
    ))
}
