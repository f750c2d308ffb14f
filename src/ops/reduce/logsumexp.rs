//! `logsumexp`: the logarithm of a sum of exponentials.

use super::{ReduceOptions, widened};
use crate::cpu::rows;
use crate::cpu::total::{largest, total};
use crate::ops::prelude::*;

#[derive(Debug, Clone)]
struct LogSumExp {
    options: ReduceOptions,
}

impl Tensor {
    /// `ln(sum(e^x))` over dims, shifted by the largest value so that nothing overflows; halves compute in f32.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all; integers and bools give f32.
    /// PyTorch: `torch.logsumexp`. NPU: `aclnnLogSumExp`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1000.0f64, f64::NEG_INFINITY]);
    /// assert_eq!(x.logsumexp(0)?.item::<f64>()?, 1000.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn logsumexp(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &LogSumExp {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "logsumexp"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = self.options.dtype.unwrap_or(x[0].dtype).to_float();
        plan.cast(0, dtype);
        plan.output(self.options.result("logsumexp", &x[0].shape)?, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.mask("logsumexp", x[0].shape())?;
        let mut y = y[0].with_layout(Layout::contiguous(
            self.options.kept("logsumexp", x[0].shape())?,
        ));
        let simd = Simd::best();
        with_float!(x[0].dtype(), T => rows::rows::<T, 1, 1>([&x[0]], [&mut y], &mask, |_, [x], [y]| vectorised!(simd, {
            let top = largest(x);
            let top = if top == T::LOWEST || top == T::HIGHEST { T::ZERO } else { top };
            y.fill(Float::ln(total(x, |x| Float::exp(x.minus(top)))).plus(top));
        })));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 {
            aclnn::inplace_fill_scalar(
                cx,
                &y[0],
                AclScalar::of(Scalar::Float(f64::NEG_INFINITY), y[0].dtype()),
            )?;
            return Ok(Counts::EXACT);
        }
        let dims = self.options.dims("logsumexp", x[0].shape())?;
        aclnn::log_sum_exp(cx, &x[0], &dims, self.options.keep, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        // The tape records this op, not its parts: its gradient at minus infinity is not theirs.
        let x = [x[0].detach()];
        let top = x[0].amax(self.options.keeping())?;
        let top = top.isfinite()?.where_cond(&top, 0.0)?;
        let sum = x[0]
            .sub(&top)?
            .exp()?
            .sum(self.options.keeping())?
            .log()?
            .add(&top)?;
        Ok(smallvec![sum.reshape(
            self.options.result("logsumexp", x[0].shape())?
        )?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(0)
    }

    /// `dx = dy e^(x - y)`: the softmax; nothing where all elements are minus infinity.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let kept = self.options.kept("logsumexp", &cx.meta(0)?.shape)?;
        let x = cx.input(0)?;
        // A half's result is too coarse: its rounding would be an error of the exponential.
        let wide = x.to_dtype(widened(x.dtype()))?;
        let y = match x.dtype().is_half() {
            true => wide
                .logsumexp(self.options.clone().dtype(wide.dtype()))?
                .reshape(kept)?,
            false => cx.output(0)?.reshape(kept)?,
        };
        let y = y.eq(f64::NEG_INFINITY)?.where_cond(0.0, &y)?;
        let share = wide.sub(&y)?.exp()?;
        Ok(smallvec![Some(cx.gradient()?.reshape(kept)?.mul(&share)?)])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logsumexp",
    family: "reduce",
    kernels: &["aclnnLogSumExp"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(|options| Box::new(LogSumExp { options }), FLOATS)
}
