//! Sorting, selection and search.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::super::testing::{arg, empty, floats, long_scalar, longs, null, run, scalar, tensor};
use super::*;

/// Values and places of an op that gives both.
fn both(name: &'static str, args: &[Arg], dtype: DType, shape: &[usize]) -> (Vec<f64>, Vec<i64>) {
    let (values, places) = (empty(dtype, shape), empty(DType::I64, shape));
    let mut all = args.to_vec();
    all.extend([arg(&values), arg(&places)]);
    run(name, &all).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    (values.load_vec(), places.load_vec())
}

#[test]
fn sorts_are_stable_and_nan_is_the_greatest() {
    let x = floats(&[4], &[2., f32::NAN, 1., 2.]);
    let args = [arg(&x), Arg::Bool(true), Arg::Int(0), Arg::Bool(false)];
    let (values, places) = both("aclnnSort", &args, DType::F32, &[4]);
    assert_near("sort", &values, &[1.0, 2.0, 2.0, f64::NAN]);
    assert_eq!(places, [2, 0, 3, 1]);
    let args = [arg(&x), Arg::Bool(true), Arg::Int(-1), Arg::Bool(true)];
    let (values, places) = both("aclnnSort", &args, DType::F32, &[4]);
    assert_near("descending", &values, &[f64::NAN, 2.0, 2.0, 1.0]);
    assert_eq!(places, [1, 0, 3, 2]);
    let out = result(
        "aclnnArgsort",
        &[arg(&x), Arg::Int(0), Arg::Bool(false)],
        DType::I64,
        &[4],
    );
    assert_eq!(out.load_vec::<i64>(), [2, 0, 3, 1]);
    let y = longs(&[2, 3], &[5, 1, 4, 2, 6, 3]);
    let args = [
        arg(&y),
        Arg::Int(2),
        Arg::Int(1),
        Arg::Bool(true),
        Arg::Bool(true),
    ];
    let (values, places) = both("aclnnTopk", &args, DType::I64, &[2, 2]);
    assert_eq!(
        (values, places),
        (vec![5.0, 4.0, 6.0, 3.0], vec![0, 2, 1, 2])
    );
    let args = [
        arg(&y),
        Arg::Int(1),
        Arg::Int(0),
        Arg::Bool(false),
        Arg::Bool(true),
    ];
    let (values, places) = both("aclnnTopk", &args, DType::I64, &[1, 3]);
    assert_eq!((values, places), (vec![2.0, 1.0, 3.0], vec![1, 0, 1]));
    let two = arg(&empty(DType::I64, &[2, 4]));
    let too_many = [
        arg(&y),
        Arg::Int(4),
        Arg::Int(1),
        Arg::Bool(true),
        Arg::Bool(true),
        two.clone(),
        two,
    ];
    assert_eq!(refusal("aclnnTopk", &too_many), 161002);
}

#[test]
fn extremes_with_places_and_medians() {
    let x = floats(&[2, 3], &[3., 7., 7., f32::NAN, 1., f32::NAN]);
    let args = [arg(&x), Arg::Int(1), Arg::Bool(false)];
    let (values, places) = both("aclnnMaxDim", &args, DType::F32, &[2]);
    assert_near("max", &values, &[7.0, f64::NAN]);
    assert_eq!(places, [1, 0]);
    assert_eq!(
        result("aclnnArgMin", &args, DType::I32, &[2]).load_vec::<i64>(),
        [0, 0]
    );
    let (values, places) = both("aclnnMedianDim", &args, DType::F32, &[2]);
    assert_near("median", &values, &[7.0, f64::NAN]);
    assert_eq!(places, [1, 0]);
    let (values, _) = both("aclnnNanMedianDim", &args, DType::F32, &[2]);
    assert_near("nan median", &values, &[7.0, 1.0]);
    let even = floats(&[4], &[4., 1., 3., 2.]);
    let median = result("aclnnMedian", &[arg(&even)], DType::F32, &[]);
    assert_eq!(median.load_vec::<f32>(), [2.0]);
    let args = [arg(&even), Arg::Int(3), Arg::Int(0), Arg::Bool(true)];
    assert_eq!(
        both("aclnnKthvalue", &args, DType::F32, &[1]),
        (vec![3.0], vec![2])
    );
    let x = floats(&[5], &[1., 3., 3., f32::NAN, 9.]);
    let (values, places) = both("aclnnCummax", &[arg(&x), Arg::Int(0)], DType::F32, &[5]);
    assert_near("cummax", &values, &[1.0, 3.0, 3.0, f64::NAN, f64::NAN]);
    assert_eq!(places, [0, 1, 2, 3, 3]);
}

