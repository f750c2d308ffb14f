//! What processes share: device memory, physical memory, notifies and events; and pools of one process.
//!
//! Knows processes as ranks; it must not know how pages are shared.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;
mod ranks;

use ascend_sys as sys;
use common::*;
use ranks::*;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

/// Not a test of its own: what a process does that a test started as a rank.
#[test]
fn a_rank() {
    let Some((name, rank)) = scenario() else {
        return;
    };
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    match name.as_str() {
        "memory" => memory(&rank),
        "physical" => physical(&rank),
        "signals" => signals(&rank),
        "killed" => killed(&rank),
        other => panic!("no scenario {other}"),
    }
    assert_eq!(ascend_emulator::leaks(), Vec::<String>::new());
}

fn ok(code: i32) {
    assert_eq!(code, 0, "{}", recent());
}

fn key_bytes(key: &[std::ffi::c_char; 65]) -> Vec<u8> {
    key.map(|letter| letter as u8).to_vec()
}

fn key_of(bytes: &[u8]) -> [std::ffi::c_char; 65] {
    let mut key = [0; 65];
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from as _;
    }
    key
}

fn export(pointer: *mut c_void, size: usize, flags: u64) -> [std::ffi::c_char; 65] {
    let mut key = [0; 65];
    ok(acl!(aclrtIpcMemGetExportKey(
        pointer,
        size,
        key.as_mut_ptr(),
        65,
        flags
    )));
    key
}

/// Rank 0 shares a part of a block; rank 1 reads and changes it by kernels; who is not listed stays out.
fn memory(own: &Rank) {
    let stream = stream();
    if own.rank == 0 {
        let whole = device(&[1f32, 1., 1., 1., 1., 2., 3., 4., 5., 6., 7., 8.]);
        let part = whole.wrapping_byte_add(32);
        let open = export(part, 16, 1);
        own.publish("open", &key_bytes(&open));
        let other = device(&[9f32]);
        let listed = export(other, 4, 0);
        own.publish("listed", &key_bytes(&listed));
        own.await_published("refused");
        let guest = own.await_published("guest");
        let mut guest = i32::from_ne_bytes(guest.try_into().unwrap());
        ok(acl!(aclrtIpcMemSetImportPid(
            listed.as_ptr(),
            &mut guest,
            1
        )));
        own.publish("let in", &[]);
        own.await_published("done");
        let last = host::<f32>(whole, 12).split_off(4);
        assert_eq!(last, [1., 2., 3., 4., 10., 12., 14., 16.]);
        // The memory is the owner's as before: kernels and copies see the same bytes.
        assert_eq!(add(whole, whole, whole, 12, stream), 0);
        synchronized(stream);
        assert_eq!(host::<f32>(whole, 9)[4..], [2., 4., 6., 8., 20.]);
        for key in [open, listed] {
            ok(acl!(aclrtIpcMemClose(key.as_ptr())));
            assert_eq!(acl!(aclrtIpcMemClose(key.as_ptr())), 107_000);
        }
        ok(acl!(aclrtFree(whole)));
        ok(acl!(aclrtFree(other)));
    } else {
        let open = key_of(&own.await_published("open"));
        let mut part = ptr::null_mut();
        ok(acl!(aclrtIpcMemImportByKey(&mut part, open.as_ptr(), 1)));
        assert_eq!(host::<f32>(part, 4), [5., 6., 7., 8.]);
        assert_eq!(add(part, part, part, 4, stream), 0);
        synchronized(stream);
        let listed = key_of(&own.await_published("listed"));
        let mut alone = ptr::null_mut();
        let refused = acl!(aclrtIpcMemImportByKey(&mut alone, listed.as_ptr(), 0));
        assert_eq!(refused, 207_006);
        assert!(recent().contains("list"));
        own.publish("refused", &[]);
        own.publish("guest", &std::process::id().to_ne_bytes());
        own.await_published("let in");
        ok(acl!(aclrtIpcMemImportByKey(&mut alone, listed.as_ptr(), 0)));
        assert_eq!(host::<f32>(alone, 1), [9.]);
        assert_eq!(acl!(aclrtFree(alone)), 107_000, "only closed, never freed");
        for key in [open, listed] {
            ok(acl!(aclrtIpcMemClose(key.as_ptr())));
        }
        own.publish("done", &[]);
    }
    ok(acl!(aclrtDestroyStream(stream)));
}

