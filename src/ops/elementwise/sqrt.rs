//! `sqrt`: the square root.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Sqrt;

impl Tensor {
    /// The square root; NaN for negative numbers.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.sqrt`. NPU: `aclnnSqrt`.
    /// In `f32` on the CPU it is at most 0.5 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([4.0f32, 9.0]);
    /// assert_eq!(x.sqrt()?.to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn sqrt(&self) -> Result<Tensor> {
        Apply(Sqrt).run(self)
    }
}

impl Unary for Sqrt {
    const NAME: &'static str = "sqrt";
    const RULE: Rule = Rule::Float;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Float::sqrt))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::sqrt(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.output(0)?.mul(2i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sqrt",
    family: "elementwise",
    kernels: &["aclnnSqrt"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Sqrt, 0.5, 4.0, DType::ALL)]
}
