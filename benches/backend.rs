//! The CPU backend under criterion: dispatch, kernels by family, and a train step.
//!
//! Knows which calls are watched. The calls themselves are those of `examples/bench`, which compares with other libraries.

#[path = "../examples/bench/calls.rs"]
mod calls;
#[path = "../examples/bench/dsmini.rs"]
mod dsmini;
#[allow(dead_code, reason = "criterion has its own clock")]
#[path = "../examples/bench/measure.rs"]
mod measure;
#[allow(dead_code, reason = "the list is written here")]
#[path = "../examples/bench/workload.rs"]
mod workload;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

/// A workload of f32 inputs.
fn floats(id: &str, op: &str, shapes: &[&[usize]], attributes: Value) -> Value {
    let inputs: Vec<Value> = shapes
        .iter()
        .map(|shape| json!({"shape": shape, "dtype": "f32"}))
        .collect();
    json!({"id": id, "group": "", "op": op, "inputs": inputs, "attrs": attributes, "grad": false})
}

/// Runs the workloads of a group; one whose call cannot be prepared is named and left out.
fn run(criterion: &mut Criterion, group: &str, workloads: &[Value]) {
    let mut group = criterion.benchmark_group(group);
    group.sample_size(20);
    for workload in workload::parse(workloads) {
        match calls::prepare(&workload) {
            Ok(Some(mut call)) => {
                group.bench_function(&workload.id, |bencher| bencher.iter(&mut call));
            }
            Ok(None) => eprintln!("{}: no such op", workload.id),
            Err(error) => eprintln!("{}: {error}", workload.id),
        }
    }
    group.finish();
}

fn dispatch(criterion: &mut Criterion) {
    let tiny: &[&[usize]] = &[&[2], &[2]];
    let list = [
        floats("add_2", "add", tiny, json!({})),
        floats("mul_1k", "mul", &[&[1024], &[1024]], json!({})),
        floats(
            "chain_add_100x16",
            "chain_add",
            &[&[16], &[16]],
            json!({"n": 100}),
        ),
    ];
    run(criterion, "dispatch", &list);
}

fn kernels(criterion: &mut Criterion) {
    let square: &[usize] = &[1024, 1024];
    let elementwise = [
        floats("add", "add", &[square, square], json!({})),
        floats("exp", "exp", &[square], json!({})),
        floats("gelu", "gelu", &[square], json!({})),
        floats("tanh", "tanh", &[square], json!({})),
    ];
    run(criterion, "elementwise", &elementwise);
    let reduce = [
        floats("sum_all", "sum", &[square], json!({})),
        floats("sum_last", "sum", &[square], json!({"dim": 1})),
        floats("sum_first", "sum", &[square], json!({"dim": 0})),
        floats("argmax_last", "argmax", &[square], json!({"dim": 1})),
    ];
    run(criterion, "reduce", &reduce);
    let norm = [
        floats("softmax_last", "softmax", &[square], json!({"dim": 1})),
        floats("softmax_first", "softmax", &[square], json!({"dim": 0})),
        floats(
            "rms_norm",
            "rms_norm",
            &[square, &[1024]],
            json!({"eps": 1e-6}),
        ),
    ];
    run(criterion, "norm", &norm);
    let linear = [floats(
        "matmul",
        "matmul",
        &[&[512, 512], &[512, 512]],
        json!({}),
    )];
    run(criterion, "linear", &linear);
    let random = [
        floats("randn", "randn", &[], json!({"shape": [1 << 20]})),
        floats("dropout", "dropout", &[square], json!({"p": 0.1})),
    ];
    run(criterion, "random", &random);
}

/// Families whose kernels have loops of their own.
fn more_kernels(criterion: &mut Criterion) {
    let square: &[usize] = &[1024, 1024];
    let order = [
        floats("sort_last", "sort", &[square], json!({"dim": 1})),
        floats("topk", "topk", &[square], json!({"dim": 1, "k": 50})),
        floats("cumsum_last", "cumsum", &[square], json!({"dim": 1})),
    ];
    run(criterion, "order", &order);
    let rows = json!({"shape": [1024], "dtype": "i64", "high": 1024});
    let table = json!({"shape": square, "dtype": "f32"});
    let index = [
        json!({"id": "index_select", "group": "", "op": "index_select", "inputs": [table, rows],
            "attrs": {"dim": 0}, "grad": false}),
        json!({"id": "embedding", "group": "", "op": "embedding", "inputs": [table, rows], "attrs": {}, "grad": false}),
        floats("cat", "cat", &[square, square], json!({"dim": 1})),
        floats(
            "transpose",
            "permute_copy",
            &[square],
            json!({"perm": [1, 0]}),
        ),
    ];
    run(criterion, "index", &index);
    let image: &[usize] = &[4, 32, 56, 56];
    let plain = json!({"stride": 1, "padding": 1, "groups": 1});
    let pool = json!({"kernel": 3, "stride": 2, "padding": 1});
    let conv = [
        floats("conv2d_3x3", "conv2d", &[image, &[32, 32, 3, 3]], plain),
        floats("max_pool2d", "max_pool2d", &[image], pool),
    ];
    run(criterion, "conv", &conv);
    let heads: &[usize] = &[2, 8, 256, 64];
    let attention = [floats(
        "causal",
        "sdpa",
        &[heads, heads, heads],
        json!({"causal": true}),
    )];
    run(criterion, "attention", &attention);
}

fn train(criterion: &mut Criterion) {
    let sizes = json!({
        "vocab": 512, "d_model": 128, "layers": 2, "heads": 4, "kv_lora_rank": 32, "nope_dim": 16, "rope_dim": 8,
        "v_dim": 16, "dense_hidden": 256, "experts": 4, "top_k": 2, "expert_hidden": 64, "batch": 4, "seq": 64,
        "lr": 3e-4, "weight_decay": 0.01, "rope_theta": 10000.0, "norm_eps": 1e-6
    });
    let step = floats("small_transformer", "dsmini_train_step", &[], sizes);
    run(criterion, "train", &[step]);
}

criterion_group!(benches, dispatch, kernels, more_kernels, train);
criterion_main!(benches);
