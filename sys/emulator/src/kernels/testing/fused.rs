//! Fused operators of language models against values of PyTorch and NumPy, and some worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn gated_units_quantise() {
    let x = floats(
        &[3, 4],
        &[1., -2., 3., 0.5, 2., 1., -1., 4., 0.5, 0.5, 1., 1.5],
    );
    let smooth = floats(&[2, 2], &[1., 2., 0.5, 1.]);
    let ends = tensor(DType::I32, &[2], &[1i64, 3]);
    let (y, scale) = (empty(DType::I8, &[3, 2]), empty(DType::F32, &[3]));
    let call = [
        arg(&x),
        arg(&smooth),
        null(),
        arg(&ends),
        Arg::Bool(true),
        text("dynamic"),
        arg(&y),
        arg(&scale),
    ];
    run("aclnnSwiGluQuant", &call).expect("two groups");
    assert_eq!(y.load_vec::<i64>(), [127, -14, -38, 127, 42, 127]);
    assert_close(&scale, &[57.90689, 43.43017, 272.0391], 1e-5);

    let x = tensor(DType::I32, &[2, 4], &[10i64, -20, 30, 5, 20, 10, -10, 40]);
    let (columns, rows) = (
        floats(&[4], &[0.1, 0.1, 0.2, 0.2]),
        floats(&[2], &[1., 0.5]),
    );
    let (y, scale) = (empty(DType::I8, &[2, 2]), empty(DType::F32, &[2]));
    let call = [
        arg(&x),
        arg(&columns),
        arg(&rows),
        null(),
        null(),
        null(),
        null(),
        Arg::Bool(true),
        text("dynamic"),
        arg(&y),
        arg(&scale),
    ];
    run("aclnnDequantSwigluQuant", &call).expect("integers");
    assert_eq!(y.load_vec::<i64>(), [127, -7, -75, 127]);
    assert_close(&scale, &[0.0345382, 0.009802509], 1e-5);
    let bias = tensor(DType::I32, &[4], &[0i64, 0, 10, -5]);
    let y = empty(DType::F16, &[2, 4]);
    let call = [
        arg(&x),
        arg(&columns),
        arg(&rows),
        arg(&bias),
        Arg::Int(1),
        arg(&y),
    ];
    run("aclnnDequantBias", &call).expect("floats");
    assert_close(&y, &[1., -2., 8., 0., 1., 0.5, 0., 3.5], 1e-3);
}

#[test]
fn clipped_gates_and_quantised_norms() {
    let x = floats(&[2, 4], &[1., 9., -2., -9., 3., 0.5, 8., 1.]);
    let y = empty(DType::F32, &[2, 2]);
    let call = |interleaved: bool| {
        [
            arg(&x),
            null(),
            Arg::Int(-1),
            Arg::Float(1.702),
            Arg::Float(7.0),
            Arg::Float(1.0),
            Arg::Bool(interleaved),
            arg(&y),
        ]
    };
    run("aclnnClippedSwiglu", &call(true)).expect("even and odd columns");
    assert_close(&y, &[6.766366, 0.3860483, 4.472893, 13.99991], 1e-6);
    run("aclnnClippedSwiglu", &call(false)).expect("halves");
    assert_close(&y, &[-0.8457958, -41.99972, 23.85543, 0.7007769], 1e-6);

    let x = floats(&[1, 4], &[1., 2., -3., 4.]);
    let (gamma, beta) = (
        floats(&[4], &[1., 0.5, 2., 1.]),
        floats(&[4], &[0.1, 0., -0.2, 0.3]),
    );
    let (scale, offset) = (floats(&[1], &[0.05]), floats(&[1], &[3.]));
    let y = empty(DType::I8, &[1, 4]);
    let call = [
        arg(&x),
        arg(&gamma),
        arg(&beta),
        arg(&scale),
        arg(&offset),
        Arg::Float(1e-6),
        arg(&y),
    ];
    run("aclnnRmsNormQuant", &call).expect("a norm");
    assert_eq!(y.load_vec::<i64>(), [12, 10, -45, 38]);
}

const GROUPED: [f32; 24] = [
    -0.22, 0.15, 0.67, -0.51, -1.59, -0.75, 0.65, 0.91, 1.08, 0.34, 0.72, 0.83, 0.51, -1.53, -1.9,
    0.25, 0.03, 0.24, 0.78, -1., 1.19, 0.41, 0.18, -0.15,
];

