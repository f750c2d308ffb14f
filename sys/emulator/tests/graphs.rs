//! Captured graphs: recorded instead of run, replayed with frozen addresses, broken by illegal calls.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::{Settings, kernel_launches};
use common::*;
use std::ptr;

fn capture(stream: ascend_sys::aclrtStream, work: impl FnOnce()) -> (i32, ascend_sys::aclmdlRI) {
    assert_eq!(acl!(aclmdlRICaptureBegin(stream, 0)), 0, "{}", recent());
    work();
    let mut graph = ptr::null_mut();
    (acl!(aclmdlRICaptureEnd(stream, &mut graph)), graph)
}

#[test]
fn a_graph_replays_what_was_captured() {
    let _guard = fresh(Settings::default());
    let (x, out, own) = (upload(&[1.0; 4]), upload(&[0.0; 4]), stream());
    let (status, graph) = capture(own, || {
        assert_eq!(add(x, x, out, 4, own), 0);
        assert_eq!(add(out, x, out, 4, own), 0);
    });
    assert_eq!(status, 0);
    assert_eq!(download(out, 4), [0.0; 4], "nothing ran");
    let launched = kernel_launches();
    assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 0);
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 4), [3.0; 4]);
    let four = [4.0f32; 4];
    assert_eq!(
        acl!(aclrtMemcpy(x, 16, four.as_ptr().cast(), 16, HOST_TO_DEVICE)),
        0
    );
    assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 0);
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 4), [12.0; 4]);
    assert_eq!(kernel_launches(), launched);
    assert_eq!(acl!(aclrtFree(x)), 0);
    assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 107000);
    assert!(recent().contains("replayed graph"));
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 100000);
}

#[test]
fn side_streams_join() {
    let _guard = fresh(Settings::default());
    let (x, a, out) = (upload(&[1.0]), malloc(4), malloc(4));
    let (own, side) = (stream(), stream());
    let (mut fork, mut join) = (ptr::null_mut(), ptr::null_mut());
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut fork, 1)), 0);
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut join, 1)), 0);
    let forked = |joined: bool| {
        capture(own, || {
            assert_eq!(acl!(aclrtRecordEvent(fork, own)), 0);
            assert_eq!(acl!(aclrtStreamWaitEvent(side, fork)), 0);
            assert_eq!(add(x, x, a, 1, side), 0);
            if joined {
                assert_eq!(acl!(aclrtRecordEvent(join, side)), 0);
                assert_eq!(acl!(aclrtStreamWaitEvent(own, join)), 0);
            }
            assert_eq!(add(a, x, out, 1, own), 0);
        })
    };
    assert_eq!(forked(false).0, 107025);
    let (status, graph) = forked(true);
    assert_eq!(status, 0, "{}", recent());
    assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 0);
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 1), [3.0]);
    assert_eq!(acl!(aclrtSynchronizeEvent(fork)), 107028);
}

#[test]
fn illegal_calls_break_a_capture() {
    let _guard = fresh(Settings::default());
    let (x, own) = (upload(&[1.0]), stream());
    assert_eq!(acl!(aclmdlRICaptureBegin(ptr::null_mut(), 0)), 100000);
    let mut default = ptr::null_mut();
    assert_eq!(acl!(aclrtCtxGetCurrentDefaultStream(&mut default)), 0);
    assert_eq!(acl!(aclmdlRICaptureBegin(default, 0)), 207000);
    let mut graph = ptr::null_mut();
    assert_eq!(acl!(aclmdlRICaptureEnd(own, &mut graph)), 107029);
    let (status, _) = capture(own, || {
        assert_eq!(acl!(aclmdlRICaptureBegin(own, 0)), 107027);
        assert_eq!(synchronize(own), 107027);
    });
    assert_eq!(status, 507903);
    let (status, _) = capture(own, || {
        let host = [0f32];
        assert_eq!(
            acl!(aclrtMemcpy(x, 4, host.as_ptr().cast(), 4, HOST_TO_DEVICE)),
            107030
        );
        assert_eq!(acl!(aclrtDestroyStream(own)), 107027);
    });
    assert_eq!(status, 507903);
    assert_eq!(synchronize(own), 0, "usable again");
}

