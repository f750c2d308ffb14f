//! `copysign`: the size of one with the sign of another.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use super::unary::no_kernel;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Copysign;

impl Tensor {
    /// The absolute value of `self` with the sign bit of `other` (so that -0.0 counts).
    ///
    /// Shapes: any two that broadcast. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.copysign`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0]);
    /// let y = Tensor::new([-1.0f32, 0.0]);
    /// assert_eq!(x.copysign(&y)?.to_vec::<f32>()?, [-1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn copysign<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Copysign, self, other.into())
    }
}

impl Binary for Copysign {
    const NAME: &'static str = "copysign";
    const RULE: Rule = Rule::Float;
    const SAVES: Saves = Saves::INPUTS.and_output(0);

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, Real::copysign));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, _z: &Dev<'_>) -> Result<()> {
        tensors(Self::NAME, cx, x, y)
            .and_then(|(x, _)| Err(no_kernel(Self::NAME, cx.device(), x.dtype())))
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let size = x.abs()?;
        y.signbit()?.where_cond(&size.neg()?, &size)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x) = (pair.dz()?, pair.x_tensor()?);
        let slope = || pair.z()?.div(&x)?.masked_fill(&x.eq(0i64)?, 0i64);
        pair.grads(|| dz.mul(&slope()?), || dz.zeros_like())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "copysign",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Copysign, -2.0, 2.0, DType::ALL)
}
