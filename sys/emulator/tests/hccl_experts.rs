//! Tokens that go to other ranks' experts and come back, and products around an exchange of all with all.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;
mod ranks;

use ascend_sys as sys;
use common::*;
use ranks::*;
use std::ffi::CString;
use std::ptr;

const F32: i32 = 0;
const I8: i32 = 2;
const I32: i32 = 3;
const I64: i32 = 9;
const BF16: i32 = 27;

/// Not a test of its own: what a process does that a test started as a rank.
#[test]
fn a_rank() {
    let Some((name, rank)) = scenario() else {
        return;
    };
    match name.as_str() {
        "experts" => experts(&rank),
        "exchanges" => exchanges(&rank),
        other => panic!("no scenario {other}"),
    }
}

fn half_tensor(shape: &[i64], values: &[f32]) -> *mut sys::aclTensor {
    typed(shape, BF16, device(&halves(values)))
}

/// What a dispatch writes, for eight rows of two.
struct Arrived {
    rows: *mut std::ffi::c_void,
    scales: *mut std::ffi::c_void,
    notes: *mut std::ffi::c_void,
    counts: *mut std::ffi::c_void,
    ends: *mut std::ffi::c_void,
}

impl Arrived {
    fn new() -> Arrived {
        Arrived {
            rows: malloc(32),
            scales: malloc(32),
            notes: malloc(8 * 128 * 4),
            counts: malloc(16),
            ends: malloc(16),
        }
    }
}

