//! LSTM, CTC, packed attention and batch norm over devices, against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn one_lstm_step_and_its_gradient() {
    // All gates see 0 but the candidate, which sees 1.
    let x = floats(&[1, 1, 1], &[0.]);
    let (input, hidden) = (floats(&[4, 1], &[0.; 4]), floats(&[4, 1], &[0.; 4]));
    let (bias, other) = (floats(&[4], &[0., 0., 1., 0.]), floats(&[4], &[0.; 4]));
    let (h0, c0) = (floats(&[1, 1, 1], &[0.]), floats(&[1, 1, 1], &[2.]));
    let outputs: Vec<Tensor> = (0..10).map(|_| empty(DType::F32, &[1, 1, 1])).collect();
    let params = list(&[&input, &hidden, &bias, &other]);
    let flags = |masked: bool| {
        vec![
            Arg::Bool(true),
            Arg::Int(1),
            Arg::Float(0.0),
            Arg::Bool(masked),
            Arg::Bool(false),
            Arg::Bool(false),
        ]
    };
    let mut call = vec![arg(&x), params.clone(), list(&[&h0, &c0]), null()];
    call.extend(flags(true));
    call.extend(outputs[..3].iter().map(arg));
    call.extend(outputs[3..].iter().map(|one| list(&[one])));
    run("aclnnLSTM", &call).expect("a step");
    let g = 1f64.tanh();
    let c = 0.5 * 2.0 + 0.5 * g;
    assert_close(&outputs[0], &[0.5 * c.tanh()], 1e-6);
    assert_close(&outputs[2], &[c], 1e-6);
    assert_close(&outputs[3], &[sigmoid(0.0)], 1e-6);
    let dy = floats(&[1, 1, 1], &[1.]);
    let [dx, dh, dc] = [(); 3].map(|()| empty(DType::F32, &[1, 1, 1]));
    let grads = [
        empty(DType::F32, &[4, 1]),
        empty(DType::F32, &[4, 1]),
        empty(DType::F32, &[4]),
        empty(DType::F32, &[4]),
    ];
    let mut call = vec![arg(&x), list(&[&h0, &c0]), params, arg(&dy), null(), null()];
    call.extend(outputs[3..].iter().map(|one| list(&[one])));
    call.push(null());
    call.extend(flags(true));
    call.push(Arg::Bools(None));
    call.extend([arg(&dx), arg(&dh), arg(&dc)]);
    call.push(list(&grads.iter().collect::<Vec<_>>()));
    run("aclnnLstmBackward", &call).expect("a gradient");
    let inner = 0.5 * (1.0 - c.tanh().powi(2));
    let gates = [
        inner * g * 0.25,
        inner * 2.0 * 0.25,
        inner * 0.5 * (1.0 - g * g),
        c.tanh() * 0.25,
    ];
    assert_close(&grads[2], &gates, 1e-6);
    assert_close(&dc, &[inner * 0.5], 1e-6);
    assert_close(&dx, &[0.], 0.0);
}

#[test]
fn alignments_of_one_label_with_two_steps() {
    // Each class has probability 1/2; (1, 1), (1, blank) and (blank, 1) read as the label.
    let half = 0.5f32.ln();
    let log_probs = floats(&[2, 1, 2], &[half; 4]);
    let targets = longs(&[1, 1], &[1]);
    let (loss, alpha) = (empty(DType::F32, &[1]), empty(DType::F32, &[1, 2, 8]));
    let shared = vec![arg(&log_probs), arg(&targets), ints(&[2]), ints(&[1])];
    let options = vec![Arg::Int(0), Arg::Bool(false)];
    let outputs = vec![arg(&loss), arg(&alpha)];
    let call = [shared.clone(), options.clone(), outputs.clone()].concat();
    run("aclnnCtcLoss", &call).expect("a loss");
    assert_close(&loss, &[-(0.75f64.ln())], 1e-6);
    let (dy, dx) = (floats(&[1], &[1.]), empty(DType::F32, &[2, 1, 2]));
    let call = [vec![arg(&dy)], shared, outputs, options, vec![arg(&dx)]].concat();
    run("aclnnCtcLossBackward", &call).expect("a gradient");
    let (blank, label) = (0.5 - 1.0 / 3.0, 0.5 - 2.0 / 3.0);
    assert_close(&dx, &[blank, label, blank, label], 1e-6);
}

#[test]
fn packed_samples_do_not_see_each_other() {
    // The first sample has one key, the second two of equal score.
    let q = floats(&[2, 1, 1], &[1., 1.]);
    let k = floats(&[3, 1, 1], &[5., 2., 2.]);
    let v = floats(&[3, 1, 1], &[7., 2., 4.]);
    let [highest, sums] = [(); 2].map(|()| empty(DType::F32, &[2, 1, 8]));
    let (none, out) = (empty(DType::F32, &[0]), empty(DType::F32, &[2, 1, 1]));
    let mut call = vec![arg(&q), arg(&k), arg(&v), null(), null(), null(), null()];
    call.extend([Arg::Ints(None), ints(&[1, 2]), ints(&[1, 3])]);
    call.extend([Arg::Float(1.0), Arg::Float(1.0), Arg::Int(9), Arg::Int(9)]);
    call.extend([Arg::Int(1), text("TND"), Arg::Int(0), Arg::Int(0)]);
    call.extend([arg(&highest), arg(&sums), arg(&none), arg(&out)]);
    run("aclnnFlashAttentionVarLenScore", &call).expect("attention");
    assert_close(&out, &[7., 3.], 1e-6);
    assert_close(&sums, &[vec![1.; 8], vec![2.; 8]].concat(), 1e-6);
    call[8] = ints(&[2, 1]);
    assert!(run("aclnnFlashAttentionVarLenScore", &call).is_err());
}

#[test]
fn statistics_of_two_devices_unite() {
    // (0, 2) on one device, (4, 6) on the other: mean 3, variance 5.
    let x = floats(&[2, 1], &[0., 2.]);
    let means = floats(&[2, 1], &[1., 5.]);
    let invstds = floats(&[2, 1], &[1., 1.]);
    let (mean, variance) = (floats(&[1], &[1.]), floats(&[1], &[1.]));
    let counts = floats(&[2], &[2., 2.]);
    let [mean_all, invstd_all] = [(); 2].map(|()| empty(DType::F32, &[1]));
    let call = [
        arg(&x),
        arg(&means),
        arg(&invstds),
        arg(&mean),
        arg(&variance),
        Arg::Float(0.5),
        Arg::Float(0.0),
        arg(&counts),
        arg(&mean_all),
        arg(&invstd_all),
    ];
    run("aclnnBatchNormGatherStatsWithCounts", &call).expect("statistics");
    assert_close(&mean_all, &[3.], 1e-6);
    assert_close(&invstd_all, &[1.0 / 5f64.sqrt()], 1e-6);
    assert_close(&mean, &[2.], 1e-6);
    assert_close(&variance, &[0.5 + 0.5 * 5.0 * 4.0 / 3.0], 1e-6);
}
