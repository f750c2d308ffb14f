//! Batch norm across devices, part by part: statistics of one device, their union, application, and the gradient's two halves.
//!
//! Knows the kernel interface; it must not know streams, collectives or device memory.

use super::common::Lanes;
use super::norm_channel::{channels, per_channel, positions, values_or};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnBatchNormStats", stats),
    ("aclnnBatchNormReduce", reduce),
    ("aclnnBatchNormGatherStatsWithCounts", gather),
    ("aclnnSyncBatchNormGatherStats", gather_sums),
    ("aclnnBatchNormElemt", apply),
    ("aclnnBatchNormReduceBackward", reduce_backward),
    ("aclnnBatchNormElemtBackward", apply_backward),
];

/// A required operand of one value per channel.
fn channel(call: &Call, what: &str, index: usize, lanes: Lanes) -> Result<Tensor, Refusal> {
    let tensor = call.tensor(index)?;
    call.expect_shape(what, &tensor, &[lanes.length])?;
    Ok(tensor)
}

/// The sums of two functions of each element over each channel, in f64.
fn sums(lanes: Lanes, each: impl Fn(usize, usize) -> (f64, f64)) -> (Vec<f64>, Vec<f64>) {
    (0..lanes.length)
        .map(|channel| {
            positions(lanes, channel).fold((0.0, 0.0), |sum, at| {
                let (first, second) = each(channel, at);
                (sum.0 + first, sum.1 + second)
            })
        })
        .unzip()
}

/// Mean and 1 / sqrt(variance + eps) of each channel.
fn stats(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let lanes = channels(call, &x)?;
    let eps = call.float(1)?;
    let mean = channel(call, "mean", 2, lanes)?;
    let invstd = channel(call, "invstd", 3, lanes)?;
    let count = (lanes.outer * lanes.inner) as f64;
    Ok(Work::new(move || {
        let x = x.load_vec::<f64>();
        let (totals, _) = sums(lanes, |_, at| (x[at], 0.0));
        let means: Vec<f64> = totals.iter().map(|total| total / count).collect();
        let (squares, _) = sums(lanes, |channel, at| ((x[at] - means[channel]).powi(2), 0.0));
        let inverse = squares
            .iter()
            .map(|square| 1.0 / (square / count + eps).sqrt());
        mean.store_slice(&means)?;
        invstd.store_slice(&inverse.collect::<Vec<f64>>())
    }))
}

/// Sum and sum of squares of each channel.
fn reduce(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let lanes = channels(call, &x)?;
    let sum = channel(call, "sum", 1, lanes)?;
    let squares = channel(call, "squareSum", 2, lanes)?;
    Ok(Work::new(move || {
        let x = x.load_vec::<f64>();
        let totals = sums(lanes, |_, at| (x[at], x[at] * x[at]));
        sum.store_slice(&totals.0)?;
        squares.store_slice(&totals.1)
    }))
}

/// Running statistics, which are updated in place where they are given.
struct Running {
    mean: Option<Tensor>,
    variance: Option<Tensor>,
    momentum: f64,
}

impl Running {
    /// `variance` is the biased one of `count` elements.
    fn update(
        &self,
        mean: &[f64],
        variance: &[f64],
        count: f64,
    ) -> Result<(), crate::failure::Fault> {
        let blend = |tensor: &Option<Tensor>, new: &dyn Fn(usize) -> f64| match tensor {
            Some(tensor) => {
                let mut values = tensor.load_vec::<f64>();
                for (index, value) in values.iter_mut().enumerate() {
                    *value = *value * (1.0 - self.momentum) + new(index) * self.momentum;
                }
                tensor.store_slice(&values)
            }
            None => Ok(()),
        };
        blend(&self.mean, &|index| mean[index])?;
        blend(&self.variance, &|index| {
            variance[index] * count / (count - 1.0)
        })
    }
}

/// Unites the statistics of all devices: each has its mean, its 1 / sqrt(variance + eps) and its number of elements.
fn gather(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let lanes = channels(call, &x)?;
    let (means, invstds, counts) = (call.tensor(1)?, call.tensor(2)?, call.tensor(7)?);
    let parts = counts.count();
    call.expect_shape("mean", &means, &[parts, lanes.length])?;
    call.expect_shape("invstd", &invstds, &[parts, lanes.length])?;
    let running = Running {
        mean: per_channel(call, "runningMean", 3, lanes)?,
        variance: per_channel(call, "runningVar", 4, lanes)?,
        momentum: call.float(5)?,
    };
    let eps = call.float(6)?;
    let mean_all = channel(call, "meanAll", 8, lanes)?;
    let invstd_all = channel(call, "invstdAll", 9, lanes)?;
    Ok(Work::new(move || {
        let (means, invstds) = (means.load_vec::<f64>(), invstds.load_vec::<f64>());
        let counts = counts.load_vec::<f64>();
        let total: f64 = counts.iter().sum();
        let weighed = |each: &dyn Fn(usize) -> f64, channel: usize| -> f64 {
            let part = |part: usize| counts[part] * each(part * lanes.length + channel);
            (0..parts).map(part).sum::<f64>() / total
        };
        let mean: Vec<f64> = (0..lanes.length)
            .map(|channel| weighed(&|at| means[at], channel))
            .collect();
        let variance: Vec<f64> = (0..lanes.length)
            .map(|channel| {
                let spread =
                    |at: usize| invstds[at].powi(-2) - eps + (means[at] - mean[channel]).powi(2);
                weighed(&spread, channel)
            })
            .collect();
        running.update(&mean, &variance, total)?;
        let inverse = variance
            .iter()
            .map(|variance| 1.0 / (variance + eps).sqrt());
        mean_all.store_slice(&mean)?;
        invstd_all.store_slice(&inverse.collect::<Vec<f64>>())
    }))
}

