//! Caches, later attention and what goes with them, against values that PyTorch computed from the same numbers in f64.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

/// The scale, what is kept, how far rows see, two heads, the layout and the defaults of the rest.
fn attributes_of_attention(call: &mut Vec<Arg>, layout: &str) {
    call.extend([0.7, 1.0].map(Arg::Float));
    call.extend([100, 100, 2].map(Arg::Int));
    call.push(text(layout));
    call.extend([0, 0, 1].map(Arg::Int));
}

#[test]
fn a_sink_takes_its_share() {
    let (q, kv) = ([2, 2, 3, 4], [2, 1, 5, 4]);
    let (query, key, value, sink) = (noise(&q, 1), noise(&kv, 2), noise(&kv, 3), noise(&[2], 4));
    let (highest, sums, out) = (zeros(&[2, 2, 3, 8]), zeros(&[2, 2, 3, 8]), zeros(&q));
    let mut call = vec![arg(&query), arg(&key), arg(&value)];
    call.extend([null(), null(), null(), null(), arg(&sink)]);
    call.extend([Arg::Ints(None), Arg::Ints(None), Arg::Ints(None)]);
    attributes_of_attention(&mut call, "BNSD");
    call.extend([arg(&highest), arg(&sums), null(), arg(&out)]);
    run("aclnnFlashAttentionScoreV3", &call).expect("forward");
    assert_sums("out", &out, [-41.91701, 2.411589]);
    assert_sums("highest", &eighths(&highest), [46.27549, 6.08947]);
    assert_sums("sums", &eighths(&sums), [289.165975, 181.34619]);
    let dy = noise(&q, 5);
    let (dq, dk, dv, dsink) = (zeros(&q), zeros(&kv), zeros(&kv), zeros(&[2]));
    let mut call = vec![arg(&query), arg(&key), arg(&value), arg(&dy)];
    call.extend([null(), null(), null(), null(), arg(&highest), arg(&sums)]);
    call.extend([null(), arg(&out), arg(&sink)]);
    call.extend([Arg::Ints(None), Arg::Ints(None), Arg::Ints(None)]);
    attributes_of_attention(&mut call, "BNSD");
    call.extend([arg(&dq), arg(&dk), arg(&dv), null(), arg(&dsink)]);
    run("aclnnFlashAttentionScoreGradV3", &call).expect("backward");
    assert_sums("dq", &dq, [28.153171, 0.744996]);
    assert_sums("dk", &dk, [-6.562616, 1.110265]);
    assert_sums("dv", &dv, [67.464146, 3.844503]);
    assert_sums("dsink", &dsink, [-0.052567, 0.005336]);
}

#[test]
fn a_sink_among_packed_samples() {
    let (q, kv) = ([3, 2, 4], [5, 1, 4]);
    let (query, key, value, sink) = (noise(&q, 1), noise(&kv, 2), noise(&kv, 3), noise(&[2], 4));
    let (highest, sums, out) = (zeros(&[3, 2, 8]), zeros(&[3, 2, 8]), zeros(&q));
    let head = [arg(&query), null(), arg(&key), null(), arg(&value)];
    let attributes = |call: &mut Vec<Arg>| {
        call.extend([
            Arg::Ints(None),
            ints(&[2, 3]),
            ints(&[3, 5]),
            Arg::Ints(None),
            Arg::Ints(None),
        ]);
        attributes_of_attention(call, "TND");
        call.push(text("same_as_input"));
    };
    let mut call = head.to_vec();
    call.extend([null(), null(), null(), null(), arg(&sink)]);
    attributes(&mut call);
    call.extend([arg(&highest), arg(&sums), null(), arg(&out)]);
    run("aclnnFlashAttentionVarLenScoreV5", &call).expect("forward");
    assert_sums("out", &out, [-36.00121, 2.628279]);
    assert_sums("highest", &eighths(&highest), [11.535531, 3.356886]);
    assert_sums("sums", &eighths(&sums), [49.547748, 41.805985]);
    let dy = noise(&q, 5);
    let (dq, dk, dv, dsink) = (zeros(&q), zeros(&kv), zeros(&kv), zeros(&[2]));
    let mut call = head.to_vec();
    call.extend([
        arg(&dy),
        null(),
        null(),
        null(),
        null(),
        arg(&highest),
        arg(&sums),
    ]);
    call.extend([null(), arg(&out), arg(&sink)]);
    attributes(&mut call);
    call.extend([
        arg(&dq),
        null(),
        arg(&dk),
        null(),
        arg(&dv),
        null(),
        arg(&dsink),
    ]);
    run("aclnnFlashAttentionUnpaddingScoreGradV5", &call).expect("backward");
    assert_sums("dq", &dq, [-3.555562, 0.341717]);
    assert_sums("dk", &dk, [1.409122, 0.185593]);
    assert_sums("dv", &dv, [-5.189157, 1.649549]);
    assert_sums("dsink", &dsink, [0.855364, 0.151495]);
}

