//! Copies, casts, joins, splits and padding.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::super::testing::{arg, empty, floats, ints, list, longs, run, scalar, tensor};
use super::*;

#[test]
fn casts_truncate_wrap_and_compare_with_zero() {
    let x = floats(&[4], &[2.9, -2.9, f32::NAN, 0.0]);
    let cast = |x: &Tensor, dtype: DType| {
        let code = Arg::Int(i64::from(dtype.code()));
        result("aclnnCast", &[arg(x), code], dtype, &[x.count()])
    };
    assert_eq!(cast(&x, DType::I32).load_vec::<i64>(), [2, -2, 0, 0]);
    assert_eq!(
        cast(&x, DType::Bool).load_vec::<bool>(),
        [true, true, true, false]
    );
    assert_eq!(
        cast(&words(&[300, -129]), DType::I8).load_vec::<i64>(),
        [44, 127]
    );
    // Between 2048 and 2050 f16 rounds to the even neighbour.
    assert_eq!(
        cast(&floats(&[2], &[2049., 2051.]), DType::F16).load_vec::<f32>(),
        [2048., 2052.]
    );
    assert_eq!(
        cast(&tensor(DType::U64, &[1], &[-1i64]), DType::F32).load_vec::<f32>(),
        [1.844_674_4e19]
    );
    let mismatch = [arg(&x), Arg::Int(0), arg(&words(&[0; 4]))];
    assert_eq!(refusal("aclnnCast", &mismatch), 161002);
    let target = empty(DType::F16, &[2, 2]);
    run("aclnnInplaceCopy", &[arg(&target), arg(&words(&[1, 2]))]).expect("a copy");
    assert_eq!(target.load_vec::<f32>(), [1., 2., 1., 2.]);
    assert_eq!(
        refusal("aclnnInplaceCopy", &[arg(&target), arg(&words(&[1, 2, 3]))]),
        161002
    );
}

