//! HCCL when ranks do not do the same: what differs, who is late, who is gone, and arguments that are refused.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;
mod ranks;

use ascend_sys as sys;
use common::*;
use ranks::*;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::time::{Duration, Instant};

const SUM: u32 = sys::HCCL_REDUCE_SUM;
const F32: u32 = sys::HCCL_DATA_TYPE_FP32;

/// Not a test of its own: what a process does that a test started as a rank.
#[test]
fn a_rank() {
    let Some((name, rank)) = scenario() else {
        return;
    };
    match name.as_str() {
        "mismatch" => mismatch(&rank),
        "missing" => missing(&rank),
        "late" => late(&rank),
        "killed" => killed(&rank),
        "whole" => whole(&rank),
        other => panic!("no scenario {other}"),
    }
}

fn mismatch(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let x = device(&[1f32; 8]);
    let count = if own.rank == 1 { 5 } else { 4 };
    check(acl!(HcclAllReduce(x, x, count, F32, SUM, comm, stream)));
    assert_eq!(synchronize(stream), 107020);
    let text = recent();
    assert!(text.contains("divergent: rank 1"), "{text}");
    assert!(text.contains("HcclAllReduce of 5 float32, sum"), "{text}");
    let mut error = 0;
    check(acl!(HcclGetCommAsyncError(comm, &mut error)));
    assert_eq!(error, 1);
    assert_eq!(
        acl!(HcclAllReduce(x, x, 4, F32, SUM, comm, stream)),
        1,
        "the communicator is broken"
    );
    assert_eq!(add(x, x, x, 8, stream), 0, "the device is not");
    synchronized(stream);
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn different_counts_name_the_divergent_rank() {
    run("mismatch", 3, &[]);
}

fn missing(own: &Rank) {
    let begun = Instant::now();
    assert_eq!(own.try_init().0, 9);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    let text = recent();
    assert!(
        text.contains("rank 2 of 4 did not come within 4s"),
        "{text}"
    );
}

#[test]
fn a_rank_that_never_comes_is_named() {
    start(
        "missing",
        &[0, 1, 3],
        4,
        &[("ASCEND_EMULATOR_HCCL_CONNECT_TIMEOUT", "4")],
    )
    .succeed();
    start("missing", &[0, 1, 3], 4, &[("HCCL_CONNECT_TIMEOUT", "4")]).succeed();
}

/// Rank 1 never calls the collective that rank 0 waits in.
fn late(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let x = device(&[1f32; 4]);
    if own.rank == 0 {
        check(acl!(HcclAllReduce(x, x, 4, F32, SUM, comm, stream)));
        assert_eq!(synchronize(stream), 107020);
        let text = recent();
        assert!(
            text.contains("EI0002") && text.contains("rank 1 did not come within 300ms"),
            "{text}"
        );
        let mut error = 0;
        check(acl!(HcclGetCommAsyncError(comm, &mut error)));
        assert_eq!(error, 9);
        own.publish("done", b"");
    } else {
        own.await_published("done");
        let mut error = 0;
        let deadline = Instant::now() + Duration::from_secs(10);
        while error == 0 && Instant::now() < deadline {
            check(acl!(HcclGetCommAsyncError(comm, &mut error)));
        }
        assert_eq!(error, 9, "rank 0 told why it gave up");
        assert_eq!(acl!(HcclBarrier(comm, stream)), 9);
    }
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn a_collective_does_not_wait_for_ever() {
    run("late", 2, &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "0.3")]);
}

/// Rank 1 is killed while the others wait for it.
fn killed(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let x = device(&[1f32; 4]);
    if own.rank == 1 {
        own.publish("ready", b"");
        std::thread::sleep(Duration::from_secs(60));
        panic!("nobody killed rank 1");
    }
    check(acl!(HcclAllReduce(x, x, 4, F32, SUM, comm, stream)));
    own.publish(&format!("waits-{}", own.rank), b"");
    assert_eq!(synchronize(stream), 507057);
    let text = recent();
    assert!(text.contains("rank 1 is gone"), "{text}");
    let mut error = 0;
    check(acl!(HcclGetCommAsyncError(comm, &mut error)));
    assert_eq!(error, 21);
    check(acl!(HcclCommDestroy(comm)));
    assert_eq!(acl!(aclrtResetDevice(own.rank as i32)), 0);
}

#[test]
fn a_killed_rank_is_an_error_on_the_others_and_leaves_nothing() {
    let mut job = start("killed", &[0, 1, 2], 3, &[]);
    for name in ["ready", "waits-0", "waits-2"] {
        job.await_published(name);
    }
    job.children[1].1.kill().expect("SIGKILL");
    for (rank, output) in job.wait() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), rank != 1, "rank {rank}: {stderr}");
    }
    run("whole", 3, &[]);
}

