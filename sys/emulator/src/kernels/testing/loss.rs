//! Losses against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn mean_square_and_its_gradient() {
    let (x, t) = (floats(&[2], &[1., 4.]), floats(&[2], &[0., 2.]));
    let out = empty(DType::F32, &[]);
    run("aclnnMseLoss", &[arg(&x), arg(&t), Arg::Int(1), arg(&out)]).expect("a mean");
    assert_close(&out, &[2.5], 1e-6);
    let dx = empty(DType::F32, &[2]);
    let g = floats(&[], &[3.]);
    run(
        "aclnnMseLossBackward",
        &[arg(&g), arg(&x), arg(&t), Arg::Int(1), arg(&dx)],
    )
    .expect("a gradient");
    assert_close(&dx, &[3., 6.], 1e-6);
    let refused = run("aclnnMseLoss", &[arg(&x), arg(&t), Arg::Int(3), arg(&out)]);
    assert_eq!(refused.expect_err("reduction 3").code, 161002);
}

#[test]
fn binary_cross_entropy_in_both_forms() {
    let (x, t) = (floats(&[2], &[0.25, 1.0]), floats(&[2], &[1., 0.]));
    let out = empty(DType::F32, &[2]);
    run(
        "aclnnBinaryCrossEntropy",
        &[arg(&x), arg(&t), null(), Arg::Int(0), arg(&out)],
    )
    .expect("a loss");
    assert_close(&out, &[4f64.ln(), 100.0], 1e-6);
    let x = floats(&[2], &[0., 0.]);
    let call = [
        arg(&x),
        arg(&t),
        null(),
        arg(&floats(&[1], &[3.])),
        Arg::Int(0),
        arg(&out),
    ];
    run("aclnnBinaryCrossEntropyWithLogits", &call).expect("a loss");
    assert_close(&out, &[3.0 * 2f64.ln(), 2f64.ln()], 1e-6);
}

#[test]
fn negative_log_likelihood() {
    let x = floats(&[3, 2], &[-1., -2., -3., -4., -5., -6.]);
    let t = longs(&[3], &[1, 0, -100]);
    let w = floats(&[2], &[1., 3.]);
    let (out, total) = (empty(DType::F32, &[1]), empty(DType::F32, &[1]));
    let call = [
        arg(&x),
        arg(&t),
        arg(&w),
        Arg::Int(1),
        Arg::Int(-100),
        arg(&out),
        arg(&total),
    ];
    run("aclnnNLLLoss", &call).expect("a loss");
    assert_close(&out, &[9.0 / 4.0], 1e-6);
    assert_close(&total, &[4.0], 0.0);
    let dx = empty(DType::F32, &[3, 2]);
    let call = [
        arg(&floats(&[1], &[2.])),
        arg(&x),
        arg(&t),
        arg(&w),
        Arg::Int(1),
        Arg::Int(-100),
        arg(&total),
        arg(&dx),
    ];
    run("aclnnNLLLossBackward", &call).expect("a gradient");
    assert_close(&dx, &[0., -1.5, -0.5, 0., 0., 0.], 1e-6);
    let call = [
        arg(&x),
        arg(&longs(&[3], &[2, 0, 0])),
        arg(&w),
        Arg::Int(1),
        Arg::Int(-100),
        arg(&out),
        arg(&total),
    ];
    assert_eq!(
        run("aclnnNLLLoss", &call)
            .expect_err("there is no class 2")
            .code,
        507015
    );
}

#[test]
fn cross_entropy_and_its_gradient() {
    let x = floats(&[2, 2], &[0., 0., 3f32.ln(), 0.]);
    let t = longs(&[2], &[0, 1]);
    let (out, logarithms) = (empty(DType::F32, &[]), empty(DType::F32, &[2, 2]));
    let placeholder = empty(DType::F32, &[]);
    let call = [
        arg(&x),
        arg(&t),
        null(),
        text("mean"),
        Arg::Int(-100),
        Arg::Float(0.0),
        Arg::Float(0.0),
        Arg::Bool(false),
        arg(&out),
        arg(&logarithms),
        arg(&placeholder),
        arg(&placeholder),
    ];
    run("aclnnCrossEntropyLoss", &call).expect("a loss");
    assert_close(&out, &[(2f64.ln() + 4f64.ln()) / 2.0], 1e-6);
    assert_close(
        &logarithms,
        &[0.5f64.ln(), 0.5f64.ln(), 0.75f64.ln(), 0.25f64.ln()],
        1e-6,
    );
    let dx = empty(DType::F32, &[2, 2]);
    let call = [
        arg(&floats(&[], &[1.])),
        arg(&logarithms),
        arg(&t),
        null(),
        null(),
        null(),
        text("mean"),
        Arg::Int(-100),
        Arg::Float(0.0),
        Arg::Float(0.0),
        arg(&dx),
    ];
    run("aclnnCrossEntropyLossGrad", &call).expect("a gradient");
    assert_close(&dx, &[-0.25, 0.25, 0.375, -0.375], 1e-6);
}