#[test]
fn elements_move_to_their_places() {
    let x = longs(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let moved = |name, args: &[Arg], shape: &[usize]| {
        let mut all = vec![arg(&x)];
        all.extend_from_slice(args);
        result(name, &all, DType::I64, shape).load_vec::<i64>()
    };
    assert_eq!(
        moved("aclnnPermute", &[ints(&[1, 0])], &[3, 2]),
        [1, 4, 2, 5, 3, 6]
    );
    assert_eq!(
        moved("aclnnFlip", &[ints(&[-1])], &[2, 3]),
        [3, 2, 1, 6, 5, 4]
    );
    assert_eq!(
        moved("aclnnRoll", &[ints(&[1]), ints(&[1])], &[2, 3]),
        [3, 1, 2, 6, 4, 5]
    );
    assert_eq!(
        moved("aclnnRoll", &[ints(&[-1]), ints(&[])], &[2, 3]),
        [2, 3, 4, 5, 6, 1]
    );
    assert_eq!(
        moved("aclnnRepeat", &[ints(&[2, 1, 1])], &[2, 2, 3]),
        [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
    );
    let slice = [ints(&[0]), ints(&[9]), ints(&[1]), ints(&[2])];
    assert_eq!(moved("aclnnSliceV2", &slice, &[2, 2]), [1, 3, 4, 6]);
    assert_eq!(
        moved("aclnnTril", &[Arg::Int(0)], &[2, 3]),
        [1, 0, 0, 4, 5, 0]
    );
    assert_eq!(
        moved("aclnnTriu", &[Arg::Int(1)], &[2, 3]),
        [0, 2, 3, 0, 0, 6]
    );
    assert_eq!(moved("aclnnDiag", &[Arg::Int(1)], &[2]), [2, 6]);
    assert_eq!(
        moved("aclnnFlatten", &[Arg::Int(1)], &[2, 3]),
        [1, 2, 3, 4, 5, 6]
    );
    let expanded = result(
        "aclnnExpand",
        &[arg(&longs(&[2, 1], &[7, 8])), ints(&[-1, 2])],
        DType::I64,
        &[2, 2],
    );
    assert_eq!(expanded.load_vec::<i64>(), [7, 7, 8, 8]);
    assert_eq!(
        refusal("aclnnPermute", &[arg(&x), ints(&[0, 0]), arg(&x)]),
        161002
    );
}

#[test]
fn joins_promote_and_splits_cover() {
    let (a, b, none) = (
        longs(&[1, 2], &[1, 2]),
        tensor(DType::I32, &[2, 2], &[3i64, 4, 5, 6]),
        floats(&[0], &[]),
    );
    let out = result(
        "aclnnCat",
        &[list(&[&a, &b]), Arg::Int(0)],
        DType::I64,
        &[3, 2],
    );
    assert_eq!(out.load_vec::<i64>(), [1, 2, 3, 4, 5, 6]);
    let joined = [list(&[&a, &none]), Arg::Int(1)];
    assert_eq!(
        result("aclnnCat", &joined, DType::F32, &[1, 2]).load_vec::<f32>(),
        [1., 2.]
    );
    let out = result(
        "aclnnStack",
        &[list(&[&a, &a]), Arg::Int(-1)],
        DType::I64,
        &[1, 2, 2],
    );
    assert_eq!(out.load_vec::<i64>(), [1, 1, 2, 2]);
    assert_eq!(
        refusal("aclnnCat", &[list(&[&a, &b]), Arg::Int(1), arg(&a)]),
        161002
    );
    let x = floats(&[5], &[1., 2., 3., 4., 5.]);
    let (one, two) = (empty(DType::F32, &[3]), empty(DType::F32, &[2]));
    run(
        "aclnnSplitTensor",
        &[arg(&x), Arg::Int(3), Arg::Int(0), list(&[&one, &two])],
    )
    .expect("a split");
    assert_eq!(
        (one.load_vec(), two.load_vec()),
        (vec![1f32, 2., 3.], vec![4f32, 5.])
    );
    run(
        "aclnnSplitWithSize",
        &[arg(&x), ints(&[2, 3]), Arg::Int(0), list(&[&two, &one])],
    )
    .expect("a split");
    assert_eq!(
        (two.load_vec(), one.load_vec()),
        (vec![1f32, 2.], vec![3f32, 4., 5.])
    );
    let (on, off) = (words(&[1]), words(&[0]));
    let args = [
        arg(&longs(&[3], &[2, 0, 5])),
        Arg::Int(3),
        arg(&on),
        arg(&off),
        Arg::Int(-1),
    ];
    let out = result("aclnnOneHot", &args, DType::I32, &[3, 3]);
    assert_eq!(out.load_vec::<i64>(), [0, 0, 1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn padding_and_its_gradient() {
    let x = floats(&[1, 3], &[1., 2., 3.]);
    let pad = |name, amounts: &[i64], width: usize| {
        result(name, &[arg(&x), ints(amounts)], DType::F32, &[1, width]).load_vec::<f32>()
    };
    assert_eq!(
        pad("aclnnReflectionPad1d", &[2, 1], 6),
        [3., 2., 1., 2., 3., 2.]
    );
    assert_eq!(
        pad("aclnnReplicationPad1d", &[2, 1], 6),
        [1., 1., 1., 2., 3., 3.]
    );
    let args = [arg(&x), ints(&[-1, 2]), scalar(9.0)];
    let out = result("aclnnConstantPadNd", &args, DType::F32, &[1, 4]);
    assert_eq!(out.load_vec::<f32>(), [2., 3., 9., 9.]);
    let plane = floats(&[1, 1, 3], &[1., 2., 3.]);
    let args = [arg(&plane), ints(&[1, 2, 1, 0])];
    let out = result("aclnnCircularPad2d", &args, DType::F32, &[1, 2, 6]);
    assert_eq!(
        out.load_vec::<f32>(),
        [3., 1., 2., 3., 1., 2., 3., 1., 2., 3., 1., 2.]
    );
    let too_far = [arg(&x), ints(&[3, 0]), arg(&floats(&[1, 6], &[0.; 6]))];
    assert_eq!(refusal("aclnnReflectionPad1d", &too_far), 161002);
    let dy = floats(&[1, 6], &[1., 10., 100., 1e3, 1e4, 1e5]);
    let args = [arg(&dy), arg(&x), ints(&[2, 1])];
    let dx = result("aclnnReflectionPad1dBackward", &args, DType::F32, &[1, 3]);
    assert_eq!(dx.load_vec::<f32>(), [100., 101_010., 10_001.]);
}

#[test]
fn elements_repeat_where_they_are() {
    let x = longs(&[2, 2], &[1, 2, 3, 4]);
    let args = [arg(&x), Arg::Int(2), Arg::Int(1), Arg::Int(4)];
    let out = result(
        "aclnnRepeatInterleaveIntWithDim",
        &args,
        DType::I64,
        &[2, 4],
    );
    assert_eq!(out.load_vec::<i64>(), [1, 1, 2, 2, 3, 3, 4, 4]);
    let args = [
        arg(&x),
        arg(&longs(&[2], &[2, 1])),
        Arg::Int(0),
        Arg::Int(3),
    ];
    let out = result("aclnnRepeatInterleaveWithDim", &args, DType::I64, &[3, 2]);
    assert_eq!(out.load_vec::<i64>(), [1, 2, 1, 2, 3, 4]);
    let args = [arg(&longs(&[3], &[1, 0, 2])), Arg::Int(3)];
    let out = result("aclnnRepeatInterleaveTensor", &args, DType::I64, &[3]);
    assert_eq!(out.load_vec::<i64>(), [0, 2, 2]);
    let short = [
        arg(&longs(&[1], &[3])),
        Arg::Int(2),
        arg(&longs(&[2], &[0, 0])),
    ];
    assert_eq!(refusal("aclnnRepeatInterleaveTensor", &short), 507015);
}
