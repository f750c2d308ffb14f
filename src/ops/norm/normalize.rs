//! `normalize`: vectors along a dim brought to length 1.

use super::float_only;
use crate::ops::prelude::*;
use crate::ops::reduce::{NormOptions, widened};

/// Settings of [`Tensor::normalize`] and of [`Tensor::cosine_similarity`]: the dim, the power and the smallest length.
///
/// Made from `()` (dim 1) or from the dim alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct NormalizeOptions {
    pub(super) dim: i64,
    pub(super) power: f64,
    pub(super) epsilon: Option<f64>,
}

impl Default for NormalizeOptions {
    fn default() -> Self {
        NormalizeOptions {
            dim: 1,
            power: 2.0,
            epsilon: None,
        }
    }
}

impl NormalizeOptions {
    /// Along dim 1, by the 2-norm.
    pub fn new() -> Self {
        NormalizeOptions::default()
    }

    /// Along this dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = dim;
        self
    }

    /// The power of the norm (`cosine_similarity` always takes 2).
    pub fn power(mut self, power: f64) -> Self {
        self.power = power;
        self
    }

    /// The smallest length that is divided by: 1e-12, and 1e-8 for `cosine_similarity`, unless given.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = Some(epsilon);
        self
    }
}

impl From<()> for NormalizeOptions {
    fn from((): ()) -> Self {
        NormalizeOptions::new()
    }
}

impl From<i64> for NormalizeOptions {
    fn from(dim: i64) -> Self {
        NormalizeOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone, Copy)]
struct Normalize {
    options: NormalizeOptions,
}

impl Tensor {
    /// `x / max(norm(x), eps)` along a dim; halves compute in f32.
    ///
    /// Shapes: the input's. Dtypes: floats. PyTorch: `torch.nn.functional.normalize`. NPU: `aclnnLinalgVectorNorm`, `aclnnDiv`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([3.0f64, -4.0]).normalize(0)?.to_vec::<f64>()?, [0.6, -0.8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn normalize(&self, options: impl Into<NormalizeOptions>) -> Result<Tensor> {
        run_one(
            &Normalize {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        float_only("normalize", x[0].dtype)?;
        x[0].shape.axis_or_scalar("normalize", self.options.dim)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide = x[0].to_dtype(widened(x[0].dtype()))?;
        let norm = wide.norm(
            NormOptions::new()
                .dim(self.options.dim)
                .power(self.options.power)
                .keepdim(),
        )?;
        let unit = wide.div(&norm.clamp(self.options.epsilon.unwrap_or(1e-12)..)?)?;
        Ok(smallvec![unit.to_dtype(x[0].dtype())?])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
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
    name: "normalize",
    family: "norm",
    kernels: &["aclnnLinalgVectorNorm", "aclnnDiv"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |options| Sample {
        op: Box::new(Normalize { options }),
        inputs: vec![SampleInput::new([3, 4], -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![
        sample(().into()),
        sample(NormalizeOptions::new().dim(0).power(1.0)),
    ]
}
