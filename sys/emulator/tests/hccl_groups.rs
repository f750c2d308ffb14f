//! HCCL between processes: parts of a communicator, rank tables, messages between two ranks, products fused with exchanges.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;
mod ranks;

use ascend_sys as sys;
use common::*;
use ranks::*;
use std::ptr;

const SUM: u32 = sys::HCCL_REDUCE_SUM;
const F32: u32 = sys::HCCL_DATA_TYPE_FP32;

/// Not a test of its own: what a process does that a test started as a rank.
#[test]
fn a_rank() {
    let Some((name, rank)) = scenario() else {
        return;
    };
    match name.as_str() {
        "parts" => parts(&rank),
        "table" => table(&rank),
        "messages" => messages(&rank),
        "group" => group(&rank),
        "products" => products(&rank),
        other => panic!("no scenario {other}"),
    }
}

/// Ranks 0 and 2 make a communicator of their own, twice; the whole goes on meanwhile and after.
fn parts(own: &Rank) {
    let (mut comm, stream) = (own.init(), stream());
    let x = device(&[own.rank as f32 + 1.0]);
    let y = malloc(4);
    for round in 0..2u64 {
        let mut part = ptr::null_mut();
        if own.rank == 1 {
            let outside = u64::from(u32::MAX);
            check(acl!(HcclCreateSubCommConfig(
                &mut comm,
                0,
                ptr::null_mut(),
                outside,
                0,
                ptr::null_mut(),
                &mut part
            )));
            assert!(part.is_null());
        } else {
            let (mut ids, mut config, place) = ([2, 0], config(), u32::from(own.rank == 0));
            for (to, from) in config.hcclCommName.iter_mut().zip(*b"pair") {
                *to = from as _;
            }
            check(acl!(HcclCreateSubCommConfig(
                &mut comm,
                2,
                ids.as_mut_ptr(),
                7,
                place,
                &mut config,
                &mut part
            )));
            let (mut rank, mut size) = (9, 9);
            check(acl!(HcclGetRankId(part, &mut rank)));
            check(acl!(HcclGetRankSize(part, &mut size)));
            assert_eq!((rank, size, name_of(part).as_str()), (place, 2, "pair"));
            check(acl!(HcclAllReduce(x, y, 1, F32, SUM, part, stream)));
            synchronized(stream);
            assert_eq!(host::<f32>(y, 1), [4.0], "round {round}");
            check(acl!(HcclBroadcast(y, 1, F32, 1, part, stream)));
        }
        check(acl!(HcclAllReduce(x, y, 1, F32, SUM, comm, stream)));
        synchronized(stream);
        assert_eq!(host::<f32>(y, 1), [6.0]);
        if !part.is_null() {
            check(acl!(HcclCommDestroy(part)));
        }
    }
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn some_ranks_make_a_communicator_of_their_own() {
    run("parts", 3, &[]);
}

fn table(own: &Rank) {
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(own.rank as i32)), 0);
    if own.rank == 0 {
        let devices: Vec<String> = (0..own.ranks)
            .map(|rank| format!(r#"{{"device_id": "{rank}", "rank_id": "{rank}"}}"#))
            .collect();
        let text = format!(
            r#"{{"status": "completed", "version": "1.0", "server_count": "1", "server_list": [{{"server_id": "{}", "device": [{}]}}]}}"#,
            std::process::id(),
            devices.join(",")
        );
        own.publish("table.json", text.as_bytes());
    }
    own.await_published("table.json");
    let path = own.path("table.json").to_string_lossy().into_owned() + "\0";
    for _ in 0..2 {
        let mut comm = ptr::null_mut();
        check(acl!(HcclCommInitClusterInfo(
            path.as_ptr().cast(),
            own.rank as u32,
            &mut comm
        )));
        let (x, stream) = (device(&[1i64]), stream());
        check(acl!(HcclAllReduce(
            x,
            x,
            1,
            sys::HCCL_DATA_TYPE_INT64,
            SUM,
            comm,
            stream
        )));
        synchronized(stream);
        assert_eq!(host::<i64>(x, 1), [own.ranks as i64]);
        check(acl!(HcclCommDestroy(comm)));
    }
    let mut comm = ptr::null_mut();
    assert_eq!(
        acl!(HcclCommInitClusterInfo(c"/nowhere".as_ptr(), 0, &mut comm)),
        10
    );
    assert_eq!(
        acl!(HcclCommInitClusterInfo(path.as_ptr().cast(), 99, &mut comm)),
        1
    );
}

#[test]
fn a_rank_table_is_enough_to_meet() {
    run("table", 3, &[]);
}

/// Messages pair in their order; a batch sends and receives at once; two sends that face each other hang.
fn messages(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let (n, rank) = (own.ranks, own.rank);
    let (next, before) = ((rank as u32 + 1) % n as u32, ((rank + n - 1) % n) as u32);
    let (x, y) = (device(&numbers(rank, 4)), malloc(16));
    let item = |kind, buf, remote| sys::HcclSendRecvItem {
        sendRecvType: kind,
        buf,
        count: 4,
        dataType: F32,
        remoteRank: remote,
    };
    let mut items = [
        item(sys::HCCL_SEND, x, next),
        item(sys::HCCL_RECV, y, before),
    ];
    check(acl!(HcclBatchSendRecv(items.as_mut_ptr(), 2, comm, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(y, 4), numbers(before as usize, 4));
    for (count, from) in [(1, 0), (2, 1), (3, 0)] {
        if rank == from {
            check(acl!(HcclSend(x, count, F32, 1 - from as u32, comm, stream)));
        } else if rank == 1 - from {
            check(acl!(HcclRecv(y, count, F32, from as u32, comm, stream)));
        }
        synchronized(stream);
        if rank == 1 - from {
            let count = count as usize;
            assert_eq!(host::<f32>(y, count), numbers(from, count));
        }
    }
    assert_eq!(
        acl!(HcclSend(x, 1, F32, rank as u32, comm, stream)),
        1,
        "to itself"
    );
    assert_eq!(
        acl!(HcclRecv(x, 1, F32, n as u32, comm, stream)),
        1,
        "no such rank"
    );
    if rank < 2 {
        check(acl!(HcclSend(x, 1, F32, 1 - rank as u32, comm, stream)));
        check(acl!(HcclRecv(y, 1, F32, 1 - rank as u32, comm, stream)));
        assert_eq!(synchronize(stream), 107020, "both send first");
        let text = recent();
        assert!(
            text.contains("HcclSend") && text.contains("did not come within 500ms"),
            "{text}"
        );
    }
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn messages_pair_up() {
    run(
        "messages",
        3,
        &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "0.5")],
    );
}

/// Both ranks send before they receive on one stream: only a group keeps that from blocking.
fn group(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let peer = 1 - own.rank as u32;
    assert_eq!(acl!(HcclGroupEnd()), 1, "no group is open");
    let (x, y) = (device(&numbers(own.rank, 3)), malloc(12));
    let mut open = true;
    check(acl!(HcclGroupStatusGet(&mut open)));
    assert!(!open);
    check(acl!(HcclGroupStart()));
    check(acl!(HcclGroupStatusGet(&mut open)));
    assert!(open);
    check(acl!(HcclSend(x, 3, F32, peer, comm, stream)));
    check(acl!(HcclRecv(y, 3, F32, peer, comm, stream)));
    check(acl!(HcclGroupEnd()));
    synchronized(stream);
    assert_eq!(download(y, 3), numbers(1 - own.rank, 3));
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn a_group_sends_and_receives_at_once() {
    run("group", 2, &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "5")]);
}

/// Rank r has rows [1 + r, 2] and [3, 4] and the matrix [[1, r], [0, 2]].
fn products(own: &Rank) {
    const BF16: i32 = 27;
    let (comm, stream) = (own.init(), stream());
    let rank = own.rank as f32;
    let name = std::ffi::CString::new(name_of(comm)).expect("a name");
    let x = device(&halves(&[1.0 + rank, 2.0, 3.0, 4.0]));
    let weight = device(&halves(&[1.0, rank, 0.0, 2.0]));
    let (x, weight) = (typed(&[2, 2], BF16, x), typed(&[2, 2], BF16, weight));
    let (mut size, mut executor) = (0, ptr::null_mut());
    let sum = c"sum".as_ptr();

    // Rank 0: [[1, 4], [3, 8]]; rank 1: [[2, 6], [3, 11]].
    let y = malloc(8);
    let status = acl!(aclnnMatmulAllReduceGetWorkspaceSize(
        x,
        weight,
        ptr::null(),
        name.as_ptr(),
        sum,
        0,
        1,
        typed(&[2, 2], BF16, y),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMatmulAllReduce);
    finish(stream, (status, size, executor), second);
    assert_eq!(host::<u16>(y, 4), halves(&[3.0, 10.0, 6.0, 19.0]));

    let y = malloc(4);
    let status = acl!(aclnnMatmulReduceScatterGetWorkspaceSize(
        x,
        weight,
        ptr::null(),
        name.as_ptr(),
        sum,
        0,
        1,
        typed(&[1, 2], BF16, y),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMatmulReduceScatter);
    finish(stream, (status, size, executor), second);
    let wanted = if own.rank == 0 {
        [3.0, 10.0]
    } else {
        [6.0, 19.0]
    };
    assert_eq!(host::<u16>(y, 2), halves(&wanted));

    let (y, all) = (malloc(16), malloc(16));
    let (y_out, all_out) = (typed(&[4, 2], BF16, y), typed(&[4, 2], BF16, all));
    let status = acl!(aclnnAllGatherMatmulGetWorkspaceSize(
        x,
        weight,
        ptr::null(),
        name.as_ptr(),
        0,
        0,
        1,
        y_out,
        all_out,
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnAllGatherMatmul);
    finish(stream, (status, size, executor), second);
    let rows = [1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 3.0, 4.0];
    assert_eq!(host::<u16>(all, 8), halves(&rows));
    let wanted: Vec<f32> = rows
        .chunks(2)
        .flat_map(|row| [row[0], rank * row[0] + 2.0 * row[1]])
        .collect();
    assert_eq!(host::<u16>(y, 8), halves(&wanted));

    let status = acl!(aclnnMatmulAllReduceGetWorkspaceSize(
        x,
        weight,
        ptr::null(),
        c"nobody".as_ptr(),
        sum,
        0,
        1,
        y_out,
        &mut size,
        &mut executor
    ));
    assert_eq!(status, 161_002);
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn products_are_summed_over_ranks() {
    run(
        "products",
        2,
        &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "20")],
    );
}
