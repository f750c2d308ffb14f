//! Calls: what each op of the list is in this crate.
//!
//! Knows the public methods. Must not know the clock.

use std::hint::black_box;

use ascend_tensor::ops::attention::AttentionOptions;
use ascend_tensor::{
    AdamOptions, AdamState, BackwardOptions, Conv2dOptions, LayerNormOptions, MaxPool2dOptions,
    ReduceOptions, Result, RmsNormOptions, Tensor, TopkOptions, VarOptions,
};

use crate::dsmini;
use crate::measure::Call;
use crate::workload::{Workload, dtype_of};

/// The call of a workload; `None` for an op that is not there.
pub fn prepare(workload: &Workload) -> Result<Option<Call>> {
    match workload.op.as_str() {
        "adamw" => return adamw(workload).map(Some),
        "dsmini_train_step" => return dsmini::prepare(workload).map(Some),
        _ => {}
    }
    let x = workload.tensors()?;
    let Some(mut forward) = forward(workload, x.clone())? else {
        return Ok(None);
    };
    if !workload.grad {
        return Ok(Some(Box::new(move || {
            black_box(forward()?);
            Ok(())
        })));
    }
    let seed = Tensor::rand(*forward()?.shape(), ())?.mul(2.0)?.sub(1.0)?;
    Ok(Some(Box::new(move || {
        let gradients = forward()?.backward_with(BackwardOptions::new().gradient(&seed))?;
        black_box(gradients);
        Ok(())
    })))
}

type Forward = Box<dyn FnMut() -> Result<Tensor>>;

fn boxed(call: impl FnMut() -> Result<Tensor> + 'static) -> Result<Option<Forward>> {
    Ok(Some(Box::new(call)))
}

fn forward(w: &Workload, x: Vec<Tensor>) -> Result<Option<Forward>> {
    let dim = w.int("dim");
    match w.op.as_str() {
        "matmul" => boxed(move || x[0].matmul(&x[1])),
        "linear" => boxed(move || x[0].linear(&x[1], None)),
        "add" => boxed(move || x[0].add(&x[1])),
        "mul" => boxed(move || x[0].mul(&x[1])),
        "chain_add" => {
            let n = w.size("n");
            boxed(move || (0..n).try_fold(x[0].clone(), |y, _| y.add(&x[1])))
        }
        "exp" => boxed(move || x[0].exp()),
        "gelu" => boxed(move || x[0].gelu(())),
        "silu" => boxed(move || x[0].silu()),
        "tanh" => boxed(move || x[0].tanh()),
        "sigmoid" => boxed(move || x[0].sigmoid()),
        "where" => boxed(move || x[0].where_cond(&x[1], &x[2])),
        "cast" => {
            let to = dtype_of(w.text("to"));
            boxed(move || x[0].to_dtype(to))
        }
        "dropout" => {
            let p = w.float("p");
            boxed(move || x[0].dropout(p, ()))
        }
        "randn" => {
            let shape: Vec<usize> = w.ints("shape").iter().map(|size| *size as usize).collect();
            boxed(move || Tensor::randn(shape.clone(), ()))
        }
        "sum" | "mean" | "max" | "argmax" | "var" | "cumsum" | "softmax" | "log_softmax" => {
            along(w, x, dim)
        }
        "layer_norm" | "rms_norm" | "cross_entropy" => norms(w, x),
        "conv2d" => {
            let options = [w.size("stride"), w.size("padding"), w.size("groups")];
            let [stride, padding, groups] = options;
            boxed(move || {
                let options = Conv2dOptions::new().stride(stride).padding(padding);
                x[0].conv2d(&x[1], options.groups(groups))
            })
        }
        "max_pool2d" => {
            let options = MaxPool2dOptions::new(w.size("kernel")).stride(w.size("stride"));
            let options = options.padding(w.size("padding"));
            boxed(move || x[0].max_pool2d(options))
        }
        "sdpa" | "rope" => attention(w, x),
        _ => indexed(w, x, dim.unwrap_or(0)),
    }
}