#[test]
fn parts_of_attention_become_one() {
    let lists = |first: i64, shape: &[usize]| -> Vec<Tensor> {
        (first..first + 3).map(|seed| noise(shape, seed)).collect()
    };
    let (sums, parts) = (lists(1, &[3]), lists(4, &[3, 8]));
    let (out, total) = (zeros(&[3, 8]), zeros(&[3]));
    let all = |tensors: &[Tensor]| list(&tensors.iter().collect::<Vec<_>>());
    let call = [all(&sums), all(&parts), Arg::Int(1), arg(&out), arg(&total)];
    run("aclnnAttentionUpdate", &call).expect("three parts");
    assert_sums("out", &out, [-16.254205, 2.717229]);
    assert_sums("total", &total, [6.308603, 3.429968]);

    let attention = [2, 2, 6];
    let repeat = |seed: i64, offset: f32| {
        let values = numbers(&[2, 2, 2], seed);
        let values: Vec<f32> = values
            .iter()
            .flat_map(|value| [value + offset; 8])
            .collect();
        floats(&[2, 2, 2, 8], &values)
    };
    let (out, highest, sum) = (
        zeros(&attention),
        zeros(&[2, 2, 2, 8]),
        zeros(&[2, 2, 2, 8]),
    );
    let mut call = vec![
        arg(&noise(&attention, 1)),
        arg(&repeat(3, 0.0)),
        arg(&repeat(5, 2.0)),
    ];
    call.extend([
        arg(&noise(&attention, 2)),
        arg(&repeat(4, 0.0)),
        arg(&repeat(6, 2.0)),
    ]);
    call.extend([
        null(),
        text("SBH"),
        text(""),
        arg(&out),
        arg(&highest),
        arg(&sum),
    ]);
    run("aclnnRingAttentionUpdateV2", &call).expect("two steps");
    assert_sums("out", &out, [-11.498036, 2.391085]);
    assert_sums("highest", &eighths(&highest), [3.576, 0.091736]);
    assert_sums("sum", &eighths(&sum), [100.006025, 65.104653]);
    call[7] = text("TND");
    assert!(run("aclnnRingAttentionUpdateV2", &call).is_err());
}

/// Latent keys and values of two samples, two rows each.
fn latent(index: &Tensor, caches: [&Tensor; 2], mode: &str, outputs: [&Tensor; 2]) -> Vec<Arg> {
    let mut call = vec![arg(&noise(&[2, 1, 2, 36], 1)), arg(&noise(&[32], 2))];
    call.extend([arg(&noise(&[2, 1, 2, 4], 3)), arg(&noise(&[2, 1, 2, 4], 4))]);
    call.extend([arg(index), arg(caches[0]), arg(caches[1])]);
    call.extend([null(), null(), null(), null(), Arg::Float(1e-5), text(mode)]);
    call.extend([Arg::Bool(true), arg(outputs[0]), arg(outputs[1])]);
    call
}

