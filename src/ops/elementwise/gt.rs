//! `gt`: whether elements are greater.

use super::binary::{Binary, Rule, Side, combine, samples_of, tensors};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Gt;

impl Tensor {
    /// `self > other`, elementwise after promotion; false where one is NaN.
    ///
    /// Shapes: any two that broadcast. Dtypes: all, the result is `bool`. PyTorch: `torch.gt`. NPU: `aclnnGtTensor`, `aclnnGtScalar`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0, 3.0]);
    /// let y = Tensor::new(2.0f32);
    /// assert_eq!(x.gt(&y)?.to_vec::<bool>()?, [false, false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn gt<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Gt, self, other.into())
    }
}

impl Binary for Gt {
    const NAME: &'static str = "gt";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_lane!(x.dtype(), T => map::map2::<T, T, bool>(x, y, z, |x, y| x > y));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::gt_tensor(cx, x, y, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::gt_scalar(cx, x, y, z),
            (Side::Scalar(_), _) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "gt",
    family: "elementwise",
    kernels: &["aclnnGtTensor", "aclnnGtScalar"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Gt, -2.0, 2.0, DType::ALL)
}
