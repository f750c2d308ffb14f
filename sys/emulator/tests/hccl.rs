//! HCCL between processes: right numbers on 2, 3 and 8 ranks, and order on streams.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;
mod ranks;

use ascend_sys as sys;
use common::*;
use ranks::*;
use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

const SUM: u32 = sys::HCCL_REDUCE_SUM;
const F32: u32 = sys::HCCL_DATA_TYPE_FP32;

/// Not a test of its own: what a process does that a test started as a rank.
#[test]
fn a_rank() {
    let Some((name, rank)) = scenario() else {
        return;
    };
    match name.as_str() {
        "collectives" => collectives(&rank),
        "order" => order(&rank),
        "replay" => replay(&rank),
        other => panic!("no scenario {other}"),
    }
}

fn collectives(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let (n, rank) = (own.ranks, own.rank);
    let (mut found_rank, mut found_size) = (9, 9);
    check(acl!(HcclGetRankId(comm, &mut found_rank)));
    check(acl!(HcclGetRankSize(comm, &mut found_size)));
    assert_eq!((found_rank as usize, found_size as usize), (rank, n));
    reductions(comm, stream, n, rank);
    every_dtype(comm, stream, n, rank);
    movements(comm, stream, n, rank);
    uneven(comm, stream, n, rank);
    check(acl!(HcclBarrier(comm, stream)));
    synchronized(stream);
    let mut error = 9;
    check(acl!(HcclGetCommAsyncError(comm, &mut error)));
    assert_eq!(error, 0);
    check(acl!(HcclCommDestroy(comm)));
    assert_eq!(acl!(HcclCommDestroy(comm)), 1, "destroyed twice");
}

fn reductions(comm: sys::HcclComm, stream: sys::aclrtStream, n: usize, rank: usize) {
    let x = device(&numbers(rank, 5));
    let y = malloc(20);
    check(acl!(HcclAllReduce(x, y, 5, F32, SUM, comm, stream)));
    synchronized(stream);
    let bases: usize = (0..n).map(|rank| rank * 100).sum();
    let sums: Vec<f32> = (0..5).map(|at| (bases + n * at) as f32).collect();
    assert_eq!(host::<f32>(y, 5), sums);
    check(acl!(HcclAllReduce(
        x,
        x,
        5,
        F32,
        sys::HCCL_REDUCE_MAX,
        comm,
        stream
    )));
    synchronized(stream);
    assert_eq!(host::<f32>(x, 5), numbers(n - 1, 5), "in place");
    let (x, y, root) = (device(&numbers(rank, 2)), device(&[-1f32; 2]), n - 1);
    check(acl!(HcclReduce(
        x,
        y,
        2,
        F32,
        sys::HCCL_REDUCE_MIN,
        root as u32,
        comm,
        stream
    )));
    synchronized(stream);
    let wanted = if rank == root {
        vec![0.0, 1.0]
    } else {
        vec![-1.0; 2]
    };
    assert_eq!(host::<f32>(y, 2), wanted);
    let (x, y) = (device(&numbers(rank, 3 * n)), malloc(12));
    check(acl!(HcclReduceScatter(x, y, 3, F32, SUM, comm, stream)));
    synchronized(stream);
    let sums: Vec<f32> = (0..3)
        .map(|at| (bases + n * (rank * 3 + at)) as f32)
        .collect();
    assert_eq!(host::<f32>(y, 3), sums);
    check(acl!(HcclAllReduce(
        ptr::null_mut(),
        y,
        0,
        F32,
        SUM,
        comm,
        stream
    )));
}

