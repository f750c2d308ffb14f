//! Calls of one line each that programs make around their kernels, with hand-made values.
//!
//! Knows the C interface; it must not know the emulator's inside.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_sys as sys;
use common::*;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Mutex;

fn ok(code: i32) {
    assert_eq!(code, 0, "{}", recent());
}

fn words(pointer: *mut c_void, count: usize) -> Vec<u32> {
    let bits = |value: f32| value.to_bits();
    download(pointer, count).into_iter().map(bits).collect()
}

#[test]
fn ranges_are_reduced_into_others() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let (sums, values) = (upload(&[1., 2., 3., 4.]), upload(&[10., -20., 30., 0.5]));
    let reduce = |kind, bytes, dtype| {
        acl!(aclrtReduceAsync(
            sums,
            values,
            bytes,
            kind,
            dtype,
            stream,
            ptr::null_mut()
        ))
    };
    ok(reduce(
        sys::ACL_RT_MEMCPY_SDMA_AUTOMATIC_SUM,
        16,
        sys::ACL_FLOAT,
    ));
    ok(acl!(aclrtSynchronizeStream(stream)));
    assert_eq!(download(sums, 4), [11., -18., 33., 4.5]);
    ok(reduce(
        sys::ACL_RT_MEMCPY_SDMA_AUTOMATIC_MAX,
        8,
        sys::ACL_FLOAT,
    ));
    ok(reduce(
        sys::ACL_RT_MEMCPY_SDMA_AUTOMATIC_MIN,
        16,
        sys::ACL_FLOAT,
    ));
    ok(acl!(aclrtSynchronizeStream(stream)));
    assert_eq!(download(sums, 4), [10., -20., 30., 0.5]);
    assert_eq!(reduce(13, 16, sys::ACL_FLOAT), 107_000);
    assert_eq!(reduce(10, 15, sys::ACL_FLOAT), 107_000);
    assert_eq!(reduce(10, 64, sys::ACL_FLOAT), 107_000);
    assert_eq!(reduce(10, 16, sys::ACL_DOUBLE), 207_000);
}

#[test]
fn memory_is_filled_by_words() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let memory = upload(&[0.; 4]);
    ok(acl!(aclrtMemsetD32(memory, 16, 0xdead_beef, 3)));
    assert_eq!(words(memory, 4), [0xdead_beef, 0xdead_beef, 0xdead_beef, 0]);
    ok(acl!(aclrtMemsetD32Async(memory, 16, 7, 1, stream)));
    ok(acl!(aclrtSynchronizeStream(stream)));
    assert_eq!(words(memory, 2), [7, 0xdead_beef]);
    assert_eq!(acl!(aclrtMemsetD32(memory, 16, 1, 5)), 107_000);
    let mut managed = ptr::null_mut();
    assert_eq!(acl!(aclrtMemAllocManaged(&mut managed, 64, 1)), 207_000);
}

static TOLD: Mutex<Vec<(usize, u32)>> = Mutex::new(Vec::new());

unsafe extern "C" fn told(stream: sys::aclrtStream, state: u32, argument: *mut c_void) {
    assert_eq!(argument.addr(), 5);
    TOLD.lock().unwrap().push((stream.addr(), state));
}

#[test]
fn programs_are_told_of_streams() {
    let _turn = fresh(Default::default());
    TOLD.lock().unwrap().clear();
    let name = c"watch";
    let argument = ptr::without_provenance_mut(5);
    let register = |function| {
        acl!(aclrtRegStreamStateCallback(
            name.as_ptr(),
            function,
            argument
        ))
    };
    ok(register(Some(told)));
    assert_eq!(register(Some(told)), 107_000, "once only");
    let own = stream();
    ok(acl!(aclrtDestroyStream(own)));
    ok(register(None));
    assert_eq!(register(None), 107_000);
    let unseen = stream();
    ok(acl!(aclrtDestroyStream(unseen)));
    assert_eq!(*TOLD.lock().unwrap(), [(own.addr(), 1), (own.addr(), 2)]);
}

