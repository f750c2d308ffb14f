//! `acos`: the inverse cosine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Acos;

impl Tensor {
    /// The inverse cosine, in radians; NaN outside `[-1, 1]`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.acos`. NPU: `aclnnAcos`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32]);
    /// assert_eq!(x.acos()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn acos(&self) -> Result<Tensor> {
        Apply(Acos).run(self)
    }
}

impl Unary for Acos {
    const NAME: &'static str = "acos";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::acos))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::acos(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let x = cx.input(0)?;
        dy.neg()?.mul(&x.square()?.neg()?.add(1i64)?.rsqrt()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "acos",
    family: "elementwise",
    kernels: &["aclnnAcos"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Acos, -0.9, 0.9, DType::ALL)]
}