/// Each dtype that A2 reduces, with every reduction that it has: rank r brings r + 1 and 2.
fn every_dtype(comm: sys::HcclComm, stream: sys::aclrtStream, n: usize, rank: usize) {
    let sums = [n * (n + 1) / 2, 2 * n];
    let products = [(1..=n).product::<usize>(), 1 << n];
    let (largest, smallest) = ([n.max(1), 2], [1, 2]);
    macro_rules! dtype {
        ($number:expr, $product:expr, $type:ty, $write:expr) => {
            let write: fn(usize) -> $type = $write;
            let cases = [(0, sums), (1, products), (2, largest), (3, smallest)];
            for (op, wanted) in cases.into_iter().filter(|case| case.0 != 1 || $product) {
                let (x, y) = (device(&[write(rank + 1), write(2)]), malloc(32));
                check(acl!(HcclAllReduce(x, y, 2, $number, op, comm, stream)));
                synchronized(stream);
                let wanted = wanted.map(write).to_vec();
                assert_eq!(host::<$type>(y, 2), wanted, "dtype {} op {op}", $number);
            }
        };
    }
    dtype!(0, true, i8, |value| value as i8);
    dtype!(1, false, i16, |value| value as i16);
    dtype!(2, true, i32, |value| value as i32);
    dtype!(3, n <= 3, half::f16, |value| half::f16::from_f64(
        value as f64
    ));
    dtype!(4, true, f32, |value| value as f32);
    dtype!(5, true, i64, |value| value as i64);
    dtype!(11, false, half::bf16, |value| half::bf16::from_f64(
        value as f64
    ));
    let x = malloc(32);
    for (number, op) in [
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 0),
        (10, 0),
        (11, 1),
        (1, 1),
        (4, 4),
        (12, 0),
        (99, 0),
    ] {
        assert_eq!(
            acl!(HcclAllReduce(x, x, 2, number, op, comm, stream)),
            5,
            "dtype {number} op {op}"
        );
    }
}

