//! `batch_norm`: each channel brought to mean 0 and variance 1, over the batch or by running statistics.

use super::{affine, channels, float_only};
use crate::mode::{self, Modes};
use crate::ops::prelude::*;
use crate::ops::reduce::{ReduceOptions, VarOptions, widened};

/// Settings of [`Tensor::batch_norm`]. Made from `()` or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct BatchNormOptions<'a> {
    running: Option<(&'a Tensor, &'a Tensor)>,
    weight: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    training: bool,
    momentum: f64,
    epsilon: f64,
}

impl Default for BatchNormOptions<'_> {
    fn default() -> Self {
        BatchNormOptions {
            running: None,
            weight: None,
            bias: None,
            training: false,
            momentum: 0.1,
            epsilon: 1e-5,
        }
    }
}

impl From<()> for BatchNormOptions<'_> {
    fn from((): ()) -> Self {
        BatchNormOptions::default()
    }
}

impl<'a> BatchNormOptions<'a> {
    /// By running statistics (which must then be given), no weight, no bias, momentum 0.1, epsilon 1e-5.
    pub fn new() -> Self {
        BatchNormOptions::default()
    }

    /// The running mean and variance of each channel.
    pub fn running(mut self, mean: &'a Tensor, variance: &'a Tensor) -> Self {
        self.running = Some((mean, variance));
        self
    }

    /// The factor of each channel.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The term of each channel.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Normalises by the batch's own mean and variance.
    pub fn training(mut self) -> Self {
        self.training = true;
        self
    }

    /// How far the running statistics move toward the batch's.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// What is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

/// What [`Tensor::batch_norm`] gives.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The normalised tensor.
    pub output: Tensor,
    /// In training with running statistics: their new mean and variance.
    pub running: Option<(Tensor, Tensor)>,
}

#[derive(Debug, Clone, Copy)]
struct BatchNormOp {
    running: bool,
    weight: bool,
    bias: bool,
    training: bool,
    momentum: f64,
    epsilon: f64,
}

impl Tensor {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` per channel (dim 1); halves compute in f32.
    ///
    /// In training, mean and biased variance are the batch's, and running statistics that are given move to
    /// `(1 - momentum) * running + momentum * batch` (with the unbiased variance); else they are the running ones.
    /// Shapes: `[n, c, ..]`, all others `[c]`. Dtypes: floats. PyTorch: `torch.nn.functional.batch_norm`.
    /// NPU: `aclnnBatchNorm` and `aclnnBatchNormBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::norm::BatchNormOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f64, 2.0], [3.0, 6.0]]);
    /// let y = x.batch_norm(BatchNormOptions::new().training().epsilon(0.0))?;
    /// assert_eq!(y.output.to_vec::<f64>()?, [-1.0, -1.0, 1.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer than two dims or a `[c]` of another length; `Option` for no running statistics outside training, or one
    /// value per channel in it; `DType` for integers and bools.
    pub fn batch_norm<'a>(&self, options: impl Into<BatchNormOptions<'a>>) -> Result<BatchNorm> {
        let BatchNormOptions {
            running,
            weight,
            bias,
            training,
            momentum,
            epsilon,
        } = options.into();
        let op = BatchNormOp {
            running: running.is_some(),
            weight: weight.is_some(),
            bias: bias.is_some(),
            training,
            momentum,
            epsilon,
        };
        let (mean, variance) = running.unzip();
        let inputs: smallvec::SmallVec<[&Tensor; 5]> = [Some(self), weight, bias, mean, variance]
            .into_iter()
            .flatten()
            .collect();
        let mut outputs = run(&op, &inputs)?.into_iter();
        let output = outputs
            .next()
            .ok_or(Error::NoGradient { op: "batch_norm" })?;
        Ok(BatchNorm {
            output,
            running: outputs.next().zip(outputs.next()),
        })
    }
}

impl BatchNormOp {
    /// Where the running mean stands among the inputs.
    fn running_at(&self) -> usize {
        1 + usize::from(self.weight) + usize::from(self.bias)
    }

    /// How many outputs the user sees: the new running statistics beside the result.
    fn visible(&self) -> usize {
        if self.training && self.running { 3 } else { 1 }
    }

    /// Mean and variance of each channel as the normalisation uses them, in a shape that broadcasts.
    fn statistics(&self, input: &Tensor, running: Option<[&Tensor; 2]>) -> Result<[Tensor; 2]> {
        match running {
            Some([mean, variance]) if !self.training => Ok([
                channels(mean, input.shape())?,
                channels(variance, input.shape())?,
            ]),
            _ => {
                let dims = other_dims(input);
                let options = VarOptions::new().dim(dims).correction(0.0).keepdim();
                let (variance, mean) = input.var_mean(options)?;
                Ok([mean, variance])
            }
        }
    }

