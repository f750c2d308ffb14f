//! Order and time: streams run on their own, events tie them together, callbacks come in order.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::Settings;
use common::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static GATE: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

extern "C" fn wait_for_gate(_: *mut c_void) {
    while !GATE.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_micros(100));
    }
}

extern "C" fn note(argument: *mut c_void) {
    SEEN.lock().expect("no panic before").push(argument.addr());
}

fn blocked() -> ascend_sys::aclrtStream {
    GATE.store(false, Ordering::Release);
    let stream = stream();
    assert_eq!(
        acl!(aclrtLaunchHostFunc(
            stream,
            Some(wait_for_gate),
            ptr::null_mut()
        )),
        0
    );
    stream
}

fn event(flags: u32) -> ascend_sys::aclrtEvent {
    let mut event = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEventExWithFlag(&mut event, flags)), 0);
    event
}

#[test]
fn inputs_are_read_when_the_task_runs() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.0]), malloc(4));
    let own = blocked();
    assert_eq!(add(x, x, out, 1, own), 0);
    let mut status = 9;
    assert_eq!(acl!(aclrtStreamQuery(own, &mut status)), 0);
    assert_eq!(status, 1, "not ready");
    assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 5)), 507046);
    assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 0)), 107000);
    let five = [5.0f32];
    assert_eq!(
        acl!(aclrtMemcpy(x, 4, five.as_ptr().cast(), 4, HOST_TO_DEVICE)),
        0
    );
    GATE.store(true, Ordering::Release);
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 1), [10.0]);
    assert_eq!(acl!(aclrtStreamQuery(own, &mut status)), 0);
    assert_eq!(status, 0);
}

#[test]
fn events_order_streams() {
    let mut settings = Settings::default();
    settings.delay = Some((7, 300));
    let _guard = fresh(settings);
    let (first, second) = (stream(), stream());
    let (x, middle, out) = (upload(&[1.0; 4]), malloc(16), malloc(16));
    let ready = event(1);
    for round in 0..20 {
        assert_eq!(acl!(aclrtMemsetAsync(middle, 16, 0, 16, first)), 0);
        assert_eq!(add(x, x, middle, 4, first), 0);
        assert_eq!(acl!(aclrtRecordEvent(ready, first)), 0);
        assert_eq!(acl!(aclrtStreamWaitEvent(second, ready)), 0);
        assert_eq!(add(middle, x, out, 4, second), 0);
        assert_eq!(synchronize(second), 0);
        assert_eq!(download(out, 4), [3.0; 4], "round {round}");
    }
    assert_eq!(acl!(aclrtDestroyEvent(ready)), 0);
}

#[test]
fn events_follow_their_constructor() {
    let _guard = fresh(Settings::default());
    let (mut event_status, mut old_status) = (9, 9);
    let extended = event(1 | 8);
    assert_eq!(acl!(aclrtQueryEventStatus(extended, &mut event_status)), 0);
    assert_eq!(event_status, 1, "complete before any record");
    assert_eq!(acl!(aclrtQueryEvent(extended, &mut old_status)), 207000);
    assert_eq!(
        acl!(aclrtStreamWaitEvent(ptr::null_mut(), extended)),
        0,
        "no-op before any record"
    );
    let mut classic = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEvent(&mut classic)), 0);
    assert_eq!(acl!(aclrtStreamWaitEvent(ptr::null_mut(), classic)), 107000);
    assert_eq!(acl!(aclrtQueryEventStatus(classic, &mut event_status)), 0);
    assert_eq!(event_status, 0, "not ready before any record");
    let mut flagged = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut flagged, 8)), 0);
    assert_eq!(acl!(aclrtStreamWaitEvent(ptr::null_mut(), flagged)), 207000);
    assert_eq!(acl!(aclrtResetEvent(flagged, ptr::null_mut())), 207000);
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut flagged, 0)), 107000);
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut flagged, 1)), 0);
    assert_eq!(acl!(aclrtRecordEvent(flagged, ptr::null_mut())), 0);
    assert_eq!(acl!(aclrtStreamWaitEvent(ptr::null_mut(), flagged)), 0);
    assert_eq!(
        acl!(aclrtRecordEvent(flagged, ptr::null_mut())),
        107000,
        "recorded again without a reset"
    );
    assert_eq!(acl!(aclrtResetEvent(flagged, ptr::null_mut())), 0);
    assert_eq!(acl!(aclrtRecordEvent(flagged, ptr::null_mut())), 0);
    assert_eq!(acl!(aclrtSynchronizeEvent(flagged)), 0);
}

