//! Elementwise, layout, reduction and selection kernels through both phases of the C interface.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::{Settings, leaks, violations};
use ascend_sys as sys;
use common::*;
use std::ptr;

/// Both phases of an op on the default stream, and the wait for it.
macro_rules! run {
    ($plan:ident, $launch:ident; $($argument:expr),*) => {{
        let (mut size, mut executor) = (0u64, ptr::null_mut());
        let status = acl!($plan($($argument,)* &mut size, &mut executor));
        assert_eq!(status, 0, "{}", recent());
        let workspace = if size > 0 { malloc(size as usize) } else { ptr::null_mut() };
        assert_eq!(acl!($launch(workspace, size, executor, ptr::null_mut())), 0, "{}", recent());
        assert_eq!(synchronize(ptr::null_mut()), 0, "{}", recent());
        if size > 0 {
            assert_eq!(acl!(aclrtFree(workspace)), 0);
        }
    }};
}

fn close(tensors: &[*mut sys::aclTensor]) {
    for &tensor in tensors {
        assert_eq!(acl!(aclDestroyTensor(tensor)), 0);
    }
}

fn ints(values: &[i64]) -> *mut sys::aclIntArray {
    acl!(aclCreateIntArray(values.as_ptr(), values.len() as u64))
}

#[test]
fn in_place_products_and_copies_between_views() {
    let _guard = fresh(Settings::default());
    let (x, y) = (upload(&[1., 2., 3., 4.]), upload(&[10., 100.]));
    let (tx, ty) = (tensor(&[2, 2], x), tensor(&[2], y));
    run!(aclnnInplaceMulGetWorkspaceSize, aclnnInplaceMul; tx, ty);
    assert_eq!(download(x, 4), [10., 200., 30., 400.]);
    // The transposed view takes the rows of x as its columns.
    let copied = malloc(16);
    let target = view(&[2, 2], &[1, 2], 0, 4, copied);
    run!(aclnnInplaceCopyGetWorkspaceSize, aclnnInplaceCopy; target, tx);
    assert_eq!(download(copied, 4), [10., 30., 200., 400.]);
    close(&[tx, ty, target]);
    for pointer in [x, y, copied] {
        assert_eq!(acl!(aclrtFree(pointer)), 0);
    }
    assert_eq!(leaks(), Vec::<String>::new());
    assert_eq!(violations(), Vec::<String>::new());
}

#[test]
fn sums_over_a_dim_and_a_cast() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[1.5, 2., 3., 4.]), malloc(8));
    let (tx, sums) = (tensor(&[2, 2], x), tensor(&[2], out));
    let dims = ints(&[0]);
    run!(aclnnReduceSumGetWorkspaceSize, aclnnReduceSum; tx, dims, false, sys::ACL_FLOAT, sums);
    assert_eq!(download(out, 2), [4.5, 6.]);
    let words = malloc(8);
    let cast = typed(&[2], sys::ACL_INT32, words);
    run!(aclnnCastGetWorkspaceSize, aclnnCast; sums, sys::ACL_INT32, cast);
    let bits: Vec<u32> = download(words, 2)
        .iter()
        .map(|value| value.to_bits())
        .collect();
    assert_eq!(bits, [4, 6]);
    assert_eq!(acl!(aclDestroyIntArray(dims)), 0);
    close(&[tx, sums, cast]);
}

#[test]
fn places_of_non_zeros_change_the_view_shape() {
    let _guard = fresh(Settings::default());
    let (x, out) = (upload(&[0., 7., 0., 8.]), malloc(64));
    let (tx, places) = (tensor(&[2, 2], x), typed(&[4, 2], sys::ACL_INT64, out));
    run!(aclnnNonzeroGetWorkspaceSize, aclnnNonzero; tx, places);
    let words: Vec<u32> = download(out, 8)
        .iter()
        .map(|value| value.to_bits())
        .collect();
    // (0, 1) and (1, 1), low words first.
    assert_eq!(words, [0, 0, 1, 0, 1, 0, 1, 0]);
    let (mut dims, mut rank) = (ptr::null_mut(), 0u64);
    assert_eq!(acl!(aclGetViewShape(places, &mut dims, &mut rank)), 0);
    assert_eq!(rank, 2);
    // SAFETY: the call gave `rank` numbers, which this test leaves to the end of the process.
    assert_eq!(unsafe { std::slice::from_raw_parts(dims, 2) }, [2, 2]);
    close(&[tx, places]);
}

#[test]
fn wrong_shapes_are_refused_with_a_text_that_names_the_op() {
    let _guard = fresh(Settings::default());
    let (x, y) = (upload(&[1., 2., 3.]), upload(&[1., 2.]));
    let (tx, ty) = (tensor(&[3], x), tensor(&[2], y));
    let (mut size, mut executor) = (0u64, ptr::null_mut());
    let status = acl!(aclnnMulGetWorkspaceSize(
        tx,
        ty,
        tx,
        &mut size,
        &mut executor
    ));
    assert_eq!(status, 161002);
    assert!(recent().contains("aclnnMul"));
    close(&[tx, ty]);
}

#[test]
fn a_label_out_of_range_fails_on_the_device() {
    let _guard = fresh(Settings::default());
    let (labels, out) = (upload(&[f32::from_bits(1), f32::from_bits(9)]), malloc(16));
    let (tx, counts) = (
        typed(&[2], sys::ACL_INT32, labels),
        typed(&[2], sys::ACL_INT64, out),
    );
    let (mut size, mut executor) = (0u64, ptr::null_mut());
    let status = acl!(aclnnBincountGetWorkspaceSize(
        tx,
        ptr::null(),
        0,
        counts,
        &mut size,
        &mut executor
    ));
    assert_eq!(status, 0, "{}", recent());
    let workspace = malloc(size.max(32) as usize);
    assert_eq!(
        acl!(aclnnBincount(workspace, size, executor, ptr::null_mut())),
        0
    );
    assert_eq!(synchronize(ptr::null_mut()), 507015);
}
