//! Two and three operands: results, result types, and refusals.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::super::testing::{arg, empty, floats, long_scalar, longs, null, run, scalar, tensor};
use super::*;

#[test]
fn sums_and_differences_scale_the_second_operand_and_broadcast() {
    let x = floats(&[2, 2], &[1., 2., 3., 4.]);
    let y = floats(&[2], &[10., 20.]);
    let two = scalar(2.0);
    let out = result(
        "aclnnSub",
        &[arg(&x), arg(&y), two.clone()],
        DType::F32,
        &[2, 2],
    );
    assert_eq!(out.load_vec::<f32>(), [-19., -38., -17., -36.]);
    let out = result(
        "aclnnRsubs",
        &[arg(&y), scalar(1.0), two.clone()],
        DType::F32,
        &[2],
    );
    assert_eq!(out.load_vec::<f32>(), [-19., -39.]);
    run("aclnnInplaceAdd", &[arg(&x), arg(&y), two]).expect("a sum in place");
    assert_eq!(x.load_vec::<f32>(), [21., 42., 23., 44.]);
    let bytes = tensor(DType::I8, &[2], &[100i64, -100]);
    let out = result(
        "aclnnSub",
        &[arg(&bytes), arg(&bytes), long_scalar(-1)],
        DType::I8,
        &[2],
    );
    assert_eq!(out.load_vec::<i64>(), [-56, 56]);
    let flags = truths(&[true, false]);
    let refused = [arg(&flags), arg(&flags), long_scalar(1), arg(&flags)];
    assert_eq!(refusal("aclnnSub", &refused), 161002);
    let wrong_shape = floats(&[3], &[0.; 3]);
    assert_eq!(
        refusal(
            "aclnnSub",
            &[arg(&y), arg(&y), scalar(1.0), arg(&wrong_shape)]
        ),
        161002
    );
}

#[test]
fn a_scalar_takes_the_tensor_s_float_type_first() {
    // 1e-8 is 0 in f16, and the subtraction must not see it even in f32.
    let x = tensor(DType::F16, &[1], &[0f32]);
    let out = result(
        "aclnnSubs",
        &[arg(&x), scalar(1e-8), scalar(1.0)],
        DType::F32,
        &[1],
    );
    assert_eq!(out.load_vec::<f32>(), [0.0]);
    // An integer tensor and a float scalar compute in f32.
    let out = result(
        "aclnnMuls",
        &[arg(&words(&[3])), scalar(0.5)],
        DType::F32,
        &[1],
    );
    assert_eq!(out.load_vec::<f32>(), [1.5]);
}

#[test]
fn quotients_by_mode() {
    let (x, y) = (words(&[7, -7, 7, -7]), words(&[2, 2, -2, -2]));
    let out = result("aclnnDiv", &[arg(&x), arg(&y)], DType::F32, &[4]);
    assert_eq!(out.load_vec::<f32>(), [3.5, -3.5, -3.5, 3.5]);
    let cases: [(i64, [i64; 4]); 2] = [(1, [3, -3, -3, 3]), (2, [3, -4, -4, 3])];
    for (mode, wanted) in cases {
        let args = [arg(&x), arg(&y), Arg::Int(mode)];
        let out = result("aclnnDivMod", &args, DType::I32, &[4]);
        assert_eq!(out.load_vec::<i64>(), wanted);
        let floats_of = |t: &Tensor| tensor(DType::F32, &[4], &t.load_vec::<f32>());
        let args = [arg(&floats_of(&x)), arg(&floats_of(&y)), Arg::Int(mode)];
        let out = result("aclnnDivMod", &args, DType::F32, &[4]);
        assert_eq!(out.load_vec::<i64>(), wanted);
    }
    assert_eq!(
        refusal("aclnnDivMod", &[arg(&x), arg(&y), Arg::Int(3), arg(&x)]),
        161002
    );
    let out = result(
        "aclnnRemainderTensorTensor",
        &[arg(&x), arg(&y)],
        DType::I32,
        &[4],
    );
    assert_eq!(out.load_vec::<i64>(), [1, 1, -1, -1]);
    let out = result("aclnnFmodTensor", &[arg(&x), arg(&y)], DType::I32, &[4]);
    assert_eq!(out.load_vec::<i64>(), [1, -1, 1, -1]);
    let lowest = tensor(DType::I64, &[1], &[i64::MIN]);
    let out = result(
        "aclnnFloorDivides",
        &[arg(&lowest), long_scalar(-1)],
        DType::I64,
        &[1],
    );
    assert_eq!(out.load_vec::<i64>(), [i64::MIN]);
}

#[test]
fn powers() {
    let x = words(&[-2, 3, 1, -1]);
    let out = result(
        "aclnnPowTensorTensor",
        &[arg(&x), arg(&words(&[3, 4, -5, -3]))],
        DType::I32,
        &[4],
    );
    assert_eq!(out.load_vec::<i64>(), [-8, 81, 1, -1]);
    assert_eq!(
        refusal("aclnnPowTensorScalar", &[arg(&x), long_scalar(-1), arg(&x)]),
        161002
    );
    let out = result(
        "aclnnPowScalarTensor",
        &[scalar(2.0), arg(&floats(&[2], &[0.5, -1.]))],
        DType::F32,
        &[2],
    );
    assert_near(
        "pow",
        &out.load_vec::<f64>(),
        &[std::f64::consts::SQRT_2, 0.5],
    );
}