fn movements(comm: sys::HcclComm, stream: sys::aclrtStream, n: usize, rank: usize) {
    let x = device(&numbers(rank, 3));
    check(acl!(HcclBroadcast(x, 3, F32, n as u32 - 1, comm, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(x, 3), numbers(n - 1, 3));
    let (x, y) = (device(&numbers(rank, 3)), malloc(12 * n));
    check(acl!(HcclAllGather(x, y, 3, F32, comm, stream)));
    synchronized(stream);
    let all: Vec<f32> = (0..n).flat_map(|rank| numbers(rank, 3)).collect();
    assert_eq!(host::<f32>(y, 3 * n), all);
    let (x, y) = (device(&numbers(rank, 2 * n)), malloc(8));
    check(acl!(HcclScatter(x, y, 2, F32, 1, comm, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(y, 2), numbers(1, 2 * n)[2 * rank..2 * rank + 2]);
    let bytes: Vec<u8> = (0..n).map(|to| (rank * 10 + to) as u8).collect();
    let (x, y) = (device(&bytes), malloc(n));
    let byte = sys::HCCL_DATA_TYPE_UINT8;
    check(acl!(HcclAlltoAll(x, 1, byte, y, 1, byte, comm, stream)));
    synchronized(stream);
    let wanted: Vec<u8> = (0..n).map(|from| (from * 10 + rank) as u8).collect();
    assert_eq!(host::<u8>(y, n), wanted);
}

/// Rank i holds or gets i + 1 elements; between i and j go i + j elements.
fn uneven(comm: sys::HcclComm, stream: sys::aclrtStream, n: usize, rank: usize) {
    let counts: Vec<u64> = (0..n).map(|rank| rank as u64 + 1).collect();
    let starts: Vec<u64> = (0..n)
        .map(|rank| (rank * (rank + 1) / 2 + rank) as u64)
        .collect();
    let end = *starts.last().expect("a rank") as usize + n;
    let (x, y) = (device(&numbers(rank, rank + 1)), device(&vec![-1f32; end]));
    let (count_list, start_list) = (
        counts.as_ptr().cast::<c_void>(),
        starts.as_ptr().cast::<c_void>(),
    );
    check(acl!(HcclAllGatherV(
        x,
        rank as u64 + 1,
        y,
        count_list,
        start_list,
        F32,
        comm,
        stream
    )));
    synchronized(stream);
    let mut wanted = vec![-1f32; end];
    for from in 0..n {
        let start = starts[from] as usize;
        wanted[start..=start + from].copy_from_slice(&numbers(from, from + 1));
    }
    assert_eq!(host::<f32>(y, end), wanted, "a gap stays between parts");
    let (x, y) = (device(&numbers(rank, end)), malloc(4 * n));
    check(acl!(HcclReduceScatterV(
        x,
        count_list,
        start_list,
        y,
        counts[rank],
        F32,
        SUM,
        comm,
        stream
    )));
    synchronized(stream);
    let bases: usize = (0..n).map(|rank| rank * 100).sum();
    let sums: Vec<f32> = (0..=rank)
        .map(|at| (bases + n * (starts[rank] as usize + at)) as f32)
        .collect();
    assert_eq!(host::<f32>(y, rank + 1), sums);
    let counts: Vec<u64> = (0..n).map(|peer| (rank + peer) as u64).collect();
    let ends = |counts: &[u64]| -> Vec<u64> {
        counts
            .iter()
            .scan(0, |end, count| {
                *end += count;
                Some(*end - count)
            })
            .collect()
    };
    let total = counts.iter().sum::<u64>() as usize;
    let starts = ends(&counts);
    let values: Vec<f32> = (0..n)
        .flat_map(|to| (0..rank + to).map(move |at| (rank * 1000 + to * 100 + at) as f32))
        .collect();
    let wanted: Vec<f32> = (0..n)
        .flat_map(|from| (0..rank + from).map(move |at| (from * 1000 + rank * 100 + at) as f32))
        .collect();
    let (x, y) = (device(&values), device(&vec![0f32; total]));
    let (count_list, start_list) = (
        counts.as_ptr().cast::<c_void>(),
        starts.as_ptr().cast::<c_void>(),
    );
    check(acl!(HcclAlltoAllV(
        x, count_list, start_list, F32, y, count_list, start_list, F32, comm, stream
    )));
    synchronized(stream);
    assert_eq!(host::<f32>(y, total), wanted);
    let matrix: Vec<u64> = (0..n * n).map(|at| (at / n + at % n) as u64).collect();
    let y = device(&vec![0f32; total]);
    check(acl!(HcclAlltoAllVC(
        x,
        matrix.as_ptr().cast(),
        F32,
        y,
        F32,
        comm,
        stream
    )));
    synchronized(stream);
    assert_eq!(host::<f32>(y, total), wanted);
}

#[test]
fn two_ranks_agree() {
    run("collectives", 2, &[]);
}

#[test]
fn three_ranks_agree() {
    run("collectives", 3, &[("ASCEND_EMULATOR_DELAY", "5:200")]);
}

#[test]
fn eight_ranks_agree() {
    run("collectives", 8, &[]);
}

/// A collective waits for the work before it on its stream, and the work after it waits for the collective.
fn order(own: &Rank) {
    let (comm, first, second) = (own.init(), stream(), stream());
    let (x, y, z) = (device(&[1f32; 4]), malloc(16), malloc(16));
    let mut event = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut event, 1)), 0);
    if own.rank == 1 {
        own.await_published("queued");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(add(x, x, y, 4, first), 0);
    check(acl!(HcclAllReduce(y, y, 4, F32, SUM, comm, first)));
    assert_eq!(acl!(aclrtRecordEvent(event, first)), 0);
    assert_eq!(acl!(aclrtStreamWaitEvent(second, event)), 0);
    assert_eq!(add(y, x, z, 4, second), 0);
    if own.rank == 0 {
        let (mut stream_status, mut event_status) = (9, 9);
        assert_eq!(acl!(aclrtStreamQuery(first, &mut stream_status)), 0);
        assert_eq!(acl!(aclrtQueryEventStatus(event, &mut event_status)), 0);
        assert_eq!((stream_status, event_status), (1, 0), "rank 1 has not come");
        own.publish("queued", b"");
    }
    synchronized(second);
    assert_eq!(host::<f32>(z, 4), [5.0; 4]);
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn collectives_are_tasks_of_their_stream() {
    run("order", 2, &[]);
}

fn replay(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let (x, y) = (device(&[1f32, 2.0]), malloc(8));
    assert_eq!(acl!(aclmdlRICaptureBegin(stream, 0)), 0);
    check(acl!(HcclAllReduce(x, y, 2, F32, SUM, comm, stream)));
    let next = (own.rank as u32 + 1) % 2;
    if own.rank == 0 {
        check(acl!(HcclSend(y, 2, F32, next, comm, stream)));
    } else {
        check(acl!(HcclRecv(x, 2, F32, next, comm, stream)));
    }
    let mut graph = ptr::null_mut();
    assert_eq!(acl!(aclmdlRICaptureEnd(stream, &mut graph)), 0);
    for round in 0..3 {
        assert_eq!(acl!(aclmdlRIExecuteAsync(graph, stream)), 0);
        synchronized(stream);
        // Rank 1 takes the last sum over; rank 0 adds its 1 in each round.
        let wanted = (2 + round) as f32;
        assert_eq!(host::<f32>(y, 1), [wanted], "round {round}");
    }
    check(acl!(HcclAllReduce(x, y, 2, F32, SUM, comm, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(y, 1), [5.0], "a call after replays");
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn captured_collectives_replay() {
    run("replay", 2, &[]);
}

#[test]
fn one_process_drives_many_devices() {
    let _guard = eight_devices();
    let mut comms = [ptr::null_mut(); 4];
    let mut devices = [3, 0, 5, 6];
    check(acl!(HcclCommInitAll(
        4,
        devices.as_mut_ptr(),
        comms.as_mut_ptr()
    )));
    let mut sides = Vec::new();
    for (rank, (&id, &comm)) in devices.iter().zip(&comms).enumerate() {
        assert_eq!(acl!(aclrtSetDevice(id)), 0);
        let (x, own) = (device(&[rank as f32, 1.0]), stream());
        check(acl!(HcclAllReduce(x, x, 2, F32, SUM, comm, own)));
        sides.push((id, comm, x, own));
    }
    for &(id, comm, x, own) in &sides {
        assert_eq!(acl!(aclrtSetDevice(id)), 0);
        synchronized(own);
        assert_eq!(host::<f32>(x, 2), [6.0, 4.0]);
        assert_eq!(
            acl!(HcclBarrier(comm, sides[0].3)),
            if id == 3 { 0 } else { 15 },
            "a stream of another device"
        );
    }
    let (_, comm, x, own) = sides[3];
    assert_eq!(
        acl!(HcclBroadcast(sides[0].2, 1, F32, 0, comm, own)),
        1,
        "memory of another device"
    );
    assert_eq!(
        acl!(HcclBroadcast(x, 1, F32, 4, comm, own)),
        1,
        "no such root"
    );
    let mut twice = [1, 1];
    assert_eq!(
        acl!(HcclCommInitAll(2, twice.as_mut_ptr(), comms.as_mut_ptr())),
        1
    );
}

#[test]
fn threads_of_one_process_are_ranks() {
    let _guard = eight_devices();
    let mut info = Box::new(sys::HcclRootInfo {
        internal: [0; 4108],
    });
    check(acl!(HcclGetRootInfo(&mut *info)));
    std::thread::scope(|scope| {
        for rank in 0..4u32 {
            let info = &info;
            scope.spawn(move || {
                assert_eq!(acl!(aclrtSetDevice(rank as i32)), 0);
                let mut comm = ptr::null_mut();
                check(acl!(HcclCommInitRootInfo(4, &**info, rank, &mut comm)));
                let (x, y, own) = (
                    device(&numbers(rank as usize, 1000)),
                    malloc(16_000),
                    stream(),
                );
                for _ in 0..20 {
                    check(acl!(HcclAllGather(x, y, 1000, F32, comm, own)));
                }
                synchronized(own);
                let all: Vec<f32> = (0..4).flat_map(|rank| numbers(rank, 1000)).collect();
                assert_eq!(host::<f32>(y, 4000), all);
                check(acl!(HcclCommDestroy(comm)));
            });
        }
    });
    assert!(
        ascend_emulator::violations().is_empty(),
        "{:?}",
        ascend_emulator::violations()
    );
}
