//! `neg`: minus the elements.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Neg;

impl Tensor {
    /// `-x`; `u8` wraps modulo 256.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.neg`. NPU: `aclnnNeg`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -2.0]);
    /// assert_eq!(x.neg()?.to_vec::<f32>()?, [-1.5, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn neg(&self) -> Result<Tensor> {
        Apply(Neg).run(self)
    }
}

impl Unary for Neg {
    const NAME: &'static str = "neg";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, Number::negate))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::neg(cx, x, y)
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.neg()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "neg",
    family: "elementwise",
    kernels: &["aclnnNeg"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Neg, -2.0, 2.0, NUMBERS)]
}