#[test]
fn streams_keep_attributes() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let set = |which, number: u32| {
        let mut value = sys::aclrtStreamAttrValue { reserve: [0; 4] };
        value.userCustomTag = number;
        acl!(aclrtSetStreamAttribute(stream, which, &mut value))
    };
    let get = |which| {
        let mut value = sys::aclrtStreamAttrValue { reserve: [9; 4] };
        ok(acl!(aclrtGetStreamAttribute(stream, which, &mut value)));
        // SAFETY: all members are numbers.
        unsafe { value.userCustomTag }
    };
    assert_eq!(get(sys::ACL_STREAM_ATTR_USER_CUSTOM_TAG), 0);
    ok(set(sys::ACL_STREAM_ATTR_USER_CUSTOM_TAG, 77));
    ok(set(sys::ACL_STREAM_ATTR_FAILURE_MODE, 1));
    assert_eq!(get(sys::ACL_STREAM_ATTR_USER_CUSTOM_TAG), 77);
    assert_eq!(get(sys::ACL_STREAM_ATTR_FAILURE_MODE), 1);
    assert_eq!(set(99, 1), 107_000);
}

unsafe extern "C" fn allocate(_: sys::aclrtAllocator, size: usize) -> *mut c_void {
    ptr::without_provenance_mut(size)
}

unsafe extern "C" fn give_back(_: sys::aclrtAllocator, _: sys::aclrtAllocatorBlock) {}

unsafe extern "C" fn address(block: sys::aclrtAllocatorBlock) -> *mut c_void {
    block.cast()
}

#[test]
fn allocators_are_kept_for_streams() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let desc = acl!(aclrtAllocatorCreateDesc());
    assert!(!desc.is_null());
    let object = ptr::without_provenance_mut(3);
    ok(acl!(aclrtAllocatorSetObjToDesc(desc, object)));
    ok(acl!(aclrtAllocatorSetAllocFuncToDesc(desc, Some(allocate))));
    ok(acl!(aclrtAllocatorSetFreeFuncToDesc(desc, Some(give_back))));
    assert_eq!(acl!(aclrtAllocatorRegister(stream, desc)), 100_000);
    ok(acl!(aclrtAllocatorSetGetAddrFromBlockFuncToDesc(
        desc,
        Some(address)
    )));
    ok(acl!(aclrtAllocatorRegister(stream, desc)));
    let (mut found, mut own) = (ptr::null_mut(), ptr::null_mut());
    let (mut alloc, mut free, mut advise, mut get) = (None, None, None, None);
    let mut ask = || {
        acl!(aclrtAllocatorGetByStream(
            stream,
            &raw mut found,
            &raw mut own,
            &raw mut alloc,
            &raw mut free,
            &raw mut advise,
            &raw mut get,
        ))
    };
    ok(ask());
    assert_eq!((found, own), (desc, object));
    assert!(alloc.is_some() && free.is_some() && advise.is_none() && get.is_some());
    ok(acl!(aclrtAllocatorUnregister(stream)));
    assert_eq!(acl!(aclrtAllocatorUnregister(stream)), 100_000);
    ok(acl!(aclrtAllocatorDestroyDesc(desc)));
    assert_eq!(acl!(aclrtAllocatorDestroyDesc(desc)), 100_000);
}

#[test]
fn devices_have_addresses_and_neighbours() {
    let mut settings = ascend_emulator::Settings::default();
    settings.devices = 2;
    let _turn = fresh(settings);
    let mut text = [0; 13];
    ok(acl!(aclrtDeviceGetPCIBusId(1, text.as_mut_ptr(), 13)));
    // SAFETY: the call wrote a C string.
    let said = unsafe { CStr::from_ptr(text.as_ptr()) };
    assert_eq!(said, c"0000:01:00.0");
    let mut device = 9;
    ok(acl!(aclrtDeviceGetByPCIBusId(text.as_ptr(), &mut device)));
    assert_eq!(device, 1);
    assert_eq!(
        acl!(aclrtDeviceGetPCIBusId(1, text.as_mut_ptr(), 12)),
        107_000
    );
    let other = c"0000:77:00.0";
    assert_eq!(
        acl!(aclrtDeviceGetByPCIBusId(other.as_ptr(), &mut device)),
        107_001
    );
    let mut link = 0;
    ok(acl!(aclrtGetDevicesTopo(0, 1, &mut link)));
    assert_eq!(link, 1);
    let mut has = 7;
    ok(acl!(aclrtGetDeviceCapability(0, 1, &mut has)));
    assert_eq!(has, 0);
}

