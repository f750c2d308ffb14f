//! Losses that compare two tensors element by element, and their gradients.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{Reduction, expect_broadcast, load_broadcast};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMseLoss", mse as Prepare),
    ("aclnnMseLossOut", mse as Prepare),
    ("aclnnMseLossBackward", mse_backward as Prepare),
    ("aclnnL1Loss", l1 as Prepare),
    ("aclnnL1LossBackward", l1_backward as Prepare),
    ("aclnnSmoothL1Loss", smooth_l1 as Prepare),
    ("aclnnSmoothL1LossBackward", smooth_l1_backward as Prepare),
    ("aclnnSoftMarginLoss", soft_margin as Prepare),
    (
        "aclnnSoftMarginLossBackward",
        soft_margin_backward as Prepare,
    ),
    ("aclnnBinaryCrossEntropy", bce as Prepare),
    ("aclnnBinaryCrossEntropyBackward", bce_backward as Prepare),
    ("aclnnBinaryCrossEntropyWithLogits", logits as Prepare),
    (
        "aclnnBinaryCrossEntropyWithLogitsBackward",
        logits_backward as Prepare,
    ),
    (
        "aclnnBinaryCrossEntropyWithLogitsTargetBackward",
        logits_target_backward as Prepare,
    ),
    ("aclnnKlDiv", kl_div as Prepare),
    ("aclnnKlDivBackward", kl_div_backward as Prepare),
    (
        "aclnnKlDivTargetBackward",
        kl_div_target_backward as Prepare,
    ),
];

/// Operands that broadcast against each other; an absent one counts as 1.
type Operands<const N: usize> = [Option<Tensor>; N];

fn common_shape<const N: usize>(
    call: &Call,
    operands: &Operands<N>,
) -> Result<Vec<usize>, Refusal> {
    let shapes: Vec<&[usize]> = operands.iter().flatten().map(Tensor::shape).collect();
    call.broadcast(&shapes)
}

/// f of each element's operands, in row-major order of `shape`.
fn elements<const N: usize>(
    operands: &Operands<N>,
    shape: &[usize],
    f: impl Fn([f32; N]) -> f32,
) -> Vec<f32> {
    let columns: Vec<Option<Vec<f32>>> = operands
        .iter()
        .map(|operand| operand.as_ref().map(|tensor| load_broadcast(tensor, shape)))
        .collect();
    (0..super::common::volume(shape))
        .map(|at| {
            let mut row = [1f32; N];
            for (value, column) in row.iter_mut().zip(&columns) {
                if let Some(column) = column {
                    *value = column[at];
                }
            }
            f(row)
        })
        .collect()
}

/// Stores f of each element, or its sum divided by `count` (1 for a plain sum).
fn forward<const N: usize>(
    call: &Call,
    operands: Operands<N>,
    divisor: Option<f64>,
    out: Tensor,
    f: impl Fn([f32; N]) -> f32 + Send + 'static,
) -> Result<Work, Refusal> {
    let shape = common_shape(call, &operands)?;
    match divisor {
        None => call.expect_shape("out", &out, &shape)?,
        Some(_) if out.count() == 1 && out.rank() <= 1 => {}
        Some(_) => call.expect_shape("out", &out, &[])?,
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let values = elements(&operands, &shape, &f);
        match divisor {
            None => out.store_slice(&values),
            Some(divisor) => {
                let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
                out.store_slice(&[sum / divisor])
            }
        }
    }))
}

/// What a sum is divided by: nothing where there is no sum, the number of elements for the mean.
fn divisor<const N: usize>(
    call: &Call,
    operands: &Operands<N>,
    reduction: Reduction,
) -> Result<Option<f64>, Refusal> {
    let count = super::common::volume(&common_shape(call, operands)?);
    Ok(match reduction {
        Reduction::None => None,
        Reduction::Sum => Some(1.0),
        Reduction::Mean => Some(count as f64),
    })
}

/// Stores `grad * f(...)`, divided by the number of elements for the mean; the gradient is the first operand.
fn backward<const N: usize>(
    call: &Call,
    operands: Operands<N>,
    reduction: Reduction,
    out: Tensor,
    f: impl Fn([f32; N]) -> f32 + Send + 'static,
) -> Result<Work, Refusal> {
    let shape = common_shape(call, &operands)?;
    call.expect_shape("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let scale = match reduction {
        Reduction::Mean => 1.0 / out.count() as f32,
        _ => 1.0,
    };
    Ok(Work::new(move || {
        out.store_slice(&elements(&operands, &shape, |row| f(row) * scale))
    }))
}