/// What the mode of a capture forbids to others, and what every mode forbids.
#[test]
fn modes_decide_who_may_copy_meanwhile() {
    let _guard = fresh(Settings::default());
    let (x, host, own, other) = (upload(&[1.0]), pinned(4), stream(), stream());
    let pageable = [2f32];
    let source = pageable.as_ptr().cast();
    let mut graph = ptr::null_mut();
    for (mode, code, end) in [(0, 107041, 507903), (2, 0, 0)] {
        assert_eq!(acl!(aclmdlRICaptureBegin(own, mode)), 0);
        assert_eq!(
            acl!(aclrtMemcpyAsync(x, 4, source, 4, HOST_TO_DEVICE, other)),
            code,
            "mode {mode}"
        );
        assert_eq!(acl!(aclmdlRICaptureEnd(own, &mut graph)), end);
    }
    assert_eq!(acl!(aclmdlRICaptureBegin(own, 2)), 0);
    assert_eq!(
        acl!(aclrtMemcpyAsync(x, 4, source, 4, HOST_TO_DEVICE, own)),
        107000,
        "pageable memory is never captured"
    );
    assert_eq!(acl!(aclmdlRICaptureEnd(own, &mut graph)), 507903);
    assert_eq!(acl!(aclmdlRICaptureBegin(own, 2)), 0);
    assert_eq!(
        acl!(aclrtMemcpyAsync(x, 4, host, 4, HOST_TO_DEVICE, own)),
        0
    );
    std::thread::scope(|scope| {
        let own = own.addr();
        scope.spawn(move || {
            let own = ptr::without_provenance_mut(own);
            assert_eq!(acl!(aclrtSetDevice(0)), 0);
            let (mut graph, mut status) = (ptr::null_mut(), 9);
            assert_eq!(
                acl!(aclmdlRICaptureGetInfo(own, &mut status, &mut graph)),
                0
            );
            assert_eq!(status, 1);
            assert_eq!(
                acl!(aclmdlRICaptureEnd(own, &mut graph)),
                0,
                "relaxed: any thread may end it"
            );
            assert_eq!(acl!(aclmdlRICaptureBegin(own, 0)), 0);
        });
    });
    assert_eq!(
        acl!(aclmdlRICaptureEnd(own, &mut graph)),
        107038,
        "another thread began it"
    );
}

#[test]
fn what_is_captured_is_neither_waited_for_nor_destroyed() {
    let _guard = fresh(Settings::default());
    let (own, side) = (stream(), stream());
    let (mut classic, mut fork, mut outside) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    assert_eq!(acl!(aclrtCreateEvent(&mut classic)), 0);
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut fork, 1)), 0);
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut outside, 1)), 0);
    assert_eq!(acl!(aclrtRecordEvent(outside, side)), 0);
    let mut graph = ptr::null_mut();
    assert_eq!(acl!(aclmdlRICaptureBegin(own, 0)), 0);
    assert_eq!(acl!(aclrtRecordEvent(classic, own)), 207000);
    assert_eq!(acl!(aclrtRecordEvent(fork, own)), 0);
    assert_eq!(
        acl!(aclrtStreamWaitEvent(own, outside)),
        107024,
        "recorded outside"
    );
    assert_eq!(
        acl!(aclrtStreamWaitEvent(ptr::null_mut(), fork)),
        107031,
        "the default stream cannot join"
    );
    assert_eq!(acl!(aclrtStreamWaitEvent(side, fork)), 0);
    assert_eq!(acl!(aclmdlRICaptureEnd(side, &mut graph)), 107036);
    let mut status = 9;
    assert_eq!(acl!(aclrtQueryEventStatus(fork, &mut status)), 107028);
    assert_eq!(acl!(aclrtStreamQuery(side, &mut status)), 107027);
    assert_eq!(acl!(aclrtSynchronizeDevice()), 107027);
    assert_eq!(acl!(aclrtDestroyStream(side)), 107027);
    assert_eq!(acl!(aclmdlRICaptureEnd(own, &mut graph)), 507903);
    assert_eq!(synchronize(side), 0, "free again");
    assert_eq!(acl!(aclmdlRICaptureTaskGrpBegin(own)), 107029);
    assert_eq!(acl!(aclmdlRICaptureTaskUpdateEnd(own)), 107033);
    assert_eq!(acl!(aclmdlRIExecuteAsync(ptr::null_mut(), own)), 100000);
    let mut mode = 5;
    assert_eq!(acl!(aclmdlRICaptureThreadExchangeMode(&mut mode)), 100000);
}

