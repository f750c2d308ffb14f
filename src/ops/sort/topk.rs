//! `topk`: the largest or smallest elements along a dim.

use super::sort::pair;
use crate::cpu::order::{Pick, order};
use crate::ops::prelude::*;

/// Settings of [`Tensor::topk`]. Made from `()`, or from a dim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct TopkOptions {
    dim: i64,
    smallest: bool,
}

impl Default for TopkOptions {
    fn default() -> Self {
        TopkOptions {
            dim: -1,
            smallest: false,
        }
    }
}

impl TopkOptions {
    /// The largest, along the last dim.
    pub fn new() -> Self {
        TopkOptions::default()
    }

    /// The dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = dim;
        self
    }

    /// The smallest instead.
    pub fn smallest(mut self) -> Self {
        self.smallest = true;
        self
    }
}

impl From<()> for TopkOptions {
    fn from((): ()) -> Self {
        TopkOptions::new()
    }
}

impl From<i64> for TopkOptions {
    fn from(dim: i64) -> Self {
        TopkOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone, Copy)]
struct Topk {
    k: usize,
    options: TopkOptions,
}

impl Tensor {
    /// The `k` largest (or smallest) elements along a dim, the best first, and the index that each had; NaN is the greatest.
    ///
    /// Shapes: `[.., n, ..] -> [.., k, ..]`, twice. Dtypes: all; indices `i64`. PyTorch: `torch.topk`. NPU: `aclnnTopk`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([3.0f32, 1.0, 4.0]).topk(2, ())?;
    /// assert_eq!(values.to_vec::<f32>()?, [4.0, 3.0]);
    /// assert_eq!(indices.to_vec::<i64>()?, [2, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for more than there are.
    pub fn topk(&self, k: usize, options: impl Into<TopkOptions>) -> Result<(Tensor, Tensor)> {
        pair(
            "topk",
            run(
                &Topk {
                    k,
                    options: options.into(),
                },
                &[self],
            )?,
        )
    }
}

impl Op for Topk {
    fn name(&self) -> &'static str {
        "topk"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dim = x[0].shape.axis_or_scalar(self.name(), self.options.dim)?;
        if self.k > x[0].shape.size(dim) {
            let why = format!("got {}, wanted at most {}", self.k, x[0].shape.size(dim));
            return Err(Error::option(self.name(), "k", why));
        }
        let shape = x[0].shape.with(dim, self.k);
        plan.output(shape, x[0].dtype);
        plan.output(shape, DType::I64);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        let [values, indices] = y else {
            return Ok(Counts::EXACT);
        };
        if values.elements() > 0 {
            // A tensor without dims is its own only element, however many are asked for.
            let scalar = x[0].shape().rank() == 0;
            let pick = Pick {
                dim,
                descending: !self.options.smallest,
                count: if scalar { 1 } else { self.k },
            };
            with_lane!(x[0].dtype(), T => order::<T>(self.name(), &x[0], pick, values, indices)?);
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        if x[0].shape().size(dim) == 1 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            aclnn::inplace_zero(cx, &y[1])?;
            return Ok(Counts::EXACT);
        }
        aclnn::topk(
            cx,
            &x[0],
            self.k as i64,
            dim as i64,
            !self.options.smallest,
            true,
            &y[0],
            &y[1],
        )?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        super::picked_gradient(cx, self.options.dim, self.name())
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "topk",
    family: "sort",
    kernels: &["aclnnTopk"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |options| Sample {
        op: Box::new(Topk { k: 2, options }),
        inputs: vec![SampleInput::new([3, 5, 2], -90.0, 90.0)],
        dtypes: FLOATS,
    };
    vec![
        one(TopkOptions::new().dim(1)),
        one(TopkOptions::new().smallest()),
    ]
}
