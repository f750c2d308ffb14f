//! `asin`: the inverse sine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Asin;

impl Tensor {
    /// The inverse sine, in radians; NaN outside `[-1, 1]`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.asin`. NPU: `aclnnAsin`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.asin()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn asin(&self) -> Result<Tensor> {
        Apply(Asin).run(self)
    }
}

impl Unary for Asin {
    const NAME: &'static str = "asin";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::asin))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::asin(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let x = cx.input(0)?;
        dy.mul(&x.square()?.neg()?.add(1i64)?.rsqrt()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "asin",
    family: "elementwise",
    kernels: &["aclnnAsin"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Asin, -0.9, 0.9, DType::ALL)]
}