#[test]
fn device_memory_is_shared_by_key() {
    run("memory", 2, &[]);
}

#[test]
fn device_memory_is_shared_behind_protected_addresses() {
    run("memory", 2, &[("ASCEND_EMULATOR_STRICT", "protect")]);
}

const GRANULE: usize = 2 << 20;

fn property() -> sys::aclrtPhysicalMemProp {
    sys::aclrtPhysicalMemProp {
        handleType: 0,
        allocationType: 0,
        memAttr: 1,
        location: sys::aclrtMemLocation { id: 0, type_: 1 },
        reserve: 0,
    }
}

fn mapped(handle: sys::aclrtDrvMemHandle) -> *mut c_void {
    let mut pointer = ptr::null_mut();
    let (none, flags) = (ptr::null_mut(), 0);
    ok(acl!(aclrtReserveMemAddress(
        &mut pointer,
        GRANULE,
        0,
        none,
        flags
    )));
    ok(acl!(aclrtMapMem(pointer, GRANULE, 0, handle, 0)));
    let mut access: sys::aclrtMemAccessDesc = sys::aclrtMemAccessDesc {
        flags: sys::ACL_RT_MEM_ACCESS_FLAGS_READWRITE,
        location: sys::aclrtMemLocation { id: 0, type_: 1 },
        rsv: [0; 12],
    };
    ok(acl!(aclrtMemSetAccess(pointer, GRANULE, &mut access, 1)));
    pointer
}

fn unmapped(pointer: *mut c_void, handle: sys::aclrtDrvMemHandle) {
    ok(acl!(aclrtUnmapMem(pointer)));
    ok(acl!(aclrtReleaseMemAddress(pointer)));
    ok(acl!(aclrtFreePhysical(handle)));
}

/// Rank 0 exports physical memory that is mapped; both see one another's writes, also after a new mapping.
fn physical(own: &Rank) {
    if own.rank == 0 {
        let mut handle = ptr::null_mut();
        ok(acl!(aclrtMallocPhysical(
            &mut handle,
            GRANULE,
            &property(),
            0
        )));
        let pointer = mapped(handle);
        write(pointer, &[1f32, 2., 3.]);
        let mut number = 0;
        ok(acl!(aclrtMemExportToShareableHandle(
            handle,
            0,
            0,
            &mut number
        )));
        assert_eq!(
            acl!(aclrtMemExportToShareableHandle(handle, 0, 0, &mut number)),
            107_000,
            "one handle each"
        );
        let guest = own.await_published("guest");
        let mut guest = i32::from_ne_bytes(guest.try_into().unwrap());
        ok(acl!(aclrtMemSetPidToShareableHandle(number, &mut guest, 1)));
        let mut again = ptr::null_mut();
        let own_process = acl!(aclrtMemImportFromShareableHandle(number, 0, &mut again));
        assert_eq!(own_process, 107_000);
        own.publish("handle", &number.to_ne_bytes());
        own.await_published("changed");
        assert_eq!(host::<f32>(pointer, 3), [1., 20., 3.]);
        write(pointer, &[7f32]);
        own.publish("changed too", &[]);
        own.await_published("done");
        let mut found = property();
        found.memAttr = 5;
        ok(acl!(aclrtMemGetAllocationPropertiesFromHandle(
            handle, &mut found
        )));
        assert_eq!((found.memAttr, found.location.type_), (1, 1));
        let mut retained = ptr::null_mut();
        ok(acl!(aclrtMemRetainAllocationHandle(pointer, &mut retained)));
        assert_eq!(retained, handle);
        ok(acl!(aclrtFreePhysical(retained)));
        unmapped(pointer, handle);
    } else {
        own.publish("guest", &std::process::id().to_ne_bytes());
        let number = own.await_published("handle");
        let number = u64::from_ne_bytes(number.try_into().unwrap());
        let mut handle = ptr::null_mut();
        ok(acl!(aclrtMemImportFromShareableHandle(
            number,
            0,
            &mut handle
        )));
        let pointer = mapped(handle);
        assert_eq!(host::<f32>(pointer, 3), [1., 2., 3.]);
        write(pointer.wrapping_byte_add(4), &[20f32]);
        own.publish("changed", &[]);
        own.await_published("changed too");
        ok(acl!(aclrtUnmapMem(pointer)));
        ok(acl!(aclrtMapMem(pointer, GRANULE, 0, handle, 0)));
        assert_eq!(host::<f32>(pointer, 3), [7., 20., 3.]);
        let mut place = sys::aclrtMemLocation { id: 0, type_: 1 };
        let mut flag = 9;
        ok(acl!(aclrtMemGetAccess(pointer, &mut place, &mut flag)));
        assert_eq!(flag, 3);
        unmapped(pointer, handle);
        own.publish("done", &[]);
    }
}

