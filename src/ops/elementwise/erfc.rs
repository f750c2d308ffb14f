//! `erfc`: one minus the error function.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Erfc;

impl Tensor {
    /// `1 - erf(x)`, accurate for large `x`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.erfc`. NPU: `aclnnErfc`.
    /// In `f32` on the CPU it is at most 6 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.erfc()?.to_vec::<f32>()?, [1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn erfc(&self) -> Result<Tensor> {
        Apply(Erfc).run(self)
    }
}

impl Formula for Erfc {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Real::erfc(x)
    }
}

impl Unary for Erfc {
    const NAME: &'static str = "erfc";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::erfc(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let slope = cx.input(0)?.square()?.neg()?.exp()?;
        dy.mul(-std::f64::consts::FRAC_2_SQRT_PI)?.mul(&slope)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "erfc",
    family: "elementwise",
    kernels: &["aclnnErfc"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Erfc, -2.0, 2.0, DType::ALL)]
}
