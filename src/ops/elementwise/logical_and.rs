//! `logical_and`: and of truth values.

use super::binary::{Binary, Rule, Side, combine, samples_of, tensors};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct LogicalAnd;

impl Tensor {
    /// Logical and of `self != 0` and `other != 0`; NaN is not zero.
    ///
    /// Shapes: any two that broadcast. Dtypes: all, the result is `bool`. PyTorch: `torch.logical_and`. NPU: `aclnnLogicalAnd`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0, 0.0]);
    /// let y = Tensor::new([1.0f32, 0.0, 0.0]);
    /// assert_eq!(x.logical_and(&y)?.to_vec::<bool>()?, [true, false, false]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn logical_and<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(LogicalAnd, self, other.into())
    }
}

impl Binary for LogicalAnd {
    const NAME: &'static str = "logical_and";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_lane!(x.dtype(), T => map::map2::<T, T, bool>(x, y, z, |x, y| x.is_true() & y.is_true()));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::logical_and(cx, x, y, z)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logical_and",
    family: "elementwise",
    kernels: &["aclnnLogicalAnd"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(LogicalAnd, -2.0, 2.0, DType::ALL)
}
