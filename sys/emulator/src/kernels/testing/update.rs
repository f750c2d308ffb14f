//! Optimiser steps and list ops against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn the_first_adam_step_has_the_size_of_the_rate() {
    let (var, grad) = (floats(&[2], &[1., 1.]), floats(&[2], &[0.5, -4.]));
    let (m, v) = (empty(DType::F32, &[2]), empty(DType::F32, &[2]));
    let step = floats(&[1], &[0.]);
    let call = [
        arg(&var),
        arg(&m),
        arg(&v),
        null(),
        arg(&grad),
        arg(&step),
        Arg::Float(0.1),
        Arg::Float(0.9),
        Arg::Float(0.999),
        Arg::Float(0.5),
        Arg::Float(0.0),
        Arg::Bool(false),
        Arg::Bool(false),
    ];
    run("aclnnApplyAdamWV2", &call).expect("a step");
    // 1 (1 − 0.1 · 0.5) − 0.1 sign(g), as m̂ / sqrt(v̂) is the sign of the first gradient.
    assert_close(&var, &[0.85, 1.05], 1e-5);
    assert_close(&m, &[0.05, -0.4], 1e-6);
    assert_close(&v, &[0.00025, 0.016], 1e-5);
}

#[test]
fn lists() {
    let (a, b) = (floats(&[1], &[1.]), floats(&[2], &[2., 3.]));
    let (x, y) = (empty(DType::F32, &[1]), empty(DType::F32, &[2]));
    let two = floats(&[1], &[2.]);
    let call = [list(&[&a, &b]), list(&[&a, &b]), arg(&two), list(&[&x, &y])];
    run("aclnnForeachAddList", &call).expect("sums");
    assert_close(&x, &[3.], 0.0);
    assert_close(&y, &[6., 9.], 0.0);
    let call = [
        list(&[&a, &b]),
        list(&[&a, &b]),
        list(&[&a, &b]),
        scalar(10.0),
        list(&[&x, &y]),
    ];
    run("aclnnForeachAddcmulScalarV2", &call).expect("sums of products");
    assert_close(&y, &[42., 93.], 0.0);
    let (n, m) = (empty(DType::F32, &[]), empty(DType::F32, &[]));
    let p = floats(&[2], &[3., -4.]);
    run(
        "aclnnForeachNorm",
        &[list(&[&a, &p]), scalar(2.0), list(&[&n, &m])],
    )
    .expect("norms");
    assert_close(&m, &[5.], 1e-6);
    run("aclnnForeachMulScalarInplace", &[list(&[&b]), arg(&two)]).expect("products");
    assert_close(&b, &[4., 6.], 0.0);
    let whole = tensor(DType::I32, &[1], &[i64::from(i32::MAX)]);
    let call = [list(&[&whole]), long_scalar(1), list(&[&whole])];
    run("aclnnForeachAddScalarV2", &call).expect("integers wrap");
    assert_eq!(whole.load_vec::<i64>(), [i64::from(i32::MIN)]);
}

#[test]
fn unscaling_reports_infinities() {
    let (a, b) = (floats(&[1], &[4.]), floats(&[1], &[f32::INFINITY]));
    let (found, scale) = (floats(&[1], &[0.]), floats(&[1], &[0.5]));
    let name = "aclnnForeachNonFiniteCheckAndUnscale";
    run(name, &[list(&[&a]), arg(&found), arg(&scale)]).expect("finite");
    assert_close(&found, &[0.], 0.0);
    run(name, &[list(&[&a, &b]), arg(&found), arg(&scale)]).expect("not finite");
    assert_close(&found, &[1.], 0.0);
    assert_close(&a, &[1.], 0.0);
}

#[test]
fn a_loss_scale_falls_and_grows() {
    let scale = floats(&[], &[8.]);
    let tracker = tensor(DType::I32, &[], &[1i64]);
    let (new_scale, new_tracker) = (empty(DType::F32, &[]), empty(DType::I32, &[]));
    for (found, interval, wanted, count) in [(1.0, 2, 4., 0), (0.0, 2, 16., 0), (0.0, 3, 8., 2)] {
        let found = floats(&[1], &[found]);
        let call = [
            arg(&scale),
            arg(&tracker),
            arg(&found),
            Arg::Float(2.0),
            Arg::Float(0.5),
            Arg::Int(interval),
            arg(&new_scale),
            arg(&new_tracker),
        ];
        run("aclnnAmpUpdateScale", &call).expect("an update");
        assert_close(&new_scale, &[wanted], 0.0);
        assert_eq!(new_tracker.load_vec::<i64>(), [count]);
    }
}
