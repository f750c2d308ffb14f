//! Normalisation against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn layer_norm_and_its_gradient() {
    let x = floats(&[1, 2], &[1., 3.]);
    let (w, b) = (floats(&[2], &[2., 10.]), floats(&[2], &[0.5, 0.]));
    let (out, mean, rstd) = (
        floats(&[1, 2], &[0.; 2]),
        floats(&[1, 1], &[0.]),
        floats(&[1, 1], &[0.]),
    );
    let call = [
        arg(&x),
        ints(&[2]),
        arg(&w),
        arg(&b),
        Arg::Float(0.0),
        arg(&out),
        arg(&mean),
        arg(&rstd),
    ];
    run("aclnnLayerNorm", &call).expect("a layer norm");
    assert_close(&out, &[-1.5, 10.0], 1e-6);
    assert_close(&mean, &[2.0], 0.0);
    assert_close(&rstd, &[1.0], 1e-6);
    let dy = floats(&[1, 2], &[1., 1.]);
    let (dx, dw, db) = (
        empty(DType::F32, &[1, 2]),
        empty(DType::F32, &[2]),
        empty(DType::F32, &[2]),
    );
    let mask = Arg::Bools(Some(vec![true, true, true]));
    let call = [
        arg(&dy),
        arg(&x),
        ints(&[2]),
        arg(&mean),
        arg(&rstd),
        arg(&w),
        arg(&b),
        mask,
        arg(&dx),
        arg(&dw),
        arg(&db),
    ];
    run("aclnnLayerNormBackward", &call).expect("a gradient");
    // g = (2, 10), mean 6, mean of g times the normal (-1, 1) is 4: both entries cancel.
    assert_close(&dx, &[0.0, 0.0], 1e-6);
    assert_close(&dw, &[-1.0, 1.0], 1e-6);
    assert_close(&db, &[1.0, 1.0], 1e-6);
    let call = [
        arg(&x),
        ints(&[3]),
        null(),
        null(),
        Arg::Float(0.0),
        arg(&out),
        null(),
        null(),
    ];
    assert_eq!(
        run("aclnnLayerNorm", &call)
            .expect_err("3 is not the last dim")
            .code,
        161002
    );
}

#[test]
fn rms_norm_and_its_gradient() {
    let x = floats(&[1, 2], &[3., 4.]);
    let gamma = floats(&[2], &[1., 2.]);
    let (y, rstd) = (empty(DType::F32, &[1, 2]), empty(DType::F32, &[1, 1]));
    run(
        "aclnnRmsNorm",
        &[arg(&x), arg(&gamma), Arg::Float(0.0), arg(&y), arg(&rstd)],
    )
    .expect("norm");
    let root = 12.5f64.sqrt();
    assert_close(&y, &[3.0 / root, 8.0 / root], 1e-6);
    assert_close(&rstd, &[1.0 / root], 1e-6);
    let dy = floats(&[1, 2], &[1., 0.]);
    let (dx, dgamma) = (empty(DType::F32, &[1, 2]), empty(DType::F32, &[2]));
    let call = [
        arg(&dy),
        arg(&x),
        arg(&rstd),
        arg(&gamma),
        arg(&dx),
        arg(&dgamma),
    ];
    run("aclnnRmsNormGrad", &call).expect("a gradient");
    // d(x0 / rms)/dx = (1/rms)(1 - x0²/(2 rms²), -x0 x1/(2 rms²)).
    assert_close(&dx, &[(1.0 - 9.0 / 25.0) / root, -12.0 / 25.0 / root], 1e-6);
    assert_close(&dgamma, &[3.0 / root, 0.0], 1e-6);
}

#[test]
fn batch_norm_saves_the_variance_and_updates_the_running_statistics() {
    let x = floats(&[2, 1, 2], &[1., 3., 1., 3.]);
    let (running_mean, running_var) = (floats(&[1], &[1.0]), floats(&[1], &[1.0]));
    let (out, mean, var) = (
        empty(DType::F32, &[2, 1, 2]),
        empty(DType::F32, &[1]),
        empty(DType::F32, &[1]),
    );
    let call = [
        arg(&x),
        null(),
        null(),
        arg(&running_mean),
        arg(&running_var),
        Arg::Bool(true),
        Arg::Float(0.5),
        Arg::Float(0.0),
        arg(&out),
        arg(&mean),
        arg(&var),
    ];
    run("aclnnBatchNorm", &call).expect("a batch norm");
    assert_close(&out, &[-1., 1., -1., 1.], 1e-6);
    assert_close(&mean, &[2.0], 0.0);
    assert_close(&var, &[1.0], 1e-6);
    assert_close(&running_mean, &[1.5], 1e-6);
    assert_close(&running_var, &[0.5 + 0.5 * 4.0 / 3.0], 1e-6);
    let dy = floats(&[2, 1, 2], &[1., 0., 0., 0.]);
    let (dx, dw, db) = (
        empty(DType::F32, &[2, 1, 2]),
        empty(DType::F32, &[1]),
        empty(DType::F32, &[1]),
    );
    let call = [
        arg(&dy),
        arg(&x),
        null(),
        arg(&running_mean),
        arg(&running_var),
        arg(&mean),
        arg(&var),
        Arg::Bool(true),
        Arg::Float(0.0),
        Arg::Bools(Some(vec![true, true, true])),
        arg(&dx),
        arg(&dw),
        arg(&db),
    ];
    run("aclnnBatchNormBackward", &call).expect("a gradient");
    // dy − 1/4 − x̂ (−1/4) with x̂ = ∓1.
    assert_close(&dx, &[0.5, 0.0, -0.5, 0.0], 1e-6);
    assert_close(&dw, &[-1.0], 1e-6);
    assert_close(&db, &[1.0], 1e-6);
}

#[test]
fn group_norm_of_two_groups() {
    let x = floats(&[1, 2, 2], &[1., 3., 10., 30.]);
    let gamma = floats(&[2], &[1., 5.]);
    let (out, mean, rstd) = (
        empty(DType::F32, &[1, 2, 2]),
        empty(DType::F32, &[1, 2]),
        empty(DType::F32, &[1, 2]),
    );
    let call = [
        arg(&x),
        arg(&gamma),
        null(),
        Arg::Int(1),
        Arg::Int(2),
        Arg::Int(2),
        Arg::Int(2),
        Arg::Float(0.0),
        arg(&out),
        arg(&mean),
        arg(&rstd),
    ];
    run("aclnnGroupNorm", &call).expect("a group norm");
    assert_close(&out, &[-1., 1., -5., 5.], 1e-6);
    assert_close(&mean, &[2.0, 20.0], 1e-6);
    assert_close(&rstd, &[1.0, 0.1], 1e-6);
}