#[test]
fn task_groups_are_updated() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (upload(&[1.0]), upload(&[5.0]), malloc(4));
    let (own, updater) = (stream(), stream());
    let mut group = ptr::null_mut();
    let (status, graph) = capture(own, || {
        assert_eq!(acl!(aclmdlRICaptureTaskGrpBegin(own)), 0);
        assert_eq!(add(x, x, out, 1, own), 0);
        assert_eq!(acl!(aclmdlRICaptureTaskGrpEnd(own, &mut group)), 0);
    });
    assert_eq!(status, 0);
    assert_eq!(acl!(aclmdlRICaptureTaskUpdateBegin(updater, group)), 0);
    assert_eq!(add(y, y, out, 1, updater), 0);
    assert_eq!(
        acl!(aclmdlRICaptureTaskUpdateEnd(updater)),
        0,
        "{}",
        recent()
    );
    assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 0);
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 1), [10.0]);
    assert_eq!(acl!(aclmdlRICaptureTaskUpdateBegin(updater, group)), 0);
    assert_eq!(
        acl!(aclmdlRICaptureTaskUpdateEnd(updater)),
        107040,
        "no launch instead of one"
    );
}

#[test]
fn graphs_say_farewell() {
    static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    unsafe extern "C" fn count(argument: *mut std::ffi::c_void) {
        CALLS.fetch_add(argument.addr(), std::sync::atomic::Ordering::Relaxed);
    }
    unsafe extern "C" fn never(_: *mut std::ffi::c_void) {
        CALLS.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
    }
    let _guard = fresh(Settings::default());
    let (x, out, own) = (upload(&[1.0]), malloc(4), stream());
    let (status, graph) = capture(own, || assert_eq!(add(x, x, out, 1, own), 0));
    assert_eq!(status, 0);
    let argument = ptr::without_provenance_mut(7);
    assert_eq!(
        acl!(aclmdlRIDestroyRegisterCallback(
            graph,
            Some(count),
            argument
        )),
        0
    );
    assert_eq!(
        acl!(aclmdlRIDestroyRegisterCallback(
            graph,
            Some(never),
            argument
        )),
        0
    );
    assert_eq!(
        acl!(aclmdlRIDestroyUnregisterCallback(graph, Some(never))),
        0
    );
    assert_eq!(
        acl!(aclmdlRIDestroyUnregisterCallback(graph, Some(never))),
        100000
    );
    assert_eq!(
        acl!(aclmdlRIDestroyRegisterCallback(graph, None, argument)),
        100000
    );
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
    assert_eq!(CALLS.load(std::sync::atomic::Ordering::Relaxed), 7);
}

