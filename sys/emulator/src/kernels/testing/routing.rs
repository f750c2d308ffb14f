//! Routing to experts and what language models do around it, against values of PyTorch and some worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;

#[test]
fn experts_are_chosen_by_groups() {
    let x = floats(&[1, 6], &[0.5, -1., 2., 0., 1.5, 0.2]);
    let bias = floats(&[6], &[0., 0.5, 0., 1., 0., 0.]);
    let (y, experts, all) = (
        empty(DType::F32, &[1, 2]),
        empty(DType::I32, &[1, 2]),
        empty(DType::F32, &[1, 6]),
    );
    let call = |bias: Arg, groups: i64, sigmoid: i64, factor: f64| {
        vec![
            arg(&x),
            bias,
            Arg::Int(2),
            Arg::Int(1),
            Arg::Int(groups),
            Arg::Int(1),
            Arg::Int(0),
            Arg::Int(sigmoid),
            Arg::Bool(true),
            Arg::Float(factor),
            Arg::Float(1e-20),
            arg(&y),
            arg(&experts),
            arg(&all),
        ]
    };
    run("aclnnMoeGatingTopK", &call(arg(&bias), 2, 1, 2.5)).expect("two groups");
    assert_close(&y, &[0.948713, 1.55129], 1e-5);
    assert_eq!(experts.load_vec::<i64>(), [3, 4]);
    let scores = [0.622459, 0.268941, 0.880797, 0.5, 0.817574, 0.549834];
    assert_close(&all, &scores, 1e-5);
    run("aclnnMoeGatingTopK", &call(null(), 1, 0, 1.0)).expect("one group");
    assert_close(&y, &[0.458698, 0.278215], 1e-5);
    assert_eq!(experts.load_vec::<i64>(), [2, 4]);
}

#[test]
fn tokens_go_to_a_range_of_experts() {
    let x = floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    let experts = tensor(DType::I32, &[3, 2], &[2i64, 0, 1, 2, 0, 1]);
    let (y, places) = (empty(DType::F32, &[6, 2]), empty(DType::I32, &[6]));
    let (counts, scales) = (empty(DType::I64, &[2]), empty(DType::F32, &[6]));
    let call = |range: Arg, counting: i64, kind: i64, counts: &Tensor| {
        vec![
            arg(&x),
            arg(&experts),
            null(),
            null(),
            Arg::Int(0),
            Arg::Int(0),
            Arg::Int(3),
            Arg::Int(0),
            Arg::Int(counting),
            Arg::Bool(true),
            Arg::Int(-1),
            range,
            Arg::Int(kind),
            arg(&y),
            arg(&places),
            arg(counts),
            arg(&scales),
        ]
    };
    // Slots 2 and 5 go to expert 1, slots 0 and 3 to expert 2.
    run("aclnnMoeInitRoutingV3", &call(ints(&[1, 3]), 1, 0, &counts)).expect("experts 1 and 2");
    assert_close(&y, &[3., 4., 5., 6., 1., 2., 3., 4., 0., 0., 0., 0.], 0.0);
    assert_eq!(places.load_vec::<i64>(), [2, -1, 0, 3, -1, 1]);
    assert_eq!(counts.load_vec::<i64>(), [2, 2]);
    run("aclnnMoeInitRoutingV3", &call(ints(&[1, 3]), 0, 1, &counts))
        .expect("places the other way");
    assert_eq!(places.load_vec::<i64>(), [2, 5, 0, 3, -1, -1]);
    assert_eq!(counts.load_vec::<i64>(), [2, 4]);
    let pairs = empty(DType::I64, &[3, 2]);
    run("aclnnMoeInitRoutingV3", &call(ints(&[1, 3]), 2, 1, &pairs)).expect("pairs");
    assert_eq!(pairs.load_vec::<i64>(), [1, 2, 2, 2, 0, 0]);

    let grads = floats(&[6, 1], &[1., 2., 4., 8., 16., 32.]);
    let places = tensor(DType::I32, &[6], &[2i64, -1, 0, 3, 5, 1]);
    let back = empty(DType::F32, &[3, 1]);
    let call = [
        arg(&grads),
        arg(&places),
        Arg::Int(2),
        Arg::Int(0),
        Arg::Int(0),
        arg(&back),
    ];
    run("aclnnMoeInitRoutingV2Grad", &call).expect("sums");
    assert_close(&back, &[4., 9., 34.], 0.0);
    let sorted = tensor(DType::I32, &[5], &[0i64, 0, 2, 2, 3]);
    let ends = empty(DType::I32, &[4]);
    let call = [arg(&sorted), Arg::Int(4), arg(&ends)];
    run("aclnnMoeComputeExpertTokens", &call).expect("ends");
    assert_eq!(ends.load_vec::<i64>(), [2, 2, 4, 5]);
}