fn write(pointer: *mut c_void, values: &[f32]) {
    let bytes = size_of_val(values);
    let from = values.as_ptr().cast();
    ok(acl!(aclrtMemcpy(
        pointer,
        bytes,
        from,
        bytes,
        HOST_TO_DEVICE
    )));
}

#[test]
fn physical_memory_is_shared_by_handle() {
    run("physical", 2, &[]);
}

/// Rank 1's stream waits for a notify and for a record of an event of rank 0.
fn signals(own: &Rank) {
    let stream = stream();
    if own.rank == 0 {
        let mut notify = ptr::null_mut();
        ok(acl!(aclrtCreateNotify(&mut notify, 0)));
        let mut key = [0; 65];
        ok(acl!(aclrtNotifyGetExportKey(
            notify,
            key.as_mut_ptr(),
            65,
            2
        )));
        let mut event = ptr::null_mut();
        ok(acl!(aclrtCreateEventExWithFlag(&mut event, 0x40)));
        let mut handle = sys::aclrtIpcEventHandle { reserved: [0; 64] };
        ok(acl!(aclrtIpcGetEventHandle(event, &mut handle)));
        own.publish("notify", &key_bytes(&key));
        own.publish("event", &handle.reserved.map(|byte| byte as u8));
        own.await_published("waiting");
        std::thread::sleep(Duration::from_millis(200));
        own.publish("late", &[]);
        ok(acl!(aclrtRecordNotify(notify, stream)));
        own.await_published("notified");
        // The event is behind a value that only this process writes.
        let word = device(&[0u64]);
        ok(acl!(aclrtValueWait(word, 1, 1, stream)));
        ok(acl!(aclrtRecordEvent(event, stream)));
        let mut status = 7;
        ok(acl!(aclrtQueryEventStatus(event, &mut status)));
        assert_eq!(status, 0, "recorded, not complete");
        own.publish("recorded", &[]);
        own.await_published("queued");
        std::thread::sleep(Duration::from_millis(200));
        own.publish("late too", &[]);
        let one = 1u64;
        ok(acl!(aclrtMemcpy(
            word,
            8,
            (&raw const one).cast(),
            8,
            HOST_TO_DEVICE
        )));
        ok(acl!(aclrtSynchronizeEvent(event)));
        own.await_published("recorded back");
        ok(acl!(aclrtSynchronizeEvent(event)));
        ok(acl!(aclrtSynchronizeStream(stream)));
        ok(acl!(aclrtFree(word)));
        ok(acl!(aclrtDestroyNotify(notify)));
        ok(acl!(aclrtDestroyEvent(event)));
    } else {
        let key = key_of(&own.await_published("notify"));
        let mut notify = ptr::null_mut();
        ok(acl!(aclrtNotifyImportByKey(&mut notify, key.as_ptr(), 2)));
        let mut handle = sys::aclrtIpcEventHandle { reserved: [0; 64] };
        for (to, from) in handle.reserved.iter_mut().zip(own.await_published("event")) {
            *to = from as _;
        }
        let mut event = ptr::null_mut();
        ok(acl!(aclrtIpcOpenEventHandle(handle, &mut event)));
        ok(acl!(aclrtStreamWaitEvent(stream, event)));
        ok(acl!(aclrtSynchronizeStream(stream)));
        ok(acl!(aclrtWaitAndResetNotify(notify, stream, 20)));
        own.publish("waiting", &[]);
        ok(acl!(aclrtSynchronizeStream(stream)));
        assert!(own.path("late").exists(), "the stream did not wait");
        own.publish("notified", &[]);
        own.await_published("recorded");
        ok(acl!(aclrtStreamWaitEvent(stream, event)));
        own.publish("queued", &[]);
        ok(acl!(aclrtSynchronizeStream(stream)));
        assert!(own.path("late too").exists(), "the stream did not wait");
        ok(acl!(aclrtRecordEvent(event, stream)));
        own.publish("recorded back", &[]);
        ok(acl!(aclrtSynchronizeStream(stream)));
        ok(acl!(aclrtDestroyNotify(notify)));
        ok(acl!(aclrtDestroyEvent(event)));
    }
    ok(acl!(aclrtDestroyStream(stream)));
}

