//! `exp`: e to the power of the elements.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Exp;

impl Tensor {
    /// `e^x`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.exp`. NPU: `aclnnExp`.
    /// In `f32` on the CPU it is at most 1.1 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, f32::NEG_INFINITY]);
    /// assert_eq!(x.exp()?.to_vec::<f32>()?, [1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn exp(&self) -> Result<Tensor> {
        Apply(Exp).run(self)
    }
}

impl Formula for Exp {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Float::exp(x)
    }
}

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::exp(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(cx.output(0)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "exp",
    family: "elementwise",
    kernels: &["aclnnExp"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Exp, -2.0, 2.0, DType::ALL)]
}
