//! Quantisation against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn rounding_is_half_to_even_after_the_offset() {
    let x = floats(&[4], &[0.5, 1.5, 200., -200.]);
    let (scale, offset) = (floats(&[1], &[1.]), floats(&[1], &[0.]));
    let y = empty(DType::I8, &[4]);
    let call = [
        arg(&x),
        arg(&scale),
        arg(&offset),
        Arg::Bool(false),
        text("round"),
        Arg::Int(2),
        Arg::Int(-1),
        arg(&y),
    ];
    run("aclnnAscendQuantV3", &call).expect("integers");
    assert_eq!(y.load_vec::<i64>(), [0, 2, 127, -128]);
    let z = empty(DType::F16, &[4]);
    let half = |value: f32| tensor(DType::F16, &[1], &[value]);
    let call = [
        arg(&y),
        arg(&half(0.5)),
        arg(&half(1.0)),
        Arg::Int(1),
        Arg::Bool(false),
        arg(&z),
    ];
    run("aclnnAscendAntiQuant", &call).expect("halves");
    assert_close(&z, &[0.5, 1.5, 64., -63.5], 0.0);
}

#[test]
fn dynamic_scales_map_the_largest_to_127() {
    let x = tensor(DType::F16, &[2, 2], &[0.5f32, -1.0, 0.0, 0.0]);
    let (y, scale) = (empty(DType::I8, &[2, 2]), empty(DType::F32, &[2]));
    run(
        "aclnnDynamicQuant",
        &[arg(&x), null(), arg(&y), arg(&scale)],
    )
    .expect("integers");
    assert_eq!(y.load_vec::<i64>(), [64, -127, 0, 0]);
    assert_close(&scale, &[1.0 / 127.0, 0.0], 1e-6);
}

#[test]
fn products_of_integers() {
    let x = tensor(DType::I8, &[1, 2], &[2i64, 3]);
    let w = tensor(DType::I8, &[2, 2], &[1i64, 10, 100, -1]);
    let bias = tensor(DType::I32, &[2], &[1i64, -1]);
    let words = empty(DType::U64, &[1]);
    let scale = floats(&[1], &[0.5]);
    run(
        "aclnnTransQuantParamV2",
        &[arg(&scale), null(), arg(&words)],
    )
    .expect("a word");
    assert_eq!(words.load_vec::<i64>(), [0x3f00_0000 | 1 << 46]);
    let y = empty(DType::F16, &[1, 2]);
    let call = [
        arg(&x),
        arg(&w),
        arg(&words),
        null(),
        null(),
        arg(&bias),
        Arg::Bool(false),
        Arg::Bool(false),
        arg(&y),
    ];
    run("aclnnQuantMatmulV4", &call).expect("a product");
    assert_close(&y, &[151.5, 8.0], 0.0);
    let call = [
        arg(&x),
        arg(&w),
        arg(&scale),
        null(),
        null(),
        arg(&bias),
        Arg::Bool(false),
        Arg::Bool(false),
        arg(&y),
    ];
    assert_eq!(
        run("aclnnQuantMatmulV4", &call)
            .expect_err("f16 wants words")
            .code,
        161002
    );
}

#[test]
fn products_with_quantised_weights() {
    let x = tensor(DType::F16, &[1, 2], &[1f32, 2.]);
    let w = tensor(DType::I4, &[2, 2], &[7i64, -8, 1, 0]);
    let scale = tensor(DType::F16, &[2], &[1f32, 0.5]);
    let offset = tensor(DType::F16, &[2], &[1f32, 0.]);
    let y = empty(DType::F16, &[1, 2]);
    let call = [
        arg(&x),
        arg(&w),
        arg(&scale),
        arg(&offset),
        null(),
        null(),
        null(),
        Arg::Int(0),
        arg(&y),
    ];
    run("aclnnWeightQuantBatchMatmulV2", &call).expect("a product");
    assert_close(&y, &[12., -4.], 0.0);
}

#[test]
fn a_norm_is_quantised_by_rows_and_by_scales() {
    // The sum is (3, 4): rms 5 / sqrt 2.
    let (x1, x2) = (floats(&[1, 2], &[1., 3.]), floats(&[1, 2], &[2., 1.]));
    let gamma = floats(&[2], &[1., 1.]);
    let (y1, y2) = (empty(DType::I8, &[1, 2]), empty(DType::I8, &[1, 2]));
    let (sum, scale, other) = (
        empty(DType::F32, &[1, 2]),
        empty(DType::F32, &[1]),
        empty(DType::F32, &[1]),
    );
    let inputs = vec![arg(&x1), arg(&x2), arg(&gamma)];
    let outputs = vec![arg(&y1), arg(&y2), arg(&sum), arg(&scale), arg(&other)];
    let options = vec![null(), null(), Arg::Float(0.0)];
    let call = [inputs.clone(), options, outputs].concat();
    run("aclnnAddRmsNormDynamicQuant", &call).expect("by rows");
    assert_close(&sum, &[3., 4.], 0.0);
    assert_close(&y1, &[95., 127.], 0.0);
    assert_close(&scale, &[4.0 * 2f64.sqrt() / 5.0 / 127.0], 1e-6);
    let (scales, zeros) = (floats(&[2], &[0.5, 0.25]), floats(&[2], &[1., -1.]));
    let options = vec![arg(&scales), null(), arg(&zeros), null()];
    let tail = vec![Arg::Int(-1), Arg::Float(0.0), Arg::Bool(true)];
    let outputs = vec![arg(&y1), arg(&y2), arg(&sum)];
    let call = [inputs, options, tail, outputs].concat();
    run("aclnnAddRmsNormQuant", &call).expect("by scales");
    // 0.848 / 0.5 + 1 and 1.131 / 0.25 - 1.
    assert_close(&y1, &[3., 4.], 0.0);
}

#[test]
fn rows_are_quantised_with_an_offset() {
    let x = floats(&[1, 3], &[-1., 0., 1.55]);
    let y = empty(DType::I8, &[1, 3]);
    let (scale, offset) = (empty(DType::F32, &[1]), empty(DType::F32, &[1]));
    let outputs = [arg(&y), arg(&scale), arg(&offset)];
    let call = [&[arg(&x), null(), null(), Arg::Int(2)][..], &outputs[..]].concat();
    run("aclnnDynamicQuantV2", &call).expect("codes");
    assert_close(&scale, &[0.01], 1e-6);
    assert_close(&offset, &[-28.], 1e-5);
    assert_close(&y, &[-128., -28., 127.], 0.0);
}