/// Two tokens a rank, two choices of four experts each: [10 r + t + 1, 1] for token t of rank r.
fn experts(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let name = CString::new(name_of(comm)).expect("a name");
    let (first, rank) = (own.rank == 0, own.rank as i64);
    let base = 10.0 * own.rank as f32;
    let x = half_tensor(&[2, 2], &[base + 1.0, 1.0, base + 2.0, 1.0]);
    let chosen: [i32; 4] = if first { [0, 3, 2, 1] } else { [3, 0, 0, 2] };
    let chosen = typed(&[2, 2], I32, device(&chosen));
    let weights: [f32; 4] = if first {
        [0.5, 2.0, 1.0, 0.25]
    } else {
        [1.0, 1.0, 2.0, 0.5]
    };
    let weights = typed(&[2, 2], F32, device(&weights));
    let none = ptr::null_mut();
    let wanted = if first {
        [1., 1., 11., 1., 12., 1., 2., 1.]
    } else {
        [2., 1., 12., 1., 1., 1., 11., 1.]
    };
    // Each expert multiplies by its number plus one.
    let answers = if first {
        [1., 1., 11., 1., 12., 1., 4., 2.]
    } else {
        [6., 3., 36., 3., 4., 4., 44., 4.]
    };
    let sums = if first {
        [8.5, 8.5, 7.0, 3.5]
    } else {
        [55.0, 5.0, 42.0, 3.5]
    };
    let (counts, ends) = if first {
        ([3i64, 1], [1, 3, 4, 4])
    } else {
        ([2i64, 2], [1, 2, 3, 4])
    };
    let mut padded = [0f32; 16];
    padded[..8].copy_from_slice(&answers);
    let answers = half_tensor(&[8, 2], &padded);

    let to = Arrived::new();
    let (mut size, mut executor) = (0, ptr::null_mut());
    let status = acl!(aclnnMoeDistributeDispatchGetWorkspaceSize(
        x,
        chosen,
        none,
        none,
        none,
        name.as_ptr(),
        2,
        rank,
        4,
        c"".as_ptr(),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        typed(&[8, 2], BF16, to.rows),
        typed(&[8], F32, to.scales),
        typed(&[4], I32, to.notes),
        typed(&[2], I64, to.counts),
        typed(&[4], I32, to.ends),
        typed(&[1], I32, malloc(4)),
        typed(&[8], F32, malloc(32)),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMoeDistributeDispatch);
    finish(stream, (status, size, executor), second);
    assert_eq!(host::<u16>(to.rows, 8), halves(&wanted));
    assert_eq!(host::<i64>(to.counts, 2), counts);
    assert_eq!(host::<i32>(to.ends, 4), ends);
    let out = malloc(8);
    let status = acl!(aclnnMoeDistributeCombineGetWorkspaceSize(
        answers,
        chosen,
        typed(&[4], I32, to.notes),
        typed(&[4], I32, to.ends),
        weights,
        none,
        none,
        none,
        none,
        none,
        none,
        name.as_ptr(),
        2,
        rank,
        4,
        c"".as_ptr(),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        typed(&[2, 2], BF16, out),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMoeDistributeCombine);
    finish(stream, (status, size, executor), second);
    assert_eq!(host::<u16>(out, 4), halves(&sums));

    // Rows become bytes, each by its largest value.
    let to = Arrived::new();
    let status = acl!(aclnnMoeDistributeDispatchV2GetWorkspaceSize(
        x,
        chosen,
        none,
        none,
        none,
        name.as_ptr(),
        2,
        rank,
        4,
        c"".as_ptr(),
        0,
        0,
        0,
        0,
        0,
        2,
        0,
        0,
        c"fullmesh".as_ptr(),
        typed(&[8, 2], I8, to.rows),
        typed(&[8], F32, to.scales),
        typed(&[8 * 128], I32, to.notes),
        typed(&[2], I64, to.counts),
        typed(&[4], I32, to.ends),
        typed(&[1], I32, malloc(4)),
        typed(&[8], F32, malloc(32)),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMoeDistributeDispatchV2);
    finish(stream, (status, size, executor), second);
    for row in 0..4 {
        let (high, low) = (wanted[2 * row], wanted[2 * row + 1]);
        let bytes = host::<i8>(to.rows, 8);
        let second = (low / high * 127.0f32).round_ties_even() as i8;
        assert_eq!(bytes[2 * row..2 * row + 2], [127, second]);
        let scale = host::<f32>(to.scales, 8)[row];
        assert!((scale - high / 127.0).abs() < 1e-6, "{scale} of {high}");
    }
    let sum = counts[0] + counts[1];
    assert_eq!(host::<i64>(to.counts, 2), [counts[0], sum]);
    let out = malloc(8);
    let status = acl!(aclnnMoeDistributeCombineV2GetWorkspaceSize(
        answers,
        chosen,
        typed(&[8 * 128], I32, to.notes),
        typed(&[4], I32, to.ends),
        weights,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        name.as_ptr(),
        2,
        rank,
        4,
        c"".as_ptr(),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        c"fullmesh".as_ptr(),
        typed(&[2, 2], BF16, out),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMoeDistributeCombineV2);
    finish(stream, (status, size, executor), second);
    assert_eq!(host::<u16>(out, 4), halves(&sums));
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn tokens_go_to_experts_and_back() {
    run("experts", 2, &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "20")]);
}

fn exchanges(own: &Rank) {
    let (comm, stream) = (own.init(), stream());
    let name = CString::new(name_of(comm)).expect("a name");
    let (rank, first) = (own.rank as f32, own.rank == 0);
    let (mut size, mut executor) = (0, ptr::null_mut());
    let none = ptr::null_mut();

    // Rank 0 gets [1, 2], rank 1 [3, 4].
    let x = half_tensor(&[2, 1], &[1.0 + rank, 3.0 + rank]);
    let weight = half_tensor(&[2, 2], &[1.0, 0.0, rank, 2.0]);
    let (out, all) = (malloc(4), malloc(4));
    let status = acl!(aclnnAlltoAllMatmulGetWorkspaceSize(
        x,
        weight,
        none,
        ptr::null(),
        name.as_ptr(),
        false,
        false,
        typed(&[1, 2], BF16, out),
        typed(&[1, 2], BF16, all),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnAlltoAllMatmul);
    finish(stream, (status, size, executor), second);
    let wanted = if first { [1.0, 2.0] } else { [3.0, 4.0] };
    assert_eq!(host::<u16>(all, 2), halves(&wanted));
    let wanted = if first { [1.0, 4.0] } else { [7.0, 8.0] };
    assert_eq!(host::<u16>(out, 2), halves(&wanted));

    // Rank 0 computes [1, 2], rank 1 [4, 6]; the matrix is given transposed.
    let x = half_tensor(&[1, 2], &[1.0, rank]);
    let weight = half_tensor(&[2, 2], &[1.0, 3.0, 2.0, 4.0]);
    let out = malloc(4);
    let status = acl!(aclnnMatmulAlltoAllGetWorkspaceSize(
        x,
        weight,
        none,
        ptr::null(),
        name.as_ptr(),
        false,
        true,
        typed(&[2, 1], BF16, out),
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMatmulAlltoAll);
    finish(stream, (status, size, executor), second);
    let wanted = if first { [1.0, 4.0] } else { [2.0, 6.0] };
    assert_eq!(host::<u16>(out, 2), halves(&wanted));

    let x = half_tensor(&[1, 2], &[1.0, 1.0 + rank]);
    let weight = half_tensor(&[2, 2], &[1.0, 0.0, 0.0, 1.0 + rank]);
    let (out, all) = (malloc(8), malloc(8));
    let status = acl!(aclnnAllGatherMatmulV2GetWorkspaceSize(
        x,
        weight,
        none,
        none,
        none,
        none,
        0,
        name.as_ptr(),
        0,
        0,
        1,
        0,
        c"aiv".as_ptr(),
        typed(&[2, 2], BF16, out),
        typed(&[2, 2], BF16, all),
        none,
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnAllGatherMatmulV2);
    finish(stream, (status, size, executor), second);
    assert_eq!(host::<u16>(all, 4), halves(&[1.0, 1.0, 1.0, 2.0]));
    let wanted = [1.0, 1.0 + rank, 1.0, 2.0 + 2.0 * rank];
    assert_eq!(host::<u16>(out, 4), halves(&wanted));

    // Bytes: rank r's rows are [0.5, 4 (r + 1)] and [3, 16 (r + 1)].
    let x = typed(&[2, 2], I8, device(&[1i8, 2, 3, 4]));
    let weight = typed(&[2, 2], I8, device(&[1i8, 0, 0, 1]));
    let rows = typed(&[2, 1], F32, device(&[1.0f32, 2.0]));
    let columns = typed(&[1, 2], F32, device(&[0.5f32, 2.0 * (rank + 1.0)]));
    let out = malloc(4);
    let status = acl!(aclnnMatmulReduceScatterV2GetWorkspaceSize(
        x,
        weight,
        none,
        rows,
        columns,
        none,
        0,
        name.as_ptr(),
        c"sum".as_ptr(),
        0,
        1,
        0,
        c"aiv".as_ptr(),
        typed(&[1, 2], BF16, out),
        none,
        &mut size,
        &mut executor
    ));
    let second = function(sys::f::aclnnMatmulReduceScatterV2);
    finish(stream, (status, size, executor), second);
    let wanted = if first { [1.0, 12.0] } else { [6.0, 48.0] };
    assert_eq!(host::<u16>(out, 2), halves(&wanted));
    check(acl!(HcclCommDestroy(comm)));
}

#[test]
fn all_exchange_with_all_around_a_product() {
    run(
        "exchanges",
        2,
        &[("ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT", "20")],
    );
}
