//! `bitwise_left_shift`: bits moved left.

use super::binary::{Binary, Rule, Side, combine, samples_of, tensors};
use crate::cpu::integer::with_integer;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct BitwiseLeftShift;

impl Tensor {
    /// `self << other`; bits that do not fit are lost. Counts are meant to be below the number of bits.
    ///
    /// Shapes: any two that broadcast. Dtypes: integers. PyTorch: `torch.bitwise_left_shift`. NPU: `aclnnLeftShift`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3i32, 6]);
    /// let y = Tensor::new([1i32, 2]);
    /// assert_eq!(x.bitwise_left_shift(&y)?.to_vec::<i32>()?, [6, 24]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices, `DType` for floats and bools.
    pub fn bitwise_left_shift<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(BitwiseLeftShift, self, other.into())
    }
}

impl Binary for BitwiseLeftShift {
    const NAME: &'static str = "bitwise_left_shift";
    const RULE: Rule = Rule::IntegersOnly;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_integer!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| x.checked_shl(y as u32).unwrap_or(0)));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::left_shift(cx, x, y, z)
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        x.mul(&Tensor::full_of((), 2i64, y.dtype(), y.device())?.pow(y)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bitwise_left_shift",
    family: "elementwise",
    kernels: &["aclnnLeftShift"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(
        BitwiseLeftShift,
        0.0,
        5.0,
        &[DType::I64, DType::I32, DType::I16, DType::I8, DType::U8],
    )
}
