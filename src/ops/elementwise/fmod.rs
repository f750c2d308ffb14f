//! `fmod`: what division rounded toward zero leaves.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use super::div::{Rounding, check_divisor, check_scalar, divide};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Fmod;

impl Tensor {
    /// The remainder of C's `fmod`: the result has the sign of the dividend; NaN for a float divisor of zero.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.fmod`. NPU: `aclnnFmodTensor`, `aclnnFmodScalar`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([7i64, -7]).fmod(3i64)?.to_vec::<i64>()?, [1, -1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `DType` for bools, `Option` for an integer divisor of zero (on an NPU only under
    /// `check_data`), `Device` if the tensors are on two devices.
    pub fn fmod<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        let other = other.into();
        check_divisor("fmod", self, other)?;
        combine(Fmod, self, other)
    }
}

impl Binary for Fmod {
    const NAME: &'static str = "fmod";
    const RULE: Rule = Rule::Numbers;

    fn check(&self, _left: Option<Scalar>, right: Option<Scalar>, dtype: DType) -> Result<()> {
        check_scalar(Self::NAME, right, dtype)
    }

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        if !x.dtype().is_float() {
            return with_lane!(x.dtype(), T => divide::<T>(Self::NAME, x, y, z, |x, y| x.minus(x.over(y).times(y))));
        }
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, Real::fmod));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::fmod_tensor(cx, x, y, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::fmod_scalar(cx, x, y, z),
            (Side::Scalar(_), _) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, y) = (pair.dz()?, pair.y()?);
        pair.grads(
            || Ok(dz.clone()),
            || {
                dz.neg()?
                    .mul(&pair.x_tensor()?.div_with(y, Rounding::Trunc)?)
            },
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "fmod",
    family: "elementwise",
    kernels: &["aclnnFmodTensor", "aclnnFmodScalar"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Fmod, 1.0, 5.0, NUMBERS)
}
