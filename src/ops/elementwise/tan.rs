//! `tan`: the tangent.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Tan;

impl Tensor {
    /// The tangent of angles in radians.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.tan`. NPU: `aclnnTan`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.tan()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn tan(&self) -> Result<Tensor> {
        Apply(Tan).run(self)
    }
}

impl Unary for Tan {
    const NAME: &'static str = "tan";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::tan))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::tan(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.sin()?.div(&x.cos()?)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.output(0)?.square()?.add(1i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "tan",
    family: "elementwise",
    kernels: &["aclnnTan"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Tan, -1.0, 1.0, DType::ALL)]
}
