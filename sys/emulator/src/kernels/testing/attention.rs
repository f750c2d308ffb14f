//! Attention and rotary embedding against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

fn options(layout: &str, sparse: i64, inner: i64) -> Vec<Arg> {
    vec![
        Arg::Float(1.0),
        Arg::Float(1.0),
        Arg::Int(65536),
        Arg::Int(65536),
        Arg::Int(1),
        text(layout),
        Arg::Int(inner),
        Arg::Int(sparse),
    ]
}

#[test]
fn attention_weighs_values_and_masks_keys() {
    // Scores 0 and ln 3: shares 1/4 and 3/4.
    let q = floats(&[1, 1, 1], &[1.]);
    let k = floats(&[1, 2, 1], &[0., 3f32.ln()]);
    let v = floats(&[1, 2, 1], &[4., 8.]);
    let (highest, sums) = (
        empty(DType::F32, &[1, 1, 1, 8]),
        empty(DType::F32, &[1, 1, 1, 8]),
    );
    let (none, out) = (empty(DType::F32, &[0]), empty(DType::F32, &[1, 1, 1]));
    let outputs = vec![arg(&highest), arg(&sums), arg(&none), arg(&out)];
    let nothing = vec![null(), null(), null(), null(), Arg::Ints(None)];
    let inputs = vec![arg(&q), arg(&k), arg(&v)];
    let call = [
        inputs.clone(),
        nothing,
        options("BSH", 0, 0),
        outputs.clone(),
    ]
    .concat();
    run("aclnnFlashAttentionScore", &call).expect("attention");
    assert_close(&out, &[7.], 1e-6);
    assert_close(&highest, &[3f64.ln(); 8], 1e-6);
    assert_close(&sums, &[4.0 / 3.0; 8], 1e-6);
    let dy = floats(&[1, 1, 1], &[1.]);
    let (dq, dk, dv) = (
        empty(DType::F32, &[1, 1, 1]),
        empty(DType::F32, &[1, 2, 1]),
        empty(DType::F32, &[1, 2, 1]),
    );
    let saved = vec![
        arg(&dy),
        null(),
        null(),
        null(),
        null(),
        arg(&highest),
        arg(&sums),
        null(),
        arg(&out),
        Arg::Ints(None),
    ];
    let grads = vec![arg(&dq), arg(&dk), arg(&dv), null()];
    let call = [inputs.clone(), saved, options("BSH", 0, 0), grads].concat();
    run("aclnnFlashAttentionScoreGrad", &call).expect("gradients");
    // dS = (1/4 (4 − 7), 3/4 (8 − 7)).
    assert_close(&dv, &[0.25, 0.75], 1e-6);
    assert_close(&dk, &[-0.75, 0.75], 1e-6);
    assert_close(&dq, &[0.75 * 3f64.ln()], 1e-6);
    let mask = tensor(DType::Bool, &[1, 2], &[false, true]);
    let masked = vec![null(), null(), null(), arg(&mask), Arg::Ints(None)];
    let call = [
        inputs.clone(),
        masked,
        options("BSH", 0, 0),
        outputs.clone(),
    ]
    .concat();
    run("aclnnFlashAttentionScore", &call).expect("attention");
    assert_close(&out, &[4.], 1e-6);
    let all = tensor(DType::Bool, &[1, 2], &[true, true]);
    let masked = vec![null(), null(), null(), arg(&all), Arg::Ints(None)];
    let call = [inputs, masked, options("BSH", 1, 2), outputs].concat();
    run("aclnnFlashAttentionScore", &call).expect("attention");
    assert_close(&out, &[0.], 0.0);
}

#[test]
fn rotary_embedding_turns_and_turns_back() {
    let x = floats(&[1, 1, 1, 4], &[1., 2., 3., 4.]);
    let (cos, sin) = (
        floats(&[1, 1, 1, 4], &[0.; 4]),
        floats(&[1, 1, 1, 4], &[1.; 4]),
    );
    let y = empty(DType::F32, &[1, 1, 1, 4]);
    let call = [arg(&x), arg(&cos), arg(&sin), Arg::Int(0), arg(&y)];
    run("aclnnRotaryPositionEmbedding", &call).expect("a turn");
    assert_close(&y, &[-3., -4., 1., 2.], 0.0);
    let z = empty(DType::F32, &[1, 1, 1, 4]);
    let call = [
        arg(&y),
        arg(&cos),
        arg(&sin),
        null(),
        Arg::Int(0),
        arg(&z),
        null(),
        null(),
    ];
    run("aclnnRotaryPositionEmbeddingGrad", &call).expect("a turn back");
    assert_close(&z, &[1., 2., 3., 4.], 0.0);
    let call = [arg(&x), arg(&cos), arg(&sin), Arg::Int(1), arg(&y)];
    run("aclnnRotaryPositionEmbedding", &call).expect("a turn");
    assert_close(&y, &[-2., 1., -4., 3.], 0.0);
}