    /// The gradients in differentiable ops: of the input, the weight, the bias, and outside training the statistics.
    fn formula(
        &self,
        dy: &Tensor,
        x: &Tensor,
        weight: Option<&Tensor>,
        running: Option<[&Tensor; 2]>,
    ) -> Result<Outputs> {
        let wide = x.to_dtype(widened(x.dtype()))?;
        let shape = *wide.shape();
        let [mean, variance] = self.statistics(&wide, running)?;
        let rstd = variance.add(self.epsilon)?.rsqrt()?;
        let deviation = wide.sub(&mean)?;
        let unit = deviation.mul(&rstd)?;
        let dy = dy.to_dtype(wide.dtype())?;
        let g = match weight {
            Some(weight) => dy.mul(&channels(weight, &shape)?)?,
            None => dy.clone(),
        };
        let average = |x: &Tensor| x.mean(ReduceOptions::new().dim(other_dims(&wide)).keepdim());
        let sum = |x: &Tensor| x.sum(ReduceOptions::new().dim(other_dims(&wide)));
        let dx = if self.training {
            g.sub(&average(&g)?)?
                .sub(&unit.mul(&average(&g.mul(&unit)?)?)?)?
                .mul(&rstd)?
        } else {
            g.mul(&rstd)?
        };
        let mut grads: Outputs = smallvec![dx.to_dtype(x.dtype())?];
        if self.weight {
            grads.push(sum(&dy.mul(&unit)?)?);
        }
        if self.bias {
            grads.push(sum(&dy)?);
        }
        if let (Some(_), false) = (running, self.training) {
            let scaled = g.mul(&rstd)?;
            grads.push(sum(&scaled)?.neg()?);
            grads.push(sum(&scaled.mul(&deviation)?.mul(&rstd.square()?)?)?.mul(-0.5)?);
        }
        Ok(grads)
    }
}

/// All dims but that of the channels.
fn other_dims(x: &Tensor) -> Vec<i64> {
    (0..x.rank() as i64).filter(|dim| *dim != 1).collect()
}

