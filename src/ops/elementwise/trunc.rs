//! `trunc`: rounded toward zero.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Trunc;

impl Tensor {
    /// Each element without its fraction; integers stay.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.trunc`. NPU: `aclnnTrunc`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -1.5]);
    /// assert_eq!(x.trunc()?.to_vec::<f32>()?, [1.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn trunc(&self) -> Result<Tensor> {
        Apply(Trunc).run(self)
    }
}

impl Unary for Trunc {
    const NAME: &'static str = "trunc";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::copy(x, y);
        }
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::trunc))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        if x.dtype().is_float() {
            aclnn::trunc(cx, x, y)
        } else {
            aclnn::inplace_copy(cx, y, x)
        }
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            Apply(*self).widened(x)
        } else {
            x.lt(0i64)?.where_cond(&x.ceil()?, &x.floor()?)
        }
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.zeros_like()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "trunc",
    family: "elementwise",
    kernels: &["aclnnTrunc"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Trunc, -2.0, 2.0, NUMBERS)]
}