#[test]
fn group_norm_with_swish_and_its_gradient() {
    let x = floats(&[2, 4, 3], &GROUPED);
    let (gamma, beta) = (
        floats(&[4], &[1., 2., -1., 0.5]),
        floats(&[4], &[0., 0.5, 1., -0.5]),
    );
    let (y, mean, rstd) = (
        empty(DType::F32, &[2, 4, 3]),
        empty(DType::F32, &[2, 2]),
        empty(DType::F32, &[2, 2]),
    );
    let call = [
        arg(&x),
        arg(&gamma),
        arg(&beta),
        Arg::Int(2),
        text("NCHW"),
        Arg::Float(1e-5),
        Arg::Bool(true),
        Arg::Float(1.5),
        arg(&y),
        arg(&mean),
        arg(&rstd),
    ];
    run("aclnnGroupNormSwish", &call).expect("a norm");
    let wanted = [
        0.126816, 0.555776, 1.32545, 0.0653013, -0.0360688, -0.168351, 1.30734, 0.204014,
        -0.143392, -0.152853, -0.170763, -0.126943, 0.777886, -0.170666, -0.134549, 1.76755,
        1.25698, 1.74443, 0.126836, 2.72876, -0.134903, -0.135995, -0.166186, -0.184646,
    ];
    assert_close(&y, &wanted, 1e-5);
    assert_close(&mean, &[-0.375, 0.755, -0.4, 0.235], 1e-6);
    assert_close(&rstd, &[1.4079364, 4.3314131, 1.0568302, 1.4343866], 1e-5);
    let steps: Vec<f32> = (0..24).map(|at| at as f32 / 10.0 - 1.0).collect();
    let dy = floats(&[2, 4, 3], &steps);
    let (dx, dw, db) = (
        empty(DType::F32, &[2, 4, 3]),
        empty(DType::F32, &[4]),
        empty(DType::F32, &[4]),
    );
    let call = [
        arg(&dy),
        arg(&mean),
        arg(&rstd),
        arg(&x),
        arg(&gamma),
        arg(&beta),
        Arg::Int(2),
        text("NCHW"),
        Arg::Float(1.5),
        Arg::Bool(true),
        Arg::Bool(true),
        arg(&dx),
        arg(&dw),
        arg(&db),
    ];
    run("aclnnGroupNormSwishGrad", &call).expect("gradients");
    let wanted = [
        -0.0558183, -0.103784, 0.206798, -0.472639, 0.0681767, 0.357267, 1.38288, 0.435624,
        -0.340189, -0.493847, -0.519369, -0.465094, -0.954266, -0.181088, -0.0148378, 0.112914,
        0.45584, 0.581439, -0.581781, -0.596342, -0.295824, 0.480997, 0.48858, 0.50437,
    ];
    assert_close(&dx, &wanted, 2e-5);
    assert_close(&dw, &[-1.78515, 1.26226, -0.941994, 0.0235896], 2e-5);
    assert_close(&db, &[-2.25852, 1.51897, 1.0053, 0.489358], 2e-5);
}

