//! `atan`: the inverse tangent.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Atan;

impl Tensor {
    /// The inverse tangent, in radians.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.atan`. NPU: `aclnnAtan`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.atan()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn atan(&self) -> Result<Tensor> {
        Apply(Atan).run(self)
    }
}

impl Unary for Atan {
    const NAME: &'static str = "atan";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::atan))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::atan(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.square()?.add(1i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "atan",
    family: "elementwise",
    kernels: &["aclnnAtan"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Atan, -2.0, 2.0, DType::ALL)]
}
