//! HCCL: the collectives and messages, each a task on a stream.
//!
//! Knows signatures, counts and buffers; it must not know how ranks exchange bytes.

use super::communicator::{find, hccl, not_null};
use crate::failure::Failure;
use crate::guard::violation;
use crate::hccl::collective::{Message, Post, Turn};
use crate::hccl::kind::{Dtype, Reduction};
use crate::hccl::result::{PARA, SUSPENDING, Trouble, unsupported, wrong};
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
struct Buffer {
    address: usize,
    data: usize,
    bytes: usize,
    block: Option<Arc<Block>>,
}

impl Buffer {
    /// The bytes as they are now; for tasks that run.
    fn read(&self) -> &[u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: the range lies in a block that the task holds; other tasks that write it meanwhile are the caller's race.
        unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.data), self.bytes)
        }
    }

    /// The bytes of each part, by offset and length.
    fn parts(&self, places: &[(usize, usize)]) -> Vec<&[u8]> {
        let all = self.read();
        places
            .iter()
            .map(|&(from, length)| all.get(from..from + length).unwrap_or_default())
            .collect()
    }

    fn write(&self, from: usize, bytes: &[u8]) {
        let count = bytes.len().min(self.bytes.saturating_sub(from));
        let source = bytes.as_ptr().expose_provenance();
        // SAFETY: the target's range lies in a block that the task holds, the source is a slice.
        unsafe { memory::copy(self.data + from, source, count) };
    }
}

/// Where and with what a collective runs.
struct Site {
    communicator: Arc<Communicator>,
    stream: Arc<Stream>,
    dtype: Dtype,
}