#[test]
fn rows_are_quantised_by_their_largest_value() {
    let x = floats(&[2, 2], &[1., -4., 254., 127.]);
    let experts = tensor(DType::I32, &[2, 1], &[1i64, 0]);
    let (y, places) = (empty(DType::I8, &[2, 2]), empty(DType::I32, &[2]));
    let (counts, scales) = (empty(DType::I64, &[2]), empty(DType::F32, &[2]));
    let call = vec![
        arg(&x),
        arg(&experts),
        null(),
        null(),
        Arg::Int(0),
        Arg::Int(0),
        Arg::Int(2),
        Arg::Int(0),
        Arg::Int(1),
        Arg::Bool(true),
        Arg::Int(1),
        Arg::Ints(None),
        Arg::Int(0),
        arg(&y),
        arg(&places),
        arg(&counts),
        arg(&scales),
    ];
    run("aclnnMoeInitRoutingV3", &call).expect("a quantised order");
    // 127 / 2 rounds to the even 64; 1 / (4 / 127) is 31.75.
    assert_eq!(y.load_vec::<i64>(), [127, 64, 32, -127]);
    assert_close(&scales, &[2., 4. / 127.], 1e-6);
}

#[test]
fn gradients_of_a_finished_routing() {
    let grad = floats(&[2, 2], &[1., 2., 3., 4.]);
    let places = tensor(DType::I32, &[4], &[1i64, 3, 0, 2]);
    let expanded = floats(&[4, 2], &[1., 0., 0., 1., 2., 2., 1., 1.]);
    let scales = floats(&[2, 2], &[0.5, 2., 1., 10.]);
    let (dx, ds) = (empty(DType::F32, &[4, 2]), empty(DType::F32, &[2, 2]));
    let call = [
        arg(&grad),
        arg(&places),
        arg(&expanded),
        arg(&scales),
        null(),
        null(),
        Arg::Int(0),
        Arg::Int(0),
        Arg::Int(0),
        Arg::Int(0),
        arg(&dx),
        arg(&ds),
    ];
    run("aclnnMoeFinalizeRoutingV2Grad", &call).expect("gradients");
    assert_close(&dx, &[3., 4., 0.5, 1., 30., 40., 2., 4.], 0.0);
    assert_close(&ds, &[2., 3., 3., 14.], 0.0);
}

#[test]
fn a_map_of_routes_orders_tokens() {
    let x = floats(&[3, 1], &[1., 2., 3.]);
    let map = tensor(
        DType::Bool,
        &[3, 2],
        &[false, true, true, false, true, false],
    );
    let probs = floats(&[3, 2], &[0.1, 0.9, 0.8, 0.2, 0.7, 0.3]);
    let (y, p, sorted) = (
        empty(DType::F32, &[3, 1]),
        empty(DType::F32, &[3]),
        empty(DType::I32, &[3]),
    );
    let call = [
        arg(&x),
        arg(&map),
        arg(&probs),
        Arg::Int(3),
        Arg::Bool(false),
        arg(&y),
        arg(&p),
        arg(&sorted),
    ];
    run("aclnnMoeTokenPermuteWithRoutingMap", &call).expect("an order");
    assert_close(&y, &[2., 3., 1.], 0.0);
    assert_close(&p, &[0.8, 0.7, 0.9], 1e-6);
    assert_eq!(sorted.load_vec::<i64>(), [2, 0, 1]);
    let back = empty(DType::F32, &[3, 1]);
    let none = empty(DType::I32, &[3]);
    let call = [
        arg(&y),
        arg(&sorted),
        arg(&map),
        arg(&probs),
        Arg::Bool(false),
        Arg::Ints(None),
        arg(&back),
        arg(&none),
        arg(&none),
        arg(&p),
    ];
    run("aclnnMoeTokenUnpermuteWithRoutingMap", &call).expect("back");
    assert_close(&back, &[0.9, 1.6, 2.1], 1e-6);
}

