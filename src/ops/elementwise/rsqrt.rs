//! `rsqrt`: one over the square root.

use super::unary::{Apply, Formula, Rule, Unary, float, sample, wide};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Rsqrt;

impl Tensor {
    /// `1 / sqrt(x)`; infinite at zero (with its sign), NaN for negative numbers.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.rsqrt`. NPU: `aclnnRsqrt`.
    /// In `f32` on the CPU it is at most 1.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([4.0f32, 16.0]);
    /// assert_eq!(x.rsqrt()?.to_vec::<f32>()?, [0.5, 0.25]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn rsqrt(&self) -> Result<Tensor> {
        Apply(Rsqrt).run(self)
    }
}

impl Formula for Rsqrt {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        T::ONE.over(x.sqrt())
    }
}

impl Unary for Rsqrt {
    const NAME: &'static str = "rsqrt";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::rsqrt(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.sqrt()?.reciprocal()
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let (dy, y) = (wide(dy)?, &wide(cx.output(0)?)?);
        dy.mul(-0.5)?.mul(&y.mul(&y.mul(y)?)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "rsqrt",
    family: "elementwise",
    kernels: &["aclnnRsqrt"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Rsqrt, 0.5, 4.0, DType::ALL)]
}