#[test]
fn latent_keys_go_into_caches() {
    let (raw_key, raw_latent) = (zeros(&[2, 1, 2, 4]), zeros(&[2, 1, 2, 32]));
    let (keys, latents) = (noise(&[2, 4, 1, 4], 5), noise(&[2, 4, 1, 32], 6));
    let index = longs(&[4], &[5, -1, 0, 3]);
    let call = latent(
        &index,
        [&keys, &latents],
        "PA_BNSD",
        [&raw_key, &raw_latent],
    );
    run("aclnnKvRmsNormRopeCache", &call).expect("pages");
    assert_sums("keys", &keys, [-64.750553, 11.656823]);
    assert_sums("latents", &latents, [-185.599267, 79.5783]);
    assert_sums("raw keys", &raw_key, [-18.241483, 2.152501]);
    assert_sums("raw latents", &raw_latent, [33.348617, 38.295214]);

    let (keys, latents) = (noise(&[2, 1, 3, 4], 5), noise(&[2, 1, 3, 32], 6));
    let index = longs(&[2, 2], &[2, 0, 1, -1]);
    let call = latent(&index, [&keys, &latents], "Norm", [&raw_key, &raw_latent]);
    run("aclnnKvRmsNormRopeCache", &call).expect("own parts");
    assert_sums("keys", &keys, [16.166477, 6.802848]);
    assert_sums("latents", &latents, [-503.092988, 60.386539]);

    let (keys, values) = (
        empty(DType::I8, &[2, 2, 2, 6]),
        empty(DType::I8, &[2, 2, 2, 5]),
    );
    let mut call = vec![arg(&noise(&[1, 2, 2, 6], 1)), arg(&noise(&[6], 2))];
    call.extend([arg(&noise(&[1, 2, 2, 4], 3)), arg(&noise(&[1, 2, 2, 4], 4))]);
    call.extend([arg(&longs(&[2], &[3, 0])), arg(&keys), arg(&values)]);
    call.extend([
        arg(&scaled(&[2, 6], 8, 50.0, 60.0)),
        arg(&scaled(&[2, 5], 9, 50.0, 60.0)),
    ]);
    call.extend([arg(&scaled(&[2, 6], 10, 5.0, 0.0)), null()]);
    call.extend([
        arg(&noise(&[1, 2, 2, 5], 7)),
        Arg::Float(1e-5),
        text("PA_BNSD"),
    ]);
    call.extend([Arg::Bool(false), null(), null()]);
    run("aclnnKvRmsNormRopeCacheV2", &call).expect("bytes");
    assert_sums("keys", &keys, [1044.0, 5008.0]);
    assert_sums("values", &values, [-2135.0, 25207.0]);
}

#[test]
fn joint_queries_keys_and_values() {
    let out = zeros(&[2, 256]);
    let caches = [
        empty(DType::I8, &[2, 4, 32, 32]),
        empty(DType::I8, &[2, 4, 32, 32]),
    ];
    let mut call = vec![
        arg(&noise(&[2, 512], 1)),
        arg(&noise(&[128], 2)),
        arg(&noise(&[128], 3)),
    ];
    call.extend([arg(&noise(&[2, 128], 4)), arg(&noise(&[2, 128], 5))]);
    call.extend([
        arg(&longs(&[2], &[33, 2])),
        arg(&out),
        arg(&caches[0]),
        arg(&caches[1]),
    ]);
    call.extend([
        arg(&scaled(&[1, 128], 6, 0.01, 0.03)),
        arg(&scaled(&[1, 128], 7, 0.01, 0.03)),
    ]);
    call.extend([null(), arg(&scaled(&[1, 128], 8, 3.0, 0.0))]);
    call.extend([
        ints(&[1, 2, 4, 128]),
        ints(&[2, 1, 1]),
        Arg::Float(1e-6),
        text("PA_NZ"),
    ]);
    call.extend([null(), null(), null()]);
    run("aclnnQkvRmsNormRopeCache", &call).expect("bytes in blocks");
    assert_sums("queries", &out, [-802.041791, 100.716986]);
    assert_sums("keys", &caches[0], [19846.0, 97761.0]);
    assert_sums("values", &caches[1], [-6549.0, 99510.0]);
}

