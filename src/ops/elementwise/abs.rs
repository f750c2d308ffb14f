//! `abs`: the absolute value.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Abs;

impl Tensor {
    /// The absolute value; the most negative integer stays itself.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.abs`. NPU: `aclnnAbs`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -2.0]);
    /// assert_eq!(x.abs()?.to_vec::<f32>()?, [1.5, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn abs(&self) -> Result<Tensor> {
        Apply(Abs).run(self)
    }
}

impl Unary for Abs {
    const NAME: &'static str = "abs";
    const RULE: Rule = Rule::Numbers;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, Number::absolute))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::abs(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.sign()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "abs",
    family: "elementwise",
    kernels: &["aclnnAbs"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Abs, -2.0, 2.0, NUMBERS)]
}
