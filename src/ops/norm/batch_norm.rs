//! `batch_norm`: each channel brought to mean 0 and variance 1, over the batch or by running statistics.

use super::{affine, channels, float_only};
use crate::ops::prelude::*;
use crate::ops::reduce::{VarOptions, widened};

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
    /// NPU: `aclnnVarMean` and elementwise kernels.
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
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let input = x[0].to_dtype(widened(x[0].dtype()))?;
        let shape = *input.shape();
        let running = x.get(self.running_at()).zip(x.get(self.running_at() + 1));
        let dims: Vec<i64> = (0..shape.rank() as i64).filter(|dim| *dim != 1).collect();
        let (variance, mean) = match running {
            Some((mean, variance)) if !self.training => {
                (channels(variance, &shape)?, channels(mean, &shape)?)
            }
            _ => input.var_mean(VarOptions::new().dim(dims).correction(0.0).keepdim())?,
        };
        let unit = input
            .sub(&mean)?
            .mul(&variance.add(self.epsilon)?.rsqrt()?)?;
        let mut outputs: Outputs =
            smallvec![affine(&unit, x, self.weight, self.bias)?.to_dtype(x[0].dtype())?];
        if let (Some((old_mean, old_variance)), true) = (running, self.training) {
            let count = (shape.elements() / shape.size(1).max(1)) as f64;
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

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "batch_norm",
    family: "norm",
    kernels: &["aclnnVarMean"],
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
