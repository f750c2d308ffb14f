//! `celu`: the exponential unit with a smooth slope.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Celu {
    alpha: f64,
}

impl Tensor {
    /// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.celu`.
    /// NPU: `aclnnCelu`, `aclnnEluBackward`.
    /// In `f32` on the CPU it is at most 3 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 3.0]);
    /// assert_eq!(x.celu(1.0)?.to_vec::<f32>()?, [0.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for an `alpha` of 0, `DType` for integers and bools; memory and device errors.
    pub fn celu(&self, alpha: f64) -> Result<Tensor> {
        Apply(Celu { alpha }).run(self)
    }
}

impl Formula for Celu {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        if x > T::ZERO {
            x
        } else {
            x.scaled(1.0 / self.alpha).exp_m1().scaled(self.alpha)
        }
    }
}

impl Unary for Celu {
    const NAME: &'static str = "celu";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn check(&self) -> Result<()> {
        if self.alpha == 0.0 {
            return Err(Error::option(
                "celu",
                "alpha",
                "got 0, wanted another number",
            ));
        }
        Ok(())
    }

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::celu(cx, x, AclScalar::of(self.alpha, y.dtype()), y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.gt(0i64)?
            .where_cond(x, &x.mul(1.0 / self.alpha)?.expm1()?.mul(self.alpha)?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        // PyTorch's gradient divides by alpha rounded to single precision, for every dtype.
        let inverse = 1.0 / f64::from(self.alpha as f32);
        let slope = x.mul(inverse)?.exp()?.mul(inverse * self.alpha)?;
        x.le(0i64)?.where_cond(&dy.mul(&slope)?, dy)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::elu_backward(
            cx,
            dy,
            AclScalar::of(self.alpha, dx.dtype()),
            AclScalar::of(1.0, dx.dtype()),
            AclScalar::of(1.0 / self.alpha, dx.dtype()),
            false,
            x,
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "celu",
    family: "activation",
    kernels: &["aclnnCelu", "aclnnEluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Celu { alpha: 1.5 }, -4.0, 4.0, FLOATS)]
}
