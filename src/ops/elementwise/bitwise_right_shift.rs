//! `bitwise_right_shift`: bits moved right.

use super::binary::{Binary, Rule, Side, combine, samples_of, tensors};
use crate::cpu::integer::with_integer;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct BitwiseRightShift;

impl Tensor {
    /// `self >> other`, arithmetic: the sign stays. Counts are meant to be below the number of bits.
    ///
    /// Shapes: any two that broadcast. Dtypes: integers. PyTorch: `torch.bitwise_right_shift`. NPU: `aclnnRightShift`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3i32, 6]);
    /// let y = Tensor::new([1i32, 2]);
    /// assert_eq!(x.bitwise_right_shift(&y)?.to_vec::<i32>()?, [1, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices, `DType` for floats and bools.
    pub fn bitwise_right_shift<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(BitwiseRightShift, self, other.into())
    }
}

impl Binary for BitwiseRightShift {
    const NAME: &'static str = "bitwise_right_shift";
    const RULE: Rule = Rule::IntegersOnly;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_integer!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| x.checked_shr(y as u32).unwrap_or(if T::ZERO > x { T::ONE.negate() } else { T::ZERO })));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::right_shift(cx, x, y, z)
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        if x.dtype().size() < 4 {
            return x
                .to_dtype(DType::I32)?
                .bitwise_right_shift(&y.to_dtype(DType::I32)?)?
                .to_dtype(x.dtype());
        }
        x.floor_divide(&Tensor::full_of((), 2i64, y.dtype(), y.device())?.pow(y)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bitwise_right_shift",
    family: "elementwise",
    kernels: &["aclnnRightShift"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(
        BitwiseRightShift,
        0.0,
        5.0,
        &[DType::I64, DType::I32, DType::I16, DType::I8, DType::U8],
    )
}
