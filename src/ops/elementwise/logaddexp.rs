//! `logaddexp`: the logarithm of a sum of exponentials.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use super::unary::no_kernel;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Logaddexp;

impl Tensor {
    /// `ln(e^x + e^y)` without overflow.
    ///
    /// Shapes: any two that broadcast. Dtypes: floats. PyTorch: `torch.logaddexp`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, f32::NEG_INFINITY]);
    /// let y = Tensor::new([f32::NEG_INFINITY, f32::NEG_INFINITY]);
    /// assert_eq!(x.logaddexp(&y)?.to_vec::<f32>()?, [0.0, f32::NEG_INFINITY]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices, `DType` for integers and bools.
    pub fn logaddexp(&self, other: &Tensor) -> Result<Tensor> {
        combine(Logaddexp, self, Operand::Tensor(other))
    }
}

#[inline(always)]
fn log_add_exp<T: Real>(x: T, y: T) -> T {
    let (large, small) = (x.larger(y), x.smaller(y));
    let spread = Float::exp(small.minus(large)).ln_1p();
    if Real::is_infinite(large) && x == y {
        x
    } else {
        large.plus(spread)
    }
}

impl Binary for Logaddexp {
    const NAME: &'static str = "logaddexp";
    const RULE: Rule = Rule::FloatOnly;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, log_add_exp));
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
                .logaddexp(&y.to_dtype(DType::F32)?)?
                .to_dtype(x.dtype());
        }
        let (large, small) = (x.maximum(y)?, x.minimum(y)?);
        let sum = large.add(&small.sub(&large)?.exp()?.log1p()?)?;
        x.eq(y)?.logical_and(&x.isinf()?)?.where_cond(x, &sum)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x, y) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        let slope = |own: &Tensor, other: &Tensor| dz.div(&other.sub(own)?.exp()?.add(1i64)?);
        pair.grads(|| slope(&x, &y), || slope(&y, &x))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logaddexp",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Logaddexp, -2.0, 2.0, FLOATS)
}
