//! `ceil`: rounded up.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Ceil;

impl Tensor {
    /// The smallest integer that is not below each element; integers stay.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.ceil`. NPU: `aclnnCeil`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -1.5]);
    /// assert_eq!(x.ceil()?.to_vec::<f32>()?, [2.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn ceil(&self) -> Result<Tensor> {
        Apply(Ceil).run(self)
    }
}

impl Unary for Ceil {
    const NAME: &'static str = "ceil";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::copy(x, y);
        }
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::ceil))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        if x.dtype().is_float() {
            aclnn::ceil(cx, x, y)
        } else {
            aclnn::inplace_copy(cx, y, x)
        }
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.zeros_like()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "ceil",
    family: "elementwise",
    kernels: &["aclnnCeil"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Ceil, -2.0, 2.0, NUMBERS)]
}
