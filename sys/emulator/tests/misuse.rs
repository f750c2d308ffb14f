//! What real hardware refuses, and what it only corrupts: all of it is refused here, with the call that caused it in the text.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::{Settings, Strictness, leaks, violations};
use common::*;
use std::ffi::c_void;
use std::ptr;

fn last_violation() -> String {
    violations().pop().unwrap_or_default()
}

#[test]
fn addresses_are_reserved_before_a_device_is_set() {
    let _guard = fresh(Settings::default());
    std::thread::spawn(|| {
        let mut base = ptr::null_mut();
        let code = acl!(aclrtReserveMemAddress(
            &mut base,
            2 << 20,
            0,
            ptr::null_mut(),
            1
        ));
        assert_eq!(code, 0, "{}", recent());
        assert_eq!(acl!(aclrtReleaseMemAddress(base)), 0);
    })
    .join()
    .expect("a thread");
}

#[test]
fn a_thread_without_a_device_is_refused() {
    let _guard = fresh(Settings::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pointer = ptr::null_mut();
            assert_eq!(acl!(aclrtMalloc(&mut pointer, 64, 0)), 107002);
            assert!(recent().contains("aclrtSetDevice"));
            assert_eq!(recent(), "", "reading clears the text");
            assert_eq!(acl!(aclrtPeekAtLastError(0)), 107002);
            assert_eq!(acl!(aclrtGetLastError(0)), 107002);
            assert_eq!(acl!(aclrtGetLastError(0)), 0);
            let mut id = 5;
            assert_eq!(acl!(aclrtGetDevice(&mut id)), 107002);
            assert_eq!(acl!(aclrtSetDevice(7)), 107001);
        });
    });
}

#[test]
fn streams_belong_to_contexts() {
    let _guard = fresh(Settings::default());
    let mine = stream();
    let mut primary = ptr::null_mut();
    assert_eq!(acl!(aclrtGetCurrentContext(&mut primary)), 0);
    let mut context = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateContext(&mut context, 0)), 0);
    assert_eq!(synchronize(mine), 107003);
    assert_eq!(acl!(aclrtSetCurrentContext(ptr::null_mut())), 100000);
    assert_eq!(acl!(aclrtSetCurrentContext(primary)), 0);
    assert_eq!(acl!(aclrtDestroyContext(primary)), 107000);
    assert_eq!(acl!(aclrtDestroyContext(context)), 0);
    assert_eq!(acl!(aclrtSetCurrentContext(context)), 107002);
    assert_eq!(acl!(aclrtDestroyStream(mine)), 0);
    assert_eq!(acl!(aclrtDestroyStream(mine)), 107017);
    assert!(last_violation().contains("destroyed"));
    assert_eq!(acl!(aclrtDestroyEvent(context)), 107017);
    assert!(last_violation().contains("is a context, wanted a event"));
}

#[test]
fn one_shot_executors_run_once() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (
        tensor(&[1], upload(&[1.0])),
        tensor(&[1], upload(&[2.0])),
        tensor(&[1], malloc(4)),
    );
    let (status, _, executor) = plan_add(x, y, out);
    assert_eq!(status, 0);
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        0
    );
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        561000
    );
    assert!(last_violation().contains("used up"), "{}", last_violation());
    assert_eq!(
        acl!(aclnnAdd(
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            ptr::null_mut()
        )),
        161001
    );
    let (_, _, executor) = plan_add(x, y, out);
    assert!(
        leaks()
            .iter()
            .any(|line| line.contains("executor") && line.contains("aclnnAddGetWorkspaceSize"))
    );
    assert_eq!(
        acl!(aclnnAdds(ptr::null_mut(), 0, executor, ptr::null_mut())),
        161002
    );
    let (_, _, executor) = plan_add(x, y, out);
    assert_eq!(acl!(aclDestroyTensor(x)), 0);
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        161002
    );
    assert!(last_violation().contains("between phase 1 and phase 2"));
    assert_eq!(acl!(aclDestroyTensor(x)), 161002, "destroyed twice");
}

