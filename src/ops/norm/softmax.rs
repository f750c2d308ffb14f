//! `softmax`: exponentials that sum to 1 along a dim, and its gradient as one kernel.

use super::SoftmaxOptions;
use crate::cpu::columns::{self, Form};
use crate::cpu::rows;
use crate::cpu::total::{largest, mapped, total, total2};
use crate::mode::{self, Modes};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Softmax {
    options: SoftmaxOptions,
}

impl Tensor {
    /// `e^x / sum(e^x)` along a dim, shifted by the largest value so that nothing overflows; halves compute in f32.
    ///
    /// Shapes: any; the result has the input's. Dtypes: floats. PyTorch: `torch.softmax`. NPU: `aclnnSoftmax`,
    /// `aclnnSoftmaxBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0.0f64, 0.0], [1.0, f64::NEG_INFINITY]]);
    /// assert_eq!(x.softmax(-1)?.to_vec::<f64>()?, [0.5, 0.5, 1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn softmax(&self, options: impl Into<SoftmaxOptions>) -> Result<Tensor> {
        run_one(
            &Softmax {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        super::plan_softmax(self.name(), &self.options, x, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        let simd = Simd::best();
        with_float!(y[0].dtype(), T => if !columns::softmax::<T>(&x[0], &mut y[0], dim, Form::Shares) {
            rows::rows::<T, 1, 1>([&x[0]], [&mut y[0]], &rows::one(dim), |_, [x], [y]| vectorised!(simd, {
                let top = largest(x);
                let share = T::ONE.over(mapped(x, y, |x| x.minus(top).exp_term()));
                for y in y {
                    *y = y.times(share);
                }
            }));
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::softmax(cx, &x[0], self.options.dim, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::OUTPUTS
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(gradient(
            false,
            self.options.dim,
            cx.gradient()?,
            cx.output(0)?
        )?)])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The gradient of a softmax or of its logarithm from the output: as one kernel, or in ops if it is recorded itself.
pub(super) fn gradient(logarithm: bool, dim: i64, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
    let op = SoftmaxBackward { logarithm, dim };
    if mode::current().has(Modes::NO_GRAD) {
        run_one(&op, &[dy, y])
    } else {
        op.formula(dy, y)
    }
}

/// `y (dy - sum(dy y))`, or for the logarithm `dy - e^y sum(dy)`.
#[derive(Debug, Clone, Copy)]
struct SoftmaxBackward {
    logarithm: bool,
    dim: i64,
}

impl SoftmaxBackward {
    fn formula(&self, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
        let kept = || {
            crate::ops::reduce::ReduceOptions::new()
                .dim(self.dim)
                .keepdim()
        };
        if self.logarithm {
            return dy.sub(&y.exp()?.mul(&dy.sum(kept())?)?);
        }
        y.mul(&dy.sub(&dy.mul(y)?.sum(kept())?)?)
    }
}

impl Op for SoftmaxBackward {
    fn name(&self) -> &'static str {
        if self.logarithm {
            "log_softmax_backward"
        } else {
            "softmax_backward"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = rows::one(x[1].shape().axis_or_scalar(self.name(), self.dim)?);
        let simd = Simd::best();
        let logarithm = self.logarithm;
        with_float!(y[0].dtype(), T => rows::rows::<T, 2, 1>([&x[0], &x[1]], [&mut y[0]], &mask, |_, [dy, y], [dx]| vectorised!(simd, {
            if logarithm {
                let sum = total(dy, |dy| dy);
                for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                    *dx = dy.minus(Float::exp(*y).times(sum));
                }
            } else {
                let sum = total2(dy, y, |dy, y| dy.times(y));
                for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                    *dx = y.times(dy.minus(sum));
                }
            }
        })));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let run = if self.logarithm {
            aclnn::log_softmax_backward
        } else {
            aclnn::softmax_backward
        };
        run(cx, &x[0], &x[1], self.dim, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.formula(&x[0], &x[1])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "softmax",
    family: "norm",
    kernels: &["aclnnSoftmax", "aclnnSoftmaxBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |dim: i64, shape: &[usize]| Sample {
        op: Box::new(Softmax {
            options: dim.into(),
        }),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![sample(-1, &[3, 4]), sample(1, &[2, 3, 4]), sample(0, &[])]
}
