//! `elu`: the positive part and a falling exponential.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Elu {
    alpha: f64,
}

impl Tensor {
    /// `x` where positive, else `alpha (e^x - 1)`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.elu`.
    /// NPU: `aclnnElu`, `aclnnEluBackward`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 3.0]);
    /// assert_eq!(x.elu(1.0)?.to_vec::<f32>()?, [0.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn elu(&self, alpha: f64) -> Result<Tensor> {
        Apply(Elu { alpha }).run(self)
    }
}

impl Formula for Elu {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        if x > T::ZERO {
            x
        } else {
            x.exp_m1().scaled(self.alpha)
        }
    }
}

impl Unary for Elu {
    const NAME: &'static str = "elu";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::elu(
            cx,
            x,
            AclScalar::of(self.alpha, y.dtype()),
            AclScalar::of(1.0, y.dtype()),
            AclScalar::of(1.0, y.dtype()),
            y,
        )
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.gt(0i64)?.where_cond(x, &x.expm1()?.mul(self.alpha)?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        x.le(0i64)?
            .where_cond(&dy.mul(&x.exp()?.mul(self.alpha)?)?, dy)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::elu_backward(
            cx,
            dy,
            AclScalar::of(self.alpha, dx.dtype()),
            AclScalar::of(1.0, dx.dtype()),
            AclScalar::of(1.0, dx.dtype()),
            false,
            x,
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "elu",
    family: "activation",
    kernels: &["aclnnElu", "aclnnEluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Elu { alpha: 1.5 }, -4.0, 4.0, FLOATS)]
}