/// From rows to blocks and through a product, as C programs do it.
#[test]
fn a_weight_is_cast_and_multiplied() {
    let _turn = fresh(Default::default());
    let stream = stream();
    let (mut rows, mut columns) = (3i64, 2i64);
    let shape = [rows, columns];
    let tensor = |dtype, shape: &[i64], format, storage: &[i64], at: *mut c_void| {
        let mut strides = vec![1i64; shape.len()];
        for index in (0..shape.len() - 1).rev() {
            strides[index] = strides[index + 1] * shape[index + 1];
        }
        acl!(aclCreateTensor(
            shape.as_ptr(),
            shape.len() as u64,
            dtype,
            strides.as_ptr(),
            0,
            format,
            storage.as_ptr(),
            storage.len() as u64,
            at
        ))
    };
    let half = |values: &[f32]| {
        let bits: Vec<u16> = values
            .iter()
            .map(|&value| half::f16::from_f32(value).to_bits())
            .collect();
        let pointer = malloc(bits.len() * 2);
        let bytes = bits.len() * 2;
        ok(acl!(aclrtMemcpy(
            pointer,
            bytes,
            bits.as_ptr().cast(),
            bytes,
            HOST_TO_DEVICE
        )));
        pointer
    };
    let (f16, nd) = (sys::ACL_FLOAT16, sys::ACL_FORMAT_ND);
    let plain = tensor(f16, &shape, nd, &shape, half(&[1., 2., 3., 4., 5., 6.]));
    let (mut list, mut length, mut format) = (ptr::null_mut(), 0, 0);
    ok(acl!(aclnnNpuFormatCastCalculateSizeAndFormat(
        plain,
        29,
        -1,
        &mut list,
        &mut length,
        &mut format
    )));
    assert_eq!((length, format), (4, 29));
    // SAFETY: the call gave as many entries.
    let storage = unsafe { std::slice::from_raw_parts(list, 4) }.to_vec();
    assert_eq!(storage, [1, 1, 16, 16]);
    let packed = tensor(f16, &shape, format, &storage, malloc(512));
    let run = |size: u64, executor| {
        let workspace = if size > 0 {
            malloc(size as usize)
        } else {
            ptr::null_mut()
        };
        (workspace, size, executor)
    };
    let (mut size, mut executor) = (0, ptr::null_mut());
    ok(acl!(aclnnNpuFormatCastGetWorkspaceSize(
        plain,
        packed,
        &mut size,
        &mut executor
    )));
    let (workspace, size_of_it, executor) = run(size, executor);
    ok(acl!(aclnnNpuFormatCast(
        workspace, size_of_it, executor, stream
    )));
    (rows, columns) = (1, 3);
    let x = tensor(
        f16,
        &[rows, columns],
        nd,
        &[rows, columns],
        half(&[1., 2., 3.]),
    );
    let memory = malloc(4);
    let out = tensor(f16, &[1, 2], nd, &[1, 2], memory);
    let (mut size, mut executor) = (0, ptr::null_mut());
    ok(acl!(aclnnMatmulWeightNzGetWorkspaceSize(
        x,
        packed,
        out,
        0,
        &mut size,
        &mut executor
    )));
    let (workspace, size_of_it, executor) = run(size, executor);
    ok(acl!(aclnnMatmulWeightNz(
        workspace, size_of_it, executor, stream
    )));
    ok(acl!(aclrtSynchronizeStream(stream)));
    let mut bits = [0u16; 2];
    ok(acl!(aclrtMemcpy(
        bits.as_mut_ptr().cast(),
        4,
        memory,
        4,
        DEVICE_TO_HOST
    )));
    let got = bits.map(|bits| half::f16::from_bits(bits).to_f32());
    assert_eq!(got, [22., 28.]);
    assert_eq!(ascend_emulator::violations(), Vec::<String>::new());
}