#[test]
fn distinct_elements_report_how_many_they_are() {
    let x = words(&[3, 1, 3, 2, 1]);
    let (values, inverse, counts) = (
        empty(DType::I32, &[5]),
        empty(DType::I64, &[5]),
        empty(DType::I64, &[5]),
    );
    let yes = Arg::Bool(true);
    let args = [
        arg(&x),
        yes.clone(),
        yes.clone(),
        yes.clone(),
        arg(&values),
        arg(&inverse),
        arg(&counts),
    ];
    run("aclnnUnique2", &args).expect("distinct elements");
    assert_eq!(values.load_vec::<i64>()[..3], [1, 2, 3]);
    assert_eq!(inverse.load_vec::<i64>(), [2, 0, 2, 1, 0]);
    assert_eq!(counts.load_vec::<i64>()[..3], [2, 1, 2]);
    let x = longs(&[2, 3], &[1, 0, 1, 2, 5, 2]);
    let (values, inverse, counts) = (
        empty(DType::I64, &[2, 3]),
        empty(DType::I64, &[3]),
        empty(DType::I64, &[3]),
    );
    let args = [
        arg(&x),
        yes.clone(),
        yes,
        Arg::Int(1),
        arg(&values),
        arg(&inverse),
        arg(&counts),
    ];
    run("aclnnUniqueDim", &args).expect("distinct columns");
    assert_eq!(values.load_vec::<i64>()[..4], [0, 1, 5, 2]);
    assert_eq!(inverse.load_vec::<i64>(), [1, 0, 1]);
    assert_eq!(counts.load_vec::<i64>()[..2], [1, 2]);
}

#[test]
fn places_and_masks() {
    let x = floats(&[2, 2], &[0., 5., f32::NAN, 0.]);
    let out = result("aclnnNonzero", &[arg(&x)], DType::I64, &[4, 2]);
    assert_eq!(out.load_vec::<i64>()[..4], [0, 1, 1, 0]);
    let out = result("aclnnNonzeroV2", &[arg(&x)], DType::I64, &[2, 4]);
    assert_eq!(out.load_vec::<i64>()[..4], [0, 1, 1, 0]);
    let mask = truths(&[false, true]);
    let out = result(
        "aclnnMaskedSelect",
        &[arg(&x), arg(&mask)],
        DType::F32,
        &[4],
    );
    assert_eq!(out.load_vec::<f32>()[..2], [5., 0.]);
    let small = [arg(&x), arg(&mask), arg(&empty(DType::F32, &[2]))];
    assert_eq!(refusal("aclnnMaskedSelect", &small), 161002);
}

#[test]
fn search_counts_and_membership() {
    let row = floats(&[4], &[1., 3., 3., 5.]);
    let search = |right: bool, values: &Tensor| {
        let args = [
            arg(&row),
            arg(values),
            Arg::Bool(false),
            Arg::Bool(right),
            null(),
        ];
        result("aclnnSearchSorted", &args, DType::I64, values.shape()).load_vec::<i64>()
    };
    let wanted = floats(&[4], &[0., 3., 4., f32::NAN]);
    assert_eq!(search(false, &wanted), [0, 1, 3, 4]);
    assert_eq!(search(true, &wanted), [0, 3, 3, 4]);
    let args = [
        arg(&row),
        scalar(3.0),
        Arg::Bool(true),
        Arg::Bool(false),
        null(),
    ];
    assert_eq!(
        result("aclnnSearchSorteds", &args, DType::I32, &[]).load_vec::<i64>(),
        [1]
    );
    let labels = longs(&[4], &[1, 3, 1, 0]);
    let args = [arg(&labels), null(), Arg::Int(2)];
    assert_eq!(
        result("aclnnBincount", &args, DType::I64, &[5]).load_vec::<i64>(),
        [1, 2, 0, 1, 0]
    );
    let weights = floats(&[4], &[0.5, 1., 2., 4.]);
    let args = [arg(&labels), arg(&weights), Arg::Int(0)];
    assert_near(
        "bincount",
        &values("aclnnBincount", &args, 4),
        &[4.0, 2.5, 0.0, 1.0],
    );
    let short = [
        arg(&labels),
        null(),
        Arg::Int(0),
        arg(&empty(DType::I64, &[2])),
    ];
    assert_eq!(refusal("aclnnBincount", &short), 507015);
    let args = [
        arg(&labels),
        long_scalar(1),
        Arg::Bool(false),
        Arg::Bool(true),
    ];
    let out = result("aclnnIsInTensorScalar", &args, DType::Bool, &[4]);
    assert_eq!(out.load_vec::<bool>(), [false, true, false, true]);
    let args = [
        arg(&floats(&[4], &[0., 1., 1.9, 4.])),
        Arg::Int(4),
        scalar(0.0),
        scalar(4.0),
    ];
    assert_near(
        "histc",
        &values("aclnnHistc", &args, 4),
        &[1.0, 2.0, 0.0, 1.0],
    );
    let pair = tensor(DType::I32, &[2], &[1i64, 2]);
    let out = result("aclnnEqual", &[arg(&pair), arg(&pair)], DType::Bool, &[1]);
    assert_eq!(out.load_vec::<bool>(), [true]);
}
