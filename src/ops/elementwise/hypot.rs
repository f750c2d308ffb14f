//! `hypot`: the length of the hypotenuse.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use super::unary::no_kernel;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Hypot;

impl Tensor {
    /// `sqrt(x^2 + y^2)` without overflow; infinite if one of the two is, whatever the other.
    ///
    /// Shapes: any two that broadcast. Dtypes: floats. PyTorch: `torch.hypot`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3.0f32]);
    /// let y = Tensor::new([4.0f32]);
    /// assert_eq!(x.hypot(&y)?.to_vec::<f32>()?, [5.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices, `DType` for integers and bools.
    pub fn hypot(&self, other: &Tensor) -> Result<Tensor> {
        combine(Hypot, self, Operand::Tensor(other))
    }
}

impl Binary for Hypot {
    const NAME: &'static str = "hypot";
    const RULE: Rule = Rule::FloatOnly;
    const SAVES: Saves = Saves::INPUTS.and_output(0);

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, Real::hypot));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, _z: &Dev<'_>) -> Result<()> {
        tensors(Self::NAME, cx, x, y)
            .and_then(|(x, _)| Err(no_kernel(Self::NAME, cx.device(), x.dtype())))
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return x
                .to_dtype(DType::F32)?
                .hypot(&y.to_dtype(DType::F32)?)?
                .to_dtype(x.dtype());
        }
        let (x, y) = (x.abs()?, y.abs()?);
        let (large, small) = (x.maximum(&y)?, x.minimum(&y)?);
        let ratio = small
            .div(&large)?
            .masked_fill(&small.eq(&large)?, 1i64)?
            .masked_fill(&large.eq(0i64)?, 0i64)?;
        let infinite = x.isinf()?.logical_or(&y.isinf()?)?;
        ratio
            .square()?
            .add(1i64)?
            .sqrt()?
            .mul(&large)?
            .masked_fill(&infinite, f64::INFINITY)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, z) = (pair.dz()?, pair.z()?);
        pair.grads(
            || dz.mul(&pair.x_tensor()?.div(z)?),
            || dz.mul(&pair.y_tensor()?.div(z)?),
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "hypot",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Hypot, -2.0, 2.0, FLOATS)
}
