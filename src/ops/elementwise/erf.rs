//! `erf`: the error function.

use super::unary::{Apply, Formula, Rule, Unary, float, sample, wide};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Erf;

impl Tensor {
    /// The error function, `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to `x`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.erf`. NPU: `aclnnErf`.
    /// In `f32` on the CPU it is at most 2.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 10.0]);
    /// assert_eq!(x.erf()?.to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn erf(&self) -> Result<Tensor> {
        Apply(Erf).run(self)
    }
}

impl Formula for Erf {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Real::erf(x)
    }
}

impl Unary for Erf {
    const NAME: &'static str = "erf";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::erf(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let slope = wide(cx.input(0)?)?.square()?.neg()?.exp()?;
        wide(dy)?.mul(std::f64::consts::FRAC_2_SQRT_PI)?.mul(&slope)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "erf",
    family: "elementwise",
    kernels: &["aclnnErf"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Erf, -2.0, 2.0, DType::ALL)]
}
