//! `signbit`: whether the sign bit is set.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Signbit;

impl Tensor {
    /// Whether the sign bit of each element is set: true for -0.0 and for a NaN with that bit; for integers, `x < 0`.
    ///
    /// Shapes: any. Dtypes: all, the result is `bool`. PyTorch: `torch.signbit`. NPU: `aclnnSignbit`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, -0.0]);
    /// assert_eq!(x.signbit()?.to_vec::<bool>()?, [false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn signbit(&self) -> Result<Tensor> {
        Apply(Signbit).run(self)
    }
}

impl Unary for Signbit {
    const NAME: &'static str = "signbit";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if x.dtype().is_float() {
            return with_float!(x.dtype(), T => map::map1::<T, bool>(x, y, Real::is_negative));
        }
        with_lane!(x.dtype(), T => map::map1::<T, bool>(x, y, |x| x < T::ZERO))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::signbit(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if !x.dtype().is_float() {
            return x.lt(0i64);
        }
        let negative_zero = x.eq(0i64)?.logical_and(&x.reciprocal()?.lt(0i64)?)?;
        x.lt(0i64)?.logical_or(&negative_zero)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "signbit",
    family: "elementwise",
    kernels: &["aclnnSignbit"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Signbit, -2.0, 2.0, DType::ALL)]
}
