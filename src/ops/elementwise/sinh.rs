//! `sinh`: the hyperbolic sine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Sinh;

impl Tensor {
    /// The hyperbolic sine.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.sinh`. NPU: `aclnnSinh`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.sinh()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn sinh(&self) -> Result<Tensor> {
        Apply(Sinh).run(self)
    }
}

impl Unary for Sinh {
    const NAME: &'static str = "sinh";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::sinh))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::sinh(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.cosh()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sinh",
    family: "elementwise",
    kernels: &["aclnnSinh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Sinh, -2.0, 2.0, DType::ALL)]
}