#[test]
fn workspaces_are_checked() {
    let _guard = fresh(Settings::default());
    let (x, y, out) = (upload(&[1.0; 4]), upload(&[1.0; 4]), malloc(16));
    let plan = || {
        let (mut size, mut executor) = (0, ptr::null_mut());
        let (x, y, out) = (tensor(&[2, 2], x), tensor(&[2, 2], y), tensor(&[2, 2], out));
        assert_eq!(
            acl!(aclnnMatmulGetWorkspaceSize(
                x,
                y,
                out,
                0,
                &mut size,
                &mut executor
            )),
            0
        );
        (size, executor)
    };
    let (size, executor) = plan();
    assert_eq!(
        acl!(aclnnMatmul(
            ptr::null_mut(),
            size,
            executor,
            ptr::null_mut()
        )),
        161001
    );
    let small = malloc(64);
    let (_, executor) = plan();
    assert_eq!(
        acl!(aclnnMatmul(small, 64, executor, ptr::null_mut())),
        161002
    );
    let (size, executor) = plan();
    assert_eq!(
        acl!(aclnnMatmul(small, size, executor, ptr::null_mut())),
        161002
    );
    assert!(last_violation().contains("leave the block"));
    let (size, executor) = plan();
    let host = pinned(size as usize);
    assert_eq!(
        acl!(aclnnMatmul(host, size, executor, ptr::null_mut())),
        161002
    );
    assert!(last_violation().contains("not device memory"));
}

#[test]
fn memory_is_checked_where_it_is_used() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.0; 8]), malloc(32));
    let host = [0f32; 64];
    let aligned = host
        .as_ptr()
        .map_addr(|address| address.next_multiple_of(32));
    assert_eq!(
        add(aligned.cast_mut().cast(), x, out, 8, ptr::null_mut()),
        161002
    );
    assert!(last_violation().contains("is host memory") && last_violation().contains("aclnnAdd"));
    assert_eq!(add(x, x, out, 9, ptr::null_mut()), 161002);
    assert!(last_violation().contains("leave the block"));
    // Noted only: refused where memory is protected.
    assert_eq!(add(x.wrapping_byte_add(4), x, out, 2, ptr::null_mut()), 0);
    assert!(last_violation().contains("multiple of 32"));
    assert_eq!(
        add(x.wrapping_byte_add(2), x, out, 2, ptr::null_mut()),
        161002
    );
    assert!(recent().contains("multiple of 32"));
    let wide = upload(&[0.0; 32]);
    assert_eq!(
        add(wide, x, wide.wrapping_byte_add(32), 8, ptr::null_mut()),
        0
    );
    let t = |at: usize, count: i64| tensor(&[count], wide.wrapping_byte_add(at));
    let (status, _, executor) = plan_add(t(0, 12), t(0, 12), t(32, 12));
    assert_eq!(status, 0);
    assert_eq!(
        acl!(aclnnAdd(ptr::null_mut(), 0, executor, ptr::null_mut())),
        161002
    );
    assert!(last_violation().contains("partly overlaps"));
    // Two results that overlap are noted only.
    let (mut workspace, mut executor) = (0, ptr::null_mut());
    let (rows, low, high) = (tensor(&[4, 2], x), t(0, 4), t(8, 4));
    assert_eq!(
        acl!(aclnnAminmaxDimGetWorkspaceSize(
            rows,
            1,
            false,
            low,
            high,
            &mut workspace,
            &mut executor
        )),
        0
    );
    assert_eq!(
        acl!(aclnnAminmaxDim(
            ptr::null_mut(),
            0,
            executor,
            ptr::null_mut()
        )),
        0
    );
    assert!(last_violation().contains("partly overlaps"));
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(acl!(aclrtFree(x)), 0);
    assert_eq!(add(x, wide, out, 8, ptr::null_mut()), 161002);
    assert!(
        last_violation().contains("aclrtFree"),
        "{}",
        last_violation()
    );
    assert_eq!(acl!(aclrtFree(x)), 107000);
    assert!(last_violation().contains("freed twice"));
    assert_eq!(acl!(aclrtFree(wide.wrapping_byte_add(32))), 107000);
    assert_eq!(acl!(aclrtFreeHost(wide)), 107000);
    assert_eq!(acl!(aclrtFree(ptr::null_mut())), 100000);
}