#[test]
fn time_passes_between_events() {
    let _guard = fresh(Settings::default());
    extern "C" fn nap(_: *mut c_void) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (start, end, own) = (event(8), event(8), stream());
    let mut ms = 0f32;
    assert_eq!(
        acl!(aclrtEventElapsedTime(&mut ms, start, end)),
        507000,
        "never recorded"
    );
    assert_eq!(acl!(aclrtRecordEvent(start, own)), 0);
    assert_eq!(
        acl!(aclrtLaunchHostFunc(own, Some(nap), ptr::null_mut())),
        0
    );
    assert_eq!(acl!(aclrtRecordEvent(end, own)), 0);
    assert_eq!(
        acl!(aclrtEventElapsedTime(&mut ms, start, end)),
        107006,
        "not complete"
    );
    assert_eq!(acl!(aclrtSynchronizeEventWithTimeout(end, 1)), 507047);
    assert_eq!(acl!(aclrtSynchronizeEvent(end)), 0);
    assert_eq!(acl!(aclrtEventElapsedTime(&mut ms, start, end)), 0);
    assert!(ms >= 20.0, "{ms}");
    assert_eq!(acl!(aclrtEventElapsedTime(&mut ms, end, start)), 107007);
}

#[test]
fn pinned_copies_are_asynchronous_and_pageable_ones_are_not() {
    let _guard = fresh(Settings::default());
    let x = upload(&[1.0]);
    let source = pinned(4).cast::<f32>();
    // SAFETY: pinned host memory of four bytes.
    unsafe { source.write(2.0) };
    let own = blocked();
    assert_eq!(
        acl!(aclrtMemcpyAsync(
            x,
            4,
            source.cast(),
            4,
            HOST_TO_DEVICE,
            own
        )),
        0
    );
    // SAFETY: as above; the copy has not run, so that it sees this value.
    unsafe { source.write(3.0) };
    assert_eq!(
        acl!(aclrtFreeHost(source.cast())),
        207002,
        "freed under a queued copy"
    );
    GATE.store(true, Ordering::Release);
    assert_eq!(synchronize(own), 507015);
    assert_eq!(acl!(aclrtResetDeviceForce(0)), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    let (x, own) = (upload(&[1.0]), stream());
    assert_eq!(add(x, x, x, 1, own), 0);
    let mut back = [0f32];
    assert_eq!(
        acl!(aclrtMemcpyAsync(
            back.as_mut_ptr().cast(),
            4,
            x,
            4,
            DEVICE_TO_HOST,
            own
        )),
        0
    );
    assert_eq!(back, [2.0]);
}

#[test]
fn callbacks_run_on_the_subscribed_thread() {
    let _guard = fresh(Settings::default());
    let own = stream();
    let number = |value: usize| ptr::without_provenance_mut::<c_void>(value);
    assert_eq!(
        acl!(aclrtLaunchCallback(Some(note), number(1), 1, own)),
        107015
    );
    SEEN.lock().expect("no panic before").clear();
    // SAFETY: no precondition.
    let thread = unsafe { libc::pthread_self() } as u64;
    assert_eq!(acl!(aclrtSubscribeReport(thread, own)), 0);
    assert_eq!(acl!(aclrtSubscribeReport(thread, own)), 107011);
    assert_eq!(acl!(aclrtLaunchCallback(Some(note), number(7), 0, own)), 0);
    assert_eq!(acl!(aclrtLaunchCallback(Some(note), number(8), 0, own)), 0);
    assert_eq!(acl!(aclrtProcessReport(2000)), 0);
    assert_eq!(acl!(aclrtProcessReport(2000)), 0);
    assert_eq!(*SEEN.lock().expect("no panic before"), [7, 8]);
    assert_eq!(acl!(aclrtProcessReport(5)), 507012);
    assert_eq!(acl!(aclrtProcessReport(0)), 100000);
    assert_eq!(acl!(aclrtUnSubscribeReport(thread, own)), 0);
}

#[test]
fn an_aborted_stream_drops_its_work() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.0]), upload(&[9.0]));
    let own = blocked();
    assert_eq!(add(x, x, out, 1, own), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            GATE.store(true, Ordering::Release);
        });
        assert_eq!(acl!(aclrtStreamAbort(own)), 0);
    });
    assert_eq!(synchronize(own), 0);
    assert_eq!(download(out, 1), [9.0]);
}

#[test]
fn waiters_learn_of_an_abort() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.0]), upload(&[9.0]));
    for (abort, wanted) in [(false, 107023), (true, 107022)] {
        let own = blocked();
        let own = own.expose_provenance();
        let handle = || ptr::with_exposed_provenance_mut(own);
        assert_eq!(add(x, x, out, 1, handle()), 0);
        let mut context = ptr::null_mut();
        assert_eq!(acl!(aclrtGetCurrentContext(&mut context)), 0);
        let context = context.expose_provenance();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let context = ptr::with_exposed_provenance_mut(context);
                assert_eq!(acl!(aclrtSetCurrentContext(context)), 0);
                (synchronize(handle()), recent())
            });
            std::thread::sleep(Duration::from_millis(50));
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                GATE.store(true, Ordering::Release);
            });
            let code = match abort {
                true => acl!(aclrtDeviceTaskAbort(0, 2000)),
                false => acl!(aclrtStreamAbort(handle())),
            };
            assert_eq!(code, 0);
            let (code, text) = waiter.join().expect("the waiter");
            assert_eq!(code, wanted, "{text}");
            assert!(text.contains("aborted"), "{text}");
        });
        assert_eq!(synchronize(handle()), 0);
    }
    assert_eq!(download(out, 1), [9.0]);
}

