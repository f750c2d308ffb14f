//! Profiling accepts and ignores, in the documented order; virtual memory follows its four steps.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::Settings;
use common::*;
use std::ffi::c_void;
use std::ptr;

#[test]
fn a_profiling_session_has_an_order() {
    let _guard = fresh(Settings::default());
    let path = c"/tmp";
    let mut device = 0;
    let config = acl!(aclprofCreateConfig(&mut device, 1, 0, ptr::null(), 1));
    assert!(!config.is_null());
    assert_eq!(acl!(aclprofStart(config)), 100043, "not initialised");
    assert_eq!(acl!(aclprofInit(path.as_ptr(), 4)), 0);
    assert_eq!(acl!(aclprofInit(path.as_ptr(), 4)), 100042);
    assert!(acl!(aclprofCreateStamp()).is_null(), "no session runs");
    assert_eq!(acl!(aclprofStart(config)), 0);
    assert_eq!(acl!(aclprofStart(config)), 100042);
    let stamp = acl!(aclprofCreateStamp());
    assert!(!stamp.is_null());
    assert_eq!(
        acl!(aclprofSetStampTraceMessage(stamp, c"step".as_ptr(), 4)),
        0
    );
    let mut range = 0;
    assert_eq!(acl!(aclprofRangeStart(stamp, &mut range)), 0);
    assert_eq!(acl!(aclprofRangeStop(range)), 0);
    assert_eq!(acl!(aclprofRangeStop(range + 1000)), 100000);
    assert_eq!(acl!(aclprofPush(stamp)), 0);
    assert_eq!(acl!(aclprofPop()), 0);
    assert_eq!(acl!(aclprofPop()), 100000, "nothing is open");
    assert_eq!(acl!(aclprofMarkEx(c"mark".as_ptr(), 4, ptr::null_mut())), 0);
    acl!(aclprofDestroyStamp(stamp));
    assert_eq!(acl!(aclprofStop(config)), 0);
    assert_eq!(acl!(aclprofStop(config)), 100043);
    assert_eq!(acl!(aclprofDestroyConfig(config)), 0);
    assert_eq!(acl!(aclprofFinalize()), 0);
    assert_eq!(acl!(aclprofFinalize()), 100043);
    assert_eq!(acl!(aclmdlFinalizeDump()), 100045);
    assert_eq!(acl!(aclmdlInitDump()), 0);
    assert_eq!(acl!(aclmdlInitDump()), 100044);
    assert_eq!(acl!(aclmdlFinalizeDump()), 0);
}

#[test]
fn virtual_memory_follows_its_steps() {
    let _guard = fresh(Settings::default());
    let granule = 2 << 20;
    // SAFETY: plain numbers.
    let property: ascend_sys::aclrtPhysicalMemProp = unsafe { std::mem::zeroed() };
    let (mut base, mut one, mut two) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let mut said = 0;
    let mut asked = property;
    assert_eq!(
        acl!(aclrtMemGetAllocationGranularity(&mut asked, 0, &mut said)),
        0
    );
    assert_eq!(said, granule);
    assert_eq!(
        acl!(aclrtReserveMemAddress(&mut base, 0, 0, ptr::null_mut(), 0)),
        100000
    );
    assert_eq!(
        acl!(aclrtReserveMemAddress(
            &mut base,
            3 * granule,
            0,
            ptr::null_mut(),
            0
        )),
        0
    );
    assert_eq!(
        acl!(aclrtMallocPhysical(&mut one, granule + 1, &property, 0)),
        107000
    );
    assert_eq!(
        acl!(aclrtMallocPhysical(&mut one, granule, &property, 0)),
        0
    );
    assert_eq!(
        acl!(aclrtMallocPhysical(&mut two, granule, &property, 0)),
        0
    );
    assert_eq!(
        ascend_emulator::leaks().len(),
        3,
        "{:?}",
        ascend_emulator::leaks()
    );
    let second = base.wrapping_byte_add(granule);
    let value = [7f32];
    let write =
        |at: *mut c_void| acl!(aclrtMemcpy(at, 4, value.as_ptr().cast(), 4, HOST_TO_DEVICE));
    assert_eq!(acl!(aclrtMapMem(base, granule, 0, one, 0)), 0);
    assert_eq!(
        acl!(aclrtMapMem(second, granule, 0, one, 0)),
        107000,
        "mapped already"
    );
    assert_eq!(
        acl!(aclrtMapMem(
            base.wrapping_byte_add(3 * granule),
            granule,
            0,
            two,
            0
        )),
        107000,
        "not reserved"
    );
    assert_eq!(
        acl!(aclrtMapMem(base, granule, 0, two, 0)),
        107000,
        "the place is taken"
    );
    assert_eq!(write(base), 0);
    assert_eq!(acl!(aclrtFree(base)), 107000, "not a block of aclrtMalloc");
    assert_eq!(acl!(aclrtFreePhysical(one)), 107000, "still mapped");
    assert_eq!(acl!(aclrtReleaseMemAddress(base)), 107000, "still mapped");
    assert_eq!(acl!(aclrtUnmapMem(base)), 0);
    assert_eq!(acl!(aclrtUnmapMem(base)), 107000);
    assert_eq!(
        acl!(aclrtMapMem(second, granule, 0, one, 0)),
        0,
        "elsewhere"
    );
    assert_eq!(download(second, 1), [7.0], "memory keeps its content");
    assert_eq!(add(second, second, second, 1, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(download(second, 1), [14.0]);
    assert_eq!(acl!(aclrtUnmapMem(second)), 0);
    assert_eq!(acl!(aclrtFreePhysical(one)), 0);
    assert_eq!(acl!(aclrtFreePhysical(one)), 107000, "freed twice");
    assert_eq!(acl!(aclrtFreePhysical(two)), 0);
    assert_eq!(acl!(aclrtReleaseMemAddress(base)), 0);
    assert_eq!(acl!(aclrtReleaseMemAddress(base)), 107000);
    assert!(
        ascend_emulator::leaks().is_empty(),
        "{:?}",
        ascend_emulator::leaks()
    );
}
