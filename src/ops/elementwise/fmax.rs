//! `fmax`: the larger of two, ignoring a NaN.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use super::unary::no_kernel;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Fmax;

impl Tensor {
    /// The larger of two elements; the other one if one is NaN. At a tie the whole gradient goes to this tensor.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.fmax`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, f32::NAN]);
    /// let y = Tensor::new([2.0f32, 3.0]);
    /// assert_eq!(x.fmax(&y)?.to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn fmax<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Fmax, self, other.into())
    }
}

impl Binary for Fmax {
    const NAME: &'static str = "fmax";
    const RULE: Rule = Rule::Any;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_lane!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| {
            let other = if x.is_nan() { y } else { x.larger(y) };
            if y.is_nan() { x } else { other }
        }));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, _z: &Dev<'_>) -> Result<()> {
        tensors(Self::NAME, cx, x, y)
            .and_then(|(x, _)| Err(no_kernel(Self::NAME, cx.device(), x.dtype())))
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        y.isnan()?
            .where_cond(x, &x.isnan()?.where_cond(y, &x.maximum(y)?)?)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x, y) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        let left = x.ge(&y)?.logical_or(&y.isnan()?)?;
        pair.grads(
            || dz.masked_fill(&left.logical_not()?, 0i64),
            || dz.masked_fill(&left, 0i64),
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "fmax",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Fmax, -2.0, 2.0, DType::ALL)
}
