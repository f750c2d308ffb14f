//! Injected faults: calls that fail, kernels that fail later, memory that runs out, a device that dies.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::{Settings, calls, set_faults};
use common::*;
use std::ptr;

#[test]
fn the_nth_call_fails() {
    let mut settings = Settings::default();
    settings.faults = String::from("aclrtMalloc:3=207001; aclrtMallocHost:2+=207012");
    let _guard = fresh(settings);
    let mut pointer = ptr::null_mut();
    let codes: Vec<i32> = (0..4)
        .map(|_| acl!(aclrtMalloc(&mut pointer, 64, 0)))
        .collect();
    assert_eq!(codes, [0, 0, 207001, 0]);
    assert!(recent().contains("injected at call 3"));
    let codes: Vec<i32> = (0..4)
        .map(|_| acl!(aclrtMallocHost(&mut pointer, 64)))
        .collect();
    assert_eq!(codes, [0, 207012, 207012, 207012]);
    assert_eq!(calls("aclrtMalloc"), 4);
    set_faults("aclrtFree:1=207002").expect("a schedule");
    assert_eq!(acl!(aclrtFree(ptr::null_mut())), 207002);
    assert!(set_faults("aclrtFree=1").is_err());
}

#[test]
fn a_kernel_fails_on_the_device() {
    let mut settings = Settings::default();
    settings.faults = String::from("kernel:2=507015");
    let _guard = fresh(settings);
    let (x, out) = (upload(&[1.0; 4]), malloc(16));
    assert_eq!(add(x, x, out, 4, ptr::null_mut()), 0);
    assert_eq!(
        add(x, x, out, 4, ptr::null_mut()),
        0,
        "the launch itself succeeds"
    );
    assert_eq!(synchronize(ptr::null_mut()), 507015);
    assert!(recent().contains("injected at kernel 2"));
    assert_eq!(
        add(x, x, out, 4, ptr::null_mut()),
        507015,
        "the device is lost"
    );
    let mut status = 9;
    assert_eq!(acl!(aclrtQueryDeviceStatus(0, &mut status)), 0);
    assert_eq!(status, 1);
}

#[test]
fn a_failure_that_is_not_fatal_leaves_the_device_usable() {
    let mut settings = Settings::default();
    settings.faults = String::from("kernel:1=207003");
    let _guard = fresh(settings);
    let (x, out) = (upload(&[1.0; 4]), malloc(16));
    assert_eq!(add(x, x, out, 4, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 207003);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(add(x, x, out, 4, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(out, 4), [2.0; 4]);
}

#[test]
fn memory_runs_out() {
    let mut settings = Settings::default();
    settings.memory = 1 << 20;
    let guard = fresh(settings);
    let (mut free, mut total) = (0, 0);
    assert_eq!(acl!(aclrtGetMemInfo(1, &mut free, &mut total)), 0);
    assert_eq!((free, total), (1 << 20, 1 << 20));
    let first = malloc(600 << 10);
    let mut second = ptr::null_mut();
    assert_eq!(acl!(aclrtMalloc(&mut second, 600 << 10, 0)), 207001);
    assert!(recent().contains("out of memory"));
    assert_eq!(acl!(aclrtFree(first)), 0);
    assert_eq!(acl!(aclrtMalloc(&mut second, 600 << 10, 0)), 0);
    drop(guard);
    let mut settings = Settings::default();
    settings.faults = String::from("memory-limit=4096");
    let _guard = fresh(settings);
    assert_eq!(acl!(aclrtMalloc(&mut second, 5000, 0)), 207001);
}

#[test]
fn a_device_dies_and_comes_back_by_reset() {
    let mut settings = Settings::default();
    settings.faults = String::from("device-dies-after-launches=2");
    let _guard = fresh(settings);
    let (x, out, own) = (upload(&[1.0; 4]), malloc(16), stream());
    let codes: Vec<i32> = (0..3).map(|_| add(x, x, out, 4, own)).collect();
    assert_eq!(codes, [0, 0, 507010]);
    let mut other = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateStream(&mut other)), 507010);
    assert_eq!(synchronize(own), 507010);
    assert_eq!(acl!(aclrtDestroyStream(own)), 0, "destroying is possible");
    assert_eq!(acl!(aclrtFree(x)), 0);
    set_faults("").expect("no faults");
    assert_eq!(acl!(aclrtResetDevice(0)), 0);
    assert_eq!(acl!(aclrtFree(out)), 107002);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    let x = upload(&[3.0]);
    assert_eq!(add(x, x, x, 1, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(x, 1), [6.0]);
}

#[test]
fn stop_on_failure_refuses_further_work() {
    let mut settings = Settings::default();
    settings.faults = String::from("kernel:1=207003");
    let _guard = fresh(settings);
    let (x, out, own) = (upload(&[1.0; 4]), malloc(16), stream());
    assert_eq!(acl!(aclrtSetStreamFailureMode(own, 1)), 0);
    assert_eq!(acl!(aclrtSetStreamFailureMode(own, 0)), 107000);
    assert_eq!(add(x, x, out, 4, own), 0);
    assert_eq!(synchronize(own), 207003);
    assert_eq!(add(x, x, out, 4, own), 207003);
}