#[test]
fn extremes_keep_nan_and_logarithms_do_not_overflow() {
    let (x, y) = (
        floats(&[3], &[1., f32::NAN, 5.]),
        floats(&[3], &[2., 0., f32::NAN]),
    );
    let wanted = [2.0, f64::NAN, f64::NAN];
    assert_near(
        "maximum",
        &values("aclnnMaximum", &[arg(&x), arg(&y)], 3),
        &wanted,
    );
    let wanted = [1.0, f64::NAN, f64::NAN];
    assert_near(
        "minimum",
        &values("aclnnMinimum", &[arg(&x), arg(&y)], 3),
        &wanted,
    );
    let a = floats(&[2], &[1000., f32::NEG_INFINITY]);
    let got = values("aclnnLogAddExp", &[arg(&a), arg(&a)], 2);
    assert_near("logaddexp", &got, &[1000.0 + 2f64.ln(), f64::NEG_INFINITY]);
    let (zero, e) = (
        floats(&[2], &[0., 2.]),
        floats(&[2], &[0., std::f32::consts::E]),
    );
    assert_near(
        "xlogy",
        &values("aclnnXLogYTensor", &[arg(&zero), arg(&e)], 2),
        &[0.0, 2.0],
    );
    let got = values(
        "aclnnAtan2",
        &[arg(&floats(&[1], &[1.])), arg(&floats(&[1], &[-1.]))],
        1,
    );
    assert_near("atan2", &got, &[0.75 * std::f64::consts::PI]);
}

#[test]
fn bits_and_shifts() {
    let (x, y) = (words(&[12, -1]), words(&[10, 3]));
    let bits = |name| result(name, &[arg(&x), arg(&y)], DType::I32, &[2]).load_vec::<i64>();
    assert_eq!(bits("aclnnBitwiseAndTensor"), [8, 3]);
    assert_eq!(bits("aclnnBitwiseOrTensor"), [14, -1]);
    assert_eq!(bits("aclnnBitwiseXorTensor"), [6, -4]);
    assert_eq!(bits("aclnnLeftShift"), [12 << 10, -8]);
    assert_eq!(bits("aclnnRightShift"), [0, -1]);
    assert_eq!(bits("aclnnGcd"), [2, 1]);
    let half = floats(&[2], &[1., 2.]);
    assert_eq!(
        refusal(
            "aclnnBitwiseAndTensor",
            &[arg(&half), arg(&half), arg(&half)]
        ),
        161002
    );
}

#[test]
fn comparisons_promote_and_nan_is_unequal() {
    let x = floats(&[3], &[1., f32::NAN, 3.]);
    let y = floats(&[3], &[2., f32::NAN, 3.]);
    let compare = |name| result(name, &[arg(&x), arg(&y)], DType::Bool, &[3]).load_vec::<bool>();
    assert_eq!(compare("aclnnEqTensor"), [false, false, true]);
    assert_eq!(compare("aclnnNeTensor"), [true, true, false]);
    assert_eq!(compare("aclnnLtTensor"), [true, false, false]);
    assert_eq!(compare("aclnnLeTensor"), [true, false, true]);
    assert_eq!(compare("aclnnGtTensor"), [false; 3]);
    assert_eq!(compare("aclnnGeTensor"), [false, false, true]);
    // 2^24 + 1 is 2^24 in f32.
    let large = longs(&[1], &[16_777_217]);
    let out = result(
        "aclnnEqTensor",
        &[arg(&large), arg(&floats(&[1], &[16_777_216.]))],
        DType::Bool,
        &[1],
    );
    assert_eq!(out.load_vec::<bool>(), [true]);
    let unsigned = tensor(DType::U64, &[2], &[-1i64, 1]);
    let out = result(
        "aclnnGtTensor",
        &[arg(&unsigned), arg(&tensor(DType::U64, &[2], &[5i64, 5]))],
        DType::Bool,
        &[2],
    );
    assert_eq!(out.load_vec::<bool>(), [true, false]);
    let args = [
        arg(&x),
        arg(&y),
        Arg::Float(0.0),
        Arg::Float(1.0),
        Arg::Bool(true),
    ];
    let out = result("aclnnIsClose", &args, DType::Bool, &[3]);
    assert_eq!(out.load_vec::<bool>(), [true, true, true]);
    let out = result(
        "aclnnLogicalXor",
        &[arg(&x), arg(&words(&[0, 0, 5]))],
        DType::Bool,
        &[3],
    );
    assert_eq!(out.load_vec::<bool>(), [true, true, false]);
}