#[test]
fn a_graph_is_built_by_hand_and_looked_into() {
    let _guard = fresh(Settings::default());
    let (x, out, plain) = (upload(&[1.0; 4]), upload(&[0.0; 4]), stream());
    let (mut graph, mut own) = (ptr::null_mut(), ptr::null_mut());
    assert_eq!(acl!(aclrtCreateStreamWithConfig(&mut own, 0, 4)), 0);
    assert_eq!(acl!(aclmdlRIBuildBegin(&mut graph, 1)), 107000);
    assert_eq!(acl!(aclmdlRIBuildBegin(&mut graph, 0)), 0);
    assert_eq!(
        acl!(aclmdlRIBindStream(graph, plain, 0)),
        107000,
        "not persistent"
    );
    assert_eq!(acl!(aclmdlRIBindStream(graph, own, 0x7fff_ffff)), 207000);
    assert_eq!(acl!(aclmdlRIBindStream(graph, own, 0)), 0);
    assert_eq!(acl!(aclmdlRIBindStream(graph, own, 0)), 107000, "twice");
    assert_eq!(add(x, x, out, 4, own), 0);
    assert_eq!(add(out, x, out, 4, own), 0);
    assert_eq!(
        acl!(aclmdlRIBuildEnd(graph, ptr::null_mut())),
        107000,
        "not ended"
    );
    assert_eq!(
        acl!(aclmdlRIUnbindStream(graph, own)),
        107000,
        "being built"
    );
    assert_eq!(acl!(aclmdlRIEndTask(graph, plain)), 107000);
    assert_eq!(acl!(aclmdlRIEndTask(graph, own)), 0);
    assert_eq!(
        acl!(aclmdlRIBuildEnd(graph, ptr::null_mut())),
        0,
        "{}",
        recent()
    );
    assert_eq!(download(out, 4), [0.0; 4], "nothing ran");
    assert_eq!(acl!(aclmdlRIExecute(graph, -1)), 0, "{}", recent());
    assert_eq!(download(out, 4), [3.0; 4]);

    let (mut count, mut streams) = (0, [ptr::null_mut(); 2]);
    assert_eq!(
        acl!(aclmdlRIGetStreams(graph, ptr::null_mut(), &mut count)),
        0
    );
    assert_eq!(count, 1);
    assert_eq!(
        acl!(aclmdlRIGetStreams(graph, streams.as_mut_ptr(), &mut count)),
        0
    );
    let mut tasks = [ptr::null_mut(); 4];
    count = 1;
    let code = acl!(aclmdlRIGetTasksByStream(
        streams[0],
        tasks.as_mut_ptr(),
        &mut count
    ));
    assert_eq!(code, 107039, "room for one of two");
    count = 4;
    let code = acl!(aclmdlRIGetTasksByStream(
        streams[0],
        tasks.as_mut_ptr(),
        &mut count
    ));
    assert_eq!((code, count), (0, 2));
    let (mut kind, mut number) = (9, 9);
    assert_eq!(acl!(aclmdlRITaskGetType(tasks[1], &mut kind)), 0);
    assert_eq!(acl!(aclmdlRITaskGetSeqId(tasks[1], &mut number)), 0);
    assert_eq!((kind, number), (1, 1));

    assert_eq!(acl!(aclmdlRITaskDisable(tasks[1])), 0);
    assert_eq!(acl!(aclmdlRIExecute(graph, -1)), 0);
    assert_eq!(download(out, 4), [3.0; 4], "before the update");
    assert_eq!(acl!(aclmdlRIUpdate(graph)), 0);
    assert_eq!(acl!(aclmdlRIExecute(graph, -1)), 0);
    assert_eq!(download(out, 4), [2.0; 4]);

    assert_eq!(acl!(aclmdlRIUnbindStream(graph, own)), 0);
    assert_eq!(acl!(aclmdlRIUnbindStream(graph, own)), 107000);
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
    assert_eq!(acl!(aclmdlRITaskGetType(tasks[1], &mut kind)), 107017);
    assert_eq!(acl!(aclmdlRIBindStream(graph, own, 0)), 107000);
}

