//! Signals between streams and the host: notifies, values in device memory, limits, configured streams, copies in batches.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::Settings;
use ascend_sys as sys;
use common::*;
use std::ptr;

fn new_stream() -> sys::aclrtStream {
    let mut stream = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateStream(&mut stream)), 0);
    stream
}

#[test]
fn a_stream_waits_for_a_notify_and_takes_it() {
    let _guard = fresh(Settings::default());
    let (first, second) = (new_stream(), new_stream());
    let mut notify = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateNotify(&mut notify, 2)), 107000);
    assert_eq!(acl!(aclrtCreateNotify(&mut notify, 0)), 0);
    assert_eq!(acl!(aclrtWaitAndResetNotify(notify, second, 0)), 0);
    let mut status = 9;
    assert_eq!(acl!(aclrtStreamQuery(second, &mut status)), 0);
    assert_eq!(status, sys::ACL_STREAM_STATUS_NOT_READY);
    assert_eq!(acl!(aclrtRecordNotify(notify, first)), 0);
    assert_eq!(acl!(aclrtSynchronizeStream(second)), 0);
    // Taken: the next wait runs out.
    assert_eq!(acl!(aclrtWaitAndResetNotify(notify, second, 1)), 0);
    assert_eq!(acl!(aclrtSynchronizeStream(second)), 107019);
    assert!(recent().contains("notify timed out"));
    assert_eq!(acl!(aclrtDestroyNotify(notify)), 0);
    assert_eq!(acl!(aclrtDestroyNotify(notify)), 107017);
}

#[test]
fn a_stream_waits_for_a_value() {
    let _guard = fresh(Settings::default());
    let (first, second) = (new_stream(), new_stream());
    let word = malloc(64);
    assert_eq!(acl!(aclrtMemset(word, 64, 0, 64)), 0);
    assert_eq!(acl!(aclrtValueWait(word, 5, 4, second)), 107000);
    assert_eq!(
        acl!(aclrtValueWait(word.wrapping_byte_add(4), 5, 0, second)),
        107000
    );
    assert_eq!(acl!(aclrtValueWait(word, 5, 0, second)), 0);
    assert_eq!(acl!(aclrtValueWrite(word, 4, 0, first)), 0);
    assert_eq!(acl!(aclrtSynchronizeStream(first)), 0);
    let mut status = 9;
    assert_eq!(acl!(aclrtStreamQuery(second, &mut status)), 0);
    assert_eq!(status, sys::ACL_STREAM_STATUS_NOT_READY);
    assert_eq!(acl!(aclrtValueWrite(word, 6, 0, first)), 0);
    assert_eq!(acl!(aclrtSynchronizeStream(second)), 0);
}

#[test]
fn limits_of_a_stream_come_before_those_of_the_device() {
    let _guard = fresh(Settings::default());
    let (stream, kind) = (new_stream(), sys::ACL_RT_DEV_RES_CUBE_CORE);
    let mut all = 0;
    assert_eq!(acl!(aclrtGetDeviceResLimit(0, kind, &mut all)), 0);
    assert_eq!(acl!(aclrtSetDeviceResLimit(0, kind, all + 1)), 107000);
    assert_eq!(acl!(aclrtSetDeviceResLimit(0, kind, 8)), 0);
    let mut found = 0;
    assert_eq!(acl!(aclrtGetStreamResLimit(stream, kind, &mut found)), 0);
    assert_eq!(found, 8);
    assert_eq!(acl!(aclrtSetStreamResLimit(stream, kind, 4)), 0);
    assert_eq!(acl!(aclrtUseStreamResInCurrentThread(stream)), 0);
    assert_eq!(acl!(aclrtGetResInCurrentThread(kind, &mut found)), 0);
    assert_eq!(found, 4);
    assert_eq!(acl!(aclrtUnuseStreamResInCurrentThread(stream)), 0);
    assert_eq!(acl!(aclrtResetDeviceResLimit(0)), 0);
    assert_eq!(acl!(aclrtGetResInCurrentThread(kind, &mut found)), 0);
    assert_eq!(found, all);
    assert_eq!(acl!(aclrtGetDeviceResLimit(7, kind, &mut found)), 107001);
}

#[test]
fn a_configured_stream_works() {
    let _guard = fresh(Settings::default());
    let options = acl!(aclrtCreateStreamConfigHandle());
    let flag = 1usize;
    let value = (&raw const flag).cast();
    let kind = sys::ACL_RT_STREAM_FLAG;
    assert_eq!(
        acl!(aclrtSetStreamConfigOpt(options, kind, value, 2)),
        100000
    );
    // The header's flag has eight bytes; public samples pass four.
    for size in [4, 8] {
        assert_eq!(acl!(aclrtSetStreamConfigOpt(options, kind, value, size)), 0);
    }
    let mut stream = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateStreamV2(&mut stream, options)), 0);
    assert_eq!(acl!(aclrtDestroyStreamConfigHandle(options)), 0);
    assert_eq!(acl!(aclrtSynchronizeStream(stream)), 0);
    assert_eq!(acl!(aclrtCreateStreamV2(&mut stream, options)), 100000);
}

#[test]
fn a_batch_tells_which_copy_failed() {
    let _guard = fresh(Settings::default());
    let (x, y) = (upload(&[1.0, 2.0]), upload(&[3.0, 4.0]));
    let mut out = [0f32; 4];
    let base: *mut f32 = out.as_mut_ptr();
    let mut targets = [base.cast(), base.wrapping_add(2).cast()];
    let (mut rooms, mut sizes) = ([8usize, 8], [8usize, 8]);
    let mut sources = [x, y];
    // SAFETY: plain numbers, all zeros are valid.
    let mut attribute: sys::aclrtMemcpyBatchAttr = unsafe { std::mem::zeroed() };
    let (mut index, mut failed) = (0usize, 9usize);
    let mut run = |rooms: &mut [usize; 2]| {
        acl!(aclrtMemcpyBatch(
            targets.as_mut_ptr(),
            rooms.as_mut_ptr(),
            sources.as_mut_ptr(),
            sizes.as_mut_ptr(),
            2,
            &mut attribute,
            &mut index,
            1,
            &mut failed
        ))
    };
    assert_eq!(run(&mut rooms), 0);
    assert_eq!(run(&mut [8, 4]), 107000);
    assert_eq!(failed, 1);
    assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
}