#[test]
fn streams_of_two_processes_wait_for_each_other() {
    run("signals", 2, &[]);
}

/// Rank 0 dies with memory exported; the importer keeps it, and a key of the dead is an error.
fn killed(own: &Rank) {
    if own.rank == 0 {
        let memory = device(&[4f32]);
        own.publish("key", &key_bytes(&export(memory, 4, 1)));
        own.await_published("imported");
        std::process::abort();
    }
    let key = key_of(&own.await_published("key"));
    let mut pointer = ptr::null_mut();
    ok(acl!(aclrtIpcMemImportByKey(&mut pointer, key.as_ptr(), 1)));
    own.publish("imported", &[]);
    let deadline = Instant::now() + Duration::from_secs(20);
    ok(acl!(aclrtIpcMemClose(key.as_ptr())));
    loop {
        let code = acl!(aclrtIpcMemImportByKey(&mut pointer, key.as_ptr(), 1));
        if code != 0 {
            assert_eq!(code, 107_000);
            break;
        }
        assert_eq!(host::<f32>(pointer, 1), [4.]);
        ok(acl!(aclrtIpcMemClose(key.as_ptr())));
        assert!(Instant::now() < deadline, "the other rank never died");
    }
}

#[test]
fn the_dead_leave_nothing_behind() {
    let outputs = start("killed", &[0, 1], 2, &[]).wait();
    assert!(!outputs[0].1.status.success());
    let said = String::from_utf8_lossy(&outputs[1].1.stdout).into_owned();
    assert!(outputs[1].1.status.success(), "{said}");
}

