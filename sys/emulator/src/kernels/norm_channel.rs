//! Normalisation per channel or group of channels: batch norm, group norm, and their gradients.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{Lanes, size_of, volume};
use super::norm::{masked_output, moments};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnBatchNorm", batch_norm as Prepare),
    ("aclnnBatchNormBackward", batch_norm_backward as Prepare),
    ("aclnnFastBatchNormBackward", batch_norm_backward as Prepare),
    ("aclnnGroupNorm", group_norm as Prepare),
    ("aclnnGroupNormSilu", group_norm_silu as Prepare),
    ("aclnnGroupNormSiluV2", group_norm_silu as Prepare),
    ("aclnnGroupNormSwish", group_norm_swish as Prepare),
    ("aclnnGroupNormBackward", group_norm_backward as Prepare),
    ("aclnnGroupNormSwishGrad", group_norm_swish_grad as Prepare),
];

/// The channel axis: 1, or the last where the format says so (NHWC, NDHWC).
pub(super) fn channels(call: &Call, x: &Tensor) -> Result<Lanes, Refusal> {
    if x.rank() < 2 {
        return Err(call.invalid(format!(
            "input has shape {:?}, wanted 2 to 8 dims",
            x.shape()
        )));
    }
    let axis = if matches!(x.format(), 1 | 27) {
        x.rank() - 1
    } else {
        1
    };
    Ok(Lanes::new(x.shape(), axis))
}

/// Positions of the elements of one channel.
pub(super) fn positions(lanes: Lanes, channel: usize) -> impl Iterator<Item = usize> {
    let block = lanes.length * lanes.inner;
    (0..lanes.outer).flat_map(move |outer| {
        let start = outer * block + channel * lanes.inner;
        start..start + lanes.inner
    })
}

/// An optional operand of one value per channel.
pub(super) fn per_channel(
    call: &Call,
    what: &str,
    index: usize,
    lanes: Lanes,
) -> Result<Option<Tensor>, Refusal> {
    let tensor = call.optional_tensor(index);
    if let Some(tensor) = &tensor {
        call.expect_shape(what, tensor, &[lanes.length])?;
    }
    Ok(tensor)
}

pub(super) fn values_or(tensor: &Option<Tensor>, count: usize, otherwise: f32) -> Vec<f32> {
    tensor
        .as_ref()
        .map_or_else(|| vec![otherwise; count], |tensor| tensor.load_vec())
}

/// The operands of a batch norm.
struct Batch {
    x: Tensor,
    lanes: Lanes,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    running: (Option<Tensor>, Option<Tensor>),
    momentum: f32,
    eps: f32,
    /// Whether the saved second statistic is 1 / sqrt(var + eps); else it is the biased variance.
    inverse: bool,
}

fn batch_norm(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(8)?);
    let lanes = channels(call, &x)?;
    let batch = Batch {
        weight: per_channel(call, "weight", 1, lanes)?,
        bias: per_channel(call, "bias", 2, lanes)?,
        running: (
            per_channel(call, "runningMean", 3, lanes)?,
            per_channel(call, "runningVar", 4, lanes)?,
        ),
        momentum: call.float(6)? as f32,
        eps: call.float(7)? as f32,
        inverse: call.family() == Family::A950,
        x,
        lanes,
    };
    let training = call.bool(5)?;
    call.expect_shape("output", &out, batch.x.shape())?;
    // Without training nothing is saved: PyTorch's client passes empty tensors then.
    let saved = if training {
        (
            per_channel(call, "saveMean", 9, lanes)?,
            per_channel(call, "saveInvstd", 10, lanes)?,
        )
    } else {
        (None, None)
    };
    if !training && (batch.running.0.is_none() || batch.running.1.is_none()) {
        return Err(call.invalid("runningMean and runningVar are needed where training is false"));
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        if training {
            batch.train(&out, &saved)
        } else {
            let (mean, variance) = batch.running_statistics();
            batch.apply(&batch.x.load_vec(), &mean, &variance, &out)
        }
    }))
}

impl Batch {
    fn running_statistics(&self) -> (Vec<f32>, Vec<f32>) {
        let count = self.lanes.length;
        (
            values_or(&self.running.0, count, 0.0),
            values_or(&self.running.1, count, 1.0),
        )
    }

    fn apply(&self, x: &[f32], mean: &[f32], variance: &[f32], out: &Tensor) -> Result<(), Fault> {
        let weight = values_or(&self.weight, self.lanes.length, 1.0);
        let bias = values_or(&self.bias, self.lanes.length, 0.0);
        let mut y = vec![0f32; x.len()];
        for channel in 0..self.lanes.length {
            let scale = 1.0 / (variance[channel] + self.eps).sqrt();
            for position in positions(self.lanes, channel) {
                let normal = (x[position] - mean[channel]) * scale;
                y[position] = normal * weight[channel] + bias[channel];
            }
        }
        out.store_slice(&y)
    }

