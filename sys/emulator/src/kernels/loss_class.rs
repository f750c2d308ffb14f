//! Losses of class labels: negative log likelihood and cross entropy, and their gradients.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory. A label out of range is a device exception.

use super::common::{Lanes, Reduction, checked_index};
use super::softmax::soften;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnNLLLoss", nll as Prepare),
    ("aclnnNLLLoss2d", nll as Prepare),
    ("aclnnNLLLossBackward", nll_backward as Prepare),
    ("aclnnNLLLoss2dBackward", nll_backward as Prepare),
    ("aclnnCrossEntropyLoss", cross_entropy as Prepare),
    ("aclnnCrossEntropyLossGrad", cross_entropy_grad as Prepare),
    (
        "aclnnSoftmaxCrossEntropyWithLogits",
        cross_entropy_of_shares as Prepare,
    ),
    ("aclnnMultilabelMarginLoss", multilabel_margin as Prepare),
];

/// Per row: loss = -Σ label log softmax(x), backprop = softmax(x) - label.
fn cross_entropy_of_shares(call: &Call) -> Result<Work, Refusal> {
    let (x, labels) = (call.tensor(0)?, call.tensor(1)?);
    let (loss, gradient) = (call.tensor(2)?, call.tensor(3)?);
    let &[rows, classes] = x.shape() else {
        return Err(call.invalid(format!("features has shape {:?}, wanted 2 dims", x.shape())));
    };
    call.expect_shape("labels", &labels, x.shape())?;
    call.expect_shape("loss", &loss, &[rows])?;
    call.expect_shape("backprop", &gradient, x.shape())?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (x, labels) = (x.load_vec::<f32>(), labels.load_vec::<f32>());
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (x, labels) in x.chunks(classes).zip(labels.chunks(classes)) {
            let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let log = x.iter().map(|x| (x - highest).exp()).sum::<f32>().ln();
            let shares = x.iter().zip(labels);
            losses.push(
                shares
                    .clone()
                    .map(|(x, label)| -label * (x - highest - log))
                    .sum::<f32>(),
            );
            gradients.extend(shares.map(|(x, label)| (x - highest - log).exp() - label));
        }
        loss.store_slice(&losses)?;
        gradient.store_slice(&gradients)
    }))
}

/// Σ max(0, 1 − x[label] + x[other]) / C over the labels before the first −1 and all classes that are not among them.
fn multilabel_margin(call: &Call) -> Result<Work, Refusal> {
    let (x, target) = (call.tensor(0)?, call.tensor(1)?);
    let reduction = Reduction::of(call, 2)?;
    let (out, flags) = (call.tensor(3)?, call.tensor(4)?);
    call.expect_shape("target", &target, x.shape())?;
    call.expect_shape("isTarget", &flags, x.shape())?;
    let (batch, classes) = match *x.shape() {
        [batch, classes] => (Some(batch), classes),
        [] => (None, 1),
        [classes] => (None, classes),
        ref shape => return Err(call.invalid(format!("self has shape {shape:?}"))),
    };
    let wanted = if reduction == Reduction::None {
        batch
    } else {
        None
    };
    call.expect_shape("out", &out, &wanted.map_or(vec![], |batch| vec![batch]))?;
    if x.is_empty() {
        return Err(call.invalid(format!("self has shape {:?}, which is empty", x.shape())));
    }
    Ok(Work::new(move || {
        let (x, target) = (x.load_vec::<f32>(), target.load_vec::<i64>());
        let mut losses = Vec::new();
        let mut marks = vec![0f32; x.len()];
        let rows = x.chunks(classes).zip(target.chunks(classes));
        for ((x, target), marks) in rows.zip(marks.chunks_mut(classes)) {
            let mut labels = Vec::new();
            for &label in target.iter().take_while(|&&label| label >= 0) {
                let label = checked_index("MultilabelMarginLoss", label, classes)?;
                marks[label] = 1.0;
                labels.push(label);
            }
            let mut loss = 0f32;
            for &label in &labels {
                for other in (0..classes).filter(|&other| marks[other] == 0.0) {
                    loss += (1.0 - x[label] + x[other]).max(0.0);
                }
            }
            losses.push(loss / classes as f32);
        }
        flags.store_slice(&marks)?;
        let total: f32 = losses.iter().sum();
        match reduction {
            Reduction::None => out.store_slice(&losses),
            Reduction::Sum => out.store_slice(&[total]),
            Reduction::Mean => out.store_slice(&[total / losses.len() as f32]),
        }
    }))
}

/// Labels and weights of classes.
#[derive(Debug, Clone)]
struct Labels {
    op: &'static str,
    target: Tensor,
    weight: Option<Tensor>,
    lanes: Lanes,
    ignore: i64,
}

