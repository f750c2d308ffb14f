//! `atanh`: the inverse hyperbolic tangent.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Atanh;

impl Tensor {
    /// The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.atanh`. NPU: `aclnnAtanh`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.atanh()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn atanh(&self) -> Result<Tensor> {
        Apply(Atanh).run(self)
    }
}

impl Unary for Atanh {
    const NAME: &'static str = "atanh";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::atanh))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::atanh(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.square()?.neg()?.add(1i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "atanh",
    family: "elementwise",
    kernels: &["aclnnAtanh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Atanh, -0.9, 0.9, DType::ALL)]
}