impl Op for BatchNormOp {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = x[0].shape;
        float_only("batch_norm", x[0].dtype)?;
        if shape.rank() < 2 {
            return Err(Error::shape("batch_norm", shape, "at least two dims"));
        }
        if !self.training && !self.running {
            return Err(Error::option(
                "batch_norm",
                "running",
                "got none outside training, wanted a running mean and variance",
            ));
        }
        for own in x.iter().skip(1) {
            super::affine_dtype("batch_norm", x[0].dtype, own.dtype)?;
            if own.shape != Shape::from([shape.size(1)]) {
                return Err(Error::shape(
                    "batch_norm",
                    format!("{} for {} channels", own.shape, shape.size(1)),
                    "one value per channel",
                ));
            }
        }
        if self.training && shape.elements() == shape.size(1) {
            return Err(Error::option(
                "batch_norm",
                "training",
                format!("got one value per channel in {shape}, wanted more"),
            ));
        }
        plan.output(shape, x[0].dtype);
        if self.training && self.running {
            for own in x.iter().skip(self.running_at()) {
                plan.output(own.shape, own.dtype);
            }
        }
        if plan.is_taped() && plan.is_on_ascend() {
            // The mean, and what the kernel's gradient wants of the variance.
            for _ in 0..2 {
                plan.auxiliary(Shape::from([shape.size(1)]), DType::F32);
            }
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (seen, kept) = y.split_at(self.visible());
        let weight = x.get(1).filter(|_| self.weight);
        let bias = x.get(1 + usize::from(self.weight)).filter(|_| self.bias);
        let mut running = [x.get(self.running_at()), x.get(self.running_at() + 1)];
        if let [_, mean, variance] = seen {
            // The kernel moves the running statistics in place.
            for (new, old) in [mean, variance].into_iter().zip(running) {
                if let Some(old) = old {
                    aclnn::inplace_copy(cx, new, old)?;
                }
            }
            running = [Some(mean), Some(variance)];
        }
        let spare;
        let [saved_mean, saved_spread] = match kept {
            [mean, spread] => [*mean, *spread],
            _ => {
                let one = || cx.temporary([x[0].shape().size(1)], DType::F32);
                spare = [one()?, one()?];
                [spare[0].dev(), spare[1].dev()]
            }
        };
        aclnn::batch_norm(
            cx,
            &x[0],
            weight,
            bias,
            running[0],
            running[1],
            self.training,
            self.momentum,
            self.epsilon,
            &y[0],
            Some(&saved_mean),
            Some(&saved_spread),
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let input = x[0].to_dtype(widened(x[0].dtype()))?;
        let shape = *input.shape();
        let running = x.get(self.running_at()).zip(x.get(self.running_at() + 1));
        let running = running.map(|(mean, variance)| [mean, variance]);
        let [mean, variance] = self.statistics(&input, running)?;
        let unit = input
            .sub(&mean)?
            .mul(&variance.add(self.epsilon)?.rsqrt()?)?;
        let mut outputs: Outputs =
            smallvec![affine(&unit, x, self.weight, self.bias)?.to_dtype(x[0].dtype())?];
        if let (Some([old_mean, old_variance]), true) = (running, self.training) {
            let count = (shape.elements() / shape.size(1).max(1)) as f64;
            if count == 0.0 {
                outputs.extend([old_mean.copy()?, old_variance.copy()?]);
                return Ok(outputs);
            }
            let moved = |old: &Tensor, new: &Tensor, scale: f64| {
                let new = new
                    .detach()
                    .reshape([shape.size(1)])?
                    .mul(scale * self.momentum)?;
                old.detach()
                    .to_dtype(new.dtype())?
                    .mul(1.0 - self.momentum)?
                    .add(&new)?
                    .to_dtype(old.dtype())
            };
            outputs.push(moved(old_mean, &mean, 1.0)?);
            outputs.push(moved(old_variance, &variance, count / (count - 1.0))?);
        }
        Ok(outputs)
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        let mut saves = Saves::NOTHING
            .and_input(0)
            .and_output(self.visible())
            .and_output(self.visible() + 1);
        if self.weight {
            saves = saves.and_input(1);
        }
        if self.running && !self.training {
            saves = saves
                .and_input(self.running_at())
                .and_input(self.running_at() + 1);
        }
        saves
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let Some(dy) = cx.gradient_of(0) else {
            return Ok((0..cx.len()).map(|_| None).collect());
        };
        let x = cx.input(0)?;
        let weight = if self.weight {
            Some(cx.input(1)?)
        } else {
            None
        };
        let at = self.running_at();
        let running = if self.training {
            None
        } else {
            Some([cx.input(at)?, cx.input(at + 1)?])
        };
        let statistics = running.is_some() && (cx.needs(at) || cx.needs(at + 1));
        let grads = if statistics || !mode::current().has(Modes::NO_GRAD) {
            self.formula(dy, x, weight, running)?
        } else {
            let saved = [cx.output(self.visible())?, cx.output(self.visible() + 1)?];
            let mut inputs: smallvec::SmallVec<[&Tensor; 5]> = smallvec![dy, x];
            inputs.extend(running.unwrap_or(saved));
            inputs.extend(weight);
            run(&BatchNormBackward(*self), &inputs)?
        };
        let mut grads: Grads = grads.into_iter().map(Some).collect();
        grads.resize(cx.len(), None);
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The gradients of a batch norm; the inputs are `dy`, `x`, the mean of each channel, what the kernel wants of its variance (the
/// running variance outside training), and the weight if there is one.
#[derive(Debug, Clone, Copy)]
struct BatchNormBackward(BatchNormOp);

impl Op for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        let dtype = x.get(4).map_or(x[1].dtype, |weight| weight.dtype);
        for _ in 0..usize::from(self.0.weight) + usize::from(self.0.bias) {
            plan.output(Shape::from([x[1].shape.size(1)]), dtype);
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let op = &self.0;
        if x[1].is_empty() {
            for y in y.iter().filter(|y| !y.is_empty()) {
                aclnn::inplace_zero(cx, y)?;
            }
            return Ok(Counts::EXACT);
        }
        let training = op.training;
        let [mean, spread] = [&x[2], &x[3]];
        let dw = y.get(1).filter(|_| op.weight);
        let db = y.last().filter(|_| op.bias);
        aclnn::batch_norm_backward(
            cx,
            &x[0],
            &x[1],
            x.get(4),
            Some(mean).filter(|_| !training),
            Some(spread).filter(|_| !training),
            Some(mean).filter(|_| training),
            Some(spread).filter(|_| training),
            training,
            op.epsilon,
            &[true, op.weight, op.bias],
            Some(&y[0]),
            dw,
            db,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let running = Some([&x[2], &x[3]]).filter(|_| !self.0.training);
        let mut grads = self.0.formula(&x[0], &x[1], x.get(4), running)?;
        grads.truncate(1 + usize::from(self.0.weight) + usize::from(self.0.bias));
        let dtype = x.get(4).map_or(x[1].dtype(), Tensor::dtype);
        for own in grads.iter_mut().skip(1) {
            *own = own.to_dtype(dtype)?;
        }
        Ok(grads)
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "batch_norm",
    family: "norm",
    kernels: &["aclnnBatchNorm"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |training: bool, running: bool, affine: bool| {
        let op = BatchNormOp {
            running,
            weight: affine,
            bias: affine,
            training,
            momentum: 0.1,
            epsilon: 1e-5,
        };
        let mut inputs = super::affine_samples(&[2, 4, 3], affine, affine);
        inputs.resize(
            inputs.len() + 2 * usize::from(running),
            SampleInput::new([4], 0.5, 2.0),
        );
        Sample {
            op: Box::new(op),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(true, false, false),
        sample(false, true, true),
        sample(true, true, true),
    ]
}
