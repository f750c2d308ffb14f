//! Convolution, pooling and resizing against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn convolution_of_one_dim_and_its_gradients() {
    let x = floats(&[1, 1, 4], &[1., 2., 3., 4.]);
    let w = floats(&[1, 1, 2], &[10., 1.]);
    let (b, y) = (floats(&[1], &[100.]), empty(DType::F32, &[1, 1, 3]));
    let attributes = |transposed: bool| {
        vec![
            ints(&[2]),
            ints(&[1]),
            ints(&[1]),
            Arg::Bool(transposed),
            ints(&[0]),
            Arg::Int(1),
        ]
    };
    let call = [
        vec![arg(&x), arg(&w), arg(&b)],
        attributes(false),
        vec![arg(&y), Arg::Int(0)],
    ]
    .concat();
    run("aclnnConvolution", &call).expect("a convolution");
    assert_close(&y, &[101., 123., 140.], 0.0);
    let dy = floats(&[1, 1, 3], &[1., 2., 3.]);
    let (dx, dw, db) = (
        empty(DType::F32, &[1, 1, 4]),
        empty(DType::F32, &[1, 1, 2]),
        empty(DType::F32, &[1]),
    );
    let call = [
        vec![arg(&dy), arg(&x), arg(&w), ints(&[1])],
        attributes(false),
        vec![
            Arg::Bools(Some(vec![true, true, true])),
            Arg::Int(0),
            arg(&dx),
            arg(&dw),
            arg(&db),
        ],
    ]
    .concat();
    run("aclnnConvolutionBackward", &call).expect("gradients");
    assert_close(&dx, &[1., 20., 2., 30.], 0.0);
    assert_close(&dw, &[2. * 2. + 3. * 4., 1. + 2. * 3.], 0.0);
    assert_close(&db, &[6.], 0.0);
    // The transposed convolution spreads: x at 0, 2, 4, 6 times (10, 1), one cut on each side.
    let y = empty(DType::F32, &[1, 1, 6]);
    let call = [
        vec![arg(&x), arg(&w), null()],
        attributes(true),
        vec![arg(&y), Arg::Int(0)],
    ]
    .concat();
    run("aclnnConvolution", &call).expect("a transposed convolution");
    assert_close(&y, &[1., 20., 2., 30., 3., 40.], 0.0);
}

#[test]
fn convolution_of_two_dims_with_groups() {
    let x = floats(&[1, 2, 2, 2], &[1., 2., 3., 4., 5., 6., 7., 8.]);
    let w = floats(&[2, 1, 2, 1], &[1., 10., 1., -1.]);
    let y = empty(DType::F32, &[1, 2, 1, 2]);
    let call = [
        arg(&x),
        arg(&w),
        null(),
        ints(&[1, 1]),
        ints(&[0, 0]),
        ints(&[1, 1]),
        Arg::Bool(false),
        ints(&[0, 0]),
        Arg::Int(2),
        arg(&y),
        Arg::Int(0),
    ];
    run("aclnnConvolution", &call).expect("a convolution");
    assert_close(&y, &[31., 42., -2., -2.], 0.0);
}

#[test]
fn pooling_and_its_gradients() {
    let x = floats(&[1, 1, 3, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9.]);
    let y = empty(DType::F32, &[1, 1, 2, 2]);
    let indices = empty(DType::I32, &[1, 1, 2, 2]);
    let call = [
        arg(&x),
        ints(&[2, 2]),
        ints(&[2, 2]),
        ints(&[0, 0]),
        ints(&[1, 1]),
        Arg::Bool(true),
        arg(&y),
        arg(&indices),
    ];
    run("aclnnMaxPool2dWithIndices", &call).expect("maxima");
    assert_close(&y, &[5., 6., 8., 9.], 0.0);
    assert_eq!(indices.load_vec::<i64>(), [4, 5, 7, 8]);
    let mask = empty(DType::I8, &[1, 1, 4, 64]);
    let call = [
        arg(&x),
        ints(&[2, 2]),
        ints(&[2, 2]),
        ints(&[0, 0]),
        ints(&[1, 1]),
        Arg::Bool(true),
        arg(&y),
        arg(&mask),
    ];
    run("aclnnMaxPool2dWithMask", &call).expect("maxima");
    let (dy, dx) = (
        floats(&[1, 1, 2, 2], &[1., 2., 3., 4.]),
        empty(DType::F32, &[1, 1, 3, 3]),
    );
    let call = [
        arg(&dy),
        arg(&x),
        arg(&mask),
        ints(&[2, 2]),
        ints(&[2, 2]),
        ints(&[0, 0]),
        ints(&[1, 1]),
        Arg::Bool(true),
        arg(&dx),
    ];
    run("aclnnMaxPool2dWithMaskBackward", &call).expect("a gradient");
    assert_close(&dx, &[0., 0., 0., 0., 1., 2., 0., 3., 4.], 0.0);
    let call = [
        arg(&x),
        ints(&[2, 2]),
        ints(&[2, 2]),
        ints(&[1, 1]),
        Arg::Bool(false),
        Arg::Bool(false),
        Arg::Int(0),
        Arg::Int(0),
        arg(&y),
    ];
    run("aclnnAvgPool2d", &call).expect("means");
    assert_close(&y, &[1., 2.5, 5.5, 7.], 1e-6);
    run("aclnnAdaptiveAvgPool2d", &[arg(&x), ints(&[2, 2]), arg(&y)]).expect("means");
    assert_close(&y, &[3., 4., 6., 7.], 1e-6);
}

#[test]
fn resizing() {
    let x = floats(&[1, 1, 2], &[0., 4.]);
    let y = empty(DType::F32, &[1, 1, 4]);
    let call = [
        arg(&x),
        ints(&[4]),
        Arg::Bool(false),
        Arg::Float(0.0),
        arg(&y),
    ];
    run("aclnnUpsampleLinear1d", &call).expect("a line");
    assert_close(&y, &[0., 1., 3., 4.], 1e-6);
    let call = [arg(&x), ints(&[4]), arg(&y)];
    run("aclnnUpsampleNearest1d", &call).expect("a copy");
    assert_close(&y, &[0., 0., 4., 4.], 0.0);
    let dx = empty(DType::F32, &[1, 1, 2]);
    let dy = floats(&[1, 1, 4], &[1., 2., 3., 4.]);
    let call = [
        arg(&dy),
        ints(&[4]),
        ints(&[1, 1, 2]),
        Arg::Float(0.0),
        arg(&dx),
    ];
    run("aclnnUpsampleNearest1dBackward", &call).expect("sums");
    assert_close(&dx, &[3., 7.], 1e-6);
}