/// Reductions, scans and softmax.
fn along(w: &Workload, x: Vec<Tensor>, dim: Option<i64>) -> Result<Option<Forward>> {
    let options = move || match dim {
        Some(dim) => ReduceOptions::new().dim(dim),
        None => ReduceOptions::new(),
    };
    let along = dim.unwrap_or(0);
    let correction = w.int("correction").unwrap_or(1) as f64;
    match w.op.as_str() {
        "sum" => boxed(move || x[0].sum(options())),
        "mean" => boxed(move || x[0].mean(options())),
        "max" => boxed(move || x[0].amax(options())),
        "argmax" => boxed(move || x[0].argmax(along)),
        "var" => boxed(move || x[0].var(VarOptions::new().dim(along).correction(correction))),
        "cumsum" => boxed(move || x[0].cumsum(along)),
        "softmax" => boxed(move || x[0].softmax(along)),
        _ => boxed(move || x[0].log_softmax(along)),
    }
}

fn norms(w: &Workload, x: Vec<Tensor>) -> Result<Option<Forward>> {
    let epsilon = w.float("eps");
    match w.op.as_str() {
        "layer_norm" => boxed(move || {
            let options = LayerNormOptions::new(*x[1].shape());
            x[0].layer_norm(options.weight(&x[1]).bias(&x[2]).epsilon(epsilon))
        }),
        "rms_norm" => boxed(move || {
            let options = RmsNormOptions::new(*x[1].shape());
            x[0].rms_norm(options.weight(&x[1]).epsilon(epsilon))
        }),
        _ => boxed(move || x[0].cross_entropy(&x[1], ())),
    }
}

/// Attention, and its positions: the tables of the list serve both halves of a row.
fn attention(w: &Workload, x: Vec<Tensor>) -> Result<Option<Forward>> {
    if w.op == "rope" {
        return boxed(move || x[0].rotary_embedding(&x[1], &x[2], ()));
    }
    let options = AttentionOptions::new();
    let options = if w.flag("causal") {
        options.causal()
    } else {
        options
    };
    boxed(move || x[0].scaled_dot_product_attention(&x[1], &x[2], options))
}

/// Ops that pick, move and order elements.
fn indexed(w: &Workload, x: Vec<Tensor>, dim: i64) -> Result<Option<Forward>> {
    match w.op.as_str() {
        "embedding" => boxed(move || x[0].embedding(&x[1], ())),
        "index_select" => boxed(move || x[0].index_select(dim, &x[1])),
        "gather" => boxed(move || x[0].gather(dim, &x[1])),
        "scatter_add" => boxed(move || x[0].scatter_add(dim, &x[1], &x[2])),
        "cat" => boxed(move || Tensor::cat(&x.iter().collect::<Vec<_>>(), dim)),
        "permute_copy" => {
            let order = w.ints("perm");
            boxed(move || x[0].permute(order.clone())?.contiguous())
        }
        "topk" => {
            let k = w.size("k");
            boxed(move || x[0].topk(k, TopkOptions::new()).map(|(values, _)| values))
        }
        "sort" => boxed(move || x[0].sort(dim).map(|(values, _)| values)),
        _ => Ok(None),
    }
}

/// One AdamW step in place.
fn adamw(w: &Workload) -> Result<Call> {
    let x = w.tensors()?;
    let (mut param, gradient) = (x[0].clone(), x[1].clone());
    let mut state = AdamState {
        exp_avg: x[2].clone(),
        exp_avg_sq: x[3].abs()?,
        max_exp_avg_sq: None,
    };
    let options = AdamOptions::new()
        .lr(w.float("lr"))
        .betas([w.float("beta1"), w.float("beta2")])
        .eps(w.float("eps"))
        .weight_decay(w.float("weight_decay"));
    drop(x);
    let mut step = 0;
    Ok(Box::new(move || {
        step += 1;
        param.adamw_step_(&gradient, &mut state, step, options)
    }))
}
