//! `logical_not`: whether elements are zero.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct LogicalNot;

impl Tensor {
    /// Whether each element is zero or false; NaN is not zero.
    ///
    /// Shapes: any. Dtypes: all, the result is `bool`. PyTorch: `torch.logical_not`. NPU: `aclnnLogicalNot`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 0.0]);
    /// assert_eq!(x.logical_not()?.to_vec::<bool>()?, [false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn logical_not(&self) -> Result<Tensor> {
        Apply(LogicalNot).run(self)
    }
}

impl Unary for LogicalNot {
    const NAME: &'static str = "logical_not";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, bool>(x, y, |x| !x.is_true()))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::logical_not(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.eq(0i64)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logical_not",
    family: "elementwise",
    kernels: &["aclnnLogicalNot"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(LogicalNot, -2.0, 2.0, DType::ALL)]
}
