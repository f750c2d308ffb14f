//! Experts, feed-forward blocks and small fused operators, against values that PyTorch computed from the same numbers in f64.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn experts_by_table_and_by_shares() {
    let (y, experts) = (zeros(&[2, 2]), empty(DType::I32, &[2, 2]));
    let call = |ids: Arg, table: Arg, renorm: i64, sigmoids: i64| {
        let mut call = vec![arg(&noise(&[2, 6], 1)), null(), ids, table];
        call.extend([Arg::Int(2), Arg::Int(1), Arg::Int(1), Arg::Int(0)]);
        call.extend([Arg::Int(renorm), Arg::Int(sigmoids), Arg::Bool(false)]);
        call.extend([
            Arg::Float(2.0),
            Arg::Float(1e-20),
            arg(&y),
            arg(&experts),
            null(),
        ]);
        call
    };
    run("aclnnMoeGatingTopKV2", &call(null(), null(), 1, 0)).expect("shares");
    assert_close(&y, &[1.029991, 0.970009, 1.0976875, 0.9023125], 1e-6);
    assert_eq!(experts.load_vec::<i64>(), [0, 5, 5, 4]);
    let table = tensor(DType::I32, &[3, 2], &[1i64, 5, 0, 2, 4, 3]);
    let ids = longs(&[2], &[2, 0]);
    run("aclnnMoeGatingTopKV2", &call(arg(&ids), arg(&table), 0, 1)).expect("a table");
    assert_close(&y, &[1.0040655, 0.9959345, 0.858929, 1.141071], 1e-6);
    assert_eq!(experts.load_vec::<i64>(), [4, 3, 1, 5]);
}

#[test]
fn bytes_are_multiplied_gated_and_made_bytes() {
    let bytes = |shape: &[usize], seed: i64| -> Tensor {
        let values: Vec<f32> = numbers(shape, seed)
            .iter()
            .map(|&value| (f64::from(value) * 100.0).floor() as f32)
            .collect();
        tensor(DType::I8, shape, &values)
    };
    let (x, plain) = (bytes(&[5, 32], 1), bytes(&[2, 32, 64], 2));
    let values = plain.load_vec::<f32>();
    let at = |expert: usize, row: usize, column: usize| values[(expert * 32 + row) * 64 + column];
    let mut blocks = Vec::new();
    for (expert, wide, high) in
        (0..2).flat_map(|e| (0..2).flat_map(move |w| (0..2).map(move |h| (e, w, h))))
    {
        for row in 0..16 {
            blocks.extend((0..32).map(|column| at(expert, high * 16 + row, wide * 32 + column)));
        }
    }
    let blocked = tensor(DType::I8, &[2, 2, 2, 16, 32], &blocks);
    let (scale, x_scale) = (scaled(&[2, 64], 3, 1e-4, 2e-4), scaled(&[5], 4, 0.01, 0.02));
    for form in [0, 1] {
        let (out, out_scale) = (tensor(DType::I8, &[5, 32], &[7i64; 160]), zeros(&[5]));
        let mut call = vec![arg(&x)];
        let name = if form == 0 {
            call.extend([arg(&blocked), null(), null(), arg(&scale), arg(&x_scale)]);
            call.extend([
                arg(&longs(&[2], &[3, 4])),
                arg(&out),
                arg(&out_scale),
                null(),
            ]);
            "aclnnGroupedMatmulSwigluQuantWeightNZ"
        } else {
            call.extend([
                list(&[&plain]),
                list(&[&scale]),
                Arg::Tensors(None),
                null(),
                arg(&x_scale),
            ]);
            call.extend([null(), arg(&longs(&[2], &[3, 1]))]);
            call.extend([
                Arg::Int(0),
                Arg::Int(0),
                Arg::Int(0),
                Arg::Int(1),
                Arg::Ints(None),
            ]);
            call.extend([arg(&out), arg(&out_scale)]);
            "aclnnGroupedMatmulSwigluQuantV2"
        };
        run(name, &call).expect("two groups");
        assert_sums("out", &out, [46968.0, 252715.0]);
        let millions: Vec<f32> = out_scale.load_vec::<f32>();
        let millions: Vec<f32> = millions.iter().map(|value| value * 1e6).collect();
        assert_sums(
            "scale",
            &floats(&[5], &millions),
            [718.419717, 27416.855338],
        );
    }
}