#[test]
fn gradients_of_distances() {
    let (a, b) = (
        floats(&[2, 2], &[1., 2., 3., -1.]),
        floats(&[3, 2], &[0., 1., 2., 2., 3., -1.]),
    );
    let grad = floats(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let cases = [
        (
            2.0,
            [
                2f32.sqrt(),
                1.,
                13f32.sqrt(),
                13f32.sqrt(),
                10f32.sqrt(),
                0.,
            ],
            [-2.95699, 3.20326, 4.90934, -6.96222],
        ),
        (1.0, [2., 1., 5., 5., 4., 0.], [-4., 4., 9., -9.]),
        (
            3.0,
            [1.259_921, 1., 3.2710663, 3.2710663, 3.036_589, 0.],
            [-2.49155, 3.15335, 3.90677, -6.37558],
        ),
    ];
    for (p, distances, wanted) in cases {
        let (distances, out) = (floats(&[2, 3], &distances), empty(DType::F32, &[2, 2]));
        let call = [
            arg(&grad),
            arg(&a),
            arg(&b),
            arg(&distances),
            Arg::Float(p),
            arg(&out),
        ];
        run("aclnnCdistBackward", &call).expect("a gradient");
        assert_close(&out, &wanted, 1e-5);
    }
}

#[test]
fn optimisers_step() {
    let (p, g) = (floats(&[3], &[1., -2., 3.]), floats(&[3], &[0.5, -1., 2.]));
    let (m, v, step) = (
        empty(DType::F32, &[3]),
        empty(DType::F32, &[3]),
        floats(&[1], &[1.]),
    );
    let call = |found: Arg| {
        vec![
            list(&[&p]),
            list(&[&g]),
            list(&[&m]),
            list(&[&v]),
            list(&[]),
            list(&[&step]),
            null(),
            found,
            Arg::Float(0.1),
            Arg::Float(0.9),
            Arg::Float(0.99),
            Arg::Float(0.01),
            Arg::Float(1e-8),
            Arg::Bool(false),
            Arg::Bool(false),
        ]
    };
    run("aclnnFusedAdamw", &call(arg(&floats(&[1], &[1.])))).expect("a step that is left out");
    assert_close(&p, &[1., -2., 3.], 0.0);
    run("aclnnFusedAdamw", &call(null())).expect("a step");
    assert_close(&p, &[0.899, -1.898, 2.897], 1e-6);
    assert_close(&m, &[0.05, -0.1, 0.2], 1e-6);
    assert_close(&v, &[0.0025, 0.01, 0.04], 1e-5);
    for (nesterov, wanted) in [
        (false, [0.907486, 2.0929275]),
        (true, [0.88369669, 2.1168232]),
    ] {
        let p = floats(&[2], &[1., 2.]);
        let (m, v) = (floats(&[2], &[0.1, -0.2]), floats(&[2], &[0.01, 0.04]));
        let mut call = vec![arg(&p), arg(&m), arg(&v)];
        for rate in [0.81f32, 0.9801, 0.1, 0.9, 0.99, 1e-3] {
            call.push(arg(&floats(&[1], &[rate])));
        }
        call.extend([
            arg(&floats(&[2], &[0.5, -1.])),
            Arg::Bool(false),
            Arg::Bool(nesterov),
        ]);
        run("aclnnApplyAdam", &call).expect("a step");
        assert_close(&p, &wanted, 1e-6);
        assert_close(&m, &[0.14, -0.28], 1e-6);
        assert_close(&v, &[0.0124, 0.0496], 1e-6);
    }
}

#[test]
fn logits_are_cut_down() {
    let x = floats(&[2, 4], &[1., 3., 2., 0., 0.5, 0.1, 0.2, 4.]);
    let (p, k) = (
        floats(&[2], &[0.9, 0.5]),
        tensor(DType::I32, &[2], &[3i64, 0]),
    );
    let y = empty(DType::F32, &[2, 4]);
    run("aclnnApplyTopKTopP", &[arg(&x), arg(&p), arg(&k), arg(&y)]).expect("few");
    let gone = f64::NEG_INFINITY;
    assert_close(&y, &[gone, 3., 2., gone, gone, gone, gone, 4.], 0.0);
}

#[test]
fn stacks_of_matrices_in_other_orders() {
    let steps: Vec<f32> = (0..12).map(|at| at as f32).collect();
    let lower: Vec<f32> = steps.iter().map(|step| step - 3.0).collect();
    let (a, b) = (floats(&[2, 2, 3], &steps), floats(&[2, 3, 2], &lower));
    let y = empty(DType::F32, &[2, 2, 2]);
    let call = |order: &[i64], parts: i64| {
        vec![
            arg(&a),
            arg(&b),
            null(),
            null(),
            ints(order),
            ints(&[0, 1, 2]),
            ints(&[1, 0, 2]),
            Arg::Int(0),
            Arg::Int(parts),
            arg(&y),
        ]
    };
    run("aclnnTransposeBatchMatMul", &call(&[1, 0, 2], 1)).expect("rows first");
    assert_close(&y, &[1., 4., 64., 76., -17., 4., 154., 184.], 0.0);
    run("aclnnTransposeBatchMatMul", &call(&[0, 1, 2], 2)).expect("two parts");
    assert_close(&y, &[1., 4., -8., 4., 109., 130., 154., 184.], 0.0);
}

#[test]
fn positions_turn_by_a_table() {
    let positions = longs(&[2], &[2, 0]);
    let table = floats(
        &[3, 4],
        &[0.5, 0.25, 0.1, 0.2, 1., 0., 0., 1., 0.8, 0.6, 0.6, 0.8],
    );
    let x = floats(&[2, 5], &[1., 2., 3., 4., 5., 6., 7., 8., 9., 10.]);
    let (q, k) = (empty(DType::F32, &[2, 5]), empty(DType::F32, &[2, 5]));
    let call = |halves: bool| {
        [
            arg(&positions),
            arg(&x),
            arg(&x),
            arg(&table),
            Arg::Ints(None),
            Arg::Int(5),
            Arg::Bool(halves),
            arg(&q),
            arg(&k),
        ]
    };
    run("aclnnRopeWithSinCosCache", &call(true)).expect("halves");
    assert_close(
        &q,
        &[-1., -2., 3., 4., 5., 2.2, -0.05, 4.6, 3.65, 10.],
        1e-6,
    );
    run("aclnnRopeWithSinCosCache", &call(false)).expect("pairs");
    assert_close(
        &k,
        &[-0.4, 2.2, -1.4, 4.8, 5., 2.3, 4.1, 0.2, 3.85, 10.],
        1e-6,
    );
}

#[test]
fn factors_and_scales() {
    let x = floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    let (q, r) = (empty(DType::F32, &[3, 2]), empty(DType::F32, &[2, 2]));
    run("aclnnQr", &[arg(&x), Arg::Bool(true), arg(&q), arg(&r)]).expect("factors");
    assert_close(
        &q,
        &[
            -0.169031, 0.897085, -0.507093, 0.276026, -0.845154, -0.345033,
        ],
        1e-5,
    );
    assert_close(&r, &[-5.91608, -7.43736, 0., 0.828079], 1e-5);
    // 1 + 2^-11 lies between two numbers of 19 bits, 1 and 1 + 2^-10; 1 + 3 * 2^-11 is as far from the even one above.
    let scale = floats(&[3], &[1. + 1. / 2048., 1. + 3. / 2048., 1. + 1.5 / 2048.]);
    let word = |bits: u32| (u64::from(bits) | (1 << 46)) as i64;
    for (mode, wanted) in [
        (0, [0x3f80_0000, 0x3f80_2000, 0x3f80_0000]),
        (1, [0x3f80_0000, 0x3f80_4000, 0x3f80_2000]),
    ] {
        let out = empty(DType::I64, &[3]);
        let call = [arg(&scale), null(), Arg::Int(mode), arg(&out)];
        run("aclnnTransQuantParamV3", &call).expect("words");
        assert_eq!(out.load_vec::<i64>(), wanted.map(word));
    }
}

#[test]
fn transforms_of_signals() {
    let x = floats(&[4], &[1., 2., 3., 4.]);
    let y = empty(DType::F32, &[3, 2]);
    let call = [arg(&x), Arg::Int(4), Arg::Int(-1), Arg::Int(1), arg(&y)];
    run("aclRfft1D", &call).expect("a transform");
    assert_close(&y, &[10., 0., -2., 2., -2., 0.], 1e-6);
    // torch.stft([0, 1, 4, 9, 16, 25], n_fft=4, hop_length=2, win_length=2, window=[1, 2], center=False)
    let x = floats(&[6], &[0., 1., 4., 9., 16., 25.]);
    let (window, y) = (floats(&[2], &[1., 2.]), empty(DType::F32, &[3, 2, 2]));
    let call = [
        arg(&x),
        arg(&window),
        arg(&y),
        Arg::Int(4),
        Arg::Int(2),
        Arg::Int(2),
        Arg::Bool(false),
        Arg::Bool(true),
        Arg::Bool(false),
    ];
    run("aclStft", &call).expect("windows");
    assert_close(
        &y,
        &[9., 0., 41., 0., -8., -1., -32., -9., 7., 0., 23., 0.],
        1e-5,
    );
}

#[test]
fn lists_are_rounded() {
    let x = floats(&[5], &[-1.5, -0.4, 0.5, 1.5, 2.6]);
    let y = empty(DType::F32, &[5]);
    for (mode, wanted) in [
        (1, [-2., 0., 0., 2., 3.]),
        (2, [-2., -1., 0., 1., 2.]),
        (3, [-1., 0., 1., 2., 3.]),
        (4, [-2., 0., 1., 2., 3.]),
        (5, [-1., 0., 0., 1., 2.]),
        (0, [-1.5, -0.4, 0.5, 1.5, 2.6]),
    ] {
        run(
            "aclnnForeachRoundOffNumberV2",
            &[list(&[&x]), long_scalar(mode), list(&[&y])],
        )
        .expect("rounded");
        assert_close(&y, &wanted, 1e-6);
    }
}
