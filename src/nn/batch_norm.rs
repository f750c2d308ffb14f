//! `BatchNorm`: channels normalised over the batch, with running statistics for evaluation.
//!
//! Knows weights and running statistics. Must not know how a norm is computed.

use super::{Init, Layer, Module, Parameter, Phase, Place, Visitor};
use crate::check;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::norm::BatchNormOptions;
use crate::tensor::Tensor;

/// Each channel (dim 1) brought to mean 0 and variance 1. PyTorch: `torch.nn.BatchNorm1d`, `2d` and `3d`.
///
/// State: `weight`, `bias` and the buffers `running_mean`, `running_var` `[channels]`, `num_batches_tracked` `[]`.
///
/// ```
/// use ascend_tensor::nn::{BatchNorm, Module, Phase, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let norm = BatchNorm::new(1, &Place::default())?;
/// let x = Tensor::new([[1.0f32], [3.0]]);
/// let y = norm.forward(&x, Phase::Training)?.to_vec::<f32>()?;
/// assert!((y[0] + 1.0).abs() < 1e-4 && (y[1] - 1.0).abs() < 1e-4);
/// // A tenth of the way to the batch's mean 2.
/// let mean = norm.state_dict()["running_mean"].to_vec::<f32>()?[0];
/// assert!((mean - 0.2).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Parameter,
    bias: Parameter,
    mean: Parameter,
    variance: Parameter,
    batches: Parameter,
    momentum: f64,
    epsilon: f64,
}

impl BatchNorm {
    /// A norm of so many channels, with PyTorch's momentum 0.1 and epsilon 1e-5.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(channels: usize, place: &Place) -> Result<Self> {
        let (ones, zeros) = (
            Init::Ones.tensor([channels], place)?,
            Init::Zeros.tensor([channels], place)?,
        );
        Ok(BatchNorm {
            weight: Parameter::new(&ones)?,
            bias: Parameter::new(&zeros)?,
            mean: Parameter::buffer(&zeros.copy()?),
            variance: Parameter::buffer(&ones.copy()?),
            batches: Parameter::buffer(&Tensor::zeros((), DType::I64, place.device())?),
            momentum: 0.1,
            epsilon: 1e-5,
        })
    }

    /// How far the running statistics move toward a batch's.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// What is added to the variance.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// `[n, channels, ..]`. In training the batch's own statistics are used, and the running ones move toward them.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`]; `Option` for a negative epsilon or a momentum outside `[0, 1]`.
    pub fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor> {
        check::not_negative("batch_norm", "epsilon", self.epsilon)?;
        check::probability("batch_norm", "momentum", self.momentum)?;
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        let (mean, variance) = (self.mean.tensor(), self.variance.tensor());
        let options = BatchNormOptions::new().weight(&weight).bias(&bias);
        let options = options.running(&mean, &variance).epsilon(self.epsilon);
        let options = options.momentum(self.momentum);
        if phase == Phase::Evaluation {
            return Ok(x.batch_norm(options)?.output);
        }
        let result = x.batch_norm(options.training())?;
        if let Some((mean, variance)) = result.running {
            self.mean.set(&mean.detach())?;
            self.variance.set(&variance.detach())?;
            self.batches.set(&self.batches.tensor().add(1)?)?;
        }
        Ok(result.output)
    }
}

impl Module for BatchNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
        visitor.parameter("running_mean", &self.mean);
        visitor.parameter("running_var", &self.variance);
        visitor.parameter("num_batches_tracked", &self.batches);
    }
}

impl Layer for BatchNorm {
    fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor> {
        self.forward(x, phase)
    }
}