#[test]
fn a_capture_knows_its_graph() {
    let _guard = fresh(Settings::default());
    let (own, mut status, mut early) = (stream(), 9, ptr::null_mut());
    let (code, graph) = capture(own, || {
        assert_eq!(
            acl!(aclmdlRICaptureGetInfo(own, &mut status, &mut early)),
            0
        );
    });
    assert_eq!((code, status), (0, 1));
    assert_eq!(early, graph);
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
}

#[test]
fn a_graph_waits_for_marks_of_the_outside() {
    let _guard = fresh(Settings::default());
    let (x, out, own, side) = (upload(&[1.0; 4]), upload(&[0.0; 4]), stream(), stream());
    let mut event = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut event, 0x20)), 0);
    // The way in which tasks of a graph are updated while it is replayed.
    let mut group = ptr::null_mut();
    let (code, graph) = capture(own, || {
        assert_eq!(acl!(aclrtStreamWaitEvent(own, event)), 0, "{}", recent());
        assert_eq!(acl!(aclrtResetEvent(event, own)), 0, "{}", recent());
        assert_eq!(acl!(aclmdlRICaptureTaskGrpBegin(own)), 0);
        assert_eq!(add(x, x, out, 4, own), 0);
        assert_eq!(acl!(aclmdlRICaptureTaskGrpEnd(own, &mut group)), 0);
    });
    assert_eq!(code, 0, "{}", recent());
    let inputs = [upload(&[2.0; 4]), upload(&[5.0; 4])];
    for (input, wanted) in inputs.into_iter().zip([3.0_f32, 6.0]) {
        assert_eq!(acl!(aclmdlRIExecuteAsync(graph, own)), 0);
        assert_eq!(
            acl!(aclrtSynchronizeStreamWithTimeout(own, 50)),
            507046,
            "it waits for the mark"
        );
        assert_eq!(acl!(aclmdlRICaptureTaskUpdateBegin(side, group)), 0);
        assert_eq!(add(input, x, out, 4, side), 0);
        assert_eq!(acl!(aclmdlRICaptureTaskUpdateEnd(side)), 0);
        assert_eq!(acl!(aclrtRecordEvent(event, side)), 0);
        assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 5000)), 0);
        assert_eq!(download(out, 4), [wanted; 4]);
    }
    assert_eq!(acl!(aclmdlRIDestroy(graph)), 0);
    assert_eq!(acl!(aclrtDestroyEvent(event)), 0);
}

#[test]
fn graphs_record_and_await_events_of_the_outside() {
    let _guard = fresh(Settings::default());
    let (x, a, out) = (upload(&[1.0; 4]), upload(&[0.0; 4]), upload(&[0.0; 4]));
    let (own, side, mut event) = (stream(), stream(), ptr::null_mut());
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut event, 1)), 0);
    let (code, records) = capture(own, || {
        assert_eq!(add(x, x, a, 4, own), 0);
        assert_eq!(
            acl!(aclrtRecordEventWithFlag(event, own, 1)),
            0,
            "{}",
            recent()
        );
    });
    assert_eq!(code, 0, "{}", recent());
    let (code, waits) = capture(side, || {
        assert_eq!(
            acl!(aclrtStreamWaitEventWithFlag(side, event, 0, 1)),
            0,
            "{}",
            recent()
        );
        assert_eq!(add(a, x, out, 4, side), 0);
    });
    assert_eq!(code, 0, "{}", recent());
    assert_eq!(acl!(aclmdlRIExecuteAsync(records, own)), 0);
    assert_eq!(acl!(aclmdlRIExecuteAsync(waits, side)), 0);
    assert_eq!(synchronize(side), 0);
    assert_eq!(download(out, 4), [3.0; 4]);
    assert_eq!(acl!(aclrtSynchronizeEvent(event)), 0);
    assert_eq!(acl!(aclrtRecordEventWithFlag(event, own, 2)), 107000);
}
