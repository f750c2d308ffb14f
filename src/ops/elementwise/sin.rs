//! `sin`: the sine.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Sin;

impl Tensor {
    /// The sine of angles in radians.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.sin`. NPU: `aclnnSin`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.sin()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn sin(&self) -> Result<Tensor> {
        Apply(Sin).run(self)
    }
}

impl Unary for Sin {
    const NAME: &'static str = "sin";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::sin))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::sin(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.cos()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sin",
    family: "elementwise",
    kernels: &["aclnnSin"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Sin, -2.0, 2.0, DType::ALL)]
}
