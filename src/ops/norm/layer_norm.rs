//! `layer_norm`: the last dims brought to mean 0 and variance 1.

use super::line::{Form, LineNorm, samples_of};
use crate::ops::prelude::*;

/// The dims of [`Tensor::layer_norm`] by their sizes, with weight, bias and epsilon. Made from the shape alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct LayerNormOptions<'a> {
    shape: Shape,
    weight: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    epsilon: f64,
}

impl<'a> LayerNormOptions<'a> {
    /// Over the last dims, which have these sizes; no weight, no bias, epsilon 1e-5.
    pub fn new(shape: impl Into<Shape>) -> Self {
        LayerNormOptions {
            shape: shape.into(),
            weight: None,
            bias: None,
            epsilon: 1e-5,
        }
    }

    /// The factor of each normalised element.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The term of each normalised element.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// What is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

impl<S: Into<Shape>> From<S> for LayerNormOptions<'_> {
    fn from(shape: S) -> Self {
        LayerNormOptions::new(shape)
    }
}

impl Tensor {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the last dims, with the biased variance; halves compute in f32.
    ///
    /// Shapes: the input's; weight and bias have the normalised shape. Dtypes: floats; with halves, weight and bias may be f32.
    /// PyTorch: `torch.nn.functional.layer_norm`. NPU: `aclnnLayerNorm`, `aclnnLayerNormBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::norm::LayerNormOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f64, 3.0], [2.0, 6.0]]);
    /// let y = x.layer_norm(LayerNormOptions::new([2]).epsilon(0.0))?;
    /// assert_eq!(y.to_vec::<f64>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the last dims are others or weight or bias do not have them, `DType` for integers and bools.
    pub fn layer_norm<'a>(&self, options: impl Into<LayerNormOptions<'a>>) -> Result<Tensor> {
        let LayerNormOptions {
            shape,
            weight,
            bias,
            epsilon,
        } = options.into();
        let op = LineNorm {
            form: Form::Layer,
            shape,
            epsilon: Some(epsilon),
            weight: false,
            bias: false,
        };
        op.run(self, weight, bias)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "layer_norm",
    family: "norm",
    kernels: &["aclnnLayerNorm", "aclnnLayerNormBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Form::Layer)
}
