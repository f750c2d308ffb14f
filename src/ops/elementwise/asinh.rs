//! `asinh`: the inverse hyperbolic sine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Asinh;

impl Tensor {
    /// The inverse hyperbolic sine.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.asinh`. NPU: `aclnnAsinh`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.asinh()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn asinh(&self) -> Result<Tensor> {
        Apply(Asinh).run(self)
    }
}

impl Unary for Asinh {
    const NAME: &'static str = "asinh";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::asinh))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::asinh(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.square()?.add(1i64)?.rsqrt()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "asinh",
    family: "elementwise",
    kernels: &["aclnnAsinh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Asinh, -2.0, 2.0, DType::ALL)]
}
