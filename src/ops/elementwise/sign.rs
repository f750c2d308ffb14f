//! `sign`: -1, 0 or 1.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Sign;

impl Tensor {
    /// -1, 0 or 1 by the sign of each element; 0 for NaN.
    ///
    /// Shapes: any. Dtypes: all. PyTorch: `torch.sign`. NPU: `aclnnSign`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -2.0, 0.0]);
    /// assert_eq!(x.sign()?.to_vec::<f32>()?, [1.0, -1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn sign(&self) -> Result<Tensor> {
        Apply(Sign).run(self)
    }
}

impl Unary for Sign {
    const NAME: &'static str = "sign";
    const RULE: Rule = Rule::Any;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, |x| {
            let negative = if x < T::ZERO { T::ONE.negate() } else { T::ZERO };
            if x > T::ZERO { T::ONE } else { negative }
        }))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::sign(cx, x, y)
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.zeros_like()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sign",
    family: "elementwise",
    kernels: &["aclnnSign"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Sign, -2.0, 2.0, DType::ALL)]
}
