//! The ordinary course of a program: init, memory, ops in two phases, copies back, and the end.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::{Settings, calls, kernel_launches, leaks, violations};
use common::*;
use half::f16;
use std::ptr;
use std::time::Instant;

#[test]
fn init_and_finalize_count() {
    let _guard = fresh(Settings::default());
    assert_eq!(acl!(aclInit(ptr::null())), 100002);
    let mut left = 9;
    assert_eq!(acl!(aclFinalizeReference(&mut left)), 0);
    assert_eq!(left, 1);
    assert_eq!(acl!(aclFinalize()), 0);
    assert_eq!(acl!(aclFinalize()), 100037);
    assert_eq!(acl!(aclFinalizeReference(ptr::null_mut())), 100037);
    assert_eq!(acl!(aclInit(c"/nowhere/at/all.json".as_ptr())), 100003);
    assert_eq!(acl!(aclInit(ptr::null())), 0);
}

fn configuration(name: &str, text: &str) -> std::ffi::CString {
    let path = std::env::temp_dir().join(format!("ascend-{}-{name}.json", std::process::id()));
    std::fs::write(&path, text).expect("a file");
    std::ffi::CString::new(path.to_str().expect("a name")).expect("a path")
}

#[test]
fn a_configuration_is_checked() {
    let nested = format!("{}1{}", "{\"a\":".repeat(11), "}".repeat(11));
    for (name, text, code) in [
        ("deep", nested.as_str(), 100006),
        ("cut", "{\"a\":", 100006),
        ("list", "[]", 100006),
        (
            "stack",
            r#"{"StackSize": {"aicore_stack_size": 1000}}"#,
            100000,
        ),
        (
            "large",
            r#"{"StackSize": {"aicore_stack_size": 212992}}"#,
            100000,
        ),
        ("fits", r#"{"StackSize": {"aicore_stack_size": 196608}}"#, 0),
    ] {
        let _guard = fresh(Settings::default());
        assert_eq!(acl!(aclFinalize()), 0);
        let path = configuration(name, text);
        // The world remembers the configuration of before: one without init is wanted.
        ascend_emulator::reset(Settings::default()).expect("settings");
        assert_eq!(acl!(aclInit(path.as_ptr())), code, "{name}: {}", recent());
        if code != 0 {
            assert_eq!(acl!(aclInit(ptr::null())), 0);
        }
        std::fs::remove_file(path.to_str().expect("a path")).expect("removed");
    }
}

#[test]
fn threads_share_their_error_texts_if_asked() {
    let _guard = fresh(Settings::default());
    ascend_emulator::reset(Settings::default()).expect("settings");
    let path = configuration("shared", r#"{"err_msg_mode": "1"}"#);
    assert_eq!(acl!(aclInit(path.as_ptr())), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    assert_eq!(acl!(aclrtMalloc(ptr::null_mut(), 8, 0)), 100000);
    let text = std::thread::spawn(recent).join().expect("a thread");
    assert!(text.contains("aclrtMalloc"), "{text}");
    assert_eq!(recent(), "");
    // The next one starts with texts per thread again.
    ascend_emulator::reset(Settings::default()).expect("settings");
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    std::fs::remove_file(path.to_str().expect("a path")).expect("removed");
}

#[test]
fn add_and_copy_back() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (
        upload(&[1.0, 2.0, 3.0]),
        upload(&[10.0, 20.0, 30.0]),
        malloc(12),
    );
    assert_eq!(add(x, y, out, 3, ptr::null_mut()), 0, "{}", recent());
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 3), [11.0, 22.0, 33.0]);
    assert_eq!(calls("aclnnAdd"), 1);
    assert_eq!(kernel_launches(), 1);
    for pointer in [x, y, out] {
        assert_eq!(acl!(aclrtFree(pointer)), 0);
    }
    assert_eq!(leaks(), Vec::<String>::new());
    assert_eq!(violations(), Vec::<String>::new());
    assert_eq!(acl!(aclrtResetDevice(0)), 0);
    assert_eq!(acl!(aclFinalize()), 0);
}

#[test]
fn strided_views_broadcast_and_round_once() {
    let _guard = fresh(Settings::default());
    // x is the transpose of a 2 x 3 matrix, y a row.
    let (x, y) = (
        upload(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        upload(&[0.5, 0.25]),
    );
    let out = malloc(12);
    let (tx, ty) = (view(&[3, 2], &[1, 3], 0, 6, x), tensor(&[2], y));
    let tout = typed(&[3, 2], ascend_sys::ACL_FLOAT16, out);
    let (status, size, executor) = plan_add(tx, ty, tout);
    assert_eq!(status, 0, "{}", recent());
    assert!(size > 0, "a view that is not contiguous needs a workspace");
    let workspace = malloc(size as usize);
    assert_eq!(
        acl!(aclnnAdd(workspace, size, executor, ptr::null_mut())),
        0,
        "{}",
        recent()
    );
    assert_eq!(synchronize(ptr::null_mut()), 0);
    let mut halves = [f16::ZERO; 6];
    assert_eq!(
        acl!(aclrtMemcpy(
            halves.as_mut_ptr().cast(),
            12,
            out,
            12,
            DEVICE_TO_HOST
        )),
        0
    );
    assert_eq!(halves.map(f16::to_f32), [1.5, 4.25, 2.5, 5.25, 3.5, 6.25]);
}

#[test]
fn matmul_multiplies() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (
        upload(&[1.0, 2.0, 3.0, 4.0]),
        upload(&[5.0, 6.0, 7.0, 8.0]),
        malloc(16),
    );
    let (tx, ty, tout) = (tensor(&[2, 2], x), tensor(&[2, 2], y), tensor(&[2, 2], out));
    let (mut size, mut executor) = (0, ptr::null_mut());
    assert_eq!(
        acl!(aclnnMatmulGetWorkspaceSize(
            tx,
            ty,
            tout,
            0,
            &mut size,
            &mut executor
        )),
        0,
        "{}",
        recent()
    );
    assert!(size > 0);
    let workspace = malloc(size as usize);
    assert_eq!(
        acl!(aclnnMatmul(workspace, size, executor, ptr::null_mut())),
        0
    );
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 4), [19.0, 22.0, 43.0, 50.0]);
}

