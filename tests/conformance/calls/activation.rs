//! The ops of the family `activation`.

use ascend_tensor::ops::activation::{GeluApproximation, SoftplusOptions};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("gelu", gelu),
    ("relu", |args| one(args.tensor(0)?.relu())),
    ("hardsigmoid", |args| one(args.tensor(0)?.hardsigmoid())),
    ("hardswish", |args| one(args.tensor(0)?.hardswish())),
    ("logsigmoid", |args| one(args.tensor(0)?.logsigmoid())),
    ("mish", |args| one(args.tensor(0)?.mish())),
    ("relu6", |args| one(args.tensor(0)?.relu6())),
    ("selu", |args| one(args.tensor(0)?.selu())),
    ("softsign", |args| one(args.tensor(0)?.softsign())),
    ("tanhshrink", |args| one(args.tensor(0)?.tanhshrink())),
    ("celu", |args| {
        one(args.tensor(0)?.celu(args.float("alpha").unwrap_or(1.0)))
    }),
    ("elu", |args| {
        one(args.tensor(0)?.elu(args.float("alpha").unwrap_or(1.0)))
    }),
    ("glu", |args| {
        one(args.tensor(0)?.glu(args.int("dim").unwrap_or(-1)))
    }),
    ("hardshrink", |args| {
        one(args
            .tensor(0)?
            .hardshrink(args.float("lambd").unwrap_or(0.5)))
    }),
    ("hardtanh", |args| {
        let (low, high) = (
            args.float("min_val").unwrap_or(-1.0),
            args.float("max_val").unwrap_or(1.0),
        );
        one(args.tensor(0)?.hardtanh(low..=high))
    }),
    ("leaky_relu", |args| {
        one(args
            .tensor(0)?
            .leaky_relu(args.float("negative_slope").unwrap_or(0.01)))
    }),
    ("prelu", |args| one(args.tensor(0)?.prelu(args.tensor(1)?))),
    ("softplus", softplus),
    ("softshrink", |args| {
        one(args
            .tensor(0)?
            .softshrink(args.float("lambd").unwrap_or(0.5)))
    }),
    ("swiglu", |args| {
        one(args.tensor(0)?.swiglu(args.int("dim").unwrap_or(-1)))
    }),
    ("threshold", |args| {
        let need = |name| args.scalar(name).ok_or_else(|| bad(name, "required"));
        one(args
            .tensor(0)?
            .threshold(need("threshold")?, need("value")?))
    }),
    ("silu", |args| one(args.tensor(0)?.silu())),
];

fn gelu(args: &Args) -> Result<Vec<Tensor>> {
    let approximate = match args.text("approximate") {
        None | Some("none") => GeluApproximation::None,
        Some("tanh") => GeluApproximation::Tanh,
        Some(other) => return Err(bad("approximate", other)),
    };
    one(args.tensor(0)?.gelu(approximate))
}

fn softplus(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = SoftplusOptions::new();
    if let Some(beta) = args.float("beta") {
        options = options.beta(beta);
    }
    if let Some(threshold) = args.float("threshold") {
        options = options.threshold(threshold);
    }
    one(args.tensor(0)?.softplus(options))
}