impl Labels {
    /// Classes lie along dim 1, or dim 0 of a vector; labels have the other dims.
    fn new(
        call: &Call,
        x: &Tensor,
        target: Tensor,
        weight: Option<Tensor>,
        ignore: i64,
    ) -> Result<Labels, Refusal> {
        let axis = usize::from(x.rank() > 1);
        if x.rank() == 0 {
            return Err(call.invalid("the input is a scalar"));
        }
        let lanes = Lanes::new(x.shape(), axis);
        let wanted: Vec<usize> = [&x.shape()[..axis], &x.shape()[axis + 1..]].concat();
        let single = x.rank() == 1 && target.count() == 1 && target.rank() <= 1;
        if !single {
            call.expect_shape("target", &target, &wanted)?;
        }
        if let Some(weight) = &weight {
            call.expect_shape("weight", weight, &[lanes.length])?;
        }
        Ok(Labels {
            op: call.name(),
            target,
            weight,
            lanes,
            ignore,
        })
    }

    fn weights(&self) -> Vec<f32> {
        self.weight
            .as_ref()
            .map_or_else(|| vec![1.0; self.lanes.length], |weight| weight.load_vec())
    }

    /// Class of each position; `None` where it is ignored.
    fn classes(&self) -> Result<Vec<Option<usize>>, Fault> {
        self.target
            .load_vec::<i64>()
            .into_iter()
            .map(|label| {
                if label == self.ignore {
                    return Ok(None);
                }
                checked_index(self.op, label, self.lanes.length).map(Some)
            })
            .collect()
    }

    fn total(&self, classes: &[Option<usize>], weights: &[f32]) -> f64 {
        let used = classes.iter().flatten();
        used.map(|&class| f64::from(weights[class])).sum()
    }

    /// The element of class `class` at a position.
    fn at(&self, position: usize, class: usize) -> usize {
        let (outer, inner) = (position / self.lanes.inner, position % self.lanes.inner);
        (outer * self.lanes.length + class) * self.lanes.inner + inner
    }
}

/// Refuses an output that is not one value, or one per position for no reduction.
fn expect_loss(
    call: &Call,
    out: &Tensor,
    target: &Tensor,
    reduction: Reduction,
) -> Result<(), Refusal> {
    if reduction == Reduction::None {
        return call.expect_shape("out", out, target.shape());
    }
    if out.count() == 1 && out.rank() <= 1 {
        return Ok(());
    }
    call.expect_shape("out", out, &[1])
}

/// −w[t] x[t]; the mean divides by the sum of the used weights, which is also an output.
fn nll(call: &Call) -> Result<Work, Refusal> {
    let (x, target, weight) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let reduction = Reduction::of(call, 3)?;
    let (out, total_out) = (call.tensor(5)?, call.tensor(6)?);
    let labels = Labels::new(call, &x, target, weight, call.int(4)?)?;
    expect_loss(call, &out, &labels.target, reduction)?;
    if total_out.count() != 1 {
        return Err(call.invalid(format!(
            "totalWeightOut has shape {:?}, wanted [1]",
            total_out.shape()
        )));
    }
    Ok(Work::new(move || {
        let (values, weights) = (x.load_vec::<f32>(), labels.weights());
        let classes = labels.classes()?;
        let losses: Vec<f32> = classes
            .iter()
            .enumerate()
            .map(|(position, class)| match class {
                Some(class) => -weights[*class] * values[labels.at(position, *class)],
                None => 0.0,
            })
            .collect();
        let total = labels.total(&classes, &weights);
        let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        match reduction {
            Reduction::None => {
                out.store_slice(&losses)?;
                return total_out.store_slice(&[0f64]);
            }
            Reduction::Mean => out.store_slice(&[sum / total])?,
            Reduction::Sum => out.store_slice(&[sum])?,
        }
        total_out.store_slice(&[total])
    }))
}

fn nll_backward(call: &Call) -> Result<Work, Refusal> {
    let (grad, x) = (call.tensor(0)?, call.tensor(1)?);
    let (target, weight) = (call.tensor(2)?, call.optional_tensor(3));
    let reduction = Reduction::of(call, 4)?;
    let (total, out) = (call.tensor(6)?, call.tensor(7)?);
    let labels = Labels::new(call, &x, target, weight, call.int(5)?)?;
    expect_loss(call, &grad, &labels.target, reduction)?;
    call.expect_shape("out", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (grads, weights) = (grad.load_vec::<f32>(), labels.weights());
        let divisor = match reduction {
            Reduction::Mean => total.load_one::<f32>(),
            _ => 1.0,
        };
        let mut dx = vec![0f32; out.count()];
        for (position, class) in labels.classes()?.into_iter().enumerate() {
            if let Some(class) = class {
                let g = if grads.len() == 1 {
                    grads[0]
                } else {
                    grads[position]
                };
                dx[labels.at(position, class)] = -weights[class] * g / divisor;
            }
        }
        out.store_slice(&dx)
    }))
}

