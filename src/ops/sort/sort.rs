//! `sort` and `argsort`: elements in order along a dim.

use crate::cpu::order::{Pick, order};
use crate::ops::prelude::*;

/// Settings of [`Tensor::sort`]. Made from `()`, or from a dim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct SortOptions {
    dim: i64,
    descending: bool,
    stable: bool,
}

impl Default for SortOptions {
    fn default() -> Self {
        SortOptions {
            dim: -1,
            descending: false,
            stable: false,
        }
    }
}

impl SortOptions {
    /// Along the last dim, ascending.
    pub fn new() -> Self {
        SortOptions::default()
    }

    /// The dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = dim;
        self
    }

    /// The greatest first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Equal elements keep their order (on the CPU they always do).
    pub fn stable(mut self) -> Self {
        self.stable = true;
        self
    }
}

impl From<()> for SortOptions {
    fn from((): ()) -> Self {
        SortOptions::new()
    }
}

impl From<i64> for SortOptions {
    fn from(dim: i64) -> Self {
        SortOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone, Copy)]
struct Sort {
    options: SortOptions,
}

impl Tensor {
    /// The elements in order along a dim, and the index that each had; NaN is the greatest.
    ///
    /// Shapes: any; both results have it. Dtypes: all; indices `i64`. PyTorch: `torch.sort`. NPU: `aclnnSort`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::sort::SortOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([3i32, 1, 2]).sort(SortOptions::new().descending())?;
    /// assert_eq!(values.to_vec::<i32>()?, [3, 2, 1]);
    /// assert_eq!(indices.to_vec::<i64>()?, [0, 2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn sort(&self, options: impl Into<SortOptions>) -> Result<(Tensor, Tensor)> {
        pair(
            "sort",
            run(
                &Sort {
                    options: options.into(),
                },
                &[self],
            )?,
        )
    }

    /// The indices that sort the elements along a dim. PyTorch: `torch.argsort`. NPU: `aclnnSort`.
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    pub fn argsort(&self, options: impl Into<SortOptions>) -> Result<Tensor> {
        Ok(self.detach().sort(options)?.1)
    }
}

/// The two outputs of an op.
pub(super) fn pair(op: &'static str, outputs: Outputs) -> Result<(Tensor, Tensor)> {
    let mut outputs = outputs.into_iter();
    match (outputs.next(), outputs.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(Error::NoGradient { op }),
    }
}

impl Op for Sort {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        x[0].shape.axis_or_scalar(self.name(), self.options.dim)?;
        plan.output(x[0].shape, x[0].dtype);
        plan.output(x[0].shape, DType::I64);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        let [values, indices] = y else {
            return Ok(Counts::EXACT);
        };
        let pick = Pick {
            dim,
            descending: self.options.descending,
            count: x[0].shape().size(dim),
        };
        with_lane!(x[0].dtype(), T => order::<T>(self.name(), &x[0], pick, values, indices)?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        if x[0].shape().size(dim) == 1 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            aclnn::inplace_zero(cx, &y[1])?;
            return Ok(Counts::EXACT);
        }
        aclnn::sort(
            cx,
            &x[0],
            self.options.stable,
            dim as i64,
            self.options.descending,
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
    name: "sort",
    family: "sort",
    kernels: &["aclnnSort"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |options| Sample {
        op: Box::new(Sort { options }),
        inputs: vec![SampleInput::new([3, 5, 2], -90.0, 90.0)],
        dtypes: DType::ALL,
    };
    vec![
        one(SortOptions::new().dim(1).stable()),
        one(SortOptions::new().descending().stable()),
    ]
}