#[test]
fn wrong_keys_are_refused() {
    let _turn = fresh(Default::default());
    let mut pointer = ptr::null_mut();
    let import = |pointer: &mut _, key: &std::ffi::CStr| {
        acl!(aclrtIpcMemImportByKey(pointer, key.as_ptr(), 0))
    };
    for key in [c"", c"name", c"ascend.1.2.3.4.5", c"ascend.fffffff.0.0.0.0"] {
        assert_eq!(import(&mut pointer, key), 107_000, "{key:?}");
    }
    let mut key = [0; 65];
    let to = key.as_mut_ptr();
    let memory = malloc(64);
    for (at, size, len, flags) in [
        (memory, 65, 65, 0),
        (memory, 0, 65, 0),
        (memory, 64, 10, 0),
        (memory, 64, 65, 2),
    ] {
        let code = acl!(aclrtIpcMemGetExportKey(at, size, to, len, flags));
        assert_eq!(code, 107_000);
    }
    let host = pinned(64);
    assert_eq!(acl!(aclrtIpcMemGetExportKey(host, 64, to, 65, 0)), 107_000);
    let mut event = ptr::null_mut();
    ok(acl!(aclrtCreateEventExWithFlag(&mut event, 1)));
    let mut handle = sys::aclrtIpcEventHandle { reserved: [0; 64] };
    assert_eq!(acl!(aclrtIpcGetEventHandle(event, &mut handle)), 107_000);
    let mut opened = ptr::null_mut();
    assert_eq!(acl!(aclrtIpcOpenEventHandle(handle, &mut opened)), 107_000);
}

fn attribute(pool: sys::aclrtMemPool, which: u32) -> u64 {
    let mut value = 0u64;
    ok(acl!(aclrtMemPoolGetAttr(
        pool,
        which,
        (&raw mut value).cast()
    )));
    value
}

#[test]
fn pools_take_and_give_back_in_the_order_of_streams() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let props = sys::aclrtMemPoolProps {
        allocType: 0,
        handleType: 0,
        location: sys::aclrtMemLocation { id: 0, type_: 1 },
        maxSize: 4 << 20,
        reserved: [0; 32],
    };
    let mut pool = ptr::null_mut();
    ok(acl!(aclrtMemPoolCreate(&mut pool, &props)));
    let take = |size: usize| {
        let mut pointer = ptr::null_mut();
        let code = acl!(aclrtMemPoolMallocAsync(&mut pointer, size, pool, stream));
        (code, pointer)
    };
    let (x, y) = (take(32).1, take(32).1);
    assert_eq!(take(32).0, 207_001, "the pool holds two pages");
    write(x, &[1., 2., 3., 4., 5., 6., 7., 8.]);
    assert_eq!(add(x, x, y, 8, stream), 0);
    // Given back while the kernel may still run, and before the copy: the first is fine, the second is found.
    ok(acl!(aclrtMemPoolFreeAsync(x, stream)));
    synchronized(stream);
    assert_eq!(host::<f32>(y, 3), [2., 4., 6.]);
    let used = sys::ACL_RT_MEM_POOL_ATTR_USED_MEM_CURRENT;
    let reserved = sys::ACL_RT_MEM_POOL_ATTR_RESERVED_MEM_CURRENT;
    assert_eq!(
        (attribute(pool, used), attribute(pool, reserved)),
        (2 << 20, 2 << 20)
    );
    let mut keep = 4u64 << 20;
    ok(acl!(aclrtMemPoolSetAttr(pool, 4, (&raw mut keep).cast())));
    ok(acl!(aclrtMemPoolFreeAsync(y, stream)));
    assert_eq!(acl!(aclrtMemPoolFreeAsync(y, stream)), 107_000);
    synchronized(stream);
    assert_eq!(
        (attribute(pool, used), attribute(pool, reserved)),
        (0, 2 << 20)
    );
    assert_eq!(
        attribute(pool, sys::ACL_RT_MEM_POOL_ATTR_USED_MEM_HIGH),
        4 << 20
    );
    ok(acl!(aclrtMemPoolTrimTo(pool, 0)));
    assert_eq!(attribute(pool, reserved), 0);
    let z = take(8).1;
    assert_eq!(acl!(aclrtMemPoolDestroy(pool)), 107_000, "a block is out");
    ok(acl!(aclrtMemPoolFreeAsync(z, stream)));
    synchronized(stream);
    ok(acl!(aclrtMemPoolDestroy(pool)));
    assert_eq!(take(8).0, 107_000);
    ok(acl!(aclrtDestroyStream(stream)));
    assert_eq!(ascend_emulator::leaks(), Vec::<String>::new());
}
