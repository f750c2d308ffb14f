//! Reading and writing by index against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

const EXCEPTION: i32 = 507015;

#[test]
fn embedding_and_its_gradient() {
    let weight = floats(&[3, 2], &[0., 1., 10., 11., 20., 21.]);
    let indices = longs(&[1, 2], &[2, 0]);
    let out = empty(DType::F32, &[1, 2, 2]);
    run("aclnnEmbedding", &[arg(&weight), arg(&indices), arg(&out)]).expect("rows");
    assert_close(&out, &[20., 21., 0., 1.], 0.0);
    let outside = longs(&[1, 2], &[3, 0]);
    let fault = run("aclnnEmbedding", &[arg(&weight), arg(&outside), arg(&out)]);
    assert_eq!(fault.expect_err("there is no row 3").code, EXCEPTION);
    let grad = floats(&[3, 1], &[1., 2., 4.]);
    let indices = longs(&[3], &[1, 1, 2]);
    let out = empty(DType::F32, &[3, 1]);
    let mut call = [
        arg(&grad),
        arg(&indices),
        Arg::Int(3),
        Arg::Int(2),
        Arg::Bool(false),
        arg(&out),
    ];
    run("aclnnEmbeddingDenseBackward", &call).expect("sums");
    assert_close(&out, &[0., 3., 0.], 0.0);
    call[4] = Arg::Bool(true);
    run("aclnnEmbeddingDenseBackward", &call).expect("means");
    assert_close(&out, &[0., 1.5, 0.], 0.0);
}

#[test]
fn gather_select_and_take() {
    let x = longs(&[2, 3], &[0, 1, 2, 10, 11, 12]);
    let index = longs(&[2, 1], &[2, 0]);
    let out = longs(&[2, 1], &[0, 0]);
    run(
        "aclnnGather",
        &[arg(&x), Arg::Int(1), arg(&index), arg(&out)],
    )
    .expect("a gather");
    assert_eq!(out.load_vec::<i64>(), [2, 10]);
    let index = longs(&[2], &[2, 2]);
    let out = longs(&[2, 2], &[0; 4]);
    run(
        "aclnnIndexSelect",
        &[arg(&x), Arg::Int(-1), arg(&index), arg(&out)],
    )
    .expect("columns");
    assert_eq!(out.load_vec::<i64>(), [2, 2, 12, 12]);
    let index = longs(&[1, 2], &[1, 0]);
    let out = longs(&[1, 2, 3], &[0; 6]);
    run(
        "aclnnGatherV2",
        &[arg(&x), Arg::Int(0), arg(&index), arg(&out)],
    )
    .expect("rows");
    assert_eq!(out.load_vec::<i64>(), [10, 11, 12, 0, 1, 2]);
    let index = longs(&[2], &[-1, 3]);
    let out = longs(&[2], &[0; 2]);
    run("aclnnTake", &[arg(&x), arg(&index), arg(&out)]).expect("elements");
    assert_eq!(out.load_vec::<i64>(), [12, 10]);
    let fault = run(
        "aclnnGather",
        &[
            arg(&x),
            Arg::Int(0),
            arg(&longs(&[1, 1], &[5])),
            arg(&longs(&[1, 1], &[0])),
        ],
    );
    assert_eq!(fault.expect_err("there is no row 5").code, EXCEPTION);
}

#[test]
fn lists_of_indices() {
    let x = longs(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
    let (first, last) = (longs(&[2], &[1, 0]), longs(&[2], &[0, 1]));
    let whole = longs(&[0], &[]);
    let out = longs(&[2, 2], &[0; 4]);
    // Picked dims that stand apart go to the front: out[k][j] = x[first[k]][j][last[k]].
    run(
        "aclnnIndex",
        &[arg(&x), list(&[&first, &whole, &last]), arg(&out)],
    )
    .expect("elements");
    assert_eq!(out.load_vec::<i64>(), [4, 6, 1, 3]);
    // Side by side they stay in place: out[i][k] = x[i][first[k]][last[k]].
    run(
        "aclnnIndex",
        &[arg(&x), list(&[&whole, &first, &last]), arg(&out)],
    )
    .expect("elements");
    assert_eq!(out.load_vec::<i64>(), [2, 1, 6, 5]);
    let mask = tensor(DType::Bool, &[2, 2], &[true, false, false, true]);
    run("aclnnIndex", &[arg(&x), list(&[&mask]), arg(&out)]).expect("a mask");
    assert_eq!(out.load_vec::<i64>(), [0, 1, 6, 7]);
    let values = longs(&[], &[100]);
    let twice = longs(&[2], &[1, 1]);
    let call = [
        arg(&x),
        list(&[&twice]),
        arg(&values),
        Arg::Bool(true),
        Arg::Bool(false),
    ];
    run("aclnnIndexPutImpl", &call).expect("an accumulation");
    assert_eq!(x.load_vec::<i64>(), [0, 1, 2, 3, 204, 205, 206, 207]);
}

#[test]
fn scatter_in_its_forms() {
    let x = floats(&[2, 2], &[1., 2., 3., 4.]);
    let index = longs(&[1, 2], &[1, 1]);
    let source = floats(&[1, 2], &[10., 20.]);
    let out = empty(DType::F32, &[2, 2]);
    let mut call = [
        arg(&x),
        Arg::Int(0),
        arg(&index),
        arg(&source),
        Arg::Int(0),
        arg(&out),
    ];
    run("aclnnScatter", &call).expect("a replacement");
    assert_close(&out, &[1., 2., 10., 20.], 0.0);
    call[4] = Arg::Int(2);
    run("aclnnScatter", &call).expect("a product");
    assert_close(&out, &[1., 2., 30., 80.], 0.0);
    let call = [arg(&x), Arg::Int(0), arg(&index), arg(&source), arg(&out)];
    run("aclnnScatterAdd", &call).expect("a sum");
    assert_close(&out, &[1., 2., 13., 24.], 0.0);
    let index = longs(&[1, 2], &[0, 0]);
    let call = [
        arg(&x),
        Arg::Int(1),
        arg(&index),
        arg(&source),
        Arg::Int(5),
        Arg::Bool(false),
        arg(&out),
    ];
    run("aclnnScatterReduce", &call).expect("a mean");
    assert_close(&out, &[15., 2., 3., 4.], 0.0);
    let call = [arg(&x), Arg::Int(1), arg(&longs(&[1], &[1])), scalar(-1.0)];
    run("aclnnInplaceIndexFill", &call).expect("a fill");
    assert_close(&x, &[1., -1., 3., -1.], 0.0);
    let call = [
        arg(&x),
        Arg::Int(0),
        arg(&longs(&[2], &[0, 0])),
        arg(&floats(&[2, 2], &[1., 2., 3., 4.])),
        scalar(2.0),
        arg(&out),
    ];
    run("aclnnIndexAdd", &call).expect("a sum");
    assert_close(&out, &[9., 11., 3., -1.], 0.0);
}