#[test]
fn choice_bounds_and_masks() {
    let mask = truths(&[true, false]);
    let (x, y) = (floats(&[2, 1], &[1., 2.]), words(&[7, 8]));
    let out = result(
        "aclnnSWhere",
        &[arg(&mask), arg(&x), arg(&y)],
        DType::F32,
        &[2, 2],
    );
    assert_eq!(out.load_vec::<f32>(), [1., 8., 2., 8.]);
    let x = floats(&[4], &[-5., f32::NAN, 0.5, 9.]);
    let args = [arg(&x), scalar(-1.0), scalar(1.0)];
    assert_near(
        "clamp",
        &values("aclnnClamp", &args, 4),
        &[-1.0, f64::NAN, 0.5, 1.0],
    );
    let args = [arg(&x), scalar(3.0), scalar(1.0)];
    assert_near(
        "bounds",
        &values("aclnnClamp", &args, 4),
        &[1.0, f64::NAN, 1.0, 1.0],
    );
    let none = Arg::Scalar(None);
    assert_eq!(
        refusal("aclnnClamp", &[arg(&x), none.clone(), none, arg(&x)]),
        161002
    );
    let out = result(
        "aclnnClampTensor",
        &[arg(&y), null(), arg(&words(&[7, 7]))],
        DType::I32,
        &[2],
    );
    assert_eq!(out.load_vec::<i64>(), [7, 7]);
    run(
        "aclnnInplaceMaskedFillScalar",
        &[arg(&y), arg(&mask), scalar(2.75)],
    )
    .expect("a fill");
    assert_eq!(y.load_vec::<i64>(), [2, 8]);
    let vector = arg(&words(&[1, 2]));
    assert_eq!(
        refusal(
            "aclnnInplaceMaskedFillTensor",
            &[arg(&y), arg(&mask), vector]
        ),
        161002
    );
}

#[test]
fn fused_products_and_interpolation() {
    let (x, a, b) = (
        floats(&[1], &[1.]),
        floats(&[2], &[2., 4.]),
        floats(&[2], &[4., 8.]),
    );
    let args = [arg(&x), arg(&a), arg(&b), scalar(0.5)];
    assert_near("addcmul", &values("aclnnAddcmul", &args, 2), &[5.0, 17.0]);
    assert_near("addcdiv", &values("aclnnAddcdiv", &args, 2), &[1.25, 1.25]);
    let lerp = values("aclnnLerps", &[arg(&a), arg(&b), scalar(0.25)], 2);
    assert_near("lerp", &lerp, &[2.5, 5.0]);
    let parts = [&a, &b, &x];
    let list = super::super::testing::list(&parts);
    assert_near(
        "sum of a list",
        &values("aclnnAddN", &[list], 2),
        &[7.0, 13.0],
    );
}

#[test]
fn sequences_and_fills() {
    let args = [scalar(0.0), scalar(1.0), scalar(0.3)];
    assert_near(
        "arange",
        &values("aclnnArange", &args, 4),
        &[0.0, 0.3, 0.6, 0.9],
    );
    let args = [long_scalar(5), long_scalar(1), long_scalar(-2)];
    let out = result("aclnnArange", &args, DType::I64, &[2]);
    assert_eq!(out.load_vec::<i64>(), [5, 3]);
    let out = result("aclnnRange", &args, DType::I64, &[3]);
    assert_eq!(out.load_vec::<i64>(), [5, 3, 1]);
    // torch.arange(0.0, -8.000001, -4.0, dtype=torch.int32) has three elements; ggml's backend passes outputs of four dims.
    let args = [scalar(0.0), scalar(-8.000_001), scalar(-4.0)];
    let out = result("aclnnArange", &args, DType::I32, &[1, 1, 1, 3]);
    assert_eq!(out.load_vec::<i64>(), [0, -4, -8]);
    let backwards = [long_scalar(1), long_scalar(5), long_scalar(-2), arg(&out)];
    assert_eq!(refusal("aclnnArange", &backwards), 161002);
    let args = [scalar(1.0), scalar(2.0), Arg::Int(5)];
    assert_near(
        "linspace",
        &values("aclnnLinspace", &args, 5),
        &[1.0, 1.25, 1.5, 1.75, 2.0],
    );
    let out = result("aclnnEye", &[Arg::Int(2), Arg::Int(3)], DType::F16, &[2, 3]);
    assert_eq!(out.load_vec::<f32>(), [1., 0., 0., 0., 1., 0.]);
    let x = empty(DType::Bf16, &[2]);
    run("aclnnInplaceOne", &[arg(&x)]).expect("ones");
    assert_eq!(x.load_vec::<f32>(), [1., 1.]);
    run("aclnnInplaceFillScalar", &[arg(&x), scalar(1.5)]).expect("a fill");
    assert_eq!(x.load_vec::<f32>(), [1.5, 1.5]);
    run("aclnnInplaceZero", &[arg(&x)]).expect("zeros");
    assert_eq!(x.load_vec::<f32>(), [0., 0.]);
    let square = floats(&[3, 2], &[0.; 6]);
    run(
        "aclnnInplaceFillDiagonal",
        &[arg(&square), scalar(7.0), Arg::Bool(false)],
    )
    .expect("a fill");
    assert_eq!(square.load_vec::<f32>(), [7., 0., 0., 7., 0., 0.]);
}