/// The same from sums and sums of squares.
fn gather_sums(call: &Call) -> Result<Work, Refusal> {
    let (sum, squares, counts) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let &[parts, width] = sum.shape() else {
        return Err(call.invalid(format!(
            "totalSum has shape {:?}, wanted 2 dims",
            sum.shape()
        )));
    };
    call.expect_shape("totalSquareSum", &squares, &[parts, width])?;
    call.expect_shape("sampleCount", &counts, &[parts])?;
    let lanes = Lanes {
        outer: 1,
        length: width,
        inner: 1,
    };
    let running = Running {
        mean: per_channel(call, "mean", 3, lanes)?,
        variance: per_channel(call, "variance", 4, lanes)?,
        momentum: call.float(5)?,
    };
    let eps = call.float(6)?;
    let batch_mean = channel(call, "batchMean", 7, lanes)?;
    let batch_invstd = channel(call, "batchInvstd", 8, lanes)?;
    Ok(Work::new(move || {
        let total: f64 = counts.load_vec::<f64>().iter().sum();
        let per_channel = |tensor: &Tensor| -> Vec<f64> {
            let values = tensor.load_vec::<f64>();
            (0..width)
                .map(|channel| values.iter().skip(channel).step_by(width).sum::<f64>() / total)
                .collect()
        };
        let (mean, squares) = (per_channel(&sum), per_channel(&squares));
        let variance: Vec<f64> = squares.iter().zip(&mean).map(|(s, m)| s - m * m).collect();
        running.update(&mean, &variance, total)?;
        let inverse = variance
            .iter()
            .map(|variance| 1.0 / (variance + eps).sqrt());
        batch_mean.store_slice(&mean)?;
        batch_invstd.store_slice(&inverse.collect::<Vec<f64>>())
    }))
}

/// (x − mean) · invstd · weight + bias.
fn apply(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(6)?);
    let lanes = channels(call, &x)?;
    let weight = per_channel(call, "weight", 1, lanes)?;
    let bias = per_channel(call, "bias", 2, lanes)?;
    let mean = channel(call, "mean", 3, lanes)?;
    let invstd = channel(call, "invstd", 4, lanes)?;
    call.expect_shape("output", &out, x.shape())?;
    Ok(Work::new(move || {
        let mut x = x.load_vec::<f32>();
        let (mean, invstd) = (mean.load_vec::<f32>(), invstd.load_vec::<f32>());
        let weight = values_or(&weight, lanes.length, 1.0);
        let bias = values_or(&bias, lanes.length, 0.0);
        for channel in 0..lanes.length {
            for at in positions(lanes, channel) {
                x[at] = (x[at] - mean[channel]) * invstd[channel] * weight[channel] + bias[channel];
            }
        }
        out.store_slice(&x)
    }))
}

/// Σ dy and Σ dy · (x − mean) of each channel, and the gradients of weight and bias.
fn reduce_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let lanes = channels(call, &x)?;
    call.expect_shape("gradOut", &dy, x.shape())?;
    let mean = channel(call, "mean", 2, lanes)?;
    let invstd = channel(call, "invstd", 3, lanes)?;
    let wanted = [call.bool(5)?, call.bool(5)?, call.bool(6)?, call.bool(7)?];
    let mut outputs = Vec::new();
    for (index, wanted) in wanted.into_iter().enumerate() {
        outputs.push(match wanted {
            true => Some(channel(call, "a result", 8 + index, lanes)?),
            false => None,
        });
    }
    Ok(Work::new(move || {
        let (dy, x) = (dy.load_vec::<f64>(), x.load_vec::<f64>());
        let (mean, invstd) = (mean.load_vec::<f64>(), invstd.load_vec::<f64>());
        let (sum, product) = sums(lanes, |channel, at| {
            (dy[at], dy[at] * (x[at] - mean[channel]))
        });
        let weight: Vec<f64> = product.iter().zip(&invstd).map(|(a, b)| a * b).collect();
        for (output, values) in outputs.iter().zip([&sum, &product, &weight, &sum]) {
            if let Some(output) = output {
                output.store_slice(values)?;
            }
        }
        Ok(())
    }))
}

/// (dy − Σ dy / n − (x − mean) · invstd² · Σ dy (x − mean) / n) · invstd · weight, with n over all devices.
fn apply_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(8)?);
    let lanes = channels(call, &x)?;
    call.expect_shape("gradOut", &dy, x.shape())?;
    call.expect_shape("gradInput", &out, x.shape())?;
    let mean = channel(call, "mean", 2, lanes)?;
    let invstd = channel(call, "invstd", 3, lanes)?;
    let weight = per_channel(call, "weight", 4, lanes)?;
    let sum = channel(call, "sumDy", 5, lanes)?;
    let product = channel(call, "sumDyXmu", 6, lanes)?;
    let counter = call.tensor(7)?;
    Ok(Work::new(move || {
        let (mut dy, x) = (dy.load_vec::<f64>(), x.load_vec::<f64>());
        let (mean, invstd) = (mean.load_vec::<f64>(), invstd.load_vec::<f64>());
        let (sum, product) = (sum.load_vec::<f64>(), product.load_vec::<f64>());
        let weight = values_or(&weight, lanes.length, 1.0);
        let count: f64 = counter.load_vec::<f64>().iter().sum();
        for channel in 0..lanes.length {
            let slope = invstd[channel].powi(2) * product[channel] / count;
            let factor = invstd[channel] * f64::from(weight[channel]);
            for at in positions(lanes, channel) {
                let centred = x[at] - mean[channel];
                dy[at] = (dy[at] - sum[channel] / count - centred * slope) * factor;
            }
        }
        out.store_slice(&dy)
    }))
}
