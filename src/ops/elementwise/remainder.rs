//! `remainder`: what division rounded down leaves.

use super::binary::{Binary, Pair, Rule, Side, combine, combine_scalar, samples_of, tensors};
use super::div::{Rounding, check_divisor, check_scalar, divide};
use crate::cpu::integer;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Remainder;

impl Tensor {
    /// `self - other * floor(self / other)`: the result has the sign of the divisor; NaN for a float divisor of zero.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.remainder`. NPU: `aclnnRemainderTensorTensor`, `aclnnRemainderTensorScalar`, `aclnnRemainderScalarTensor`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([7i64, -7]).remainder(3i64)?.to_vec::<i64>()?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `DType` for bools, `Option` for an integer divisor of zero (on an NPU only under
    /// `check_data`), `Device` if the tensors are on two devices.
    pub fn remainder<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        let other = other.into();
        check_divisor("remainder", self, other)?;
        combine(Remainder, self, other)
    }

    /// `remainder` of a number and this tensor: the number is the dividend.
    ///
    /// # Errors
    /// As [`Tensor::remainder`].
    pub fn remainder_of(&self, dividend: impl Into<Scalar>) -> Result<Tensor> {
        check_divisor("remainder", self, Operand::Tensor(self))?;
        combine_scalar(Remainder, dividend.into(), self)
    }
}

#[inline(always)]
fn float<T: Real>(x: T, y: T) -> T {
    let rest = x.fmod(y);
    if rest.is_true() && (rest < T::ZERO) != (y < T::ZERO) {
        rest.plus(y)
    } else {
        rest
    }
}

impl Binary for Remainder {
    const NAME: &'static str = "remainder";
    const RULE: Rule = Rule::Numbers;

    fn check(&self, _left: Option<Scalar>, right: Option<Scalar>, dtype: DType) -> Result<()> {
        check_scalar(Self::NAME, right, dtype)
    }

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        if !x.dtype().is_float() {
            return with_lane!(x.dtype(), T => divide::<T>(Self::NAME, x, y, z, integer::remainder));
        }
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, float));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::remainder_tensor_tensor(cx, x, y, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::remainder_tensor_scalar(cx, x, y, z),
            (Side::Scalar(x), Side::Tensor(y)) => aclnn::remainder_scalar_tensor(cx, x, y, z),
            _ => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, y) = (pair.dz()?, pair.y()?);
        pair.grads(
            || Ok(dz.clone()),
            || {
                dz.neg()?
                    .mul(&pair.x_tensor()?.div_with(y, Rounding::Floor)?)
            },
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "remainder",
    family: "elementwise",
    kernels: &[
        "aclnnRemainderTensorTensor",
        "aclnnRemainderTensorScalar",
        "aclnnRemainderScalarTensor",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Remainder, 1.0, 5.0, NUMBERS)
}