#[test]
fn a_graph_is_written_as_json() {
    let _turn = fresh(Default::default());
    let (x, out, own) = (upload(&[1.0; 4]), upload(&[0.0; 4]), stream());
    ok(acl!(aclmdlRICaptureBegin(own, 0)));
    ok(add(x, x, out, 4, own));
    let mut graph = ptr::null_mut();
    ok(acl!(aclmdlRICaptureEnd(own, &mut graph)));
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("graph.json");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    ok(acl!(aclmdlRIDebugJsonPrint(graph, name.as_ptr(), 0)));
    let said: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(said["tasks"][0]["name"], "aclnnAdd");
    let nowhere = c"/nowhere/graph.json";
    let code = acl!(aclmdlRIDebugJsonPrint(graph, nowhere.as_ptr(), 0));
    assert_eq!(code, 100_003);
    ok(acl!(aclmdlRIDestroy(graph)));
}

#[test]
fn pinned_memory_is_mapped_for_kernels() {
    let _turn = fresh(Default::default());
    let own = stream();
    let host = pinned(16);
    let device = upload(&[2.0; 4]);
    let values = [1f32, 2., 3., 4.];
    // SAFETY: the pinned block has 16 bytes.
    unsafe { ptr::copy_nonoverlapping(values.as_ptr(), host.cast(), 4) };
    assert_eq!(add(host, device, device, 4, own), 161_002);
    let mut mapped = ptr::null_mut();
    assert_eq!(
        acl!(aclrtHostGetDevicePointer(host, &mut mapped, 0)),
        507_911
    );
    let (maps, pins) = (sys::ACL_HOST_REG_MAPPED, sys::ACL_HOST_REG_PINNED);
    assert_eq!(acl!(aclrtHostRegisterV2(host, 16, pins)), 507_910);
    ok(acl!(aclrtHostRegisterV2(host, 16, maps)));
    assert_eq!(acl!(aclrtHostRegisterV2(host, 16, maps)), 507_910);
    ok(acl!(aclrtHostGetDevicePointer(host, &mut mapped, 0)));
    ok(add(mapped, device, mapped, 4, own));
    ok(acl!(aclrtSynchronizeStream(own)));
    let mut got = [0f32; 4];
    // SAFETY: as above, and the kernel is done.
    unsafe { ptr::copy_nonoverlapping(host.cast(), got.as_mut_ptr(), 4) };
    assert_eq!(got, [3., 4., 5., 6.]);
    ok(acl!(aclrtHostUnregister(host)));
    assert_eq!(acl!(aclrtHostUnregister(host)), 507_911);
    ok(acl!(aclrtFreeHost(host)));
}

#[test]
fn copies_find_their_addresses_in_memory() {
    const INNER: u32 = sys::ACL_MEMCPY_INNER_DEVICE_TO_DEVICE;
    let _turn = fresh(Default::default());
    let stream = stream();
    let (source, target) = (upload(&[1., 2., 3., 4.]), upload(&[0.; 4]));
    let mut size = 0;
    ok(acl!(aclrtGetMemcpyDescSize(INNER, &mut size)));
    let desc = malloc(size);
    let code = acl!(aclrtMemcpyAsyncWithDesc(desc, INNER, stream));
    assert_eq!(code, 107_000, "nothing was set");
    ok(acl!(aclrtSetMemcpyDesc(
        desc,
        INNER,
        source,
        target,
        8,
        ptr::null_mut()
    )));
    ok(acl!(aclrtMemcpyAsyncWithDesc(desc, INNER, stream)));
    ok(acl!(aclrtSynchronizeStream(stream)));
    assert_eq!(download(target, 4), [1., 2., 0., 0.]);
    assert_eq!(acl!(aclrtGetMemcpyDescSize(1, &mut size)), 207_000);

    let (mut to, mut from) = (target, source.cast_const());
    let offset = |to: &mut *mut c_void, from: &mut *const c_void, room, at, count| {
        acl!(aclrtMemcpyAsyncWithOffset(
            to, room, at, from, count, 8, INNER, stream
        ))
    };
    ok(offset(&mut to, &mut from, 16, 4, 8));
    ok(acl!(aclrtSynchronizeStream(stream)));
    assert_eq!(download(target, 4), [1., 3., 4., 0.]);
    assert_eq!(
        offset(&mut to, &mut from, 16, 12, 8),
        107_000,
        "too little room"
    );
    assert_eq!(
        offset(&mut to, &mut from, 16, 20, 8),
        107_000,
        "an offset beyond it"
    );
}