fn pair(call: &Call) -> Result<Operands<2>, Refusal> {
    Ok([Some(call.tensor(0)?), Some(call.tensor(1)?)])
}

fn triple(call: &Call) -> Result<Operands<3>, Refusal> {
    Ok([
        Some(call.tensor(0)?),
        Some(call.tensor(1)?),
        Some(call.tensor(2)?),
    ])
}

/// `self, target, reduction, out`.
fn simple(call: &Call, f: impl Fn([f32; 2]) -> f32 + Send + 'static) -> Result<Work, Refusal> {
    let operands = pair(call)?;
    let divisor = divisor(call, &operands, Reduction::of(call, 2)?)?;
    forward(call, operands, divisor, call.tensor(call.count() - 1)?, f)
}

/// `gradOutput, self, target, reduction, out`.
fn simple_backward(
    call: &Call,
    f: impl Fn([f32; 3]) -> f32 + Send + 'static,
) -> Result<Work, Refusal> {
    let reduction = Reduction::of(call, 3)?;
    backward(
        call,
        triple(call)?,
        reduction,
        call.tensor(call.count() - 1)?,
        f,
    )
}

/// (x − t)².
fn mse(call: &Call) -> Result<Work, Refusal> {
    simple(call, |[x, t]| (x - t) * (x - t))
}

fn mse_backward(call: &Call) -> Result<Work, Refusal> {
    simple_backward(call, |[g, x, t]| g * 2.0 * (x - t))
}

/// |x − t|.
fn l1(call: &Call) -> Result<Work, Refusal> {
    simple(call, |[x, t]| (x - t).abs())
}

fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

fn l1_backward(call: &Call) -> Result<Work, Refusal> {
    simple_backward(call, |[g, x, t]| g * sign(x - t))
}

fn beta_of(call: &Call, index: usize) -> Result<f32, Refusal> {
    let beta = call.float(index)? as f32;
    if beta >= 0.0 {
        return Ok(beta);
    }
    Err(call.invalid(format!("beta is {beta}, wanted at least 0")))
}

/// d²/(2β) where d = |x − t| < β, else d − β/2.
fn smooth_l1(call: &Call) -> Result<Work, Refusal> {
    let beta = beta_of(call, 3)?;
    simple(call, move |[x, t]| {
        let d = (x - t).abs();
        if d < beta {
            0.5 * d * d / beta
        } else {
            d - 0.5 * beta
        }
    })
}

fn smooth_l1_backward(call: &Call) -> Result<Work, Refusal> {
    let beta = beta_of(call, 4)?;
    simple_backward(call, move |[g, x, t]| {
        let d = x - t;
        g * if d.abs() < beta { d / beta } else { sign(d) }
    })
}

/// ln(1 + e^(−t x)).
fn soft_margin(call: &Call) -> Result<Work, Refusal> {
    simple(call, |[x, t]| softplus(-t * x))
}

fn soft_margin_backward(call: &Call) -> Result<Work, Refusal> {
    simple_backward(call, |[g, x, t]| -g * t * sigmoid(-t * x))
}

/// −w (t ln x + (1 − t) ln(1 − x)), logarithms not below −100.
fn bce(call: &Call) -> Result<Work, Refusal> {
    let operands = [
        Some(call.tensor(0)?),
        Some(call.tensor(1)?),
        call.optional_tensor(2),
    ];
    expect_same(call, &operands)?;
    let divisor = divisor(call, &operands, Reduction::of(call, 3)?)?;
    forward(call, operands, divisor, call.tensor(4)?, |[x, t, w]| {
        let (yes, no) = (clipped_logarithm(x), clipped_logarithm(1.0 - x));
        -w * (t * yes + (1.0 - t) * no)
    })
}

fn clipped_logarithm(x: f32) -> f32 {
    let value = x.ln();
    if value < -100.0 { -100.0 } else { value }
}

