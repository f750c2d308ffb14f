//! The ops of the family `update`.

use ascend_tensor::ops::update::{AdamOptions, AdamState, ClipOptions, SgdOptions};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad};

pub const CALLS: &[(&str, Call)] = &[
    ("sgd_step", sgd_step),
    ("adam_step", adam_step),
    ("adamw_step", adamw_step),
    ("clip_grad_norm", clip_grad_norm),
];

fn sgd_step(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = SgdOptions::new(args.float("lr").ok_or_else(|| bad("lr", "required"))?)
        .momentum(args.float("momentum").unwrap_or(0.0))
        .dampening(args.float("dampening").unwrap_or(0.0))
        .weight_decay(args.float("weight_decay").unwrap_or(0.0));
    if args.bool("nesterov") {
        options = options.nesterov();
    }
    if args.bool("maximize") {
        options = options.maximize();
    }
    let (param, buffer) = args
        .tensor(0)?
        .sgd_step(args.tensor(1)?, args.optional(2), options)?;
    Ok([param].into_iter().chain(buffer).collect())
}

fn adam_options(args: &Args) -> AdamOptions {
    let mut options = AdamOptions::new()
        .lr(args.float("lr").unwrap_or(1e-3))
        .eps(args.float("eps").unwrap_or(1e-8));
    if let Some([first, second]) = args.floats("betas").as_deref() {
        options = options.betas([*first, *second]);
    }
    if let Some(decay) = args.float("weight_decay") {
        options = options.weight_decay(decay);
    }
    if args.bool("maximize") {
        options.maximize()
    } else {
        options
    }
}

fn state(args: &Args) -> Result<AdamState> {
    let max_exp_avg_sq = args.optional(4).filter(|_| args.bool("amsgrad")).cloned();
    if args.bool("amsgrad") && max_exp_avg_sq.is_none() {
        return Err(bad("amsgrad", "needs max_exp_avg_sq"));
    }
    Ok(AdamState {
        exp_avg: args.tensor(2)?.clone(),
        exp_avg_sq: args.tensor(3)?.clone(),
        max_exp_avg_sq,
    })
}

fn listed((param, state): (Tensor, AdamState)) -> Vec<Tensor> {
    [param, state.exp_avg, state.exp_avg_sq]
        .into_iter()
        .chain(state.max_exp_avg_sq)
        .collect()
}

fn adam_step(args: &Args) -> Result<Vec<Tensor>> {
    let step = args.need_int("step")?;
    args.tensor(0)?
        .adam_step(args.tensor(1)?, &state(args)?, step, adam_options(args))
        .map(listed)
}

fn adamw_step(args: &Args) -> Result<Vec<Tensor>> {
    let step = args.need_int("step")?;
    args.tensor(0)?
        .adamw_step(args.tensor(1)?, &state(args)?, step, adam_options(args))
        .map(listed)
}

fn clip_grad_norm(args: &Args) -> Result<Vec<Tensor>> {
    let max_norm = args
        .float("max_norm")
        .ok_or_else(|| bad("max_norm", "required"))?;
    let norm_type = match args.text("norm_type") {
        Some("inf") => f64::INFINITY,
        _ => args.float("norm_type").unwrap_or(2.0),
    };
    let (norm, clipped) = Tensor::clip_grad_norm(
        &args.list(0),
        ClipOptions::new(max_norm).norm_type(norm_type),
    )?;
    Ok([norm].into_iter().chain(clipped).collect())
}
