//! Factorisations, sums over labels, chunks and blocked weights, against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    (0..size * size)
        .map(|at| {
            (0..size)
                .map(|k| a[at / size * size + k] * b[k * size + at % size])
                .sum()
        })
        .collect()
}

#[test]
fn factors_multiply_to_the_matrix() {
    let values = [1., 2., 3., 4.];
    let x = floats(&[2, 2], &values.map(|value: f64| value as f32));
    let [q, r, u, v] = [(); 4].map(|()| empty(DType::F32, &[2, 2]));
    run("aclnnLinalgQr", &[arg(&x), Arg::Int(0), arg(&q), arg(&r)]).expect("factors");
    let (q_values, r_values) = (q.load_vec::<f64>(), r.load_vec::<f64>());
    assert_close(&x, &product(&q_values, &r_values, 2), 1e-6);
    // The diagonal begins with the sign opposite to the first entry, as LAPACK's does.
    assert_close(
        &r,
        &[
            -(10f64.sqrt()),
            -14.0 / 10f64.sqrt(),
            0.0,
            -2.0 / 10f64.sqrt(),
        ],
        1e-6,
    );
    let sigma = empty(DType::F32, &[2]);
    let flags = [Arg::Bool(true), Arg::Bool(true)];
    let outputs = [arg(&sigma), arg(&u), arg(&v)];
    run(
        "aclnnSvd",
        &[&[arg(&x)][..], &flags[..], &outputs[..]].concat(),
    )
    .expect("values");
    // Squares of the singular values: 15 ± sqrt(221).
    let root = 221f64.sqrt();
    assert_close(&sigma, &[(15.0 + root).sqrt(), (15.0 - root).sqrt()], 1e-6);
    let sizes = sigma.load_vec::<f64>();
    let u = u.load_vec::<f64>();
    let v = v.load_vec::<f64>();
    let scaled: Vec<f64> = (0..4).map(|at| u[at] * sizes[at % 2]).collect();
    assert_close(&x, &product(&scaled, &[v[0], v[2], v[1], v[3]], 2), 1e-6);
    let (sign, log) = (empty(DType::F32, &[]), empty(DType::F32, &[]));
    run("aclnnSlogdet", &[arg(&x), arg(&sign), arg(&log)]).expect("a determinant");
    assert_close(&sign, &[-1.], 0.0);
    assert_close(&log, &[2f64.ln()], 1e-6);
}

#[test]
fn labels_that_are_missing_are_summed() {
    let (a, b) = (
        floats(&[2, 2], &[1., 2., 3., 4.]),
        floats(&[2, 2], &[5., 6., 7., 8.]),
    );
    let out = empty(DType::F32, &[2, 2]);
    let call = |equation: &str, out: &Tensor| {
        run("aclnnEinsum", &[list(&[&a, &b]), text(equation), arg(out)])
    };
    call("ij,jk->ki", &out).expect("a sum");
    assert_close(&out, &[19., 43., 22., 50.], 1e-6);
    let sum = empty(DType::F32, &[]);
    call("ij,ij->", &sum).expect("a sum");
    assert_close(&sum, &[70.], 1e-6);
    assert!(call("ij,jk->il", &out).is_err());
}

#[test]
fn chunks_are_joined_and_windows_put_back() {
    let (a, b) = (
        floats(&[3], &[1., 2., 3.]),
        floats(&[2, 2], &[4., 5., 6., 7.]),
    );
    let out = empty(DType::F32, &[2, 4]);
    run(
        "aclnnChunkCat",
        &[list(&[&a, &b]), Arg::Int(0), Arg::Int(2), arg(&out)],
    )
    .expect("chunks");
    assert_close(&out, &[1., 2., 4., 5., 3., 0., 6., 7.], 0.0);
    let (dy, dx) = (floats(&[3, 2], &[1.; 6]), empty(DType::F32, &[4]));
    let numbers = [Arg::Int(0), Arg::Int(2), Arg::Int(1)];
    let call = [&[arg(&dy), ints(&[4])][..], &numbers[..], &[arg(&dx)][..]].concat();
    run("aclnnUnfoldGrad", &call).expect("a gradient");
    assert_close(&dx, &[1., 2., 2., 1.], 0.0);
}

#[test]
fn a_weight_in_blocks_lies_column_of_blocks_by_column() {
    let values: Vec<f32> = (0..512).map(|at| at as f32).collect();
    let weight = tensor(DType::F16, &[16, 32], &values);
    run("aclnnTransMatmulWeight", &[arg(&weight)]).expect("blocks");
    let got = weight.load_vec::<f32>();
    // Row 1, column 17 is in the second column of blocks.
    assert_eq!(
        (got[0], got[16], got[256], got[256 + 16 + 1]),
        (0., 32., 16., 49.)
    );
    assert_eq!(weight.object().describe().format, 29);
}
