//! `log_softmax`: the logarithm of the softmax along a dim.

use super::SoftmaxOptions;
use super::softmax::gradient;
use crate::cpu::columns::{self, Form};
use crate::cpu::rows;
use crate::cpu::total::exponentials;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct LogSoftmax {
    options: SoftmaxOptions,
}

impl Tensor {
    /// `x - ln(sum(e^x))` along a dim, shifted by the largest value so that nothing overflows; halves compute in f32.
    ///
    /// Shapes: any; the result has the input's. Dtypes: floats. PyTorch: `torch.log_softmax`. NPU: `aclnnLogSoftmax`,
    /// `aclnnLogSoftmaxBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1000.0f64, 0.0]);
    /// assert_eq!(x.log_softmax(0)?.to_vec::<f64>()?, [0.0, -1000.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn log_softmax(&self, options: impl Into<SoftmaxOptions>) -> Result<Tensor> {
        run_one(
            &LogSoftmax {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        super::plan_softmax(self.name(), &self.options, x, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        let simd = Simd::best();
        with_float!(y[0].dtype(), T => if !columns::softmax::<T>(&x[0], &mut y[0], dim, Form::Logarithms) {
            rows::rows::<T, 1, 1>([&x[0]], [&mut y[0]], &rows::one(dim), |_, [x], [y]| vectorised!(simd, {
                let (top, sum) = exponentials(x);
                let logarithm = Float::ln(sum);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x.minus(top).minus(logarithm);
                }
            }));
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::log_softmax(cx, &x[0], self.options.dim, &y[0])?;
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
            true,
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

pub(super) const INFO: OpInfo = OpInfo {
    name: "log_softmax",
    family: "norm",
    kernels: &["aclnnLogSoftmax", "aclnnLogSoftmaxBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |dim: i64, shape: &[usize]| Sample {
        op: Box::new(LogSoftmax {
            options: dim.into(),
        }),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![sample(-1, &[3, 4]), sample(1, &[2, 3, 4]), sample(0, &[])]
}