#[test]
fn rows_go_to_slots_and_come_back() {
    // Two tokens of two heads of 16 halves: slot 3 is the second row of the second page.
    let key = tensor(DType::F16, &[2, 2, 16], &numbers(&[2, 2, 16], 1));
    for (mode, kind, shape) in [
        ("Norm", "None", vec![2, 2, 2, 16]),
        ("Norm", "NHSD", vec![2, 2, 2, 16]),
        ("PA_NZ", "None", vec![2, 2, 2, 16]),
    ] {
        let caches = [empty(DType::F16, &shape), empty(DType::F16, &shape)];
        let mut call = vec![arg(&key), arg(&caches[0]), arg(&longs(&[2], &[3, 0]))];
        call.extend([
            arg(&key),
            arg(&caches[1]),
            null(),
            null(),
            null(),
            text(mode),
            text(kind),
        ]);
        call.extend([Arg::Ints(None), Arg::Ints(None)]);
        run("aclnnScatterPaKvCache", &call).expect("two tokens");
        let (values, kept) = (key.load_vec::<f32>(), caches[1].load_vec::<f32>());
        // Page 1, row 1, head 1, column 5 holds token 0's.
        let at = match (mode, kind) {
            ("Norm", "None") => ((2 + 1) * 2 + 1) * 16 + 5,
            _ => ((2 + 1) * 2 + 1) * 16 + 5,
        };
        assert_eq!(kept[at], values[16 + 5], "{mode} {kind}");
        // Page 0, row 0, head 1 holds token 1's: where it lies differs.
        let at = if (mode, kind) == ("Norm", "None") {
            16
        } else {
            32
        };
        assert_eq!(kept[at], values[32 + 16], "{mode} {kind}");
        if kind == "NHSD" {
            continue;
        }
        let joint: &[usize] = if mode == "Norm" {
            &[3, 2, 16]
        } else {
            &[3, 32]
        };
        let outputs = [empty(DType::F16, joint), empty(DType::F16, joint)];
        let table = tensor(DType::I32, &[2, 1], &[1i64, 0]);
        let lengths = tensor(DType::I32, &[2], &[2i64, 1]);
        let call = [
            arg(&caches[0]),
            arg(&caches[1]),
            arg(&table),
            arg(&lengths),
            arg(&outputs[0]),
            arg(&outputs[1]),
            null(),
            text(mode),
            Arg::Bool(false),
        ];
        run("aclnnGatherPaKvCache", &call).expect("three rows");
        let rows = outputs[0].load_vec::<f32>();
        assert_eq!(rows[..32], [0.0; 32]);
        assert_eq!(rows[32..64], values[..32]);
        assert_eq!(rows[64..], values[32..]);
    }
}

