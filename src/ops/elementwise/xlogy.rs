//! `xlogy`: one operand times the logarithm of the other.

use super::binary::{Binary, Pair, Rule, Side, combine, combine_scalar, samples_of, tensors};
use super::unary::no_kernel;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Xlogy;

impl Tensor {
    /// `self ln(other)`; 0 where this tensor is 0, but NaN where `other` is.
    ///
    /// Shapes: any two that broadcast. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.xlogy`. NPU: composed of
    /// simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([0.0f32, 2.0]).xlogy(&Tensor::new([0.0f32, 1.0]))?.to_vec::<f32>()?, [0.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn xlogy<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Xlogy, self, other.into())
    }

    /// `factor ln(self)` for a number `factor`, as [`Tensor::xlogy`].
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn xlogy_of(&self, factor: impl Into<Scalar>) -> Result<Tensor> {
        combine_scalar(Xlogy, factor.into(), self)
    }
}

#[inline(always)]
fn at<T: Real>(x: T, y: T) -> T {
    let value = x.times(Float::ln(y));
    if y.is_nan() || x.is_true() {
        value
    } else {
        T::ZERO
    }
}

impl Binary for Xlogy {
    const NAME: &'static str = "xlogy";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, at));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, _z: &Dev<'_>) -> Result<()> {
        tensors(Self::NAME, cx, x, y)
            .and_then(|(x, _)| Err(no_kernel(Self::NAME, cx.device(), x.dtype())))
    }

    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let zero = x.eq(0i64)?.logical_and(&y.isnan()?.logical_not()?)?;
        x.mul(&y.log()?)?.masked_fill(&zero, 0i64)
    }

    /// `dx = ln(y) dz`, zero where `x = 0` and `y <= 0`; `dy = x / y dz`.
    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let dz = pair.dz()?;
        let dx = || {
            let (x, y) = (pair.x_tensor()?, pair.y_tensor()?);
            dz.xlogy(&y)?
                .masked_fill(&x.eq(0i64)?.logical_and(&y.le(0i64)?)?, 0i64)
        };
        pair.grads(dx, || dz.mul(&pair.x_tensor()?.div(pair.y()?)?))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "xlogy",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Xlogy, 1.0, 3.0, DType::ALL)
}