/// Two tokens, their weights, gammas, angles and slots.
fn latent_operands() -> Vec<Arg> {
    let (x, down_query, up_query) = (
        floats(&[2, 4], &[1., -0.25, 0.75, -0.25, 1., 0.75, -0.75, -0.5]),
        floats(&[4, 2], &[0.5, -0.75, -0.75, -0.25, 1., 1., -1., 0.5]),
        floats(
            &[2, 12],
            &[
                0.5, 0.5, 0.25, 0., -0.25, 0.5, 0.5, -1., 1., 0.75, -0.75, -0.25, -0.5, -0.25, -1.,
                0.25, 1., -0.25, 0.75, -1., 0., 0.25, 0.25, 0.,
            ],
        ),
    );
    let (up_key, down_key) = (
        floats(
            &[2, 2, 3],
            &[
                -0.75, 0.25, -1., -0.5, 0.25, 0.75, -0.5, 0.25, 0.75, -0.75, -0.25, 1.,
            ],
        ),
        floats(
            &[4, 7],
            &[
                1., 1., 0.25, 1., 0.75, -0.5, 1., 0.75, -0.25, -0.25, 0.75, 1., 0.25, 0.25, 0.75,
                0.5, -0.25, -0.25, 0.75, -0.75, -0.75, -0.75, 0.5, 1., 0.5, -0.75, 0.25, 0.5,
            ],
        ),
    );
    let (gamma_query, gamma_key) = (floats(&[2], &[1., 1.75]), floats(&[3], &[2., 0.5, 0.75]));
    let (cos, sin) = (
        floats(
            &[2, 4],
            &[
                0.984375, 0.96875, 0.984375, 0.96875, 0.9375, 0.84375, 0.9375, 0.84375,
            ],
        ),
        floats(
            &[2, 4],
            &[
                0.140625, 0.21875, 0.140625, 0.21875, 0.34375, 0.53125, 0.34375, 0.53125,
            ],
        ),
    );
    let index = longs(&[2], &[3, 1]);
    [
        &x,
        &down_query,
        &up_query,
        &up_key,
        &down_key,
        &gamma_query,
        &gamma_key,
        &sin,
        &cos,
        &index,
    ]
    .map(arg)
    .to_vec()
}

#[test]
fn latent_queries_and_keys() {
    let (kept, turned) = (
        empty(DType::F32, &[2, 2, 1, 3]),
        empty(DType::F32, &[2, 2, 1, 4]),
    );
    let (query, around) = (empty(DType::F32, &[2, 2, 3]), empty(DType::F32, &[2, 2, 4]));
    let mut call = latent_operands();
    call.extend([arg(&kept), arg(&turned)]);
    call.extend((0..7).map(|_| null()));
    call.extend([
        Arg::Float(1e-5),
        Arg::Float(1e-6),
        text("PA_BSND"),
        arg(&query),
        arg(&around),
    ]);
    run("aclnnMlaProlog", &call).expect("a prolog");
    assert_close(
        &query,
        &[
            -0.929074, 0.370485, -0.20528, 0.67227, 0.48989, -0.8432, -1.0809, 0.40182, -0.73538,
            -1.02883, -1.15339, 1.20968,
        ],
        1e-5,
    );
    assert_close(
        &around,
        &[
            0.441177, -0.590588, 0.0400234, 0.609398, 1.24533, -0.971705, 1.21956, -0.579138,
            2.44778, -2.27871, 0.247883, -0.84771, 0.0569128, -0.402788, -0.80839, -0.187276,
        ],
        1e-5,
    );
    assert_close(
        &kept,
        &[
            0., 0., 0., 3.37796, 0.115158, -0.230315, 0., 0., 0., 2.64752, 0.555978, -0.0794255,
        ],
        1e-5,
    );
    assert_close(
        &turned,
        &[
            0., 0., 0., 0., 0.955078, -0.691406, 1.74609, 1.33203, 0., 0., 0., 0., 0.316406,
            -1.20508, 1.30078, -0.0175781,
        ],
        1e-5,
    );
    let before = turned.load_vec::<f32>();
    // The same weight in its blocks: seven columns of four rows.
    let Some(Arg::Tensor(Some(weight))) = call.get(4) else {
        panic!("a weight");
    };
    let values = weight.load_vec::<f32>();
    let columns: Vec<f32> = (0..7)
        .flat_map(|at| values.iter().skip(at).step_by(7).copied())
        .collect();
    call[4] = arg(&floats(&[7, 1, 4, 1], &columns));
    turned.fill(0.0f32).expect("zeros");
    run("aclnnMlaProlog", &call).expect("a prolog");
    assert_eq!(turned.load_vec::<f32>(), before);
}

#[test]
fn gradients_of_grouped_weights_add_up() {
    let x = floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    let weight = floats(&[3, 1], &[1., 10., 100.]);
    let y = floats(&[4, 1], &[0.5, 0., 0., 0.]);
    let ends = longs(&[2], &[1, 3]);
    let call = |turned: bool| {
        [
            arg(&x),
            arg(&weight),
            arg(&ends),
            arg(&y),
            Arg::Bool(turned),
            Arg::Bool(false),
            Arg::Int(2),
        ]
    };
    run("aclnnGroupedMatmulAdd", &call(true)).expect("sums");
    assert_close(&y, &[1.5, 2., 530., 640.], 0.0);
    assert!(run("aclnnGroupedMatmulAdd", &call(false)).is_err());
}
