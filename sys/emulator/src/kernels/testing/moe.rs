//! Mixture of experts against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn gating_takes_the_largest() {
    let x = floats(&[2, 2], &[0., 3f32.ln(), 3f32.ln(), 0.]);
    let done = tensor(DType::Bool, &[2], &[false, true]);
    let (y, e, r) = (
        empty(DType::F32, &[2, 2]),
        empty(DType::I32, &[2, 2]),
        empty(DType::I32, &[2, 2]),
    );
    let call = [arg(&x), arg(&done), Arg::Int(2), arg(&y), arg(&e), arg(&r)];
    run("aclnnMoeGatingTopKSoftmax", &call).expect("a gate");
    assert_close(&y, &[0.75, 0.25, 0.75, 0.25], 1e-6);
    assert_eq!(e.load_vec::<i64>(), [1, 0, 2, 2]);
    assert_eq!(r.load_vec::<i64>(), [0, 2, 1, 3]);
}

#[test]
fn tokens_go_to_their_experts_and_come_back() {
    let x = floats(&[2, 1], &[10., 20.]);
    let indices = tensor(DType::I32, &[2, 2], &[1i64, 0, 0, 1]);
    let (y, places) = (empty(DType::F32, &[4, 1]), empty(DType::I32, &[4]));
    let call = [
        arg(&x),
        arg(&indices),
        Arg::Int(0),
        Arg::Bool(false),
        arg(&y),
        arg(&places),
    ];
    run("aclnnMoeTokenPermute", &call).expect("an order");
    assert_close(&y, &[10., 20., 10., 20.], 0.0);
    assert_eq!(places.load_vec::<i64>(), [2, 0, 1, 3]);
    let probs = floats(&[2, 2], &[0.25, 0.5, 1., 0.]);
    let back = empty(DType::F32, &[2, 1]);
    let call = [
        arg(&y),
        arg(&places),
        arg(&probs),
        Arg::Bool(false),
        Arg::Ints(None),
        arg(&back),
    ];
    run("aclnnMoeTokenUnpermute", &call).expect("sums");
    assert_close(&back, &[7.5, 20.], 0.0);
    let (dx, dprobs) = (empty(DType::F32, &[4, 1]), empty(DType::F32, &[2, 2]));
    let dy = floats(&[2, 1], &[1., 2.]);
    let call = [
        arg(&y),
        arg(&dy),
        arg(&places),
        arg(&probs),
        Arg::Bool(false),
        Arg::Ints(None),
        arg(&dx),
        arg(&dprobs),
    ];
    run("aclnnMoeTokenUnpermuteGrad", &call).expect("gradients");
    assert_close(&dx, &[0.5, 2., 0.25, 0.], 0.0);
    assert_close(&dprobs, &[10., 10., 40., 40.], 0.0);
}

#[test]
fn groups_of_rows_have_their_own_matrix() {
    let x = floats(&[3, 1], &[1., 2., 3.]);
    let w = floats(&[2, 1, 1], &[10., 100.]);
    let b = floats(&[2, 1], &[0.5, 0.25]);
    let ends = longs(&[2], &[1, 2]);
    let y = empty(DType::F32, &[3, 1]);
    let none = || Arg::Tensors(None);
    let call = |kind: i64| {
        vec![
            list(&[&x]),
            list(&[&w]),
            list(&[&b]),
            none(),
            none(),
            none(),
            none(),
            none(),
            arg(&ends),
            none(),
            none(),
            none(),
            Arg::Int(3),
            Arg::Int(0),
            Arg::Int(kind),
            Arg::Int(0),
            list(&[&y]),
            none(),
            none(),
        ]
    };
    run("aclnnGroupedMatmulV4", &call(1)).expect("lengths 1 and 2");
    assert_close(&y, &[10.5, 200.25, 300.25], 1e-6);
    run("aclnnGroupedMatmulV4", &call(0)).expect("ends 1 and 2");
    assert_close(&y, &[10.5, 200.25, 0.], 1e-6);
}
