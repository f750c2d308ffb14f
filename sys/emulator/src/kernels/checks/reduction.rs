//! Reductions and scans.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::super::testing::{arg, empty, floats, ints, longs, run, scalar, tensor};
use super::*;

fn code(dtype: DType) -> Arg {
    Arg::Int(i64::from(dtype.code()))
}

#[test]
fn sums_products_and_means() {
    let x = floats(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let (f32s, keep, drop) = (code(DType::F32), Arg::Bool(true), Arg::Bool(false));
    let args = [arg(&x), ints(&[1]), keep.clone(), f32s.clone()];
    let out = result("aclnnReduceSum", &args, DType::F32, &[2, 1]);
    assert_eq!(out.load_vec::<f32>(), [6., 15.]);
    let args = [arg(&x), ints(&[]), drop.clone(), f32s.clone()];
    assert_eq!(
        result("aclnnReduceSum", &args, DType::F32, &[]).load_vec::<f32>(),
        [21.]
    );
    let args = [arg(&x), ints(&[0, -1]), drop.clone(), f32s.clone()];
    assert_eq!(
        result("aclnnMean", &args, DType::F32, &[]).load_vec::<f32>(),
        [3.5]
    );
    let args = [arg(&x), ints(&[0]), drop.clone(), Arg::Bool(false)];
    assert_eq!(
        result("aclnnMeanV2", &args, DType::F32, &[3]).load_vec::<f32>(),
        [2.5, 3.5, 4.5]
    );
    let args = [arg(&x), Arg::Int(1), drop.clone(), f32s.clone()];
    assert_eq!(
        result("aclnnProdDim", &args, DType::F32, &[2]).load_vec::<f32>(),
        [6., 120.]
    );
    let holes = floats(&[2], &[f32::NAN, 4.]);
    let args = [arg(&holes), ints(&[0]), drop.clone(), f32s.clone()];
    assert_eq!(
        result("aclnnReduceNansum", &args, DType::F32, &[]).load_vec::<f32>(),
        [4.]
    );
    // The dtype parameter casts first: 1e10 wraps in i32, and 100 + 100 wraps in i8.
    let bytes = tensor(DType::I8, &[2], &[100i64, 100]);
    let args = [arg(&bytes), ints(&[0]), drop.clone(), code(DType::I8)];
    assert_eq!(
        result("aclnnReduceSum", &args, DType::I8, &[]).load_vec::<i64>(),
        [-56]
    );
    let none = floats(&[0, 2], &[]);
    let args = [arg(&none), ints(&[0]), drop.clone(), f32s.clone()];
    assert_eq!(
        result("aclnnReduceSum", &args, DType::F32, &[2]).load_vec::<f32>(),
        [0., 0.]
    );
    assert_near(
        "empty mean",
        &result("aclnnMean", &args, DType::F32, &[2]).load_vec::<f64>(),
        &[f64::NAN; 2],
    );
    let twice = [
        arg(&x),
        ints(&[0, -2]),
        drop,
        f32s,
        arg(&empty(DType::F32, &[3])),
    ];
    assert_eq!(refusal("aclnnReduceSum", &twice), 161002);
}

#[test]
fn extremes_and_truth() {
    let x = floats(&[2, 2], &[1., f32::NAN, -3., 2.]);
    let args = [arg(&x), ints(&[1]), Arg::Bool(false)];
    assert_near("amax", &values("aclnnAmax", &args, 2), &[f64::NAN, 2.0]);
    assert_near("amin", &values("aclnnAmin", &args, 2), &[f64::NAN, -3.0]);
    let whole = result("aclnnMax", &[arg(&words(&[3, 9, -1]))], DType::I32, &[]);
    assert_eq!(whole.load_vec::<i64>(), [9]);
    let none = [arg(&floats(&[0], &[])), arg(&empty(DType::F32, &[]))];
    assert_eq!(refusal("aclnnMax", &none), 161002);
    let y = words(&[0, 5]);
    let args = [arg(&y), ints(&[0]), Arg::Bool(false)];
    assert_eq!(
        result("aclnnAll", &args, DType::Bool, &[]).load_vec::<bool>(),
        [false]
    );
    assert_eq!(
        result("aclnnAny", &args, DType::Bool, &[]).load_vec::<bool>(),
        [true]
    );
    let (low, high) = (empty(DType::I32, &[]), empty(DType::I32, &[]));
    run("aclnnAminmaxAll", &[arg(&y), arg(&low), arg(&high)]).expect("extremes");
    assert_eq!((low.load_one::<i64>(), high.load_one::<i64>()), (0, 5));
}

#[test]
fn moments_and_norms() {
    let x = floats(&[4], &[1., 2., 3., 6.]);
    let drop = Arg::Bool(false);
    let args = [arg(&x), ints(&[0]), Arg::Bool(true), drop.clone()];
    assert_near(
        "var",
        &result("aclnnVar", &args, DType::F32, &[]).load_vec::<f64>(),
        &[14.0 / 3.0],
    );
    let args = [arg(&x), ints(&[0]), Arg::Int(0), drop.clone()];
    assert_near(
        "std",
        &result("aclnnStd", &args, DType::F32, &[]).load_vec::<f64>(),
        &[3.5f64.sqrt()],
    );
    let (var, mean) = (empty(DType::F32, &[]), empty(DType::F32, &[]));
    let args = [
        arg(&x),
        ints(&[]),
        Arg::Int(2),
        drop.clone(),
        arg(&var),
        arg(&mean),
    ];
    run("aclnnVarMean", &args).expect("moments");
    assert_eq!((var.load_one::<f32>(), mean.load_one::<f32>()), (7.0, 3.0));
    let y = floats(&[2], &[3., -4.]);
    let norm = |p: f32| {
        let args = [arg(&y), scalar(p), ints(&[0]), Arg::Bool(false)];
        result("aclnnNorm", &args, DType::F32, &[]).load_one::<f64>()
    };
    let norms = [2.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, 0.0].map(norm);
    assert_near("norms", &norms, &[5.0, 7.0, 4.0, 3.0, 2.0]);
    let args = [
        arg(&floats(&[2], &[1000., 1000.])),
        ints(&[0]),
        drop.clone(),
    ];
    let out = result("aclnnLogSumExp", &args, DType::F32, &[]);
    assert_near("logsumexp", &out.load_vec::<f64>(), &[1000.0 + 2f64.ln()]);
    let args = [arg(&floats(&[1], &[f32::NEG_INFINITY])), ints(&[0]), drop];
    let out = result("aclnnLogSumExp", &args, DType::F32, &[]);
    assert_eq!(out.load_vec::<f64>(), [f64::NEG_INFINITY]);
    let square = longs(&[2, 2], &[1, 2, 3, 4]);
    assert_eq!(
        result("aclnnTrace", &[arg(&square)], DType::I64, &[]).load_vec::<i64>(),
        [5]
    );
}

#[test]
fn scans() {
    let x = longs(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let args = [arg(&x), Arg::Int(1), code(DType::I64)];
    let out = result("aclnnCumsum", &args, DType::I64, &[2, 3]);
    assert_eq!(out.load_vec::<i64>(), [1, 3, 6, 4, 9, 15]);
    let y = floats(&[3], &[1., 2., 3.]);
    let args = [arg(&y), Arg::Int(0), Arg::Bool(true), Arg::Bool(true)];
    assert_near(
        "cumsum",
        &values("aclnnCumsumV2", &args, 3),
        &[5.0, 3.0, 0.0],
    );
    let dim = super::super::testing::long_scalar(0);
    let args = [arg(&x), dim.clone(), code(DType::I64)];
    let out = result("aclnnCumprod", &args, DType::I64, &[2, 3]);
    assert_eq!(out.load_vec::<i64>(), [1, 2, 3, 4, 10, 18]);
    run("aclnnInplaceCumprod", &[arg(&y), dim]).expect("in place");
    assert_eq!(y.load_vec::<f32>(), [1., 2., 6.]);
}

#[test]
fn one_element_is_one_element_whatever_its_rank() {
    let x = floats(&[3], &[1., 5., 3.]);
    let (f32s, drop) = (code(DType::F32), Arg::Bool(false));
    let sum = [arg(&x), ints(&[0]), drop.clone(), f32s.clone()];
    for shape in [&[][..], &[1], &[1, 1]] {
        let out = result("aclnnReduceSum", &sum, DType::F32, shape);
        assert_eq!(out.load_vec::<f32>(), [9.]);
        let out = result("aclnnMean", &sum, DType::F32, shape);
        assert_eq!(out.load_vec::<f32>(), [3.]);
    }
    let places = [arg(&x), Arg::Int(0), drop];
    let out = result("aclnnArgMax", &places, DType::I64, &[1]);
    assert_eq!(out.load_vec::<i64>(), [1]);
    let two = empty(DType::F32, &[2]);
    let [x, dims, keep, dtype] = sum;
    let status = run("aclnnReduceSum", &[x, dims, keep, dtype, arg(&two)]);
    assert_eq!(status.map_err(|failure| failure.code), Err(161002));
}