/// The smoothing factor, between 0 and 1.
fn smoothing_of(call: &Call, index: usize) -> Result<f32, Refusal> {
    let value = call.float(index)?;
    if (0.0..1.0).contains(&value) {
        return Ok(value as f32);
    }
    Err(call.invalid(format!("labelSmoothing is {value}, wanted [0, 1)")))
}

/// Log-softmax of `input`, then −(1 − e) w[t] lp[t] − e/C Σ w lp. The logarithms are an output, for the gradient.
fn cross_entropy(call: &Call) -> Result<Work, Refusal> {
    let (x, target, weight) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let reduction = Reduction::of_text(call, 3)?;
    let smoothing = smoothing_of(call, 5)?;
    if call.bool(7)? {
        return Err(call.invalid("returnZloss is true, which is not supported yet"));
    }
    if x.rank() != 2 {
        return Err(call.invalid(format!("input has shape {:?}, wanted 2 dims", x.shape())));
    }
    let (out, logarithms) = (call.tensor(8)?, call.tensor(9)?);
    let labels = Labels::new(call, &x, target, weight, call.int(4)?)?;
    expect_loss(call, &out, &labels.target, reduction)?;
    call.expect_shape("logProbOut", &logarithms, x.shape())?;
    Ok(Work::new(move || {
        let width = labels.lanes.length;
        let weights = labels.weights();
        let mut values = x.load_vec::<f32>();
        values
            .chunks_exact_mut(width.max(1))
            .for_each(|row| soften(row, true));
        let classes = labels.classes()?;
        let losses: Vec<f32> = classes
            .iter()
            .zip(values.chunks_exact(width.max(1)))
            .map(|(class, row)| {
                let Some(class) = class else { return 0.0 };
                let smooth = if smoothing > 0.0 {
                    let sum: f32 = row.iter().zip(&weights).map(|(lp, w)| lp * w).sum();
                    sum * smoothing / width as f32
                } else {
                    0.0
                };
                -(1.0 - smoothing) * weights[*class] * row[*class] - smooth
            })
            .collect();
        logarithms.store_slice(&values)?;
        let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        match reduction {
            Reduction::None => out.store_slice(&losses),
            Reduction::Mean => out.store_slice(&[sum / labels.total(&classes, &weights)]),
            Reduction::Sum => out.store_slice(&[sum]),
        }
    }))
}

/// dx = d(lp) − e^lp Σ d(lp), d(lp) being the gradient to the logarithms.
fn cross_entropy_grad(call: &Call) -> Result<Work, Refusal> {
    let (grad, logarithms, target) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let weight = call.optional_tensor(3);
    if call.optional_tensor(4).is_some() {
        return Err(call.invalid("gradZloss is given, which is not supported yet"));
    }
    let reduction = Reduction::of_text(call, 6)?;
    let smoothing = smoothing_of(call, 8)?;
    let out = call.tensor(10)?;
    if logarithms.rank() != 2 {
        return Err(call.invalid(format!(
            "logProb has shape {:?}, wanted 2 dims",
            logarithms.shape()
        )));
    }
    let labels = Labels::new(call, &logarithms, target, weight, call.int(7)?)?;
    expect_loss(call, &grad, &labels.target, reduction)?;
    call.expect_shape("out", &out, logarithms.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let width = labels.lanes.length;
        let (grads, weights) = (grad.load_vec::<f32>(), labels.weights());
        let classes = labels.classes()?;
        let divisor = match reduction {
            Reduction::Mean => labels.total(&classes, &weights) as f32,
            _ => 1.0,
        };
        let mut values = logarithms.load_vec::<f32>();
        for (position, row) in values.chunks_exact_mut(width).enumerate() {
            let Some(class) = classes[position] else {
                row.fill(0.0);
                continue;
            };
            let g = if grads.len() == 1 {
                grads[0]
            } else {
                grads[position]
            } / divisor;
            let share = smoothing / width as f32;
            let to_logarithm = |index: usize| {
                let hard = if index == class {
                    (1.0 - smoothing) * weights[index]
                } else {
                    0.0
                };
                -g * (hard + share * weights[index])
            };
            let sum: f32 = (0..width).map(to_logarithm).sum();
            for (index, value) in row.iter_mut().enumerate() {
                *value = to_logarithm(index) - value.exp() * sum;
            }
        }
        out.store_slice(&values)
    }))
}
