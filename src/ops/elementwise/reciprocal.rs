//! `reciprocal`: one over the elements.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Reciprocal;

impl Tensor {
    /// `1 / x`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.reciprocal`. NPU: `aclnnReciprocal`.
    /// In `f32` on the CPU it is at most 0.5 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([4.0f32, -2.0]);
    /// assert_eq!(x.reciprocal()?.to_vec::<f32>()?, [0.25, -0.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn reciprocal(&self) -> Result<Tensor> {
        Apply(Reciprocal).run(self)
    }
}

impl Formula for Reciprocal {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        T::ONE.over(x)
    }
}

impl Unary for Reciprocal {
    const NAME: &'static str = "reciprocal";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::reciprocal(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let y = cx.output(0)?;
        dy.neg()?.mul(&y.mul(y)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "reciprocal",
    family: "elementwise",
    kernels: &["aclnnReciprocal"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Reciprocal, 0.5, 4.0, DType::ALL)]
}
