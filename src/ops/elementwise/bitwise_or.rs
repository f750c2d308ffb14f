//! `bitwise_or`: or of bits.

use super::binary::{Binary, Rule, Side, combine, samples_of, tensors};
use crate::cpu::integer::with_integer;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct BitwiseOr;

impl Tensor {
    /// Bitwise or of integers; logical or of bools.
    ///
    /// Shapes: any two that broadcast. Dtypes: integers and bool. PyTorch: `torch.bitwise_or`. NPU: `aclnnBitwiseOrTensor`, `aclnnBitwiseOrScalar`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3i32, 6]);
    /// let y = Tensor::new([5i32, 4]);
    /// assert_eq!(x.bitwise_or(&y)?.to_vec::<i32>()?, [7, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices, `DType` for floats.
    pub fn bitwise_or<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(BitwiseOr, self, other.into())
    }
}

impl Binary for BitwiseOr {
    const NAME: &'static str = "bitwise_or";
    const RULE: Rule = Rule::Integers;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        match x.dtype() {
            DType::Bool => map::map2::<bool, bool, bool>(x, y, z, |x, y| x | y),
            dtype => with_integer!(dtype, T => map::map2::<T, T, T>(x, y, z, |x, y| x | y)),
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::bitwise_or_tensor(cx, x, y, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::bitwise_or_scalar(cx, x, y, z),
            (Side::Scalar(_), _) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bitwise_or",
    family: "elementwise",
    kernels: &["aclnnBitwiseOrTensor", "aclnnBitwiseOrScalar"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(
        BitwiseOr,
        -2.0,
        2.0,
        &[
            DType::I64,
            DType::I32,
            DType::I16,
            DType::I8,
            DType::U8,
            DType::Bool,
        ],
    )
}