#[test]
fn views_stay_in_their_storage() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.0; 4]), malloc(64));
    let plan = |x, out| plan_add(x, x, out).0;
    assert_eq!(
        plan(view(&[2, 2], &[3, 1], 0, 4, x), tensor(&[2, 2], out)),
        161002
    );
    assert!(recent().contains("its storage [4] ends at 4"));
    // Noted only: real CANN looks at the storage where it has to copy a view.
    assert_eq!(plan(view(&[4], &[1], 0, 2, x), tensor(&[4], out)), 0);
    assert!(last_violation().contains("its storage [2] ends at 2"));
    assert_eq!(plan(view(&[2], &[-1], 1, 4, x), tensor(&[2], out)), 161002);
    assert_eq!(plan(tensor(&[4], x), view(&[4], &[0], 0, 1, out)), 161002);
    assert_eq!(plan(tensor(&[4], x), tensor(&[3], out)), 161002);
    assert_eq!(
        plan(tensor(&[1, 1, 1, 1, 1, 1, 1, 1, 4], x), tensor(&[4], out)),
        161002
    );
    assert_eq!(plan(typed(&[4], 77, x), tensor(&[4], out)), 161002);
    assert_eq!(
        plan(typed(&[4], ascend_sys::ACL_UINT16, x), tensor(&[4], out)),
        161002
    );
    assert!(recent().contains("u16"));
    assert_eq!(plan(ptr::null_mut(), tensor(&[4], out)), 161001);
    let dims = [4_i64];
    for (format, code) in [(1234, 161002), (-7, 161002), (47, 0)] {
        let strange = acl!(aclCreateTensor(
            dims.as_ptr(),
            1,
            ascend_sys::ACL_FLOAT,
            ptr::null(),
            0,
            format,
            dims.as_ptr(),
            1,
            x
        ));
        assert_eq!(plan(strange, tensor(&[4], out)), code, "format {format}");
    }
}

