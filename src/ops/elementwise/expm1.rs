//! `expm1`: e to the power of the elements, minus one.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Expm1;

impl Tensor {
    /// `e^x - 1`, accurate near zero.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.expm1`. NPU: `aclnnExpm1`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 1e-10]);
    /// assert_eq!(x.expm1()?.to_vec::<f32>()?, [0.0, 1e-10]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn expm1(&self) -> Result<Tensor> {
        Apply(Expm1).run(self)
    }
}

impl Unary for Expm1 {
    const NAME: &'static str = "expm1";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::exp_m1))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::expm1(cx, x, y)
    }

    /// `(u - 1) x / ln(u)` with `u = e^x`, in which the rounding of `u` cancels.
    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        let x = x.to_dtype(x.dtype().to_float())?;
        let u = x.exp()?;
        let (log, rise) = (u.log()?, u.sub(1i64)?);
        let value = log
            .isfinite()?
            .where_cond(&rise.mul(&x)?.div(&log)?, &rise)?;
        u.eq(1i64)?.where_cond(&x, &value)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.output(0)?.add(1i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "expm1",
    family: "elementwise",
    kernels: &["aclnnExpm1"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Expm1, -2.0, 2.0, DType::ALL)]
}