#[test]
fn devices_have_one_number() {
    let mut settings = ascend_emulator::Settings::default();
    settings.devices = 2;
    let _turn = fresh(settings);
    let mut found = -1;
    ok(acl!(aclrtGetLogicDevIdByUserDevId(1, &mut found)));
    assert_eq!(found, 1);
    ok(acl!(aclrtGetPhyDevIdByLogicDevId(0, &mut found)));
    assert_eq!(found, 0);
    assert_eq!(acl!(aclrtGetUserDevIdByPhyDevId(2, &mut found)), 107_001);
    assert_eq!(acl!(aclrtGetUserDevIdByPhyDevId(-1, &mut found)), 107_001);
    let mut timeout = 0;
    ok(acl!(aclrtGetOpExecuteTimeout(&mut timeout)));
    assert_eq!(timeout, u32::MAX);
    let mut value = 1;
    ok(acl!(aclrtDeviceSetLimit(
        sys::ACL_RT_DEV_LIMIT_SIMD_STACK_SIZE,
        4096
    )));
    ok(acl!(aclrtDeviceGetLimit(
        sys::ACL_RT_DEV_LIMIT_SIMD_STACK_SIZE,
        &mut value
    )));
    assert_eq!(value, 4096);
    let simt = sys::ACL_RT_DEV_LIMIT_SIMT_STACK_SIZE;
    assert_eq!(acl!(aclrtDeviceGetLimit(simt, &mut value)), 207_000);
    assert_eq!(acl!(aclrtDeviceGetLimit(9, &mut value)), 107_000);
}

#[test]
fn ranges_of_tensor_information_are_paired() {
    let _turn = fresh(Default::default());
    assert_eq!(acl!(aclprofRangePop()), 100_000);
    // SAFETY: a plain structure of numbers and null pointers.
    let mut attributes: sys::aclprofEventAttributes = unsafe { std::mem::zeroed() };
    ok(acl!(aclprofRangePushEx(&mut attributes)));
    ok(acl!(aclprofRangePop()));
    let number = |text: &CStr| acl!(aclprofStr2Id(text.as_ptr()));
    assert_eq!(number(c"Add"), number(c"Add"));
    assert_ne!(number(c"Add"), number(c"Sub"));
    assert_eq!(acl!(aclprofStr2Id(ptr::null())), u64::MAX);
}

#[test]
fn datasets_hold_buffers() {
    let _turn = fresh(Default::default());
    let data = malloc(8);
    let buffer = acl!(aclCreateDataBuffer(data, 8));
    let dataset = acl!(aclmdlCreateDataset());
    ok(acl!(aclmdlAddDatasetBuffer(dataset, buffer)));
    assert_eq!(acl!(aclmdlGetDatasetNumBuffers(dataset)), 1);
    assert_eq!(acl!(aclmdlGetDatasetBuffer(dataset, 0)), buffer);
    assert!(acl!(aclmdlGetDatasetBuffer(dataset, 1)).is_null());
    ok(acl!(aclmdlDestroyDataset(dataset)));
    assert_eq!(acl!(aclmdlDestroyDataset(dataset)), 100_000);
    ok(acl!(aclDestroyDataBuffer(buffer)));
    let mut model = 0;
    assert_eq!(
        acl!(aclmdlLoadFromFile(c"model.om".as_ptr(), &mut model)),
        200_001
    );
    assert!(recent().contains("aclmdlLoadFromFile"), "{}", recent());
}

#[test]
fn time_outs_of_kernels_go_in_steps() {
    let _turn = fresh(Default::default());
    let (mut step, mut actual) = (0, 0);
    ok(acl!(aclrtGetOpTimeOutInterval(&mut step)));
    // 254 steps are the longest time-out of the chip, 1091 seconds.
    assert_eq!(step * 254 / 1_000_000, 1090);
    for (wanted, steps) in [(0, 1), (1, 1), (step + 1, 2), (u64::MAX, 254)] {
        ok(acl!(aclrtSetOpExecuteTimeOutV2(wanted, &mut actual)));
        assert_eq!(actual, steps * step);
    }
    assert_eq!(acl!(aclrtGetOpTimeOutInterval(ptr::null_mut())), 100000);
}
