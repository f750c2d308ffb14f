//! The ops of the family `norm`.

use ascend_tensor::ops::norm::{
    AffineOptions, BatchNormOptions, LayerNormOptions, NormalizeOptions, RmsNormOptions,
    SoftmaxOptions,
};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("batch_norm", batch_norm),
    ("cosine_similarity", |args| {
        one(args
            .tensor(0)?
            .cosine_similarity(args.tensor(1)?, normalize(args)))
    }),
    ("group_norm", |args| {
        one(args
            .tensor(0)?
            .group_norm(args.need_int("num_groups")?, affine(args)))
    }),
    ("instance_norm", |args| {
        one(args.tensor(0)?.instance_norm(affine(args)))
    }),
    ("layer_norm", layer_norm),
    ("log_softmax", |args| {
        one(args.tensor(0)?.log_softmax(softmax(args)?))
    }),
    ("normalize", |args| {
        one(args.tensor(0)?.normalize(normalize(args)))
    }),
    ("rms_norm", rms_norm),
    ("softmax", |args| {
        one(args.tensor(0)?.softmax(softmax(args)?))
    }),
];

/// `dim` and `dtype` of a softmax.
fn softmax(args: &Args) -> Result<SoftmaxOptions> {
    let options = SoftmaxOptions::new(args.need_int("dim")?);
    Ok(args
        .dtype("dtype")?
        .map_or(options, |dtype| options.dtype(dtype)))
}

fn layer_norm(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = LayerNormOptions::new(args.shape("normalized_shape")?);
    if let Some(weight) = args.optional(1) {
        options = options.weight(weight);
    }
    if let Some(bias) = args.optional(2) {
        options = options.bias(bias);
    }
    if let Some(epsilon) = args.float("eps") {
        options = options.epsilon(epsilon);
    }
    one(args.tensor(0)?.layer_norm(options))
}

fn rms_norm(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = RmsNormOptions::new(args.shape("normalized_shape")?);
    if let Some(weight) = args.optional(1) {
        options = options.weight(weight);
    }
    if let Some(epsilon) = args.float("eps") {
        options = options.epsilon(epsilon);
    }
    one(args.tensor(0)?.rms_norm(options))
}

/// Weight, bias and `eps`.
fn affine<'a>(args: &Args<'a>) -> AffineOptions<'a> {
    let mut options = AffineOptions::new();
    if let Some(weight) = args.optional(1) {
        options = options.weight(weight);
    }
    if let Some(bias) = args.optional(2) {
        options = options.bias(bias);
    }
    args.float("eps")
        .map_or(options, |epsilon| options.epsilon(epsilon))
}

fn batch_norm(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = BatchNormOptions::new();
    match (args.optional(1), args.optional(2)) {
        (Some(mean), Some(variance)) => options = options.running(mean, variance),
        (None, None) => {}
        _ => {
            return Err(bad(
                "running_mean",
                "one running statistic without the other",
            ));
        }
    }
    if let Some(weight) = args.optional(3) {
        options = options.weight(weight);
    }
    if let Some(bias) = args.optional(4) {
        options = options.bias(bias);
    }
    if args.bool("training") {
        options = options.training();
    }
    if let Some(momentum) = args.float("momentum") {
        options = options.momentum(momentum);
    }
    if let Some(epsilon) = args.float("eps") {
        options = options.epsilon(epsilon);
    }
    let normalized = args.tensor(0)?.batch_norm(options)?;
    Ok(std::iter::once(normalized.output)
        .chain(
            normalized
                .running
                .into_iter()
                .flat_map(|(mean, variance)| [mean, variance]),
        )
        .collect())
}

/// `p`, `dim` and `eps`.
fn normalize(args: &Args) -> NormalizeOptions {
    let options = NormalizeOptions::new()
        .dim(args.int("dim").unwrap_or(1))
        .power(args.float("p").unwrap_or(2.0));
    args.float("eps")
        .map_or(options, |epsilon| options.epsilon(epsilon))
}
