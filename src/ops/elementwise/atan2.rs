//! `atan2`: the angle of a point.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Atan2;

impl Tensor {
    /// The angle of the point (`other`, `self`), in radians from -pi to pi.
    ///
    /// Shapes: any two that broadcast. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.atan2`. NPU: `aclnnAtan2`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// let y = Tensor::new([1.0f32]);
    /// assert_eq!(x.atan2(&y)?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn atan2<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Atan2, self, other.into())
    }
}

impl Binary for Atan2 {
    const NAME: &'static str = "atan2";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, Real::atan2));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::atan2(cx, x, y, z)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x, y) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        let norm = x.square()?.add(&y.square()?)?;
        let scaled = dz.mul(&norm.reciprocal()?)?;
        let origin = norm.eq(0i64)?;
        let slope = |value: &Tensor| scaled.mul(value)?.masked_fill(&origin, 0i64);
        pair.grads(|| slope(&y), || slope(&x.neg()?))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "atan2",
    family: "elementwise",
    kernels: &["aclnnAtan2"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Atan2, -2.0, 2.0, DType::ALL)
}