/// Refuses a target of another shape than the input's, and weights that do not broadcast to it.
fn expect_same<const N: usize>(call: &Call, operands: &Operands<N>) -> Result<(), Refusal> {
    let [Some(x), Some(target), weights @ ..] = operands.as_slice() else {
        return Ok(());
    };
    call.expect_shape("target", target, x.shape())?;
    weights
        .iter()
        .flatten()
        .try_for_each(|weight| expect_broadcast(call, "weight", weight, x.shape()))
}

fn bce_backward(call: &Call) -> Result<Work, Refusal> {
    let operands = [
        Some(call.tensor(0)?),
        Some(call.tensor(1)?),
        Some(call.tensor(2)?),
        call.optional_tensor(3),
    ];
    let reduction = Reduction::of(call, 4)?;
    backward(
        call,
        operands,
        reduction,
        call.tensor(5)?,
        |[g, x, t, w]| g * w * (x - t) / ((1.0 - x) * x).max(1e-12),
    )
}

/// ln(1 + e^x) without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// −w (p t ln σ(x) + (1 − t) ln(1 − σ(x))).
fn logits(call: &Call) -> Result<Work, Refusal> {
    let operands = [
        Some(call.tensor(0)?),
        Some(call.tensor(1)?),
        call.optional_tensor(2),
        call.optional_tensor(3),
    ];
    expect_same(call, &operands)?;
    let divisor = divisor(call, &operands, Reduction::of(call, 4)?)?;
    forward(call, operands, divisor, call.tensor(5)?, |[x, t, w, p]| {
        w * (p * t * softplus(-x) + (1.0 - t) * softplus(x))
    })
}

fn logits_operands(call: &Call) -> Result<Operands<5>, Refusal> {
    let operands = [
        Some(call.tensor(1)?),
        Some(call.tensor(2)?),
        call.optional_tensor(3),
        call.optional_tensor(4),
    ];
    expect_same(call, &operands)?;
    let [x, t, w, p] = operands;
    Ok([Some(call.tensor(0)?), x, t, w, p])
}

fn logits_backward(call: &Call) -> Result<Work, Refusal> {
    let reduction = Reduction::of(call, 5)?;
    let out = call.tensor(6)?;
    backward(
        call,
        logits_operands(call)?,
        reduction,
        out,
        |[g, x, t, w, p]| g * w * ((p * t + 1.0 - t) * sigmoid(x) - p * t),
    )
}

fn logits_target_backward(call: &Call) -> Result<Work, Refusal> {
    let reduction = Reduction::of(call, 5)?;
    let out = call.tensor(6)?;
    backward(
        call,
        logits_operands(call)?,
        reduction,
        out,
        |[g, x, _, w, p]| g * w * (p * softplus(-x) - softplus(x)),
    )
}

/// t (ln t − x), which is NaN where t ≤ 0; e^t (t − x) for a target of logarithms. Reduction 3 divides the sum by dim 0.
fn kl_div(call: &Call) -> Result<Work, Refusal> {
    let operands = pair(call)?;
    let divisor = if call.int(2)? == 3 {
        let rows = operands[0]
            .as_ref()
            .and_then(|x| x.shape().first().copied());
        Some(rows.unwrap_or(1) as f64)
    } else {
        divisor(call, &operands, Reduction::of(call, 2)?)?
    };
    let logarithmic = call.bool(3)?;
    forward(call, operands, divisor, call.tensor(4)?, move |[x, t]| {
        if logarithmic {
            t.exp() * (t - x)
        } else {
            t * (t.ln() - x)
        }
    })
}

fn kl_div_backward(call: &Call) -> Result<Work, Refusal> {
    let (reduction, logarithmic) = (Reduction::of(call, 3)?, call.bool(4)?);
    backward(
        call,
        triple(call)?,
        reduction,
        call.tensor(5)?,
        move |[g, _, t]| match (logarithmic, t > 0.0) {
            (true, _) => -g * t.exp(),
            (false, true) => -g * t,
            (false, false) => 0.0,
        },
    )
}

fn kl_div_target_backward(call: &Call) -> Result<Work, Refusal> {
    let (reduction, logarithmic) = (Reduction::of(call, 3)?, call.bool(4)?);
    backward(
        call,
        triple(call)?,
        reduction,
        call.tensor(5)?,
        move |[g, x, t]| match (logarithmic, t > 0.0) {
            (true, _) => g * t.exp() * (t + 1.0 - x),
            (false, true) => g * (t.ln() + 1.0 - x),
            (false, false) => 0.0,
        },
    )
}
