//! HCCL: the collectives and messages, each a task on a stream.
//!
//! Knows signatures, counts and buffers; it must not know how ranks exchange bytes.

use super::communicator::{hccl, not_null};
use super::group;
use super::site::{Buffer, Site, check_overlap};
use crate::failure::Failure;
use crate::guard::violation;
use crate::hccl::Direction;
use crate::hccl::collective::Turn;
use crate::hccl::kind::{Dtype, Reduction};
use crate::hccl::result::{PARA, unsupported, wrong};
use crate::state::world;
use ascend_sys::*;
use std::ffi::c_void;

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
        group::post(place, "HcclSend", message, buffer)
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
        group::post(place, "HcclRecv", message, buffer)
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
