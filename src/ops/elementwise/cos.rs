//! `cos`: the cosine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Cos;

impl Tensor {
    /// The cosine of angles in radians.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.cos`. NPU: `aclnnCos`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.cos()?.to_vec::<f32>()?, [1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn cos(&self) -> Result<Tensor> {
        Apply(Cos).run(self)
    }
}

impl Unary for Cos {
    const NAME: &'static str = "cos";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::cos))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::cos(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.sin()?.neg()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cos",
    family: "elementwise",
    kernels: &["aclnnCos"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Cos, -2.0, 2.0, DType::ALL)]
}