    fn train(&self, out: &Tensor, saved: &(Option<Tensor>, Option<Tensor>)) -> Result<(), Fault> {
        let x = self.x.load_vec::<f32>();
        let (mean, variance): (Vec<f32>, Vec<f32>) = (0..self.lanes.length)
            .map(|channel| {
                let row: Vec<f32> = positions(self.lanes, channel).map(|at| x[at]).collect();
                moments(&row)
            })
            .unzip();
        self.apply(&x, &mean, &variance, out)?;
        let count = (self.lanes.outer * self.lanes.inner) as f32;
        let unbiased = if count > 1.0 {
            count / (count - 1.0)
        } else {
            0.0
        };
        for (running, batch, factor) in [
            (&self.running.0, &mean, 1.0),
            (&self.running.1, &variance, unbiased),
        ] {
            if let Some(tensor) = running {
                let mut values = tensor.load_vec::<f32>();
                for (value, &new) in values.iter_mut().zip(batch) {
                    *value = (1.0 - self.momentum) * *value + self.momentum * new * factor;
                }
                tensor.store_slice(&values)?;
            }
        }
        if let Some(tensor) = &saved.0 {
            tensor.store_slice(&mean)?;
        }
        if let Some(tensor) = &saved.1 {
            let spread: Vec<f32> = variance
                .iter()
                .map(|&v| {
                    if self.inverse {
                        1.0 / (v + self.eps).sqrt()
                    } else {
                        v
                    }
                })
                .collect();
            tensor.store_slice(&spread)?;
        }
        Ok(())
    }
}

/// What a gradient writes; what the mask does not want is absent.
struct Outputs {
    dx: Option<Tensor>,
    dw: Option<Tensor>,
    db: Option<Tensor>,
}

impl Outputs {
    fn store(&self, dx: &[f32], dw: &[f32], db: &[f32]) -> Result<(), Fault> {
        for (tensor, values) in [(&self.dx, dx), (&self.dw, dw), (&self.db, db)] {
            if let Some(tensor) = tensor {
                tensor.store_slice(values)?;
            }
        }
        Ok(())
    }
}

/// Training: dx = w s (dy − mean(dy) − x̂ mean(dy x̂)), s = 1 / sqrt(var + eps); else dx = w s dy with the running statistics.
fn batch_norm_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let lanes = channels(call, &x)?;
    let weight = per_channel(call, "weight", 2, lanes)?;
    let training = call.bool(7)?;
    let first = if training { 5 } else { 3 };
    let mean = per_channel(call, "mean", first, lanes)?;
    let spread = per_channel(call, "variance", first + 1, lanes)?;
    let (Some(mean), Some(spread)) = (mean, spread) else {
        return Err(call.invalid("the statistics that training asks for are null"));
    };
    let eps = call.float(8)? as f32;
    let mask = call.bools(9)?;
    let first_output = if call.name() == "aclnnFastBatchNormBackward" {
        11
    } else {
        10
    };
    call.expect_shape("gradOut", &dy, x.shape())?;
    let outputs = Outputs {
        dx: masked_output(call, mask, 0, first_output, x.shape())?,
        dw: masked_output(call, mask, 1, first_output + 1, &[lanes.length])?,
        db: masked_output(call, mask, 2, first_output + 2, &[lanes.length])?,
    };
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let inverse = training && call.family() == Family::A950;
    Ok(Work::new(move || {
        let (dy, x) = (dy.load_vec::<f32>(), x.load_vec::<f32>());
        let (mean, spread) = (mean.load_vec::<f32>(), spread.load_vec::<f32>());
        let weight = values_or(&weight, lanes.length, 1.0);
        let count = (lanes.outer * lanes.inner) as f64;
        let (mut dx, mut dw, mut db) = (vec![0f32; x.len()], Vec::new(), Vec::new());
        for channel in 0..lanes.length {
            let scale = if inverse {
                spread[channel]
            } else {
                1.0 / (spread[channel] + eps).sqrt()
            };
            let (mut sum, mut product) = (0f64, 0f64);
            for at in positions(lanes, channel) {
                sum += f64::from(dy[at]);
                product += f64::from(dy[at] * ((x[at] - mean[channel]) * scale));
            }
            dw.push(product as f32);
            db.push(sum as f32);
            let (sum, product) = ((sum / count) as f32, (product / count) as f32);
            for at in positions(lanes, channel) {
                let inner = if training {
                    dy[at] - sum - (x[at] - mean[channel]) * scale * product
                } else {
                    dy[at]
                };
                dx[at] = weight[channel] * scale * inner;
            }
        }
        outputs.store(&dx, &dw, &db)
    }))
}

