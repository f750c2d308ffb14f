//! `cummax`: the largest element so far along a dim.

use super::extreme::{End, wins};
use super::picked_along;
use super::run_two;
use crate::cpu::rows;
use crate::ops::prelude::*;

/// `cummax` and `cummin`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunningExtreme {
    pub(super) end: End,
    pub(super) dim: i64,
}

impl Tensor {
    /// The largest element so far along a dim and where it stands: a later equal one takes over, and so does a later NaN.
    ///
    /// Shapes: the input's. Dtypes: all, the indices are `i64`. PyTorch: `torch.cummax`. NPU: `aclnnCummax`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([1i32, 3, 2, 3]).cummax(0)?;
    /// assert_eq!(values.to_vec::<i32>()?, [1, 3, 3, 3]);
    /// assert_eq!(indices.to_vec::<i64>()?, [0, 1, 1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn cummax(&self, dim: i64) -> Result<(Tensor, Tensor)> {
        run_two(
            &RunningExtreme {
                end: End::Largest,
                dim,
            },
            &[self],
        )
    }
}

impl Op for RunningExtreme {
    fn name(&self) -> &'static str {
        if self.end == End::Largest {
            "cummax"
        } else {
            "cummin"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        x[0].shape.axis_or_scalar(self.name(), self.dim)?;
        plan.output(x[0].shape, x[0].dtype);
        plan.output(x[0].shape, DType::I64);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = rows::one(x[0].shape().axis_or_scalar(self.name(), self.dim)?);
        let [values, indices] = y else {
            return Ok(Counts::EXACT);
        };
        let end = self.end;
        with_lane!(x[0].dtype(), T => rows::marked::<T, 1, 1>([&x[0]], [values], indices, &mask, |_, [x], [y], marks| {
            let mut best = 0;
            for (index, ((x_now, y), mark)) in x.iter().zip(y).zip(marks).enumerate() {
                let now = *x_now;
                let equal = now == x[best] || now.is_nan() && x[best].is_nan();
                if equal || wins(end, now, x[best]) {
                    best = index;
                }
                *y = x[best];
                *mark = best as i64;
            }
        }));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let run = if self.end == End::Largest {
            aclnn::cummax
        } else {
            aclnn::cummin
        };
        run(cx, &x[0], self.dim, &y[0], &y[1])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(picked_along(
            &cx.meta(0)?.shape,
            self.dim,
            cx.gradient()?,
            cx.output(1)?
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cummax",
    family: "reduce",
    kernels: &["aclnnCummax"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(RunningExtreme {
                end: End::Largest,
                dim,
            })
        },
        NUMBERS,
    )
}
