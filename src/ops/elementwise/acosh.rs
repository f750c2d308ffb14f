//! `acosh`: the inverse hyperbolic cosine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Acosh;

impl Tensor {
    /// The inverse hyperbolic cosine; NaN below 1.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.acosh`. NPU: `aclnnAcosh`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32]);
    /// assert_eq!(x.acosh()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn acosh(&self) -> Result<Tensor> {
        Apply(Acosh).run(self)
    }
}

impl Unary for Acosh {
    const NAME: &'static str = "acosh";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, |x| {
            // The library's is not NaN far below 1.
            if x < 1.0 { T::from_f64(f64::NAN) } else { Real::acosh(x) }
        }))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::acosh(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.square()?.sub(1i64)?.rsqrt()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "acosh",
    family: "elementwise",
    kernels: &["aclnnAcosh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Acosh, 1.5, 4.0, DType::ALL)]
}
