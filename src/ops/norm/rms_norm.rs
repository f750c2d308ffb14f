//! `rms_norm`: the last dims brought to a root mean square of 1.

use super::line::{Form, LineNorm, samples_of};
use crate::ops::prelude::*;

/// The dims of [`Tensor::rms_norm`] by their sizes, with weight and epsilon. Made from the shape alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct RmsNormOptions<'a> {
    shape: Shape,
    weight: Option<&'a Tensor>,
    epsilon: Option<f64>,
}

impl<'a> RmsNormOptions<'a> {
    /// Over the last dims, which have these sizes; no weight; the machine epsilon of the dtype that it is computed in.
    pub fn new(shape: impl Into<Shape>) -> Self {
        RmsNormOptions {
            shape: shape.into(),
            weight: None,
            epsilon: None,
        }
    }

    /// The factor of each normalised element.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// What is added to the mean square.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = Some(epsilon);
        self
    }
}

impl<S: Into<Shape>> From<S> for RmsNormOptions<'_> {
    fn from(shape: S) -> Self {
        RmsNormOptions::new(shape)
    }
}

impl Tensor {
    /// `x / sqrt(mean(x^2) + eps) * weight` over the last dims; halves compute in f32.
    ///
    /// Shapes: the input's; the weight has the normalised shape. Dtypes: floats; with halves, the weight may be f32.
    /// PyTorch: `torch.nn.functional.rms_norm`. NPU: `aclnnRmsNorm`, `aclnnRmsNormGrad`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::norm::RmsNormOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[3.0f64, 3.0], [-2.0, 2.0]]);
    /// let weight = Tensor::new([1.0f64, 10.0]);
    /// let y = x.rms_norm(RmsNormOptions::new([2]).weight(&weight).epsilon(0.0))?;
    /// assert_eq!(y.to_vec::<f64>()?, [1.0, 10.0, -1.0, 10.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the last dims are others or the weight does not have them, `DType` for integers and bools.
    pub fn rms_norm<'a>(&self, options: impl Into<RmsNormOptions<'a>>) -> Result<Tensor> {
        let RmsNormOptions {
            shape,
            weight,
            epsilon,
        } = options.into();
        LineNorm {
            form: Form::Rms,
            shape,
            epsilon,
            weight: false,
            bias: false,
        }
        .run(self, weight, None)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "rms_norm",
    family: "norm",
    kernels: &["aclnnRmsNorm", "aclnnRmsNormGrad"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Form::Rms)
}
