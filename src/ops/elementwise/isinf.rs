//! `isinf`: whether elements are infinite.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IsInf;

impl Tensor {
    /// Whether each element is plus or minus infinity; false for integers.
    ///
    /// Shapes: any. Dtypes: all, the result is `bool`. PyTorch: `torch.isinf`. NPU: `aclnnIsInf`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, f32::NEG_INFINITY]);
    /// assert_eq!(x.isinf()?.to_vec::<bool>()?, [false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn isinf(&self) -> Result<Tensor> {
        Apply(IsInf).run(self)
    }
}

impl Unary for IsInf {
    const NAME: &'static str = "isinf";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::fill(y, false);
        }
        with_float!(x.dtype(), T => map::map1::<T, bool>(x, y, Real::is_infinite))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::is_inf(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_float() {
            x.abs()?.eq(f64::INFINITY)
        } else {
            Tensor::zeros(*x.shape(), DType::Bool, x.device())
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "isinf",
    family: "elementwise",
    kernels: &["aclnnIsInf"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(IsInf, -2.0, 2.0, DType::ALL)]
}