#[test]
fn wrong_arguments_are_refused_with_a_text() {
    let _guard = eight_devices();
    let mut info = Box::new(sys::HcclRootInfo {
        internal: [0; 4108],
    });
    let mut comm = ptr::null_mut();
    assert_eq!(acl!(HcclGetRootInfo(ptr::null_mut())), 2);
    assert_eq!(
        acl!(HcclCommInitRootInfo(1, &*info, 0, &mut comm)),
        1,
        "no root wrote it"
    );
    check(acl!(HcclGetRootInfo(&mut *info)));
    assert_eq!(acl!(HcclCommInitRootInfo(1, &*info, 1, &mut comm)), 1);
    assert!(recent().contains("rank is 1 of 1"));
    assert_eq!(acl!(HcclCommInitRootInfo(0, &*info, 0, &mut comm)), 1);
    assert_eq!(acl!(HcclCommInitRootInfo(1, &*info, 0, ptr::null_mut())), 2);
    assert_eq!(
        acl!(HcclCommInitRootInfoConfig(
            1,
            &*info,
            0,
            ptr::null(),
            &mut comm
        )),
        2
    );
    let mut bad = config();
    bad.reserved[8] = 0;
    assert_eq!(
        acl!(HcclCommInitRootInfoConfig(1, &*info, 0, &bad, &mut comm)),
        1
    );
    let (mut free, mut total, mut left) = (0, 0, 0);
    assert_eq!(acl!(aclrtGetMemInfo(1, &mut free, &mut total)), 0);
    let mut good = config();
    good.hcclBufferSize = 64;
    check(acl!(HcclCommInitRootInfoConfig(
        1, &*info, 0, &good, &mut comm
    )));
    assert_eq!(acl!(aclrtGetMemInfo(1, &mut left, &mut total)), 0);
    assert_eq!(
        free - left,
        128 << 20,
        "exchange buffers are the device's memory"
    );
    assert!(name_of(comm).starts_with("127.0.0.1%"), "{}", name_of(comm));
    let mut again = ptr::null_mut();
    assert_eq!(
        acl!(HcclCommInitRootInfo(1, &*info, 0, &mut again)),
        11,
        "a root info is used once"
    );
    let (x, own) = (malloc(64), stream());
    let mut host_memory = [0f32; 4];
    let on_host = host_memory.as_mut_ptr().cast::<c_void>();
    assert_eq!(
        acl!(HcclAllReduce(x, x, 4, F32, SUM, ptr::null_mut(), own)),
        2
    );
    assert_eq!(
        acl!(HcclAllReduce(x, x, 4, F32, SUM, own, own)),
        1,
        "a stream is no communicator"
    );
    assert_eq!(
        acl!(HcclAllReduce(x, x, 4, F32, SUM, comm, ptr::null_mut())),
        2
    );
    assert_eq!(
        acl!(HcclAllReduce(ptr::null_mut(), x, 4, F32, SUM, comm, own)),
        2
    );
    assert_eq!(acl!(HcclAllReduce(on_host, x, 4, F32, SUM, comm, own)), 1);
    assert!(recent().contains("host memory"));
    assert_eq!(acl!(HcclAllReduce(x, x, 17, F32, SUM, comm, own)), 1);
    assert!(recent().contains("leave the block"));
    assert_eq!(acl!(HcclAllReduce(x, x, u64::MAX, F32, SUM, comm, own)), 1);
    assert_eq!(acl!(HcclAllGather(x, x, 1 << 63, F32, comm, own)), 1);
    assert_eq!(
        acl!(HcclAllReduce(
            x.wrapping_byte_add(2),
            x,
            1,
            F32,
            SUM,
            comm,
            own
        )),
        1
    );
    assert_eq!(
        acl!(HcclAllReduce(
            x.wrapping_byte_add(4),
            x,
            4,
            F32,
            SUM,
            comm,
            own
        )),
        1,
        "partial overlap"
    );
    assert_eq!(
        acl!(HcclAlltoAll(x, 1, F32, x, 1, F32, comm, own)),
        1,
        "the same buffer"
    );
    assert_eq!(acl!(HcclAlltoAll(x, 1, F32, x, 1, 3, comm, own)), 5);
    assert_eq!(
        acl!(HcclAllGatherV(
            x,
            1,
            x,
            ptr::null(),
            ptr::null(),
            F32,
            comm,
            own
        )),
        2
    );
    check(acl!(HcclCommSuspend(comm)));
    assert_eq!(acl!(HcclBarrier(comm, own)), 22);
    check(acl!(HcclCommResume(comm)));
    check(acl!(HcclAllReduce(x, x, 4, F32, SUM, comm, own)));
    synchronized(own);
    check(acl!(HcclCommDestroy(comm)));
    assert_eq!(acl!(HcclBarrier(comm, own)), 1, "destroyed");
    let text = |code| {
        let text = acl!(HcclGetErrorString(code));
        // SAFETY: the function gives a C string that lives for ever.
        unsafe { CStr::from_ptr(text) }.to_str()
    };
    assert_eq!((text(9), text(12345)), (Ok("timeout"), Ok("unknown error")));
}

/// Everything works, after all that.
fn whole(own: &Rank) {
    let (comm, stream, x) = (own.init(), stream(), device(&[1f32]));
    check(acl!(HcclAllReduce(x, x, 1, F32, SUM, comm, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(x, 1), [own.ranks as f32]);
    check(acl!(HcclCommDestroy(comm)));
}
