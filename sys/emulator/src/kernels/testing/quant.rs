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
