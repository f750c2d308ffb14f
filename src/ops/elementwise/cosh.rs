//! `cosh`: the hyperbolic cosine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Cosh;

impl Tensor {
    /// The hyperbolic cosine.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.cosh`. NPU: `aclnnCosh`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.cosh()?.to_vec::<f32>()?, [1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn cosh(&self) -> Result<Tensor> {
        Apply(Cosh).run(self)
    }
}

impl Unary for Cosh {
    const NAME: &'static str = "cosh";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::cosh))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::cosh(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.sinh()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cosh",
    family: "elementwise",
    kernels: &["aclnnCosh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Cosh, -2.0, 2.0, DType::ALL)]
}
