//! `floor`: rounded down.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Floor;

impl Tensor {
    /// The largest integer that is not above each element; integers stay.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.floor`. NPU: `aclnnFloor`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -1.5]);
    /// assert_eq!(x.floor()?.to_vec::<f32>()?, [1.0, -2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn floor(&self) -> Result<Tensor> {
        Apply(Floor).run(self)
    }
}

impl Unary for Floor {
    const NAME: &'static str = "floor";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::copy(x, y);
        }
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Float::floor))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        if x.dtype().is_float() {
            aclnn::floor(cx, x, y)
        } else {
            aclnn::inplace_copy(cx, y, x)
        }
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.zeros_like()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "floor",
    family: "elementwise",
    kernels: &["aclnnFloor"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Floor, -2.0, 2.0, NUMBERS)]
}