/// Sizes of a group norm: `samples * groups` rows of `width` elements, of which `inner` belong to one channel.
#[derive(Debug, Clone, Copy)]
struct Groups {
    samples: usize,
    channels: usize,
    groups: usize,
    inner: usize,
}

impl Groups {
    fn new(call: &Call, x: &Tensor, groups: usize) -> Result<Groups, Refusal> {
        let &[samples, channels, ref rest @ ..] = x.shape() else {
            return Err(call.invalid(format!(
                "input has shape {:?}, wanted 2 to 8 dims",
                x.shape()
            )));
        };
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(call.invalid(format!("{channels} channels in {groups} groups")));
        }
        Ok(Groups {
            samples,
            channels,
            groups,
            inner: volume(rest),
        })
    }

    /// As the redundant size parameters from `index` on say: N, C, HxW, group.
    fn stated(call: &Call, x: &Tensor, index: usize) -> Result<Groups, Refusal> {
        let groups = size_of(call, "group", call.int(index + 3)?, 1)?;
        let sizes = Groups::new(call, x, groups)?;
        let said = [call.int(index)?, call.int(index + 1)?, call.int(index + 2)?];
        let real = [sizes.samples, sizes.channels, sizes.inner].map(|size| size as i64);
        if said != real {
            return Err(call.invalid(format!("N, C, HxW are {said:?}, wanted {real:?}")));
        }
        Ok(sizes)
    }

    fn statistics(self) -> [usize; 2] {
        [self.samples, self.groups]
    }

    fn width(self) -> usize {
        self.channels / self.groups * self.inner
    }

    /// The channel of an element.
    fn channel(self, at: usize) -> usize {
        at / self.inner.max(1) % self.channels
    }

    /// Gradients of the input, the weight and the bias.
    fn gradients(
        self,
        dy: &[f32],
        x: &[f32],
        [mean, rstd]: [&[f32]; 2],
        weight: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let width = self.width();
        let mut dx = vec![0f32; x.len()];
        let (mut dw, mut db) = (vec![0f64; self.channels], vec![0f64; self.channels]);
        for row in 0..x.len() / width {
            let (mean, rstd) = (mean[row], rstd[row]);
            let (mut sum, mut product) = (0f64, 0f64);
            for at in row * width..(row + 1) * width {
                let (channel, normal) = (self.channel(at), (x[at] - mean) * rstd);
                let g = dy[at] * weight[channel];
                sum += f64::from(g);
                product += f64::from(g * normal);
                dw[channel] += f64::from(dy[at] * normal);
                db[channel] += f64::from(dy[at]);
            }
            let (sum, product) = ((sum / width as f64) as f32, (product / width as f64) as f32);
            for at in row * width..(row + 1) * width {
                let g = dy[at] * weight[self.channel(at)];
                dx[at] = rstd * (g - sum - (x[at] - mean) * rstd * product);
            }
        }
        let narrow = |sums: Vec<f64>| sums.iter().map(|&sum| sum as f32).collect();
        (dx, narrow(dw), narrow(db))
    }
}

fn group_norm(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let sizes = Groups::stated(call, &x, 3)?;
    grouped(call, x, sizes, 7, None)
}

/// As group norm, then `y σ(y)`; V2 may leave that out.
fn group_norm_silu(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let groups = size_of(call, "group", call.int(3)?, 1)?;
    let sizes = Groups::new(call, &x, groups)?;
    if call.name() != "aclnnGroupNormSiluV2" {
        return grouped(call, x, sizes, 4, Some(1.0));
    }
    let swish = call.bool(5)?.then_some(1.0);
    grouped(call, x, sizes, 4, swish)
}

fn expect_channels_first(call: &Call, index: usize) -> Result<(), Refusal> {
    match call.text(index).unwrap_or("NCHW") {
        "NCHW" => Ok(()),
        other => Err(call.invalid(format!("dataFormat is {other}, wanted NCHW"))),
    }
}

/// As group norm, then `y σ(scale y)` where that is asked for.
fn group_norm_swish(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let groups = size_of(call, "numGroups", call.int(3)?, 1)?;
    let sizes = Groups::new(call, &x, groups)?;
    expect_channels_first(call, 4)?;
    let scale = call.float(7)? as f32;
    let swish = call.bool(6)?.then_some(scale);
    grouped(call, x, sizes, 5, swish)
}