#[test]
fn a_buffer_freed_under_queued_work_is_found() {
    let _guard = fresh(Settings::default());
    extern "C" fn sleep(_: *mut c_void) {
        std::thread::sleep(std::time::Duration::from_millis(400));
    }
    let (x, out, own) = (upload(&[1.0; 8]), malloc(32), stream());
    assert_eq!(
        acl!(aclrtLaunchHostFunc(own, Some(sleep), ptr::null_mut())),
        0
    );
    assert_eq!(add(x, x, out, 8, own), 0);
    assert_eq!(acl!(aclrtFree(x)), 207002);
    assert!(last_violation().contains("queued tasks still use it, the newest from aclnnAdd"));
    assert_eq!(synchronize(own), 507015);
    assert!(recent().contains("freed before the task ran"));
    assert_eq!(acl!(aclrtSynchronizeDevice()), 507015, "the device is lost");
    let mut pointer = ptr::null_mut();
    assert_eq!(acl!(aclrtMalloc(&mut pointer, 4, 0)), 507015);
    assert_eq!(acl!(aclrtFree(out)), 0);
    assert_eq!(acl!(aclrtResetDevice(0)), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    assert_eq!(acl!(aclrtMalloc(&mut pointer, 4, 0)), 0);
}

#[test]
fn copies_are_checked() {
    let _guard = fresh(Settings::default());
    let x = upload(&[1.0; 16]);
    let copy = |target: *mut c_void, room, source: *const c_void, count, kind| {
        acl!(aclrtMemcpy(target, room, source, count, kind))
    };
    assert_eq!(copy(ptr::null_mut(), 0, ptr::null(), 0, 1), 0);
    assert_eq!(copy(x, 8, x.wrapping_byte_add(32), 16, 3), 107000);
    assert_eq!(copy(x, 64, x.wrapping_byte_add(8), 32, 3), 107000);
    assert!(last_violation().contains("overlap"));
    assert_eq!(copy(x, 64, x, 64, 3), 0);
    assert_eq!(copy(x, 64, x.wrapping_byte_add(32), 32, 6), 100000);
    assert_eq!(copy(x, 64, x.wrapping_byte_add(32), 32, 11), 107000);
    let mut host = [0u8; 256];
    assert_eq!(
        copy(host.as_mut_ptr().cast(), 256, x, 128, 2),
        107000,
        "past the end of the block"
    );
    assert_eq!(
        acl!(aclrtMemset(host.as_mut_ptr().cast(), 256, 0, 4)),
        107000
    );
    assert_eq!(
        acl!(aclrtMemcpyAsync(
            x,
            64,
            host.as_ptr().cast(),
            4,
            0,
            ptr::null_mut()
        )),
        207000
    );
}

#[test]
fn memory_of_the_host_that_is_not_there_is_refused() {
    let _guard = fresh(Settings::default());
    let x = upload(&[1.0; 16]);
    let nowhere: *mut c_void = ptr::without_provenance_mut(0x1000);
    let constant: &'static str = "read only";
    let constant = constant.as_ptr().cast_mut().cast::<c_void>();
    for (target, source, kind) in [(x, nowhere, 1), (nowhere, x, 2), (constant, x, 2)] {
        let code = acl!(aclrtMemcpy(target, 64, source, 8, kind));
        assert_eq!(code, 107000);
        assert!(recent().contains("may"), "{}", recent());
        let code = acl!(aclrtMemcpyAsync(
            target,
            64,
            source,
            8,
            kind,
            ptr::null_mut()
        ));
        assert_eq!(code, 107000);
        let code = acl!(aclrtMemcpy2d(target, 8, source, 8, 4, 2, kind));
        assert_eq!(code, 107000);
    }
    let mut reserved = ptr::null_mut();
    let code = acl!(aclrtReserveMemAddress(
        &mut reserved,
        4 << 20,
        0,
        ptr::null_mut(),
        1
    ));
    assert_eq!(code, 0);
    let host = [0_u8; 8];
    let code = acl!(aclrtMemcpy(reserved, 8, host.as_ptr().cast(), 8, 1));
    assert_eq!(code, 107000);
    assert!(recent().contains("nothing is mapped"), "{}", recent());
    assert_eq!(acl!(aclrtReleaseMemAddress(reserved)), 0);
    // Rows go between host and device.
    assert_eq!(
        acl!(aclrtMemcpy2d(x, 8, x.wrapping_byte_add(32), 8, 8, 2, 3)),
        107000
    );
}

#[test]
fn lists_own_their_elements() {
    let _guard = fresh(Settings::default());
    let element = tensor(&[1], malloc(4));
    let elements = [element.cast_const(), ptr::null()];
    let list = acl!(aclCreateTensorList(elements.as_ptr(), 2));
    assert!(!list.is_null());
    assert!(
        acl!(aclCreateTensorList(elements.as_ptr(), 2)).is_null(),
        "an element in two lists"
    );
    assert_eq!(acl!(aclDestroyTensor(element)), 161002);
    assert_eq!(acl!(aclDestroyTensorList(list)), 0);
    let mut dtype = 0;
    assert_eq!(
        acl!(aclGetDataType(element, &mut dtype)),
        161002,
        "destroyed with its list"
    );
    assert_eq!(acl!(aclDestroyTensorList(ptr::null())), 0);
}

#[test]
fn ops_without_a_kernel_say_so() {
    let _guard = fresh(Settings::default());
    let supported = ascend_emulator::supported_ops();
    assert!(supported.contains(&"aclnnAdd"));
    assert!(!supported.contains(&"aclnnBlendImagesCustom"));
    let (mut size, mut executor) = (0, ptr::null_mut());
    let none = ptr::null_mut();
    let status = acl!(aclnnBlendImagesCustomGetWorkspaceSize(
        none,
        none,
        none,
        none,
        &mut size,
        &mut executor
    ));
    assert_eq!(status, 561003);
    assert!(recent().contains("aclnnBlendImagesCustom: the emulator has no kernel"));
}

#[test]
fn bf16_is_refused_where_the_chip_has_none() {
    let mut settings = Settings::default();
    settings.soc = String::from("Ascend310P3");
    let _guard = fresh(settings);
    let (x, out) = (malloc(32), malloc(32));
    let t = |address| typed(&[4], ascend_sys::ACL_BF16, address);
    let one = scalar(1.0);
    let (mut size, mut executor) = (0, ptr::null_mut());
    assert_eq!(
        acl!(aclnnAddsGetWorkspaceSize(
            t(x),
            one,
            one,
            t(out),
            &mut size,
            &mut executor
        )),
        161002
    );
    assert!(recent().contains("bf16, which P310 does not take"));
}

#[test]
fn protected_memory_works_and_canaries_are_checked() {
    let mut settings = Settings::default();
    settings.strictness = Strictness::Protect;
    let guard = fresh(settings);
    let (x, out) = (upload(&[1.0, 2.0]), malloc(8));
    assert_eq!(add(x, x, out, 2, ptr::null_mut()), 0, "{}", recent());
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 2), [2.0, 4.0]);
    assert_eq!(
        add(x.wrapping_byte_add(4), x, out, 1, ptr::null_mut()),
        161002
    );
    assert!(recent().contains("multiple of 32"));
    drop(guard);
    let _guard = fresh(Settings::default());
    let small = malloc(32);
    // SAFETY: the spare bytes after a block belong to its host allocation.
    unsafe { small.cast::<u8>().add(32).write(7) };
    assert_eq!(acl!(aclrtFree(small)), 207002);
    assert!(last_violation().contains("past its end"));
}