#[test]
fn executors_repeat_with_new_addresses() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (upload(&[1.0]), upload(&[2.0]), malloc(4));
    let (tx, ty, tout) = (tensor(&[1], x), tensor(&[1], y), tensor(&[1], out));
    let (status, size, executor) = plan_add(tx, ty, tout);
    assert_eq!((status, size), (0, 0));
    assert_eq!(acl!(aclSetAclOpExecutorRepeatable(executor)), 0);
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        0
    );
    let other = upload(&[40.0]);
    assert_eq!(
        acl!(aclSetInputTensorAddr(executor, 0, tx, other)),
        0,
        "{}",
        recent()
    );
    assert_eq!(acl!(aclSetInputTensorAddr(executor, 99, tx, other)), 161002);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 1), [3.0]);
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        0
    );
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 1), [42.0]);
    assert_eq!(acl!(aclDestroyAclOpExecutor(executor)), 0);
}

#[test]
fn saturation_mode_clips_streams_made_afterwards() {
    let _guard = fresh(Settings::default());
    let run = |stream| {
        let (x, y, out) = (upload(&[60000.0]), upload(&[60000.0]), malloc(2));
        let (tx, ty) = (tensor(&[1], x), tensor(&[1], y));
        let tout = typed(&[1], ascend_sys::ACL_FLOAT16, out);
        let (status, _, executor) = plan_add(tx, ty, tout);
        assert_eq!(status, 0);
        assert_eq!(acl!(aclnnAdd(ptr::null_mut(), 0, executor, stream)), 0);
        assert_eq!(synchronize(stream), 0);
        let mut half = f16::ZERO;
        assert_eq!(
            acl!(aclrtMemcpy(
                (&raw mut half).cast(),
                2,
                out,
                2,
                DEVICE_TO_HOST
            )),
            0
        );
        half.to_f32()
    };
    let before = stream();
    assert_eq!(acl!(aclrtSetDeviceSatMode(0)), 0);
    let after = stream();
    assert_eq!(run(before), f32::INFINITY);
    assert_eq!(run(after), 65504.0);
}

#[test]
fn virtual_memory_spans_mappings() {
    let _guard = fresh(Settings::default());
    const GRANULE: usize = 2 << 20;
    let mut base = ptr::null_mut();
    assert_eq!(
        acl!(aclrtReserveMemAddress(
            &mut base,
            2 * GRANULE,
            0,
            ptr::null_mut(),
            1
        )),
        0
    );
    // SAFETY: all fields are numbers.
    let prop: ascend_sys::aclrtPhysicalMemProp = unsafe { std::mem::zeroed() };
    let mut handles = [ptr::null_mut(); 2];
    for (index, handle) in handles.iter_mut().enumerate() {
        assert_eq!(acl!(aclrtMallocPhysical(handle, GRANULE, &prop, 0)), 0);
        let at = base.wrapping_byte_add(index * GRANULE);
        assert_eq!(
            acl!(aclrtMapMem(at, GRANULE, 0, *handle, 0)),
            0,
            "{}",
            recent()
        );
    }
    let count = GRANULE / 4 + 8;
    assert_eq!(acl!(aclrtMemset(base, 2 * GRANULE, 0, count * 4)), 0);
    assert_eq!(
        add(base, base, base, count as i64, ptr::null_mut()),
        0,
        "{}",
        recent()
    );
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(acl!(aclrtUnmapMem(base.wrapping_byte_add(GRANULE))), 0);
    assert_eq!(add(base, base, base, count as i64, ptr::null_mut()), 161002);
    assert_eq!(acl!(aclrtReleaseMemAddress(base)), 107000);
    assert_eq!(acl!(aclrtUnmapMem(base)), 0);
    assert_eq!(acl!(aclrtReleaseMemAddress(base)), 0);
    for handle in handles {
        assert_eq!(acl!(aclrtFreePhysical(handle)), 0);
    }
}

/// Prints what a small op costs; fails only when it is far off.
#[test]
fn a_small_op_is_cheap() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (upload(&[1.0; 16]), upload(&[2.0; 16]), malloc(64));
    let start = Instant::now();
    let rounds = 2000;
    for _ in 0..rounds {
        assert_eq!(add(x, y, out, 16, ptr::null_mut()), 0);
        assert_eq!(synchronize(ptr::null_mut()), 0);
    }
    let each = start.elapsed() / rounds;
    println!("one round trip: {each:?}");
    assert!(each.as_millis() < 5);
}