#[test]
fn rotations_by_matrix_and_by_table() {
    let out = zeros(&[2, 3, 2, 4]);
    let mut call = vec![arg(&noise(&[2, 3, 2, 4], 1)), arg(&noise(&[1, 3, 1, 4], 2))];
    call.extend([
        arg(&noise(&[1, 3, 1, 4], 3)),
        Arg::Int(1),
        arg(&noise(&[4, 4], 4)),
        arg(&out),
    ]);
    run("aclnnRotaryPositionEmbeddingV2", &call).expect("a matrix");
    assert_sums("by matrix", &out, [-25.60657, 9.190259]);
    let out = zeros(&[3, 2, 4]);
    let mut call = vec![arg(&noise(&[3, 2, 4], 1)), arg(&noise(&[3, 1, 4], 2))];
    call.extend([arg(&noise(&[3, 1, 4], 3)), Arg::Int(0), null(), arg(&out)]);
    run("aclnnRotaryPositionEmbeddingV2", &call).expect("tokens");
    assert_sums("tokens", &out, [-35.327622, 3.819445]);

    let (q, k) = (noise(&[2, 32], 2), noise(&[2, 16], 3));
    let (q_out, k_out) = (zeros(&[2, 32]), zeros(&[2, 16]));
    let turn = |positions: Tensor, table: Tensor, sections: &[i64], neox: bool, mixed: i64| {
        let mut call = vec![
            arg(&positions),
            arg(&q),
            arg(&k),
            arg(&table),
            ints(sections),
        ];
        call.extend([
            Arg::Int(16),
            Arg::Bool(neox),
            Arg::Int(mixed),
            arg(&q_out),
            arg(&k_out),
        ]);
        run("aclnnRopeWithSinCosCacheV2", &call)
    };
    let table = noise(&[5, 12], 1);
    let narrow: Vec<f32> = table
        .load_vec::<f32>()
        .chunks(12)
        .flat_map(|line| line[..8].to_vec())
        .collect();
    let three = longs(&[3, 2], &[1, 0, 3, 2, 0, 4]);
    turn(three.clone(), table, &[2, 2, 2], true, 1).expect("lines that take turns");
    assert_sums("queries", &q_out, [-52.001201, 9.782799]);
    assert_sums("keys", &k_out, [-6.665524, 5.76055]);
    let four = longs(&[4, 2], &[1, 0, 3, 2, 0, 4, 2, 1]);
    let narrow = floats(&[5, 8], &narrow);
    turn(four, narrow.clone(), &[1, 1, 1, 1], false, 0).expect("four lines");
    assert_sums("queries", &q_out, [-266.547161, 15.568134]);
    assert_sums("keys", &k_out, [31.464666, 8.07964]);
    assert!(turn(three, narrow, &[1, 1, 1, 1], false, 0).is_err());
}

#[test]
fn the_keys_that_matter() {
    let out = empty(DType::I32, &[2, 2, 1, 4]);
    let mut call = vec![
        arg(&noise(&[2, 2, 2, 128], 1)),
        arg(&noise(&[2, 5, 1, 128], 2)),
    ];
    call.extend([
        arg(&noise(&[2, 2, 2], 3)),
        arg(&longs(&[2], &[2, 1])),
        arg(&longs(&[2], &[5, 3])),
    ]);
    call.extend([null(), text("BSND"), text("BSND"), Arg::Int(4), Arg::Int(3)]);
    call.extend([
        Arg::Int(i64::MAX),
        Arg::Int(i64::MAX),
        Arg::Bool(false),
        arg(&out),
        null(),
    ]);
    run("aclnnLightningIndexer", &call).expect("two samples");
    let wanted = [0, 1, 2, 3, 0, 2, 3, 1, 2, 1, 0, -1, -1, -1, -1, -1];
    assert_eq!(out.load_vec::<i64>(), wanted);

    let (out, highest, sums) = (zeros(&[3, 2, 8]), zeros(&[1, 3, 2]), zeros(&[1, 3, 2]));
    let list = tensor(DType::I32, &[3, 1, 3], &[0i64, 1, -1, 1, 0, -1, 0, 1, -1]);
    let mut call = vec![arg(&noise(&[3, 2, 8], 1)), arg(&noise(&[4, 2, 1, 8], 3))];
    call.extend([arg(&noise(&[4, 2, 1, 8], 4)), arg(&list)]);
    call.push(arg(&tensor(DType::I32, &[2, 2], &[2i64, 0, 3, 1])));
    call.extend([arg(&longs(&[2], &[2, 3])), arg(&longs(&[2], &[4, 3]))]);
    call.extend([arg(&noise(&[3, 2, 4], 2)), arg(&noise(&[4, 2, 1, 4], 5))]);
    call.extend([
        Arg::Float(0.5),
        Arg::Int(2),
        text("TND"),
        text("PA_BSND"),
        Arg::Int(3),
    ]);
    call.extend([
        Arg::Int(i64::MAX),
        Arg::Int(i64::MAX),
        Arg::Int(2),
        Arg::Bool(true),
    ]);
    call.extend([arg(&out), arg(&highest), arg(&sums)]);
    run("aclnnSparseFlashAttention", &call).expect("pages");
    assert_sums("out", &out, [93.529932, 2.681548]);
    assert_sums("highest", &highest, [11.144012, 3.689447]);
    assert_sums("sums", &sums, [50.218377, 34.519671]);
}