/// `index` is the position of eps; the outputs are the last three parameters.
fn grouped(
    call: &Call,
    x: Tensor,
    sizes: Groups,
    index: usize,
    swish: Option<f32>,
) -> Result<Work, Refusal> {
    let lanes = Lanes::new(x.shape(), 1);
    let gamma = per_channel(call, "gamma", 1, lanes)?;
    let beta = per_channel(call, "beta", 2, lanes)?;
    let eps = call.float(index)? as f32;
    let last = call.count();
    let (out, mean, rstd) = (
        call.tensor(last - 3)?,
        call.tensor(last - 2)?,
        call.tensor(last - 1)?,
    );
    call.expect_shape("out", &out, x.shape())?;
    call.expect_shape("meanOut", &mean, &sizes.statistics())?;
    call.expect_shape("rstdOut", &rstd, &sizes.statistics())?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let weight = values_or(&gamma, sizes.channels, 1.0);
        let bias = values_or(&beta, sizes.channels, 0.0);
        let mut values = x.load_vec::<f32>();
        let (mut means, mut rstds) = (Vec::new(), Vec::new());
        for (row, group) in values.chunks_exact_mut(sizes.width()).enumerate() {
            let (mean, variance) = moments(group);
            let scale = 1.0 / (variance + eps).sqrt();
            let start = row * sizes.width();
            for (index, value) in group.iter_mut().enumerate() {
                let channel = sizes.channel(start + index);
                let y = (*value - mean) * scale * weight[channel] + bias[channel];
                *value = swish.map_or(y, |scale| y / (1.0 + (-scale * y).exp()));
            }
            means.push(mean);
            rstds.push(scale);
        }
        out.store_slice(&values)?;
        mean.store_slice(&means)?;
        rstd.store_slice(&rstds)
    }))
}

fn group_norm_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let (mean, rstd) = (call.tensor(2)?, call.tensor(3)?);
    let sizes = Groups::stated(call, &x, 5)?;
    let lanes = Lanes::new(x.shape(), 1);
    let gamma = per_channel(call, "gamma", 4, lanes)?;
    let mask = call.bools(9)?;
    call.expect_shape("gradOut", &dy, x.shape())?;
    call.expect_shape("mean", &mean, &sizes.statistics())?;
    call.expect_shape("rstd", &rstd, &sizes.statistics())?;
    let outputs = Outputs {
        dx: masked_output(call, mask, 0, 10, x.shape())?,
        dw: masked_output(call, mask, 1, 11, &[sizes.channels])?,
        db: masked_output(call, mask, 2, 12, &[sizes.channels])?,
    };
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (dy, x) = (dy.load_vec::<f32>(), x.load_vec::<f32>());
        let (mean, rstd) = (mean.load_vec::<f32>(), rstd.load_vec::<f32>());
        let weight = values_or(&gamma, sizes.channels, 1.0);
        let (dx, dw, db) = sizes.gradients(&dy, &x, [&mean, &rstd], &weight);
        outputs.store(&dx, &dw, &db)
    }))
}

/// The gradient of such a norm with its activation.
fn group_norm_swish_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, mean, rstd, x) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let groups = size_of(call, "numGroups", call.int(6)?, 1)?;
    let sizes = Groups::new(call, &x, groups)?;
    expect_channels_first(call, 7)?;
    let scale = call.float(8)? as f32;
    let lanes = Lanes::new(x.shape(), 1);
    let gamma = per_channel(call, "gamma", 4, lanes)?;
    let beta = per_channel(call, "beta", 5, lanes)?;
    call.expect_shape("dy", &dy, x.shape())?;
    call.expect_shape("mean", &mean, &sizes.statistics())?;
    call.expect_shape("rstd", &rstd, &sizes.statistics())?;
    let mask = [true, call.bool(9)?, call.bool(10)?];
    let outputs = Outputs {
        dx: masked_output(call, &mask, 0, 11, x.shape())?,
        dw: masked_output(call, &mask, 1, 12, &[sizes.channels])?,
        db: masked_output(call, &mask, 2, 13, &[sizes.channels])?,
    };
    if x.is_empty() {
        return Err(call.invalid("x is empty"));
    }
    Ok(Work::new(move || {
        let (mut dy, x) = (dy.load_vec::<f32>(), x.load_vec::<f32>());
        let (mean, rstd) = (mean.load_vec::<f32>(), rstd.load_vec::<f32>());
        let weight = values_or(&gamma, sizes.channels, 1.0);
        let bias = values_or(&beta, sizes.channels, 0.0);
        for (at, slot) in dy.iter_mut().enumerate() {
            let (row, channel) = (at / sizes.width(), sizes.channel(at));
            let y = (x[at] - mean[row]) * rstd[row] * weight[channel] + bias[channel];
            let gate = 1.0 / (1.0 + (-scale * y).exp());
            *slot *= gate * (1.0 + scale * y * (1.0 - gate));
        }
        let (dx, dw, db) = sizes.gradients(&dy, &x, [&mean, &rstd], &weight);
        outputs.store(&dx, &dw, &db)
    }))
}