impl Site {
    fn find(comm: HcclComm, stream: aclrtStream, dtype: HcclDataType) -> Result<Site, Failure> {
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

    fn reduction(&self, op: HcclReduceOp) -> Result<Reduction, Failure> {
        let reduction = Reduction::read(op)?;
        self.dtype.check_reduction(reduction, world()?.family)?;
        Ok(reduction)
    }

    fn rank(&self, rank: u32, what: &str) -> Result<usize, Failure> {
        let ranks = self.communicator.ranks();
        if rank as usize >= ranks {
            return Err(wrong(format!("{what} is {rank}, wanted a rank of {ranks}")));
        }
        Ok(rank as usize)
    }

    /// Finds the device memory of `elements` elements.
    fn buffer(&self, pointer: *const c_void, elements: u64, what: &str) -> Result<Buffer, Failure> {
        self.typed_buffer(pointer, elements, self.dtype, what)
    }

    fn typed_buffer(
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
    fn array(
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
    fn parts(&self, counts: &[u64], starts: &[u64]) -> Result<(Vec<(usize, usize)>, u64), Failure> {
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
    fn equal_parts(&self, count: u64) -> Result<(Vec<(usize, usize)>, u64), Failure> {
        let ranks = self.communicator.ranks() as u64;
        let too_many = || wrong(format!("count is {count}, more than memory can hold"));
        count.checked_mul(ranks).ok_or_else(too_many)?;
        let starts: Vec<u64> = (0..ranks).map(|rank| rank * count).collect();
        self.parts(&vec![count; starts.len()], &starts)
    }

    fn say(&self, name: &str, count: u64) -> String {
        format!("{name} of {count} {}", self.dtype.name())
    }

    /// Queues a collective.
    fn launch(
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
    fn post(
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

    fn message(
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
fn check_overlap(send: &Buffer, receive: &Buffer, rank: usize) -> Result<(), Failure> {
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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAllReduce(
    sendBuf: *mut c_void,
    recvBuf: *mut c_void,
    count: u64,
    dataType: HcclDataType,
    op: HcclReduceOp,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAllReduce", || {
        if count == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let (dtype, reduction) = (place.dtype, place.reduction(op)?);
        let send = place.buffer(sendBuf, count, "sendBuf")?;
        let receive = place.buffer(recvBuf, count, "recvBuf")?;
        check_overlap(&send, &receive, 0)?;
        let call = format!(
            "{}, {}",
            place.say("HcclAllReduce", count),
            reduction.name()
        );
        let (from, to) = (send.clone(), receive.clone());
        place.launch(&[&send, &receive], call, move |turn| {
            to.write(0, &turn.all_reduce(from.read(), dtype, reduction)?);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclReduce(
    sendBuf: *mut c_void,
    recvBuf: *mut c_void,
    count: u64,
    dataType: HcclDataType,
    op: HcclReduceOp,
    root: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclReduce", || {
        if count == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let (dtype, reduction, root) =
            (place.dtype, place.reduction(op)?, place.rank(root, "root")?);
        let send = place.buffer(sendBuf, count, "sendBuf")?;
        let receive = place.buffer(recvBuf, count, "recvBuf")?;
        check_overlap(&send, &receive, 0)?;
        let call = format!(
            "{}, {}, to root {root}",
            place.say("HcclReduce", count),
            reduction.name()
        );
        let (from, to) = (send.clone(), receive.clone());
        place.launch(&[&send, &receive], call, move |turn| {
            if let Some(reduced) = turn.reduce(root, from.read(), dtype, reduction)? {
                to.write(0, &reduced);
            }
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBroadcast(
    buf: *mut c_void,
    count: u64,
    dataType: HcclDataType,
    root: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclBroadcast", || {
        if count == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let root = place.rank(root, "root")?;
        let buffer = place.buffer(buf, count, "buf")?;
        let call = format!("{} from root {root}", place.say("HcclBroadcast", count));
        let (own, ranks) = (buffer.clone(), place.communicator.ranks());
        place.launch(&[&buffer], call, move |turn| {
            own.write(0, &turn.scatter(root, &vec![own.read(); ranks])?);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclScatter(
    sendBuf: *mut c_void,
    recvBuf: *mut c_void,
    recvCount: u64,
    dataType: HcclDataType,
    root: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclScatter", || {
        if recvCount == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let root = place.rank(root, "root")?;
        let (parts, end) = place.equal_parts(recvCount)?;
        let is_root = root == place.communicator.rank;
        let send = place.buffer(sendBuf, if is_root { end } else { 0 }, "sendBuf")?;
        let receive = place.buffer(recvBuf, recvCount, "recvBuf")?;
        check_overlap(&send, &receive, place.communicator.rank)?;
        let call = format!("{} from root {root}", place.say("HcclScatter", recvCount));
        let (from, to) = (send.clone(), receive.clone());
        place.launch(&[&send, &receive], call, move |turn| {
            to.write(0, &turn.scatter(root, &from.parts(&parts))?);
            Ok(())
        })
    })
}

/// Gathers parts of all ranks, which lie in the output where `parts` says.
fn all_gather(
    place: Site,
    send: Buffer,
    receive: Buffer,
    call: String,
    parts: Vec<(usize, usize)>,
) -> Result<(), Failure> {
    let rank = place.communicator.rank;
    let in_place = parts
        .get(rank)
        .is_some_and(|part| send.address == receive.address + part.0);
    if !in_place {
        check_overlap(&send, &receive, rank)?;
    }
    let (from, to) = (send.clone(), receive.clone());
    place.launch(&[&send, &receive], call, move |turn| {
        for (bytes, (start, _)) in turn.all_gather(from.read())?.iter().zip(&parts) {
            to.write(*start, bytes);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAllGather(
    sendBuf: *mut c_void,
    recvBuf: *mut c_void,
    sendCount: u64,
    dataType: HcclDataType,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAllGather", || {
        if sendCount == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let (parts, end) = place.equal_parts(sendCount)?;
        let send = place.buffer(sendBuf, sendCount, "sendBuf")?;
        let receive = place.buffer(recvBuf, end, "recvBuf")?;
        let call = place.say("HcclAllGather", sendCount);
        all_gather(place, send, receive, call, parts)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAllGatherV(
    sendBuf: *mut c_void,
    sendCount: u64,
    recvBuf: *mut c_void,
    recvCounts: *const c_void,
    recvDispls: *const c_void,
    dataType: HcclDataType,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAllGatherV", || {
        let place = Site::find(comm, stream, dataType)?;
        let ranks = place.communicator.ranks();
        let counts = place.array(recvCounts, ranks, "recvCounts")?;
        let starts = place.array(recvDispls, ranks, "recvDispls")?;
        let (parts, end) = place.parts(&counts, &starts)?;
        let own = counts[place.communicator.rank];
        if own != sendCount {
            return Err(wrong(format!(
                "sendCount is {sendCount}, recvCounts say {own} for rank {}",
                place.communicator.rank
            )));
        }
        let send = place.buffer(sendBuf, sendCount, "sendBuf")?;
        let receive = place.buffer(recvBuf, end, "recvBuf")?;
        let call = format!("HcclAllGatherV of {counts:?} {}", place.dtype.name());
        all_gather(place, send, receive, call, parts)
    })
}

/// Reduces parts, which lie in the input where `parts` says, to one rank each.
fn reduce_scatter(
    place: Site,
    send: Buffer,
    receive: Buffer,
    reduction: Reduction,
    call: String,
    parts: Vec<(usize, usize)>,
) -> Result<(), Failure> {
    let (dtype, rank) = (place.dtype, place.communicator.rank);
    let in_place = parts
        .get(rank)
        .is_some_and(|part| receive.address == send.address + part.0);
    if !in_place {
        check_overlap(&send, &receive, rank)?;
    }
    let (from, to) = (send.clone(), receive.clone());
    place.launch(&[&send, &receive], call, move |turn| {
        to.write(
            0,
            &turn.reduce_scatter(&from.parts(&parts), dtype, reduction)?,
        );
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclReduceScatter(
    sendBuf: *mut c_void,
    recvBuf: *mut c_void,
    recvCount: u64,
    dataType: HcclDataType,
    op: HcclReduceOp,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclReduceScatter", || {
        if recvCount == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let reduction = place.reduction(op)?;
        let (parts, end) = place.equal_parts(recvCount)?;
        let send = place.buffer(sendBuf, end, "sendBuf")?;
        let receive = place.buffer(recvBuf, recvCount, "recvBuf")?;
        let call = format!(
            "{}, {}",
            place.say("HcclReduceScatter", recvCount),
            reduction.name()
        );
        reduce_scatter(place, send, receive, reduction, call, parts)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclReduceScatterV(
    sendBuf: *mut c_void,
    sendCounts: *const c_void,
    sendDispls: *const c_void,
    recvBuf: *mut c_void,
    recvCount: u64,
    dataType: HcclDataType,
    op: HcclReduceOp,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclReduceScatterV", || {
        let place = Site::find(comm, stream, dataType)?;
        let reduction = place.reduction(op)?;
        let ranks = place.communicator.ranks();
        let counts = place.array(sendCounts, ranks, "sendCounts")?;
        let starts = place.array(sendDispls, ranks, "sendDispls")?;
        let (parts, end) = place.parts(&counts, &starts)?;
        let own = counts[place.communicator.rank];
        if own != recvCount {
            return Err(wrong(format!(
                "recvCount is {recvCount}, sendCounts say {own} for rank {}",
                place.communicator.rank
            )));
        }
        let send = place.buffer(sendBuf, end, "sendBuf")?;
        let receive = place.buffer(recvBuf, recvCount, "recvBuf")?;
        let call = format!(
            "HcclReduceScatterV of {counts:?} {}, {}",
            place.dtype.name(),
            reduction.name()
        );
        reduce_scatter(place, send, receive, reduction, call, parts)
    })
}

/// Swaps parts of all ranks: where they lie in the input and in the output.
struct AllToAll {
    send: (Vec<(usize, usize)>, u64),
    receive: (Vec<(usize, usize)>, u64),
    call: String,
}

impl AllToAll {
    fn launch(self, place: Site, from: *const c_void, to: *const c_void) -> Result<(), Failure> {
        let send = place.buffer(from, self.send.1, "sendBuf")?;
        let receive = place.buffer(to, self.receive.1, "recvBuf")?;
        if send.bytes > 0 && receive.bytes > 0 && send.address == receive.address {
            return Err(violation(
                PARA,
                "sendBuf and recvBuf are the same, wanted two buffers",
            ));
        }
        check_overlap(&send, &receive, usize::MAX >> 48)?;
        let wanted: Vec<usize> = self.receive.0.iter().map(|part| part.1).collect();
        let (source, target, parts) = (send.clone(), receive.clone(), self.send.0);
        place.launch(&[&send, &receive], self.call, move |turn| {
            let incoming = turn.all_to_all(&source.parts(&parts), &wanted)?;
            for (bytes, (start, _)) in incoming.iter().zip(&self.receive.0) {
                target.write(*start, bytes);
            }
            Ok(())
        })
    }
}

fn same_types(send: HcclDataType, receive: HcclDataType) -> Result<(), Failure> {
    if send != receive {
        return Err(unsupported(format!(
            "sendType is {send}, recvType is {receive}, wanted the same"
        )));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAlltoAll(
    sendBuf: *const c_void,
    sendCount: u64,
    sendType: HcclDataType,
    recvBuf: *const c_void,
    recvCount: u64,
    recvType: HcclDataType,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAlltoAll", || {
        let place = Site::find(comm, stream, sendType)?;
        same_types(sendType, recvType)?;
        if sendCount != recvCount {
            return Err(wrong(format!(
                "sendCount is {sendCount}, recvCount is {recvCount}, wanted the same"
            )));
        }
        if sendCount == 0 {
            return Ok(());
        }
        let swap = AllToAll {
            send: place.equal_parts(sendCount)?,
            receive: place.equal_parts(recvCount)?,
            call: place.say("HcclAlltoAll", sendCount),
        };
        swap.launch(place, sendBuf, recvBuf)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAlltoAllV(
    sendBuf: *const c_void,
    sendCounts: *const c_void,
    sdispls: *const c_void,
    sendType: HcclDataType,
    recvBuf: *const c_void,
    recvCounts: *const c_void,
    rdispls: *const c_void,
    recvType: HcclDataType,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAlltoAllV", || {
        let place = Site::find(comm, stream, sendType)?;
        same_types(sendType, recvType)?;
        let ranks = place.communicator.ranks();
        let read = |pointer, what| place.array(pointer, ranks, what);
        let send = (read(sendCounts, "sendCounts")?, read(sdispls, "sdispls")?);
        let receive = (read(recvCounts, "recvCounts")?, read(rdispls, "rdispls")?);
        let swap = AllToAll {
            send: place.parts(&send.0, &send.1)?,
            receive: place.parts(&receive.0, &receive.1)?,
            call: format!("HcclAlltoAllV of {}", place.dtype.name()),
        };
        swap.launch(place, sendBuf, recvBuf)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAlltoAllVC(
    sendBuf: *const c_void,
    sendCountMatrix: *const c_void,
    sendType: HcclDataType,
    recvBuf: *const c_void,
    recvType: HcclDataType,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclAlltoAllVC", || {
        let place = Site::find(comm, stream, sendType)?;
        same_types(sendType, recvType)?;
        let (ranks, rank) = (place.communicator.ranks(), place.communicator.rank);
        let matrix = place.array(sendCountMatrix, ranks * ranks, "sendCountMatrix")?;
        let sends: Vec<u64> = matrix[rank * ranks..(rank + 1) * ranks].to_vec();
        let receives: Vec<u64> = (0..ranks).map(|from| matrix[from * ranks + rank]).collect();
        let starts = |counts: &[u64]| -> Vec<u64> {
            let ends = counts.iter().scan(0u64, |end, &count| {
                let start = *end;
                *end = end.saturating_add(count);
                Some(start)
            });
            ends.collect()
        };
        let swap = AllToAll {
            send: place.parts(&sends, &starts(&sends))?,
            receive: place.parts(&receives, &starts(&receives))?,
            call: format!("HcclAlltoAllVC of {matrix:?} {}", place.dtype.name()),
        };
        swap.launch(place, sendBuf, recvBuf)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBarrier(comm: HcclComm, stream: aclrtStream) -> HcclResult {
    hccl("HcclBarrier", || {
        let place = Site::find(comm, stream, HCCL_DATA_TYPE_INT8)?;
        place.launch(&[], String::from("HcclBarrier"), Turn::barrier)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclSend(
    sendBuf: *mut c_void,
    count: u64,
    dataType: HcclDataType,
    destRank: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclSend", || {
        if count == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let buffer = place.buffer(sendBuf, count, "sendBuf")?;
        let message = place.message(destRank, Direction::Out, count, place.dtype)?;
        place.post("HcclSend", vec![message], vec![buffer])
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclRecv(
    recvBuf: *mut c_void,
    count: u64,
    dataType: HcclDataType,
    srcRank: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclRecv", || {
        if count == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, dataType)?;
        let buffer = place.buffer(recvBuf, count, "recvBuf")?;
        let message = place.message(srcRank, Direction::In, count, place.dtype)?;
        place.post("HcclRecv", vec![message], vec![buffer])
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBatchSendRecv(
    sendRecvInfo: *mut HcclSendRecvItem,
    itemNum: u32,
    comm: HcclComm,
    stream: aclrtStream,
) -> HcclResult {
    hccl("HcclBatchSendRecv", || {
        if itemNum == 0 {
            return Ok(());
        }
        let place = Site::find(comm, stream, HCCL_DATA_TYPE_INT8)?;
        not_null(sendRecvInfo, "sendRecvInfo")?;
        // SAFETY: not null, valid for `itemNum` reads.
        let items = unsafe { std::slice::from_raw_parts(sendRecvInfo, itemNum as usize) };
        let family = world()?.family;
        let (mut messages, mut buffers) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.count > 0) {
            let direction = match item.sendRecvType {
                HCCL_SEND => Direction::Out,
                HCCL_RECV => Direction::In,
                other => {
                    return Err(wrong(format!(
                        "item {index} has sendRecvType {other}, wanted 0 (send) or 1 (receive)"
                    )));
                }
            };
            let dtype = Dtype::read(item.dataType, family)?;
            let what = format!("buf of item {index}");
            buffers.push(place.typed_buffer(item.buf, item.count, dtype, &what)?);
            messages.push(place.message(item.remoteRank, direction, item.count, dtype)?);
        }
        place.post("HcclBatchSendRecv", messages, buffers)
    })
}