#[test]
fn gradients_of_rows_by_map() {
    let map = tensor(
        DType::Bool,
        &[3, 3],
        &[true, false, true, false, true, true, true, true, false],
    );
    let (dx, shares) = (zeros(&[6, 4]), zeros(&[3, 3]));
    let mut call = vec![
        arg(&noise(&[3, 4], 3)),
        arg(&longs(&[6], &[0, 4, 2, 5, 1, 3])),
    ];
    call.extend([
        arg(&longs(&[6], &[0, 0, 1, 1, 2, 2])),
        arg(&map),
        arg(&noise(&[6, 4], 1)),
    ]);
    call.extend([
        arg(&noise(&[3, 3], 2)),
        Arg::Bool(false),
        Arg::Ints(None),
        arg(&dx),
        arg(&shares),
    ]);
    run("aclnnMoeTokenUnpermuteWithRoutingMapGrad", &call).expect("with probabilities");
    assert_sums("rows", &dx, [-81.400204, 2.191365]);
    assert_sums("probabilities", &shares, [-5.620046, 1.524193]);
}

#[test]
fn feed_forward_by_experts() {
    let (x, out) = (noise(&[3, 4], 1), zeros(&[3, 4]));
    let (first, second) = (noise(&[2, 4, 6], 2), noise(&[2, 6, 4], 3));
    let (b1, b2) = (noise(&[2, 6], 4), noise(&[2, 4], 5));
    for (name, tokens, flag) in [
        ("aclnnFFN", ints(&[2, 1]), None),
        ("aclnnFFNV2", ints(&[2, 3]), Some(true)),
        ("aclnnFFNV3", arg(&longs(&[2], &[2, 1])), Some(false)),
    ] {
        out.store_slice(&[0f32; 12]).expect("zeros");
        let mut call = vec![
            arg(&x),
            arg(&first),
            arg(&second),
            tokens,
            arg(&b1),
            arg(&b2),
        ];
        call.extend((0..8).map(|_| null()));
        call.extend([text("silu"), Arg::Int(0)]);
        call.extend(flag.map(Arg::Bool));
        call.push(arg(&out));
        run(name, &call).expect("two experts");
        assert_sums(name, &out, [37.01106, 6.635817]);
    }
}

#[test]
fn small_fused_operators() {
    let qkv = noise(&[1, 2, 12], 1);
    let outputs = [
        zeros(&[1, 2, 2, 2]),
        zeros(&[1, 2, 2, 2]),
        zeros(&[1, 2, 2, 2]),
    ];
    let mut call = vec![arg(&qkv), arg(&noise(&[12], 2)), Arg::Int(2)];
    call.extend(outputs.iter().map(arg));
    run("aclnnTransformBiasRescaleQkv", &call).expect("two heads");
    assert_sums("queries", &outputs[0], [7.010964, 2.060835]);
    assert_sums("keys", &outputs[1], [15.162, 2.628053]);
    assert_sums("values", &outputs[2], [0.386, 3.158668]);

    let out = zeros(&[2, 3, 4]);
    let call = [
        arg(&noise(&[2, 3, 4], 1)),
        arg(&noise(&[2, 4], 2)),
        arg(&noise(&[2, 1, 4], 3)),
        arg(&out),
    ];
    run("aclnnModulate", &call).expect("two samples");
    assert_sums("modulated", &out, [-180.017128, 26.498186]);

    let image = noise(&[1, 2, 3, 3], 1);
    let out = zeros(&[1, 2, 1, 1]);
    run("aclnnGlobalAveragePool", &[arg(&image), arg(&out)]).expect("means");
    assert_sums("means", &out, [0.118111, 0.084682]);
    run("aclnnGlobalMaxPool", &[arg(&image), arg(&out)]).expect("largest");
    assert_sums("largest", &out, [1.951, 0.954538]);

    let (rows, out) = (noise(&[5, 3], 1), zeros(&[3, 3]));
    for (list, kind) in [([2, 2, 5], 0), ([2, 0, 3], 1)] {
        let call = [
            arg(&rows),
            arg(&longs(&[3], &list)),
            Arg::Int(kind),
            arg(&out),
        ];
        run("aclnnGroupedBiasAddGradV2", &call).expect("three groups");
        assert_sums("sums", &out, [8.183, 2.880182]);
    }
    let out = zeros(&[2, 3]);
    run(
        "aclnnGroupedBiasAddGrad",
        &[arg(&noise(&[2, 2, 3], 1)), null(), arg(&out)],
    )
    .expect("equal groups");
    assert_sums("sums", &out, [0.13, 1.322408]);

    let data = zeros(&[2, 2, 4, 2]);
    let call = [
        arg(&data),
        arg(&longs(&[2], &[2, 0])),
        arg(&noise(&[2, 2, 2, 2], 1)),
        Arg::Int(-2),
    ];
    run("aclnnInplaceScatterUpdate", &call).expect("two samples");
    assert_sums("updated", &data, [8.534998, 3.20143]);
    let call = [
        arg(&data),
        arg(&longs(&[2], &[3, 0])),
        arg(&noise(&[2, 2, 2, 2], 1)),
        Arg::Int(-2),
    ];
    assert!(run("aclnnInplaceScatterUpdate", &call).is_err());
}