#[test]
fn a_wait_ends_in_time() {
    let mut settings = Settings::default();
    settings.latency = Duration::from_millis(150);
    let _guard = fresh(settings);
    let (x, out, own) = (upload(&[1.0]), malloc(4), stream());
    assert_eq!(add(x, x, out, 1, own), 0);
    assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 20)), 507046);
    assert_eq!(acl!(aclrtSynchronizeDeviceWithTimeout(20)), 507046);
    assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 5000)), 0);
    assert_eq!(download(out, 1), [2.0]);
}

#[test]
fn callbacks_hold_the_stream_or_not() {
    let _guard = fresh(Settings::default());
    let own = stream();
    assert_eq!(
        acl!(aclrtLaunchCallback(
            Some(wait_within),
            ptr::null_mut(),
            2,
            own
        )),
        100000
    );
    assert!(recent().contains("blockType is 2"));
}

static CODE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn wait_within(_: *mut c_void) {
    CODE.store(
        acl!(aclrtSetDevice(0)) + acl!(aclrtSynchronizeDevice()),
        Ordering::Release,
    );
}

/// On hardware this hangs.
#[test]
fn callbacks_cannot_wait_for_their_stream() {
    let _guard = fresh(Settings::default());
    let own = stream();
    assert_eq!(
        acl!(aclrtLaunchHostFunc(own, Some(wait_within), ptr::null_mut())),
        0
    );
    assert_eq!(synchronize(own), 0);
    assert_eq!(CODE.load(Ordering::Acquire), 107000);
    assert!(
        ascend_emulator::violations()
            .iter()
            .any(|line| line.contains("deadlock"))
    );
}

/// A callback that the stream waits for holds up what follows; one that it does not wait for does not.
#[test]
fn blocking_callbacks_hold_their_stream() {
    let _guard = fresh(Settings::default());
    let own = stream();
    // SAFETY: no precondition.
    let thread = unsafe { libc::pthread_self() } as u64;
    assert_eq!(acl!(aclrtSubscribeReport(thread, own)), 0);
    let mut status = 9;
    assert_eq!(
        acl!(aclrtLaunchCallback(Some(note), ptr::null_mut(), 0, own)),
        0
    );
    assert_eq!(synchronize(own), 0, "the stream went on");
    assert_eq!(
        acl!(aclrtLaunchCallback(Some(note), ptr::null_mut(), 1, own)),
        0
    );
    assert_eq!(acl!(aclrtSynchronizeStreamWithTimeout(own, 20)), 507046);
    assert_eq!(acl!(aclrtProcessReport(1000)), 0);
    assert_eq!(acl!(aclrtProcessReport(1000)), 0);
    assert_eq!(synchronize(own), 0);
    assert_eq!(acl!(aclrtStreamQuery(own, &mut status)), 0);
    assert_eq!(status, 0);
    assert_eq!(acl!(aclrtUnSubscribeReport(thread, own)), 0);
    assert_eq!(acl!(aclrtUnSubscribeReport(thread, own)), 107012);
}

/// Flags and numbers of both families, and the limit of a small chip.
#[test]
fn events_have_flags_and_limits() {
    let mut settings = Settings::default();
    settings.soc = String::from("Ascend310P3");
    let _guard = fresh(settings);
    let mut event = ptr::null_mut();
    for (flags, flagged, extended) in [
        (0, 107000, 107000),
        (1, 0, 0),
        (1 | 2 | 8, 0, 0),
        (0x10, 0, 107000),
        (0x20, 0, 107000),
        (0x21, 107000, 107000),
        (0x40, 107000, 0),
        (0x41, 107000, 107000),
        (0x80, 107000, 107000),
    ] {
        assert_eq!(
            acl!(aclrtCreateEventWithFlag(&mut event, flags)),
            flagged,
            "{flags:#x}"
        );
        assert_eq!(
            acl!(aclrtCreateEventExWithFlag(&mut event, flags)),
            extended,
            "{flags:#x}"
        );
    }
    let mut left = 0;
    assert_eq!(acl!(aclrtGetEventAvailNum(&mut left)), 0);
    assert!((900..1023).contains(&left), "{left}");
    for _ in 0..left {
        assert_eq!(acl!(aclrtCreateEventWithFlag(&mut event, 1)), 0);
    }
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut event, 1)), 207007);
    assert_eq!(acl!(aclrtDestroyEvent(event)), 0);
    assert_eq!(acl!(aclrtCreateEventWithFlag(&mut event, 1)), 0);
    assert_eq!(acl!(aclrtSynchronizeEvent(event)), 0, "never recorded");
}
