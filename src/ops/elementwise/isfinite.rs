//! `isfinite`: whether elements are finite.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IsFinite;

impl Tensor {
    /// Whether each element is neither NaN nor infinite; true for integers.
    ///
    /// Shapes: any. Dtypes: all, the result is `bool`. PyTorch: `torch.isfinite`. NPU: `aclnnIsFinite`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, f32::NAN]);
    /// assert_eq!(x.isfinite()?.to_vec::<bool>()?, [true, false]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn isfinite(&self) -> Result<Tensor> {
        Apply(IsFinite).run(self)
    }
}

impl Unary for IsFinite {
    const NAME: &'static str = "isfinite";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::fill(y, true);
        }
        with_float!(x.dtype(), T => map::map1::<T, bool>(x, y, Real::is_finite))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::is_finite(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_float() {
            x.abs()?.lt(f64::INFINITY)
        } else {
            Tensor::ones(*x.shape(), DType::Bool, x.device())
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "isfinite",
    family: "elementwise",
    kernels: &["aclnnIsFinite"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(IsFinite, -2.0, 2.0, DType::ALL)]
}
